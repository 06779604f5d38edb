"""HTTP as the portal needs it: POST, no redirects, a cap on bodies, and failures that say what they may have done.

A failure is either `NotExecuted` (the portal certainly did nothing) or `PerhapsExecuted` (it may have done everything).
httpx's own exceptions carry the URL, and with it the webhook's secret: none of them leaves this module, not even as a
context. URL and body themselves travel as pydantic's secrets, so that no traceback with locals shows them.

httpx reads the environment's variables for proxies and certificates itself, and fails on one that it cannot use with
errors of every kind, some of which repeat a proxy's password. Here each ends as a `ConfigError` that names the variable
and never its value.
"""

from __future__ import annotations

import asyncio
import importlib.util
import ipaddress
import logging
import os
import ssl
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import ClassVar, Final
from urllib.parse import urlsplit

import httpx
from pydantic import SecretBytes, SecretStr

from syncd.config.urls import is_loopback, web_host
from syncd.errors import ConfigError
from syncd.obs.redact import redact

JSON: Final = "application/json"
"""The type of a batch's body; the portal ignores a JSON body of any other type (portal.md 1.3)."""

CONNECTIONS: Final = 45
"""Connections at once: a little below the portal's burst of 50 (portal.md 9.1)."""

LARGEST_BODY: Final = 4 * 1024 * 1024
"""Bytes of an answer, unpacked. A full batch of 50 pages is about 200 kB; no request of ours is answered with more."""

IDLE_SECONDS: Final = 4.0
"""Seconds that an idle connection is kept: fewer than any server does, since a request on a connection that the server
closes counts as perhaps executed."""

_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, httpx.UnsupportedProtocol)
_ENCODINGS: Final = {"", "identity", "gzip"}
"""What an answer may be packed with. Nested or stronger packing could unpack a small answer to gigabytes."""

_EXPIRED, _NOT_YET_VALID, _WRONG_NAME, _WRONG_IP = 10, 9, 62, 64
"""OpenSSL's codes for what is wrong with a certificate (X509_V_ERR_…); any other is an authority that is not known."""

_PROXIES: Final = ("HTTPS_PROXY", "ALL_PROXY", "HTTP_PROXY")
_SOCKS: Final = {"socks5", "socks5h"}
_PAGE: Final = "docs/how-to/proxy.md says which variables count."


class RequestFailed(Exception):
    """No usable answer came.

    Args:
        text: Why, as a part of a sentence.
        hint: What the operator can do; empty if nothing is known.
        retry_after: The seconds that the server asks to wait; None if it does not say.
    """

    kind: ClassVar[str]
    """The kind of failure, which decides how often the request is sent again."""

    def __init__(self, text: str, *, hint: str = "", retry_after: float | None = None) -> None:
        super().__init__(text)
        self.hint = hint
        self.retry_after = retry_after


class NotExecuted(RequestFailed):
    """The portal certainly did not execute the request."""

    kind: ClassVar[str] = "closed"


class PerhapsExecuted(RequestFailed):
    """The request went out, and no usable answer came: it may have been executed, in part or wholly."""

    kind: ClassVar[str] = "broken"


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer. Answers may repeat what was sent, so a repr shows no more than the status.

    Args:
        status: The HTTP status.
        body: The body, unpacked.
        location: The target of a redirect, else empty.
        retry_after: The seconds that the server asks to wait; None if it does not say.
    """

    status: int
    body: bytes = field(repr=False)
    location: str = field(default="", repr=False)
    retry_after: float | None = None


class HttpClient:
    """Keep-alive connections of one portal.

    Args:
        origin: Where the portal is. No proxy is used for a portal on this machine, even if the environment names one.
        transport: Another way to the portal, in tests.

    Raises:
        ConfigError: A setting of the environment for proxies or certificates cannot be used.
    """

    def __init__(self, origin: str, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        # httpx logs each URL at INFO and httpcore each request line at DEBUG; a webhook's URL is its secret.
        for name in ("httpx", "httpcore"):
            logging.getLogger(name).setLevel(logging.WARNING)
        limits = httpx.Limits(
            max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS, keepalive_expiry=IDLE_SECONDS
        )
        self._client = open_client(origin, limits, transport)

    async def post(self, url: SecretStr, body: SecretBytes, content_type: str, *, seconds: float) -> Reply:
        """Send one POST.

        Args:
            url: Where to.
            body: The encoded body.
            content_type: Its type.
            seconds: How long to wait for the answer.

        Raises:
            NotExecuted: No connection came about.
            PerhapsExecuted: No complete answer came.
        """
        failure: NotExecuted | PerhapsExecuted
        timeout = httpx.Timeout(connect=10.0, read=seconds, write=30.0, pool=None)
        try:
            # httpx's own limit starts again with each byte; a slow stream of bytes must end, too.
            async with (
                asyncio.timeout(2 * seconds),
                self._client.stream(
                    "POST",
                    url.get_secret_value(),
                    content=body.get_secret_value(),
                    headers={"Content-Type": content_type},
                    timeout=timeout,
                ) as response,
            ):
                content = await _content(response)
                if isinstance(content, bytes):
                    headers = response.headers
                    return Reply(response.status_code, content, headers.get("Location", ""), _retry_after(headers))
            failure = content
        except TimeoutError:
            failure = PerhapsExecuted("no complete answer in time")
        except _NOT_SENT as error:
            failure = _unsent(error)
        except httpx.HTTPError as error:
            failure = PerhapsExecuted(_words(error))
        # Raised here, not in the handlers: there Python would attach httpx's exception, with its URL, to ours.
        raise failure

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()


async def _content(response: httpx.Response) -> bytes | PerhapsExecuted:
    """Read and unpack a body; stop if it is too large, or packed in a way that was not offered."""
    packing = response.headers.get("Content-Encoding", "").strip().lower()
    if packing not in _ENCODINGS:
        return PerhapsExecuted("the answer is packed in a way that was not asked for")
    # A transport in tests may have read the body already, and httpx unpacked it.
    is_raw = not response.is_stream_consumed
    unpacker = zlib.decompressobj(wbits=31) if packing == "gzip" and is_raw else None
    chunks: list[bytes] = []
    left = LARGEST_BODY
    try:
        async for chunk in response.aiter_raw() if is_raw else response.aiter_bytes():
            # httpx would unpack a whole chunk at once: 64 kB become 64 MiB at worst.
            part = chunk if unpacker is None else unpacker.decompress(chunk, left + 1)
            left -= len(part)
            if left < 0:
                return PerhapsExecuted(f"the answer is larger than {LARGEST_BODY // 1024 // 1024} MiB")
            chunks.append(part)
    except zlib.error:
        return PerhapsExecuted("the answer cannot be unpacked")
    if unpacker is not None and chunks and not unpacker.eof:
        return PerhapsExecuted("the answer ends in the middle")
    return b"".join(chunks)


def _retry_after(headers: httpx.Headers) -> float | None:
    """Given an answer's headers, return the seconds that `Retry-After` asks for; None if it has no usable value.

    A date is compared with the answer's own `Date`, since this host's clock may differ.
    """
    asked = headers.get("Retry-After", "")
    if asked.isascii() and asked.isdigit():
        return float(asked[:9])
    try:
        seconds = (parsedate_to_datetime(asked) - parsedate_to_datetime(headers.get("Date", ""))).total_seconds()
    except (ValueError, TypeError):
        return None
    return max(0.0, seconds)


def _unsent(error: httpx.HTTPError) -> NotExecuted:
    """Given httpx's error at connecting, return ours; problems with certificates have hints of their own."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _distrusted(cause)
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpx.ProxyError):
        return NotExecuted(
            f"the proxy refuses to connect to it ({_words(error)})",
            hint="The proxy is the one that HTTPS_PROXY or ALL_PROXY names; NO_PROXY makes an exception.",
        )
    return NotExecuted(_words(error))


def _distrusted(error: ssl.SSLCertVerificationError) -> NotExecuted:
    match error.verify_code:
        case code if code in {_EXPIRED, _NOT_YET_VALID}:
            return NotExecuted(
                "its certificate has expired" if code == _EXPIRED else "its certificate is not valid yet",
                hint="Renew the portal's certificate, or correct this host's clock if that is wrong.",
            )
        case code if code in {_WRONG_NAME, _WRONG_IP}:
            return NotExecuted(
                "its certificate is for another host name",
                hint="Check the host in the configuration: it must be the name that the certificate was made for.",
            )
        case _:
            return NotExecuted(
                "its certificate is not trusted: the authority that signed it is unknown here",
                hint="If it is your own authority, name its certificate in SSL_CERT_FILE; otherwise ask who answers.",
            )


def _words(error: httpx.HTTPError) -> str:
    """Given httpx's exception, return a short text for the operator."""
    if isinstance(error, httpx.TimeoutException):
        return "no connection in time" if isinstance(error, _NOT_SENT) else "no answer in time"
    return redact(str(error)).rstrip(". ") or type(error).__name__


def open_client(
    origin: str, limits: httpx.Limits, transport: httpx.AsyncBaseTransport | None = None
) -> httpx.AsyncClient:
    """Given where a portal is, return a client for it; it follows no redirects and asks for gzip at most.

    Args:
        origin: `https://host[:port]`, or http:// to this machine.
        limits: Of its connections.
        transport: Another way to the portal, in tests; the environment then counts for nothing.

    Raises:
        ConfigError: A variable holds what cannot be used; `problems` names each.
    """
    at_home = is_loopback(origin)
    # A portal on this machine needs no proxy, but an encrypted connection needs the environment's certificates.
    encrypted = urlsplit(origin).scheme == "https"
    problems = () if transport is not None else tuple(_problems(certificates=encrypted, proxies=not at_home))
    if not problems:
        try:
            if transport is None and at_home:
                transport = httpx.AsyncHTTPTransport(limits=limits, trust_env=encrypted)
            return httpx.AsyncClient(
                transport=transport,
                limits=limits,
                follow_redirects=False,
                headers={"User-Agent": "syncd", "Accept-Encoding": "gzip"},
            )
        except (httpx.InvalidURL, ValueError, ImportError, OSError) as error:
            words = type(error).__name__
        problems = (f"The environment's proxies or certificates (HTTPS_PROXY, SSL_CERT_FILE, …) fail with {words}.",)
    # Raised outside the handler: there Python would attach httpx's exception, with a proxy's password, to this one.
    raise ConfigError(
        f"The portal {web_host(origin)} cannot be reached as the environment says.", hint=_PAGE, problems=problems
    )


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
