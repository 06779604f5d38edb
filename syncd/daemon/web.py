"""What the daemon shows over HTTP: health, metrics, status, and the routes of the status page. Reading only."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Final

import structlog
import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from syncd.errors import SyncdError, UnavailableError

log = structlog.get_logger("syncd.daemon")

PATIENCE: Final = 5.0
"""Seconds a request may wait for the state database."""
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}

Probe = Callable[[], Awaitable[Sequence[str]]]
"""Returns what is wrong, as phrases; empty when all is well."""


def application(
    *,
    alive: Probe,
    ready: Probe,
    status: Callable[[], Awaitable[Any]],
    metrics: Callable[[], Awaitable[CollectorRegistry]],
    pages: Sequence[BaseRoute] = (),
) -> ASGIApp:
    """Given what is to be shown, return the application.

    Args:
        alive: Whether this process gets anywhere; never whether the portal or a database answers.
        ready: Whether it can do its work.
        status: The content of `/status.json`.
        metrics: The registry of `/metrics`, brought up to date.
        pages: Further routes.
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
    return _Hardened(app)


class WebServer:
    """Serves an application on a socket of its own, as part of this loop.

    Args:
        app: The application.
        address: Host and port.

    Raises:
        UnavailableError: The address cannot be listened on.
    """

    def __init__(self, app: ASGIApp, address: tuple[str, int]) -> None:
        self._socket = _listen(address)
        self.port: int = self._socket.getsockname()[1]
        config = uvicorn.Config(
            app,
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            limit_concurrency=100,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=2,
            ws="none",
        )
        self._server = _Server(config)

    async def run(self) -> None:
        """Serve until stopped."""
        await self._server.serve(sockets=[self._socket])

    async def started(self) -> None:
        """Wait until requests are answered."""
        await self._server.up.wait()

    def stop(self) -> None:
        """Answer what is being asked, and end."""
        self._server.should_exit = True

    def close(self) -> None:
        """Close the socket, also where `run` never began."""
        self._socket.close()


class _Server(uvicorn.Server):
    """Leaves signals to the service, and says when it is up."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()


def _listen(address: tuple[str, int]) -> socket.socket:
    host, port = address
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise UnavailableError(
            f"The daemon cannot listen on {host}:{port} (web.listen): {error.strerror}.",
            hint="Another syncd may be running; or choose another port.",
        ) from None


class _Hardened:
    """Adds the headers, and refuses whatever is not GET or HEAD."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_hardened(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        if scope["type"] == "http" and scope["method"] not in {"GET", "HEAD"}:
            refused = PlainTextResponse("reading only\n", 405, headers={"Allow": "GET, HEAD"})
            await refused(scope, receive, send_hardened)
        else:
            await self._app(scope, receive, send_hardened)


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
