"""Reports to the service manager: readiness, one line of status, and that this process is alive.

A pass may take hours as long as it makes progress; without progress it has hung. A scheduler that misses its wake-up
never wakes again, so its next fire time must not lie in the past. A portal or a database that is down does not count
against this process: killing it would turn an outage into a storm of restarts.

The protocol is sd_notify(3). Outside systemd nothing is sent; the same checks answer the liveness probe.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import structlog

from syncd.core.ports import Clock
from syncd.daemon.lifecycle import Process
from syncd.daemon.runner import RunnerState
from syncd.daemon.runner_context import PassProgress
from syncd.daemon.schedule import LinkScheduler
from syncd.obs.clock import time_of_day
from syncd.status.health import Health

log = structlog.get_logger("syncd.daemon")

FROZEN: Final = 1800.0
"""Seconds without a sign of life after which a pass is frozen. A portal that blocks a method keeps a listing waiting
for ten minutes at a time."""
SILENT: Final = 60.0
"""Seconds a call of the schedule may be late."""
LAGGING: Final = 20.0
"""Seconds the event loop may have been late."""
TICK: Final = 1.0
SET: Final = 5.0
"""Seconds by which the system's clock must have jumped before the schedule is computed again."""


class Liveness:
    """Checks whether this process still makes progress.

    Args:
        clock: Time.
        scheduler: The schedules.
        passes: The passes at work, by link.
        lagged: Receives the lag of the event loop in seconds, once a second.
    """

    def __init__(
        self,
        clock: Clock,
        scheduler: LinkScheduler,
        passes: Callable[[], Iterable[tuple[str, PassProgress]]],
        lagged: Callable[[float], None],
    ) -> None:
        self._clock = clock
        self._scheduler = scheduler
        self._passes = passes
        self._lagged = lagged
        self._lag = 0.0

    async def run(self) -> None:
        """Measure the lag of the event loop every second, and detect changes of the system clock. Never returns."""
        clock = self._clock
        offset = clock.now() - clock.monotonic()
        while True:
            began = clock.monotonic()
            await clock.sleep(TICK)
            self._lag = max(0.0, clock.monotonic() - began - TICK)
            self._lagged(self._lag)
            apart = clock.now() - clock.monotonic()
            if abs(apart - offset) > SET:
                log.warning("system clock was set", seconds=round(apart - offset, 1))
                self._scheduler.realign()
                offset = apart
            elif self._scheduler.overdue() > SILENT / 2:
                self._scheduler.wake()

    def faults(self) -> list[str]:
        """Return what is wrong with this process, as phrases; empty while it is sound."""
        found = [
            f"the pass of {link} has made no progress for {progress.idle_seconds():.0f} s"
            for link, progress in self._passes()
            if progress.idle_seconds() > FROZEN
        ]
        if (late := self._scheduler.overdue()) > SILENT:
            found.append(f"the schedule is {late:.0f} s late")
        if self._lag > LAGGING:
            found.append(f"the event loop was {self._lag:.0f} s late")
        return found


async def keep_alive(notifier: Notifier, liveness: Liveness, clock: Clock) -> None:
    """Send the watchdog's keep-alive twice in each of its intervals, as long as this process is sound."""
    if not notifier.watchdog:
        return
    logged = False
    while True:
        faults = liveness.faults()
        if not faults:
            notifier.keep_alive()
        elif not logged:
            log.critical("watchdog no longer petted", faults=faults)
        logged = bool(faults)
        await clock.sleep(notifier.watchdog / 2)


class Notifier:
    """Sends state changes to `$NOTIFY_SOCKET`.

    Args:
        environ: The environment of the process.
        pid: This process, compared with `$WATCHDOG_PID`.
    """

    def __init__(self, environ: Mapping[str, str], pid: int) -> None:
        path = environ.get("NOTIFY_SOCKET", "")
        # A leading @ means a name in Linux's abstract namespace, which begins with a zero byte.
        self._address = "\0" + path[1:] if path.startswith("@") else path
        microseconds = environ.get("WATCHDOG_USEC", "")
        for_us = environ.get("WATCHDOG_PID", str(pid)) == str(pid)
        self.watchdog = int(microseconds) / 1e6 if microseconds.isdigit() and for_us else 0.0
        """Seconds within which a keep-alive is expected; 0 where the watchdog is off."""
        self._status = ""

    @property
    def listening(self) -> bool:
        """Whether a service manager is there to listen."""
        return bool(self._address)

    def send(self, **fields: str | int) -> None:
        """Send assignments such as READY=1. A manager that does not listen is ignored."""
        if not self._address:
            return
        message = "\n".join(f"{name}={value}" for name, value in fields.items())
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.settimeout(1.0)
            out.sendto(message.encode(), self._address)

    def ready(self) -> None:
        """The service is up (again)."""
        self.send(READY=1)

    def status(self, text: str) -> None:
        """Show one line in `systemctl status`; sent only when it differs from the last."""
        if text != self._status:
            self._status = text
            self.send(STATUS=text.replace("\n", " "))

    def reloading(self) -> None:
        """The configuration is being read again; `ready` ends this."""
        self.send(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)

    def stopping(self) -> None:
        """The service is stopping."""
        self.send(STOPPING=1)

    def keep_alive(self) -> None:
        """Send the keep-alive of the watchdog."""
        self.send(WATCHDOG=1)

    def extend(self, seconds: float) -> None:
        """Starting or stopping takes longer: wait at least this many seconds from now."""
        self.send(EXTEND_TIMEOUT_USEC=int(seconds * 1e6))


_ORDER = list(Health)


def status_line(process: Process, lives: Mapping[str, RunnerState]) -> str:
    """Given what the daemon knows of itself and its links, return the line: phase, last run, next run, holds."""
    parts = [f"{process.phase}: {_healths(lives)}"]
    parts += [_at_work(name, live.working) for name, live in lives.items() if live.working is not None]
    last = max((live.last for live in lives.values() if live.last), key=lambda row: row.started_at, default=None)
    if last is not None:
        parts.append(f"last run {last.id} of {last.link} at {_time(last.finished_at or last.started_at)} {last.state}")
    upcoming = _upcoming(lives.values())
    if upcoming and process.phase == "running":
        parts.append(f"next run at {_time(min(upcoming))}")
    holds = sum(live.last.counts.holds for live in lives.values() if live.last)
    parts.append("1 order held" if holds == 1 else f"{holds} orders held")
    if process.config_error:
        parts.append(f"reload failed, old configuration kept: {process.config_error}")
    elif process.restart:
        parts.append(f"restart needed for {', '.join(process.restart)}")
    return "; ".join(parts)


def _healths(lives: Mapping[str, RunnerState]) -> str:
    if not lives:
        return "no links"
    counts = Counter(Health.WORKING if live.standby else live.health.health for live in lives.values())
    words = [f"{counts[health]} {health.words}" for health in _ORDER if counts[health]]
    return f"{len(lives)} link{'s' if len(lives) > 1 else ''}, {', '.join(words)}"


def _at_work(name: str, progress: PassProgress) -> str:
    done = f" {progress.done}" if progress.done else ""
    expected = f" of {progress.expected}" if done and progress.expected else ""
    return f"at work on {name}{': ' if progress.stage else ''}{progress.stage}{done}{expected}"


def _upcoming(lives: Iterable[RunnerState]) -> list[float]:
    return [live.next_run for live in lives if live.next_run is not None]


def _time(seconds: float) -> str:
    return time_of_day(seconds).strftime("%H:%M:%S %Z")
