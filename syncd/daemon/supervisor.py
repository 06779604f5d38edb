"""All runners of a daemon: one for each link of the configuration, all at work side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import structlog

from syncd.config.model import LinkSettings, Settings
from syncd.daemon.lifecycle import Tasks
from syncd.daemon.runner import LinkRunner, RunnerState
from syncd.daemon.runner_context import PassProgress, RunnerContext
from syncd.daemon.schedule import LinkScheduler
from syncd.daemon.triggers import Trigger
from syncd.status.fire_times import FireTimes, recent_times
from syncd.status.health import Health, LinkHealth

log = structlog.get_logger("syncd.daemon")


class Changed(NamedTuple):
    """Which links a new configuration added, removed and changed."""

    added: list[str]
    removed: list[str]
    changed: list[str]


class Supervisor:
    """The runners.

    Args:
        context: What they work with.
        scheduler: The schedules, which ask them.
        crashed: Called with the error of a runner that crashed, which is a bug.
    """

    def __init__(
        self, context: RunnerContext, scheduler: LinkScheduler, crashed: Callable[[BaseException], None]
    ) -> None:
        self.runners: dict[str, LinkRunner] = {}
        self._context = context
        self._scheduler = scheduler
        self._links: dict[str, LinkSettings] = {}
        self._tasks = Tasks(crashed)

    def configure(self, settings: Settings) -> Changed:
        """Run the links of these settings from now on. A pass at work continues with the old settings."""
        removed = [name for name in self._links if name not in settings.links]
        added = [name for name in settings.links if name not in self._links]
        changed = [name for name, link in settings.links.items() if name in self._links and self._links[name] != link]
        for name in removed:
            self._scheduler.drop(name)
            self.runners.pop(name).stop("its removal from the configuration")
        for name, link in settings.links.items():
            self._set(name, link, settings)
        for name in added:
            self.runners[name].ask(Trigger.START)
            self._tasks.start(f"link {name}", self.runners[name].run())
        for name in changed:
            self.runners[name].ask(Trigger.RELOAD)
        self._links = dict(settings.links)
        return Changed(added, removed, changed)

    def ask(self, link: str, who: Trigger) -> None:
        """Ask for a pass of a link; a link without a runner is ignored."""
        if link in self.runners:
            self.runners[link].ask(who)

    def hint(self, link: str, orders: set[int]) -> None:
        """Bring some orders of a link forward; a link without a runner is ignored."""
        if link in self.runners:
            self.runners[link].hint(orders)

    def hint_all(self, link: str) -> None:
        """Bring a pass over all orders of a link forward; a link without a runner is ignored."""
        if link in self.runners:
            self.runners[link].hint_all()

    def ask_all(self, who: Trigger) -> None:
        """Ask for a pass of every link."""
        for runner in self.runners.values():
            runner.ask(who)

    def state_back(self) -> None:
        """Retry the passes that failed while the state database was unreachable."""
        for runner in self.runners.values():
            runner.state_back()

    def passes(self) -> Iterator[tuple[str, PassProgress]]:
        """Yield the passes at work."""
        for name, runner in self.runners.items():
            if runner.working is not None:
                yield name, runner.working

    def any_turned_away(self) -> bool:
        """Return whether a link is parked because its credentials, or a right, are refused."""
        return any(runner.condition.health is Health.PARKED for runner in self.runners.values())

    def states(self) -> dict[str, RunnerState]:
        """Return what the runners know of their links by themselves."""
        now = self._context.clock.now()
        found = {}
        for name, runner in self.runners.items():
            wait = runner.retry_in()
            expected = self._scheduler.next_run(name) if wait is None else now + wait
            found[name] = RunnerState(runner.condition, runner.working, runner.standby, runner.last, expected)
        return found

    def healths(self) -> dict[str, LinkHealth]:
        """Return what the passes of each link say of it, as far back as this daemon has seen them."""
        return {name: runner.condition for name, runner in self.runners.items()}

    def troubles(self) -> tuple[tuple[str, str], ...]:
        """Return the links whose newest pass opened no run, each with why."""
        return tuple((name, runner.trouble) for name, runner in self.runners.items() if runner.trouble)

    async def stop(self, reason: str, timeout: float) -> bool:  # noqa: ASYNC109 - what it means is the caller's to say
        """Start no more passes, and wait for those at work to finish their batch in flight.

        Returns:
            Whether all did within `timeout` seconds; the others were cut off, and their journals will be healed.
        """
        for runner in self.runners.values():
            runner.stop(reason)
        return await self._tasks.finish(timeout)

    def cut_off(self) -> None:
        """Stop everything at once."""
        self._tasks.cut_off()

    def _set(self, name: str, link: LinkSettings, settings: Settings) -> None:
        times = None if link.schedule is None else FireTimes(name, link.schedule, settings.daemon.timezone)
        between = None if link.recent is None else recent_times(name, link.recent)
        if name in self.runners:
            self.runners[name].times = times
        else:
            self.runners[name] = LinkRunner(name, times, self._context)
        self.runners[name].between = between
        if times is None:
            self._scheduler.drop(name)
        else:
            self._scheduler.set(name, times, settings.daemon.jitter_seconds(times.schedule))
            self._scheduler.set_between(name, between)
