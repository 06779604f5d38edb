"""How a link is, told from how its passes ended. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from syncd.core.records import LinkRow, RunRow
from syncd.engine.report import Report
from syncd.errors import AuthError, PortalBlocked, SyncdError

_CUT_OFF = ("Stopped by ", "interrupted")
"""How the error of a run begins that a signal or the end of its process cut off: it says nothing about the link."""


class Health(StrEnum):
    """How a link is at a glance. The first six last from pass to pass; the others say what is going on right now.

    WAITING: no pass has been made yet. PARKED: credentials, a right or the vendor refuse the portal; passes rest.
    """

    WAITING = "waiting"
    IN_STEP = "in-step"
    HELD = "held"
    REFUSED = "refused"
    PARKED = "parked"
    FAILING = "failing"
    PAUSED = "paused"
    WORKING = "working"
    STANDBY = "standby"


WELL = frozenset({Health.WAITING, Health.IN_STEP})


class Condition(NamedTuple):
    """A link's lasting health, since when (seconds since the epoch), the run that showed it, and a sentence.

    Of a refusal it is the run that holds the plan, whichever pass found last that it still is refused.
    """

    health: Health
    since: float = 0.0
    run: int = 0
    detail: str = ""


class Parking(StrEnum):
    """Why scheduled passes of a link rest; the stored reason begins with one of these words."""

    REFUSED = "refused"
    AUTH = "auth"
    BLOCKED = "blocked"


def parking_of(error: BaseException | None, state: str) -> Parking | None:
    """Given what ended a run and the run's state, return why the link is to be parked, or None."""
    if isinstance(error, PortalBlocked):
        return Parking.BLOCKED
    if isinstance(error, AuthError):
        return Parking.AUTH
    return Parking.REFUSED if state == "refused" else None


def parked_as(reason: str) -> Parking:
    """Given a stored parking reason, return its kind; an unknown one is looked at as a refusal is."""
    word = reason.partition(":")[0]
    return Parking(word) if word in set(Parking) else Parking.REFUSED


def health_of(row: RunRow, parked: str = "") -> Health | None:
    """Given a finished pass and the link's parking reason, return what the pass says; None if it says nothing."""
    if was_cut_off(row):
        return None
    if row.state == "refused":
        return Health.REFUSED
    if row.error:
        return Health.PARKED if parked and parked_as(parked) is not Parking.REFUSED else Health.FAILING
    # Partial without an error: changes that failed or were skipped; like holds, they are left over.
    return Health.HELD if row.counts.holds or row.state == "partial" else Health.IN_STEP


def was_cut_off(row: RunRow) -> bool:
    """Given a run, return whether it did not come to its own end: it is at work, or a signal or a crash ended it."""
    return row.finished_at is None or row.error.startswith(_CUT_OFF)


def is_pass(row: RunRow) -> bool:
    """Given a run, return whether it was a whole pass (a plan or an applied plan says nothing about the schedule)."""
    return row.kind == "pass"


def last_pass(runs: Iterable[RunRow]) -> RunRow | None:
    """Given runs, newest first, return the newest pass."""
    return next(filter(is_pass, runs), None)


def condition_of(link: LinkRow | None, runs: Iterable[RunRow]) -> Condition:
    """Given a link's row and its newest runs, newest first, return its lasting health and since when."""
    parked = link.parked if link is not None else ""
    found: Condition | None = None
    for row in filter(is_pass, runs):
        health = health_of(row, parked)
        if health is None:
            continue
        if found is None:
            found = Condition(health, row.finished_at or 0.0, row.plan, row.error)
        elif health is found.health:
            found = found._replace(since=row.finished_at or 0.0)
        else:
            break
    return found or Condition(Health.WAITING, link.created_at if link is not None else 0.0)


def condition_after(report: Report | None, error: BaseException | None, before: Condition, now: float) -> Condition:
    """Given how a pass ended, return the link's lasting health.

    Args:
        report: What the run came to; None where no run was opened.
        error: What ended it early, if anything did.
        before: The lasting health until then.
        now: Seconds since the epoch.
    """
    parking = parking_of(error, report.row.state if report is not None else "failed")
    if parking is not None:
        health = Health.REFUSED if parking is Parking.REFUSED else Health.PARKED
    elif report is None or report.exit_code not in {0, 3}:
        health = Health.FAILING
    else:
        health = Health.HELD if report.exit_code else Health.IN_STEP
    if isinstance(error, SyncdError):
        detail = error.message
    elif error is not None:
        detail = f"An unexpected error, {type(error).__name__}; the log has it."
    else:
        detail = report.row.error if report is not None else ""
    since = before.since if health is before.health else now
    return Condition(health, since, report.row.plan if report is not None else before.run, detail)


def failures_in_a_row(runs: Iterable[RunRow]) -> int:
    """Given runs, newest first, return how many of the newest passes failed one after the other."""
    count = 0
    for row in filter(is_pass, runs):
        health = health_of(row)
        if health is Health.FAILING:
            count += 1
        elif health is not None:
            break
    return count
