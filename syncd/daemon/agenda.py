"""Who wants a pass of one link, now or after a pause."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping

from syncd.core.ports import Clock
from syncd.daemon.verdict import Ask


class Agenda:
    """What a runner has to attend to: asks that have come, and asks that were put off.

    Args:
        clock: Time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._asks: dict[Ask, float] = {}
        self._put_off: dict[Ask, float] = {}
        self._due: float | None = None
        self._woken = asyncio.Event()

    def ask(self, who: Ask) -> None:
        """Want a pass."""
        self._asks[who] = self._clock.now()
        self._woken.set()

    def wake(self) -> None:
        """End the `sleep` that is going on, whoever asks."""
        self._woken.set()

    def put_off(self, asks: Mapping[Ask, float], seconds: float) -> None:
        """Attend to these asks after so many seconds, in place of any that were put off before."""
        self._put_off = dict(asks)
        self._due = self._clock.monotonic() + seconds

    def hasten(self) -> None:
        """Have the pause end now, if there is one."""
        if self._due is not None:
            self._due = self._clock.monotonic()
            self._woken.set()

    def drop(self) -> None:
        """Forget what was put off."""
        self._due = None

    def left(self) -> float | None:
        """Return the seconds until what was put off is due, below 0 where it is overdue; None where nothing was."""
        return None if self._due is None else self._due - self._clock.monotonic()

    @property
    def is_waiting(self) -> bool:
        """Whether something was put off."""
        return self._due is not None

    @property
    def is_ready(self) -> bool:
        """Whether there is something to attend to now."""
        left = self.left()
        return bool(self._asks) or (left is not None and left <= 0)

    def take(self, *, early: bool) -> Mapping[Ask, float]:
        """Return who asks, each with the time it did in seconds since the epoch, and forget them.

        Args:
            early: Whether what was put off goes along although it is not due yet.
        """
        asks, self._asks = self._asks, {}
        left = self.left()
        if left is not None and (early or left <= 0):
            asks = self._put_off | asks
            self._due = None
        self._woken.clear()
        return asks

    async def sleep(self) -> None:
        """Wait until somebody asks, or what was put off is due."""
        left = self.left()
        waits: set[asyncio.Future[None]] = {asyncio.ensure_future(_nothing(self._woken.wait()))}
        if left is not None:
            waits.add(asyncio.ensure_future(self._clock.sleep(left)))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
            self._woken.clear()


async def _nothing(wait: Awaitable[object]) -> None:
    await wait
