"""Hints over HTTP: who may give them, in which forms, and that they are gathered, bounded and answered at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from syncd.core.order_ranges import OrderRanges
from syncd.daemon import hints
from syncd.daemon.hints import Hooks
from syncd.daemon.triggers import HINTED, Task
from syncd.daemon.web import application
from syncd.daemon.web_server import Access
from syncd.engine.covering import Portion
from tests.fakes.settings import settings
from tests.unit.daemon.virtual_daemon import Daemon

pytestmark = pytest.mark.anyio

TOKEN = "0123456789abcdef0123456789abcdef"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
WRONG = {"Authorization": "Bearer wrong"}


def event(order: Any = 5, token: str = TOKEN, name: str = "ONSALEORDERSAVED") -> dict[str, str]:
    """As a portal's outgoing webhook sends it (portal.md 10.3)."""
    return {
        "event": name, "event_handler_id": "7", "data[FIELDS][ID]": f"{order}", "data[FIELDS][ACTION]": "save",
        "ts": "1700000000", "auth[domain]": "example.bitrix24.com", "auth[application_token]": token,
    }  # fmt: skip


@pytest.fixture
def hinted() -> list[tuple[str, set[int]]]:
    """The hints that the application passed on: their links and orders."""
    return []


@pytest.fixture
async def client(hinted: list[tuple[str, set[int]]]) -> AsyncIterator[httpx.AsyncClient]:
    links = settings(hook_token=TOKEN).links | {"closed": settings().links["shop"]}

    async def nothing() -> Any:
        return []

    app = application(
        alive=nothing, ready=nothing, status=nothing, metrics=nothing,
        access=Access(["127.0.0.1"]), hooks=Hooks(lambda: links, lambda *hint: hinted.append(hint)),
    )  # fmt: skip
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://hooks.example") as made:
        yield made


async def settled() -> None:
    """Let virtual time pass until what was gathered has become a pass."""
    await asyncio.sleep(hints.APART)


@pytest.mark.parametrize("name", ["ONSALEORDERSAVED", "onorderentitysaved", "ONORDERDELETED"])
async def test_given_the_portals_event_then_its_order_is_brought_forward(
    client: httpx.AsyncClient, hinted: list[tuple[str, set[int]]], name: str
) -> None:
    answer = await client.post("/hooks/shop", data=event(name=name))
    await settled()
    assert (answer.status_code, hinted) == (202, [("shop", {5})])


async def test_given_json_with_a_bearer_token_then_its_orders_are_brought_forward(
    client: httpx.AsyncClient, hinted: list[tuple[str, set[int]]]
) -> None:
    answer = await client.post("/hooks/shop", json={"orders": [5, 9]}, headers=BEARER)
    await settled()
    assert (answer.status_code, hinted) == (202, [("shop", {5, 9})])


@pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], TOKEN + "0", "\u00e4" * 32])
async def test_given_a_wrong_token_then_nothing_is_brought_forward(
    client: httpx.AsyncClient, hinted: list[tuple[str, set[int]]], token: str
) -> None:
    form = await client.post("/hooks/shop", data=event(token=token))
    bearer = {b"Authorization": b"Bearer " + token.encode()}
    body = await client.post("/hooks/shop", json={"orders": [5]}, headers=bearer)
    await settled()
    assert (form.status_code, body.status_code, hinted) == (403, 403, [])
    assert form.text == body.text
    assert form.text.startswith("wrong token, or no link of this name takes hints" if token else "no token: expected")
    assert TOKEN not in form.text + body.text


@pytest.mark.parametrize("path", ["/hooks/closed", "/hooks/nobody", "/hooks/", "/hooks/shop/more"])
async def test_given_a_link_without_a_token_or_no_link_then_the_answers_are_those_to_a_wrong_token(
    client: httpx.AsyncClient, hinted: list[tuple[str, set[int]]], path: str
) -> None:
    sent: list[dict[str, Any]] = [
        {"data": event()},
        {"data": event(token="wrong")},
        {"json": {"orders": [5]}, "headers": BEARER},
        {"content": b"{"},
        {"content": b"x" * 70_000},
    ]
    for one in sent:
        answer = await client.post(path, **one)
        wrong = {"data": event(token="wrong")} if one == sent[0] else one | {"headers": WRONG} if "json" in one else one
        usual = await client.post("/hooks/shop", **wrong)
        assert (answer.status_code, answer.text, answer.headers) == (usual.status_code, usual.text, usual.headers)
    await settled()
    assert hinted == []


@pytest.mark.parametrize(
    "sent",
    [
        {"data": event(order="five")},
        {"data": event(order=0)},
        {"data": event(order=2**63)},
        {"data": event(order="9" * 5000)},
        {"content": b"\xff\xfe"},
        {"json": [5]},
        {"json": {"orders": "5"}},
        {"json": {"orders": [5, "6"]}},
        {"json": {"orders": [True]}},
        {"content": b"{", "headers": {"Content-Type": "application/json"}},
        {"content": b"[" * 60_000, "headers": {"Content-Type": "application/json"}},
        {"content": "&".join(f"a{n}=1" for n in range(300)).encode()},
    ],
)
async def test_given_neither_form_then_it_is_refused(
    client: httpx.AsyncClient, hinted: list[tuple[str, set[int]]], sent: dict[str, Any]
) -> None:
    answer = await client.post("/hooks/shop", **({"headers": BEARER} | sent))
    await settled()
    assert (answer.status_code, hinted) == (400, [])
    assert answer.text in {
        "neither a form nor JSON\n", "the event names no order\n", 'expected {"orders": [order id, ...]}\n'
    }  # fmt: skip


async def test_given_a_sender_who_leaves_before_the_end_then_nothing_is_answered_and_nothing_raised(
    hinted: list[tuple[str, set[int]]],
) -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        raise AssertionError(message)

    links = settings(hook_token=TOKEN).links
    scope = {"type": "http", "method": "POST", "path": "/hooks/shop", "headers": [], "query_string": b""}
    # The server logs what is raised, with a traceback: a stranger could fill the disk with them.
    await Hooks(lambda: links, lambda *hint: hinted.append(hint))(scope, receive, send)
    assert hinted == []


async def test_given_an_event_of_something_else_then_it_is_answered_and_means_nothing(
    client: httpx.AsyncClient, hinted: list[tuple[str, set[int]]]
) -> None:
    answer = await client.post("/hooks/shop", data=event(name="ONCRMDEALUPDATE"))
    await settled()
    assert (answer.status_code, hinted) == (202, [])


async def test_given_a_large_request_then_it_is_refused_before_it_is_read_to_its_end(
    client: httpx.AsyncClient, hinted: list[tuple[str, set[int]]]
) -> None:
    pieces: list[bytes] = []

    async def body() -> AsyncIterator[bytes]:
        for _ in range(100):
            pieces.append(b"a" * 1024)
            yield pieces[-1]

    answer = await client.post("/hooks/shop", content=body())
    await settled()
    assert (answer.status_code, hinted) == (413, [])
    assert sum(map(len, pieces)) == hints.LARGEST_BODY + 1024


@pytest.mark.parametrize("path", ["/", "/status.json", "/metrics", "/hooks"])
async def test_given_a_post_elsewhere_then_it_is_reading_only(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.post(path, data=event())).status_code == 405


async def test_given_a_reading_of_a_hook_then_there_is_nothing_to_see(client: httpx.AsyncClient) -> None:
    assert (await client.get("http://127.0.0.1/hooks/shop", headers=BEARER)).status_code == 404


async def test_given_a_storm_of_hints_then_they_are_gathered_and_bounded(
    client: httpx.AsyncClient, hinted: list[tuple[str, set[int]]]
) -> None:
    for first in range(0, 12_000, 3000):
        orders = list(range(first + 1, first + 3001))
        await client.post("/hooks/shop", json={"orders": orders}, headers=BEARER)
    await settled()
    ((link, kept),) = hinted
    assert (link, len(kept)) == ("shop", hints.MOST_PENDING)


async def test_given_a_hint_then_a_pass_over_its_orders_is_made_and_the_schedule_stays(daemon: Daemon) -> None:
    runner = daemon.add()
    await daemon.clock.sleep(5)
    await daemon.cover_all()

    runner.hint({5, 9})
    await daemon.clock.sleep(3)

    assert daemon.passes.tasks[-1] == Task(Portion(orders=OrderRanges.parse("5,9"), called=HINTED))
    assert daemon.passes.made[-1][2] == "hint"
    await daemon.store.set_paused("shop", paused=True)
    runner.hint({7})
    await daemon.clock.sleep(3)
    await daemon.store.set_paused("shop", paused=False)
    await daemon.clock.sleep(600)
    assert daemon.passes.tasks[-1].portion == Portion(slice=True), "a hint that came in a pause is forgotten"
