"""What the web shows, put together from the parts of the daemon."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from syncd.daemon.fleet import Fleet
from syncd.daemon.meters import Meters
from syncd.daemon.requests import Inbox
from syncd.daemon.status import LinkStatus, Process, look, to_json
from syncd.daemon.watchdog import Vitals
from syncd.daemon.web import application
from syncd.wiring import Workplace


class Views:
    """The views of one daemon.

    Args:
        workplace: The settings in force and the state database.
        fleet: The runners.
        meters: The metrics.
        vitals: Whether this process gets anywhere.
        inbox: Whether the state database answers.
        process: What the daemon says of itself now.
    """

    def __init__(
        self,
        *,
        workplace: Workplace,
        fleet: Fleet,
        meters: Meters,
        vitals: Vitals,
        inbox: Inbox,
        process: Callable[[], Process],
    ) -> None:
        self.workplace = workplace
        self.process = process
        self._fleet = fleet
        self._meters = meters
        self._vitals = vitals
        self._inbox = inbox

    def application(self) -> ASGIApp:
        """Return the application that shows everything."""
        from syncd.daemon.pages import routes  # noqa: PLC0415 - templates are loaded only where a page is served

        return application(
            alive=self._alive, ready=self._ready, status=self._status, metrics=self._metrics, pages=routes(self)
        )

    async def links(self) -> list[LinkStatus]:
        """Return how each link is now."""
        place = self.workplace
        return await look(place.settings, place.store, place.clock.now(), self._fleet.lives())

    async def _status(self) -> dict[str, Any]:
        return to_json(self.process(), await self.links(), self.workplace.clock)

    async def _alive(self) -> Sequence[str]:
        return self._vitals.faults()

    async def _ready(self) -> Sequence[str]:
        phase = self.process().phase
        if phase != "running":
            return [f"the daemon is {phase}"]
        if self._inbox.unreachable:
            return ["the state database is out of reach"]
        await self.workplace.store.leases()
        return []

    async def _metrics(self) -> CollectorRegistry:
        return await self._meters.refresh(self._fleet.lives(), self.workplace.settings)
