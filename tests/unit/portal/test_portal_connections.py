"""Connections of one portal: lent to one request at a time, kept for a while, closed after a failure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import httpx
import pytest

from syncd.portal.connections import CONNECTIONS, IDLE_SECONDS, ConnectionPool
from tests.fakes.clock import SetClock

pytestmark = pytest.mark.anyio

PATIENCE = 30.0
"""Seconds after which a test gives up waiting."""


class Server:
    """Answers every request with nothing, on loopback, once it may."""

    def __init__(self) -> None:
        self.opened = 0
        self.closed = asyncio.Semaphore(0)
        self.arrived = asyncio.Semaphore(0)
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                self.arrived.release()
                await self.may_answer.wait()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            self.closed.release()
        finally:
            writer.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    listening = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    yield made
    made.may_answer.set()
    listening.close()


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
async def pool(server: Server, clock: SetClock) -> AsyncIterator[ConnectionPool]:
    made = ConnectionPool(server.url, clock)
    yield made
    await made.aclose()


@pytest.fixture
def get(server: Server, pool: ConnectionPool) -> Callable[[], Awaitable[None]]:
    async def get() -> None:
        async with pool.connection() as client:
            assert (await client.get(server.url)).status_code == 200

    return get


async def test_given_requests_one_after_another_then_one_connection_does(
    server: Server, get: Callable[[], Awaitable[None]]
) -> None:
    for _ in range(3):
        await get()

    assert server.opened == 1


async def test_given_requests_side_by_side_then_each_has_its_own_connection_and_all_are_used_again(
    server: Server, get: Callable[[], Awaitable[None]]
) -> None:
    for _ in range(2):
        await asyncio.gather(*(get() for _ in range(5)))

    assert server.opened == 5


async def test_given_more_requests_than_connections_then_the_rest_wait_for_their_turn(
    server: Server, get: Callable[[], Awaitable[None]]
) -> None:
    server.may_answer.clear()
    asked = [asyncio.ensure_future(get()) for _ in range(CONNECTIONS + 5)]
    async with asyncio.timeout(PATIENCE):
        for _ in range(CONNECTIONS):
            await server.arrived.acquire()
        server.may_answer.set()
        await asyncio.gather(*asked)

    assert server.opened == CONNECTIONS


async def test_given_connections_idle_for_long_when_another_request_comes_then_they_are_closed(
    server: Server, clock: SetClock, get: Callable[[], Awaitable[None]]
) -> None:
    await asyncio.gather(*(get() for _ in range(5)))
    clock.time += IDLE_SECONDS + 1
    await get()

    async with asyncio.timeout(PATIENCE):
        for _ in range(5):
            await server.closed.acquire()
    assert server.opened == 6


async def test_given_a_request_that_failed_then_its_connection_is_closed_and_the_next_one_opens_another(
    server: Server, pool: ConnectionPool, get: Callable[[], Awaitable[None]]
) -> None:
    await get()
    with suppress(ZeroDivisionError):
        async with pool.connection() as client:
            await client.get(server.url)
            raise ZeroDivisionError
    async with asyncio.timeout(PATIENCE):
        await server.closed.acquire()
    await get()

    assert server.opened == 2


async def test_given_a_request_that_was_cancelled_when_others_come_then_they_have_all_connections(
    server: Server, get: Callable[[], Awaitable[None]]
) -> None:
    server.may_answer.clear()
    asked = [asyncio.ensure_future(get()) for _ in range(CONNECTIONS)]
    async with asyncio.timeout(PATIENCE):
        for _ in range(CONNECTIONS):
            await server.arrived.acquire()
        for one in asked:
            one.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        server.may_answer.set()
        await asyncio.gather(*(get() for _ in range(CONNECTIONS)))


async def test_given_a_pool_that_is_closed_while_a_request_is_under_way_then_nothing_stays_open(
    server: Server, pool: ConnectionPool
) -> None:
    async with pool.connection() as client:
        await client.get(server.url)
        await pool.aclose()

    async with asyncio.timeout(PATIENCE):
        await server.closed.acquire()
    assert client.is_closed


async def test_given_a_way_of_its_own_when_a_request_fails_then_others_still_use_it(clock: SetClock) -> None:
    class Way(httpx.MockTransport):
        closed = 0

        async def aclose(self) -> None:
            self.closed += 1

    way = Way(lambda _: httpx.Response(200))
    pool = ConnectionPool("https://portal.example", clock, transport=way)
    with suppress(ZeroDivisionError):
        async with pool.connection():
            raise ZeroDivisionError
    assert way.closed == 0
    await pool.aclose()
    assert way.closed > 0
