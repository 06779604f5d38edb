"""The service behind `syncd sandbox`: a portal on loopback that sends its events to a handler.

As with an outgoing webhook, events are sent in the background, after the request that caused them, each once. A handler
that fails or is slow loses events (portal.md 10.3).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Final
from urllib.parse import urlencode, urlsplit

import structlog

from syncd.errors import UnavailableError
from syncd.sandbox.data import DEAL, ORDER_DELETED, ORDER_SAVED, PortalEvent
from syncd.sandbox.faults import Faults
from syncd.sandbox.limits import Latencies, PortalLimits
from syncd.sandbox.portal import SandboxPortal
from syncd.sandbox.references import References
from syncd.sandbox.requests import Version
from syncd.sandbox.server import SandboxServer


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


log = structlog.get_logger("syncd.sandbox")

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
