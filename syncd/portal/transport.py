"""HTTP as the portal needs it: POST, no redirects, a cap on bodies, and failures that say what they may have done.

A failure is either `NotExecuted` (the portal certainly did nothing) or `PerhapsExecuted` (it may have done everything).
httpx's own exceptions carry the URL, and with it the webhook's secret: none of them leaves this module, not even as a
context. URL and body themselves travel as pydantic's secrets, so that no traceback with locals shows them.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import zlib
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import ClassVar, Final

import httpx
from pydantic import SecretBytes, SecretStr

from syncd.core.ports import Clock
from syncd.obs.redact import redact
from syncd.portal.connections import ConnectionPool

JSON: Final = "application/json"
"""The type of a batch's body; the portal ignores a JSON body of any other type (portal.md 1.3)."""

LARGEST_BODY: Final = 4 * 1024 * 1024
"""Bytes of an answer, unpacked. A full batch of 50 pages is about 200 kB; no request of ours is answered with more."""

_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, httpx.UnsupportedProtocol)
_ENCODINGS: Final = {"", "identity", "gzip"}
"""What an answer may be packed with. Nested or stronger packing could unpack a small answer to gigabytes."""

_EXPIRED, _NOT_YET_VALID, _WRONG_NAME, _WRONG_IP = 10, 9, 62, 64
"""OpenSSL's codes for what is wrong with a certificate (X509_V_ERR_…); any other is an authority that is not known."""


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
        origin: Where the portal is.
        clock: Time.
        transport: Another way to the portal, in tests.

    Raises:
        ConfigError: A setting of the environment for proxies or certificates cannot be used.
    """

    def __init__(self, origin: str, clock: Clock, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        # httpx logs each URL at INFO and httpcore each request line at DEBUG; a webhook's URL is its secret.
        for name in ("httpx", "httpcore"):
            logging.getLogger(name).setLevel(logging.WARNING)
        self._connections = ConnectionPool(origin, clock, transport=transport)

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
                self._connections.connection() as client,
                client.stream(
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
        await self._connections.aclose()


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
                hint="If it is your own authority, name its certificate in SSL_CERT_FILE; otherwise see what answers.",
            )


def _words(error: httpx.HTTPError) -> str:
    """Given httpx's exception, return a short text for the operator."""
    if isinstance(error, httpx.TimeoutException):
        return "no connection in time" if isinstance(error, _NOT_SENT) else "no answer in time"
    return redact(str(error)).rstrip(". ") or type(error).__name__
