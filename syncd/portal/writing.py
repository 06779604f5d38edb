"""How a batch of conditional writes is composed, and what its answer says of each of them. Pure functions.

A write carries its condition inside the batch (portal.md 6.6): a list right before it lets it pass or makes its
order id 0, which the portal refuses. Where the portal's batches cannot carry one, or no bound order can bear witness, a
write is bare: its list only says what was there right before, and the caller has read the order first.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from enum import Enum, auto
from typing import Any, Final, NamedTuple

from syncd.core.model import MaybeOwner, Owner, Unreadable
from syncd.core.ports import Effect, Write, WriteResult
from syncd.portal import commands
from syncd.portal.commands import Witness
from syncd.portal.pages import UnusablePage
from syncd.portal.reading import owners_of
from syncd.portal.responses import (
    DUPLICATE,
    NO_SUCH_BINDING,
    NO_SUCH_ORDER,
    ORDER_ID_EMPTY,
    ApiError,
    ApiErrorKind,
    CommandAnswer,
    is_lock_error,
    kind_of,
    whole,
)

# (code, whether it is a removal): a code means one thing to `add` and another to `deleteByFilter`.
_BY_CODE: Final = {
    (DUPLICATE, False): Effect.ALREADY,
    (NO_SUCH_BINDING, True): Effect.MOVED,
    (NO_SUCH_ORDER, False): Effect.ORDER_MISSING,
    (NO_SUCH_ORDER, True): Effect.ORDER_MISSING,
}
_BY_KIND: Final = {
    ApiErrorKind.RATE: Effect.NOT_SENT,
    ApiErrorKind.OPERATING: Effect.NOT_SENT,
    ApiErrorKind.PASSING: Effect.NOT_SENT,
    ApiErrorKind.BROKEN: Effect.UNKNOWN,
}
_NO_WITNESS: Final = "the order that was to bear witness was not found"
_NOT_ASKED: Final = "its condition could not be asked"


class Form(Enum):
    """How a batch carries a write."""

    REMOVE = auto()
    MOVE = auto()
    BIND = auto()
    PAIR = auto()
    BARE = auto()


class Composed(NamedTuple):
    """A batch: its commands, and the form of each order's write with the order that bears witness to it."""

    commands: dict[str, str]
    forms: dict[int, Form]
    witnesses: dict[int, int]


def commands_for(write: Write, *, paired: bool) -> int:
    """Given a write, and whether a bind makes a pair, return how many commands of a batch it takes at most."""
    if write.after is None:
        return 1
    return 2 if paired or write.before is not None else 3


def compose(batch: Sequence[Write], bare: Collection[int], witnesses: Mapping[int, Witness]) -> Composed:
    """Given writes of one method, return the batch that carries them out.

    Args:
        batch: The writes, each order once.
        bare: The orders whose writes carry no condition.
        witnesses: For each order to bind that is not bare, a bound order that can bear witness.
    """
    made = Composed({}, {}, {})
    for write in batch:
        order_id = write.order_id
        if write.after is None:
            made.forms[order_id] = Form.REMOVE
            made.commands[commands.write_key(write)] = commands.write(write)
        elif order_id in bare:
            made.forms[order_id] = Form.BARE
            made.commands[commands.seen_key(write)] = commands.list_order(order_id)
            made.commands[commands.write_key(write)] = commands.write(write)
        elif write.before is not None:
            made.forms[order_id] = Form.MOVE
            made.commands.update(commands.move_if_still(write))
        else:
            row, paired = witnesses[order_id]
            made.forms[order_id] = Form.PAIR if paired else Form.BIND
            made.witnesses[order_id] = row.order_id
            made.commands.update((commands.bind_if_first if paired else commands.bind_if_unbound)(write, row))
    return made


def not_as_expected(write: Write, found: Owner | Unreadable | None) -> WriteResult | None:
    """Given a bare write and what was read right before it, return its result where it is not to be sent."""
    if isinstance(found, Unreadable):
        return WriteResult(write.order_id, Effect.MOVED)
    if found == write.before:
        return None
    effect = Effect.ALREADY if found == write.after else Effect.MOVED
    return WriteResult(write.order_id, effect, found, found_known=True)


def result_of(write: Write, made: Composed, answers: Mapping[str, CommandAnswer]) -> WriteResult:
    """Given a write, its batch and the answers, return what became of it.

    MOVED without `found_known`: the write was refused because the order is bound otherwise; the order must be read to
    find out how. After UNKNOWN it must be read, too.
    """
    form = made.forms[write.order_id]
    own = answers.get(commands.write_key(write))
    effect, error = _effect(write, own)
    result = WriteResult(write.order_id, effect, code=error.code, text=error.text)
    if form is Form.REMOVE:
        return result if effect is not Effect.DONE else result._replace(found=write.before, found_known=True)
    if form is Form.BARE or was_let_through(write, made, answers, result):
        known, before = _seen(write, made, answers)
        return result._replace(found=before, found_known=True) if known else result
    if own is not None and own.error is not None and (_is_order_zero(own.error) or _is_order_infinite(form, effect)):
        return _refused(write, made, answers, result)
    # It was not refused as order 0, so its condition held.
    found = write.after if effect is Effect.ALREADY else write.before
    return result._replace(found=found, found_known=effect is not Effect.UNKNOWN)


def gone_witnesses(made: Composed, answers: Mapping[str, CommandAnswer]) -> set[int]:
    """Given a batch and its answers, return the witnesses that were not found although nothing hid them."""
    gone = set()
    for order_id, witness in made.witnesses.items():
        write = Write(order_id, None, None)
        if _seen(write, made, answers) == (True, None) and _gate(write, made, answers) is False:
            gone.add(witness)
    return gone


def after_reading(write: Write, result: WriteResult, there: Mapping[int, Owner | Unreadable] | None) -> WriteResult:
    """Given a result in doubt and what a later reading found (None: it failed), return what is certain."""
    refused = result.effect is Effect.MOVED
    if there is None:
        return result if refused and write.after is not None else result._replace(effect=Effect.UNKNOWN)
    now = there.get(write.order_id)
    known: MaybeOwner = now if isinstance(now, Owner) else None
    readable = now is None or isinstance(now, Owner)
    if refused and readable:
        if now == write.after:
            return result._replace(effect=Effect.ALREADY, found=known, found_known=True)
        if now == write.before:
            # The order is as expected now: nothing was executed, and the write may be sent again.
            return result._replace(effect=Effect.NOT_SENT, text=_NOT_ASKED)
    if refused:
        return result._replace(found=known, found_known=readable)
    if now == write.after:  # by syncd or by somebody else
        return result._replace(effect=Effect.DONE)
    # A write that broke with an error of its own and left no trace is over. Any other may have been replaced since.
    return result._replace(effect=_without_trace(result)) if result.code and now == write.before else result


def _without_trace(result: WriteResult) -> Effect:
    """Given a write that broke and left no trace, return what that means: a lock is not the order's fault."""
    return Effect.NOT_SENT if is_lock_error(result.text) else Effect.REFUSED


def was_not_carried(result: WriteResult) -> bool:
    """Whether a write was refused for its condition although its order is as expected."""
    return result.effect is Effect.NOT_SENT and result.text in {_NO_WITNESS, _NOT_ASKED}


def was_let_through(write: Write, made: Composed, answers: Mapping[str, CommandAnswer], result: WriteResult) -> bool:
    """Whether a bind was made although its list shows its order bound: the portal did not sort the pair."""
    if made.forms[write.order_id] is not Form.PAIR or result.effect is not Effect.DONE:
        return False
    return _seen(write, made, answers)[1] is not None


def is_open(result: WriteResult) -> bool:
    """Whether the order must be read to find out what became of its write, or what it is bound to instead."""
    return result.effect is Effect.UNKNOWN or (result.effect is Effect.MOVED and not result.found_known)


def _refused(write: Write, made: Composed, answers: Mapping[str, CommandAnswer], result: WriteResult) -> WriteResult:
    """Given a write that was refused as one of order 0, find out whether its condition failed, or was never asked."""
    gate = _gate(write, made, answers)
    if gate and result.code != ORDER_ID_EMPTY:
        # The order id was not 0. PHP's null-call text is what old boxes say of an order that is not there, too.
        return result._replace(effect=Effect.ORDER_MISSING, found=write.before, found_known=True)
    if made.forms[write.order_id] is Form.MOVE:
        return result._replace(effect=Effect.MOVED)
    known, seen = _seen(write, made, answers)
    if not known:
        return result._replace(effect=Effect.NOT_SENT, text=_NOT_ASKED)
    if seen is None:
        return result._replace(effect=Effect.NOT_SENT, text=_NO_WITNESS if gate is False else _NOT_ASKED)
    return result._replace(effect=Effect.ALREADY if seen == write.after else Effect.MOVED, found=seen, found_known=True)


def _gate(write: Write, made: Composed, answers: Mapping[str, CommandAnswer]) -> bool | None:
    """Return whether the list that lets a write pass found its row; None where it did not answer."""
    if made.forms[write.order_id] is Form.PAIR:
        there = _listed(write, made, answers)
        return None if there is None else there.keys() == {made.witnesses[write.order_id]}
    answer = answers.get(commands.gate_key(write))
    result = None if answer is None or answer.error is not None else answer.result
    page = result.get("orderEntity") if isinstance(result, dict) else None
    return bool(page) if isinstance(page, list | dict) else None


def _seen(write: Write, made: Composed, answers: Mapping[str, CommandAnswer]) -> tuple[bool, MaybeOwner]:
    """Return what the batch's own list says of an order: whether that is known, and its owner."""
    listed = _listed(write, made, answers)
    there = None if listed is None else listed.get(write.order_id)
    return (listed is not None, there) if there is None or isinstance(there, Owner) else (False, None)


def _listed(
    write: Write, made: Composed, answers: Mapping[str, CommandAnswer]
) -> Mapping[int, Owner | Unreadable] | None:
    """Return the owners in the batch's own list of an order, or of a pair; None where it did not answer."""
    asked = [write.order_id]
    if made.forms[write.order_id] is Form.PAIR:
        asked.append(made.witnesses[write.order_id])
    try:
        return owners_of(answers.get(commands.seen_key(write)), asked)
    except UnusablePage:
        return None


def _effect(write: Write, answer: CommandAnswer | None) -> tuple[Effect, ApiError]:
    """Given a write and its answer, return what became of it; `NO_SUCH_BINDING` is MOVED until it is read again."""
    if answer is None:
        return Effect.UNKNOWN, ApiError("", "the answer says nothing of this write")
    error = answer.error
    if error is None:
        if _confirms(write, answer.result):
            return Effect.DONE, ApiError("", "")
        return Effect.UNKNOWN, ApiError("", "the answer does not confirm the write")
    known = _BY_CODE.get((error.code, write.after is None))
    if _is_null_call(error):
        known = Effect.ORDER_MISSING
    return known or _BY_KIND.get(kind_of(error), Effect.REFUSED), error


def _is_order_zero(error: ApiError) -> bool:
    return error.code == ORDER_ID_EMPTY or _is_null_call(error)


def _is_order_infinite(form: Form, effect: Effect) -> bool:
    """Whether a pair's condition may have failed: should a PHP not make 0 of infinity, it makes its largest integer."""
    return form is Form.PAIR and effect is Effect.ORDER_MISSING


def _is_null_call(error: ApiError) -> bool:
    """PHP's own words on boxes of mid-2024 and older for an order that is not there (portal.md 0.3)."""
    return error.code == "0" and error.text.startswith("Call to a member function")


def _confirms(write: Write, result: Any) -> bool:
    """Given a write and the result, return whether it says that exactly this was done.

    `add` may answer 200 with `dealOrder: []`: the row was not found right after (portal.md 3.3.11).
    """
    if write.after is None:
        return result is True
    echo = result.get("dealOrder") if isinstance(result, dict) else None
    if not isinstance(echo, dict):
        return False
    echoed = tuple(whole(echo.get(name)) for name in ("orderId", "ownerTypeId", "ownerId"))
    return echoed == (write.order_id, *write.after)
