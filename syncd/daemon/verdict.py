"""Whether a link's pass is made now. Pure, so that every case can be named and tested.

Several daemons may look after one link. They name the same slots (`slots`), and a slot is served once a pass began at
or after it, whoever made it; so nothing is run twice, and nothing that fell due while no daemon was up is lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from syncd.core.records import LinkRow, RunRow
from syncd.daemon.health import was_cut_off
from syncd.daemon.slots import Slots


class Ask(StrEnum):
    """Who wants a pass.

    SCHEDULE: a slot has come. START: this daemon looks for what fell due while none was up. AGAIN: the pause after a
    failure, or the rest of a parked link, is over. RELOAD: the link's configuration changed. TRIGGER, SIGNAL: a person.
    """

    SCHEDULE = "schedule"
    START = "start"
    AGAIN = "again"
    RELOAD = "reload"
    TRIGGER = "trigger"
    SIGNAL = "signal"


PERSONS = frozenset({Ask.TRIGGER, Ask.SIGNAL})


SKEW = 300.0
"""A pass that began further in the future was recorded by a clock that was wrong; it must not silence the schedule."""


class Verdict(NamedTuple):
    """Whether to run, and why (not); `why` is what logs and metrics say."""

    run: bool
    why: str


class Situation(NamedTuple):
    """What a verdict is made from.

    Args:
        link: The link's row; None before its first pass.
        last: Its newest pass, of whatever daemon or command.
        slots: Its schedule; None without one.
        now: Seconds since the epoch.
        changed: A parked link's facts changed: a plan was applied, a hold decided, the link rebased.
        look: When a parked link is looked at next, in seconds since the epoch.
        failing: The newest pass failed for a reason that passes.
        resting: This daemon waits out the pause after a failure.
        requested: Somebody asked through the state database, and no pass has served that yet.
    """

    link: LinkRow | None
    last: RunRow | None
    slots: Slots | None
    now: float
    changed: bool = False
    look: float = 0.0
    failing: bool = False
    resting: bool = False
    requested: bool = False


def judge(asks: Mapping[Ask, float], at: Situation) -> Verdict:
    """Given who asks (and when they did, in seconds since the epoch), return whether a pass is made now."""
    if at.last is not None and at.last.started_at > at.now + SKEW:
        at = at._replace(last=None, look=0.0)
    signalled = Ask.SIGNAL in asks and not _served_since(at.last, asks[Ask.SIGNAL])
    if signalled or (Ask.TRIGGER in asks and at.requested):
        return Verdict(run=True, why="asked")
    if at.link is not None and at.link.paused:
        return Verdict(run=False, why="paused")
    if at.slots is None:
        return Verdict(run=False, why="unscheduled")
    if Ask.RELOAD in asks:
        return Verdict(run=True, why="reconfigured")
    if at.link is not None and at.link.parked:
        return _judge_parked(asks, at, at.slots)
    return _judge_scheduled(asks, at, at.slots)


def _judge_parked(asks: Mapping[Ask, float], at: Situation, slots: Slots) -> Verdict:
    # Whoever starts a daemon may have mended what the link was parked for; the start is the only sign of it.
    if Ask.START in asks or at.changed:
        return Verdict(run=True, why="facts changed")
    if at.failing:  # the look itself came to nothing, and is made up for as any pass is
        return _judge_scheduled(asks, at, slots)
    if at.now >= at.look:
        return Verdict(run=True, why="look")
    return Verdict(run=False, why="parked")


def _judge_scheduled(asks: Mapping[Ask, float], at: Situation, slots: Slots) -> Verdict:
    last = at.last
    if at.resting and Ask.AGAIN not in asks:
        return Verdict(run=False, why="pausing after a failure")
    if last is None:
        return Verdict(run=True, why="first")
    if was_cut_off(last):
        return Verdict(run=True, why="interrupted")  # or still at work elsewhere, which its lease will tell
    # A failure is in the last pass, or it was one that opened no run.
    unserved = Ask.AGAIN in asks and not _served_since(last, asks[Ask.AGAIN])
    if unserved or (last.error and (Ask.START in asks or Ask.AGAIN in asks)):
        return Verdict(run=True, why="again")
    due = slots.after(last.started_at)
    if due is not None and due <= at.now:
        return Verdict(run=True, why="due")
    return Verdict(run=False, why="done elsewhere")


def _served_since(last: RunRow | None, asked: float) -> bool:
    return last is not None and last.finished_at is not None and last.started_at >= asked
