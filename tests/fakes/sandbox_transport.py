"""The sandbox portal behind httpx, in process: no socket, no thread, the same bytes."""

from __future__ import annotations

import httpx

from syncd.sandbox import SandboxPortal


class SandboxTransport(httpx.AsyncBaseTransport):
    """Hands requests to a sandbox portal.

    Args:
        portal: The portal.
    """

    def __init__(self, portal: SandboxPortal) -> None:
        self._portal = portal

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        response = await self._portal.respond(
            request.method,
            url.raw_path.decode().partition("?")[0],
            url.query.decode(),
            dict(request.headers),
            await request.aread(),
            secure=url.scheme == "https",
        )
        if response.dropped:
            raise httpx.RemoteProtocolError("Server disconnected without sending a response.", request=request)
        if response.cut_at is not None:
            raise httpx.RemoteProtocolError("peer closed connection without sending complete message body")
        return httpx.Response(response.status, headers=list(response.headers), content=response.body)
