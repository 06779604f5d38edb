"""What all runners of a daemon share, and what they tell."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from syncd.core.ports import Clock
from syncd.core.records import Lease, LinkRow, RunRow
from syncd.core.store import Store
from syncd.daemon.health import Condition
from syncd.daemon.passes import RunPass
from syncd.daemon.pulse import Pulse
from syncd.engine.report import Report

BRIEFLY = 30.0
"""Seconds of a lease taken for one small write."""


class Observer(Protocol):
    """Whoever wants to know what runners do: metrics, alerts, the status line."""

    def skipped(self, link: str, why: str) -> None:
        """A slot has come and no pass is made."""
        ...

    def overtaken(self, link: str) -> None:
        """Another process has made a pass of the link since this one did."""
        ...

    async def ended(self, ending: Ending) -> None:
        """A pass ended, or could not begin."""
        ...


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt at a pass ended.

    Args:
        link: The link's name.
        report: What the run came to; None where no run was opened.
        error: What ended it early, if anything did.
        before, after: The link's lasting health.
        pulse: What the pass showed of itself.
        previous: The pass before this one, of whatever daemon.
    """

    link: str
    report: Report | None
    error: BaseException | None
    before: Condition
    after: Condition
    pulse: Pulse
    previous: RunRow | None


class Gate:
    """Lets a bounded number of passes run at once."""

    def __init__(self, places: int) -> None:
        self._places = asyncio.Semaphore(places)
        self.busy = 0

    @asynccontextmanager
    async def enter(self) -> AsyncIterator[None]:
        """Hold a place for the time of the block."""
        async with self._places:
            self.busy += 1
            try:
                yield
            finally:
                self.busy -= 1


@dataclass(frozen=True, slots=True)
class Desk:
    """What all runners of a daemon share.

    Args:
        store: The state database.
        clock: Time and chance.
        holder: Who works here, for leases.
        run_pass: Makes a pass.
        gate: Bounds how many are made at once.
        observer: Told what happens.
        prune: Forgets idle passes under a lease (`SqlStore.prune`).
    """

    store: Store
    clock: Clock
    holder: str
    run_pass: RunPass
    gate: Gate
    observer: Observer
    prune: Callable[[Lease, float, float], Awaitable[int]]

    @asynccontextmanager
    async def briefly(self, link: LinkRow) -> AsyncIterator[Lease]:
        """Hold a link's lease for one small write.

        Raises:
            LeaseHeld: Another process works on the link.
        """
        lease = await self.store.acquire(link, self.holder, BRIEFLY, self.clock.now())
        try:
            yield lease
        finally:
            await self.store.release(lease)
