"""Keep-alive connections of one portal, opened as the environment says.

httpx reads the environment's variables for proxies and certificates itself, and fails on one that it cannot use with
errors of every kind, some of which repeat a proxy's password. Here each ends as a `ConfigError` that names the variable
and never its value.
"""

from __future__ import annotations

import asyncio
import importlib.util
import ipaddress
import os
import ssl
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx

from syncd.config.urls import is_loopback, web_host
from syncd.core.ports import Clock
from syncd.errors import ConfigError

CONNECTIONS: Final = 45
"""Connections at once: a little below the portal's burst of 50 (portal.md 9.1)."""

IDLE_SECONDS: Final = 4.0
"""Seconds that an idle connection is kept: fewer than any server does, since a request on a connection that the server
closes counts as perhaps executed."""

_ONE: Final = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=IDLE_SECONDS)

_PROXIES: Final = ("HTTPS_PROXY", "ALL_PROXY", "HTTP_PROXY")
_SOCKS: Final = {"socks5", "socks5h"}
_PAGE: Final = "docs/how-to/proxy.md says which variables count."


class ConnectionPool:
    """Connections of one portal, each a client of httpx's own; at most `CONNECTIONS`.

    httpx's own pool asks the operating system about each idle connection whenever any request begins or ends. With 40
    of them that takes longer than everything else that is done for a request.

    Args:
        origin: `https://host[:port]`, or http:// to this machine. No proxy is used for that, even if the environment
            names one; an encrypted connection uses its certificates.
        clock: Time.
        transport: Another way to the portal, in tests, shared by all requests; the environment counts for nothing.

    Raises:
        ConfigError: A variable of the environment holds what cannot be used; `problems` names each.
    """

    def __init__(self, origin: str, clock: Clock, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._clock = clock
        self._transport = transport
        self._at_home = is_loopback(origin)
        self._room = asyncio.Semaphore(CONNECTIONS)
        self._all: set[httpx.AsyncClient] = set()
        self._idle: deque[tuple[httpx.AsyncClient, float]] = deque()
        """Those without a request, with the time since when (monotonic seconds); the last one used is the last."""
        encrypted = urlsplit(origin).scheme == "https"
        problems = () if transport else tuple(_problems(certificates=encrypted, proxies=not self._at_home))
        if not problems:
            try:
                # Without TLS nobody's certificate is looked at; to load the machine's authorities would take 50 ms.
                bare = transport is not None or not encrypted
                self._certificates = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if bare else httpx.create_ssl_context()
                self._idle.append((self._open(), clock.monotonic()))
            except (httpx.InvalidURL, ValueError, ImportError, OSError) as error:
                words = type(error).__name__
            else:
                return
            problems = (
                f"The environment's proxies or certificates (HTTPS_PROXY, SSL_CERT_FILE, …) fail with {words}.",
            )
        # Raised outside the handler: there Python would attach httpx's exception, with a proxy's password, to this one.
        raise ConfigError(
            f"The portal {web_host(origin)} cannot be reached as the environment says.", hint=_PAGE, problems=problems
        )

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[httpx.AsyncClient]:
        """Lend a client for one request, when there is one; after a failure it is closed and not used again."""
        async with self._room:
            await self._close_idle()
            client = self._idle.pop()[0] if self._idle else self._open()
            try:
                yield client
            except BaseException:
                await self._close(client)
                raise
            if client in self._all:
                self._idle.append((client, self._clock.monotonic()))

    async def aclose(self) -> None:
        """Close all connections, also those with a request."""
        self._idle.clear()
        for client in tuple(self._all):
            await self._close(client)
        if self._transport is not None:
            await self._transport.aclose()

    async def _close_idle(self) -> None:
        """Close the connections that have been idle for long; httpx would do so only when it used them again."""
        while self._idle and self._clock.monotonic() - self._idle[0][1] > IDLE_SECONDS:
            await self._close(self._idle.popleft()[0])

    async def _close(self, client: httpx.AsyncClient) -> None:
        self._all.discard(client)
        if self._transport is None:  # else it would close what the others use, too
            await client.aclose()

    def _open(self) -> httpx.AsyncClient:
        """Return a client for one request at a time; it follows no redirects and asks for gzip at most."""
        transport = self._transport
        if transport is None and self._at_home:
            transport = httpx.AsyncHTTPTransport(verify=self._certificates, limits=_ONE)
        client = httpx.AsyncClient(
            transport=transport,
            verify=self._certificates,
            limits=_ONE,
            follow_redirects=False,
            headers={"User-Agent": "syncd", "Accept-Encoding": "gzip"},
        )
        self._all.add(client)
        return client


def _problems(*, certificates: bool, proxies: bool) -> Iterator[str]:
    """Yield a sentence for each variable that cannot be used."""
    if certificates:
        if path := os.environ.get("SSL_CERT_FILE"):
            if words := _unusable_certificates(path):
                yield f"SSL_CERT_FILE names a file that {words}."
        elif (folder := os.environ.get("SSL_CERT_DIR")) and not Path(folder).is_dir():
            yield "SSL_CERT_DIR does not name a folder."
    if not proxies:
        return
    for variable in _PROXIES:
        name, value = _variable(variable)
        if words := _unusable_proxy(value):
            yield f"{name} {words}."
    name, value = _variable("NO_PROXY")
    for entry in filter(None, map(str.strip, value.split(","))):
        if not _is_exception(entry):
            yield f"{name} holds {entry!r}, which cannot be used: write hosts, domains, addresses or IPv4 ranges."


def _variable(name: str) -> tuple[str, str]:
    """Given a variable's name, return the spelling that is in force and its value; the lower-case one wins."""
    lower = name.lower()
    return (lower, os.environ[lower]) if lower in os.environ else (name, os.environ.get(name, ""))


def _unusable_certificates(path: str) -> str:
    try:
        ssl.create_default_context(cafile=path)
    except ssl.SSLError:
        return "holds no certificates in PEM form"
    except OSError as error:
        return f"cannot be read: {error.strerror or type(error).__name__}"
    return ""


def _unusable_proxy(value: str) -> str:
    """Given a proxy's address, return what is wrong with it, without repeating it."""
    if not value:
        return ""
    address = value if "://" in value else f"http://{value}"
    try:
        scheme = urlsplit(address).scheme
        if scheme in _SOCKS and importlib.util.find_spec("socksio") is None:
            return "names a SOCKS proxy, for which the Python package socksio is missing (pip install 'httpx[socks]')"
        if scheme not in {"http", "https"} | _SOCKS:
            return (
                f"names a proxy of the kind {scheme}://, which cannot be used; it may be http://, https:// or socks5://"
            )
        httpx.Proxy(address)
        if not urlsplit(address).hostname:
            return "names no host"
        _ = urlsplit(address).port
    except (httpx.InvalidURL, ValueError):
        return "is not the address of a proxy, such as http://proxy.example.com:3128"
    return ""


def _is_exception(entry: str) -> bool:
    """Given an entry of NO_PROXY, return whether httpx can use it: no IPv6 ranges, no brackets."""
    if "://" not in entry and entry.count(":") > 1:
        try:
            ipaddress.IPv6Address(entry)
        except ValueError:
            return False
        return True
    try:
        httpx.URL(entry if "://" in entry else f"all://{entry.lstrip('*.')}")
    except httpx.InvalidURL:
        return False
    return True
