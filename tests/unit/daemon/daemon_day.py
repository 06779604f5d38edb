"""A day of a daemon in virtual time: the parts as the service puts them together, and what is measured of them."""

from __future__ import annotations

import gc
from collections import Counter
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Protocol

from syncd.config.model import Settings
from syncd.core.ports import Cancelled, Progress
from syncd.core.store import Store
from syncd.daemon.alerts import Alerts
from syncd.daemon.lifecycle import Tasks
from syncd.daemon.meters import MetricsObserver
from syncd.daemon.runner_context import PassLimiter, PassResult, RunnerContext, pass_runner
from syncd.daemon.schedule import LinkScheduler
from syncd.daemon.supervisor import Supervisor
from syncd.daemon.systemd import Liveness
from syncd.daemon.triggers import RequestPoller, Trigger
from syncd.engine.link import Link
from syncd.obs.metrics import Metrics
from tests.unit.daemon.virtual_daemon import LoopClock


class Works(Protocol):
    """What opens links (`syncd.wiring.AppContext`, as far as passes need it)."""

    @property
    def store(self) -> Store: ...

    def link(
        self, name: str, *, progress: Progress = ..., cancelled: Cancelled | None = ...
    ) -> AbstractAsyncContextManager[Link]: ...


class Day(MetricsObserver):
    """One daemon, put together as the service does it, that keeps what it was told and when."""

    def __init__(self, works: Works, clock: LoopClock, holder: str = "host:1") -> None:
        self.metrics = Metrics(process=False)
        self.notices: list[dict[str, Any]] = []
        alerts = Alerts(clock, lambda _way, _outcome: None, [self])  # type: ignore[list-item]
        super().__init__(self.metrics, alerts, works.store, clock)
        self.now = clock.now
        self.skips: list[tuple[str, float, str]] = []
        self.endings: list[tuple[str, float]] = []
        self.crashes: list[BaseException] = []
        self.troubles: list[tuple[str, str]] = []
        run_pass = pass_runner(works)  # type: ignore[arg-type]
        runner_context = RunnerContext(works.store, clock, holder, run_pass, PassLimiter(16), self, prune=_no_prune)
        self.scheduler = LinkScheduler(clock, lambda link: self.fleet.ask(link, Trigger.SCHEDULE), self._trouble)
        self.fleet = Supervisor(runner_context, self.scheduler, self.crashes.append)
        self.vitals = Liveness(clock, self.scheduler, self.fleet.passes, self.metrics.lag.set)
        self.tasks = Tasks(self.crashes.append)
        self.inbox = RequestPoller(works.store, clock, lambda: self.fleet.runners, self.fleet.ask)
        self.told = alerts

    way = "day"

    async def deliver(self, notice: dict[str, Any]) -> None:
        self.notices.append(notice)

    def start(self, settings: Settings) -> None:
        self.scheduler.start()
        self.fleet.configure(settings)
        self.tasks.start("liveness", self.vitals.run())
        self.tasks.start("poller", self.inbox.run())
        self.tasks.start("alerts", self.told.run())

    async def stop(self) -> None:
        await self.scheduler.stop()
        assert await self.fleet.stop("SIGTERM", 45)
        await self.tasks.end_all()

    def skipped(self, link: str, why: str) -> None:
        self.skips.append((link, self.now(), why))
        super().skipped(link, why)

    async def ended(self, result: PassResult) -> None:
        self.endings.append((result.link, self.now()))
        await super().ended(result)

    def _trouble(self, link: str, kind: str) -> None:
        self.troubles.append((link, kind))


async def _no_prune(*_args: object) -> int:
    return 0


def standing() -> Counter[str]:
    """How many of the daemon's own objects there are."""
    gc.collect()
    kinds = (type(one) for one in gc.get_objects())
    return Counter(kind.__name__ for kind in kinds if str(kind.__module__).startswith(("syncd.daemon", "asyncio")))


def handles() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())
