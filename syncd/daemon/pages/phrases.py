"""How the page names healths, states and outcomes: a word, a tone (a colour), and a sign for who sees no colour."""

from __future__ import annotations

from typing import Final, NamedTuple

from syncd.core.model import Direction, Outcome
from syncd.core.records import RunRow
from syncd.daemon.health import Health
from syncd.engine import words


class Badge(NamedTuple):
    """A word with its tone (good, busy, calm, warn, bad) and its sign."""

    word: str
    tone: str
    sign: str


HEALTHS: Final = {
    Health.WAITING: Badge("no pass yet", "calm", "○"),
    Health.IN_STEP: Badge("in step", "good", "✓"),
    Health.HELD: Badge("held", "warn", "■"),
    Health.REFUSED: Badge("refused", "bad", "▲"),
    Health.PARKED: Badge("parked", "bad", "P"),
    Health.FAILING: Badge("failing", "bad", "✕"),
    Health.PAUSED: Badge("paused", "calm", "‖"),
    Health.WORKING: Badge("working", "busy", "▶"),
    Health.STANDBY: Badge("standby", "busy", "◇"),
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


def badge_of_run(row: RunRow, *, at_work: bool) -> Badge:
    """Given a run, return its badge.

    Args:
        row: The run.
        at_work: Whether anybody works on its link now; a run that says `running` otherwise was cut off.
    """
    if row.state == "running" and not at_work:
        return INTERRUPTED
    if row.spent_by is not None:
        return SPENT
    return STATES.get(row.state, Badge(row.state, "calm", "○"))


def refusals(row: RunRow) -> list[str]:
    """Given a refused run, return why, each guard a sentence with its numbers."""
    return [sentence(one) for one in words.refusals(row)]


def apply_command(row: RunRow, now: float, plan_ttl: float) -> str:
    """Given a run, return the command that carries its plan out; empty where there is none, or none any more.

    Args:
        row: The run.
        now: Seconds since the epoch.
        plan_ttl: How long a stored plan may be applied, in seconds.
    """
    if row.state == "refused" and row.points_elsewhere:
        return f"syncd rebase {row.link}"
    writes = row.counts.crm.total + row.counts.table.total
    waits = row.kind in {"plan", "undo", "pass"} and row.state in {"planned", "refused"} and row.spent_by is None
    return f"syncd apply {row.plan}" if waits and writes and now - row.started_at <= plan_ttl else ""


def about(seconds: float) -> str:
    """Given a length of time in seconds, return it as coarse as suits a page that renews itself: `3 d 2 h`."""
    if seconds < 60:
        return f"{max(0, int(seconds))} s"
    minutes = int(seconds) // 60
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def ago(then: float, now: float) -> str:
    """Given a moment and now, return how far apart they are, no finer than `about`."""
    return f"in {about(then - now)}" if then > now else f"{about(now - then)} ago"


def sentence(text: str) -> str:
    """Given a phrase, return it with a capital and a full stop."""
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) or not text else f"{text}."
