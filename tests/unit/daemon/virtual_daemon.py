"""What the daemon's tests stand on: a loop whose time is virtual, a clock that reads it, and passes that are scripted."""

from __future__ import annotations

import asyncio
import copy
import itertools
import random
import selectors
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar, TypeVarTuple, Unpack

import time_machine

from syncd.config.schedule import parse_schedule
from syncd.core.model import Facts, Hold, HoldKind
from syncd.core.order_ranges import Coverage
from syncd.core.ports import Cancelled
from syncd.core.records import GuardHit, Lease, RunRow, StoredHold
from syncd.daemon.runner import LinkRunner
from syncd.daemon.runner_context import PassLimiter, PassProgress, PassResult, RunnerContext, StillWanted
from syncd.daemon.runner_context import _WatchedStore as WatchedStore
from syncd.daemon.triggers import RequestPoller, Task, Trigger
from syncd.engine.report import Report
from syncd.errors import Stopped, SyncdError
from syncd.status.fire_times import FireTimes
from tests.fakes.store import MemoryStore

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

NOON = 1_800_000_000.0
"""When virtual time begins; a multiple of five minutes."""

HOUR = 3600.0


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop on which nobody waits: when all tasks sleep, its time moves to the first one's end.

    While a thread is at work time stands still. The system's clock, which APScheduler reads, shows the same time.
    """

    def __init__(self) -> None:
        self._elapsed = 0.0
        self._threads = 0
        self.traveller: time_machine.Traveller | None = None
        super().__init__(_VirtualSelector(self))

    def time(self) -> float:
        return self._elapsed

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        self._threads += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._thread_done)
        return future

    def _thread_done(self, _future: Any) -> None:
        self._threads -= 1

    def pass_time(self, seconds: float) -> bool:
        if self._threads:
            return False
        self._elapsed += seconds
        if self.traveller is not None:
            self.traveller.shift(seconds)
        return True


class _VirtualSelector(selectors.DefaultSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        ready = super().select(0)
        if ready or self._loop.pass_time(timeout):
            return ready
        return super().select(None)  # a thread is at work, and will wake the loop


class LoopClock:
    """See `syncd.core.ports.Clock`: reads the running loop's time, also from a thread that works for the loop.

    `jump` sets the time of day apart from it.
    """

    def __init__(self, seed: int = 1) -> None:
        self.jump = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._chance = random.Random(seed)

    def now(self) -> float:
        return NOON + self.jump + self.monotonic()

    def monotonic(self) -> float:
        with suppress(RuntimeError):  # a thread has none of its own
            self._loop = asyncio.get_running_loop()
        assert self._loop is not None
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def random(self) -> float:
        return self._chance.random()


class QuickStore(MemoryStore):
    """The store in memory for days of passes: runs are copied, but not deeply, since nobody here writes into them."""

    async def runs(self, link: str | None, limit: int, before: int | None = None) -> list[RunRow]:
        found = (row for row in reversed(self._runs.values()) if link is None or row.link == link)
        older = (row for row in found if before is None or row.id < before)
        return [copy.copy(row) for row in itertools.islice(older, limit)]


@dataclass
class Outcome:
    """How a scripted pass ends, and how long it takes."""

    state: str = "applied"
    error: SyncdError | None = None
    raises: BaseException | None = None
    before_run: SyncdError | None = None
    holds: int = 0
    seconds: float = 1.0
    first_sync: bool = False
    guards: tuple[str, ...] = ()
    said: str = "too much"
    holds_plan: int | None = None
    """The run whose refused plan a later one finds again."""


OK = Outcome()


class ScriptedPasses:
    """Makes passes that end as told, through the leases and runs of a store, as the engine does (`RunPass`)."""

    def __init__(self, store: MemoryStore, clock: LoopClock, holder: str = "host:1") -> None:
        self.outcomes: dict[str, deque[Outcome]] = defaultdict(deque)
        self.always: dict[str, Outcome] = {}
        self.made: list[tuple[str, float, str]] = []
        """Each pass that opened a run: link, when it began, origin."""
        self.tried = 0
        self.tasks: list[Task] = []
        self._store = store
        self._clock = clock
        self._holder = holder

    def times(self, link: str = "shop") -> list[float]:
        return [at - NOON for name, at, _ in self.made if name == link]

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
        store, clock = WatchedStore(self._store, progress, still_wanted, task.serves), self._clock
        self.tried += 1
        self.tasks.append(task)
        outcome = self.outcomes[link].popleft() if self.outcomes[link] else self.always.get(link, OK)
        if outcome.before_run is not None:
            raise outcome.before_run
        row = await store.link(link, "ends")
        lease = await store.acquire(row, self._holder, 60, clock.now())
        try:
            began = clock.now()
            number = await store.start_run(lease, "pass", origin, began)
            self.made.append((link, began, origin))
            run = RunRow(number, link, row.id, "pass", outcome.state, origin, started_at=began)
            if task.portion is not None and not task.portion.slice:
                run.covers, run.part = task.portion.orders, task.portion.called
            run.first_sync = outcome.first_sync
            report = Report(run, error=outcome.error)
            left = outcome.seconds
            while left > 0:
                await clock.sleep(min(1.0, left))
                left -= 1
                progress.touch()
                lease = await store.renew(lease, 60, clock.now())
                if cancelled.is_set:
                    report.error = Stopped(f"Stopped by {cancelled.reason}.")
                    run.state = "failed"
                    break
            if outcome.raises is not None:
                raise outcome.raises
            run.error = report.error.message if report.error is not None else ""
            run.guards = [GuardHit(name, None, 1, 2) for name in outcome.guards]
            if outcome.guards:
                run.error = outcome.said
                run.source = outcome.holds_plan if outcome.holds_plan != number else None
            run.finished_at = clock.now()
            report.holds = [hold(order, clock.now()) for order in range(1, outcome.holds + 1)]
            run.counts.holds = outcome.holds
            await store.set_holds(
                lease,
                number,
                opened=[StoredHold(one, sticky=False) for one in report.holds],
                released=[],
                now=clock.now(),
            )
            report.holds = [one.hold for one in await store.holds(row.id)]
            await store.finish_run(lease, run)
            return report
        finally:
            await store.release(lease)


def hold(order: int, since: float, kind: HoldKind = HoldKind.EDIT_EDIT) -> Hold:
    return Hold(order, kind, Facts(None, None, None), "both sides changed", since=since)


async def until(hour: float, clock: LoopClock) -> None:
    """Sleep until so many hours after `NOON`."""
    await clock.sleep(NOON + hour * HOUR - clock.now())


@dataclass
class Watcher:
    """Keeps what runners tell (`Observer`)."""

    endings: list[PassResult] = field(default_factory=list)
    skips: list[tuple[str, str]] = field(default_factory=list)
    overtakings: list[str] = field(default_factory=list)
    beginnings: list[str] = field(default_factory=list)

    def skipped(self, link: str, why: str) -> None:
        self.skips.append((link, why))

    def passed_elsewhere(self, link: str) -> None:
        self.overtakings.append(link)

    def begun(self, link: str) -> None:
        self.beginnings.append(link)

    async def ended(self, result: PassResult) -> None:
        self.endings.append(result)

    def healths(self) -> list[str]:
        return [result.after.health.value for result in self.endings]


class Daemon:
    """One daemon's runners over a shared store, asked at their slots as APScheduler would ask."""

    def __init__(self, store: MemoryStore, clock: LoopClock, holder: str = "host:1", places: int = 16) -> None:
        self.store = store
        self.clock = clock
        self.passes = ScriptedPasses(store, clock, holder)
        self.watcher = Watcher()
        self.pruned: list[float] = []
        self.desk = RunnerContext(
            store, clock, holder, self.passes, PassLimiter(places), self.watcher, prune=self._prune
        )
        self.runners: dict[str, LinkRunner] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def add(self, name: str = "shop", schedule: str | None = "5m", *, start: bool = True) -> LinkRunner:
        slots = None if schedule is None else FireTimes(name, parse_schedule(schedule))
        runner = self.runners[name] = LinkRunner(name, slots, self.desk)
        self._tasks.append(asyncio.create_task(runner.run()))
        if slots is not None:
            self._tasks.append(asyncio.create_task(self._ask_at(slots, runner)))
        if start:
            runner.ask(Trigger.START)
        return runner

    async def cover_all(self) -> None:
        """Note that all orders of the link have just been compared."""
        link = await self.store.find_link("shop")
        assert link is not None
        lease = await self.store.acquire(link, "test", 60, self.clock.now())
        await self.store.set_coverage(lease, Coverage.whole(self.clock.now()))
        await self.store.release(lease)

    def listen(self) -> None:
        """Notice by itself what is asked through the store."""
        poller = RequestPoller(
            self.store, self.clock, lambda: self.runners, lambda link, who: self.runners[link].ask(who)
        )
        self._tasks.append(asyncio.create_task(poller.run()))

    async def trigger(self, name: str = "shop") -> None:
        """Have a person ask for a pass, and this daemon notice it."""
        await self.store.post_request(name, "trigger", "anna@host", self.clock.now())
        self.runners[name].ask(Trigger.REQUEST)

    async def kill(self) -> None:
        """Cancel everything that runs. Raise what one of its tasks had failed with before."""
        await cancel(*self._tasks)

    async def _ask_at(self, slots: FireTimes, runner: LinkRunner) -> None:
        while True:
            now = self.clock.now()
            slot = slots.after(now)
            assert slot is not None
            await self.clock.sleep(slot - now)
            runner.ask(Trigger.SCHEDULE)

    async def _prune(self, _lease: Any, now: float, _days: float) -> int:
        self.pruned.append(now)
        return 0


async def cancel(*tasks: asyncio.Task[None]) -> None:
    """Cancel tasks, and raise what one of them had failed with before."""
    for task in tasks:
        task.cancel()
    for ending in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(ending, Exception):
            raise ending


def slot_times(name: str, schedule: str, until: float) -> list[float]:
    """The slots of a link within so many seconds from NOON, as seconds from NOON."""
    slots, found, at = FireTimes(name, parse_schedule(schedule)), [], NOON
    while (slot := slots.after(at)) is not None and slot <= NOON + until:
        found.append(slot - NOON)
        at = slot
    return found


def rounded(times: Iterable[float]) -> list[int]:
    return [round(at) for at in times]


async def kill_hard(daemon: Daemon, holder: str) -> None:
    """End a daemon as SIGKILL does: its lease and its run stay as they are, its lock goes."""

    async def keep(lease: Lease) -> None:
        return

    daemon.store.release = keep  # type: ignore[method-assign]
    await daemon.kill()
    del daemon.store.release
    daemon.store.bury(holder)
