"""How long to wait before the next try, and how many requests may be under way at once. Pure.

The next try is that of an order that fails, of a request, or of a link whose passes fail. The limit of requests is that
of TCP: slow start, additive increase, multiplicative decrease. The last work is shared among them.
"""

from __future__ import annotations

from typing import Final

MAX_ATTEMPTS = 5
"""An order whose writes were refused this often in a row is held."""

LONGEST_PAUSE = 3600.0
"""Seconds; an order that fails is never left alone for longer."""

SKEW = 300.0
"""Seconds by which the clocks of hosts may differ. A time further in the future is of a clock that was set back."""


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


FIRST_AT_ONCE: Final = 2
"""How many are under way at first: heavy writing side by side has made real portals answer 500 (peers.md)."""

FIRST_SHARE: Final = 1
"""How much a request of a long work takes while the limit still rises: short requests reach the full width soon."""

LONG: Final = 20
"""Work for more than so many requests of one write each at full width is long. The writes of a short one stay together:
in one request, each proves that those before it were executed.
"""

SMALLEST_SHARE: Final = 2
"""A request for less would cost the request limit more than it saves time."""


class ConcurrencyLimit:
    """A limit that rises while all is quiet, and halves on trouble.

    Args:
        most: The highest it may become, from 1.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._quiet = 0
        self._since = 0
        self.current = min(most, FIRST_AT_ONCE)

    def share(self, left: int) -> int:
        """Given how much is left, return how much the next request may take at most.

        At full width the last requests share what is left: with full ones, some would still be at work while the
        others have nothing to do (guided self-scheduling).
        """
        if self.current == self.most:
            return max(SMALLEST_SHARE, -(-left // self.current))
        rises = self._since == 0 and left > LONG * self.most
        return FIRST_SHARE if rises else left

    def begin(self) -> int:
        """A request is sent; return its ticket, which tells whether it was sent before or after the last trouble."""
        return self._since

    def quiet(self) -> None:
        """A request ended well: one more may be under way. After the first trouble, one more a round only."""
        self._quiet += 1
        if self._since == 0 or self._quiet >= self.current:
            self._quiet = 0
            self.current = min(self.most, self.current + 1)

    def trouble(self, ticket: int) -> None:
        """A request met with trouble: half as many from now on. What was under way beside it halves nothing again."""
        self._quiet = 0
        if ticket == self._since:
            self._since += 1
            self.current = max(1, self.current // 2)
