"""The browser that brings the code of an authorisation."""

from __future__ import annotations

import asyncio
import socket
from contextlib import closing
from typing import Any

import pytest

from syncd.cli.commands.auth import wait_for_redirect

pytestmark = pytest.mark.anyio


async def connected(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect as soon as somebody listens."""
    while True:
        try:
            return await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            await asyncio.sleep(0)


async def test_given_a_connection_that_the_browser_never_uses_then_it_is_not_waited_for() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
    waiting = asyncio.create_task(wait_for_redirect(port, lambda path: path.startswith("/?code=")))
    async with asyncio.timeout(60):
        unused = (await connected(port))[1]
        reader, used = await asyncio.open_connection("127.0.0.1", port)
        used.write(b"GET /?code=x HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"Done." in await reader.read()
        assert await waiting == "/?code=x"
    for writer in (unused, used):
        writer.close()
        await writer.wait_closed()
    assert complaints == []
