"""The plan as a value: its counts and digest, its reversal, and how a refused one compares with the plan of now.

Of a refused plan that is stored, two things are asked: may a person still apply it in the place of the plan of now, and
is the plan of now so much worse that the person must be notified again?
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from syncd.core.model import Change, Counts, MaybeOwner, Outcome, Reason, Side
from syncd.core.policy import action_between, conflict_kind
from syncd.core.records import GuardHit, StoredChange, Written

REVERTS_WITHIN = 7 * 86400.0
"""For so many seconds, what puts back what syncd replaced counts as a revert."""
NEARLY = 0.1
"""The part by which a guard's number may grow while the stored plan may be applied instead of the new one."""
WORSE = 2.0
"""A plan is notified again once a number is so many times the one in the last notification."""
Values = Mapping[tuple[str, Side | None], float]


@dataclass(slots=True)
class Plan:
    """What is to be judged of a plan: its numbers, its digest, and the guards that refuse it."""

    counts: Counts = field(default_factory=Counts)
    guards: list[GuardHit] = field(default_factory=list)
    first_sync: bool = False
    digest: str = ""


def is_revert(change: Change, written: Iterable[Written]) -> bool:
    """Given a change and what syncd wrote of its order lately, return whether it puts back what syncd replaced.

    Somebody moved the order on this side, syncd wrote that to the other side, and now the other side has its old value
    again: one of them is a person who changed their mind, hundreds are a backup that was restored.
    """
    return change.side is not None and any(
        one.side is change.side.other and one.before == change.after for one in written
    )


def digest(changes: Iterable[Change]) -> str:
    """Given a plan's changes, return the SHA-256 of what they would write; independent of their order."""
    return hashlib.sha256("\n".join(sorted(map(digest_line, changes))).encode()).hexdigest()


def digest_line(change: Change) -> str:
    """Given a change, return the line that stands for it in a digest: what it would write."""
    return f"{change.order_id} {change.side} {change.action} {_text(change.before)} {_text(change.after)}"


def _text(owner: MaybeOwner) -> str:
    return "-" if owner is None else f"{owner[0]}:{owner[1]}"


def reverse(changes: Sequence[StoredChange]) -> Iterator[Change]:
    """Given the changes of a run, yield the changes that put back what each side it wrote had before, by order.

    Only what the run really wrote is put back; the agreed state returns to what it was, and an order whose sides then
    differ is held afterwards, so that the next pass does not do again what a person has just undone. Each change
    carries the facts it expects: the order as the run left it.
    """
    orders: dict[int, list[StoredChange]] = {}
    for stored in changes:
        if stored.change.side is not None:
            orders.setdefault(stored.change.order_id, []).append(stored)
    for order_id in sorted(orders):
        yield from _reverse_order(order_id, orders[order_id])


def _reverse_order(order_id: int, changes: Sequence[StoredChange]) -> Iterator[Change]:
    """Yield the reversal of what a run did to one order: at most one change a side."""
    before = changes[0].change.facts
    left = restored = before
    for stored in changes:
        change = stored.change
        if stored.outcome in _IN_PLACE:
            left = left.with_side(change.side, change.after)
            restored = restored.with_side(change.side, _found(stored))
    if all(stored.outcome in _IN_PLACE for stored in changes):
        left = left._replace(agreed=changes[-1].change.agreed_after)
    hold = None if restored.crm == restored.table else conflict_kind(restored)
    for side, there, wanted in (
        (Side.CRM, left.crm, restored.crm),
        (Side.TABLE, left.table, restored.table),
    ):
        if there != wanted:
            action = action_between(there, wanted)
            yield Change(order_id, side, action, there, wanted, Reason.UNDO, left, before.agreed, hold)


_IN_PLACE = frozenset({Outcome.APPLIED, Outcome.ALREADY})
"""Outcomes after which the value a change wanted is there."""


def _found(stored: StoredChange) -> MaybeOwner:
    """Given a change whose value is in place, return what was there before the run touched it."""
    if stored.outcome is Outcome.ALREADY:
        return stored.change.after
    return stored.before


def values_by_guard(hits: Iterable[GuardHit]) -> dict[tuple[str, Side | None], float]:
    """Given the guards that refuse a plan, return the actual number of each."""
    return {(hit.name, hit.side): hit.actual for hit in hits}


def covers_refusal(stored: Sequence[GuardHit], now: Sequence[GuardHit]) -> bool:
    """Given what guards refused in a stored plan, and refuse now, return whether the stored plan stays valid.

    It does while the same guards, or some of them, refuse numbers that have hardly grown. A plan that has shrunk is
    covered: applying the stored one leaves the orders that are back as they are.
    """
    then, here = values_by_guard(stored), values_by_guard(now)
    return bool(here) and all(name in then and here[name] <= (1 + NEARLY) * then[name] for name in here)


def is_worse(last_notified: Values, now: Sequence[GuardHit]) -> bool:
    """Given the numbers of the last notification, return whether a plan is so much worse that it needs a new one."""
    return any(
        name not in last_notified or number >= WORSE * max(last_notified[name], 1)
        for name, number in values_by_guard(now).items()
    )
