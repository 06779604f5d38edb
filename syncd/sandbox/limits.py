"""What a call costs and what the portal lets through (bitrix24-rest.md 9)."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace

OPERATING_THRESHOLD = 0.1
"""Seconds; time of a method in one request is billed only above this."""


@dataclass(frozen=True, slots=True)
class Latencies:
    """Seconds the portal works, all zero by default.

    Args:
        request: Start-up of every HTTP request; a batch pays it once.
        list: One `crm.orderentity.list` page.
        count: More where a total is counted.
        add: One `crm.orderentity.add`.
        delete: One `crm.orderentity.deleteByFilter`.
        other: Any other method.
        scan: For each 1,000 rows of a list that the database walks over without returning them: those before `start`,
            and all that are counted. It is what makes offset paging dearer the further it gets.
    """

    request: float = 0.0
    list: float = 0.0
    count: float = 0.0
    add: float = 0.0
    delete: float = 0.0
    other: float = 0.0
    scan: float = 0.0

    @classmethod
    def documented(cls) -> Latencies:
        """The processing times of the documentation's samples (9.4), 0.3 s a request."""
        return cls(request=0.3, list=0.039, count=0.020, add=0.33, delete=1.77, other=0.02)


@dataclass(frozen=True, slots=True)
class Limits:
    """The portal's limits; None switches one off.

    Args:
        burst: Requests that fit into the bucket (X).
        per_second: How fast it drains (Y).
        refused_count: Refused requests fill the bucket too.
        tolerance: Added to the threshold; -1, 0 or 1.
        operating: Seconds of method time in the window before `OPERATION_TIME_LIMIT`.
        window: Seconds the operating time is remembered, in buckets of `bucket` seconds.
        bucket: See `window`.
        batch_billed: Calls in a batch are billed to `batch`, as measured by others (peers.md 1), not to their method.
        wall: Seconds a whole request may take before the front server gives up on it.
    """

    burst: int | None = 50
    per_second: float = 2.0
    refused_count: bool = False
    tolerance: int = 0
    operating: float | None = 480.0
    window: float = 600.0
    bucket: float = 60.0
    batch_billed: bool = False
    wall: float | None = 60.0

    @classmethod
    def standard(cls) -> Limits:
        """A cloud portal on any plan but Enterprise."""
        return cls()

    @classmethod
    def enterprise(cls) -> Limits:
        """A cloud portal on Enterprise."""
        return cls(burst=250, per_second=5.0)

    @classmethod
    def box(cls) -> Limits:
        """A self-hosted portal: no bucket, no operating keys, no wall."""
        return cls(burst=None, operating=None, wall=None)

    def with_operating(self, seconds: float) -> Limits:
        """Return these limits with another operating budget."""
        return replace(self, operating=seconds)


class LeakyBuckets:
    """One bucket for each source address: `level = max(0, level - Y·Δt)`, refuse at X, else +1 (9.1)."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._levels: dict[str, tuple[float, float]] = {}

    def admit(self, client: str, now: float) -> bool:
        """Given a source address and a monotonic time, return whether its request is let in, and count it."""
        burst = self._limits.burst
        if burst is None:
            return True
        level, seen = self._levels.get(client, (0.0, now))
        level = max(0.0, level - self._limits.per_second * max(0.0, now - seen))
        admitted = level < burst + self._limits.tolerance
        if admitted or self._limits.refused_count:
            level += 1
        self._levels[client] = (level, now)
        return admitted

    def level(self, client: str = "127.0.0.1") -> float:
        """Return a bucket's level when it was last looked at."""
        return self._levels.get(client, (0.0, 0.0))[0]


@dataclass(slots=True)
class _Bucket:
    started: float
    seconds: float = 0.0


@dataclass(slots=True)
class Spending:
    """What one request has spent so far by method: all of it, and that of its calls above the threshold."""

    total: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    billed: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    def spend(self, method: str, seconds: float) -> None:
        """Count one finished call."""
        self.total[method] += seconds
        if seconds > OPERATING_THRESHOLD:
            self.billed[method] += seconds


class OperatingTime:
    """The operating budget by (credential, method), in one-minute buckets (9.2). Times are seconds since the epoch."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._buckets: dict[tuple[str, str], dict[int, _Bucket]] = {}

    @property
    def active(self) -> bool:
        """Whether the limiter runs, and answers carry `operating`."""
        return self._limits.operating is not None

    def used(self, actor: str, method: str, spending: Spending, now: float) -> float:
        """Return the seconds that count against the budget now."""
        stored = self._alive(actor, method, now)
        return sum(bucket.seconds for bucket in stored.values()) + spending.billed.get(method, 0.0)

    def blocked(self, actor: str, method: str, spending: Spending, now: float) -> bool:
        """Return whether a call must be refused: the sum is above the limit already."""
        limit = self._limits.operating
        return limit is not None and self.used(actor, method, spending, now) > limit

    def reset_at(self, actor: str, method: str, now: float) -> int:
        """Return when the oldest bucket expires; with none, when one begun now would."""
        stored = self._alive(actor, method, now)
        oldest = min((bucket.started for bucket in stored.values()), default=now)
        return int(oldest + self._limits.window)

    def settle(self, actor: str, spending: Spending, started: float) -> None:
        """Store what a finished request spent."""
        for method, seconds in spending.total.items():
            if seconds > OPERATING_THRESHOLD:
                buckets = self._buckets.setdefault((actor, method), {})
                bucket = buckets.setdefault(int(started // self._limits.bucket), _Bucket(started))
                bucket.seconds += seconds

    def _alive(self, actor: str, method: str, now: float) -> dict[int, _Bucket]:
        buckets = self._buckets.get((actor, method))
        if not buckets:
            return {}
        gone = [number for number, bucket in buckets.items() if bucket.started + self._limits.window <= now]
        for number in gone:
            del buckets[number]
        return buckets
