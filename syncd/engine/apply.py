"""Carrying a plan out: journal first, then the effect, then its outcome, batch by batch.

Nothing is sent that is not in the journal; nothing is sent twice unless the first time certainly had no effect, or the
order was read again and still shows the old owner. What a race overwrote all the same becomes a hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import takewhile

import structlog

from syncd.core.model import Action, MaybeOwner, Outcome
from syncd.core.ports import Effect, WriteAnswer
from syncd.core.records import Attempt, ChangeOutcome
from syncd.engine import holding
from syncd.engine.ledger import Entry, Ledger, words
from syncd.engine.link import Link, Tenure
from syncd.engine.sides import CrmWriter, SideWriter, TableWriter, Unlike
from syncd.errors import LeaseLost, SyncdError, UnavailableError

log = structlog.get_logger("syncd.engine")

MAX_SENDS = 3
"""How often one change is sent in one run when the side certainly did not execute it."""

MAX_SILENT = 8
"""After so many lost requests in a row, of several writes each, it is the side that fails and not an order in them."""


class Applier:
    """Applies the changes of one run under one lease.

    Args:
        link: The link.
        held: Its lease.
        ledger: Where the outcomes go.
    """

    def __init__(self, link: Link, held: Tenure, ledger: Ledger) -> None:
        self._link = link
        self._held = held
        self._ledger = ledger
        self._limbo: list[Entry] = []
        self._strange: dict[int, MaybeOwner | Unlike] = {}
        """By change: what stood there after a lost answer, where it was neither the old nor the new value."""
        self._ahead: dict[int, MaybeOwner | Unlike] = {}
        self._silent = 0

    async def run(self, entries: Sequence[Entry]) -> None:
        """Apply everything; what could not be applied has its outcome, or an open intent, when this returns or raises.

        Args:
            entries: The stored changes, in order of order id; all of them writes.

        Raises:
            LeaseLost, Stopped: Nothing more was sent.
            AuthError, UnavailableError: A side cannot be used any more; the rest was not sent.
        """
        await self._ledger.open()
        # The table first: it is fast, and a portal that fails later does not keep it out of step.
        for writer in (TableWriter(self._link.table), CrmWriter(self._link.portal)):
            todo = [entry for entry in entries if entry.change.side is writer.side]
            for entry in todo:
                entry.most = 1 if self._ledger.left_unanswered(entry) else entry.most
            while todo:
                await self._side(writer, todo)
                todo = await self._settle(writer)

    async def _side(self, writer: SideWriter, todo: Sequence[Entry]) -> None:
        # Whatever a request was lost with comes last, and in ever smaller company.
        todo = sorted(todo, key=lambda entry: -entry.most)
        queues = {
            Action.ADD: [entry for entry in todo if entry.change.action is not Action.REMOVE],
            Action.REMOVE: [entry for entry in todo if entry.change.action is Action.REMOVE],
        }
        while any(queues.values()):
            if self._silent >= MAX_SILENT:
                raise UnavailableError(
                    f"The {'portal' if writer.reads_before else 'mapping table'} left {self._silent} write requests in "
                    "a row unanswered; the rest was not sent.",
                    hint="The next run finds out what became of them, and goes on.",
                )
            lease = await self._held.prove()
            waits = {action: writer.wait_for(action) for action, queue in queues.items() if queue}
            action = min(waits, key=lambda a: waits[a])
            if waits[action] > 0:
                log.info("waiting for the portal's operating budget", seconds=round(waits[action], 1))
                await self._held.wait(waits[action])
                self._ahead = {}  # what was read before the wait says little about now
                continue
            queue = queues[action]
            batch = _first(writer, queue)
            queues[action] = queue[len(batch) :]
            if writer.reads_before and action is not Action.REMOVE:
                batch = await self._still_as_planned(writer, batch)
            if not batch:
                continue
            await self._link.store.intend(lease, [e.id for e in batch], self._link.clock.now())
            again = await self._send(writer, batch, self._next_ids(writer, queues[action], action))
            queues[action] += again

    def _next_ids(self, writer: SideWriter, queue: Sequence[Entry], action: Action) -> list[int]:
        if not writer.reads_before or action is Action.REMOVE or not queue:
            return []
        return [entry.change.order_id for entry in _first(writer, queue)]

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
                outcomes.append(self._ledger.in_place(entry, Outcome.ALREADY))
            else:
                outcomes.append(self._ledger.moved(entry, found))
        self._ahead = {}
        await self._ledger.record(outcomes)
        return kept

    async def _send(self, writer: SideWriter, batch: Sequence[Entry], then_read: Sequence[int]) -> list[Entry]:
        """Send one journaled batch, record what became of it, and return the entries that are to be sent again."""
        work = writer.write([entry.write for entry in batch], then_read)
        try:
            # A write of the table is one short transaction, which cannot be given up half way.
            answer = await (self._held.through_write(work) if writer.reads_before else work)
        except LeaseLost:
            raise
        except SyncdError as error:
            await self._ledger.record(
                [ChangeOutcome(e.id, Outcome.SKIPPED, f"not sent: {error.message}") for e in batch]
            )
            raise
        for entry in batch:
            entry.sends += 1
            entry.sent_by = self._link.clock.monotonic()
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
                    why = f"skipped: not executed {entry.sends} times, {words(result) or 'no reason given'}"
                    outcomes.append(ChangeOutcome(entry.id, Outcome.SKIPPED, why))
            else:
                outcomes.append(self._ledger.judge(entry, result, attempts))
        await self._ledger.record(outcomes, attempts)
        self._note_lost(unknown, len(batch))
        if unknown:
            log.warning("answer lost", side=writer.side.value, orders=len(unknown))
            await self._read_back(writer, unknown, final=not writer.reads_before)
        return again

    def _note_lost(self, lost: Sequence[Entry], sent: int) -> None:
        for entry in lost:
            entry.most, entry.alone = max(1, len(lost) // 2), len(lost) == 1
        if len(lost) < sent:
            self._silent = 0
        elif sent > 1:
            self._silent += 1

    async def _read_back(self, writer: SideWriter, entries: Sequence[Entry], *, final: bool) -> None:
        """After a lost answer: what is in place is done; the rest waits in limbo for as long as its request may live.

        Args:
            writer: The side.
            entries: The changes that were sent.
            final: Their requests cannot be alive any more: what shows neither the old nor the new value is held.
        """
        there = await writer.read([entry.change.order_id for entry in entries])
        outcomes = []
        for entry in entries:
            change, found = entry.change, there[entry.change.order_id]
            if found == change.after:
                outcomes.append(self._ledger.arrived(entry, self._strange.get(entry.id, change.before)))
            elif found == change.before:
                self._limbo.append(entry)
            elif final:
                why, now = "The answer to a write of this order was lost", self._link.clock.now()
                self._ledger.hold(holding.uncertain(change, found, why=why, now=now))
                outcomes.append(ChangeOutcome(entry.id, Outcome.UNCERTAIN, "the answer was lost"))
            else:
                self._strange[entry.id] = found
                self._limbo.append(entry)
        await self._ledger.record(outcomes)

    async def _settle(self, writer: SideWriter) -> list[Entry]:
        """Decide the entries in limbo, and return those that may be sent once more.

        A request whose connection broke may still be running. One that is shows progress; while it does, or where
        somebody else has written meanwhile, or nothing came of it for the second time, its whole life is waited for.
        The table's writes are compare-and-set, so there is nothing to wait for.

        An order may be what breaks its request, every time. Orders are sent again in half the company they were lost
        in, so that the others arrive; one that was lost twice, at last alone, has failed.
        """
        waiting, self._limbo = self._limbo, []
        if not waiting:
            return []
        if writer.reads_before:
            before = len(waiting)
            await self._wait_since(waiting, min(self._link.settle, self._link.request_life))
            await self._read_back(writer, waiting, final=False)
            waiting, self._limbo = self._limbo, []
            alive = len(waiting) < before or any(entry.id in self._strange for entry in waiting)
            if waiting and (alive or any(entry.sends > 1 for entry in waiting)):
                await self._wait_since(waiting, self._link.request_life)
                await self._read_back(writer, waiting, final=True)
                waiting, self._limbo = self._limbo, []
        await self._ledger.unanswered([entry for entry in waiting if _lost_alone(entry)])
        return [entry for entry in waiting if not _lost_alone(entry)]

    async def _wait_since(self, entries: Iterable[Entry], seconds: float) -> None:
        until = max(entry.sent_by for entry in entries) + seconds
        await self._held.wait(until - self._link.clock.monotonic())


def _lost_alone(entry: Entry) -> bool:
    return entry.alone and entry.sends > 1


def _first(writer: SideWriter, queue: Sequence[Entry]) -> list[Entry]:
    """Return the first entries of a queue that go into one request together."""
    most = queue[0].most
    size = max(1, min(most, writer.batch_size([entry.write for entry in queue])))
    return list(takewhile(lambda entry: entry.most == most, queue[:size]))


def _ahead(answer: WriteAnswer, then_read: Sequence[int]) -> dict[int, MaybeOwner | Unlike]:
    if answer.read is None:
        return {}
    return {order: answer.read.get(order) for order in then_read}
