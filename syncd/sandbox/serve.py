"""`syncd sandbox`: a portal on loopback, until the task is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from syncd.errors import UnavailableError
from syncd.sandbox.answers import Version
from syncd.sandbox.contents import DEAL
from syncd.sandbox.faults import Faults
from syncd.sandbox.limits import Latencies, Limits
from syncd.sandbox.portal import SandboxPortal
from syncd.sandbox.server import SandboxServer


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What to serve.

    Args:
        port: 0 takes a free one.
        rows: Orders 1 to this number, bound to deals, two to a deal.
        tls: Serve https.
        limits: The request and operating limits of a cloud portal.
        latencies: The documented processing times.
        faults: What goes wrong.
        code: The webhook's secret.
        version: Which portal is played.
        host: Where to listen.
    """

    port: int = 0
    rows: int = 0
    tls: bool = False
    limits: bool = False
    latencies: bool = False
    faults: Faults = field(default_factory=Faults)
    code: str = field(default="sandboxsecret", repr=False)
    version: Version = Version.NEW
    host: str = "127.0.0.1"


def make_portal(options: ServeOptions) -> SandboxPortal:
    """Given options, return the portal they describe."""
    return SandboxPortal(
        ((order_id, DEAL, (order_id + 1) // 2) for order_id in range(1, options.rows + 1)),
        code=options.code,
        version=options.version,
        limits=Limits.standard() if options.limits else None,
        latencies=Latencies.documented() if options.latencies else None,
        faults=options.faults,
    )


async def serve(options: ServeOptions, on_ready: Callable[[SandboxServer], None]) -> None:
    """Serve until cancelled.

    Args:
        options: What to serve.
        on_ready: Called once with the server, when it answers; `webhook_url` and `ca_pem` are for the user.

    Raises:
        UnavailableError: The port cannot be opened.
        ConfigError: TLS is asked for and `cryptography` is missing.
    """
    server = SandboxServer(make_portal(options), host=options.host, port=options.port, tls=options.tls)
    try:
        await server.start()
    except OSError as error:
        raise UnavailableError(
            f"The sandbox cannot listen on {options.host}:{options.port}: {error.strerror or error}.",
            hint="Choose another port, or leave --port out to take a free one.",
        ) from None
    try:
        on_ready(server)
        await asyncio.Event().wait()
    finally:
        await server.aclose()
