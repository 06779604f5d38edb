"""The sandbox's HTTP server: connections, bodies, heads."""

from __future__ import annotations

import asyncio
import builtins
import json
import ssl
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from syncd.errors import ConfigError, UnavailableError
from syncd.sandbox import (
    Fault,
    FaultRule,
    Faults,
    Latencies,
    SandboxPortal,
    SandboxServer,
    ServeOptions,
    Version,
    serve,
)
from syncd.sandbox.server import make_portal
from tests.fakes.clock import SetClock
from tests.unit.sandbox.sandbox_calls import add_command

pytestmark = pytest.mark.anyio

PROFILE = "GET /rest/1/sandboxsecret/profile HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture
def portal() -> SandboxPortal:
    return SandboxPortal({5: (2, 10), 7: (2, 10)})


@pytest.fixture
async def server(portal: SandboxPortal) -> AsyncIterator[SandboxServer]:
    async with SandboxServer(portal) as running:
        yield running


@pytest.fixture
async def http(server: SandboxServer) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.webhook_url) as client:
        yield client


async def exchange(server: SandboxServer, raw: str, *, answers: int = 1) -> bytes:
    """Send raw text and return what comes back until that many answers are there or the connection closes."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(raw.encode())
    received = b""
    while received.count(b'"date_finish"') < answers and (chunk := await reader.read(65536)):
        received += chunk
    writer.close()
    await writer.wait_closed()
    return received


async def test_a_connection_serves_many_requests(server: SandboxServer) -> None:
    received = await exchange(server, (PROFILE + "\r\n") * 3, answers=3)
    assert received.count(b"HTTP/1.1 200 OK") == 3


async def test_a_connection_closes_when_it_is_asked_to(server: SandboxServer) -> None:
    received = await exchange(server, PROFILE + "Connection: close\r\n\r\n" + PROFILE + "\r\n", answers=9)
    assert received.count(b"HTTP/1.1 200 OK") == 1
    assert b"connection: close" in received.lower()


async def test_an_old_client_gets_one_answer(server: SandboxServer) -> None:
    received = await exchange(server, PROFILE.replace("1.1", "1.0") + "\r\n", answers=9)
    assert received.count(b"HTTP/1.1 200 OK") == 1


async def test_a_chunked_body_is_read(http: httpx.AsyncClient) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b'{"filter":'
        yield b'{"orderId":7}}'

    answer = await http.post("crm.orderentity.list", content=body(), headers={"Content-Type": "application/json"})
    assert [row["orderId"] for row in answer.json()["result"]["orderEntity"]] == [7]


async def test_a_client_that_waits_for_a_go_ahead_gets_it(server: SandboxServer) -> None:
    reader, writer = await asyncio.open_connection(server.host, server.port)
    body = b"select[]=orderId"
    writer.write(
        b"POST /rest/1/sandboxsecret/crm.orderentity.list HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body)
    )
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 Continue\r\n")
    writer.write(body)
    assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200")
    writer.close()
    await writer.wait_closed()


async def test_head_has_no_body(http: httpx.AsyncClient) -> None:
    answer = await http.head("profile")
    assert answer.content == b""


async def test_a_proxys_absolute_target_is_understood(server: SandboxServer) -> None:
    received = await exchange(server, PROFILE.replace(" /rest", " http://portal.example/rest") + "\r\n")
    assert received.startswith(b"HTTP/1.1 200 OK")
    elsewhere = await exchange(server, "GET http://portal.example HTTP/1.0\r\n\r\n", answers=9)
    assert elsewhere.startswith(b"HTTP/1.1 404 Not Found")


async def test_a_body_may_not_be_endless(http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("syncd.sandbox.server.MAX_BODY", 3)

    async def body() -> AsyncIterator[bytes]:
        yield b"ab"
        yield b"cd"

    assert (await http.post("profile", content=body())).status_code == 413
    assert (await http.post("profile", content=b"abc")).status_code == 200


async def test_a_refused_request_ends_its_connection(server: SandboxServer) -> None:
    received = await exchange(server, "nonsense\r\n\r\n", answers=9)
    assert received.startswith(b"HTTP/1.1 400 Bad Request")


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_drop_is_a_drop_on_the_wire(portal: SandboxPortal, http: httpx.AsyncClient, when: Any) -> None:
    portal.faults.add(FaultRule(Fault.DROP, when=when))
    with pytest.raises(httpx.TransportError):
        await http.get("profile")
    assert (await http.get("profile")).status_code == 200


async def test_a_cut_body_is_noticed_by_its_length(portal: SandboxPortal, http: httpx.AsyncClient) -> None:
    portal.faults.add(FaultRule(Fault.TRUNCATE))
    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
        await http.get("profile")


async def test_the_portal_goes_on_when_the_client_has_hung_up() -> None:
    portal = SandboxPortal({5: (2, 10)}, latencies=Latencies(add=0.02))
    begun = {"crm.orderentity.add": asyncio.Event(), "profile": asyncio.Event()}
    async with SandboxServer(portal) as server:
        portal.before_call(lambda method, _params, _request: begun[method].set())
        reader, writer = await asyncio.open_connection(server.host, server.port)
        body = json.dumps({"cmd": [add_command(5), "profile"]}).encode()
        head = f"POST /rest/1/sandboxsecret/batch HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        writer.write(f"{head}\r\n\r\n".encode() + body)
        await writer.drain()
        await begun["crm.orderentity.add"].wait()
        writer.close()
        await writer.wait_closed()
        await begun["profile"].wait()
        del reader
    assert portal.bindings == {5: (2, 12)}


class SleepOfTwo(SetClock):
    """Lets sleepers go on in pairs: the first wakes when the second begins to sleep."""

    def __init__(self) -> None:
        super().__init__()
        self._both = asyncio.Barrier(2)

    async def sleep(self, seconds: float) -> None:
        await self._both.wait()


async def test_two_slow_requests_are_worked_on_side_by_side() -> None:
    portal = SandboxPortal(latencies=Latencies(request=1), clock=SleepOfTwo())
    async with SandboxServer(portal) as server, httpx.AsyncClient(base_url=server.webhook_url, timeout=20) as http:
        answers = await asyncio.gather(http.get("profile"), http.get("scope"))
    assert [answer.status_code for answer in answers] == [200, 200]


class NeverEndingSleep(SetClock):
    def __init__(self) -> None:
        super().__init__()
        self.asleep = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        self.asleep.set()
        await asyncio.Event().wait()


async def test_what_is_worked_on_is_dropped_when_the_server_closes() -> None:
    clock = NeverEndingSleep()
    portal = SandboxPortal({5: (2, 10)}, latencies=Latencies(request=3600), clock=clock)
    async with httpx.AsyncClient() as http:
        async with SandboxServer(portal) as server:
            call = asyncio.create_task(http.get(server.webhook_url + "profile"))
            await clock.asleep.wait()
        with pytest.raises(httpx.TransportError):
            await call


async def test_neither_fault_nor_closing_logs_an_error(caplog: pytest.LogCaptureFixture) -> None:
    clock = NeverEndingSleep()
    portal = SandboxPortal(clock=clock)
    portal.faults.add(FaultRule(Fault.DROP))
    portal.faults.add(FaultRule(Fault.TRUNCATE, request=2))
    portal.faults.add(FaultRule(Fault.DELAY, request=3, seconds=3600))
    async with httpx.AsyncClient() as client:
        async with SandboxServer(portal) as server:
            for _ in range(2):
                with pytest.raises(httpx.TransportError):
                    await client.get(server.webhook_url + "profile")
            slow = asyncio.create_task(client.get(server.webhook_url + "profile"))
            await clock.asleep.wait()
        with pytest.raises(httpx.TransportError):
            await slow
    assert [record.message for record in caplog.records if record.name.startswith("uvicorn")] == []


async def test_tls_is_served_with_a_certificate_made_now(portal: SandboxPortal) -> None:
    async with SandboxServer(portal, tls=True) as server:
        trusting = ssl.create_default_context(cadata=server.ca_pem)
        async with httpx.AsyncClient(verify=trusting) as http:
            assert server.webhook_url.startswith("https://127.0.0.1:")
            assert (await http.get(server.webhook_url + "profile")).status_code == 200
            assert (await http.get(server.webhook_url.replace("127.0.0.1", "localhost") + "profile")).status_code == 200
        async with httpx.AsyncClient() as http:
            with pytest.raises(httpx.ConnectError):
                await http.get(server.webhook_url + "profile")


async def test_tls_satisfies_a_portal_that_demands_https() -> None:
    portal = SandboxPortal(require_https=True)
    server = SandboxServer(portal, tls=True, host="localhost")
    trusting = ssl.create_default_context(cadata=server.ca_pem)
    async with server, httpx.AsyncClient(verify=trusting) as http:
        assert (await http.get(server.webhook_url + "profile")).status_code == 200


async def test_without_trustme_tls_is_refused_with_a_hint(
    portal: SandboxPortal, monkeypatch: pytest.MonkeyPatch
) -> None:
    importing = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("trustme"):
            raise ImportError(name)
        return importing(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError) as refused:
        SandboxServer(portal, tls=True)
    assert "pip install trustme" in refused.value.hint


def test_a_server_in_a_thread_serves_callers_that_block(portal: SandboxPortal) -> None:
    with SandboxServer.in_thread(portal) as server:
        portal.bind(9, 31, 3)
        answer = httpx.get(server.webhook_url + "crm.orderentity.list")
        assert [row["orderId"] for row in answer.json()["result"]["orderEntity"]] == [9, 5, 7]
        port = server.port
        with pytest.raises(OSError, match="in use"), SandboxServer.in_thread(portal, port=port):
            pass
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/")


async def test_serve_tells_its_url_and_serves_until_it_is_cancelled() -> None:
    ready: asyncio.Future[SandboxServer] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve(ServeOptions(rows=5, code="mycode"), ready.set_result))
    server = await ready
    async with httpx.AsyncClient() as http:
        assert "/rest/1/mycode/" in server.webhook_url
        answer = await http.get(server.webhook_url + "crm.orderentity.list")
        assert [row["ownerId"] for row in answer.json()["result"]["orderEntity"]] == [1, 1, 2, 2, 3]
        refused = await http.get(server.url + "/rest/1/wrong/crm.orderentity.list")
        assert (refused.status_code, refused.json()["error"]) == (401, "INVALID_CREDENTIALS")
    with pytest.raises(UnavailableError) as unavailable:
        await serve(ServeOptions(port=server.port), ready.set_result)
    assert str(server.port) in unavailable.value.message
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_options_become_a_portal() -> None:
    faults = Faults([FaultRule(Fault.DROP)])
    portal = make_portal(ServeOptions(limits=True, latencies=True, faults=faults, version=Version.OLD))
    assert portal.limits.burst == 50
    assert portal.latencies == Latencies.documented()
    assert (portal.faults, portal.version) == (faults, Version.OLD)
    assert make_portal(ServeOptions()).limits.burst is None
    assert "mycode" not in repr(ServeOptions(code="mycode"))
