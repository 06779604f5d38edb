"""The duration of calls, and the request and operating limits (portal.md 9)."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace

OPERATING_THRESHOLD = 0.1
"""Seconds. Calls up to this long are not charged."""


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
        scan: For each 1,000 rows of a list that the database reads without returning them: those before `start`, and
            all that it counts. It makes later pages of offset paging slower.
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
        """Return the processing times of the documentation's samples (9.4), with 0.3 s a request."""
        return cls(request=0.3, list=0.039, count=0.020, add=0.33, delete=1.77, other=0.02)


@dataclass(frozen=True, slots=True)
class PortalLimits:
    """The limits of a portal; None switches one off.

    Args:
        burst: Requests that fit into the bucket (X).
        per_second: How fast it drains (Y).
        refused_count: Refused requests fill the bucket too.
        tolerance: Added to `burst`; -1, 0 or 1.
        operating: Seconds of a method in `window` above which it answers `OPERATION_TIME_LIMIT`.
        window: Seconds that the operating time is kept, in buckets of `bucket` seconds.
        bucket: See `window`.
        batch_billed: Calls in a batch are charged to `batch` instead of their method and report its running sum, as
            others measured on a self-hosted portal (portal.md 6.4).
        wall: Seconds after which the front server gives up on a request.
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
    def standard(cls) -> PortalLimits:
        """Return the limits of a cloud portal on any plan but Enterprise."""
        return cls()

    @classmethod
    def enterprise(cls) -> PortalLimits:
        """Return the limits of a cloud portal on Enterprise."""
        return cls(burst=250, per_second=5.0)

    @classmethod
    def box(cls) -> PortalLimits:
        """Return the limits of a self-hosted portal: none, and no `operating` in answers."""
        return cls(burst=None, operating=None, wall=None)

    def with_operating(self, seconds: float) -> PortalLimits:
        """Return these limits with another operating budget."""
        return replace(self, operating=seconds)


class LeakyBuckets:
    """One bucket for each source address: `level = max(0, level - Y·Δt)`, refuse at X, else +1 (9.1)."""

    def __init__(self, limits: PortalLimits) -> None:
        self._limits = limits
        self._levels: dict[str, tuple[float, float]] = {}

    def admit(self, client: str, now: float) -> bool:
        """Given a source address and a monotonic time, return whether its request is admitted, and count it."""
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
        """Return the level of a bucket after its last request."""
        return self._levels.get(client, (0.0, 0.0))[0]


@dataclass(slots=True)
class _Bucket:
    started: float
    seconds: float = 0.0


@dataclass(slots=True)
class Spending:
    """The seconds of one request so far, by method: of all calls, and of those above the threshold."""

    total: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    billed: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    def spend(self, method: str, seconds: float) -> None:
        """Count one finished call."""
        self.total[method] += seconds
        if seconds > OPERATING_THRESHOLD:
            self.billed[method] += seconds


class OperatingTime:
    """The operating time by (caller, method), in buckets of a minute (9.2). Moments are seconds since the epoch."""

    def __init__(self, limits: PortalLimits) -> None:
        self._limits = limits
        self._buckets: dict[tuple[str, str], dict[int, _Bucket]] = {}

    @property
    def active(self) -> bool:
        """Whether operating time is limited, and answers have `operating`."""
        return self._limits.operating is not None

    def used(self, caller: str, method: str, spending: Spending, now: float) -> float:
        """Return the seconds that count against the limit now."""
        stored = self._alive(caller, method, now)
        return sum(bucket.seconds for bucket in stored.values()) + spending.billed.get(method, 0.0)

    def blocked(self, caller: str, method: str, spending: Spending, now: float) -> bool:
        """Return whether a call must be refused, because the sum is above the limit already."""
        limit = self._limits.operating
        return limit is not None and self.used(caller, method, spending, now) > limit

    def reset_at(self, caller: str, method: str, now: float) -> int:
        """Return when the oldest bucket expires; without buckets, when a new one would."""
        stored = self._alive(caller, method, now)
        oldest = min((bucket.started for bucket in stored.values()), default=now)
        return int(oldest + self._limits.window)

    def charge(self, caller: str, spending: Spending, started: float) -> None:
        """Add the seconds of a finished request."""
        for method, seconds in spending.total.items():
            if seconds > OPERATING_THRESHOLD:
                buckets = self._buckets.setdefault((caller, method), {})
                bucket = buckets.setdefault(int(started // self._limits.bucket), _Bucket(started))
                bucket.seconds += seconds

    def _alive(self, caller: str, method: str, now: float) -> dict[int, _Bucket]:
        buckets = self._buckets.get((caller, method))
        if not buckets:
            return {}
        gone = [number for number, bucket in buckets.items() if bucket.started + self._limits.window <= now]
        for number in gone:
            del buckets[number]
        return buckets
