"""Orders are found by the shop's own keys, fifty a call and fifty calls a request, and compared again exactly."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from syncd.core.order_keys import KeyField
from syncd.errors import AuthError, UnavailableError
from syncd.sandbox import Fault, FaultRule, SandboxPortal, Version
from tests.fakes.clock import FakeClock
from tests.fakes.portal_client import batch_answer, client

pytestmark = pytest.mark.anyio

ORDERS = "sale.order.list"
NUMBER, XML_ID = KeyField.NUMBER, KeyField.XML_ID


def sandbox(clock: FakeClock, *, orders: int = 100, **options: Any) -> SandboxPortal:
    return SandboxPortal({5: (2, 10)}, orders=range(1, orders + 1), clock=clock, **options)


async def test_given_many_keys_when_asked_then_fifty_fit_into_a_call_and_all_into_a_request(clock: FakeClock) -> None:
    portal = sandbox(clock, orders=300)
    keys = [f"WEB-{number}" for number in range(1, 301)]
    async with client(portal, clock) as ours:
        found = await ours.orders_with(NUMBER, [*keys, "WEB-301"])
        assert found == {key: [number] for number, key in enumerate(keys, 1)} | {"WEB-301": []}
        assert (portal.stats.requests, portal.stats.calls[ORDERS]) == (1, 7)
        assert await ours.keys_of(NUMBER, range(290, 310)) == {one: f"WEB-{one}" for one in range(290, 301)}


async def test_given_nothing_to_ask_then_no_request_is_made(clock: FakeClock) -> None:
    portal = sandbox(clock)
    async with client(portal, clock) as ours:
        assert (await ours.orders_with(NUMBER, []), await ours.keys_of(NUMBER, [])) == ({}, {})
    assert portal.stats.requests == 0


async def test_given_keys_that_only_a_database_takes_for_equal_then_each_finds_its_own_order(clock: FakeClock) -> None:
    portal = sandbox(clock)
    for order, key in ((5, "a-1"), (6, "A-1"), (7, "a-1 ")):
        portal.set_order_key("xmlId", order, key)
    async with client(portal, clock) as ours:
        assert await ours.orders_with(XML_ID, ["a-1", "A-1"]) == {"a-1": [5], "A-1": [6]}
        assert await ours.orders_with(XML_ID, ["a-1  "]) == {"a-1  ": []}


async def test_given_more_orders_with_a_key_than_a_page_holds_then_all_of_them_are_found(clock: FakeClock) -> None:
    portal = sandbox(clock, orders=130)
    for order in range(1, 121):
        portal.set_order_key("xmlId", order, "same")
    async with client(portal, clock) as ours:
        found = await ours.orders_with(XML_ID, ["same", "shop-125"])
    assert found == {"same": list(range(1, 121)), "shop-125": [125]}


async def test_given_pages_of_orders_whose_keys_only_a_database_takes_for_equal_then_the_one_behind_them_is_found(
    clock: FakeClock,
) -> None:
    portal = sandbox(clock, orders=130)
    for order in range(1, 121):
        portal.set_order_key("xmlId", order, "IMPORT " if order % 2 else "Import")
    portal.set_order_key("xmlId", 121, "import")
    async with client(portal, clock) as ours:
        assert await ours.orders_with(XML_ID, ["import"]) == {"import": [121]}


async def test_given_an_order_without_a_key_then_it_differs_from_one_that_is_not_there(clock: FakeClock) -> None:
    portal = sandbox(clock)
    portal.set_order_key("xmlId", 5, "")
    async with client(portal, clock) as ours:
        assert await ours.keys_of(XML_ID, [5, 6, 999]) == {5: "", 6: "shop-6"}


@pytest.mark.parametrize(
    "key",
    [
        "a&b=c#d",
        "ключ 7",
        "50%",
        "$result[k0][orders]",
        "$total",
        "$result[k0]-7",
        "US$5",
        "'; --",
        "x" * 255,
        "WEB-5+6",
    ],
)
async def test_given_a_key_of_any_letters_then_it_is_found_as_it_is(clock: FakeClock, key: str) -> None:
    portal = sandbox(clock)
    portal.set_order_key("id1c", 5, key)
    async with client(portal, clock) as ours:
        found = await ours.orders_with(KeyField.ID_1C, [key])
    assert found == {key: [5]}


async def test_given_a_portal_that_misreads_lists_then_each_order_is_asked_for_by_equality(clock: FakeClock) -> None:
    portal = sandbox(clock, version=Version.OLD)
    async with client(portal, clock) as ours:
        await ours.probe()
        assert await ours.keys_of(NUMBER, [5, 6, 999]) == {5: "WEB-5", 6: "WEB-6"}


async def test_given_credentials_without_the_scope_sale_then_the_run_ends_and_the_hint_names_it(
    clock: FakeClock,
) -> None:
    portal = sandbox(clock, scope=frozenset({"crm"}))
    async with client(portal, clock) as ours:
        with pytest.raises(AuthError, match="the scope sale is missing") as refused:
            await ours.orders_with(NUMBER, ["WEB-5"])
    assert "`sale` besides `crm`" in refused.value.hint


async def test_given_a_lost_answer_then_it_is_asked_again(clock: FakeClock) -> None:
    portal = sandbox(clock)
    portal.faults.add(FaultRule(Fault.DROP, times=1))
    async with client(portal, clock) as ours:
        assert await ours.orders_with(NUMBER, ["WEB-5"]) == {"WEB-5": [5]}


ODD = [
    {"orders": [{"id": 6, "accountNumber": "WEB-6"}]},
    {"orders": [{"accountNumber": "WEB-5"}]},
    {"orders": [{"id": 5}]},
    {"orders": [{"id": 5, "accountNumber": ["WEB-5"]}]},
    {"orders": [{"id": 5, "accountNumber": True}]},
    {"items": []},
    [],
]


@pytest.mark.parametrize("result", ODD)
async def test_given_an_answer_that_is_not_what_was_asked_then_the_run_ends_rather_than_believe_it(
    clock: FakeClock, result: Any
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return batch_answer(dict.fromkeys(json.loads(request.content)["cmd"], result))

    async with client(answer, clock) as ours:
        with pytest.raises(UnavailableError, match="does not say which orders"):
            await ours.keys_of(NUMBER, [5])


async def test_given_an_order_id_beyond_63_bits_then_the_answer_is_not_believed(clock: FakeClock) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        order = {"id": 2**63, "accountNumber": "WEB-5"}
        return batch_answer({key: {"orders": [order]} for key in json.loads(request.content)["cmd"]})

    async with client(answer, clock) as ours:
        with pytest.raises(UnavailableError, match="does not say which orders"):
            await ours.orders_with(NUMBER, ["WEB-5"])


async def test_given_a_key_that_is_no_text_of_unicode_then_the_order_has_no_key_of_its_own(clock: FakeClock) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        orders = [{"id": 5, "accountNumber": "WEB\ud800"}, {"id": 6, "accountNumber": 6}]
        results = {key: {"orders": orders} for key in json.loads(request.content)["cmd"]}
        return httpx.Response(200, content=json.dumps({"result": {"result": results, "result_error": []}}))

    async with client(answer, clock) as ours:
        assert await ours.keys_of(NUMBER, [5, 6]) == {5: "", 6: "6"}
