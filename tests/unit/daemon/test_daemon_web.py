"""The daemon's HTTP server: health, metrics, access, limits, and clients that misbehave."""

from __future__ import annotations

import asyncio
import base64
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping, Sequence
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from syncd.daemon.web import application
from syncd.daemon.web_server import (
    FORGIVEN_AFTER,
    FREE_GUESSES,
    HEADERS,
    MAX_CONNECTIONS,
    MAX_REQUESTS,
    MOST_ADDRESSES,
    Access,
    WebServer,
    WrongPasswords,
)
from syncd.errors import StateUnavailable, UnavailableError
from syncd.obs.metrics import Metrics
from tests.fakes.clock import SetClock

pytestmark = pytest.mark.anyio


OPEN = Access()


class Shown:
    """What the application is made over."""

    def __init__(self) -> None:
        self.dead: list[str] = []
        self.unready: list[str] = []
        self.broken: Exception | None = None
        self.slow = 0.0

    async def alive(self) -> Sequence[str]:
        return self.dead

    async def ready(self) -> Sequence[str]:
        await asyncio.sleep(self.slow)
        if self.broken is not None:
            raise self.broken
        return self.unready

    async def status(self) -> Any:
        if self.broken is not None:
            raise self.broken
        return {"links": []}

    async def metrics(self) -> Any:
        return Metrics().registry


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def shown() -> Shown:
    return Shown()


def _application(shown: Shown, access: Access = OPEN) -> Any:
    async def page(_request: Any) -> PlainTextResponse:
        return PlainTextResponse("the page", headers={"Cache-Control": "max-age=60"})

    return application(
        alive=shown.alive,
        ready=shown.ready,
        status=shown.status,
        metrics=shown.metrics,
        access=access,
        pages=[Route("/", page, methods=["GET", "POST"])],
    )


@pytest.fixture
async def client(shown: Shown) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(_application(shown))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as made:
        yield made


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/status.json", "/metrics", "/", "/nowhere"])
async def test_given_any_answer_then_it_carries_the_security_headers(client: httpx.AsyncClient, path: str) -> None:
    headers = (await client.get(path)).headers
    assert {name: headers.get(name) for name in HEADERS if name != "Cache-Control"} == {
        name: value for name, value in HEADERS.items() if name != "Cache-Control"
    }
    assert "unsafe" not in headers["Content-Security-Policy"]


@pytest.mark.parametrize("path", ["/livez", "/status.json", "/metrics", "/", "/nowhere"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
async def test_given_a_method_that_could_change_something_then_it_is_refused(
    client: httpx.AsyncClient, path: str, method: str
) -> None:
    answer = await client.request(method, path)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/status.json", "/metrics", "/"])
async def test_given_head_then_it_is_answered_like_get(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.head(path)).status_code == 200


async def test_given_a_sound_process_then_it_is_alive_and_ready(client: httpx.AsyncClient) -> None:
    assert [(await client.get(path)).text for path in ("/livez", "/readyz")] == ["ok\n", "ok\n"]


async def test_given_faults_then_livez_names_them(client: httpx.AsyncClient, shown: Shown) -> None:
    shown.dead = ["the schedule is 61 s late"]
    answer = await client.get("/livez")
    assert (answer.status_code, answer.text) == (503, "the schedule is 61 s late\n")


async def test_given_the_state_database_is_down_then_it_is_alive_but_not_ready(
    client: httpx.AsyncClient, shown: Shown, told: list[MutableMapping[str, Any]]
) -> None:
    shown.broken = StateUnavailable("postgresql://syncd:secret@db is out of reach")
    answers = {path: await client.get(path) for path in ("/livez", "/readyz", "/status.json", "/metrics")}
    assert {path: answer.status_code for path, answer in answers.items()} == {
        "/livez": 200,
        "/readyz": 503,
        "/status.json": 503,
        "/metrics": 200,
    }
    assert "secret" not in answers["/readyz"].text
    assert [event["event"] for event in told] == ["not shown"] * 2


async def test_given_the_state_database_hangs_then_readyz_says_so_in_time(
    client: httpx.AsyncClient, shown: Shown
) -> None:
    shown.slow = 3600
    answer = await client.get("/readyz")
    assert (answer.status_code, answer.text) == (503, "the state database has not answered for 5 s\n")


async def test_given_a_page_that_says_how_long_it_keeps_then_that_stands(client: httpx.AsyncClient) -> None:
    assert (await client.get("/")).headers["Cache-Control"] == "max-age=60"


def asking(shown: Shown, access: Access, peer: str = "127.0.0.1") -> httpx.AsyncClient:
    transport = httpx.ASGITransport(_application(shown, access), client=(peer, 1))
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1")


@pytest.mark.parametrize(
    ("host", "answered"),
    [
        ("127.0.0.1:9464", True),
        ("[::1]:9464", True),
        ("localhost", True),
        ("10.1.2.3", True),
        ("syncd.example.com:443", True),
        ("SYNCD.example.com", True),
        ("rebound.example.net", False),
        ("rebound.example.net:9464", False),
        ("example.com", False),
        ("127.0.0.1.example.net", False),
    ],
)
async def test_given_a_name_that_is_not_ours_then_only_health_is_answered(
    shown: Shown, host: str, answered: bool
) -> None:
    async with asking(shown, Access(hosts=["syncd.example.com"])) as client:
        codes = {
            path: (await client.get(path, headers={"Host": host})).status_code
            for path in ("/", "/status.json", "/metrics", "/livez")
        }
    assert codes == dict.fromkeys(("/", "/status.json", "/metrics"), 200 if answered else 400) | {"/livez": 200}


def basic(credentials: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(credentials.encode()).decode()}


class TestSigningIn:
    PASSWORD = Access(password=SecretStr("pass:wörd"))
    HEADER = Access(user_header="X-Remote-User")

    @pytest.mark.parametrize(
        ("headers", "code"),
        [
            ({}, 401),
            (basic("anna:pass:wörd"), 200),
            (basic("anna:pass:word"), 401),
            (basic("pass:wörd"), 401),
            (basic(""), 401),
            ({"Authorization": "Basic %%%"}, 401),
            ({"Authorization": "Bearer pass:word"}, 401),
            ({"X-Remote-User": "anna"}, 401),
        ],
    )
    async def test_given_a_password_then_it_is_asked_for_but_not_by_health(
        self, shown: Shown, headers: dict[str, str], code: int
    ) -> None:
        async with asking(shown, self.PASSWORD) as client:
            assert [(await client.get(path, headers=headers)).status_code for path in ("/", "/metrics")] == [code] * 2
            assert (await client.get("/livez")).status_code == 200
            assert "Basic" in (await client.get("/")).headers["WWW-Authenticate"]

    @pytest.mark.parametrize(
        ("peer", "headers", "code"),
        [
            ("127.0.0.1", {"X-Remote-User": "anna"}, 200),
            ("::1", {"X-Remote-User": "anna"}, 200),
            ("127.0.0.1", {}, 401),
            ("127.0.0.1", {"X-Remote-User": ""}, 401),
            ("10.0.0.9", {"X-Remote-User": "anna"}, 401),
        ],
    )
    async def test_given_a_proxys_header_then_it_counts_from_this_host_only(
        self, shown: Shown, peer: str, headers: dict[str, str], code: int
    ) -> None:
        async with asking(shown, self.HEADER, peer) as client:
            assert (await client.get("/", headers=headers)).status_code == code

    async def test_given_many_wrong_passwords_then_the_address_waits_whatever_it_gives_and_others_do_not(
        self, shown: Shown, clock: SetClock, told: list[MutableMapping[str, Any]]
    ) -> None:
        access = Access(password=SecretStr("pw"), clock=clock)
        transports = [httpx.ASGITransport(app := _application(shown, access), client=("10.0.0.9", 1))]
        transports.append(httpx.ASGITransport(app, client=("10.0.0.8", 1)))
        guessing, other = (httpx.AsyncClient(transport=one, base_url="http://127.0.0.1") for one in transports)
        async with guessing, other:
            guesses = [(await guessing.get("/", headers=basic(f"x:{n}"))).status_code for n in range(FREE_GUESSES + 1)]
            right = await guessing.get("/", headers=basic("x:pw"))
            assert guesses == [401] * FREE_GUESSES + [429]
            assert (right.status_code, int(right.headers["Retry-After"])) == (429, FORGIVEN_AFTER)
            assert (await other.get("/", headers=basic("x:pw"))).status_code == 200
            assert (await guessing.get("/")).status_code == 401, "nothing was guessed"
            assert (await guessing.get("/livez")).status_code == 200

            clock.time += FORGIVEN_AFTER
            assert (await guessing.get("/", headers=basic("x:pw"))).status_code == 200
            assert (await guessing.get("/", headers=basic("x:guess"))).status_code == 401
            assert (await guessing.get("/", headers=basic("x:pw"))).status_code == 429
        assert [(one["event"], one["client"]) for one in told] == [("wrong passwords", "10.0.0.9")] * 2

    async def test_given_ipv6_then_all_addresses_of_a_site_count_as_one(self, shown: Shown, clock: SetClock) -> None:
        app = _application(shown, Access(password=SecretStr("pw"), clock=clock))

        async def code(peer: str, password: str) -> int:
            transport = httpx.ASGITransport(app, client=(peer, 1))
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                return (await client.get("/", headers=basic(f"x:{password}"))).status_code

        for number in range(FREE_GUESSES):
            assert await code(f"2001:db8::{number + 1:x}", "guess") == 401
        assert await code("2001:db8::ffff", "pw") == 429
        assert await code("2001:db8:0:1::1", "pw") == 200
        assert await code("::ffff:10.0.0.9", "pw") == 200

    async def test_given_both_then_either_is_enough(self, shown: Shown) -> None:
        both = Access(password=SecretStr("pw"), user_header="X-Remote-User")
        async with asking(shown, both) as client:
            assert (await client.get("/", headers={"X-Remote-User": "anna"})).status_code == 200
            assert (await client.get("/", headers=basic("x:pw"))).status_code == 200


def test_given_very_many_addresses_then_the_memory_is_bounded_and_the_quietest_are_forgotten(clock: SetClock) -> None:
    wrong = WrongPasswords(clock)
    for _ in range(FREE_GUESSES):
        wrong.note("10.0.0.9")
        wrong.note("10.0.0.8")
    for number in range(MOST_ADDRESSES - 1):
        wrong.note(str(number))
    assert (wrong.wait("10.0.0.9"), wrong.wait("10.0.0.8")) == (0.0, FORGIVEN_AFTER)


async def test_given_too_many_requests_at_a_time_then_further_ones_are_refused_and_health_is_not() -> None:
    answer = asyncio.Event()

    async def slow(_request: Any) -> PlainTextResponse:
        await answer.wait()
        return PlainTextResponse("late")

    shown = Shown()
    app = application(
        alive=shown.alive,
        ready=shown.ready,
        status=shown.status,
        metrics=shown.metrics,
        access=OPEN,
        pages=[Route("/slow", slow)],
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
        under_way = [asyncio.create_task(client.get("/slow")) for _ in range(MAX_REQUESTS)]
        await asyncio.sleep(0)
        refused = await client.get("/slow")
        healthy = await client.get("/livez")
        answer.set()
        codes = [one.status_code for one in await asyncio.gather(*under_way)]
    assert (refused.status_code, healthy.status_code, set(codes)) == (503, 200, {200})


Serve = Callable[[Any], Awaitable[WebServer]]
FIRST = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"


class TestServing:
    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"  # sockets

    @pytest.fixture
    async def serve(self) -> AsyncIterator[Serve]:
        started: list[tuple[WebServer, asyncio.Task[None]]] = []

        async def start(app: Any) -> WebServer:
            server = WebServer(app, ("127.0.0.1", 0))
            started.append((server, asyncio.create_task(server.run())))
            await server.started()
            return server

        yield start
        for server, task in started:
            server.stop()
            await task
            server.close()

    async def test_given_a_free_port_then_it_serves_and_leaves_signals_alone(self, shown: Shown) -> None:
        before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
        server = WebServer(_application(shown), ("127.0.0.1", 0))
        task = asyncio.create_task(server.run())
        await server.started()
        assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
        async with httpx.AsyncClient() as client:
            answer = await client.get(f"http://127.0.0.1:{server.port}/livez")
        assert (answer.text, "server" in answer.headers) == ("ok\n", False)
        server.stop()
        await task
        server.close()

    async def test_given_a_port_that_is_taken_then_the_sentence_names_it(self, shown: Shown) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(UnavailableError, match=rf"cannot listen on 127\.0\.0\.1:{port} \(web\.listen\)"):
                WebServer(_application(shown), ("127.0.0.1", port))

    async def test_given_an_answer_then_nothing_holds_its_packets_back(self, shown: Shown, serve: Serve) -> None:
        server = await serve(_application(shown))
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readuntil(b"ok\n")
        [connection] = server._server.server_state.connections
        accepted = connection.transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        writer.close()

    @pytest.mark.parametrize(
        "sent", [b"", b"GET / HTT", b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ", FIRST + b"GET /"]
    )
    async def test_given_a_connection_that_sends_no_whole_request_then_it_is_closed(
        self, shown: Shown, serve: Serve, monkeypatch: pytest.MonkeyPatch, sent: bytes
    ) -> None:
        monkeypatch.setattr("syncd.daemon.web_server.REQUEST_SECONDS", 0.05)
        server = await serve(_application(shown))
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(sent)
        async with asyncio.timeout(60):
            while await reader.read(4096):
                pass
        writer.close()

    async def test_given_a_body_that_never_ends_then_what_waits_for_it_is_let_go(
        self, serve: Serve, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("syncd.daemon.web_server.REQUEST_SECONDS", 0.05)
        came: list[str] = []

        async def reader_of_bodies(_scope: Any, receive: Any, _send: Any) -> None:
            while came[-1:] != ["http.disconnect"]:
                came.append((await receive())["type"])

        server = await serve(reader_of_bodies)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"POST /hooks/shop HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\nx")
        async with asyncio.timeout(60):
            assert await reader.read(4096) == b""
        writer.close()
        assert came[-1] == "http.disconnect"

    async def test_given_more_idle_connections_than_may_be_then_the_oldest_make_room_and_all_is_answered(
        self, shown: Shown, serve: Serve
    ) -> None:
        server = await serve(_application(shown))
        idle = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(MAX_CONNECTIONS + 20)]
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client:
            codes = [(await client.get(path)).status_code for path in ("/livez", "/", "/metrics")]
        assert codes == [200, 200, 200]
        async with asyncio.timeout(60):
            assert await idle[0][0].read(1) == b""  # the oldest one was closed
        assert len(server._server.server_state.connections) <= MAX_CONNECTIONS
        for _, writer in idle:
            writer.close()
