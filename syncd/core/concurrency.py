"""How many requests may be under way at once, and how the last work is shared among them. Pure.

The limit is that of TCP: slow start, additive increase, multiplicative decrease.
"""

from __future__ import annotations

from typing import Final

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
