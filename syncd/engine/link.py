"""What a pass works with, and the lease it works under."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from syncd.core.guards import GuardLimits
from syncd.core.model import Policy
from syncd.core.ports import Cancelled, Clock, Portal, Progress, Table
from syncd.core.records import Lease, LinkRow
from syncd.core.store import Store
from syncd.errors import Stopped, SyncdError

T = TypeVar("T")


def no_progress(_stage: str, _done: int, _expected: int | None) -> None:
    """Tell nobody."""


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
        settle: Seconds after a lost answer in which a request that is still alive would show progress.
        lease_ttl: Seconds a lease lasts without being renewed.
        holder: Who works here (host, process), for the lease.
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
    lease_ttl: float = 120.0
    progress: Progress = no_progress
    cancelled: Cancelled = field(default_factory=Cancelled)


class Tenure:
    """A lease being held: proved before every step that writes, renewed along the way.

    A lease is renewed inline rather than by a timer, so that a process that hangs loses it.
    """

    def __init__(self, link: Link, row: LinkRow, lease: Lease) -> None:
        self._link = link
        self.row = row
        self._lease = lease
        self._renewed = link.clock.monotonic()

    @property
    def lease(self) -> Lease:
        """The lease as last renewed."""
        return self._lease

    async def prove(self) -> Lease:
        """Return the lease, renewed if a third of its time is over.

        Raises:
            LeaseLost: Another process has it now.
            Stopped: The stop was asked for.
        """
        if self._link.cancelled.is_set:
            raise Stopped(f"Stopped by {self._link.cancelled.reason}; what was in flight is recorded.")
        await self._renew_in_time()
        return self._lease

    async def _renew_in_time(self) -> None:
        if self._link.clock.monotonic() - self._renewed >= self._link.lease_ttl / 3:
            await self.renew()

    async def renew(self) -> None:
        """Prolong the lease now."""
        self._lease = await self._link.store.renew(self._lease, self._link.lease_ttl, self._link.clock.now())
        self._renewed = self._link.clock.monotonic()

    async def wait(self, seconds: float) -> None:
        """Wait, keeping the lease alive and listening for the stop."""
        slice_ = min(1.0, self._link.lease_ttl / 3)
        left = seconds
        while left > 0:
            await self.prove()
            await self._link.clock.sleep(min(slice_, left))
            left -= slice_

    async def through(self, parts: AsyncIterator[T]) -> AsyncIterator[T]:
        """Yield what comes, keeping the lease alive and listening for the stop for as long as it takes to come.

        A portal of a million bindings is listed for longer than a lease lasts, without a word in between.
        """
        while came := await self._patiently(_next(parts), self.prove):
            yield came[0]

    async def through_write(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what a write comes to, keeping the lease alive for as long as it takes; the stop waits for it.

        A portal that refuses for its limits is asked again for minutes; without its lease, a write that comes through
        at last would be nobody's.

        Raises:
            LeaseLost: Another process has it now. The write was given up; whether it was executed is not known.
        """
        return await self._patiently(work, self._renew_in_time)

    async def _patiently(self, work: Coroutine[Any, Any, T], keep: Callable[[], Awaitable[object]]) -> T:
        task = asyncio.ensure_future(work)
        try:
            await asyncio.sleep(0)
            while not task.done():
                await keep()
                await _first(task, self._link.clock.sleep(1.0))
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


async def _first(task: asyncio.Task[T], pause: Awaitable[None]) -> None:
    """Wait for whichever comes first; the pause is given up, the task is not."""
    waiting = asyncio.ensure_future(pause)
    try:
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        await asyncio.wait({waiting})


@asynccontextmanager
async def tenure(link: Link) -> AsyncIterator[Tenure]:
    """Hold the link's lease for the time of the block.

    Raises:
        LeaseHeld: Another process holds it; nothing was done.
    """
    held = await _take(link)
    try:
        if held.row.fingerprint != link.fingerprint and await _untouched(link, held.row):
            # Whoever mistyped an address at first has nothing to rebase. It is a new generation all the same, so that
            # no plan made for the other ends can be applied to these.
            await link.store.rebase(await held.prove(), link.fingerprint, link.clock.now())
            await link.store.release(held.lease)
            held = await _take(link)
        yield held
    finally:
        with suppress(SyncdError):
            await link.store.release(held.lease)


async def _take(link: Link) -> Tenure:
    row = await link.store.link(link.name, link.fingerprint)
    held = Tenure(link, row, await link.store.acquire(row, link.holder, link.lease_ttl, link.clock.now()))
    # The generation may have changed while somebody else held the lease.
    held.row = await link.store.link(link.name, link.fingerprint)
    return held


async def _untouched(link: Link, row: LinkRow) -> bool:
    """Return whether the link's state protects nothing yet: no run came to its end, nothing is agreed or in doubt."""
    store = link.store
    return not (await store.completed(row.id) or await store.agreed_count(row.id) or await store.open_intents(row.id))
