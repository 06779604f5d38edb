from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Any

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from syncd.daemon.web import HEADERS, WebServer, application
from syncd.errors import StateUnavailable, UnavailableError
from syncd.obs.metrics import Metrics

pytestmark = pytest.mark.anyio


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
def shown() -> Shown:
    return Shown()


def _application(shown: Shown) -> Any:
    async def page(_request: Any) -> PlainTextResponse:
        return PlainTextResponse("the page", headers={"Cache-Control": "max-age=60"})

    return application(
        alive=shown.alive,
        ready=shown.ready,
        status=shown.status,
        metrics=shown.metrics,
        pages=[Route("/", page, methods=["GET", "POST"])],
    )


@pytest.fixture
async def client(shown: Shown):
    transport = httpx.ASGITransport(_application(shown))
    async with httpx.AsyncClient(transport=transport, base_url="http://syncd") as made:
        yield made


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/status.json", "/metrics", "/", "/nowhere"])
async def test_given_any_answer_then_it_carries_the_security_headers(client: httpx.AsyncClient, path: str):
    headers = (await client.get(path)).headers
    assert {name: headers.get(name) for name in HEADERS if name != "Cache-Control"} == {
        name: value for name, value in HEADERS.items() if name != "Cache-Control"
    }
    assert "unsafe" not in headers["Content-Security-Policy"]


@pytest.mark.parametrize("path", ["/livez", "/status.json", "/metrics", "/", "/nowhere"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
async def test_given_a_method_that_could_change_something_then_it_is_refused(client, path: str, method: str):
    answer = await client.request(method, path)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/status.json", "/metrics", "/"])
async def test_given_head_then_it_is_answered_like_get(client: httpx.AsyncClient, path: str):
    assert (await client.head(path)).status_code == 200


async def test_given_a_sound_process_then_it_is_alive_and_ready(client: httpx.AsyncClient):
    assert [(await client.get(path)).text for path in ("/livez", "/readyz")] == ["ok\n", "ok\n"]


async def test_given_faults_then_livez_names_them(client: httpx.AsyncClient, shown: Shown):
    shown.dead = ["the schedule is 61 s late"]
    answer = await client.get("/livez")
    assert (answer.status_code, answer.text) == (503, "the schedule is 61 s late\n")


async def test_given_the_state_database_is_down_then_it_is_alive_but_not_ready(client, shown: Shown, told):
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


async def test_given_the_state_database_hangs_then_readyz_says_so_in_time(client, shown: Shown):
    shown.slow = 3600
    answer = await client.get("/readyz")
    assert (answer.status_code, answer.text) == (503, "the state database has not answered for 5 s\n")


async def test_given_a_page_that_says_how_long_it_keeps_then_that_stands(client: httpx.AsyncClient):
    assert (await client.get("/")).headers["Cache-Control"] == "max-age=60"


class TestServing:
    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"  # sockets

    async def test_given_a_free_port_then_it_serves_and_leaves_signals_alone(self, shown: Shown):
        import signal

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

    async def test_given_a_port_that_is_taken_then_the_sentence_names_it(self, shown: Shown):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(UnavailableError, match=rf"cannot listen on 127\.0\.0\.1:{port} \(web\.listen\)"):
                WebServer(_application(shown), ("127.0.0.1", port))
