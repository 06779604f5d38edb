"""The sandbox portal: one object that answers HTTP requests as a Bitrix24 portal does, without a socket.

A stateful, deterministic machine over an injected clock. `SandboxServer` puts it on a TCP port; tests call `respond`
through a mock transport; both see the same bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from syncd.sandbox.answering import Steps, answer, pass_edge
from syncd.sandbox.answers import SandboxRequest, SandboxResponse
from syncd.sandbox.exchange import Exchange, Pause
from syncd.sandbox.machine import Machine


class SandboxPortal(Machine):
    """A Bitrix24 portal to try things on; see `Machine` for the arguments and `Contents` for edits and hooks."""

    @property
    def webhook_path(self) -> str:
        """The webhook's path, with its secret."""
        return f"/rest/{self.user_id}/{self.code}/"

    # ---------------------------------------------------------------- front doors

    async def respond(
        self,
        method: str,
        path: str,
        query: str = "",
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        *,
        client: str = "127.0.0.1",
        secure: bool = False,
    ) -> SandboxResponse:
        """Answer one HTTP request, waiting as long as the portal works.

        Args:
            method: The verb, in capitals.
            path: The URL path, percent-encoded as sent.
            query: The query string, without `?`.
            headers: By name in any case.
            body: Raw.
            client: The source address, which the request limit is counted by.
            secure: Whether it came over TLS.
        """
        lower = {name.lower(): value for name, value in (headers or {}).items()}
        return await self.drive(self.exchange(SandboxRequest(method, path, query, lower, body, client, secure)))

    async def drive(self, steps: Steps, pause: Pause | None = None) -> SandboxResponse:
        """Take an exchange to its end, waiting where it waits; first for `pause` if it has begun already."""
        while True:
            if pause is not None:
                await self._wait(pause)
            try:
                with self.lock:
                    pause = next(steps)
            except StopIteration as end:
                self.answered()
                response: SandboxResponse = end.value
                return response

    def answered(self) -> None:
        """A request has been answered: those that were to be overtaken may go."""
        for event in self.waiting:
            event.set()

    async def _wait(self, pause: Pause) -> None:
        if not pause.until_overtaken:
            await self.clock.sleep(pause.seconds)
            return
        event = asyncio.Event()
        self.waiting.append(event)
        overtaken, patience = (
            asyncio.ensure_future(event.wait()),
            asyncio.ensure_future(self.clock.sleep(pause.seconds)),
        )
        try:
            await asyncio.wait({overtaken, patience}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.waiting.remove(event)
            overtaken.cancel()
            patience.cancel()

    def handle(self, request: SandboxRequest) -> SandboxResponse:
        """Answer one HTTP request at once, without waiting for anything."""
        steps = self.exchange(request)
        with self.lock:
            while True:
                try:
                    next(steps)
                except StopIteration as end:
                    response: SandboxResponse = end.value
                    return response

    def exchange(self, request: SandboxRequest) -> Steps:
        """Answer one HTTP request step by step; see `syncd.sandbox.exchange`."""
        self.settle()
        self.stats.requests += 1
        exchange = Exchange(self.stats.requests, request, self.clock.now(), wall=self.limits.wall)
        return (yield from pass_edge(self, exchange))

    def settle(self) -> None:
        """Execute the requests whose connection was dropped earlier and whose time has come."""
        now = self.clock.now()
        due = [exchange for at, exchange in self.late if at <= now]
        self.late = [(at, exchange) for at, exchange in self.late if at > now]
        for exchange in due:
            for _ in answer(self, exchange):
                pass
