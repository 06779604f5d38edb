"""How the page names healths, states and outcomes: a word, a tone (a colour), and a sign for who sees no colour."""

from __future__ import annotations

from typing import Final, NamedTuple

from syncd.core.model import Direction, Outcome
from syncd.core.records import RunRow
from syncd.engine import formatting
from syncd.status.health import Health, is_interrupted
from syncd.status.needs import sentence


class Badge(NamedTuple):
    """A word with its tone (good, busy, calm, warn, bad) and its sign."""

    word: str
    tone: str
    sign: str


HEALTHS: Final = {
    Health.NEW: Badge("new", "calm", "○"),
    Health.IN_STEP: Badge("in step", "good", "✓"),
    Health.HELD: Badge("held", "warn", "■"),
    Health.REFUSED: Badge("refused", "bad", "▲"),
    Health.PARKED: Badge("parked", "bad", "P"),
    Health.FAILING: Badge("failing", "bad", "✕"),
    Health.PAUSED: Badge("paused", "calm", "‖"),
    Health.WORKING: Badge("working", "busy", "▶"),
    Health.LATE: Badge("late", "bad", "!"),
}

STATES: Final = {
    "running": Badge("running", "busy", "▶"),
    "planned": Badge("planned", "calm", "○"),
    "applied": Badge("applied", "good", "✓"),
    "partial": Badge("partial", "warn", "■"),
    "refused": Badge("refused", "bad", "▲"),
    "failed": Badge("failed", "bad", "✕"),
    "incomplete": Badge("incomplete", "bad", "✕"),
}
INTERRUPTED: Final = Badge("interrupted", "warn", "■")
SPENT: Final = Badge("applied", "good", "✓")

OUTCOMES: Final = {
    Outcome.PLANNED: Badge("planned", "calm", "○"),
    Outcome.WAITING: Badge("waiting", "calm", "◔"),
    Outcome.INTENDED: Badge("uncertain", "bad", "?"),
    Outcome.APPLIED: Badge("applied", "good", "✓"),
    Outcome.ALREADY: Badge("already so", "good", "✓"),
    Outcome.SKIPPED: Badge("skipped", "warn", "■"),
    Outcome.FAILED: Badge("failed", "bad", "✕"),
    Outcome.UNCERTAIN: Badge("uncertain", "bad", "?"),
}

DIRECTIONS: Final = {
    Direction.TWO_WAY: "CRM ⇄ table",
    Direction.CRM_TO_TABLE: "CRM → table",
    Direction.TABLE_TO_CRM: "table → CRM",
}


def badge_of_run(row: RunRow, now: float, *, at_work: bool) -> Badge:
    """Given a run, return its badge.

    Args:
        row: The run.
        now: When `at_work` was read, in seconds since the epoch.
        at_work: Whether a process works on its link. If none does, a run in state `running` was cut off.
    """
    if is_interrupted(row, now, at_work=at_work):
        return INTERRUPTED
    if row.spent_by is not None:
        return SPENT
    return STATES.get(row.state, Badge(row.state, "calm", "○"))


def refusals(row: RunRow) -> list[str]:
    """Given a refused run, return why, each guard a sentence with its numbers."""
    return [sentence(one) for one in formatting.refusals(row)]


def ago(then: float, now: float) -> str:
    """Given a moment and now, return how far apart they are, no finer than `formatting.about`."""
    return f"in {formatting.about(then - now)}" if then > now else f"{formatting.about(now - then)} ago"
