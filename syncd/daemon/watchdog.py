"""Whether this process still gets anywhere. If not, systemd's watchdog, or a liveness probe, ends it.

A pass that takes hours is no fault as long as it shows signs of life; one that shows none is frozen. A scheduler that
does not wake is silent for ever, so its next moment must not lie in the past. The portal or a database that is down is
no fault of this process: killing it would turn an outage into a storm of restarts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import structlog

from syncd.core.ports import Clock
from syncd.daemon.notify import Notifier
from syncd.daemon.pulse import Pulse
from syncd.daemon.schedule import Timetable

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
"""Seconds by which the system's clock must have jumped for the schedule to be worked out anew."""


class Vitals:
    """The signs this process is judged by.

    Args:
        clock: Time.
        timetable: The schedules.
        pulses: The passes at work, by link.
        lagged: Told by how many seconds the event loop was late, once a second.
    """

    def __init__(
        self,
        clock: Clock,
        timetable: Timetable,
        pulses: Callable[[], Iterable[tuple[str, Pulse]]],
        lagged: Callable[[float], None],
    ) -> None:
        self._clock = clock
        self._timetable = timetable
        self._pulses = pulses
        self._lagged = lagged
        self._lag = 0.0

    async def run(self) -> None:
        """Feel the loop's pulse, for ever; notice when the system's clock was set."""
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
                self._timetable.realign()
                offset = apart
            elif self._timetable.overdue() > SILENT / 2:
                self._timetable.wake()

    def faults(self) -> list[str]:
        """Return what is wrong with this process, as phrases; empty while it is sound."""
        found = [
            f"the pass of {link} has shown no sign of life for {pulse.silence():.0f} s"
            for link, pulse in self._pulses()
            if pulse.silence() > FROZEN
        ]
        if (late := self._timetable.overdue()) > SILENT:
            found.append(f"the schedule is {late:.0f} s late")
        if self._lag > LAGGING:
            found.append(f"the event loop was {self._lag:.0f} s late")
        return found


async def pet(notifier: Notifier, vitals: Vitals, clock: Clock) -> None:
    """Tell systemd twice in each of its intervals that this process is sound, for as long as it is."""
    if not notifier.watchdog:
        return
    told = False
    while True:
        faults = vitals.faults()
        if not faults:
            notifier.pet()
        elif not told:
            log.critical("watchdog no longer petted", faults=faults)
        told = bool(faults)
        await clock.sleep(notifier.watchdog / 2)
