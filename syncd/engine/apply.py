"""Carrying a plan out: journal first, then the effect, then its outcome, batch by batch.

Nothing is sent before it is in the journal. A write is sent a second time only if the first one certainly had no
effect, or if its order, read again once the request can do nothing more, still shows the old owner. A value that a
race overwrote becomes a hold.

One loop does everything but the sending: it starts batches while there is room, and takes their answers one at a time,
so what is recorded never depends on two things that happen at once.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count

import structlog

from syncd.core.model import Action, Side
from syncd.core.pacing import ConcurrencyLimit
from syncd.core.ports import WAITING, Effect, WriteResult
from syncd.engine.link import HeldLease, Link
from syncd.engine.outcomes import OutcomeRecorder, answer_text
from syncd.engine.recover import SilentRequests
from syncd.engine.write_queue import (
    PendingWrite,
    PlannedWrites,
    SideWriter,
    SourceCheck,
    WriteQueue,
    crm_writer,
    table_writer,
)
from syncd.errors import LeaseLost, SyncdError, UnavailableError
from syncd.obs.clock import time_of_day

log = structlog.get_logger("syncd.engine")

MAX_SENDS = 3
"""How often one change is sent in one run when the side certainly did not execute it."""

MAX_SILENT = 8
"""After so many lost requests in a row, of several writes each, the side counts as failed, not an order in them."""


_BY_METHOD = ((Action.ADD, Action.MOVE), (Action.REMOVE,))
"""The actions that share a batch, on a side that takes one method a request."""
_ONE_TRANSACTION = ((Action.ADD, Action.MOVE, Action.REMOVE),)
"""The same, on a side that writes in transactions: a remove may free the owner that a move takes."""


def appliers(
    link: Link, lease: HeldLease, recorder: OutcomeRecorder, planned: PlannedWrites, *, run: int, observed_at: float
) -> Iterator[SideApplier]:
    """Yield what applies the changes of a run on each side, to be run before the next one is asked for.

    The table comes first: it is fast, and a portal that fails later does not keep it out of step. An order that is
    written on both sides thus has its row written before its binding.

    Args:
        link: The link.
        lease: Its lease.
        recorder: Where the outcomes go; open.
        planned: The stored changes; all of them writes.
        run: The run's number.
        observed_at: When the reading began that the plan was made from (monotonic seconds).
    """
    numbers = count(1)
    for writer in (table_writer(link.table), crm_writer(link.portal, link.writers)):
        check = SourceCheck(link, writer.side, recorder.both, observed_at)
        queues = [
            WriteQueue(actions[0], _writes(planned, run, recorder, writer.side, actions), writer.window)
            for actions in (_ONE_TRANSACTION if writer.transactional else _BY_METHOD)
        ]
        yield SideApplier(link, lease, recorder, writer, check, queues, numbers)


def _writes(
    planned: PlannedWrites, run: int, recorder: OutcomeRecorder, side: Side, actions: Sequence[Action | None]
) -> Iterator[PendingWrite]:
    for id_, change in planned.of(side):
        if change.action in actions:
            write = PendingWrite(id_, change, run)
            if recorder.was_unanswered(change.order_id):
                write.max_batch = 1
            yield write


@dataclass(slots=True)
class _Batch:
    """A batch under way: its writes in the order they are sent, and its ticket of the concurrency limit."""

    writes: list[PendingWrite]
    queue: WriteQueue
    ticket: int


@dataclass
class SideApplier:
    """Applies the changes of one run on one side, under one lease.

    Args:
        link: The link.
        lease: Its lease.
        recorder: Where the outcomes go.
        writer: The side.
        check: Finds the writes whose source has changed.
        queues: The writes, by method.
        numbers: Gives each batch of the run its number.
    """

    link: Link
    lease: HeldLease
    recorder: OutcomeRecorder
    writer: SideWriter
    check: SourceCheck
    queues: Sequence[WriteQueue]
    numbers: Iterator[int]
    _limit: ConcurrencyLimit = field(init=False)
    _silent: SilentRequests = field(init=False)
    _under_way: dict[asyncio.Task[list[WriteResult]], _Batch] = field(init=False, default_factory=dict)
    _lost_in_a_row: int = field(init=False, default=0)
    _refusals: int = field(init=False)
    _waits_for_budget: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self._limit = ConcurrencyLimit(self.writer.at_once)
        self._silent = SilentRequests(self.link, self.recorder, self.writer)
        self._refusals = self.writer.refusals()

    async def run(self) -> None:
        """Apply everything; what could not be applied has its outcome, or an open intent, when this returns or raises.

        Raises:
            LeaseLost, Stopped: Nothing more was sent.
            AuthError, UnavailableError: A side cannot be used any more; the rest was not sent.
        """
        try:
            while True:
                pause = await self._start_batches()
                if not (self._under_way or self._silent or any(self.queues)):
                    return
                await self._wait(pause)
                await self._take_answers()
                await self._silent.look()
                await self.recorder.commit()
        except LeaseLost:
            raise
        except SyncdError:
            await self._finish()
            raise
        finally:
            await self._give_up()

    # ----------------------------------------------------------------- sending

    async def _start_batches(self) -> float:
        """Send batches while there is room; return the seconds until the budget lets the next one go, or infinity."""
        while len(self._under_way) < self._limit.current:
            waits = {queue: self.writer.wait_for(queue.action) for queue in self.queues if queue}
            if not waits:
                break
            if self._lost_in_a_row >= MAX_SILENT:
                raise UnavailableError(
                    f"{self.writer.name} left {self._lost_in_a_row} write requests in a row unanswered; "
                    "the rest was not sent.",
                    hint="The next run finds out what became of them, and goes on.",
                )
            proved = await self.lease.prove()
            queue = min(waits, key=lambda one: waits[one])
            self._report_wait(waits[queue])
            if waits[queue] > 0:
                return waits[queue]
            batch = await self._next_batch(queue)
            if not batch:
                continue
            ids = [one.id for one in batch]
            await self.link.store.intend(proved, ids, self.link.clock.now(), next(self.numbers))
            for write in batch:
                write.sends += 1
            sent = asyncio.ensure_future(self.writer.write([one.write for one in batch]))
            self._under_way[sent] = _Batch(batch, queue, self._limit.begin())
            await self._let_go(sent)
        return math.inf

    def _report_wait(self, seconds: float) -> None:
        """Report once until when the run waits for the operating budget, and once that the wait has ended."""
        if self._waits_for_budget == bool(seconds):
            return
        self._waits_for_budget = bool(seconds)
        until = time_of_day(self.link.clock.now() + seconds)
        if seconds:
            log.info(
                "waiting for the portal's operating budget",
                seconds=round(seconds, 1),
                until=until.isoformat(timespec="seconds"),
            )
        self.link.progress(f"{WAITING}{until:%H:%M:%S %Z}", 0 if seconds else 1, 1)

    async def _next_batch(self, queue: WriteQueue) -> list[PendingWrite]:
        """Take a batch out of a queue, without the writes whose source has changed since the plan was made."""
        # The journal says in which order the writes of a request were sent: in that of their ids.
        batch = sorted(queue.take(self.writer.batch_size, self._limit), key=lambda one: one.id)
        changed = await self.lease.keep_during(self.check.changed(batch, queue))
        for write in batch:
            if write.order_id in changed:
                self.recorder.lost_its_reason(write, changed[write.order_id])
        await self.recorder.commit()
        return [write for write in batch if write.order_id not in changed]

    async def _let_go(self, sent: asyncio.Task[list[WriteResult]]) -> None:
        """Let a batch leave before the next one is made."""
        if self.writer.transactional:
            # One short transaction, during which the lease need not be renewed.
            await asyncio.wait({sent})
            await self._take_answers()
        else:
            await asyncio.sleep(0)  # it leaves now, and counts as under way for the budget

    # ----------------------------------------------------------------- answers

    async def _wait(self, pause: float) -> None:
        """Wait for an answer, for the budget, or for the time to look at a silent request again."""
        await self.lease.wait_for_any(self._under_way, min(self._silent.next_look(), pause))

    async def _take_answers(self) -> None:
        for task in [task for task in self._under_way if task.done()]:
            await self._take(task, self._under_way.pop(task))

    async def _take(self, task: asyncio.Task[list[WriteResult]], batch: _Batch) -> None:
        """Record what became of one batch."""
        try:
            results = task.result()
        except LeaseLost:
            raise
        except SyncdError as error:
            for write in batch.writes:
                write.sends -= 1
                self.recorder.skipped(write, f"not sent: {error.message}")
            await self.recorder.commit()
            raise
        silent: set[int] = set()
        for write, result in zip(batch.writes, results, strict=True):
            if result.effect is Effect.UNKNOWN:
                silent.add(write.id)
            elif result.effect is Effect.NOT_SENT:
                self._not_sent(write, result, batch.queue)
            else:
                self.recorder.answered(write, result)
        self._adapt(batch, results)
        self._count_lost(batch, silent)
        if silent:
            await self._lost(batch, silent)
        await self.recorder.commit()

    def _not_sent(self, write: PendingWrite, result: WriteResult, queue: WriteQueue) -> None:
        """Limits and locks are not the order's fault: it is neither counted as failed nor held for them."""
        write.sends -= 1
        write.refusals += 1
        if write.refusals < MAX_SENDS:
            queue.refused([write])
            return
        why = f"skipped: not executed {write.refusals} times, {answer_text(result) or 'no reason given'}"
        self.recorder.skipped(write, why)

    def _adapt(self, batch: _Batch, results: Sequence[WriteResult]) -> None:
        """Let fewer batches be under way at once after trouble, and more while all is quiet."""
        refusals = self.writer.refusals()
        trouble = refusals > self._refusals or any(
            result.effect in {Effect.UNKNOWN, Effect.NOT_SENT} for result in results
        )
        self._refusals = refusals
        if trouble:
            self._limit.trouble(batch.ticket)
        else:
            self._limit.quiet()

    def _count_lost(self, batch: _Batch, silent: set[int]) -> None:
        """Count the lost requests in a row; one with a single write may be its order's fault, and does not count."""
        if len(silent) < len(batch.writes):
            self._lost_in_a_row = 0
        elif len(silent) > 1:
            self._lost_in_a_row += 1

    async def _lost(self, batch: _Batch, silent: set[int]) -> None:
        """Find out what became of the writes of a batch whose answer was lost."""
        try:
            await self._silent.add(batch.writes, silent, batch.queue)
        except LeaseLost:
            raise
        except SyncdError:
            await self.recorder.commit()  # what the answer did say
            raise

    # ------------------------------------------------------------------ ending

    async def _finish(self) -> None:
        """Let what is under way come to its end, and record it; what stays silent keeps its intents open."""
        while self._under_way:
            try:
                await self.lease.wait_for_any(self._under_way, math.inf)
            except SyncdError:
                return  # without the lease, or the state database, nothing more can be recorded
            try:
                await self._take_answers()
            except LeaseLost:
                raise
            except SyncdError as error:
                log.warning("batch ended while the run was ending", reason=error.message)

    async def _give_up(self) -> None:
        """Give up what is still under way: the lease is lost, or the process must end at once."""
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
