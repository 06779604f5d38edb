"""The plan as a value: ordered changes and holds, with counts and a digest; and its reversal."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from syncd.core.model import Change, Counts, Hold, MaybeOwner, Outcome, Reason, Side
from syncd.core.policy import action_between, conflict_kind
from syncd.core.records import GuardHit, StoredChange


@dataclass(slots=True)
class Plan:
    """The changes that would bring both sides into step, in order of order id, and the orders that are held."""

    changes: list[Change] = field(default_factory=list)
    holds: list[Hold] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)
    guards: list[GuardHit] = field(default_factory=list)
    first_sync: bool = False

    def count(self) -> None:
        """Set the counts of changes and holds from the lists."""
        for side in Side:
            done = self.counts.of(side)
            done.add = done.move = done.remove = 0
        for change in self.changes:
            if change.side is not None:
                done = self.counts.of(change.side)
                setattr(done, change.action.value, getattr(done, change.action.value) + 1)
        self.counts.holds = len(self.holds)


def digest(changes: Iterable[Change]) -> str:
    """Given a plan's changes, return the SHA-256 of what they would write; independent of their order."""
    lines = sorted(
        f"{change.order_id} {change.side} {change.action} {_text(change.before)} {_text(change.after)}"
        for change in changes
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


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
            left = left.on(change.side, change.after)
            restored = restored.on(change.side, _found(stored))
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
