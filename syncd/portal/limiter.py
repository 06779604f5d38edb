"""The portal's request limit, kept before it is met.

The portal counts requests of one source address in a leaky bucket: each one adds 1, so many drain a second, and above
the brim requests are refused with 503 (bitrix24-rest.md 9.1). This bucket counts sends, not answers, for all links of
the process, and through a small file for all processes of this user on this host.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from syncd.config.model import PortalPlan
from syncd.core.ports import Clock
from syncd.portal.ratefile import Bucket, RateFile


class Limits(NamedTuple):
    """A bucket's size in requests, and how many drain a second."""

    burst: float
    rate: float


_Step: TypeAlias = Callable[[Bucket, Limits], tuple[Bucket, float]]
_BRIM = 250.0
"""No portal's bucket is larger."""
_LIMITS = {PortalPlan.STANDARD: Limits(50, 2), PortalPlan.ENTERPRISE: Limits(250, 5)}


def limits_of(plan: PortalPlan, share: float) -> Limits | None:
    """Given the portal's plan and the part of its limit to use, return the limits; None on a box, which has none."""
    whole = _LIMITS.get(plan)
    return None if whole is None else Limits(max(1.0, whole.burst * share), whole.rate * share)


class Limiter:
    """One bucket for one portal host.

    Args:
        clock: Time; its monotonic seconds are the same for all processes of the host.
        limits: The bucket; None limits nothing.
        shared: The file that shares it between processes; None keeps it to this one.
    """

    def __init__(self, clock: Clock, limits: Limits | None, shared: RateFile | None = None) -> None:
        self._clock = clock
        self._limits = limits
        self._shared = shared
        self._bucket = Bucket(0.0, clock.monotonic())
        self._turn = asyncio.Lock()

    def narrow(self, limits: Limits | None) -> None:
        """Another link of this host has these limits: keep to the smaller ones."""
        if limits is not None:
            own = self._limits or limits
            self._limits = Limits(min(own.burst, limits.burst), min(own.rate, limits.rate))

    def free(self) -> float:
        """Return how many requests could be sent at once now; infinite without limits."""
        if self._limits is None:
            return float("inf")
        return max(0.0, self._limits.burst - self._now(self._bucket).level)

    async def take(self) -> float:
        """Wait for the right to send one request, in order of asking.

        Returns:
            The seconds waited.
        """
        if self._limits is None:
            return 0.0
        began = self._clock.monotonic()
        async with self._turn:
            while True:
                wait = await self._change(self._pour)
                if wait <= 0:
                    break
                await self._clock.sleep(wait)
        return self._clock.monotonic() - began

    async def refused(self) -> None:
        """The portal said 503: its bucket is full, whoever filled it, so take ours for full as well."""
        if self._limits is not None:
            await self._change(self._fill)

    def close(self) -> None:
        """Close the shared file."""
        if self._shared is not None:
            self._shared.close()

    def _pour(self, bucket: Bucket, limits: Limits) -> tuple[Bucket, float]:
        """Add one request if there is room; otherwise return the seconds until there is."""
        over = bucket.level + 1 - limits.burst
        if over > 1e-9:
            return bucket, max(over / limits.rate, 0.001)
        return Bucket(bucket.level + 1, bucket.at), 0.0

    def _fill(self, bucket: Bucket, limits: Limits) -> tuple[Bucket, float]:
        return Bucket(max(bucket.level, limits.burst), bucket.at), 0.0

    def _now(self, bucket: Bucket) -> Bucket:
        """Given a bucket, return it as it is now; one from the future (the host was restarted) keeps its level."""
        assert self._limits is not None
        now = self._clock.monotonic()
        drained = max(0.0, now - bucket.at) * self._limits.rate
        # Not capped at our own burst: another process may have a larger share. A spoilt file must not stop us for ever.
        return Bucket(min(max(0.0, bucket.level - drained), _BRIM), now)

    async def _change(self, step: _Step) -> float:
        assert self._limits is not None
        bucket = self._bucket
        if self._shared is not None and await self._shared.lock(self._clock):
            try:
                # What other processes sent is in the file; without it, what this one knows stands.
                bucket = self._shared.load() or bucket
                self._bucket, wait = step(self._now(bucket), self._limits)
                self._shared.store(self._bucket)
            finally:
                self._shared.unlock()
            return wait
        self._bucket, wait = step(self._now(bucket), self._limits)
        return wait
