"""How long to wait before the next try: of an order that fails, of a request, of a link whose passes fail."""

from __future__ import annotations

MAX_ATTEMPTS = 5
"""An order whose writes were refused this often in a row is held."""

LONGEST_PAUSE = 3600.0
"""Seconds; an order that fails is never left alone for longer."""


def pause(attempt: int, *, first: float, most: float, spread: float = 0.0, chance: float = 0.0) -> float:
    """Given the number of the failed attempt (from 1), return the seconds to wait before the next one.

    Args:
        attempt: 1 after the first failure.
        first: Seconds after the first failure; each further one doubles them.
        most: The longest pause.
        spread: The part of the pause that chance may add (0 to 1).
        chance: A number in [0, 1) from the injected clock.
    """
    plain = min(most, first * 2.0 ** min(attempt - 1, 30))
    return plain * (1 + spread * chance)


def is_waiting(next_at: float, now: float) -> bool:
    """Given when an order may be tried again, and the time, return whether that is still to come.

    A clock that was set back must not make the pause longer than it was meant to be.
    """
    return 0 < next_at - now <= LONGEST_PAUSE


def order_pause(attempt: int) -> float:
    """Given how often an order's write failed in a row, return the seconds until it is tried again."""
    return pause(attempt, first=60, most=LONGEST_PAUSE)
