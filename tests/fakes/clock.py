"""Clocks for tests: one that a test moves, and one that moves by itself when all tasks sleep."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random

_ROUNDS = 30
"""Turns of the event loop that others get before time moves: enough for an in-memory exchange to run its course."""


class SetClock:
    """See `syncd.core.ports.Clock`. Sleeping moves it; nobody really waits. `jump` sets `now` apart from `monotonic`."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.time = now
        self.jump = 0.0
        self.chance = 0.5

    def now(self) -> float:
        return self.time + self.jump

    def monotonic(self) -> float:
        return self.time

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.time += seconds

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)

    def random(self) -> float:
        return self.chance


class FakeClock:
    """See `syncd.core.ports.Clock`. Virtual time for tasks that run side by side.

    A task that sleeps lets the others go on. When only sleepers are left, time moves to the end of the shortest sleep: two
    tasks that sleep a second each, side by side, take one second. `now` can be set apart from `monotonic`, as a clock that jumps.
    """

    def __init__(self, now: float = 1_800_000_000.0, *, seed: int = 1) -> None:
        self.jump = 0.0
        self.slept: list[float] = []
        self._began = now
        self._time = 0.0
        self._sleepers: list[tuple[float, int]] = []
        self._number = itertools.count()
        self._chance = random.Random(seed)

    def now(self) -> float:
        return self._began + self._time + self.jump

    def monotonic(self) -> float:
        return 1000.0 + self._time

    def advance(self, seconds: float) -> None:
        """Let time pass while nobody waits."""
        self._time += seconds

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        mine = (self._time + seconds, next(self._number))
        heapq.heappush(self._sleepers, mine)
        try:
            idle = 0
            while self._time < mine[0]:
                await asyncio.sleep(0)
                idle = idle + 1 if self._sleepers[0] == mine else 0
                if idle > _ROUNDS:
                    self._time = max(self._time, mine[0])
        finally:
            self._sleepers.remove(mine)
            heapq.heapify(self._sleepers)

    def random(self) -> float:
        return self._chance.random()
