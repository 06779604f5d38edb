"""What became of a write without an answer, judged by what its order shows now. Pure, and total.

Applying asks it where the answer to a request was lost, recovering where the process died with its requests. The writes
of one request are carried out in order (the portal), or all together (a transaction of the table), so one of them that
is in place says something about its neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple, TypeAlias

from syncd.core.model import MaybeOwner


class NotABinding:
    """What a side shows where its rows cannot be read as one binding: equal to no owner, and to no absence."""


NOT_A_BINDING = NotABinding()

Reading: TypeAlias = MaybeOwner | NotABinding
"""What a side shows of one order."""


class Fate(StrEnum):
    """What is known of a silent write.

    ARRIVED: its value is in place, or was at the reading before. OVERWROTE: its value is in place, and it replaced
    what somebody wrote after it was planned. PASSED_OVER: its turn in the request has come and gone, and the old owner
    is there: it was carried out and somebody put the old owner back, or it was refused. It must not be sent again.
    UNSEEN: the old owner is there, nothing else was ever seen, and its request can do nothing more: it may be sent
    again. PERHAPS_ALIVE: its request may still be carried out. UNCERTAIN: something else is there, or was, and
    nobody knows whether it was written before that.
    """

    ARRIVED = "arrived"
    OVERWROTE = "overwrote"
    PASSED_OVER = "passed-over"
    UNSEEN = "unseen"
    PERHAPS_ALIVE = "perhaps-alive"
    UNCERTAIN = "uncertain"


class SilentWrite(NamedTuple):
    """One write of a request without an answer.

    Args:
        before: The owner it was to replace; None is unbound.
        after: The owner it was to leave; None is unbound.
        found: What its order shows now.
        earlier: What its order showed before this reading, once it was sent; `before` where it was not read.
        arrived: It is known to have been carried out, even if its order shows something else now.
    """

    before: MaybeOwner
    after: MaybeOwner
    found: Reading
    earlier: Reading
    arrived: bool = False


def fates(request: Sequence[SilentWrite], *, dead: bool, together: bool) -> list[Fate]:
    """Given the writes of one request in their order, return what became of each.

    Args:
        request: The writes.
        dead: The request can do nothing any more.
        together: It is a transaction: all of its writes were carried out, or none.
    """
    reached = max(
        (place for place, one in enumerate(request) if one.arrived or one.after in {one.found, one.earlier}), default=-1
    )
    if together and reached >= 0:
        reached = len(request)
    return [_fate(one, dead=dead, over=one.arrived or place < reached) for place, one in enumerate(request)]


def _fate(one: SilentWrite, *, dead: bool, over: bool) -> Fate:
    """Given a write, return what became of it; `over` says that its turn in the request has come and gone."""
    if one.earlier == one.after:
        return Fate.ARRIVED  # what is there now came after it
    if one.found == one.after:
        overwrote = one.earlier != one.before and not isinstance(one.earlier, NotABinding)
        return Fate.OVERWROTE if overwrote else Fate.ARRIVED
    if not (dead or over):
        return Fate.PERHAPS_ALIVE
    if one.found != one.before or one.earlier != one.before:
        return Fate.UNCERTAIN
    return Fate.PASSED_OVER if over else Fate.UNSEEN
