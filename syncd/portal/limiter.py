"""The portal's request limit: requests wait here instead of being refused there.

The portal counts requests of one source address in a leaky bucket. Each request adds 1, a fixed number drains a second,
and a request that would overflow it is refused with 503 (portal.md 9.1). This bucket counts requests as they are sent,
for all links of the process, and through a small file for all processes of this user on this host.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeAlias

from syncd.config.model import PortalPlan
from syncd.core.ports import Clock
from syncd.portal.ratefile import Bucket, RateFile


class RateLimits(NamedTuple):
    """A bucket's size in requests, and how many drain a second."""

    burst: float
    rate: float


_Step: TypeAlias = Callable[[Bucket, RateLimits], tuple[Bucket, float]]
_LARGEST = 250.0
"""No portal's bucket is larger."""
_LIMITS = {PortalPlan.STANDARD: RateLimits(50, 2), PortalPlan.ENTERPRISE: RateLimits(250, 5)}


def limits_of(plan: PortalPlan, share: float) -> RateLimits | None:
    """Given the portal's plan and the part of its limit to use, return the limits; None on a box, which has none."""
    whole = _LIMITS.get(plan)
    return None if whole is None else RateLimits(max(1.0, whole.burst * share), whole.rate * share)


class Limiter:
    """One bucket for one portal host.

    Args:
        clock: Time; its monotonic seconds are the same for all processes of the host.
        limits: The bucket; None limits nothing.
        shared: The file that shares it between processes; None keeps it to this one.
    """

    def __init__(self, clock: Clock, limits: RateLimits | None, shared: RateFile | None = None) -> None:
        self._clock = clock
        self._limits = limits
        self._shared = shared
        self._bucket = Bucket(0.0, clock.monotonic())
        self._turn = asyncio.Lock()

    def narrow(self, limits: RateLimits | None) -> None:
        """Keep to the smaller of the present limits and those of another link of this host."""
        if limits is not None:
            own = self._limits or limits
            self._limits = RateLimits(min(own.burst, limits.burst), min(own.rate, limits.rate))

    def free(self) -> float:
        """Return how many requests could be sent at once now; infinite without limits."""
        if self._limits is None:
            return float("inf")
        return max(0.0, self._limits.burst - self._now(self._bucket).level)

    async def take(self, sleep: Callable[[float], Awaitable[None]] | None = None) -> float:
        """Wait for the right to send one request, in order of asking.

        Args:
            sleep: How to wait, for a caller that reports long waits.

        Returns:
            The seconds waited.
        """
        if self._limits is None:
            return 0.0
        began = self._clock.monotonic()
        async with self._turn:
            while True:
                wait = await self._change(self._add)
                if wait <= 0:
                    break
                await (sleep or self._clock.sleep)(wait)
        return self._clock.monotonic() - began

    async def refused(self) -> None:
        """Note that the portal answered 503: its bucket is full, perhaps with others' requests, so this one is, too."""
        if self._limits is not None:
            await self._change(self._fill)

    def close(self) -> None:
        """Close the shared file."""
        if self._shared is not None:
            self._shared.close()

    def _add(self, bucket: Bucket, limits: RateLimits) -> tuple[Bucket, float]:
        """Add one request if there is room; otherwise return the seconds until there is."""
        over = bucket.level + 1 - limits.burst
        if over > 1e-9:
            return bucket, max(over / limits.rate, 0.001)
        return Bucket(bucket.level + 1, bucket.at), 0.0

    def _fill(self, bucket: Bucket, limits: RateLimits) -> tuple[Bucket, float]:
        return Bucket(max(bucket.level, limits.burst), bucket.at), 0.0

    def _now(self, bucket: Bucket) -> Bucket:
        """Given a bucket, return it as it is now; one from the future (the host was restarted) keeps its level."""
        assert self._limits is not None
        now = self._clock.monotonic()
        drained = max(0.0, now - bucket.at) * self._limits.rate
        # The cap keeps a spoilt file from stopping this process. It is not our own burst: another process may have a
        # larger share.
        return Bucket(min(max(0.0, bucket.level - drained), _LARGEST), now)

    async def _change(self, step: _Step) -> float:
        assert self._limits is not None
        bucket = self._bucket
        if self._shared is not None and await self._shared.lock(self._clock):
            try:
                # The file has what other processes sent; without it, this process's own count is used.
                bucket = self._shared.load() or bucket
                self._bucket, wait = step(self._now(bucket), self._limits)
                self._shared.store(self._bucket)
            finally:
                self._shared.unlock()
            return wait
        self._bucket, wait = step(self._now(bucket), self._limits)
        return wait
