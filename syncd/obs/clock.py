"""The system's clock: the only place that asks the operating system for time and chance."""

from __future__ import annotations

import asyncio
import random
import time


class SystemClock:
    """`syncd.core.ports.Clock` over the operating system."""

    def now(self) -> float:
        """Return seconds since the epoch (UTC)."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds that never go back; on Linux all processes of a host read the same ones."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait; 0 yields to other tasks."""
        await asyncio.sleep(max(0.0, seconds))

    def random(self) -> float:
        """Return a number in [0, 1)."""
        return random.random()  # noqa: S311 - spreads retries, guards nothing
