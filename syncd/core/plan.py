"""The plan as a value: ordered changes and holds, with counts and a digest; and its reversal."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from syncd.core.model import Action, Change, Counts, Facts, Hold, MaybeOwner, Outcome, Reason, Side
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
    """Given the changes of a run, yield the changes that put back what each written side had before.

    Only the written side is put back; the agreed state returns to what it was, and the order is held afterwards, so
    that the next pass does not do again what a person has just undone. Each change carries the facts it expects: the
    written value still there, the other side as it was.
    """
    for stored in reversed(changes):
        change = stored.change
        if stored.outcome is not Outcome.APPLIED or change.side is None or change.action is Action.AGREE:
            continue
        restored = stored.found if stored.found_known else change.before
        facts = _with(change.facts, change.side, change.after)._replace(agreed=change.agreed_after, unreadable=None)
        after = _with(facts, change.side, restored)._replace(agreed=change.facts.agreed)
        yield Change(
            change.order_id,
            change.side,
            action_between(change.after, restored),
            change.after,
            restored,
            Reason.UNDO,
            facts,
            agreed_after=change.facts.agreed,
            hold_after=None if after.crm == after.table else conflict_kind(after),
        )


def _with(facts: Facts, side: Side, value: MaybeOwner) -> Facts:
    return facts._replace(crm=value) if side is Side.CRM else facts._replace(table=value)
