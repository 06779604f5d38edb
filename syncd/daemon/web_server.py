"""Serves the daemon's application over HTTP, on a socket of its own, and keeps out what must not get in.

Anyone who reaches the port can open connections. One that sends no whole request is closed after some seconds, and
makes room for a new one before that when there are too many, so idle connections never keep health or the page away.
Every request then passes `Guarded`: methods, names of the host, passwords, and how many are answered at a time.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hmac
import socket
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address, ip_network
from math import ceil
from typing import Any, Final

import structlog
import uvicorn
from pydantic import SecretStr
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from syncd.core.ports import Clock
from syncd.daemon.hints import HOOKS
from syncd.errors import UnavailableError
from syncd.obs.clock import SystemClock

log = structlog.get_logger("syncd.daemon")

REQUEST_SECONDS: Final = 10.0
"""How long a connection may take to send a whole request, its first and each further one."""
MAX_CONNECTIONS: Final = 200
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
HEALTH: Final = frozenset({"/livez", "/readyz"})
MAX_REQUESTS: Final = 100
"""Requests that are answered at a time, health apart."""
FREE_GUESSES: Final = 10
"""Wrong passwords that an address may give before it has to wait."""
FORGIVEN_AFTER: Final = 10.0
"""Seconds after which one of them is forgotten: from then on an address has six guesses a minute."""
MOST_ADDRESSES: Final = 1000
"""Addresses whose wrong passwords are remembered."""
_ASKS: Final = 'Basic realm="syncd", charset="UTF-8"'


class WebServer:
    """One server.

    Args:
        app: The application.
        address: Host and port; port 0 takes a free one.

    Raises:
        UnavailableError: The address cannot be listened on.
    """

    def __init__(self, app: ASGIApp, address: tuple[str, int]) -> None:
        self._socket = _listen(address)
        self.port: int = self._socket.getsockname()[1]
        config = uvicorn.Config(
            app,
            http=PatientProtocol,
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
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
        """Answer the requests under way, and end."""
        self._server.should_exit = True

    def close(self) -> None:
        """Close the socket, also where `run` never began."""
        self._socket.close()


class PatientProtocol(H11Protocol):
    """uvicorn's HTTP protocol, which waits for a request as long as the client likes, with limits to its patience."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deadline: asyncio.TimerHandle | None = None
        self.waiting_since = 0.0

    @property
    def waits(self) -> bool:
        """Whether no whole request of this connection is being answered: one whose body is not all here is none."""
        cycle: RequestResponseCycle | None = self.cycle  # uvicorn declares it as if there always were one
        return cycle is None or cycle.response_complete or cycle.more_body

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request; with too many connections, close the one that has waited longest."""
        super().connection_made(transport)
        self._wait_for_request()
        if len(self.connections) > MAX_CONNECTIONS:
            waiting = [one for one in self.connections if isinstance(one, PatientProtocol) and one.waits]
            min(waiting, key=lambda one: one.waiting_since).transport.close()

    def on_response_complete(self) -> None:
        """Begin to wait for the next request."""
        super().on_response_complete()
        self._wait_for_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        super().connection_lost(exc)
        if self._deadline is not None:
            self._deadline.cancel()

    def _wait_for_request(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self.waiting_since = self.loop.time()
        self._deadline = self.loop.call_later(REQUEST_SECONDS, self._expire)

    def _expire(self) -> None:
        if self.waits:
            self.transport.close()


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
    """Open the socket. It names TCP as its protocol, or asyncio would leave Nagle's algorithm on: 40 ms an answer."""
    host, port = address
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((host, port))
            listening.listen(128)
        except OSError:
            listening.close()
            raise
    except OSError as error:
        raise UnavailableError(
            f"The daemon cannot listen on {host}:{port} (web.listen): {error.strerror}.",
            hint="Another syncd may be running; or choose another port.",
        ) from None
    return listening


@dataclass(frozen=True, slots=True)
class Access:
    """Who may read the page, the status and the metrics. Health is public.

    Args:
        hosts: Names the server answers to, in addition to localhost and addresses.
        password: Asked for by basic authentication, with any user name; None asks for none.
        user_header: A header in which a proxy on this host names the user it signed in; such a request needs no
            password. From another host the header counts for nothing.
        clock: Time, for the pause after wrong passwords.
    """

    hosts: Sequence[str] = ()
    password: SecretStr | None = None
    user_header: str = ""
    clock: Clock = field(default_factory=SystemClock)


class Guarded:
    """The first checks of every request: methods, headers, the health routes, hosts, credentials and the limit.

    The health routes answer every client, under any name and any load. They contain no secrets, and a load balancer
    that cannot read them would consider the daemon dead.
    """

    def __init__(self, app: ASGIApp, access: Access, hooks: ASGIApp | None) -> None:
        self._app = app
        self._hooks = None if hooks is None else _Limited(hooks)
        self._guarded = _NamedHosts(_Limited(_Authorised(app, access)), access.hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or let it through to the application."""

        async def send_hardened(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        path = str(scope.get("path", ""))
        if self._hooks is not None and path.startswith(HOOKS) and scope.get("method") == "POST":
            await self._hooks(scope, receive, send_hardened)
        elif scope["type"] == "http" and scope["method"] not in {"GET", "HEAD"}:
            refused = PlainTextResponse("this server is read only\n", 405, headers={"Allow": "GET, HEAD"})
            await refused(scope, receive, send_hardened)
        elif scope.get("path") in HEALTH:
            await self._app(scope, receive, send_hardened)
        else:
            await self._guarded(scope, receive, send_hardened)


class _NamedHosts(TrustedHostMiddleware):
    """Refuses names it does not know: a page elsewhere could point a name of its own here and read everything.

    A request by address cannot be such a trick, and with a wildcard the server does not know its addresses.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str]) -> None:
        super().__init__(app, ["localhost", *hosts], www_redirect=False)
        self._inner = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = Headers(scope=scope).get("host", "")
        name = asked[1:].partition("]")[0] if asked.startswith("[") else asked.partition(":")[0]
        if _is_address(name):
            await self._inner(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


class _Limited:
    """Answers a limited number of requests at a time."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._under_way >= MAX_REQUESTS:
            await PlainTextResponse("too many requests at once\n", 503)(scope, receive, send)
            return
        self._under_way += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._under_way -= 1


class _Authorised:
    """Asks for the password, or for the user that a proxy on this host has signed in, where one is configured.

    An address that has given many wrong passwords has to wait, even with the right one: otherwise the answer would show
    which one is right.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access
        self._wrong = WrongPasswords(access.clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = None if self._is_open(scope) else self._refusal(scope)
        await (refused or self._app)(scope, receive, send)

    def _is_open(self, scope: Scope) -> bool:
        """Return whether no password is needed: none is configured, or a proxy on this host names its user."""
        header = self._access.user_header
        if not header:
            return self._access.password is None
        client = _client(scope)
        return bool(Headers(scope=scope).get(header)) and _is_address(client) and ip_address(client).is_loopback

    def _refusal(self, scope: Scope) -> Response | None:
        """Return the answer to a request that may not read; None where it may."""
        if self._access.password is None:
            return PlainTextResponse("not signed in\n", 401)
        client = _network(_client(scope))
        scheme, _, given = Headers(scope=scope).get("authorization", "").partition(" ")
        if scheme.lower() == "basic":
            if wait := ceil(self._wrong.wait(client)):
                return PlainTextResponse("too many wrong passwords\n", 429, headers={"Retry-After": str(wait)})
            if _is_password(given, self._access.password):
                return None
            self._wrong.note(client)
        return PlainTextResponse("not signed in\n", 401, headers={"WWW-Authenticate": _ASKS})


def _client(scope: Scope) -> str:
    """Return the address a request comes from; empty where the server does not know it."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def _network(address: str) -> str:
    """Return what counts as one client: an address of IPv4; of IPv6 all that one site has, which are very many."""
    if not _is_address(address):
        return address
    whole = ip_address(address)
    whole = whole.ipv4_mapped or whole if isinstance(whole, IPv6Address) else whole
    return str(ip_network((whole, 64), strict=False)) if whole.version == 6 else str(whole)


def _is_password(given: str, password: SecretStr) -> bool:
    """Given the credentials of basic authentication, return whether they hold the password."""
    try:
        typed = base64.b64decode(given, validate=True).partition(b":")[2]
    except ValueError:
        return False
    return hmac.compare_digest(typed, password.get_secret_value().encode())


class WrongPasswords:
    """Counts the wrong passwords of each address. One is forgotten every `FORGIVEN_AFTER` seconds.

    Args:
        clock: Time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._counts: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """By address, how many were not forgotten at its newest one, and when that was; the newest last."""

    def wait(self, address: str) -> float:
        """Given an address, return the seconds until it may give a password; 0 for now."""
        return max(0.0, (self._count(address) + 1 - FREE_GUESSES) * FORGIVEN_AFTER)

    def note(self, address: str) -> None:
        """Count a wrong password of an address. Of very many addresses the quietest are forgotten."""
        count = self._count(address) + 1
        self._counts[address] = count, self._clock.monotonic()
        self._counts.move_to_end(address)
        if len(self._counts) > MOST_ADDRESSES:
            self._counts.popitem(last=False)
        if count > FREE_GUESSES - 1:
            log.warning("wrong passwords", client=address, wait=round(self.wait(address)))

    def _count(self, address: str) -> float:
        now = self._clock.monotonic()
        count, at = self._counts.get(address, (0.0, now))
        return max(0.0, count - (now - at) / FORGIVEN_AFTER)


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
