"""The machine's clock, for a sandbox that is not given another."""

from __future__ import annotations

import asyncio
import random
import time


class WallClock:
    """Real time and real chance; implements `syncd.core.ports.Clock`."""

    def now(self) -> float:
        """Return seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait on the event loop."""
        await asyncio.sleep(seconds)

    def random(self) -> float:
        """Return a number in [0, 1)."""
        return random.random()  # noqa: S311  # chance for simulations, never a secret
