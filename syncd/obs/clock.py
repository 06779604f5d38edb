"""The system's clock, and how long work takes by it.

Only this module asks the operating system for the time and for random numbers. Code that sends requests or opens
transactions reports their durations to a `Meter`, also from worker threads; `syncd.obs.metrics.Metrics` is one,
`NULL_METER` ignores them.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, Protocol, TypeVar

from syncd.core.ports import Clock
from syncd.errors import AuthError, SyncdError, UnavailableError


def time_of_day(seconds: float) -> datetime:
    """Given seconds since the epoch, return the time in this host's zone, for display."""
    return datetime.fromtimestamp(seconds, UTC).astimezone()


def utc_stamp(seconds: float) -> str:
    """Given seconds since the epoch, return ISO 8601 in UTC, as in JSON and errors; a terminal shows its own zone."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


class SystemClock:
    """`syncd.core.ports.Clock` over the operating system."""

    def now(self) -> float:
        """Return seconds since the epoch (UTC)."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds that never go back; on Linux they are the same for all processes of a host."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Sleep; 0, or less, yields to other tasks."""
        await asyncio.sleep(seconds)

    def random(self) -> float:
        """Return a number in [0, 1)."""
        return random.random()  # noqa: S311 - spreads retries, guards nothing


T = TypeVar("T")


class Meter(Protocol):
    """Receives durations."""

    def request(self, link: str, seconds: float) -> None:
        """A request to a link's portal was answered or given up after so many seconds."""
        ...

    def transaction(self, store: str, link: str, seconds: float, *, failed: bool) -> None:
        """A transaction ended.

        Args:
            store: `state`, or `table` for a mapping table's.
            link: The link of the mapping table; empty for the state database, which all links share.
            seconds: How long it took.
            failed: The database was not usable, or refused the credentials.
        """
        ...


class _NullMeter:
    def request(self, link: str, seconds: float) -> None:
        pass

    def transaction(self, store: str, link: str, seconds: float, *, failed: bool) -> None:
        pass


NULL_METER: Final[Meter] = _NullMeter()


def timed(
    meter: Meter,
    clock: Clock,
    whose: tuple[str, str],
    work: Callable[[], T],
    broken: Callable[[T], bool] = lambda _result: False,
) -> T:
    """Run a transaction, and report how long it took and whether the database failed.

    Other errors of the work (such as a lease that another process holds) are not failures of the database.

    Args:
        meter: Receives the report.
        clock: Time.
        whose: The store and the link of `Meter.transaction`.
        work: The transaction.
        broken: Whether a result is a failure that was not raised.
    """
    began, failed = clock.monotonic(), True
    try:
        result = work()
        failed = broken(result)
    except SyncdError as error:
        failed = isinstance(error, UnavailableError | AuthError)
        raise
    finally:
        meter.transaction(*whose, clock.monotonic() - began, failed=failed)
    return result
