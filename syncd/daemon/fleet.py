"""All runners of a daemon: one for each link of the configuration, all at work side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import structlog

from syncd.config.model import LinkSettings, Settings
from syncd.daemon.desk import Desk
from syncd.daemon.health import Health
from syncd.daemon.pulse import Pulse
from syncd.daemon.runner import LinkRunner
from syncd.daemon.schedule import Timetable
from syncd.daemon.slots import Slots
from syncd.daemon.status import Live
from syncd.daemon.tasks import Tasks
from syncd.daemon.verdict import Ask

log = structlog.get_logger("syncd.daemon")


class Changed(NamedTuple):
    """Which links a new configuration added, removed and changed."""

    added: list[str]
    removed: list[str]
    changed: list[str]


class Fleet:
    """The runners.

    Args:
        desk: What they work with.
        timetable: The schedules, which ask them.
        crashed: Told of a runner that ended with an error, which is a bug.
    """

    def __init__(self, desk: Desk, timetable: Timetable, crashed: Callable[[BaseException], None]) -> None:
        self.runners: dict[str, LinkRunner] = {}
        self._desk = desk
        self._timetable = timetable
        self._links: dict[str, LinkSettings] = {}
        self._tasks = Tasks(crashed)

    def configure(self, settings: Settings) -> Changed:
        """Look after the links of these settings from now on. A pass at work goes on as it began."""
        removed = [name for name in self._links if name not in settings.links]
        added = [name for name in settings.links if name not in self._links]
        changed = [name for name, link in settings.links.items() if name in self._links and self._links[name] != link]
        for name in removed:
            self._timetable.drop(name)
            self.runners.pop(name).stop("its removal from the configuration")
        for name, link in settings.links.items():
            self._set(name, link, settings)
        for name in added:
            self.runners[name].ask(Ask.START)
            self._tasks.start(f"link {name}", self.runners[name].run())
        for name in changed:
            self.runners[name].ask(Ask.RELOAD)
        self._links = dict(settings.links)
        return Changed(added, removed, changed)

    def ask(self, link: str, who: Ask) -> None:
        """Want a pass of a link; one that is not looked after here is left alone."""
        if link in self.runners:
            self.runners[link].ask(who)

    def ask_all(self, who: Ask) -> None:
        """Want a pass of every link."""
        for runner in self.runners.values():
            runner.ask(who)

    def state_back(self) -> None:
        """Make the passes again that failed because the state database was out of reach."""
        for runner in self.runners.values():
            runner.state_back()

    def pulses(self) -> Iterator[tuple[str, Pulse]]:
        """Yield the passes at work."""
        for name, runner in self.runners.items():
            if runner.working is not None:
                yield name, runner.working

    def any_turned_away(self) -> bool:
        """Return whether a link is parked because its credentials, or a right, are refused."""
        return any(runner.condition.health is Health.PARKED for runner in self.runners.values())

    def lives(self) -> dict[str, Live]:
        """Return what the runners know of their links."""
        now = self._desk.clock.now()
        found = {}
        for name, runner in self.runners.items():
            wait = runner.retry_in()
            found[name] = Live(
                condition=runner.condition,
                working=runner.working,
                standby=runner.standby,
                failures=runner.failures,
                retry_at=None if wait is None else now + wait,
                next_run=self._timetable.next_run(name),
                last=runner.last,
            )
        return found

    async def stop(self, reason: str, timeout: float) -> bool:  # noqa: ASYNC109 - what it means is the caller's to say
        """Begin no pass any more, and wait for those at work to finish their batch in flight.

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
        slots = None if link.schedule is None else Slots(name, link.schedule, settings.daemon.timezone)
        if name in self.runners:
            self.runners[name].slots = slots
        else:
            self.runners[name] = LinkRunner(name, slots, self._desk)
        if slots is None:
            self._timetable.drop(name)
        else:
            self._timetable.set(name, slots, settings.daemon.jitter_seconds(slots.schedule))
