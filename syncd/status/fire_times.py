"""When a link's next pass is expected, and what passes at these times cost the portal. Pure.

The times follow from the schedule, the link's name and the state database, not from when a daemon started. So all
daemons that share a link, and a terminal on another host, compute the same times. A restart changes none of them. The
links of a daemon are spread over their interval.

A parked link still makes passes, less often. The cause of a refused plan may be removed in the table or in the CRM,
which the daemon cannot see: the link makes its scheduled passes, but at most one every 15 minutes, and stores and
reports nothing while the plan stays the same. Refused credentials or rights are tried again, with one request, after 5
minutes, then after growing pauses of up to an hour. A webhook that the vendor blocked is tried after an hour, then
after growing pauses of up to 6 hours: only support can unblock it, and too many requests are what it was blocked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Final, NamedTuple
from zlib import crc32
from zoneinfo import ZoneInfo

from syncd.config.model import LinkSettings, RecentSettings
from syncd.config.schedule import Interval, Schedule
from syncd.core.pacing import pause
from syncd.core.ports import OPERATING_LIMIT
from syncd.core.records import LinkRow, RunRow
from syncd.engine.formatting import count
from syncd.status.health import (
    Health,
    Parking,
    failures_in_a_row,
    health_of,
    last_pass,
    last_scheduled,
    parked_as,
)

PACE: Final = 900.0
"""Seconds between two passes of a link with a refused plan, at least."""
DAY: Final = 86400.0
"""Seconds until the next pass of a link that points elsewhere. Only its configuration and `rebase` can change that, and
the daemon notices both at once."""
FIRST_PAUSE: Final = 30.0
LONGEST_PAUSE: Final = 3600.0
"""Seconds of the first and of the longest pause after a pass that failed."""
LATE_AFTER: Final = 120.0
"""Seconds a pass may begin after it was due before the link is late: a busy daemon makes only so many at once."""
_PAUSES: Final = {Parking.AUTH: (300.0, 3600.0), Parking.BLOCKED: (3600.0, 21600.0)}
"""The first and the longest pause of a parked link, in seconds."""


class FireTimes:
    """The moments at which a link's schedule wants a pass.

    Args:
        link: The link's name; places the fire times of an interval.
        schedule: Interval or cron expression.
        timezone: IANA name; where cron expressions are read.
    """

    def __init__(self, link: str, schedule: Schedule, timezone: str = "UTC") -> None:
        self.schedule = schedule
        self._offset = crc32(link.encode()) % schedule.seconds if isinstance(schedule, Interval) else 0
        self._zone = ZoneInfo(timezone)

    def after(self, moment: float) -> float | None:
        """Given seconds since the epoch, return the first fire time later than that; None if there are no more."""
        if isinstance(self.schedule, Interval):
            every = self.schedule.seconds
            return ((moment - self._offset) // every + 1) * every + self._offset
        return self.schedule.after(moment, self._zone)

    def spacing(self, moment: float) -> float | None:
        """Given seconds since the epoch, return the seconds between the next two fire times."""
        first = self.after(moment)
        second = None if first is None else self.after(first)
        return None if first is None or second is None else second - first


def recent_times(link: str, recent: RecentSettings) -> FireTimes:
    """Given a link's name and its settings, return the moments of its passes over the newest orders."""
    return FireTimes(link, Interval(recent.every_seconds))


def next_look(reason: str, last: RunRow | None, failures: int, times: FireTimes | None, *, tried: float = 0.0) -> float:
    """Given a parked link, return when its next pass is due, in seconds since the epoch.

    Args:
        reason: Why it is parked, as stored.
        last: Its newest pass.
        failures: How many passes failed in a row, the one that parked it among them.
        times: Its schedule; None without one.
        tried: When a pass was last tried that opened no run.
    """
    since = max(tried, last.started_at if last is not None else 0.0)
    parking = parked_as(reason)
    if parking in _PAUSES:
        first, most = _PAUSES[parking]
        return since + pause(max(1, failures), first=first, most=most)
    if last is not None and last.points_elsewhere:
        return since + DAY
    spacing = times.spacing(since) if times is not None else None
    if times is None or spacing is None:
        return since + PACE
    # A pass begins a little after its fire time; it must not therefore miss the fire time 15 minutes later.
    return times.after(since + PACE - min(spacing, PACE) / 5) or since + PACE


def retry_pause(link: str, failures: int, times: FireTimes | None, now: float) -> float:
    """Given a link whose passes fail, return the seconds to wait before the next one.

    Each link waits up to a tenth longer, each differently, so that the links of one portal do not all retry at once.

    Args:
        link: Its name.
        failures: How many passes failed in a row.
        times: Its schedule; None without one.
        now: When the newest one failed, in seconds since the epoch.
    """
    spacing = (times.spacing(now) if times is not None else None) or FIRST_PAUSE
    chance = crc32(f"{link} {failures}".encode()) / 2**32
    return pause(failures, first=min(FIRST_PAUSE, spacing), most=LONGEST_PAUSE, spread=0.1, chance=chance)


def next_pass(link: LinkRow | None, runs: Sequence[RunRow], times: FireTimes | None, now: float) -> float | None:
    """Given a link and its newest runs, return when a daemon makes its next pass, in seconds since the epoch.

    A pass that is due already is in the past. None where no daemon makes one: without a schedule, during a pause with
    no end, and before the first run of the link.

    Args:
        link: Its row.
        runs: Its newest runs, newest first.
        times: Its schedule.
        now: Seconds since the epoch.
    """
    if link is None or times is None:
        return None
    if link.is_paused(now):
        return None if link.pause.until is None else times.after(link.pause.until)
    last = last_pass(runs)
    if link.parked:
        at: float | None = next_look(link.parked, last, failures_in_a_row(runs), times)
    elif last is None:
        at = times.after(link.created_at)
    elif health_of(last) is Health.FAILING and last.finished_at is not None:
        at = last.finished_at + retry_pause(link.name, failures_in_a_row(runs), times, last.finished_at)
    else:
        # For the time before a rebase no pass of the new generation is due.
        at = times.after(max(last_scheduled(link, runs) or 0.0, link.created_at))
    # A pass that fell due during a pause is made at the first fire time after the pause.
    until = link.pause.until
    return times.after(until) if at is not None and until is not None and at < until else at


def stale_since(link: LinkRow | None, times: FireTimes | None, slices: int, now: float) -> float | None:
    """Given a link that is covered in slices, return since when an order is overdue for a pass; None if none is.

    An order is due once in a rotation. It is overdue after two, since slices may be cut again and a pass may fail.
    """
    if link is None or times is None or slices == 1 or link.coverage is None or link.parked or link.is_paused(now):
        return None
    spacing = times.spacing(link.coverage.stalest)
    if spacing is None:
        return None
    due = link.coverage.stalest + 2 * slices * spacing
    return due if now - due > LATE_AFTER else None


def overdue_since(link: LinkRow | None, runs: Sequence[RunRow], expected: float | None, now: float) -> float | None:
    """Given when a pass was expected, return that moment if the pass is overdue, and None if it is not.

    Args:
        link: The link's row.
        runs: Its newest runs, newest first.
        expected: See `next_pass`.
        now: Seconds since the epoch.
    """
    if link is None or expected is None:
        return None
    last = last_pass(runs)
    # A pass that took longer than its interval kept the next one waiting.
    ended = last.finished_at if last is not None and last.finished_at is not None else 0.0
    since = max(expected, ended)
    return since if now - since > LATE_AFTER else None


# ----------------------------------------------------------------------- cost

PAGE_ROWS: Final = 50
"""Bindings on a page of the portal's list."""
PAGE_SECONDS: Final = 0.039
"""Operating time of the portal for a page (docs/benchmarks.md: 39 s for 50,000 bindings)."""
BUDGET_SECONDS: Final = 600.0
"""Seconds after which the portal's budget starts again."""
LISTING_SHARE: Final = 0.5
"""The part of the budget that listing may take; writes and other programs need the rest (portal.md 9.2)."""


class ListingCost(NamedTuple):
    """What listing the bindings of a link costs its portal.

    Args:
        orders: Bindings of the link.
        whole: Operating seconds of one pass over all of them.
        requests: Requests of such a pass.
        in_period: Operating seconds of all passes in ten minutes, as scheduled.
        slices: The fewest slices with which the schedule stays within the share; None where no number would do.
    """

    orders: int
    whole: float
    requests: int
    in_period: float
    slices: int | None

    @property
    def is_too_much(self) -> bool:
        """Whether the schedule takes more than the share."""
        return self.in_period > LISTING_SHARE * OPERATING_LIMIT


def listing_cost(name: str, settings: LinkSettings, orders: int, timezone: str, now: float) -> ListingCost:
    """Given a link and how many bindings it has, return what its passes cost.

    Args:
        name: The link.
        settings: Its configuration.
        orders: Its bindings.
        timezone: Where cron expressions are read.
        now: Seconds since the epoch.
    """
    pages = ceil(orders / PAGE_ROWS) + 1
    whole = pages * PAGE_SECONDS
    times = None if settings.schedule is None else FireTimes(name, settings.schedule, timezone)
    spacing = (times.spacing(now) if times is not None else None) or BUDGET_SECONDS
    recent = settings.recent
    between = 0.0
    if recent is not None:
        # The newest orders, and up to as many others that these passes cover; usually few.
        newest = ceil(min(recent.orders, orders) / PAGE_ROWS) + 2
        between = newest * PAGE_SECONDS * BUDGET_SECONDS / recent.every_seconds
    left = LISTING_SHARE * OPERATING_LIMIT - between
    slices = ceil(whole * BUDGET_SECONDS / spacing / left) if left > 0 else None
    scheduled = whole * BUDGET_SECONDS / spacing / settings.slices if times is not None else 0.0
    return ListingCost(orders, whole, ceil(pages / PAGE_ROWS), scheduled + between, slices)


def cost_sentence(cost: ListingCost, settings: LinkSettings) -> str:
    """Given what the passes of a link cost, return it as a sentence, with what to set if that is too much."""
    text = (
        f"a pass over all {cost.orders:,} bindings takes {count(cost.requests, 'request')} and {cost.whole:.0f} s of "
        f"the portal's operating time; as scheduled, listing takes {cost.in_period:.0f} s of the {OPERATING_LIMIT} s "
        "that the portal allows in ten minutes"
    )
    if not cost.is_too_much:
        return text
    if cost.slices is None:
        return f"{text}: set a longer recent.every, or fewer recent.orders, to stay below half of it"
    return f"{text}: set slices = {max(cost.slices, settings.slices)}, or a longer schedule, to stay below half of it"
