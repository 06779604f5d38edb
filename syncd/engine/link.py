"""What a pass works with, and the lease it works under."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from syncd.core.guards import GuardLimits
from syncd.core.model import Policy
from syncd.core.ports import Cancelled, Clock, HighWaterMark, Portal, Progress, Table
from syncd.core.records import KnownRun, Lease, LinkRow, Reached
from syncd.core.store import Store
from syncd.engine.learned_keys import LearnedKeys
from syncd.errors import Stopped, SyncdError

T = TypeVar("T")

TELL_EVERY = 3.0
"""Seconds between two times that a run says how far it has got: one small write each, and only where there is news."""


def no_progress(_stage: str, _done: int, _expected: int | None) -> None:
    """Ignore it."""


class NoMark:
    """A high-water mark that is not kept."""

    async def read(self, link: str) -> KnownRun | None:  # noqa: ARG002 - the port's
        """Return nothing."""
        return None

    async def read_ends(self, fingerprint: str) -> KnownRun | None:  # noqa: ARG002 - the port's
        """Return nothing."""
        return None

    async def write(self, link: str, known: KnownRun | None) -> None:
        """Do nothing."""

    async def write_ends(self, fingerprint: str, known: KnownRun | None) -> None:
        """Do nothing."""


@dataclass(slots=True)
class Link:
    """Everything one pass of one link needs; made by the wiring.

    Args:
        name: The link's name in the configuration.
        fingerprint: Names the ends: portal, database, table, columns, scope.
        changed_ends: Given a fingerprint kept earlier, names the parts that are different now.
        policy: Direction, conflict policy, scope.
        limits: The guards' limits.
        ask_first_sync: A first sync that would write waits for `apply`.
        verify_owners: Ask whether an owner exists before an order is bound to it.
        plan_ttl: Seconds a stored plan may be applied.
        request_life: Seconds a request may still be executed by the portal after it was sent (60 in the cloud).
        settle: Seconds after a lost answer at which its orders are read for the second time, in the hope of progress.
        slices: In how many parts scheduled passes cover the link, one part each.
        recent_orders: How many of the newest orders a pass over recent ones covers; 0 where there are no such passes.
        writers: How many batches of the portal's writes may be under way at once.
        portal_address: The portal's host as configured; empty where nothing is to be kept of it.
        lease_ttl: Seconds a lease lasts without being renewed.
        holder: Who works here (host, process), for the lease.
        order_keys: What is known of the orders' keys, where the table holds those instead of order ids.
        progress: Called with how far the run has got; the last call is kept in `reached`, and with the lease.
        high_water: What is known of the link's runs outside the state database.
    """

    name: str
    fingerprint: str
    policy: Policy
    limits: GuardLimits
    portal: Portal
    table: Table
    store: Store
    clock: Clock
    holder: str
    changed_ends: Callable[[str], Sequence[str]] = lambda _stored: ()
    ask_first_sync: bool = True
    verify_owners: bool = True
    plan_ttl: float = 86400.0
    request_life: float = 60.0
    settle: float = 5.0
    slices: int = 1
    recent_orders: int = 0
    writers: int = 4
    portal_address: str = ""
    lease_ttl: float = 120.0
    order_keys: LearnedKeys | None = None
    progress: Progress = no_progress
    high_water: HighWaterMark = field(default_factory=NoMark)
    cancelled: Cancelled = field(default_factory=Cancelled)
    reached: Reached | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        report = self.progress

        def progress(stage: str, done: int, expected: int | None) -> None:
            self.reached = Reached(stage, done, expected)
            report(stage, done, expected)

        self.progress = progress


class HeldLease:
    """A lease being held: proved before every step that writes, renewed along the way.

    A lease is renewed inline rather than by a timer, so that a process that hangs loses it.
    """

    def __init__(self, link: Link, row: LinkRow, current: Lease) -> None:
        self._link = link
        self.row = row
        self._current = current
        self._renewed = link.clock.monotonic()
        self._stored: Reached | None = None

    @property
    def current(self) -> Lease:
        """The lease as last renewed."""
        return self._current

    async def prove(self) -> Lease:
        """Return the lease, renewed if a third of its time is over.

        Raises:
            LeaseLost: Another process has it now.
            Stopped: The stop was asked for.
        """
        if self._link.cancelled.is_set:
            raise Stopped(f"Stopped by {self._link.cancelled.reason}; what was in flight is recorded.")
        await self.keep()
        return self._current

    async def keep(self) -> None:
        """Renew the lease if a third of its time is over, or the run has got further; the stop waits.

        Raises:
            LeaseLost: Another process has it now.
        """
        news = self._link.reached != self._stored
        pause = min(TELL_EVERY, self._link.lease_ttl / 3) if news else self._link.lease_ttl / 3
        if self._link.clock.monotonic() - self._renewed >= pause:
            await self.renew()

    async def renew(self) -> None:
        """Prolong the lease now."""
        link, self._stored = self._link, self._link.reached
        self._current = await link.store.renew(self._current, link.lease_ttl, link.clock.now(), self._stored)
        self._renewed = self._link.clock.monotonic()

    async def wait(self, seconds: float) -> None:
        """Wait, keeping the lease alive and listening for the stop."""
        slice_ = min(1.0, self._link.lease_ttl / 3)
        left = seconds
        while left > 0:
            await self.prove()
            await self._link.clock.sleep(min(slice_, left))
            left -= slice_

    async def iterate(self, parts: AsyncIterator[T]) -> AsyncIterator[T]:
        """Yield the items of an iterator while keeping the lease alive and watching for the stop.

        Listing a portal of a million bindings takes longer than one lease lasts.
        """
        while came := await self.keep_during(_next(parts)):
            yield came[0]

    async def wait_for_any(self, tasks: Collection[asyncio.Task[T]], seconds: float) -> None:
        """Wait until one of some writes under way is over, or a time has passed, keeping the lease alive.

        A portal that refuses for its limits is asked again for minutes; without its lease, a write that comes through
        at last would belong to no lease. The stop waits for what is under way; where nothing is, it ends the wait.

        Raises:
            LeaseLost: Another process has it now; the writes are still under way.
            Stopped: The stop was asked for, and nothing is under way.
        """
        await asyncio.sleep(0)
        until = self._link.clock.monotonic() + seconds
        while not any(task.done() for task in tasks):
            left = until - self._link.clock.monotonic()
            if left <= 0:
                return
            await (self.keep() if tasks else self.prove())
            await _first(tasks, self._link.clock.sleep(min(1.0, left)))

    async def keep_during(self, work: Coroutine[Any, Any, T], *, stoppable: bool = True) -> T:
        """Do a reading, keeping the lease alive for as long as it takes.

        A portal that asks for patience (Retry-After, up to a minute, several times) can take longer than a lease lasts.

        Args:
            work: The reading.
            stoppable: Whether it is given up when the stop is asked for.

        Raises:
            LeaseLost: Another process has it now; the reading was given up.
            Stopped: The stop was asked for; the reading was given up.
        """
        task = asyncio.ensure_future(work)
        try:
            await asyncio.sleep(0)
            while not task.done():
                await (self.prove() if stoppable else self.keep())
                await _first([task], self._link.clock.sleep(1.0))
            return task.result()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task})


async def _next(parts: AsyncIterator[T]) -> tuple[T, ...]:
    """Return the next one, or nothing at the end."""
    try:
        return (await anext(parts),)
    except StopAsyncIteration:
        return ()


async def _first(tasks: Collection[asyncio.Task[T]], pause: Awaitable[None]) -> None:
    """Wait until one of the tasks or the pause is over; the pause is given up then, the tasks are not."""
    waiting = asyncio.ensure_future(pause)
    try:
        await asyncio.wait({*tasks, waiting}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        await asyncio.wait({waiting})


@asynccontextmanager
async def hold_lease(link: Link) -> AsyncIterator[HeldLease]:
    """Hold the link's lease for the time of the block.

    Raises:
        LeaseHeld: Another process holds it; nothing was done.
    """
    lease = await _take(link)
    try:
        if lease.row.fingerprint != link.fingerprint and await _untouched(link, lease.row):
            # After a mistyped address there is nothing to rebase. It is a new generation all the same, so that
            # no plan made for the other ends can be applied to these.
            await link.store.rebase(await lease.prove(), link.fingerprint, link.clock.now())
            await link.store.release(lease.current)
            lease = await _take(link)
        if link.order_keys is not None:
            link.order_keys.work_under(lease, link.progress)
        yield lease
    finally:
        with suppress(SyncdError):
            await link.store.release(lease.current)


async def _take(link: Link) -> HeldLease:
    row = await link.store.link(link.name, link.fingerprint)
    lease = HeldLease(link, row, await link.store.acquire(row, link.holder, link.lease_ttl, link.clock.now()))
    # The generation may have changed while somebody else held the lease.
    lease.row = await link.store.link(link.name, link.fingerprint)
    return lease


async def _untouched(link: Link, row: LinkRow) -> bool:
    """Return whether the link's state protects nothing yet: no run came to its end, nothing is agreed or in doubt."""
    store = link.store
    return not (await store.completed(row.id) or await store.agreed_count(row.id) or await store.open_intents(row.id))
