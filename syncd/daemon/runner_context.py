"""What all runners of a daemon share: how a pass is made and watched, how many at once, and how its end is reported.

A pass is one over the real engine, watched from outside for signs of life and for whether it is still wanted. The
engine takes the lease at the beginning of a pass. Between this daemon's decision and that moment another one may have
served the same fire time, so the decision is made once more under the lease, right before the run is opened.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, cast

from syncd.core.ports import Cancelled, Clock, Usage
from syncd.core.records import Lease, LinkRow, RunRow
from syncd.core.store import Store
from syncd.daemon.triggers import Task
from syncd.engine import reconcile as engine
from syncd.engine.report import Report
from syncd.status.health import Health, LinkHealth, was_cut_off
from syncd.wiring import AppContext

StillWanted = Callable[[float], Awaitable[bool]]


class AlreadyServed(Exception):
    """Another process has served the fire time meanwhile; no run was opened."""


@dataclass(slots=True)
class PassProgress:
    """The signs of life of one pass.

    Anything that shows progress is one: a page listed, a transaction of the state database, a second of waiting for the
    portal on purpose. A pass that shows some may be slow; one that shows none has hung.

    Args:
        clock: Time.
        stage: What it does now, in the engine's words.
        done, expected: How much of that is done, of how much where that is known.
        phases: Seconds spent observing and applying.
        usage: What it used of the portal, once it is over.
        begun: Called when the run is opened.
    """

    clock: Clock
    stage: str = ""
    done: int = 0
    expected: int | None = None
    phases: dict[str, float] = field(default_factory=dict)
    usage: Usage | None = None
    begun: Callable[[], None] = lambda: None
    started_at: float = 0.0
    _last: float = 0.0
    _phase: str = ""
    _phase_began: float = 0.0

    def __post_init__(self) -> None:
        self.started_at = self.clock.now()
        self._last = self.clock.monotonic()

    def touch(self) -> None:
        """Show a sign of life."""
        self._last = self.clock.monotonic()

    def report(self, stage: str, done: int, expected: int | None) -> None:
        """Take a report of the engine (`syncd.core.ports.Progress`)."""
        self.stage, self.done, self.expected = stage, done, expected
        self.touch()

    def enter(self, phase: str) -> None:
        """Begin a phase, and end the one before; an empty one only ends it."""
        now = self.clock.monotonic()
        if phase and not self._phase and not self.phases:
            self.begun()
        if self._phase:
            self.phases[self._phase] = self.phases.get(self._phase, 0.0) + now - self._phase_began
        self._phase, self._phase_began = phase, now

    def idle_seconds(self) -> float:
        """Return the seconds since the last sign of life."""
        return self.clock.monotonic() - self._last


class RunPass(Protocol):
    """Makes one pass of a link."""

    async def __call__(
        self,
        link: str,
        origin: str,
        task: Task,
        *,
        progress: PassProgress,
        cancelled: Cancelled,
        still_wanted: StillWanted,
    ) -> Report:
        """Make a pass.

        Args:
            link: The link's name.
            origin: schedule, trigger or signal; goes into the run.
            task: What it covers, and whom it serves.
            progress: Receives every sign of progress.
            cancelled: Set when the pass is to end after the batch in flight.
            still_wanted: Asked under the lease, before the run is opened, with the time it will be said to have begun.

        Raises:
            AlreadyServed: `still_wanted` said no.
            LeaseHeld: Another process works on this link.
            SyncdError: The pass could not even begin.
        """
        ...


def pass_runner(context: AppContext) -> RunPass:
    """Given what links are made from, return what makes their passes."""

    async def run_pass(
        link: str,
        origin: str,
        task: Task,
        *,
        progress: PassProgress,
        cancelled: Cancelled,
        still_wanted: StillWanted,
    ) -> Report:
        async with context.link(link, progress=progress.report, cancelled=cancelled) as opened:
            opened.store = cast("Store", _WatchedStore(opened.store, progress, still_wanted, task.serves))
            opened.clock = _WatchedClock(opened.clock, progress)
            try:
                return await engine.reconcile(opened, origin=origin, portion=task.portion)
            finally:
                progress.enter("")
                progress.usage = opened.portal.usage()

    return run_pass


class _WatchedStore:
    """A store whose every call counts as progress, and which opens no run that is no longer wanted.

    The requests that are open when a run over all orders begins are served by it; a run over some orders serves those
    it is given. They are closed under the same lease when it has ended by itself; one that is cut off leaves
    them to the next.
    """

    def __init__(
        self, store: Store, progress: PassProgress, still_wanted: StillWanted, serves: Collection[int]
    ) -> None:
        self._store = store
        self._progress = progress
        self._still_wanted = still_wanted
        self._serves = serves
        self._open: Sequence[int] = []

    def __getattr__(self, name: str) -> Any:
        self._progress.touch()
        return getattr(self._store, name)

    async def start_run(self, lease: Lease, kind: str, origin: str, now: float, source: int | None = None) -> int:
        if not await self._still_wanted(now):
            raise AlreadyServed
        self._open = [request.id for request in await self._store.open_requests([lease.link])]
        self._progress.enter("observe")
        return await self._store.start_run(lease, kind, origin, now, source)

    async def finish_run(self, lease: Lease, row: RunRow) -> None:
        await self._store.finish_run(lease, row)
        # A run that a crash left open is finished on the way; it counts as cut off, too.
        served = self._open if row.covers is None else [one for one in self._open if one in self._serves]
        if served and not was_cut_off(row):
            await self._store.close_requests(lease, served, row.finished_at or 0.0)

    async def save_plan(self, *args: Any, **kwargs: Any) -> list[int]:
        ids = await self._store.save_plan(*args, **kwargs)
        self._progress.enter("apply")
        return ids


class _WatchedClock:
    """A clock on which waiting on purpose (for the operating budget, in slices of a second) is a sign of life."""

    def __init__(self, clock: Clock, progress: PassProgress) -> None:
        self._progress = progress
        self.now = clock.now
        self.monotonic = clock.monotonic
        self.random = clock.random
        self._sleep = clock.sleep

    async def sleep(self, seconds: float) -> None:
        """See `Clock`."""
        await self._sleep(seconds)
        self._progress.touch()


NEW: Final = LinkHealth(Health.NEW)
SHORT_LEASE = 30.0
"""Seconds of a lease taken for one small write."""


class Observer(Protocol):
    """Receives the events of runners: for metrics, alerts and the status line."""

    def skipped(self, link: str, why: str) -> None:
        """A fire time has passed without a pass."""
        ...

    def passed_elsewhere(self, link: str) -> None:
        """Another process has made a pass of the link since this one did."""
        ...

    def begun(self, link: str) -> None:
        """A run was opened for a pass."""
        ...

    async def ended(self, result: PassResult) -> None:
        """A pass ended, or could not begin."""
        ...


@dataclass(frozen=True, slots=True)
class PassResult:
    """How an attempt at a pass ended.

    Args:
        link: The link's name.
        report: The result of the run; None if no run was opened.
        error: What ended it early, if anything did.
        before, after: The link's lasting health.
        progress: What it did, in phases, and what it used of the portal.
        previous: The pass before this one, by any daemon.
        failures, failures_before: How many passes have failed in a row by now, and had before this one.
        earlier: Where passes fail or failed, the lasting health before they did.
    """

    link: str
    report: Report | None
    error: BaseException | None
    before: LinkHealth
    after: LinkHealth
    progress: PassProgress
    previous: RunRow | None
    failures: int = 1
    failures_before: int = 1
    earlier: LinkHealth = NEW


class PassLimiter:
    """Lets a bounded number of passes run at once."""

    def __init__(self, places: int) -> None:
        self._places = asyncio.Semaphore(places)
        self.busy = 0

    @asynccontextmanager
    async def enter(self) -> AsyncIterator[None]:
        """Hold a place for the time of the block."""
        async with self._places:
            self.busy += 1
            try:
                yield
            finally:
                self.busy -= 1


@dataclass(frozen=True, slots=True)
class RunnerContext:
    """What all runners of a daemon share.

    Args:
        store: The state database.
        clock: Time and chance.
        holder: Who works here, for leases.
        run_pass: Makes a pass.
        gate: Bounds how many are made at once.
        observer: Receives the events.
        prune: Forgets idle passes under a lease (`SqlStore.prune`).
    """

    store: Store
    clock: Clock
    holder: str
    run_pass: RunPass
    gate: PassLimiter
    observer: Observer
    prune: Callable[[Lease, float, float], Awaitable[int]]

    @asynccontextmanager
    async def short_lease(self, link: LinkRow) -> AsyncIterator[Lease]:
        """Hold a link's lease for one small write.

        Raises:
            LeaseHeld: Another process works on the link.
        """
        lease = await self.store.acquire(link, self.holder, SHORT_LEASE, self.clock.now())
        try:
            yield lease
        finally:
            await self.store.release(lease)
