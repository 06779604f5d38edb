"""Carrying a plan out: journal first, then the effect, then its outcome, batch by batch.

Nothing is sent that is not in the journal; nothing is sent twice unless the first time certainly had no effect, or the
order was read again and still shows the old owner. What a race overwrote all the same becomes a hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import structlog

from syncd.core.backoff import MAX_ATTEMPTS, order_pause
from syncd.core.model import Action, Change, Facts, Hold, HoldKind, MaybeOwner, Outcome, Side
from syncd.core.policy import conflict_kind
from syncd.core.ports import Effect, Write, WriteAnswer, WriteResult
from syncd.core.records import Attempt, BindingUpdate, ChangeOutcome, StoredHold
from syncd.engine.link import Link, Tenure
from syncd.engine.sides import CrmWriter, SideWriter, TableWriter, Unlike
from syncd.errors import SyncdError

log = structlog.get_logger("syncd.engine")

MAX_SENDS = 3
"""How often one change is sent in one run when the side certainly did not execute it, or was read to have not."""


@dataclass(slots=True)
class Entry:
    """One stored change on its way. `sent_at` is monotonic; `sends` counts how often it was sent in this run."""

    id: int
    change: Change
    sends: int = 0
    sent_at: float = 0.0

    @property
    def write(self) -> Write:
        """The conditional write this change is."""
        return Write(self.change.order_id, self.change.before, self.change.after)


class Applier:
    """Applies the changes of one run under one lease.

    Args:
        link: The link.
        held: Its lease.
        run: The run's number.
        entries: The stored changes, in order of order id; all of them writes.
    """

    def __init__(self, link: Link, held: Tenure, run: int, entries: Sequence[Entry]) -> None:
        self._link = link
        self._held = held
        self._run = run
        self._entries = entries
        self._changes = {entry.id: entry.change for entry in entries}
        self._by_order: dict[int, list[Change]] = {}
        for entry in entries:
            self._by_order.setdefault(entry.change.order_id, []).append(entry.change)
        self._left = {order: len(changes) for order, changes in self._by_order.items()}
        self._attempts: dict[int, Attempt] = {}
        self._limbo: list[Entry] = []
        self._ahead: dict[int, MaybeOwner | Unlike] = {}
        self.outcomes: dict[int, ChangeOutcome] = {}
        self.holds: dict[int, StoredHold] = {}
        self._done = 0

    async def run(self) -> None:
        """Apply everything; what could not be applied has its outcome, or an open intent, when this returns or raises.

        Raises:
            LeaseLost, Stopped: Nothing more was sent.
            AuthError, UnavailableError: A side cannot be used any more; the rest was not sent.
        """
        self._attempts = await self._link.store.attempts(self._held.row.id)
        # The table first: it is fast, and a portal that fails later does not keep it out of step.
        for writer in (TableWriter(self._link.table), CrmWriter(self._link.portal)):
            todo = [entry for entry in self._entries if entry.change.side is writer.side]
            while todo:
                await self._side(writer, todo)
                todo = await self._settle(writer)

    async def _side(self, writer: SideWriter, todo: Sequence[Entry]) -> None:
        queues = {
            Action.ADD: [entry for entry in todo if entry.change.action is not Action.REMOVE],
            Action.REMOVE: [entry for entry in todo if entry.change.action is Action.REMOVE],
        }
        while any(queues.values()):
            lease = await self._held.prove()
            waits = {action: writer.wait_for(action) for action, queue in queues.items() if queue}
            action = min(waits, key=lambda a: waits[a])
            if waits[action] > 0:
                log.info("waiting for the portal's operating budget", seconds=round(waits[action], 1))
                await self._held.wait(waits[action])
                self._ahead = {}  # what was read before the wait says little about now
                continue
            queue = queues[action]
            size = max(1, writer.batch_size([entry.write for entry in queue]))
            batch, queues[action] = queue[:size], queue[size:]
            if writer.reads_before and action is not Action.REMOVE:
                batch = await self._still_as_planned(writer, batch)
            if not batch:
                continue
            now = self._link.clock.now()
            await self._link.store.intend(lease, [e.id for e in batch], now, now + self._link.request_life)
            again = await self._send(writer, batch, self._next_ids(writer, queues[action], action))
            queues[action] += again

    def _next_ids(self, writer: SideWriter, queue: Sequence[Entry], action: Action) -> list[int]:
        if not writer.reads_before or action is Action.REMOVE or not queue:
            return []
        size = writer.batch_size([entry.write for entry in queue])
        return [entry.change.order_id for entry in queue[:size]]

    async def _still_as_planned(self, writer: SideWriter, batch: Sequence[Entry]) -> list[Entry]:
        """Leave out orders that no longer have the expected owner; `add` would overwrite without asking."""
        orders = [entry.change.order_id for entry in batch]
        if all(order in self._ahead for order in orders):
            there = self._ahead
        else:
            there = await writer.read(orders)
        outcomes, kept = [], []
        for entry in batch:
            found = there[entry.change.order_id]
            if found == entry.change.before:
                kept.append(entry)
            elif found == entry.change.after:
                outcomes.append(self._outcome(entry, Outcome.ALREADY, update=True))
            else:
                outcomes.append(self._moved(entry, found))
        self._ahead = {}
        await self._record(outcomes)
        return kept

    async def _send(self, writer: SideWriter, batch: Sequence[Entry], then_read: Sequence[int]) -> list[Entry]:
        """Send one journaled batch, record what became of it, and return the entries that are to be sent again."""
        for entry in batch:
            entry.sends += 1
            entry.sent_at = self._link.clock.monotonic()
        try:
            answer = await writer.write([entry.write for entry in batch], then_read)
        except SyncdError as error:
            await self._record([self._outcome(e, Outcome.SKIPPED, error=f"not sent: {error.message}") for e in batch])
            raise
        self._ahead = _ahead(answer, then_read)
        again: list[Entry] = []
        unknown: list[Entry] = []
        outcomes: list[ChangeOutcome] = []
        attempts: list[Attempt] = []
        for entry, result in zip(batch, answer.results, strict=True):
            if result.effect is Effect.UNKNOWN:
                unknown.append(entry)
            elif result.effect is Effect.NOT_SENT:
                # Limits and locks are not the order's fault: it is neither counted as failed nor held for them.
                if entry.sends < MAX_SENDS:
                    again.append(entry)
                else:
                    why = f"skipped: not executed {entry.sends} times, {_words(result) or 'no reason given'}"
                    outcomes.append(self._outcome(entry, Outcome.SKIPPED, error=why))
            else:
                outcomes.append(self._judge(entry, result, attempts))
        await self._record(outcomes, attempts)
        if unknown:
            log.warning("answer lost", side=writer.side.value, orders=len(unknown))
            await self._read_back(writer, unknown)
        return again

    def _judge(self, entry: Entry, result: WriteResult, attempts: list[Attempt]) -> ChangeOutcome:
        """Given what a side says became of a write, return the outcome; note holds and failures on the way."""
        change, order = entry.change, entry.change.order_id
        if result.effect in {Effect.ALREADY, Effect.DONE} and order in self._attempts:
            attempts.append(Attempt(order, 0, 0.0, ""))
        if result.effect is Effect.ALREADY:
            return self._outcome(entry, Outcome.ALREADY, update=True)
        if result.effect is Effect.MOVED:
            return self._moved(entry, result.found if result.found_known else None, known=result.found_known)
        if result.effect is Effect.ORDER_MISSING:
            detail = "The portal does not know this order; it is not tried again until something about it changes."
            self._hold(order, HoldKind.ORDER_MISSING, change.facts, detail)
            return self._outcome(entry, Outcome.FAILED, error=_words(result))
        if result.effect is Effect.DONE:
            lost = result.found_known and result.found not in {change.before, change.after}
            if lost:
                return self._overwritten(entry, result)
            return self._outcome(entry, Outcome.APPLIED, update=True, result=result)
        known = self._attempts.get(order)
        failures = (known.failures if known else 0) + 1
        error = _words(result) or "the side did not execute it"
        if failures >= MAX_ATTEMPTS:
            self._hold(order, HoldKind.UNCERTAIN, change.facts, f"Refused {failures} times in a row: {error}")
            attempts.append(Attempt(order, 0, 0.0, ""))
        else:
            attempts.append(Attempt(order, failures, self._link.clock.now() + order_pause(failures), error))
        return self._outcome(entry, Outcome.FAILED, error=error)

    def _overwritten(self, entry: Entry, result: WriteResult) -> ChangeOutcome:
        """Somebody wrote between our reading and our write: their value is in the audit, and a person decides.

        Both sides have our value now, so it is agreed: whoever changes it from here on has seen it.
        """
        change = entry.change
        outcome = self._outcome(entry, Outcome.APPLIED, update=True, result=result)
        assert outcome.update is not None
        shown = _at(change.facts, change.side, result.found)
        self._hold(
            change.order_id,
            conflict_kind(shown) if shown.crm != shown.table else HoldKind.EDIT_EDIT,
            shown,
            f"Run {self._run} overwrote a value that was written while the run was under way; it is shown here.",
            seen=_at(change.facts, change.side, change.after)._replace(agreed=outcome.update.agreed),
        )
        return outcome

    async def _read_back(self, writer: SideWriter, entries: Sequence[Entry]) -> None:
        """After a lost answer: what is in place is done, what moved is held, what is as before waits in limbo."""
        there = await writer.read([entry.change.order_id for entry in entries])
        outcomes = []
        for entry in entries:
            found = there[entry.change.order_id]
            if found == entry.change.after:
                outcomes.append(self._outcome(entry, Outcome.APPLIED, update=True))
            elif found == entry.change.before:
                self._limbo.append(entry)
            else:
                detail = "The answer to a write was lost, and the order now shows neither the old nor the new owner."
                shown = _at(entry.change.facts, entry.change.side, found if not isinstance(found, Unlike) else None)
                self._hold(entry.change.order_id, HoldKind.UNCERTAIN, shown, detail)
                outcomes.append(self._outcome(entry, Outcome.UNCERTAIN, error="the answer was lost"))
        await self._record(outcomes)

    async def _settle(self, writer: SideWriter) -> list[Entry]:
        """Decide the entries in limbo, and return those that may be sent once more.

        A request whose connection broke may still be running. One that is shows progress; while it does, its whole
        life is waited for. The table's writes are compare-and-set, so there is nothing to wait for.
        """
        waiting, self._limbo = self._limbo, []
        if not waiting:
            return []
        if writer.reads_before:
            before = len(waiting)
            await self._wait_since(waiting, min(self._link.settle, self._link.request_life))
            await self._read_back(writer, waiting)
            waiting, self._limbo = self._limbo, []
            if waiting and len(waiting) < before:
                await self._wait_since(waiting, self._link.request_life)
                await self._read_back(writer, waiting)
                waiting, self._limbo = self._limbo, []
        # What was sent twice without a trace keeps its open intent: the next run recovers it.
        return [entry for entry in waiting if entry.sends < MAX_SENDS - 1]

    async def _wait_since(self, entries: Iterable[Entry], seconds: float) -> None:
        until = max(entry.sent_at for entry in entries) + seconds
        await self._held.wait(until - self._link.clock.monotonic())

    def carried_out(self, entry: Entry) -> bool:
        """Given an entry, return whether the wanted value is in place."""
        outcome = self.outcomes.get(entry.id)
        return outcome is not None and outcome.outcome in {Outcome.APPLIED, Outcome.ALREADY}

    # ------------------------------------------------------------------ records

    def _moved(self, entry: Entry, found: MaybeOwner | Unlike, *, known: bool = True) -> ChangeOutcome:
        owner = found if not isinstance(found, Unlike) else None
        what = "something else" if isinstance(found, Unlike) or not known else _owner(owner)
        error = f"skipped: {what} stands there now; the next run looks again"
        shown = known and not isinstance(found, Unlike)
        return ChangeOutcome(entry.id, Outcome.SKIPPED, error, owner if shown else None, found_known=shown)

    def _outcome(
        self,
        entry: Entry,
        outcome: Outcome,
        *,
        error: str = "",
        update: bool = False,
        result: WriteResult | None = None,
    ) -> ChangeOutcome:
        change = entry.change
        binding = None
        if update:
            # Of two changes of one order, only the last one moves the agreed state.
            last = self._left[change.order_id] == 1
            crm = change.after if change.side is Side.CRM else change.facts.crm
            binding = BindingUpdate(change.order_id, crm, change.agreed_after if last else change.facts.agreed)
            self._left[change.order_id] -= 1
            if last and change.hold_after is not None:
                facts = change.facts._replace(agreed=change.agreed_after)
                for sibling in self._by_order[change.order_id]:
                    facts = _at(facts, sibling.side, sibling.after)
                detail = f"Put back by run {self._run}; decide, or change either side, or it stays as it is."
                self._hold(change.order_id, change.hold_after, facts, detail)
        found = result.found if result is not None else None
        known = result is not None and result.found_known
        return ChangeOutcome(entry.id, outcome, error, found, found_known=known, update=binding)

    def _hold(self, order: int, kind: HoldKind, facts: Facts, detail: str, seen: Facts | None = None) -> None:
        hold = Hold(order, kind, facts, detail, since=self._link.clock.now(), seen=seen)
        self.holds[order] = StoredHold(hold, sticky=True, run=self._run)

    async def _record(self, outcomes: Sequence[ChangeOutcome], attempts: Sequence[Attempt] = ()) -> None:
        if not outcomes and not attempts:
            return
        lease = self._held.lease
        orders = {self._changes[outcome.change_id].order_id for outcome in outcomes}
        holds = [hold for order, hold in self.holds.items() if order in orders]
        now = self._link.clock.now()
        await self._link.store.record(lease, self._run, outcomes, now=now, holds=holds, attempts=attempts)
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
        self._done += len(outcomes)
        self._link.progress("apply", self._done, len(self._entries))


def _ahead(answer: WriteAnswer, then_read: Sequence[int]) -> dict[int, MaybeOwner | Unlike]:
    if answer.read is None:
        return {}
    return {order: answer.read.get(order) for order in then_read}


def _at(facts: Facts, side: Side | None, value: MaybeOwner) -> Facts:
    """Given facts, return them with another value on one side."""
    return facts._replace(crm=value) if side is Side.CRM else facts._replace(table=value)


def _owner(owner: MaybeOwner) -> str:
    return "unbound" if owner is None else f"{owner.owner_type_id}:{owner.owner_id}"


def _words(result: WriteResult) -> str:
    return f"{result.code} {result.text}".strip()
