"""One pass over the real engine, watched from outside: for signs of life, and for whether it is still wanted.

The engine takes the lease at the beginning of a pass. Between this daemon's verdict and that moment another one may
have served the same slot, so the verdict is asked for once more under the lease, right before the run is opened.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, cast

from syncd.core.ports import Cancelled, Clock
from syncd.core.records import Lease, RunRow
from syncd.core.store import Store
from syncd.daemon.health import was_cut_off
from syncd.daemon.pulse import Pulse
from syncd.engine import reconcile as engine
from syncd.engine.report import Report
from syncd.wiring import Workplace

StillWanted = Callable[[float], Awaitable[bool]]


class NotWanted(Exception):
    """Somebody else has served the slot meanwhile; no run was opened."""


class RunPass(Protocol):
    """Makes one pass of a link."""

    async def __call__(
        self, link: str, origin: str, *, pulse: Pulse, cancelled: Cancelled, still_wanted: StillWanted
    ) -> Report:
        """Make a pass.

        Args:
            link: The link's name.
            origin: schedule, trigger or signal; goes into the run.
            pulse: Told of every sign of life.
            cancelled: Set when the pass is to end after the batch in flight.
            still_wanted: Asked under the lease, before the run is opened, with the time it will be said to have begun.

        Raises:
            NotWanted: `still_wanted` said no.
            LeaseHeld: Another process works on this link.
            SyncdError: The pass could not even begin.
        """
        ...


def over(workplace: Workplace) -> RunPass:
    """Given the workplace, return what makes its links' passes."""

    async def run_pass(
        link: str, origin: str, *, pulse: Pulse, cancelled: Cancelled, still_wanted: StillWanted
    ) -> Report:
        async with workplace.link(link, progress=pulse.progress, cancelled=cancelled) as opened:
            opened.store = cast("Store", _WatchedStore(opened.store, pulse, still_wanted))
            opened.clock = _WatchedClock(opened.clock, pulse)
            try:
                return await engine.reconcile(opened, origin=origin)
            finally:
                pulse.enter("")
                pulse.usage = opened.portal.usage()

    return run_pass


class _WatchedStore:
    """A store whose every call is a sign of life, and which opens no run that is no longer wanted.

    The requests that are open when a run begins are served by it, and closed under the same lease when it has come to
    its own end; one that is cut off leaves them to the next.
    """

    def __init__(self, store: Store, pulse: Pulse, still_wanted: StillWanted) -> None:
        self._store = store
        self._pulse = pulse
        self._still_wanted = still_wanted
        self._serves: list[int] = []

    def __getattr__(self, name: str) -> Any:
        self._pulse.beat()
        return getattr(self._store, name)

    async def start_run(self, lease: Lease, kind: str, origin: str, now: float, source: int | None = None) -> int:
        if not await self._still_wanted(now):
            raise NotWanted
        self._serves = [request.id for request in await self._store.open_requests([lease.link])]
        self._pulse.enter("observe")
        return await self._store.start_run(lease, kind, origin, now, source)

    async def finish_run(self, lease: Lease, row: RunRow) -> None:
        await self._store.finish_run(lease, row)
        # A run that a crash left open is finished on the way; it counts as cut off, too.
        if self._serves and not was_cut_off(row):
            await self._store.close_requests(lease, self._serves, row.finished_at or 0.0)

    async def save_plan(self, *args: Any, **kwargs: Any) -> list[int]:
        ids = await self._store.save_plan(*args, **kwargs)
        self._pulse.enter("apply")
        return ids


class _WatchedClock:
    """A clock on which waiting on purpose (for the operating budget, in slices of a second) is a sign of life."""

    def __init__(self, clock: Clock, pulse: Pulse) -> None:
        self._pulse = pulse
        self.now = clock.now
        self.monotonic = clock.monotonic
        self.random = clock.random
        self._sleep = clock.sleep

    async def sleep(self, seconds: float) -> None:
        """See `Clock`."""
        await self._sleep(seconds)
        self._pulse.beat()
