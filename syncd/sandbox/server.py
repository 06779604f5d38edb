"""The sandbox portal on a TCP port.

A request that needs no waiting is answered within the call that received it; one that does gets a task, which goes on
when the client hangs up, as a real portal does.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from syncd.sandbox.answering import Steps
from syncd.sandbox.answers import SandboxResponse
from syncd.sandbox.exchange import Pause
from syncd.sandbox.http11 import BadRequest, Head, RequestReader, to_bytes, to_request
from syncd.sandbox.portal import SandboxPortal
from syncd.sandbox.tls import Certificate, make_certificate


class SandboxServer:
    """Serves a portal on loopback while the context lasts.

    Args:
        portal: The portal.
        host: Where to listen.
        port: 0 takes a free one.
        tls: Serve https with a certificate made now; needs the extra `tls`.
    """

    def __init__(self, portal: SandboxPortal, *, host: str = "127.0.0.1", port: int = 0, tls: bool = False) -> None:
        self.portal = portal
        self.host = host
        self.port = port
        self._certificate: Certificate | None = make_certificate(host) if tls else None
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self._working: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Scheme, host and port, without a slash at the end."""
        return f"{'https' if self._certificate else 'http'}://{self.host}:{self.port}"

    @property
    def webhook_url(self) -> str:
        """The webhook's URL, with its secret and a slash at the end."""
        return self.url + self.portal.webhook_path

    @property
    def ca_pem(self) -> str:
        """The certificate clients must trust, as PEM text; empty without TLS."""
        return self._certificate.certificate_pem if self._certificate else ""

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
        context = self._certificate.server_context() if self._certificate else None
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Connection(self, context is not None), self.host, self.port, ssl=context, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def aclose(self) -> None:
        """Stop listening, hang up, and drop what is still being worked on."""
        assert self._server is not None
        self._server.close()
        for connection in tuple(self._connections):
            connection.abort()
        for task in tuple(self._working):
            task.cancel()
        await asyncio.gather(*self._working, return_exceptions=True)
        await self._server.wait_closed()

    @classmethod
    @contextmanager
    def in_thread(cls, portal: SandboxPortal, **options: Any) -> Iterator[SandboxServer]:
        """Serve from a thread of its own while the context lasts, for callers that block; edits stay safe.

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

    def opened(self, connection: _Connection) -> None:
        """Remember a connection."""
        self._connections.add(connection)

    def closed(self, connection: _Connection) -> None:
        """Forget a connection."""
        self._connections.discard(connection)

    def work_on(self, connection: _Connection, steps: Steps, pause: Pause, head: Head) -> None:
        """Go on with an exchange that waits, whatever becomes of its connection."""
        task = asyncio.get_running_loop().create_task(self._finish(connection, steps, pause, head))
        self._working.add(task)
        task.add_done_callback(self._working.discard)

    async def _finish(self, connection: _Connection, steps: Steps, pause: Pause, head: Head) -> None:
        connection.answer(head, await self.portal.drive(steps, pause))


class _Connection(asyncio.Protocol):
    """One client connection: requests are answered one after another."""

    def __init__(self, server: SandboxServer, secure: bool) -> None:  # noqa: FBT001  # made in one place, positionally
        self._server = server
        self._secure = secure
        self._reader = RequestReader()
        self._busy = False
        self._transport: asyncio.Transport | None = None
        self._client = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._client = transport.get_extra_info("peername")[0]
        self._server.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's signature
        self._transport = None
        self._server.closed(self)

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        self._advance()

    def answer(self, head: Head, response: SandboxResponse) -> None:
        """Send a response, then go on with what has arrived meanwhile."""
        self._send(head, response)
        self._busy = False
        self._advance()

    def _advance(self) -> None:
        while not self._busy and self._transport is not None:
            try:
                parsed = self._reader.next()
            except BadRequest as bad:
                self._transport.write(to_bytes(SandboxResponse(bad.status), head_only=False, keep_alive=False))
                self._transport.close()
                return
            if parsed is None:
                if self._reader.wants_continue():
                    self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                return
            head, body = parsed
            portal = self._server.portal
            steps = portal.exchange(to_request(head, body, self._client, secure=self._secure))
            try:
                with portal.lock:
                    pause = next(steps)
            except StopIteration as end:
                portal.answered()
                self._send(head, end.value)
            else:
                self._busy = True
                self._server.work_on(self, steps, pause, head)

    def _send(self, head: Head, response: SandboxResponse) -> None:
        transport = self._transport
        if transport is None:
            return
        if response.dropped:
            transport.abort()
            return
        cut = response.cut_at is not None
        keep = head.keep_alive and not cut
        transport.write(to_bytes(response, head_only=head.method == "HEAD", keep_alive=head.keep_alive))
        if not keep:
            transport.close()
