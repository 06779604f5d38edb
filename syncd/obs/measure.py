"""What is measured where the work is done: requests to portals, transactions of databases.

Whoever does such work is handed a `Measure`; `syncd.obs.metrics.Metrics` is one, and `UNMEASURED` stands for nobody.
Both are told from worker threads, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol, TypeVar

from syncd.core.ports import Clock
from syncd.errors import AuthError, SyncdError, UnavailableError

T = TypeVar("T")


class Measure(Protocol):
    """Takes measurements."""

    def request(self, link: str, seconds: float) -> None:
        """A request to a link's portal was answered, or given up, after so long."""
        ...

    def transaction(self, store: str, link: str, seconds: float, *, failed: bool) -> None:
        """A database was at work for so long.

        Args:
            store: `state`, or `table` for a mapping table's.
            link: Whose mapping table; empty for the state database, which all links share.
            seconds: How long it took.
            failed: The database could not be used, or refused the credentials.
        """
        ...


class _Unmeasured:
    def request(self, link: str, seconds: float) -> None:
        pass

    def transaction(self, store: str, link: str, seconds: float, *, failed: bool) -> None:
        pass


UNMEASURED: Final[Measure] = _Unmeasured()


def measured(
    measure: Measure,
    clock: Clock,
    whose: tuple[str, str],
    work: Callable[[], T],
    broken: Callable[[T], bool] = lambda _result: False,
) -> T:
    """Do a database's work, and tell how long it took and whether the database failed.

    What the work itself turns down (a lease that is somebody else's) is no failure of the database.

    Args:
        measure: Told of it.
        clock: Time.
        whose: The store and the link of `Measure.transaction`.
        work: What to do.
        broken: Whether a result tells of a failure that was not raised.
    """
    began, failed = clock.monotonic(), True
    try:
        result = work()
        failed = broken(result)
    except SyncdError as error:
        failed = isinstance(error, UnavailableError | AuthError)
        raise
    finally:
        measure.transaction(*whose, clock.monotonic() - began, failed=failed)
    return result
