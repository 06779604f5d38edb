"""Whether a link's pass is made now, and when a link is parked.

Deciding is pure, so that every case can be named and tested. Several daemons may serve one link. They name the
same fire times (`syncd.status.fire_times`), and a fire time is served once a pass of any daemon began at or after it.
So nothing is run twice, and nothing that fell due while no daemon was up is lost.

A link is parked when a guard refused its plan, when the portal or a database refuses the credentials or a right, and
when the vendor blocked the webhook: its passes cannot succeed until a person decides or the facts change. The reason is
kept in the state database, so that every daemon suspends them, over restarts too. A trigger, SIGUSR1, an applied plan,
a decided hold, a rebase, a changed configuration or credential, or the start of a daemon ends it; so does an occasional
retry that succeeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import structlog

from syncd.core.pacing import SKEW
from syncd.core.records import LinkRow, RunRow
from syncd.daemon.runner_context import RunnerContext
from syncd.daemon.triggers import Trigger
from syncd.status.fire_times import FireTimes
from syncd.status.health import Parking, parked_as, was_cut_off

log = structlog.get_logger("syncd.daemon")


class RunDecision(NamedTuple):
    """Whether to run, and why (not); `why` is what logs and metrics say."""

    run: bool
    why: str

    @property
    def between(self) -> bool:
        """Whether it is for a pass between those of the schedule, over some orders."""
        return self.why in BETWEEN


RECENT, HINT = "recent", "hint"
BETWEEN = frozenset({RECENT, HINT})


class RunFacts(NamedTuple):
    """What a decision is made from.

    Args:
        link: The link's row; None before its first pass.
        last: Its newest pass that says how it is, by any daemon or command.
        between: When passes over the newest orders are made; None where none are.
        served: When the newest pass began that served its schedule; None where none has.
        times: Its schedule; None without one.
        now: Seconds since the epoch.
        changed: A parked link's facts changed: a plan was applied, a hold decided, the link rebased.
        look: When a parked link is looked at next, in seconds since the epoch.
        failing: The newest pass failed for a reason that passes.
        resting: This daemon still waits after a failure.
        requested: The state database has a request that no pass has served yet.
    """

    link: LinkRow | None
    last: RunRow | None
    times: FireTimes | None
    now: float
    changed: bool = False
    look: float = 0.0
    failing: bool = False
    resting: bool = False
    requested: bool = False
    served: float | None = None
    between: FireTimes | None = None


def should_run(triggers: Mapping[Trigger, float], at: RunFacts) -> RunDecision:
    """Given who asks (and when they did, in seconds since the epoch), return whether a pass is made now."""
    others = {who: asked for who, asked in triggers.items() if who.value not in BETWEEN}
    decision = _by_others(others, at) if others else RunDecision(run=False, why="done elsewhere")
    if decision.run or not _is_well(at):
        return decision
    if Trigger.HINT in triggers:
        return RunDecision(run=True, why=HINT)
    return RunDecision(run=True, why=RECENT) if Trigger.RECENT in triggers and _recent_is_due(at) else decision


def _is_well(at: RunFacts) -> bool:
    """Return whether passes in between are made: only where nothing is wrong, and the link has been covered."""
    link = at.link
    if link is None or link.coverage is None or link.parked or link.is_paused(at.now):
        return False
    return not (at.failing or at.resting or at.last is None or was_cut_off(at.last))


def _recent_is_due(at: RunFacts) -> bool:
    assert at.link is not None
    assert at.link.coverage is not None
    covered_at = at.link.coverage.known_at(at.now).recent_at
    due = at.between.after(covered_at) if at.between is not None else None
    return due is not None and due <= at.now


def _by_others(triggers: Mapping[Trigger, float], at: RunFacts) -> RunDecision:
    if at.last is not None and at.last.started_at > at.now + SKEW:  # it must not silence the schedule
        at = at._replace(last=None, look=0.0, served=None)
    signalled = Trigger.SIGNAL in triggers and not _served_since(at.last, triggers[Trigger.SIGNAL])
    if signalled or (Trigger.REQUEST in triggers and at.requested):
        return RunDecision(run=True, why="asked")
    if at.link is not None and at.link.is_paused(at.now):
        return RunDecision(run=False, why="paused")
    if at.times is None:
        return RunDecision(run=False, why="unscheduled")
    if Trigger.RELOAD in triggers:
        return RunDecision(run=True, why="reconfigured")
    if at.link is not None and at.link.parked:
        return _parked(triggers, at, at.times)
    return _scheduled(triggers, at, at.times)


def _parked(triggers: Mapping[Trigger, float], at: RunFacts, times: FireTimes) -> RunDecision:
    # A person who starts a daemon may have fixed the cause of the parking; the start is the only sign of it.
    if Trigger.START in triggers or at.changed:
        return RunDecision(run=True, why="facts changed")
    if at.failing:  # the look itself failed, and is retried as any pass is
        return _scheduled(triggers, at, times)
    if at.now >= at.look:
        return RunDecision(run=True, why="look")
    return RunDecision(run=False, why="parked")


def _scheduled(triggers: Mapping[Trigger, float], at: RunFacts, times: FireTimes) -> RunDecision:
    last = at.last
    if at.resting and Trigger.AGAIN not in triggers:
        return RunDecision(run=False, why="pausing after a failure")
    if last is None:
        return RunDecision(run=True, why="first")
    if was_cut_off(last):
        return RunDecision(run=True, why="interrupted")  # or still at work elsewhere, which its lease will show
    # A failure is in the last pass, or it was one that opened no run.
    unserved = Trigger.AGAIN in triggers and not _served_since(last, triggers[Trigger.AGAIN])
    if unserved or (last.error and (Trigger.START in triggers or Trigger.AGAIN in triggers)):
        return RunDecision(run=True, why="again")
    served = last.started_at if last.serves_schedule else 0.0
    due = times.after(served if at.served is None else at.served)
    if due is not None and due <= at.now:
        return RunDecision(run=True, why="due")
    return RunDecision(run=False, why="done elsewhere")


def _served_since(last: RunRow | None, asked: float) -> bool:
    return last is not None and last.finished_at is not None and last.started_at >= asked


class LinkParking:
    """Where one link is parked.

    Args:
        name: The link.
        context: What the daemon works with.
    """

    def __init__(self, name: str, context: RunnerContext) -> None:
        self._name = name
        self._context = context
        self._decided: frozenset[int] = frozenset()

    async def facts_changed(self, link: LinkRow, runs: Sequence[RunRow], last: RunRow | None) -> bool:
        """Given a parked link and its newest runs, return whether a person has acted on it since.

        It looks at the state database only: neither side is asked.
        """
        since = last.id if last is not None else 0
        if any(row.id > since and row.kind in {"apply", "rebase", "rename"} and row.state != "failed" for row in runs):
            return True
        if parked_as(link.parked) is not Parking.REFUSED:
            return False
        return not await self._decisions(link) <= self._decided

    async def keep(self, parking: Parking | None, detail: str) -> None:
        """Record that the link is parked, or with None that it no longer is.

        Raises:
            LeaseHeld: Another process works on the link; what it finds will be recorded instead.
            StateUnavailable: The state database is out of reach.
        """
        link = await self._context.store.find_link(self._name)
        if link is None:
            return
        if parking is Parking.REFUSED:
            self._decided = await self._decisions(link)
        reason = f"{parking}: {detail}" if parking is not None else ""
        if reason == link.parked:
            return
        async with self._context.short_lease(link) as lease:
            await self._context.store.set_parked(lease, reason)
        if not reason:
            log.info("link unparked", was=link.parked)
        elif not link.parked or parked_as(link.parked) is not parking:
            log.warning("link parked", reason=reason)

    async def _decisions(self, link: LinkRow) -> frozenset[int]:
        return frozenset(one.hold.order_id for one in await self._context.store.holds(link.id) if one.decision)
