"""The sandbox portal on a TCP port, served by uvicorn, and what `syncd sandbox` makes of its options.

A request goes on when its client hangs up, as on a real portal. As with an outgoing webhook, events are sent in the
background, after the request that caused them, each once. A handler that fails or is slow loses events (portal.md
10.3).
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlencode, urlsplit

import structlog
from starlette.types import Receive, Scope, Send
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from syncd.errors import ConfigError, UnavailableError
from syncd.sandbox.data import DEAL, ORDER_DELETED, ORDER_SAVED, PortalEvent
from syncd.sandbox.faults import Faults
from syncd.sandbox.limits import Latencies, PortalLimits
from syncd.sandbox.portal import SandboxPortal
from syncd.sandbox.requests import References, SandboxRequest, SandboxResponse, Version

log = structlog.get_logger("syncd.sandbox")

MAX_BODY: Final = 64 * 1024 * 1024
KEEP_ALIVE: Final = 75
"""Seconds that an idle connection stays open, as with nginx's default."""


class SandboxServer:
    """Serves a portal on loopback while the context lasts.

    Args:
        portal: The portal.
        host: The address to listen on.
        port: 0 takes a free one.
        tls: Serve https with a certificate made now; needs the extra `tls`.
    """

    def __init__(self, portal: SandboxPortal, *, host: str = "127.0.0.1", port: int = 0, tls: bool = False) -> None:
        self.portal = portal
        self.host = host
        self.port = port
        self.ca_pem = ""
        """The certificate of the authority that clients must trust, as PEM text; empty without TLS."""
        self._tls: ssl.SSLContext | None = None
        if tls:
            self._tls, self.ca_pem = _make_certificate(host)
        self._state = ServerState()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """Scheme, host and port, without a slash at the end."""
        return f"{'https' if self._tls else 'http'}://{self.host}:{self.port}"

    @property
    def webhook_url(self) -> str:
        """The webhook's URL, with its secret and a slash at the end."""
        return self.url + self.portal.webhook_path

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: The port cannot be opened.
        """
        config = Config(
            _Application(self.portal),
            interface="asgi3",
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE,
        )
        config.load()
        # uvicorn's own server would look for its end ten times a second, and wait for slow answers.
        self._server = await asyncio.get_running_loop().create_server(
            lambda: _Connection(config, self._state, {}), self.host, self.port, ssl=self._tls, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def aclose(self) -> None:
        """Stop listening, close all connections, and cancel the requests under way."""
        assert self._server is not None
        self._server.close()
        tasks = tuple(self._state.tasks)
        for connection in tuple(self._state.connections):
            connection.transport.abort()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.wait_closed()

    @classmethod
    @contextmanager
    def in_thread(cls, portal: SandboxPortal, **options: Any) -> Iterator[SandboxServer]:
        """Serve from another thread while the context lasts, for callers that block. Edits of the portal stay safe.

        Args:
            portal: The portal.
            options: As for the class.
        """
        server = cls(portal, **options)
        ready, failure = threading.Event(), []
        stop: list[Any] = []

        async def serve() -> None:
            stopped = asyncio.Event()
            loop = asyncio.get_running_loop()
            stop.append(lambda: loop.call_soon_threadsafe(stopped.set))
            async with server:
                ready.set()
                await stopped.wait()

        def run() -> None:
            try:
                asyncio.run(serve())
            except OSError as error:
                failure.append(error)
                ready.set()

        thread = threading.Thread(target=run, name="sandbox-portal", daemon=True)
        thread.start()
        ready.wait()
        if failure:
            raise failure[0]
        try:
            yield server
        finally:
            stop[0]()
            thread.join()


class _Connection(H11Protocol):
    """A connection that hands its transport to the application, for faults that close it without a whole answer."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {"transport": transport}


class _Application:
    """The ASGI application of a portal."""

    def __init__(self, portal: SandboxPortal) -> None:
        self._portal = portal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        transport = scope["state"]["transport"]
        try:
            body = await _read_body(receive)
            if body is None:
                return
            too_large = len(body) > MAX_BODY
            response = SandboxResponse(413) if too_large else await self._portal.answer(_to_request(scope, body))
            if response.dropped:
                await _close(transport.abort, receive)
            else:
                await _send(response, send)
                if response.cut_at is not None:
                    await _close(transport.close, receive)
        except asyncio.CancelledError:  # the server closes
            await _close(transport.abort, receive)


async def _read_body(receive: Receive) -> bytes | None:
    """Return the body of a request, cut above `MAX_BODY`; None if the client hung up before its end."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message["body"]
        if not message["more_body"] or len(body) > MAX_BODY:
            return bytes(body)


def _to_request(scope: Scope, body: bytes) -> SandboxRequest:
    """Return the request as the portal sees it. A client of a proxy sends a whole URL as the target."""
    path = scope["raw_path"].decode("latin-1")
    if path.startswith(("http://", "https://")):
        path = "/" + "".join(path.split("/", 3)[3:])
    return SandboxRequest(
        scope["method"],
        path,
        scope["query_string"].decode("latin-1"),
        {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]},
        body,
        scope["client"][0],
        scope["scheme"] == "https",
    )


async def _send(response: SandboxResponse, send: Send) -> None:
    """Send a response. One that is cut still announces its full length."""
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers]
    headers.append((b"Content-Length", b"%d" % len(response.body)))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    more = response.cut_at is not None
    await send({"type": "http.response.body", "body": response.body[: response.cut_at], "more_body": more})


async def _close(close: Any, receive: Receive) -> None:
    """Close the connection and wait until uvicorn has noticed, or it would log the missing answer as an error."""
    close()
    while (await receive())["type"] != "http.disconnect":
        pass


def _make_certificate(host: str) -> tuple[ssl.SSLContext, str]:
    """Make a certificate for `host`, 127.0.0.1 and localhost; nothing of it outlives the process.

    Returns:
        The context to serve with, and the certificate of its authority as PEM text.

    Raises:
        ConfigError: The package `trustme` is not installed.
    """
    try:
        import trustme  # noqa: PLC0415  # an extra: only TLS needs it
    except ImportError:
        raise ConfigError(
            "The sandbox cannot make a TLS certificate: the package trustme is not installed.",
            hint="Install it with: pip install trustme",
        ) from None
    authority = trustme.CA(organization_name="syncd sandbox portal")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*dict.fromkeys(("localhost", "127.0.0.1", host))).configure_cert(context)
    return context, authority.cert_pem.bytes().decode()


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """The options of `syncd sandbox`.

    Args:
        port: 0 takes a free one.
        rows: Orders 1 to this number, bound to deals, two to a deal.
        tls: Serve https.
        limits: The request and operating limits of a cloud portal.
        latencies: The documented processing times.
        faults: The scripted faults.
        code: The webhook's secret.
        version: The simulated release.
        references: Where references of a batch are resolved.
        bill_batches: Charge operating time to `batch` instead of the methods in it.
        host: Where to listen.
        events: The URL that the events of saved and deleted orders are sent to; empty for none.
        events_token: The application token in them.
    """

    port: int = 0
    rows: int = 0
    tls: bool = False
    limits: bool = False
    latencies: bool = False
    faults: Faults = field(default_factory=Faults)
    code: str = field(default="sandboxsecret", repr=False)
    version: Version = Version.NEW
    references: References = References.EVERYWHERE
    bill_batches: bool = False
    host: str = "127.0.0.1"
    events: str = ""
    events_token: str = field(default="sandboxeventtoken", repr=False)


def make_portal(options: ServeOptions) -> SandboxPortal:
    """Return the portal that the options describe."""
    return SandboxPortal(
        ((order_id, DEAL, (order_id + 1) // 2) for order_id in range(1, options.rows + 1)),
        code=options.code,
        version=options.version,
        limits=replace(PortalLimits.standard(), batch_billed=options.bill_batches) if options.limits else None,
        latencies=Latencies.documented() if options.latencies else None,
        faults=options.faults,
        references=options.references,
    )


async def serve(options: ServeOptions, on_ready: Callable[[SandboxServer], None]) -> None:
    """Serve until cancelled.

    Args:
        options: What to serve.
        on_ready: Called once with the server, as soon as it answers.

    Raises:
        UnavailableError: The port cannot be opened.
        ConfigError: TLS needs the package `trustme`, which is not installed.
    """
    server = SandboxServer(make_portal(options), host=options.host, port=options.port, tls=options.tls)
    try:
        await server.start()
    except OSError as error:
        raise UnavailableError(
            f"The sandbox cannot listen on {options.host}:{options.port}: {error.strerror or error}.",
            hint="Choose another port, or leave out --port to take a free one.",
        ) from None
    try:
        on_ready(server)
        if options.events:
            await deliver_events(server.portal, options.events, options.events_token, server.url)
        await asyncio.Event().wait()
    finally:
        await server.aclose()


PAUSE: Final = 0.2
"""Seconds between two checks for new events."""
PATIENCE: Final = 5.0
"""Seconds a handler may take."""


def handler_problem(url: str) -> str:
    """Return why events cannot be sent to this address; empty if they can."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    return "" if usable else "must be an address such as http://127.0.0.1:9464/hooks/shop"


async def deliver_events(portal: SandboxPortal, handler: str, token: str, address: str) -> None:
    """Register a handler for saved and deleted orders, and send it their events until cancelled.

    Args:
        portal: The portal.
        handler: The URL to post to.
        token: The application token, by which the handler recognises the portal.
        address: The portal's own URL, without a slash at the end.
    """
    portal.handlers += [(ORDER_SAVED, handler), (ORDER_DELETED, handler)]
    while True:
        with portal.lock:
            events, portal.events = portal.events, []
        for event in events:
            form = event_form(event, token, address, portal.clock.now())
            reason = await asyncio.to_thread(_post, handler, form)
            if reason:
                log.warning("event not delivered", name=event.name, order=event.order_id, reason=reason)
        await asyncio.sleep(PAUSE)


def event_form(event: PortalEvent, token: str, address: str, now: float) -> dict[str, str]:
    """Return the form that the portal posts for an event (portal.md 10.1, 10.3)."""
    more = {"data[FIELDS][XML_ID]": "", "data[FIELDS][ACTION]": "save"} if event.name == ORDER_SAVED else {}
    return {
        "event": event.name,
        "event_handler_id": "1",
        "data[FIELDS][ID]": f"{event.order_id}",
        **more,
        "ts": f"{int(now)}",
        "auth[domain]": urlsplit(address).netloc,
        "auth[client_endpoint]": f"{address}/rest/",
        "auth[server_endpoint]": "https://oauth.bitrix.info/rest/",
        "auth[member_id]": "sandbox",
        "auth[application_token]": token,
    }


def _post(url: str, form: dict[str, str]) -> str:
    """Post a form. Return why it failed; empty if it did not."""
    parts = urlsplit(url)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=PATIENCE)
    path = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
    try:
        connection.request("POST", path, urlencode(form), {"Content-Type": "application/x-www-form-urlencoded"})
        status = connection.getresponse().status
    except (OSError, HTTPException, ValueError) as error:
        return f"{error}" or type(error).__name__
    finally:
        connection.close()
    return "" if 200 <= status < 300 else f"the handler answered {status}"
