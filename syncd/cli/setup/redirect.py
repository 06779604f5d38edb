"""Waits on loopback for the browser that brings the code of an authorisation."""

from __future__ import annotations

import asyncio

from syncd.errors import UnavailableError

_PAGE = b"<!doctype html><title>syncd</title><p>Done. You can close this page and go back to the terminal.</p>"
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(_PAGE)
_LONGEST = 64 * 1024


async def wait_for_redirect(port: int) -> str:
    """Given a port, return the path and query of the first request that brings a code.

    Raises:
        UnavailableError: The port cannot be opened.
    """
    found: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = (await reader.readline()).decode("latin-1").split()
            path = line[1] if len(line) > 1 else ""
            while (await reader.readline()).strip():
                pass
            writer.write(_HEAD + _PAGE)
            await writer.drain()
            if "code=" in path and not found.done():
                found.set_result(path)
        except (OSError, ValueError, asyncio.LimitOverrunError):
            pass  # a browser that went away, or something that is no HTTP: go on waiting
        finally:
            writer.close()

    try:
        server = await asyncio.start_server(serve, "127.0.0.1", port, limit=_LONGEST)
    except OSError as error:
        raise UnavailableError(f"Port {port} cannot be opened: {error.strerror or error}.") from None
    async with server:
        return await found
