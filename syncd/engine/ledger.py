"""What became of each change of a run: its outcome, what is agreed since, the holds it left, and how often it failed.

Of one batch all of it is recorded in one transaction, and only then said in the log.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from syncd.core.backoff import MAX_ATTEMPTS, order_pause
from syncd.core.model import Change, Hold, HoldKind, MaybeOwner, Outcome, Side
from syncd.core.ports import Effect, Write, WriteResult
from syncd.core.records import Attempt, BindingUpdate, ChangeOutcome, StoredHold
from syncd.engine import holding
from syncd.engine.link import Link, Tenure
from syncd.engine.sides import Unlike

log = structlog.get_logger("syncd.engine")

_IN_PLACE = {Outcome.APPLIED, Outcome.ALREADY}
UNANSWERED = "no request with this write was answered"


@dataclass(slots=True)
class Entry:
    """One stored change on its way.

    `sends` counts how often it was sent in this run; by `sent_by` (monotonic) its last request had left. `most` is how
    many writes its next request may hold, `alone` whether the last one that was lost held nothing else.
    """

    id: int
    change: Change
    sends: int = 0
    sent_by: float = 0.0
    most: int = sys.maxsize
    alone: bool = False

    @property
    def write(self) -> Write:
        """The conditional write this change is."""
        return Write(self.change.order_id, self.change.before, self.change.after)


class Ledger:
    """The outcomes of one run under one lease.

    Args:
        link: The link.
        held: Its lease.
        run: The run's number.
        entries: All changes the run is to carry out, in order of order id.
    """

    def __init__(self, link: Link, held: Tenure, run: int, entries: Sequence[Entry]) -> None:
        self._link = link
        self._held = held
        self._run = run
        self._changes = {entry.id: entry.change for entry in entries}
        self._by_order: dict[int, list[Change]] = {}
        for entry in entries:
            self._by_order.setdefault(entry.change.order_id, []).append(entry.change)
        self._left = {order: len(changes) for order, changes in self._by_order.items()}
        self._attempts: dict[int, Attempt] = {}
        self.outcomes: dict[int, ChangeOutcome] = {}
        self.holds: dict[int, StoredHold] = {}

    async def open(self) -> None:
        """Read how often each order failed before."""
        self._attempts = await self._link.store.attempts(self._held.row.id)

    def left_unanswered(self, entry: Entry) -> bool:
        """Given a change, return whether its order failed before because no request with it was answered."""
        known = self._attempts.get(entry.change.order_id)
        return known is not None and known.error == UNANSWERED

    async def unanswered(self, entries: Sequence[Entry]) -> None:
        """Record changes that have failed: their requests were lost again and again, and have left no trace."""
        attempts: list[Attempt] = []
        lost = [WriteResult(entry.change.order_id, Effect.REFUSED, text=UNANSWERED) for entry in entries]
        outcomes = [self.judge(entry, result, attempts) for entry, result in zip(entries, lost, strict=True)]
        await self.record(outcomes, attempts)

    def judge(self, entry: Entry, result: WriteResult, attempts: list[Attempt]) -> ChangeOutcome:
        """Given what a side says became of a write, return the outcome; note holds and failures on the way."""
        change, order = entry.change, entry.change.order_id
        if result.effect is Effect.ALREADY:
            return self.in_place(entry, Outcome.ALREADY)
        if result.effect is Effect.DONE:
            lost = result.found_known and result.found not in {change.before, change.after}
            return self._overwritten(entry, result) if lost else self.in_place(entry, Outcome.APPLIED, result)
        if result.effect is Effect.MOVED:
            return self.moved(entry, result.found if result.found_known else None, known=result.found_known)
        error = words(result) or "the side did not execute it"
        if result.effect is Effect.ORDER_MISSING:
            detail = "The portal does not know this order; it is not tried again until something about it changes."
            self.hold(Hold(order, HoldKind.ORDER_MISSING, change.facts, detail, since=self._link.clock.now()))
        else:
            attempts.append(self._failed_once_more(change, error))
        return ChangeOutcome(entry.id, Outcome.FAILED, error)

    def _failed_once_more(self, change: Change, error: str) -> Attempt:
        """Given a change the side refused, return how often it failed so far; the last time it becomes a hold."""
        order = change.order_id
        known = self._attempts.get(order)
        failures = (known.failures if known else 0) + 1
        if failures >= MAX_ATTEMPTS:
            detail = f"Failed {failures} times in a row: {error}"
            self.hold(Hold(order, HoldKind.UNCERTAIN, change.facts, detail, since=self._link.clock.now()))
            return Attempt(order, 0, 0.0, "")
        return Attempt(order, failures, self._link.clock.now() + order_pause(failures), error)

    def _overwritten(self, entry: Entry, result: WriteResult) -> ChangeOutcome:
        """Somebody wrote between our reading and our write: their value is in the audit, and a person decides.

        Both sides have our value now, so it is agreed: whoever changes it from here on has seen it.
        """
        outcome = self.in_place(entry, Outcome.APPLIED, result)
        assert outcome.update is not None
        now, agreed = self._link.clock.now(), outcome.update.agreed
        self.hold(holding.overwritten(entry.change, result.found, run=self._run, now=now, agreed=agreed))
        return outcome

    def arrived(self, entry: Entry, before: MaybeOwner | Unlike) -> ChangeOutcome:
        """Given a change whose answer was lost and whose value is in place, return its outcome.

        Args:
            entry: The change.
            before: What stood there last before it: if that is not what was expected, it was overwritten.
        """
        if before == entry.change.before or isinstance(before, Unlike):
            return self.in_place(entry, Outcome.APPLIED)
        seen = WriteResult(entry.change.order_id, Effect.DONE, before, found_known=True)
        return self._overwritten(entry, seen)

    def moved(self, entry: Entry, found: MaybeOwner | Unlike, *, known: bool = True) -> ChangeOutcome:
        """Given what stands where something else was expected, return the outcome: not written, looked at again."""
        owner = None if isinstance(found, Unlike) else found
        shown = known and not isinstance(found, Unlike)
        error = f"skipped: {_owner(owner) if shown else 'something else'} stands there now; the next run looks again"
        return ChangeOutcome(entry.id, Outcome.SKIPPED, error, owner if shown else None, found_known=shown)

    def in_place(self, entry: Entry, outcome: Outcome, result: WriteResult | None = None) -> ChangeOutcome:
        """Given a change whose value stands on its side now, return its outcome with what is agreed since.

        Args:
            entry: The change.
            outcome: APPLIED, or ALREADY where it stood there before it was written.
            result: The side's answer, which may know what the write replaced.
        """
        change = entry.change
        # Of two changes of one order, only the last one moves the agreed state.
        self._left[change.order_id] -= 1
        last = self._left[change.order_id] == 0
        crm = change.after if change.side is Side.CRM else change.facts.crm
        update = BindingUpdate(change.order_id, crm, change.agreed_after if last else change.facts.agreed)
        if last and change.hold_after is not None:
            left = change.facts
            for sibling in self._by_order[change.order_id]:
                left = left.on(sibling.side, sibling.after)
            now = self._link.clock.now()
            self.hold(holding.undone(change, change.hold_after, left, run=self._run, now=now))
        found = result.found if result is not None else None
        known = result is not None and result.found_known
        return ChangeOutcome(entry.id, outcome, "", found, found_known=known, update=update)

    def hold(self, hold: Hold) -> None:
        """Hold an order from the next record on, until a person or changed facts decide."""
        self.holds[hold.order_id] = StoredHold(hold, sticky=True, run=self._run)

    async def record(self, outcomes: Sequence[ChangeOutcome], attempts: Sequence[Attempt] = ()) -> None:
        """Commit outcomes together with their agreed state, holds and failures, and say each in the log.

        Raises:
            LeaseLost: Nothing was recorded; the intents stay open.
        """
        if not outcomes and not attempts:
            return
        orders = {self._changes[outcome.change_id].order_id for outcome in outcomes}
        done = {self._changes[one.change_id].order_id for one in outcomes if one.outcome in _IN_PLACE}
        attempts = [*attempts, *(Attempt(order, 0, 0.0, "") for order in done.intersection(self._attempts))]
        holds = [hold for order, hold in self.holds.items() if order in orders]
        now = self._link.clock.now()
        await self._link.store.record(self._held.lease, self._run, outcomes, now=now, holds=holds, attempts=attempts)
        for outcome in outcomes:
            self.outcomes[outcome.change_id] = outcome
            change = self._changes[outcome.change_id]
            log.info(
                "change",
                order=change.order_id,
                side=change.side.value if change.side else None,
                action=change.action.value,
                before=_owner(change.before),
                after=_owner(change.after),
                reason=change.reason.value,
                outcome=outcome.outcome.value,
                **({"error": outcome.error} if outcome.error else {}),
            )
        self._link.progress("apply", len(self.outcomes), len(self._changes))

    def carried_out(self, entry: Entry) -> bool:
        """Given an entry, return whether the wanted value is in place."""
        outcome = self.outcomes.get(entry.id)
        return outcome is not None and outcome.outcome in _IN_PLACE


def words(result: WriteResult) -> str:
    """Given a side's answer, return its code and text."""
    return f"{result.code} {result.text}".strip()


def _owner(owner: MaybeOwner) -> str:
    return "unbound" if owner is None else f"{owner.owner_type_id}:{owner.owner_id}"
