"""One link's passes: when one is made, and what follows from its result.

A runner sleeps until it is triggered. It reads the results of the link's passes from the state database, those of other
daemons included, and lets `decide` say whether one is made. So several daemons may each have a runner for the same
link: the lease picks one, and the others stand by until its pass ends. If its process dies, one of them takes over
within seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

import structlog

from syncd.core.ports import Cancelled
from syncd.core.records import LinkRow, RunRow
from syncd.daemon.decide import LinkParking, RunDecision, RunFacts, should_run
from syncd.daemon.runner_context import AlreadyServed, PassProgress, PassResult, RunnerContext
from syncd.daemon.triggers import PERSONS, PendingHints, PendingTriggers, Task, Trigger, task_for
from syncd.engine.report import Report
from syncd.errors import LeaseHeld, LeaseLost, StateUnavailable, Stopped, SyncdError
from syncd.status.fire_times import FireTimes, next_look, retry_pause
from syncd.status.health import (
    Health,
    LinkHealth,
    Parking,
    failures_in_a_row,
    health_after,
    health_before_failures,
    health_from,
    last_pass,
    last_scheduled,
    parking_of,
    relevant_passes,
)
from syncd.status.links import DEEP, RECENT

log = structlog.get_logger("syncd.daemon")

STANDBY = 2.0
"""Seconds until a link another process works on is tried again; up to as many more at random."""
LONGEST_WAIT = 0.4
DAY = 86400.0
KEEP_DAYS = 90.0
"""Passes that found nothing to do are forgotten after this long; changes and holds never are."""


class RunnerState(NamedTuple):
    """What one runner knows of its link by itself, for the status line of the service manager.

    Args:
        health: What the link's passes say of it.
        working: The pass it makes now.
        standby: Another process works on the link.
        last: The newest finished pass.
        next_run: When it makes the next pass, in seconds since the epoch.
    """

    health: LinkHealth
    working: PassProgress | None = None
    standby: bool = False
    last: RunRow | None = None
    next_run: float | None = None


class LinkRunner:
    """Makes the passes of one link, one at a time.

    Args:
        name: The link.
        times: Its schedule, or None.
        context: What it works with.
    """

    def __init__(self, name: str, times: FireTimes | None, context: RunnerContext) -> None:
        self.name = name
        self.times = times
        self.between: FireTimes | None = None
        """When passes over the newest orders are made; None where none are."""
        self.condition = LinkHealth(Health.NEW)
        self.last: RunRow | None = None
        """The newest finished pass, of any daemon."""
        self.failures = 0
        self.trouble = ""
        """Why the newest pass opened no run, so that the state database knows nothing of it; empty if it did."""
        self.standby = False
        self.working: PassProgress | None = None
        self._context = context
        self._parking = LinkParking(name, context)
        self._triggers = PendingTriggers(context.clock)
        self._look: float | None = None
        self._tried = 0.0
        self._state_failed = False
        self._earlier = self.condition
        self._task = Task(None)
        self._between_why = ""
        self._hints = PendingHints()
        self._logged_late = False
        self._cancelled = Cancelled()
        self._seen = -1
        self._pruned_at = context.clock.monotonic()

    def ask(self, who: Trigger) -> None:
        """Ask for a pass."""
        self._triggers.ask(who)

    def hint(self, orders: set[int]) -> None:
        """Bring these orders forward. Where no pass is made because of it, they wait for the one that covers them."""
        self._hints.add(orders)
        self.ask(Trigger.HINT)

    def hint_all(self) -> None:
        """Bring a pass over all orders forward, as `hint` does for some."""
        self._hints.add_all()
        self.ask(Trigger.HINT)

    def stop(self, reason: str) -> None:
        """Start no more passes, and end the one at work after its batch in flight."""
        self._cancelled.set(reason)
        self._triggers.wake()

    def state_back(self) -> None:
        """End a pause that was made because the state database failed."""
        if self._state_failed:
            self._triggers.end_pause()

    def retry_in(self) -> float | None:
        """Return the seconds until a pass that failed, or was turned away, is made again; None when none waits."""
        left = self._triggers.left()
        return None if not self.failures or left is None else max(0.0, left)

    async def run(self) -> None:
        """Serve triggers until stopped."""
        with structlog.contextvars.bound_contextvars(link=self.name):
            while not self._cancelled.is_set:
                if self._triggers.is_ready:
                    await self._handle(self._triggers.take(early=self.standby))
                else:
                    await self._triggers.sleep()

    async def _handle(self, triggers: Mapping[Trigger, float]) -> None:
        previous: RunRow | None = None
        progress = PassProgress(self._context.clock, begun=self._begun)
        if self._state_failed and self._triggers.is_waiting and triggers.keys() == {Trigger.SCHEDULE}:
            # Asking it again at every slot would be a failure each, and make the pause longer.
            self._skip(triggers, "pausing after a failure")
            return
        try:
            decision, previous = await self._decide(triggers, self._context.clock.now())
            if not decision.run:
                self._skip(triggers, decision.why)
                return
            report = await self._make_pass(triggers, progress, previous)
        except AlreadyServed:
            self._skip(triggers, "done elsewhere")
        except (LeaseHeld, LeaseLost) as error:
            self._stand_by(triggers, error)
        except Stopped:
            return
        except SyncdError as error:
            await self._ended(triggers, previous, progress, None, error)
        except Exception as error:
            log.exception("pass crashed")
            await self._ended(triggers, previous, progress, None, error)
        else:
            if isinstance(report.error, LeaseLost):
                self._stand_by(triggers, report.error)
            elif await self._is_beside(report):
                await self._ended_beside(previous, progress, report)
            elif not isinstance(report.error, Stopped):
                await self._ended(triggers, previous, progress, report, report.error)

    # ------------------------------------------------------------------ a pass

    def _begun(self) -> None:
        self._hints.forget_taken()
        if not self._between_why:
            self._context.observer.begun(self.name)

    async def _decide(self, triggers: Mapping[Trigger, float], now: float) -> tuple[RunDecision, RunRow | None]:
        store = self._context.store
        link = await store.find_link(self.name)
        runs = await store.runs(self.name, RECENT if self._seen >= 0 else DEEP)
        self._read_results(link, runs)
        last = last_pass(runs)
        requests = await store.open_requests([self.name]) if Trigger.REQUEST in triggers else []
        changed = link is not None and bool(link.parked) and await self._parking.facts_changed(link, runs, last)
        self._look = None if link is None or not link.parked else self._next_look(link.parked, last)
        at = RunFacts(
            link,
            last,
            self.times,
            now,
            changed=changed,
            look=self._look or 0.0,
            failing=self.condition.health is Health.FAILING,
            resting=self.failures > 0 and self._triggers.is_waiting,
            requested=bool(requests),
            served=last_scheduled(link, runs),
            between=self.between,
        )
        decision = should_run(triggers, at)
        hinted, every = self._hints.peek()
        self._between_why = decision.why if decision.between and not every else ""
        between = bool(self._between_why)
        self._task = task_for(triggers.keys(), link, runs, requests, between=between, hinted=hinted, whole=every)
        return decision, last

    def _next_look(self, reason: str, last: RunRow | None) -> float:
        return next_look(reason, last, self.failures, self.times, tried=self._tried)

    def _read_results(self, link: LinkRow | None, runs: Sequence[RunRow]) -> None:
        """Take in the results of the passes of this and other daemons."""
        newest = max((row.id for row in runs if row.finished_at is not None), default=0)
        if newest <= self._seen:
            return
        first, self._seen = self._seen < 0, newest
        self.last = last_pass(row for row in runs if row.finished_at is not None)
        found = health_from(link, runs)
        if found.health is self.condition.health and not first:
            found = found._replace(since=self.condition.since)
        self.condition = found
        self.failures = failures_in_a_row(runs)
        self._earlier = health_before_failures(link, runs)
        if not first:
            self._context.observer.passed_elsewhere(self.name)

    async def _make_pass(
        self, triggers: Mapping[Trigger, float], progress: PassProgress, previous: RunRow | None
    ) -> Report:
        context = self._context
        # Only one daemon receives a hint, and hints are urgent.
        if not (PERSONS | {Trigger.HINT}) & triggers.keys():
            await context.clock.sleep(self._random_wait())
        await self._require_free_lease(unfinished=previous is not None and previous.finished_at is None)
        async with context.gate.enter():
            if self._cancelled.is_set:
                raise Stopped("Stopped before the pass began.")
            self.standby, self.working = False, progress
            self._hints.take()
            progress.touch()
            try:
                return await context.run_pass(
                    self.name,
                    self._between_why or _origin(triggers),
                    self._task,
                    progress=progress,
                    cancelled=self._cancelled,
                    still_wanted=lambda now: self._still_wanted(triggers, now),
                )
            finally:
                self.working = None

    def _random_wait(self) -> float:
        """Return the seconds to wait before a scheduled pass.

        All daemons are triggered at the same moment. A short random wait, longer on a busier daemon, spreads the links
        over the daemons, and lets the others see the lease instead of contending for it.
        """
        clock = self._context.clock
        spacing = (self.times.spacing(clock.now()) if self.times is not None else None) or 0.0
        return min(0.1 * spacing, LONGEST_WAIT * clock.random() + 0.1 * self._context.gate.busy)

    async def _still_wanted(self, triggers: Mapping[Trigger, float], now: float) -> bool:
        decision, _last = await self._decide(triggers, now)
        return decision.run

    async def _require_free_lease(self, *, unfinished: bool) -> None:
        """Raise LeaseHeld if another process is at work on the link, before either side is opened."""
        link = await self._context.store.find_link(self.name) if unfinished else None
        if link is not None:
            async with self._context.short_lease(link):
                pass

    # ------------------------------------------------------- what follows from it

    def _skip(self, triggers: Mapping[Trigger, float], why: str) -> None:
        self.standby = False
        self._hints.clear()
        if Trigger.SCHEDULE in triggers:
            log.debug("slot passed over", why=why)
            self._context.observer.skipped(self.name, why)
        if why == "parked" and not self._triggers.is_waiting:
            self._await_look()

    def _stand_by(self, triggers: Mapping[Trigger, float], error: SyncdError) -> None:
        if not self.standby:
            log.info("standing by", reason=error.message)
        self.standby = True
        self._triggers.defer(triggers, STANDBY * (1 + self._context.clock.random()))

    def _await_look(self) -> None:
        """Wake for the next look at a link that is turned away; one whose plan is refused is looked at at its times."""
        if self._look is not None and self.condition.health is Health.PARKED:
            now = self._context.clock.now()
            self._triggers.defer({Trigger.AGAIN: now}, max(0.0, self._look - now))

    async def _ended(
        self,
        triggers: Mapping[Trigger, float],
        previous: RunRow | None,
        progress: PassProgress,
        report: Report | None,
        error: BaseException | None,
    ) -> None:
        context, before, failures = self._context, self.condition, self.failures
        if before.health is not Health.FAILING:
            self._earlier = before
        parking = parking_of(error, report.row.state if report is not None else "failed")
        if report is not None:
            self._seen = max(self._seen, report.row.id)
            self.last = report.row
        else:
            self._tried = context.clock.now()
        self.condition = health_after(report, error, before, context.clock.now())
        self.trouble = self.condition.detail if report is None else ""
        self._state_failed = isinstance(error, StateUnavailable)
        if self.condition.health is Health.FAILING:
            self.failures += 1
            # A request that no run was opened for still waits.
            triggered = {who: at for who, at in triggers.items() if who is Trigger.REQUEST}
            self._triggers.defer({Trigger.AGAIN: context.clock.now()} | triggered, self._pause(report))
        else:
            turned_away = self.condition.health is Health.PARKED
            self.failures = self.failures + 1 if turned_away else 0
            self._triggers.drop()
            self._compare_with_schedule(report)
            await self._keep(parking)
            if turned_away:
                self._look = self._next_look(f"{parking}: ", self.last)
                self._await_look()
        result = PassResult(
            self.name, report, error, before, self.condition, progress, previous, self.failures, failures, self._earlier
        )
        await context.observer.ended(result)

    def _compare_with_schedule(self, report: Report | None) -> None:
        """Log that a pass took longer than its interval, so that passes follow each other without a pause."""
        row = report.row if report is not None else None
        if row is None or row.finished_at is None or not row.serves_schedule or self.times is None:
            return
        spacing = self.times.spacing(row.started_at)
        took = row.finished_at - row.started_at
        if spacing is None or took <= spacing or row.first_sync:
            self._logged_late = False
        elif not self._logged_late:
            self._logged_late = True
            hint = f"`syncd check {self.name}` shows which schedule and how many slices the portal allows"
            log.warning("schedule cannot be kept", seconds=round(took), every=round(spacing), hint=hint)

    async def _is_beside(self, report: Report) -> bool:
        """Return whether a pass over some orders says nothing of the link: it found nothing, or others wait."""
        if report.row.covers is None or report.error is not None or report.row.state not in {"applied", "partial"}:
            return False
        runs = await self._context.store.runs(self.name, RECENT)
        return report.row.id not in {row.id for row in relevant_passes(runs)}

    async def _ended_beside(self, previous: RunRow | None, progress: PassProgress, report: Report) -> None:
        self._seen = max(self._seen, report.row.id)
        at = self.condition
        result = PassResult(
            self.name, report, None, at, at, progress, previous, self.failures, self.failures, self._earlier
        )
        await self._context.observer.ended(result)

    def _pause(self, report: Report | None) -> float:
        now = self._context.clock.now()
        failed = report.row.finished_at if report is not None and report.row.finished_at is not None else now
        seconds = max(0.0, failed + retry_pause(self.name, self.failures, self.times, failed) - now)
        log.warning("pausing after a failure", failures=self.failures, seconds=round(seconds, 1))
        return seconds

    async def _keep(self, parking: Parking | None) -> None:
        """Record what lasts of a pass: whether the link is parked, and once a day, that old passes may be forgotten."""
        with suppress(LeaseHeld, LeaseLost):
            try:
                await self._parking.keep(parking, self.condition.detail)
                if parking is None:
                    await self._prune_daily()
            except SyncdError as error:
                if isinstance(error, LeaseHeld | LeaseLost):
                    raise
                log.warning("state not kept", error=error.message)

    async def _prune_daily(self) -> None:
        clock = self._context.clock
        if clock.monotonic() - self._pruned_at < DAY:
            return
        self._pruned_at = clock.monotonic()
        link = await self._context.store.find_link(self.name)
        if link is not None:
            async with self._context.short_lease(link) as lease:
                await self._context.prune(lease, clock.now(), KEEP_DAYS)


def _origin(triggers: Mapping[Trigger, float]) -> str:
    return next((who.value for who in PERSONS if who in triggers), Trigger.SCHEDULE.value)
