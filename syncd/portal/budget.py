"""The portal's time: how much of it each method may use, and how much a call takes.

The portal adds up the time a method takes, per credentials, over ten minutes; above 480 s it refuses that method until
the oldest minute falls out (portal.md 9.2). syncd does not model that sum; it trusts what the answers say of each
method (`operating`, `operating_reset_at`), and of `batch` itself. How long calls take decides how many fit into
one request.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from syncd.core.ports import OPERATING_LIMIT, Clock
from syncd.portal.commands import ADD, DELETE, LIST, method_in
from syncd.portal.responses import CommandAnswer, number

SLOW: Final = 0.8 * OPERATING_LIMIT
"""Above this each call waits, longer the nearer the limit is."""
STOP: Final = 0.95 * OPERATING_LIMIT
"""Above this calls wait for the reset, since a call that crosses the limit blocks the method for all callers."""
WINDOW: Final = 600.0
"""Seconds after which a use no longer counts."""
UNKNOWN_RESET: Final = 120.0
"""Seconds to wait when a method is blocked and no answer named the reset."""
LONGEST_PAUSE: Final = 20.0
"""Seconds before a call just below `STOP`."""

BATCH_SECONDS: Final = 5.0
"""Seconds that a batch of writes should take. Several are under way at once, and a lost one should be small."""

FIRST_BATCH: Final = 2
"""Writes in a first batch: a small one is answered soon, and shows how long this portal takes."""

_START: Final = {ADD: 0.33, DELETE: 1.8, LIST: 0.04}
"""The vendor's own samples (portal.md 9.4)."""

_WEIGHT: Final = 0.5
"""The weight of a batch against all before it."""

_SHORTEST: Final = 0.02


class _Use(NamedTuple):
    """One method: seconds used, when a part is released, when that was read; times in this host's epoch seconds."""

    used: float
    reset_at: float
    read_at: float


class Budget:
    """The operating budget of one set of credentials.

    Args:
        clock: Time. No wait is longer than the window, also after the clock jumped.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._uses: dict[str, _Use] = {}
        self.changed = False

    def observe(self, method: str, times: Iterable[Mapping[str, Any]]) -> None:
        """Note what an answer says of a method; answers without `operating` (a box) say nothing.

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
        """Note that the portal refused the method for its budget; the refusal does not say until when."""
        now = self._clock.now()
        last = self._uses.get(method)
        reset_at = last.reset_at if last is not None and last.reset_at > now else now + UNKNOWN_RESET
        self._uses[method] = _Use(max(OPERATING_LIMIT, last.used if last is not None else 0.0), reset_at, now)
        self.changed = True

    def delay(self, method: str) -> float:
        """Given a method, return the seconds until it should be called again; 0: now."""
        return self.blocked_for(method) or self.slowdown(method)

    def blocked_for(self, method: str) -> float:
        """Given a method, return the seconds until the reset if its budget is spent, else 0."""
        return self._left(method) if self.used(method) >= STOP else 0.0

    def slowdown(self, method: str) -> float:
        """Given a method, return the seconds to wait before a call: more, the less of its budget is left, else 0."""
        part = (self.used(method) - SLOW) / (STOP - SLOW)
        return min(self._left(method), LONGEST_PAUSE * part) if 0 < part < 1 else 0.0

    def used(self, method: str) -> float:
        """Return the seconds of the budget that the method had used at its last answer."""
        use = self._uses.get(method)
        return 0.0 if use is None or self._clock.now() >= use.read_at + WINDOW else use.used

    def _left(self, method: str) -> float:
        """Given a method with an answer so far, return the seconds until a part of its use is released."""
        use = self._uses[method]
        over_at = (use.reset_at or use.read_at + WINDOW) + 1.0
        # Never longer than the window, even if the clock was set back meanwhile.
        return min(max(0.0, over_at - self._clock.now()), WINDOW)

    def snapshot(self) -> dict[str, tuple[float, float, float]]:
        """Return (seconds used, reset at, read at) by method, to be kept over a restart."""
        return {method: (use.used, use.reset_at, use.read_at) for method, use in self._uses.items()}

    def restore(self, kept: Mapping[str, tuple[float, float, float]]) -> None:
        """Take over what was kept, except for methods with an answer since."""
        for method, use in kept.items():
            self._uses.setdefault(method, _Use(*use))


class BatchSizer:
    """A moving average of seconds a call, by method.

    Args:
        target_seconds: Seconds that a batch should take.
    """

    def __init__(self, target_seconds: float = BATCH_SECONDS) -> None:
        self._target_seconds = target_seconds
        self._seconds = dict(_START)
        self._observed: Counter[str] = Counter()

    @property
    def target_seconds(self) -> float:
        """Seconds that a batch of writes should take."""
        return self._target_seconds

    def seconds(self, method: str) -> float:
        """Given a method, return the seconds that one call of it takes; 0 for one that neither writes nor lists."""
        return self._seconds.get(method, 0.0)

    def most_calls(self, method: str) -> int:
        """Given a method, return how many of its calls a batch may hold: a few at first, then twice those measured."""
        return max(FIRST_BATCH, 2 * self._observed[method])

    def observe(self, commands: Mapping[str, str], answers: Mapping[str, CommandAnswer]) -> None:
        """Given a batch as sent and its answers, note how long its calls took.

        The portal carries out a batch's commands one after another, so a call took from the end of the one before to
        its own end. Some versions cut the calls' own `start` and `duration` to whole seconds (portal.md 0.3), but not
        their ends. A failed call has no time, so the call after it cannot be measured.
        """
        taken: dict[str, list[float]] = {}
        before: float | None = None
        for key, command in commands.items():
            time = answers[key].time if key in answers else None
            end = None if time is None else number(time.get("finish"))
            if before is not None and end is not None:
                taken.setdefault(method_in(command), []).append(max(0.0, end - before))
            before = end
        for method, seconds in taken.items():
            self._observed[method] += len(seconds)
            if method in self._seconds:
                mean = max(_SHORTEST, sum(seconds) / len(seconds))
                self._seconds[method] += _WEIGHT * (mean - self._seconds[method])

    def overrun(self, method: str) -> None:
        """Note that a batch of this method got no answer in time: half as many go into one from now on."""
        self._seconds[method] = min(self._target_seconds, self._seconds[method] * 2)
