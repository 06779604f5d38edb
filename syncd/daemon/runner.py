"""One link's passes: when one is made, and what follows from how it ended.

A runner sleeps until somebody asks. It reads from the state database what the link's passes came to, whoever made
them, and lets `verdict` decide. So several daemons may each have a runner for the same link: the lease picks one, the
others stand by for as long as its pass is not over, and take it over within seconds if it never will be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

import structlog

from syncd.core.backoff import pause
from syncd.core.ports import Cancelled
from syncd.core.records import LinkRow, RunRow
from syncd.daemon.agenda import Agenda
from syncd.daemon.desk import Desk, Ending
from syncd.daemon.health import (
    Condition,
    Health,
    Parking,
    condition_after,
    condition_of,
    failures_in_a_row,
    last_pass,
    parking_of,
)
from syncd.daemon.looks import next_look
from syncd.daemon.parking import ParkingPlace
from syncd.daemon.passes import NotWanted
from syncd.daemon.pulse import Pulse
from syncd.daemon.slots import Slots
from syncd.daemon.verdict import PERSONS, Ask, Situation, Verdict, judge
from syncd.engine.report import Report
from syncd.errors import LeaseHeld, LeaseLost, StateUnavailable, Stopped, SyncdError

log = structlog.get_logger("syncd.daemon")

RECENT = 20
"""Runs of a link that a verdict looks at."""
DEEP = 500
"""Runs a starting daemon looks at, to say since when a link is as it is."""
STANDBY = 2.0
"""Seconds until a link another process works on is tried again; up to as many more at random."""
COURTESY = 0.4
FIRST_PAUSE = 30.0
LONGEST_PAUSE = 3600.0
DAY = 86400.0
KEEP_DAYS = 90.0
"""Passes that found nothing to do are forgotten after this long; changes and holds never are."""


class LinkRunner:
    """Makes the passes of one link, one at a time.

    Args:
        name: The link.
        slots: Its schedule, or None.
        desk: What it works with.
    """

    def __init__(self, name: str, slots: Slots | None, desk: Desk) -> None:
        self.name = name
        self.slots = slots
        self.condition = Condition(Health.WAITING)
        self.last: RunRow | None = None
        """The newest finished pass, whoever made it."""
        self.failures = 0
        self.standby = False
        self.working: Pulse | None = None
        self._desk = desk
        self._parking = ParkingPlace(name, desk)
        self._agenda = Agenda(desk.clock)
        self._look: float | None = None
        self._tried = 0.0
        self._state_failed = False
        self._cancelled = Cancelled()
        self._seen = -1
        self._tidied = desk.clock.monotonic()

    def ask(self, who: Ask) -> None:
        """Want a pass."""
        self._agenda.ask(who)

    def stop(self, reason: str) -> None:
        """Begin no pass any more, and end the one at work after its batch in flight."""
        self._cancelled.set(reason)
        self._agenda.wake()

    def state_back(self) -> None:
        """Have a pause end now that was made because the state database failed."""
        if self._state_failed:
            self._agenda.hasten()

    def retry_in(self) -> float | None:
        """Return the seconds until a pass that failed, or was turned away, is made again; None when none waits."""
        left = self._agenda.left()
        return None if not self.failures or left is None else max(0.0, left)

    async def run(self) -> None:
        """Serve whoever asks, until stopped."""
        with structlog.contextvars.bound_contextvars(link=self.name):
            while not self._cancelled.is_set:
                if self._agenda.is_ready:
                    await self._attend(self._agenda.take(early=self.standby))
                else:
                    await self._agenda.sleep()

    async def _attend(self, asks: Mapping[Ask, float]) -> None:
        previous: RunRow | None = None
        pulse = Pulse(self._desk.clock)
        if self._state_failed and self._agenda.is_waiting and asks.keys() == {Ask.SCHEDULE}:
            # Asking it again at every slot would be a failure each, and make the pause longer.
            self._pass_over(asks, "pausing after a failure")
            return
        try:
            verdict, previous = await self._judge(asks, self._desk.clock.now())
            if not verdict.run:
                self._pass_over(asks, verdict.why)
                return
            report = await self._make_pass(asks, pulse, previous)
        except NotWanted:
            self._pass_over(asks, "done elsewhere")
        except (LeaseHeld, LeaseLost) as error:
            self._stand_by(asks, error)
        except Stopped:
            return
        except SyncdError as error:
            await self._ended(asks, previous, pulse, None, error)
        except Exception as error:
            log.exception("pass crashed")
            await self._ended(asks, previous, pulse, None, error)
        else:
            if isinstance(report.error, LeaseLost):
                self._stand_by(asks, report.error)
            elif not isinstance(report.error, Stopped):
                await self._ended(asks, previous, pulse, report, report.error)

    # ------------------------------------------------------------------ a pass

    async def _judge(self, asks: Mapping[Ask, float], now: float) -> tuple[Verdict, RunRow | None]:
        store = self._desk.store
        link = await store.find_link(self.name)
        runs = await store.runs(self.name, RECENT if self._seen >= 0 else DEEP)
        self._recall(link, runs)
        last = last_pass(runs)
        changed = link is not None and bool(link.parked) and await self._parking.facts_changed(link, runs, last)
        self._look = None if link is None or not link.parked else self._next_look(link.parked, last)
        at = Situation(
            link,
            last,
            self.slots,
            now,
            changed=changed,
            look=self._look or 0.0,
            failing=self.condition.health is Health.FAILING,
            resting=self.failures > 0 and self._agenda.is_waiting,
            requested=Ask.TRIGGER in asks and bool(await store.open_requests([self.name])),
        )
        return judge(asks, at), last

    def _next_look(self, reason: str, last: RunRow | None) -> float:
        return next_look(reason, last, self.failures, self.slots, tried=self._tried)

    def _recall(self, link: LinkRow | None, runs: Sequence[RunRow]) -> None:
        """Take in what the passes of this and other daemons came to."""
        newest = max((row.id for row in runs if row.finished_at is not None), default=0)
        if newest <= self._seen:
            return
        first, self._seen = self._seen < 0, newest
        self.last = last_pass(row for row in runs if row.finished_at is not None)
        found = condition_of(link, runs)
        if found.health is self.condition.health and not first:
            found = found._replace(since=self.condition.since)
        self.condition = found
        self.failures = failures_in_a_row(runs)
        if not first:
            self._desk.observer.overtaken(self.name)

    async def _make_pass(self, asks: Mapping[Ask, float], pulse: Pulse, previous: RunRow | None) -> Report:
        desk = self._desk
        if not PERSONS & asks.keys():
            await desk.clock.sleep(self._courtesy())
        await self._look_out(unfinished=previous is not None and previous.finished_at is None)
        async with desk.gate.enter():
            if self._cancelled.is_set:
                raise Stopped("Stopped before the pass began.")
            self.standby, self.working = False, pulse
            pulse.beat()
            try:
                return await desk.run_pass(
                    self.name,
                    _origin(asks),
                    pulse=pulse,
                    cancelled=self._cancelled,
                    still_wanted=lambda now: self._still_wanted(asks, now),
                )
            finally:
                self.working = None

    def _courtesy(self) -> float:
        """Return the seconds to wait before a scheduled pass.

        All daemons are asked at the same moment. Waiting a trifle, at random and the longer the more this one has to
        do, shares the links out, and lets the others see whose lease it is instead of contending for it.
        """
        clock = self._desk.clock
        spacing = (self.slots.spacing(clock.now()) if self.slots is not None else None) or 0.0
        return min(0.1 * spacing, COURTESY * clock.random() + 0.1 * self._desk.gate.busy)

    async def _still_wanted(self, asks: Mapping[Ask, float], now: float) -> bool:
        verdict, _last = await self._judge(asks, now)
        return verdict.run

    async def _look_out(self, *, unfinished: bool) -> None:
        """Raise LeaseHeld if another process is at work on the link, before either side is opened."""
        link = await self._desk.store.find_link(self.name) if unfinished else None
        if link is not None:
            async with self._desk.briefly(link):
                pass

    # ------------------------------------------------------- what follows from it

    def _pass_over(self, asks: Mapping[Ask, float], why: str) -> None:
        self.standby = False
        if Ask.SCHEDULE in asks:
            log.debug("slot passed over", why=why)
            self._desk.observer.skipped(self.name, why)
        if why == "parked" and not self._agenda.is_waiting:
            self._await_look()

    def _stand_by(self, asks: Mapping[Ask, float], error: SyncdError) -> None:
        if not self.standby:
            log.info("standing by", reason=error.message)
        self.standby = True
        self._agenda.put_off(asks, STANDBY * (1 + self._desk.clock.random()))

    def _await_look(self) -> None:
        """Wake for the next look at a link that is turned away; one whose plan is refused is looked at at its slots."""
        if self._look is not None and self.condition.health is Health.PARKED:
            now = self._desk.clock.now()
            self._agenda.put_off({Ask.AGAIN: now}, max(0.0, self._look - now))

    async def _ended(
        self,
        asks: Mapping[Ask, float],
        previous: RunRow | None,
        pulse: Pulse,
        report: Report | None,
        error: BaseException | None,
    ) -> None:
        desk, before = self._desk, self.condition
        parking = parking_of(error, report.row.state if report is not None else "failed")
        if report is not None:
            self._seen = max(self._seen, report.row.id)
            self.last = report.row
        else:
            self._tried = desk.clock.now()
        self.condition = condition_after(report, error, before, desk.clock.now())
        self._state_failed = isinstance(error, StateUnavailable)
        if self.condition.health is Health.FAILING:
            self.failures += 1
            # A request that no run was opened for still waits.
            triggered = {who: at for who, at in asks.items() if who is Ask.TRIGGER}
            self._agenda.put_off({Ask.AGAIN: desk.clock.now()} | triggered, self._pause())
        else:
            turned_away = self.condition.health is Health.PARKED
            self.failures = self.failures + 1 if turned_away else 0
            self._agenda.drop()
            await self._keep(parking)
            if turned_away:
                self._look = self._next_look(f"{parking}: ", self.last)
                self._await_look()
        await desk.observer.ended(Ending(self.name, report, error, before, self.condition, pulse, previous))

    def _pause(self) -> float:
        clock = self._desk.clock
        spacing = (self.slots.spacing(clock.now()) if self.slots is not None else None) or FIRST_PAUSE
        first = min(FIRST_PAUSE, spacing)
        seconds = pause(self.failures, first=first, most=LONGEST_PAUSE, spread=0.1, chance=clock.random())
        log.warning("pausing after a failure", failures=self.failures, seconds=round(seconds, 1))
        return seconds

    async def _keep(self, parking: Parking | None) -> None:
        """Record what lasts of a pass: whether the link is parked, and once a day, that old passes may be forgotten."""
        with suppress(LeaseHeld, LeaseLost):
            try:
                await self._parking.keep(parking, self.condition.detail)
                if parking is None:
                    await self._tidy()
            except SyncdError as error:
                if isinstance(error, LeaseHeld | LeaseLost):
                    raise
                log.warning("state not kept", error=error.message)

    async def _tidy(self) -> None:
        clock = self._desk.clock
        if clock.monotonic() - self._tidied < DAY:
            return
        self._tidied = clock.monotonic()
        link = await self._desk.store.find_link(self.name)
        if link is not None:
            async with self._desk.briefly(link) as lease:
                await self._desk.prune(lease, clock.now(), KEEP_DAYS)


def _origin(asks: Mapping[Ask, float]) -> str:
    return next((who.value for who in PERSONS if who in asks), Ask.SCHEDULE.value)
