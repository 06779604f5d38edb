"""A refused plan that waits for a person, beside what an unattended pass would plan now. Pure.

A parked link is looked at again now and then, since facts change without anybody saying so. Three questions follow: is
the stored plan still worth its number, is what it would do notably worse than what a person was told, and may a plan
that is no longer refused be carried out unasked?
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from syncd.core.model import Action, Change, Side
from syncd.core.records import GuardHit

SETTLING = "settling"
"""The guard that waits for a refused plan to stop shrinking."""

NEARLY = 0.1
"""By which part a guard's number may differ for two plans to be told by the same sentence."""
WORSE = 2.0
"""Times what a person was told before from which on it is news."""

Numbers = Mapping[tuple[str, Side | None], float]


def numbers(hits: Iterable[GuardHit]) -> dict[tuple[str, Side | None], float]:
    """Given the guards that refuse a plan, return the actual number of each."""
    return {(hit.name, hit.side): hit.actual for hit in hits}


def alike(before: Sequence[GuardHit], now: Sequence[GuardHit]) -> bool:
    """Given the guards that refused a plan and those that refuse another, return whether they say nearly the same."""
    then, here = numbers(before), numbers(now)
    return then.keys() == here.keys() and all(abs(here[name] - then[name]) <= NEARLY * then[name] for name in then)


def is_news(told: Numbers, now: Sequence[GuardHit]) -> bool:
    """Given the numbers a person was told, return whether a plan is notably worse, so that it has to be told anew."""
    here = numbers(now)
    return any(
        name not in told or number >= WORSE * max(told[name], 1) for name, number in here.items() if name[0] != SETTLING
    )


def settling(refused: Iterable[Change], planned: Iterable[Change], before: Sequence[GuardHit]) -> list[GuardHit]:
    """Given a refused plan and one that no other guard refuses any more, return the guard that makes it wait, if any.

    Somebody who puts back rows that were lost makes the plan that would remove them shrink below the limits long
    before the last row is back; what is left of it then is not what anybody wants. So moves and removes of the refused
    plan are carried out unasked only once there are as many of them as at the look before.

    Args:
        refused: The changes of the plan that was refused.
        planned: The changes of the plan that would be made now.
        before: The guards of the look before.
    """
    destroyed = {_what(change) for change in refused if change.action is not Action.ADD}
    left = sum(_what(change) in destroyed for change in planned)
    settled = not left or any(hit.name == SETTLING and hit.actual == left for hit in before)
    return [] if settled else [GuardHit(SETTLING, None, 0, left)]


def _what(change: Change) -> tuple[int, Side | None, Action]:
    return change.order_id, change.side, change.action
