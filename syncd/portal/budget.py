"""The operating budget: how much of its time the portal lets each method use.

The portal adds up the time a method takes, per credentials, over ten minutes; above 480 s it refuses that method until
the oldest minute falls out (bitrix24-rest.md 9.2). How it adds up is not modelled here: what the answers say of each
method (`operating`, `operating_reset_at`), and of `batch` itself, is believed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from syncd.core.ports import OPERATING_LIMIT, Clock
from syncd.portal.envelope import number

SLOW: Final = 0.8 * OPERATING_LIMIT
"""From here on each call waits a little, the longer the nearer the limit is."""
STOP: Final = 0.95 * OPERATING_LIMIT
"""From here on calls wait for the reset: the one that crosses the limit blocks the method for everybody."""
WINDOW: Final = 600.0
"""Seconds after which nothing of a use is left."""
UNKNOWN_RESET: Final = 120.0
"""Seconds to wait when a method is blocked and the portal never said until when."""
LONGEST_PAUSE: Final = 20.0
"""Seconds before a call just below `STOP`."""


class _Use(NamedTuple):
    """One method: seconds used, when a part is released, when that was read; times in this host's epoch seconds."""

    used: float
    reset_at: float
    read_at: float


class Budget:
    """The operating budget of one set of credentials.

    Args:
        clock: Time. Waiting times survive a jump of it: none is longer than the window.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._uses: dict[str, _Use] = {}
        self.changed = False

    def observe(self, method: str, times: Iterable[Mapping[str, Any]]) -> None:
        """Take in what an answer says of a method; answers without `operating` (a box) say nothing.

        Args:
            method: The method, in lower case.
            times: The `time` parts of its calls in one request.
        """
        known = [(used, time) for time in times if (used := number(time.get("operating"))) is not None]
        if not known:
            return
        used, time = max(known, key=lambda one: one[0])
        now = self._clock.now()
        reset_at, finish = number(time.get("operating_reset_at")), number(time.get("finish"))
        # The reset is in the portal's time; what matters is how far off it is.
        ahead = 0.0 if reset_at is None else reset_at - (now if finish is None else finish)
        self._uses[method] = _Use(used, now + min(ahead, WINDOW) if ahead > 0 else 0.0, now)
        self.changed = True

    def blocked(self, method: str) -> None:
        """The portal refused the method for its budget; the refusal itself does not say until when."""
        now = self._clock.now()
        last = self._uses.get(method)
        reset_at = last.reset_at if last is not None and last.reset_at > now else now + UNKNOWN_RESET
        self._uses[method] = _Use(max(OPERATING_LIMIT, last.used if last is not None else 0.0), reset_at, now)
        self.changed = True

    def delay(self, method: str) -> float:
        """Given a method, return the seconds until it should be called again; 0 is now."""
        return self.blocked_for(method) or self.slowdown(method)

    def blocked_for(self, method: str) -> float:
        """Given a method, return the seconds until the reset if its budget is spent, else 0."""
        return self._left(method) if self.used(method) >= STOP else 0.0

    def slowdown(self, method: str) -> float:
        """Given a method, return the seconds to wait before a call, more the less of its budget is left, else 0."""
        part = (self.used(method) - SLOW) / (STOP - SLOW)
        return min(self._left(method), LONGEST_PAUSE * part) if 0 < part < 1 else 0.0

    def used(self, method: str) -> float:
        """Return the seconds of the budget that the method had used when it was last heard of."""
        use = self._uses.get(method)
        return 0.0 if use is None or self._clock.now() >= use.read_at + WINDOW else use.used

    def _left(self, method: str) -> float:
        """Given a method that was heard of, return the seconds until a part of its use is released."""
        use = self._uses[method]
        over_at = (use.reset_at or use.read_at + WINDOW) + 1.0
        # No longer than the window, should the clock have been set back meanwhile.
        return min(max(0.0, over_at - self._clock.now()), WINDOW)

    def snapshot(self) -> dict[str, tuple[float, float, float]]:
        """Return (seconds used, reset at, read at) by method, to be kept over a restart."""
        return {method: (use.used, use.reset_at, use.read_at) for method, use in self._uses.items()}

    def restore(self, kept: Mapping[str, tuple[float, float, float]]) -> None:
        """Take in what was kept, except for methods that were heard of since."""
        for method, use in kept.items():
            self._uses.setdefault(method, _Use(*use))
