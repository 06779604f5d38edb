"""Writes without an answer: their orders are read, `core.silent_writes` decides what became of them, and that is noted.

`SilentRequests` are those whose answers were lost while a plan is applied; `recover` takes up those that were in the
journal when their process died. It waits for the life of a request, from now on and whatever the clocks say: they may
have been set, and another host's may be wrong. Writes of the mapping table are compare-and-set inside a database
transaction that died with its connection, so there is nothing to wait for.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import structlog

from syncd.core.model import Outcome, Side
from syncd.core.records import ChangeOutcome, StoredChange
from syncd.core.silent_writes import Fate, NotABinding, Reading, SilentWrite, fates
from syncd.engine.link import HeldLease, Link
from syncd.engine.outcomes import OutcomeRecorder
from syncd.engine.write_queue import PendingWrite, SideWriter, WriteQueue, crm_writer, table_writer
from syncd.obs.clock import time_of_day

log = structlog.get_logger("syncd.engine")

CHUNK = 500
"""Orders that are read at a time."""


@dataclass(slots=True)
class SilentRequest:
    """A request without an answer.

    Args:
        writes: Its writes, in the order they were sent.
        open: The ids of those whose fate is open; the others were answered, so their turn has come.
        looks: When its orders are to be read again (monotonic seconds); by the last it can do nothing more.
    """

    writes: Sequence[PendingWrite]
    open: set[int]
    looks: list[float] = field(default_factory=list)


class IntentResolver:
    """Finds out what became of silent writes.

    Args:
        recorder: Where their outcomes are noted.
        why: Given a write, what kept its answer away, as the beginning of a sentence.
        in_place: What the audit says of a write that is found in place.
    """

    def __init__(self, recorder: OutcomeRecorder, why: Callable[[PendingWrite], str], *, in_place: str = "") -> None:
        self._recorder = recorder
        self._why = why
        self._found_in_place = in_place

    async def look(
        self, writer: SideWriter, requests: Collection[SilentRequest], *, dead: bool
    ) -> list[tuple[SilentRequest, list[PendingWrite]]]:
        """Read the open orders of some requests, and note what is known now; the caller commits.

        Args:
            writer: Their side.
            requests: The requests; each keeps the writes whose request may still be alive as open.
            dead: None of them can do anything any more.

        Returns:
            By request, the writes that left no trace and may be sent again.

        Raises:
            UnavailableError, AuthError: The side cannot be read; nothing was noted.
        """
        there = await self._read(writer, requests)
        return [(request, self._judge(writer, request, there, dead=dead)) for request in requests]

    async def watch(self, writer: SideWriter, requests: Collection[SilentRequest]) -> None:
        """Read the open orders of some requests that may be alive, for `look` to know what they showed before."""
        there = await self._read(writer, requests)
        for write in (write for request in requests for write in request.writes if write.id in request.open):
            write.earlier = there[write.order_id]

    async def _read(self, writer: SideWriter, requests: Collection[SilentRequest]) -> dict[int, Reading]:
        orders = [write.order_id for request in requests for write in request.writes if write.id in request.open]
        there: dict[int, Reading] = {}
        for start in range(0, len(orders), CHUNK):
            reading = writer.read(orders[start : start + CHUNK])
            there |= await self._recorder.lease.keep_during(reading, stoppable=False)
        return there

    def _judge(
        self, writer: SideWriter, request: SilentRequest, there: dict[int, Reading], *, dead: bool
    ) -> list[PendingWrite]:
        seen = [
            SilentWrite(write.change.before, write.change.after, there[write.order_id], write.earlier)
            if write.id in request.open
            else SilentWrite(write.change.before, write.change.after, write.change.after, write.earlier, arrived=True)
            for write in request.writes
        ]
        again: list[PendingWrite] = []
        for write, fate in zip(request.writes, fates(seen, dead=dead, together=writer.transactional), strict=True):
            if write.id not in request.open:
                continue
            found = there[write.order_id]
            if fate is Fate.PERHAPS_ALIVE:
                if found != write.change.before:
                    write.earlier = found
                continue
            request.open.remove(write.id)
            if fate is Fate.UNSEEN:
                again.append(write)
            else:
                self._note(write, fate, found)
        return again

    def _note(self, write: PendingWrite, fate: Fate, found: Reading) -> None:
        if fate is Fate.ARRIVED:
            self._recorder.in_place(write, Outcome.APPLIED, error=self._found_in_place)
        elif fate is Fate.OVERWROTE:
            assert not isinstance(write.earlier, NotABinding)
            self._recorder.overwrote(write, write.earlier, self._found_in_place)
        elif fate is Fate.PASSED_OVER:
            self._recorder.passed_over(write, self._why(write))
        else:
            self._recorder.uncertain(write, found, self._why(write))


class SilentRequests:
    """The silent requests of one side while a plan is applied, and when their orders are read again.

    An order may be what breaks its request, every time. Lost batches are sent again in halves, so that the others
    arrive; an order that was lost twice, the second time alone, has failed.

    Args:
        link: The link.
        recorder: Where outcomes are noted; the caller commits.
        writer: The side.
    """

    def __init__(self, link: Link, recorder: OutcomeRecorder, writer: SideWriter) -> None:
        self._link = link
        self._recorder = recorder
        self._writer = writer
        self._resolver = IntentResolver(recorder, lambda _: "The answer to a write of this order was lost")
        self._requests: list[tuple[SilentRequest, WriteQueue]] = []

    def __bool__(self) -> bool:
        return bool(self._requests)

    def next_look(self) -> float:
        """Return the seconds until orders are to be read again; infinite where none are."""
        looks = [request.looks[0] for request, _ in self._requests]
        return max(0.0, min(looks, default=math.inf) - self._link.clock.monotonic())

    async def add(self, writes: Sequence[PendingWrite], silent: set[int], queue: WriteQueue) -> None:
        """Take in a batch of which some writes were not answered, and look at them: what is in place is done.

        Args:
            writes: All of the batch, in the order they were sent.
            silent: The ids of those without an answer.
            queue: Where they came from, and go back to.
        """
        log.warning("answer lost", side=self._writer.side.value, orders=len(silent))
        for write in writes:
            if write.id in silent:
                write.max_batch, write.was_alone = max(1, len(silent) // 2), len(silent) == 1
        request = SilentRequest(writes, silent)
        if not self._writer.transactional:
            now, life = self._link.clock.monotonic(), self._link.request_life
            request.looks = [now + min(self._link.settle, life), now + life]
        self._requests.append((request, queue))
        await self._look([(request, queue)], dead=self._writer.transactional)

    async def look(self) -> None:
        """Read the orders again of those requests whose time has come."""
        now = self._link.clock.monotonic()
        due = [one for one in self._requests if one[0].looks[0] <= now]
        for one in due:
            one[0].looks.pop(0)
        await self._look([one for one in due if one[0].looks], dead=False)
        await self._look([one for one in due if not one[0].looks], dead=True)

    async def _look(self, some: Sequence[tuple[SilentRequest, WriteQueue]], *, dead: bool) -> None:
        """Read the orders of some requests; where `dead`, they can do nothing any more, and all writes are decided."""
        if not some:
            return
        queues = {id(request): queue for request, queue in some}
        for request, writes in await self._resolver.look(self._writer, [request for request, _ in some], dead=dead):
            for write in writes:
                if write.was_alone and write.sends > 1:
                    self._recorder.unanswered(write)
                else:
                    queues[id(request)].lost([write])
        self._requests = [one for one in self._requests if one[0].open]


FOUND_IN_PLACE = "found in place after an interruption"
CANNOT_KNOW = "interrupted; it shows its old owner, so syncd cannot tell whether it was written; planned anew"
"""What the audit says of a write whose outcome a crash had kept from it."""


async def recover(link: Link, lease: HeldLease, run: int) -> None:
    """Decide every open intent of the link, and close runs that a crash left open.

    Args:
        link: The link.
        lease: Its lease.
        run: The run that recovers; holds it opens carry its number.

    Raises:
        UnavailableError, AuthError: A side cannot be read; the intents stay open.
    """
    intents = await link.store.open_intents(lease.row.id)
    if intents:
        log.warning("recovering interrupted writes", intents=len(intents))
    answered = await link.store.answered_siblings(lease.row.id) if intents else []
    recorder = OutcomeRecorder(link, lease, run)
    await recorder.open()
    resolver = IntentResolver(recorder, _interrupted, in_place=FOUND_IN_PLACE)
    for writer in (table_writer(link.table), crm_writer(link.portal, link.writers)):
        requests = [_request(group) for group in _by_request([*intents, *answered], writer.side)]
        if requests and not writer.transactional:
            # Also where all values are in place: somebody else may have set one, and its request may still be carried
            # out where the order has its old owner again.
            await resolver.watch(writer, requests)
            await _wait_until_dead(link, lease)
        await _resolve(lease, recorder, resolver, writer, requests)
    for row in await link.store.runs(link.name, 20):
        if row.state == "running" and row.id != run:
            row.state, row.error, row.finished_at = "failed", "interrupted", link.clock.now()
            await link.store.finish_run(lease.current, row)


async def _resolve(
    lease: HeldLease,
    recorder: OutcomeRecorder,
    resolver: IntentResolver,
    writer: SideWriter,
    requests: Sequence[SilentRequest],
) -> None:
    """Decide the writes of some requests that can do nothing any more, some hundred writes at a time."""
    left = deque(requests)
    while left:
        some = [left.popleft()]
        while left and sum(len(request.open) for request in (*some, left[0])) <= CHUNK:
            some.append(left.popleft())
        await lease.prove()
        for _, writes in await resolver.look(writer, some, dead=True):
            for write in writes:
                recorder.skipped(write, CANNOT_KNOW)
        await recorder.commit()


async def abandon_intents(link: Link, lease: HeldLease, run: int) -> None:
    """Close every open intent of the link before a rebase, once no request that carried one can be alive any more.

    Their ends may not be there any more, so nothing is read; the ends to come begin with nothing of theirs under way.

    Args:
        link: The link.
        lease: Its lease.
        run: The run that rebases.
    """
    intents = await link.store.open_intents(lease.row.id)
    if any(intent.change.side is Side.CRM for intent in intents):
        await _wait_until_dead(link, lease)
    outcomes = [ChangeOutcome(intent.id, Outcome.UNCERTAIN, "the link was rebased") for intent in intents]
    if outcomes:
        await link.store.record(lease.current, run, outcomes, now=link.clock.now())


async def _wait_until_dead(link: Link, lease: HeldLease) -> None:
    until = time_of_day(link.clock.now() + link.request_life)
    log.info(
        "waiting until interrupted requests can no longer be alive",
        seconds=round(link.request_life, 1),
        until=until.isoformat(timespec="seconds"),
    )
    link.progress("settle", 0, None)
    await lease.wait(link.request_life)


def _by_request(sent: Sequence[StoredChange], side: Side) -> Iterator[list[StoredChange]]:
    """Given open intents and what was answered of their requests, yield those of one side by request, as sent."""
    mine = [one for one in sent if one.change.side is side]
    # One without a batch is of before syncd kept it: nothing is known of its neighbours.
    mine.sort(key=lambda one: (one.run, -one.id if one.batch is None else one.batch, one.id))
    for _, group in groupby(mine, key=lambda one: (one.run, -one.id if one.batch is None else one.batch)):
        yield list(group)


def _request(sent: Sequence[StoredChange]) -> SilentRequest:
    writes = [PendingWrite(one.id, one.change, one.run, one.sends) for one in sent]
    return SilentRequest(writes, {one.id for one in sent if one.outcome is Outcome.INTENDED})


def _interrupted(write: PendingWrite) -> str:
    return f"Run {write.run} was interrupted while it wrote this order"
