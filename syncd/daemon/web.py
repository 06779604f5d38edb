"""What the daemon shows over HTTP: health, metrics, status, and the routes of the status page.

All of it is read only, except hints that orders have changed (`hints`), which come with a token of their own.
`WebViews` puts it together from the parts of the daemon.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from syncd import __version__
from syncd.config.service_settings import WebSettings
from syncd.core.ports import Clock
from syncd.daemon.hints import Hooks
from syncd.daemon.lifecycle import Process
from syncd.daemon.meters import MetricsObserver
from syncd.daemon.supervisor import Supervisor
from syncd.daemon.systemd import Liveness
from syncd.daemon.triggers import RequestPoller
from syncd.daemon.web_server import Access, Guarded
from syncd.engine.report import iso
from syncd.errors import SyncdError
from syncd.status.links import LinkStatus, link_statuses, links_json
from syncd.status.owners import Titles
from syncd.wiring import AppContext

log = structlog.get_logger("syncd.daemon")

PATIENCE: Final = 5.0
"""Seconds a request may wait for the state database."""
Probe = Callable[[], Awaitable[Sequence[str]]]
"""Returns what is wrong, as phrases; empty when all is well."""


def application(
    *,
    alive: Probe,
    ready: Probe,
    status: Callable[[], Awaitable[Any]],
    metrics: Callable[[], Awaitable[CollectorRegistry]],
    pages: Sequence[BaseRoute] = (),
    access: Access,
    hooks: ASGIApp | None = None,
) -> ASGIApp:
    """Given what to show, return the application.

    Args:
        alive: Whether this process gets anywhere; never whether the portal or a database answers.
        ready: Whether it can do its work.
        status: The content of `/status.json`.
        metrics: The registry of `/metrics`, brought up to date.
        pages: Further routes.
        access: Who may read.
        hooks: Takes hints, each with a token of its own; None takes none.
    """

    async def livez(_request: Request) -> Response:
        return _verdict(await alive())

    async def readyz(_request: Request) -> Response:
        return _verdict(await _patiently(ready()))

    async def status_json(_request: Request) -> Response:
        async with asyncio.timeout(PATIENCE):
            return JSONResponse(await status())

    async def metrics_text(_request: Request) -> Response:
        return Response(generate_latest(await metrics()), headers={"Content-Type": CONTENT_TYPE_LATEST})

    routes = [
        Route("/livez", livez),
        Route("/readyz", readyz),
        Route("/status.json", status_json),
        Route("/metrics", metrics_text),
        *pages,
    ]
    app = Starlette(routes=routes, exception_handlers={SyncdError: _unavailable, TimeoutError: _unavailable})
    return Guarded(app, access, hooks)


async def _patiently(probe: Awaitable[Sequence[str]]) -> Sequence[str]:
    try:
        async with asyncio.timeout(PATIENCE):
            return await probe
    except TimeoutError:
        return [f"the state database has not answered for {PATIENCE:g} s"]


def _verdict(faults: Sequence[str]) -> Response:
    return PlainTextResponse("".join(f"{fault}\n" for fault in faults) or "ok\n", 503 if faults else 200)


async def _unavailable(_request: Request, error: Exception) -> Response:
    log.warning("not shown", error=error.message if isinstance(error, SyncdError) else "the state database is slow")
    return PlainTextResponse("The state database does not answer; the log has the details.\n", 503)


class WebViews:
    """The views of one daemon.

    Args:
        context: The settings in force and the state database.
        titles: The titles of deals and invoices.
        supervisor: The runners.
        meters: The metrics.
        liveness: Whether this process gets anywhere.
        poller: Whether the state database answers.
        process: What the daemon says of itself now.
    """

    def __init__(
        self,
        *,
        context: AppContext,
        titles: Titles,
        supervisor: Supervisor,
        meters: MetricsObserver,
        liveness: Liveness,
        poller: RequestPoller,
        process: Callable[[], Process],
    ) -> None:
        self.context = context
        self.titles = titles
        self._process = process
        self._supervisor = supervisor
        self._meters = meters
        self._liveness = liveness
        self._poller = poller

    def process(self) -> Process:
        """Return what the daemon says of itself now."""
        return self._process().but(troubles=self._supervisor.troubles())

    def application(self, pages: Sequence[BaseRoute]) -> ASGIApp:
        """Given the routes of the status page, return the application that shows everything."""
        return application(
            alive=self._alive,
            ready=self._ready,
            status=self._status,
            metrics=self._metrics,
            pages=pages,
            access=_access(self.context.settings.web, self.context.clock),
            hooks=Hooks(lambda: self.context.settings.links, self._supervisor.hint),
        )

    async def links(self) -> list[LinkStatus]:
        """Return how each link is now."""
        context = self.context
        return await link_statuses(context.settings, context.store, context.clock.now(), self._supervisor.healths())

    async def _status(self) -> dict[str, Any]:
        return status_json(self.process(), await self.links(), self.context.clock.now())

    async def _alive(self) -> Sequence[str]:
        return self._liveness.faults()

    async def _ready(self) -> Sequence[str]:
        phase = self.process().phase
        if phase != "running":
            return [f"the daemon is {phase}"]
        if self._poller.unreachable:
            return ["the state database is out of reach"]
        await self.context.store.leases()
        return []

    async def _metrics(self) -> CollectorRegistry:
        at_work = {name for name, _ in self._supervisor.passes()}
        return await self._meters.refresh(self.links, at_work, self.context.settings)


def status_json(process: Process, links: Sequence[LinkStatus], now: float) -> dict[str, Any]:
    """Given what a daemon says of itself and how the links are, return `/status.json`."""
    return {
        "version": __version__,
        "at": iso(now),
        "process": {
            "holder": process.holder,
            "phase": process.phase,
            "started_at": iso(process.started_at),
            "troubles": dict(process.troubles),
        },
        "config": {
            "file": process.config,
            "read_at": iso(process.config_at),
            "error": process.config_error or None,
            "needs_restart": list(process.restart),
        },
        "links": links_json(links),
    }


def _access(settings: WebSettings, clock: Clock) -> Access:
    listening = [] if settings.address is None else [settings.address[0]]
    return Access([*listening, *settings.hosts], settings.password, settings.user_header or "", clock)
