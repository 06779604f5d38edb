"""The sandbox's events reach a handler as a portal's outgoing webhook does: here the daemon's own hooks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from syncd.daemon.hints import Hooks
from syncd.daemon.web import application
from syncd.daemon.web_server import Access, WebServer
from syncd.sandbox import SandboxServer, ServeOptions, handler_problem, serve
from tests.fakes.settings import settings
from tests.system.shop import call

pytestmark = pytest.mark.anyio

TOKEN = "0123456789abcdef0123456789abcdef"


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110 - another server's pace
            await asyncio.sleep(0.02)


async def test_given_a_handler_then_it_gets_the_portals_events_and_a_wrong_token_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("syncd.daemon.hints.GATHER", 0.0)
    monkeypatch.setattr("syncd.daemon.hints.APART", 0.0)
    monkeypatch.setattr("syncd.sandbox.server.PAUSE", 0.02)
    hinted: list[tuple[str, set[int]]] = []
    links = settings(hook_token=TOKEN).links

    async def nothing() -> Any:
        return []

    app = application(
        alive=nothing, ready=nothing, status=nothing, metrics=nothing,
        access=Access(["127.0.0.1"]), hooks=Hooks(lambda: links, lambda *hint: hinted.append(hint)),
    )  # fmt: skip
    web = WebServer(app, ("127.0.0.1", 0))
    listening = asyncio.create_task(web.run())
    await web.started()
    handler = f"http://127.0.0.1:{web.port}/hooks/shop"

    async def bound(order: int, token: str) -> None:
        ready: asyncio.Future[SandboxServer] = asyncio.get_running_loop().create_future()
        options = ServeOptions(rows=9, events=handler, events_token=token)
        serving = asyncio.create_task(serve(options, ready.set_result))
        server = await ready
        await until(lambda: server.portal.handlers)
        fields = {"fields[orderId]": f"{order}", "fields[ownerTypeId]": "2", "fields[ownerId]": "77"}
        async with httpx.AsyncClient() as http:
            (await http.post(server.webhook_url + "crm.orderentity.add", data=fields)).raise_for_status()
        await until(lambda: hinted or any(one["event"] == "event not delivered" for one in refused))
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving
        assert token not in repr(options)

    try:
        with capture_logs() as refused:
            await bound(5, TOKEN)
            assert (hinted, refused) == ([("shop", {5})], [])
            hinted.clear()
            await bound(6, "another token")
    finally:
        web.stop()
        await listening
    (event,) = [one for one in refused if one["event"] == "event not delivered"]
    assert (hinted, event["order"], event["reason"]) == ([], 6, "the handler answered 403")


def test_given_the_options_of_the_command_then_they_reach_the_sandbox_and_no_address_is_64(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    served: list[ServeOptions] = []

    async def keep(options: ServeOptions, _ready: object) -> None:
        served.append(options)

    monkeypatch.setattr("syncd.sandbox.serve", keep)
    call("sandbox", "--events", "http://127.0.0.1:1/hooks/shop", "--events-token", TOKEN).check(0)
    assert [(one.events, one.events_token) for one in served] == [("http://127.0.0.1:1/hooks/shop", TOKEN)]
    refused = call("sandbox", "--events", "shop").check(64)
    assert "--events must be an address such as http://" in refused.err
    assert len(served) == 1


@pytest.mark.parametrize("url", ["", "shop", "ftp://host/", "http:///hooks", "http://host:port/", "file:///etc/passwd"])
def test_given_an_address_that_takes_no_events_then_the_problem_is_named(url: str) -> None:
    assert handler_problem(url)


def test_given_an_address_then_events_can_be_sent_there() -> None:
    assert not handler_problem("https://syncd.example.com/hooks/shop")
