"""How a link is, derived from the state database, and the tone of each state that is shown. Pure.

The newest pass that was not cut off decides how a link is (`LinkHealth`). What happens right now comes before that: a
process works on it, a person paused it, or a pass is overdue.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from itertools import dropwhile
from typing import NamedTuple

from syncd.core.model import Outcome
from syncd.core.records import LinkRow, RunRow
from syncd.engine.report import Report
from syncd.errors import AuthError, PortalBlocked, SyncdError

_CUT_OFF = ("Stopped by ", "interrupted")
"""How the error of a run begins that a signal or the end of its process cut off. It says nothing about the link."""
BEGINNING = 10.0
"""Seconds during which a run that says `running` is not called interrupted although no lease was seen: runs and leases
are read one after the other, and a run may begin in between."""


class Tone(StrEnum):
    """How much a state asks for attention. The page and the terminal each have a look for every tone.

    GOOD: as it should be. BUSY: at work. CALM: nothing has happened yet, or nothing is to. WARN: something is left, or
    may be. BAD: something is wrong.
    """

    GOOD = "good"
    BUSY = "busy"
    CALM = "calm"
    WARN = "warn"
    BAD = "bad"


class Health(StrEnum):
    """How a link is at a glance.

    NEW: no pass has ended yet. IN_STEP: both sides say the same. WORKING: a process holds its lease. HELD:
    in step except for orders that wait for a person, or changes that failed. REFUSED: a guard refused its plan. PARKED:
    the portal or a database refuses the credentials or a right, or the vendor blocks them; passes are suspended.
    FAILING: its passes fail for a reason that may pass. LATE: a pass was due and no daemon has made it. PAUSED: a
    person stopped its scheduled passes.
    """

    NEW = "new"
    IN_STEP = "in-step"
    WORKING = "working"
    HELD = "held"
    REFUSED = "refused"
    PARKED = "parked"
    FAILING = "failing"
    LATE = "late"
    PAUSED = "paused"

    @property
    def words(self) -> str:
        """The health as a person reads it: `in step`."""
        return self.value.replace("-", " ")

    @property
    def tone(self) -> Tone:
        """How much the health asks for attention."""
        return _OF_HEALTH[self]


_OF_HEALTH = {
    Health.NEW: Tone.CALM,
    Health.IN_STEP: Tone.GOOD,
    Health.WORKING: Tone.BUSY,
    Health.HELD: Tone.WARN,
    Health.REFUSED: Tone.BAD,
    Health.PARKED: Tone.BAD,
    Health.FAILING: Tone.BAD,
    Health.LATE: Tone.BAD,
    Health.PAUSED: Tone.CALM,
}
_OF_STATE = {
    "running": Tone.BUSY,
    "planned": Tone.CALM,
    "applied": Tone.GOOD,
    "partial": Tone.WARN,
    "refused": Tone.BAD,
    "failed": Tone.BAD,
    "incomplete": Tone.BAD,
}
_OF_OUTCOME = {
    Outcome.PLANNED: Tone.CALM,
    Outcome.WAITING: Tone.CALM,
    Outcome.INTENDED: Tone.BAD,
    Outcome.APPLIED: Tone.GOOD,
    Outcome.ALREADY: Tone.GOOD,
    Outcome.SKIPPED: Tone.WARN,
    Outcome.FAILED: Tone.BAD,
    Outcome.UNCERTAIN: Tone.BAD,
}


def tone_of_state(state: str) -> Tone:
    """Given the state of a run, return its tone; an unknown one is calm."""
    return _OF_STATE.get(state, Tone.CALM)


def tone_of_run(row: RunRow) -> Tone:
    """Given a run, return its tone: that of its state, but a plan that another run has carried out is good."""
    return Tone.GOOD if row.spent_by is not None else tone_of_state(row.state)


def tone_of_outcome(outcome: Outcome) -> Tone:
    """Given what became of a change, return its tone."""
    return _OF_OUTCOME[outcome]


WELL = frozenset({Health.NEW, Health.IN_STEP})
"""The healths between passes that need no notification."""


class LinkHealth(NamedTuple):
    """What the passes of a link say of it, since when (seconds since the epoch), the run that showed it, and why.

    Of a refusal it is the run that holds the plan, whichever pass last found it still refused.
    """

    health: Health
    since: float = 0.0
    run: int = 0
    detail: str = ""


class Parking(StrEnum):
    """Why scheduled passes of a link are suspended; the stored reason begins with one of these words."""

    REFUSED = "refused"
    AUTH = "auth"
    BLOCKED = "blocked"


def parking_of(error: BaseException | None, state: str) -> Parking | None:
    """Given what ended a run and the run's state, return why the link must be parked, or None."""
    if isinstance(error, PortalBlocked):
        return Parking.BLOCKED
    if isinstance(error, AuthError):
        return Parking.AUTH
    return Parking.REFUSED if state == "refused" else None


def parked_as(reason: str) -> Parking:
    """Given a stored parking reason, return its kind; an unknown reason counts as a refusal."""
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
    # Partial without an error: changes failed or were skipped, which are leftovers like holds.
    return Health.HELD if row.counts.holds or row.state == "partial" else Health.IN_STEP


def was_cut_off(row: RunRow) -> bool:
    """Given a run, return whether it has not ended by itself: it is at work, or a signal or a crash ended it."""
    return row.finished_at is None or row.error.startswith(_CUT_OFF)


def is_interrupted(row: RunRow, now: float, *, at_work: bool) -> bool:
    """Given a run, return whether its process ended in the middle of it.

    Args:
        row: The run.
        now: Seconds since the epoch.
        at_work: Whether a process holds the lease of its link.
    """
    return row.state == "running" and not at_work and now - row.started_at > BEGINNING


def is_pass(row: RunRow) -> bool:
    """Given a run, return whether it was a pass, over all orders or some; plans and applied plans are not."""
    return row.kind == "pass"


def relevant_passes(runs: Iterable[RunRow]) -> list[RunRow]:
    """Given runs, newest first, return the passes that say how the link is.

    A successful pass over only some orders says nothing about a refused plan for others, which is still waiting.
    """
    kept: list[RunRow] = []
    refused: RunRow | None = None
    for row in reversed(list(filter(is_pass, runs))):
        health = health_of(row)
        if health is Health.REFUSED:
            refused = row
        elif health in {Health.IN_STEP, Health.HELD}:
            if refused is not None and not _settles(row, refused):
                continue
            refused = None
        kept.append(row)
    return kept[::-1]


def _settles(row: RunRow, refused: RunRow) -> bool:
    return row.covers is None or (refused.covers is not None and row.covers.includes(refused.covers))


def last_pass(runs: Iterable[RunRow]) -> RunRow | None:
    """Given runs, newest first, return the newest pass that says how the link is."""
    return next(iter(relevant_passes(runs)), None)


def deciding_pass(runs: Iterable[RunRow]) -> RunRow | None:
    """Given runs, newest first, return the newest pass that was not cut off: the one that decides how the link is."""
    return next((row for row in relevant_passes(runs) if not was_cut_off(row)), None)


def last_scheduled(link: LinkRow | None, runs: Iterable[RunRow]) -> float | None:
    """Given a link and its runs, return when the newest pass began that served its schedule; None where none is known.

    There may be very many passes over the newest or over named orders in between.
    """
    found = next((row.started_at for row in runs if row.serves_schedule), None)
    tried = None if link is None or link.coverage is None else max(one.tried for one in link.coverage.slices)
    return max((one for one in (found, tried) if one is not None), default=None)


def last_read(runs: Iterable[RunRow]) -> RunRow | None:
    """Given runs, newest first, return the newest pass that read both sides, so that its numbers are meaningful."""
    return next((row for row in runs if is_pass(row) and _has_read(row)), None)


def _has_read(row: RunRow) -> bool:
    counts = row.counts
    read = row.state in {"applied", "partial"} and row.finished_at is not None
    return read or bool(counts.in_step or counts.crm_rows or counts.table_rows)


def is_turn_among(runs: Iterable[RunRow]) -> bool:
    """Given runs, return whether their passes differ in health, so that they show when the present health began."""
    return len({health_of(row) for row in runs if is_pass(row)} - {None}) > 1


def health_from(link: LinkRow | None, runs: Iterable[RunRow]) -> LinkHealth:
    """Given a link's row and its newest runs, newest first, return what its passes say of it, and since when."""
    parked = link.parked if link is not None else ""
    found: LinkHealth | None = None
    for row in relevant_passes(runs):
        health = health_of(row, parked)
        if health is None:
            continue
        if found is None:
            found = LinkHealth(health, row.finished_at or 0.0, row.plan, row.error)
        elif health is found.health:
            found = found._replace(since=row.finished_at or 0.0)
        else:
            break
    return found or LinkHealth(Health.NEW, link.created_at if link is not None else 0.0)


def health_after(report: Report | None, error: BaseException | None, before: LinkHealth, now: float) -> LinkHealth:
    """Given how a pass ended, return what it says of the link: what `health_from` derives once it is recorded.

    Args:
        report: The result of the run; None if no run was opened, which only the process that tried can know.
        error: What ended it early, if anything did.
        before: What the passes said until then.
        now: Seconds since the epoch.
    """
    if report is not None and report.row.finished_at is not None:
        parking = parking_of(error, report.row.state)
        found = health_of(report.row, f"{parking}:" if parking else "")
        if found is not None:
            since = before.since if found is before.health else report.row.finished_at
            return LinkHealth(found, since, report.row.plan, report.row.error)
    health = Health.FAILING if parking_of(error, "failed") is None else Health.PARKED
    if isinstance(error, SyncdError):
        detail = error.message
    elif error is not None:
        detail = f"An unexpected error, {type(error).__name__}; the log has it."
    else:
        detail = report.row.error if report is not None else ""
    return LinkHealth(health, before.since if health is before.health else now, before.run, detail)


def health_before_failures(link: LinkRow | None, runs: Sequence[RunRow]) -> LinkHealth:
    """Given a link's row and its newest runs, newest first, return what the passes said before the newest failures."""
    passes = [row for row in runs if is_pass(row) and health_of(row) is not None]
    return health_from(link, dropwhile(lambda row: health_of(row) is Health.FAILING, passes))


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
