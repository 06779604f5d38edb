"""What became of the writes of a run: outcomes, what is agreed since, the holds they left, how often they failed.

Outcomes are noted first, and committed together: one transaction a batch. Only then the log speaks of them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import structlog

from syncd.core.model import Change, Facts, Hold, HoldKind, MaybeOwner, Outcome, Reason, Side
from syncd.core.pacing import MAX_ATTEMPTS, order_pause
from syncd.core.policy import conflict_kind
from syncd.core.ports import Effect, WriteResult
from syncd.core.records import Attempt, BindingUpdate, ChangeOutcome, StoredHold
from syncd.core.silent_writes import NotABinding, Reading
from syncd.engine import formatting
from syncd.engine.link import HeldLease, Link
from syncd.engine.write_queue import PendingWrite, PlannedWrites

log = structlog.get_logger("syncd.engine")

IN_PLACE: Final = {Outcome.APPLIED, Outcome.ALREADY}
UNANSWERED: Final = "no request with this write was answered"
MISSING: Final = "The portal does not know this order; it is asked again with growing pauses, at least once an hour."


class OutcomeRecorder:
    """The outcomes of one run under one lease.

    Args:
        link: The link.
        lease: Its lease.
        run: The run's number; the holds it opens carry it.
        planned: All writes the run is to carry out. None: it heals what other runs were interrupted in.
        decided: Orders whose holds a person decided, or that are tried again: `carried_out` names those that worked.
    """

    def __init__(
        self,
        link: Link,
        lease: HeldLease,
        run: int,
        planned: PlannedWrites | None = None,
        decided: Collection[int] = (),
    ) -> None:
        self._link = link
        self.lease = lease
        self._run = run
        self._planned = planned
        self.both: Mapping[int, Sequence[Change]] = {} if planned is None else on_both_sides(planned)
        self._left = {order: len(changes) for order, changes in self.both.items()}
        self._decided = decided
        self._done = 0
        self._attempts: dict[int, Attempt] = {}
        self._noted: list[tuple[PendingWrite, ChangeOutcome]] = []
        self._failures: list[Attempt] = []
        self._holds: dict[int, StoredHold] = {}
        self._held_orders: set[int] = set()
        self._in_place: set[int] = set()

    async def open(self) -> None:
        """Read how often each order failed before."""
        self._attempts = await self._link.store.attempts(self.lease.row.id)

    @property
    def carried_out(self) -> set[int]:
        """The decided orders whose writes are all in place, and left no hold."""
        return self._in_place - self._held_orders

    def was_unanswered(self, order_id: int) -> bool:
        """Given an order, return whether it failed before because no request with it was answered."""
        known = self._attempts.get(order_id)
        return known is not None and known.error == UNANSWERED

    # ------------------------------------------------------------------ noting

    def answered(self, write: PendingWrite, result: WriteResult) -> None:
        """Note what a side says became of a write."""
        change = write.change
        if result.effect is Effect.ALREADY:
            self.in_place(write, Outcome.ALREADY)
        elif result.effect is Effect.DONE:
            if result.found_known and result.found not in {change.before, change.after}:
                self.overwrote(write, result.found)
            else:
                self.in_place(write, Outcome.APPLIED, result)
        elif result.effect is Effect.MOVED:
            self.moved(write, result.found, known=result.found_known)
        else:
            self._refused(write, result)

    def _refused(self, write: PendingWrite, result: WriteResult) -> None:
        """Note a refusal. It may pass, so the order is tried again with growing pauses, also while it is held."""
        error = answer_text(result) or "the side did not execute it"
        missing = result.effect is Effect.ORDER_MISSING
        failures = self._failed_once_more(write, error)
        if missing:
            self._hold(write, HoldKind.ORDER_MISSING, MISSING)
        elif failures >= MAX_ATTEMPTS:
            detail = f"Refused {failures} times in a row, and tried again at least once an hour: {error}"
            self._hold(write, HoldKind.REFUSED, detail)
        self._note(write, ChangeOutcome(write.id, Outcome.FAILED, error))

    def unanswered(self, write: PendingWrite) -> None:
        """Note a write that has failed: its requests were lost again and again, and have left no trace."""
        failures = self._failed_once_more(write, UNANSWERED)
        if failures >= MAX_ATTEMPTS:
            self._failures[-1] = Attempt(write.order_id, 0)
            self._hold(write, HoldKind.UNCERTAIN, f"Failed {failures} times in a row: {UNANSWERED}")
        self._note(write, ChangeOutcome(write.id, Outcome.FAILED, UNANSWERED))

    def _failed_once_more(self, write: PendingWrite, error: str) -> int:
        known = self._attempts.get(write.order_id)
        failures = (known.failures if known else 0) + 1
        next_at = self._link.clock.now() + order_pause(failures)
        self._failures.append(Attempt(write.order_id, failures, next_at, error))
        return failures

    def moved(self, write: PendingWrite, found: Reading, *, known: bool = True) -> None:
        """Note a write that was not made, since something else is there."""
        owner = None if isinstance(found, NotABinding) else found
        shown = known and not isinstance(found, NotABinding)
        there = f"{formatting.owner(owner) if shown else 'something else'} is there now"
        if shown and owner is None:
            there = "it is unbound now"
        error = f"skipped: {there}; the next run looks again"
        self._note(write, ChangeOutcome(write.id, Outcome.SKIPPED, error, owner, found_known=shown))

    def lost_its_reason(self, write: PendingWrite, found: Reading) -> None:
        """Note a write that was not made, since the side its value comes from has changed."""
        source = "the table" if write.change.side is Side.CRM else "the CRM"
        says = "something else" if isinstance(found, NotABinding) else formatting.owner(found)
        self.skipped(write, f"skipped: {source} now says {says}; the next run looks again")

    def skipped(self, write: PendingWrite, why: str) -> None:
        """Note a write that was not made, or whose outcome is unknown."""
        self._note(write, ChangeOutcome(write.id, Outcome.SKIPPED, why))

    def in_place(
        self, write: PendingWrite, outcome: Outcome, result: WriteResult | None = None, error: str = ""
    ) -> BindingUpdate:
        """Note a write whose value is on its side now; return what is agreed since.

        Args:
            write: The write.
            outcome: APPLIED, or ALREADY where it was there before it was written.
            result: The side's answer, which may know what the write replaced.
            error: What else there is to say.
        """
        change, order = write.change, write.order_id
        last = self._is_last(change)
        crm = change.after if change.side is Side.CRM else change.facts.crm
        update = BindingUpdate(order, crm, change.agreed_after if last else change.facts.agreed)
        if last and change.hold_after is not None:
            left = change.facts
            for sibling in self.both.get(order, (change,)):
                left = left.with_side(sibling.side, sibling.after)
            facts = left._replace(agreed=change.agreed_after)
            detail = f"Put back by run {write.run}; decide, or change either side, or it stays as it is."
            self._keep(Hold(order, change.hold_after, facts, detail))
        if last and order in self._decided:
            self._in_place.add(order)
        found = result.found if result is not None else None
        known = result is not None and result.found_known
        self._note(write, ChangeOutcome(write.id, outcome, error, found, found_known=known, update=update))
        return update

    def _is_last(self, change: Change) -> bool:
        """Given a change in place, return whether the agreed state moves: of two writes of an order, by the last."""
        if change.order_id in self._left:
            self._left[change.order_id] -= 1
            return self._left[change.order_id] == 0
        # A decision may write both sides; one that was cut off may have written one of them only.
        return not (self._planned is None and change.reason in {Reason.RESOLVED_CRM, Reason.RESOLVED_TABLE})

    def overwrote(self, write: PendingWrite, found: MaybeOwner, error: str = "") -> None:
        """Note a write that replaced what somebody wrote meanwhile: it is in the audit, and a person decides.

        Both sides have our value now, so it is agreed: the next person to change it has seen it.
        """
        change = write.change
        seen = WriteResult(write.order_id, Effect.DONE, found, found_known=True)
        update = self.in_place(write, Outcome.APPLIED, seen, error)
        shown = change.facts.with_side(change.side, found)
        kind = conflict_kind(shown) if shown.crm != shown.table else HoldKind.EDIT_EDIT
        detail = f"Run {write.run} overwrote a value that was written while the run was under way; it is shown here."
        after = change.facts.with_side(change.side, change.after)._replace(agreed=update.agreed)
        self._keep(Hold(write.order_id, kind, shown, detail, seen=after))

    def uncertain(self, write: PendingWrite, found: Reading, why: str) -> None:
        """Note a write that may or may not have arrived; `why` begins a sentence on what kept the answer away."""
        if found == write.change.before:
            tail = "and somebody else wrote it in between"
        else:
            tail = "and it showed neither the old nor the new owner then"
        self._in_doubt(write, found, f"{why}, {tail}: syncd cannot tell whether it was written.")
        self._note(write, ChangeOutcome(write.id, Outcome.UNCERTAIN, f"{_lower(why)}, {tail}"))

    def passed_over(self, write: PendingWrite, why: str) -> None:
        """Note a write that shows its old owner although later ones of its request arrived; it is not sent again."""
        tail = "its old owner is there although a later write of the same request arrived"
        detail = f"{why}; {tail}. Somebody put the old owner back, or the write was refused; it is not made again."
        self._in_doubt(write, write.change.before, detail)
        self._note(write, ChangeOutcome(write.id, Outcome.UNCERTAIN, f"{_lower(why)}; {tail}"))

    def _in_doubt(self, write: PendingWrite, found: Reading, detail: str) -> None:
        change = write.change
        shown: Facts = change.facts.with_side(change.side, None if isinstance(found, NotABinding) else found)
        self._keep(Hold(write.order_id, HoldKind.UNCERTAIN, shown, detail, seen=shown))

    def _hold(self, write: PendingWrite, kind: HoldKind, detail: str) -> None:
        self._keep(Hold(write.order_id, kind, write.change.facts, detail))

    def _keep(self, hold: Hold) -> None:
        """Hold an order from the next commit on, until a person or changed facts decide."""
        self._holds[hold.order_id] = StoredHold(hold, sticky=True)
        self._held_orders.add(hold.order_id)

    def _note(self, write: PendingWrite, outcome: ChangeOutcome) -> None:
        if write.sends > 1:
            said = f"sent {write.sends} times"
            outcome = outcome._replace(error=f"{outcome.error}; {said}" if outcome.error else said)
        self._noted.append((write, outcome))

    # --------------------------------------------------------------- recording

    async def commit(self) -> None:
        """Commit what was noted, with its agreed state, holds and failures, and say each outcome in the log.

        Raises:
            LeaseLost: Nothing was recorded; the intents stay open.
        """
        if not self._noted:
            return
        done = {write.order_id for write, outcome in self._noted if outcome.outcome in IN_PLACE}
        attempts = [*self._failures, *(Attempt(order, 0) for order in done.intersection(self._attempts))]
        outcomes, holds = [outcome for _, outcome in self._noted], list(self._holds.values())
        now = self._link.clock.now()
        await self._link.store.record(self.lease.current, self._run, outcomes, now=now, holds=holds, attempts=attempts)
        for write, outcome in self._noted:
            _say(write.change, outcome)
        self._done += len(self._noted)
        self._noted, self._failures, self._holds = [], [], {}
        if self._planned is not None:
            self._link.progress("apply", self._done, len(self._planned))


def on_both_sides(planned: PlannedWrites) -> dict[int, list[Change]]:
    """Given a plan's writes, return the changes of those orders that it writes on both sides: decisions and undos."""
    found: dict[int, list[Change]] = {}
    table = planned.of(Side.TABLE)
    ahead = next(table, None)
    for _, change in planned.of(Side.CRM):
        while ahead is not None and ahead[1].order_id < change.order_id:
            ahead = next(table, None)
        if ahead is None:
            break
        if ahead[1].order_id == change.order_id:
            found[change.order_id] = [ahead[1], change]
    return found


def _say(change: Change, outcome: ChangeOutcome) -> None:
    log.info(
        "change",
        order=change.order_id,
        side=change.side.value if change.side else None,
        action=change.action.value,
        before=owner_text(change.before),
        after=owner_text(change.after),
        reason=change.reason.value,
        outcome=outcome.outcome.value,
        **({"error": outcome.error} if outcome.error else {}),
    )


def answer_text(result: WriteResult) -> str:
    """Given a side's answer, return its code and text."""
    return f"{result.code} {result.text}".strip()


def owner_text(owner: MaybeOwner) -> str:
    """Given an owner or nothing, return it as log lines name it: `2:10`, or `unbound`."""
    return "unbound" if owner is None else f"{owner.owner_type_id}:{owner.owner_id}"


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]
