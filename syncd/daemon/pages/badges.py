"""How the page shows healths, states and outcomes: a word, its tone as a colour, and a sign for who sees no colour."""

from __future__ import annotations

from typing import Final, NamedTuple

from syncd.core.model import Outcome
from syncd.core.records import RunRow
from syncd.engine import formatting
from syncd.status.health import Health, Tone, is_interrupted, tone_of_outcome, tone_of_run


class Badge(NamedTuple):
    """A word with its tone and its sign."""

    word: str
    tone: Tone
    sign: str


_SIGNS: Final = {Tone.GOOD: "✓", Tone.BUSY: "▶", Tone.CALM: "○", Tone.WARN: "■", Tone.BAD: "✕"}
_SIGNS_OF_WORDS: Final = {
    "refused": "▲", "parked": "P", "late": "!", "paused": "‖", "waiting": "◔", "uncertain": "?", "decided": "✎",
}  # fmt: skip
"""Signs that tell states of one tone apart."""


def badge(word: str, tone: Tone) -> Badge:
    """Given a word and its tone, return both with their sign."""
    return Badge(word, tone, _SIGNS_OF_WORDS.get(word, _SIGNS[tone]))


def badge_of_health(health: Health) -> Badge:
    """Given a link's health, return its badge."""
    return badge(health.words, health.tone)


def badge_of_outcome(outcome: Outcome) -> Badge:
    """Given what became of a change, return its badge."""
    word = "already so" if outcome is Outcome.ALREADY else formatting.outcome(outcome)
    return badge(word, tone_of_outcome(outcome))


def badge_of_run(row: RunRow, now: float, *, at_work: bool) -> Badge:
    """Given a run, return its badge.

    Args:
        row: The run.
        now: When `at_work` was read, in seconds since the epoch.
        at_work: Whether a process works on its link. If none does, a run in state `running` was cut off.
    """
    if is_interrupted(row, now, at_work=at_work):
        return badge("interrupted", Tone.WARN)
    return badge("applied" if row.spent_by is not None else row.state, tone_of_run(row))
