"""HTTP as the portal needs it: POST, no redirects, a cap on bodies, and failures told apart by what they leave behind.

A failure is either `NotExecuted` (the portal certainly did nothing) or `PerhapsExecuted` (it may have done everything).
httpx's own exceptions carry the URL, and with it the webhook's secret: none of them leaves this module, not even as a
context. URL and body themselves travel as pydantic's secrets, so that no traceback with locals shows them.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from dataclasses import dataclass, field
from typing import ClassVar

import httpx
from pydantic import SecretBytes, SecretStr

from syncd.obs.redact import redact

CONNECTIONS = 45
"""Requests side by side: a little below the portal's burst of 50 (bitrix24-rest.md 9.1)."""

LARGEST_BODY = 64 * 1024 * 1024
"""Bytes of an answer, decompressed. A full batch of 50 pages is about 200 kB; "start=-1 gives all" may be far more."""

IDLE_SECONDS = 4.0
"""How long an idle connection is kept: shorter than any server's own patience, since a request that meets a closing
connection counts as perhaps executed."""

_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, httpx.UnsupportedProtocol)


class NotExecuted(Exception):
    """The portal certainly did not execute the request. `kind` says how long it is worth trying again."""

    kind: ClassVar[str] = "closed"


class PerhapsExecuted(Exception):
    """The request went out, and no usable answer came: it may have been executed, in part or wholly."""

    kind: ClassVar[str] = "broken"


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer. `location` is where a redirect points, else empty. Answers may repeat what was sent."""

    status: int
    body: bytes = field(repr=False)
    location: str = field(default="", repr=False)


class Wire:
    """Keep-alive connections of one portal.

    Args:
        direct: No proxy, whatever the environment says: the portal is on this machine.
        transport: Another way to the portal, in tests.
    """

    def __init__(self, *, direct: bool = False, transport: httpx.AsyncBaseTransport | None = None) -> None:
        # httpx logs each URL at INFO and httpcore each request line at DEBUG; a webhook's URL is its secret.
        for name in ("httpx", "httpcore"):
            logging.getLogger(name).setLevel(logging.WARNING)
        limits = httpx.Limits(
            max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS, keepalive_expiry=IDLE_SECONDS
        )
        if transport is None and direct:
            transport = httpx.AsyncHTTPTransport(limits=limits)
        self._client = httpx.AsyncClient(
            transport=transport, limits=limits, follow_redirects=False, headers={"User-Agent": "syncd"}
        )

    async def post(self, url: SecretStr, body: SecretBytes, content_type: str, *, seconds: float) -> Reply:
        """Send one POST.

        Args:
            url: Where to.
            body: The encoded body.
            content_type: Its type; the portal takes a JSON body of any other type for none (bitrix24-rest.md 1.3).
            seconds: How long to wait for the answer.

        Raises:
            NotExecuted: No connection came about.
            PerhapsExecuted: No complete answer came.
        """
        failure: NotExecuted | PerhapsExecuted
        headers = {"Content-Type": content_type}
        timeout = httpx.Timeout(connect=10.0, read=seconds, write=30.0, pool=None)
        try:
            # httpx's own time runs anew with each byte; an answer that trickles must end too.
            async with (
                asyncio.timeout(2 * seconds),
                self._client.stream(
                    "POST", url.get_secret_value(), content=body.get_secret_value(), headers=headers, timeout=timeout
                ) as response,
            ):
                chunks: list[bytes] = []
                size = 0
                async for chunk in response.aiter_bytes():
                    size += len(chunk)
                    if size > LARGEST_BODY:
                        break
                    chunks.append(chunk)
                else:
                    return Reply(response.status_code, b"".join(chunks), response.headers.get("Location", ""))
            failure = PerhapsExecuted(f"the answer is larger than {LARGEST_BODY // 1024 // 1024} MiB")
        except TimeoutError:
            failure = PerhapsExecuted("no complete answer in time")
        except _NOT_SENT as error:
            failure = NotExecuted(_words(error))
        except httpx.HTTPError as error:
            failure = PerhapsExecuted(_words(error))
        # Raised here and not in the handlers: there Python would hang httpx's exception, with its URL, on ours.
        raise failure

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()


def _words(error: httpx.HTTPError) -> str:
    """Given httpx's exception, return a few words for the operator."""
    if isinstance(error, httpx.TimeoutException):
        return "no connection in time" if isinstance(error, _NOT_SENT) else "no answer in time"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return "its certificate is not trusted (SSL_CERT_FILE names another authority)"
        cause = cause.__cause__ or cause.__context__
    return redact(str(error)).rstrip(". ") or type(error).__name__
