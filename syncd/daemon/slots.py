"""The moments at which a link's schedule wants a pass.

They depend on the schedule and the link's name alone, not on when a daemon was started: all daemons that share a link
name the same moments, a restart moves none of them, and the links of a daemon are spread over their interval.
"""

from __future__ import annotations

from datetime import UTC, datetime
from zlib import crc32
from zoneinfo import ZoneInfo

from apscheduler.triggers.cron import CronTrigger

from syncd.config.schedule import Cron, Interval, Schedule


class Slots:
    """The moments of one link.

    Args:
        link: The link's name; places an interval's slots.
        schedule: Interval or cron expression.
        timezone: IANA name; where cron expressions are read.
    """

    def __init__(self, link: str, schedule: Schedule, timezone: str = "UTC") -> None:
        self.schedule = schedule
        self._offset = crc32(link.encode()) % schedule.seconds if isinstance(schedule, Interval) else 0
        self._triggers = _cron_triggers(schedule, timezone) if isinstance(schedule, Cron) else []

    def after(self, moment: float) -> float | None:
        """Given seconds since the epoch, return the first slot later than that; None if the schedule names no more."""
        if isinstance(self.schedule, Interval):
            every = self.schedule.seconds
            return ((moment - self._offset) // every + 1) * every + self._offset
        # Slots lie on whole minutes, so the next whole second is late enough to leave out `moment` itself.
        start = datetime.fromtimestamp(moment // 1 + 1, UTC)
        found = [trigger.get_next_fire_time(None, start) for trigger in self._triggers]
        return min((slot.timestamp() for slot in found if slot is not None), default=None)

    def spacing(self, moment: float) -> float | None:
        """Given seconds since the epoch, return the seconds between the next two slots."""
        first = self.after(moment)
        second = None if first is None else self.after(first)
        return None if first is None or second is None else second - first


def _cron_triggers(schedule: Cron, timezone: str) -> list[CronTrigger]:
    return [CronTrigger(timezone=ZoneInfo(timezone), **fields) for fields in schedule.triggers()]
