"""APScheduler, kept to what it does well: at a slot it calls a function that sets an event, and nothing else.

What design.md and operations.md 3.4 found shapes this module: a job never does work (a shutdown would cancel it), jobs
live in memory and are made from the configuration, a missed moment is never dropped, and since an exception while
jobs are processed can leave the scheduler alive but never waking, `overdue` is what the watchdog asks before it pets.
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
from syncd.daemon.slots import Slots

log = structlog.get_logger("syncd.daemon")

_TROUBLES: Mapping[int, str] = {
    EVENT_JOB_ERROR: "error",
    EVENT_JOB_MISSED: "missed",
    EVENT_JOB_MAX_INSTANCES: "max-instances",
}


class Timetable:
    """The schedules of all links of this daemon.

    Args:
        clock: Chance, for the jitter. The time of day is APScheduler's own, the system's.
        ask: Told a link's name when one of its slots has come.
        trouble: Told a link's name and what kept APScheduler from calling: error, missed, max-instances.
    """

    def __init__(self, clock: Clock, ask: Callable[[str], None], trouble: Callable[[str, str], None]) -> None:
        self._clock = clock
        self._ask = ask
        self._trouble = trouble
        self._jobs: dict[str, tuple[Slots, float]] = {}
        self._scheduler = AsyncIOScheduler(
            timezone=UTC, job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
        )
        self._scheduler.add_listener(self._heard, EVENT_JOB_ERROR | EVENT_JOB_MISSED | EVENT_JOB_MAX_INSTANCES)

    def start(self) -> None:
        """Begin; needs a running loop."""
        self._scheduler.start()

    def set(self, link: str, slots: Slots, jitter: float) -> None:
        """Schedule a link, or schedule it anew, from now on.

        Args:
            link: The link.
            slots: Its moments.
            jitter: The most seconds a call may come late, at random.
        """
        self._jobs[link] = (slots, jitter)
        # A function of our own and no partial: APScheduler asks whether it is a coroutine function.
        self._scheduler.add_job(
            self._fire, _AtSlots(slots, jitter, self._clock), args=(link,), id=link, replace_existing=True
        )

    def drop(self, link: str) -> None:
        """Forget a link's schedule, if it has one."""
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
        for link, (slots, jitter) in self._jobs.items():
            self._scheduler.reschedule_job(link, trigger=_AtSlots(slots, jitter, self._clock))

    def wake(self) -> None:
        """Have the scheduler look at its jobs now."""
        self._scheduler.wakeup()

    async def stop(self) -> None:
        """Call nobody any more."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)
            await asyncio.sleep(0)  # it shuts down in a callback of the loop

    async def _fire(self, link: str) -> None:
        self._ask(link)

    def _heard(self, event: JobEvent) -> None:
        kind = _TROUBLES.get(event.code, "unknown")
        log.error("scheduler trouble", link=event.job_id, kind=kind)
        self._trouble(event.job_id, kind)


class _AtSlots(BaseTrigger):  # type: ignore[misc]  # APScheduler is untyped
    """Fires at a link's slots, each up to `jitter` seconds late."""

    def __init__(self, slots: Slots, jitter: float, clock: Clock) -> None:
        self._slots = slots
        self._jitter = jitter
        self._clock = clock

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> Any:
        """Given the last time and now, return the next time; whatever lies before now is not made up here."""
        moment = max(now, previous_fire_time or now).timestamp()
        slot = self._slots.after(moment)
        return None if slot is None else datetime.fromtimestamp(slot + self._jitter * self._clock.random(), UTC)

    def __repr__(self) -> str:
        return f"<at slots of {self._slots.schedule}>"
