"""APScheduler, used only as a timer: at a fire time it calls a function that sets an event.

Its pitfalls are in platform.md 1. A job never does work, since a shutdown would cancel it. Jobs live in memory and are
made from the configuration. A missed fire time is never dropped. An exception while jobs are processed can leave the
scheduler alive but never waking, so the watchdog asks `overdue` first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import structlog
from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_MAX_INSTANCES, EVENT_JOB_MISSED, JobEvent
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger

from syncd.core.ports import Clock
from syncd.status.fire_times import FireTimes

log = structlog.get_logger("syncd.daemon")

_BETWEEN = " between"
"""Follows a link's name in the name of the job for its passes in between; no link's name has a space."""

_TROUBLES: Mapping[int, str] = {
    EVENT_JOB_ERROR: "error",
    EVENT_JOB_MISSED: "missed",
    EVENT_JOB_MAX_INSTANCES: "max-instances",
}


class LinkScheduler:
    """The schedules of all links of this daemon.

    Args:
        clock: Chance, for the jitter. The time of day is APScheduler's own, the system's.
        ask: Called with a link's name at each of its fire times.
        between: Called with a link's name when a pass over its newest orders is due.
        trouble: Called with a link's name and why APScheduler did not call: error, missed, max-instances.
    """

    def __init__(
        self,
        clock: Clock,
        ask: Callable[[str], None],
        trouble: Callable[[str, str], None],
        between: Callable[[str], None] = lambda _link: None,
    ) -> None:
        self._clock = clock
        self._ask = ask
        self._between = between
        self._trouble = trouble
        self._jobs: dict[str, tuple[FireTimes, float]] = {}
        self._scheduler = AsyncIOScheduler(
            timezone=UTC, job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
        )
        self._scheduler.add_listener(self._heard, EVENT_JOB_ERROR | EVENT_JOB_MISSED | EVENT_JOB_MAX_INSTANCES)

    def start(self) -> None:
        """Start; needs a running loop."""
        self._scheduler.start()

    def set(self, link: str, times: FireTimes, jitter: float) -> None:
        """Schedule a link, or replace its schedule, from now on.

        Args:
            link: The link.
            times: Its moments.
            jitter: The most seconds a call may come late, at random.
        """
        self._jobs[link] = (times, jitter)
        # A function of our own and no partial: APScheduler asks whether it is a coroutine function.
        self._scheduler.add_job(
            self._fire, _FireTimesTrigger(times, jitter, self._clock), args=(link,), id=link, replace_existing=True
        )

    def set_between(self, link: str, times: FireTimes | None) -> None:
        """Schedule the passes of a link in between, or replace their schedule; None ends them."""
        job = f"{link}{_BETWEEN}"
        if times is None:
            if self._jobs.pop(job, None) is not None:
                self._scheduler.remove_job(job)
            return
        self._jobs[job] = (times, 0.0)
        self._scheduler.add_job(
            self._fire_between, _FireTimesTrigger(times, 0.0, self._clock), args=(link,), id=job, replace_existing=True
        )

    def drop(self, link: str) -> None:
        """Forget a link's schedule, if it has one."""
        self.set_between(link, None)
        if self._jobs.pop(link, None) is not None:
            self._scheduler.remove_job(link)

    def next_run(self, link: str) -> float | None:
        """Return when the link is asked for next, in seconds since the epoch."""
        job = self._scheduler.get_job(link)
        return None if job is None or job.next_run_time is None else float(job.next_run_time.timestamp())

    def overdue(self) -> float:
        """Return by how many seconds the earliest call is late; 0 when none is."""
        times = [job.next_run_time.timestamp() for job in self._scheduler.get_jobs() if job.next_run_time]
        return max(0.0, self._clock.now() - min(times)) if times else 0.0

    def realign(self) -> None:
        """Work out every next moment again: the system's clock was set."""
        for link, (times, jitter) in self._jobs.items():
            self._scheduler.reschedule_job(link, trigger=_FireTimesTrigger(times, jitter, self._clock))

    def wake(self) -> None:
        """Have the scheduler look at its jobs now."""
        self._scheduler.wakeup()

    async def stop(self) -> None:
        """Stop calling."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)
            await asyncio.sleep(0)  # it shuts down in a callback of the loop

    async def _fire(self, link: str) -> None:
        self._ask(link)

    async def _fire_between(self, link: str) -> None:
        self._between(link)

    def _heard(self, event: JobEvent) -> None:
        kind = _TROUBLES.get(event.code, "unknown")
        link = event.job_id.removesuffix(_BETWEEN)
        log.error("scheduler trouble", link=link, kind=kind)
        self._trouble(link, kind)


class _FireTimesTrigger(BaseTrigger):  # type: ignore[misc]  # APScheduler is untyped
    """Fires at a link's times, each up to `jitter` seconds late."""

    def __init__(self, times: FireTimes, jitter: float, clock: Clock) -> None:
        self._slots = times
        self._jitter = jitter
        self._clock = clock

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> Any:
        """Given the last time and now, return the next time; missed times are not caught up here."""
        moment = max(now, previous_fire_time or now).timestamp()
        slot = self._slots.after(moment)
        return None if slot is None else datetime.fromtimestamp(slot + self._jitter * self._clock.random(), UTC)

    def __repr__(self) -> str:
        return f"<at times of {self._slots.schedule}>"
