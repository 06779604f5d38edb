"""The 35 reference vectors of portal.md 12, and orders by their other keys (portal.md 14): in process, and over TCP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple

import httpx
import pytest

from syncd.sandbox import SandboxPortal, SandboxServer

pytestmark = pytest.mark.anyio

ROWS = {5: (2, 10), 7: (2, 10), 9: (31, 3)}
BY_OWNER = [(9, 3, 31), (5, 10, 2), (7, 10, 2)]
JSON_TYPE = {"Content-Type": "application/json"}


class Reply(NamedTuple):
    status: int
    body: Any

    @property
    def rows(self) -> list[tuple[int, ...]]:
        return [tuple(row.values()) for row in self.body["result"]["orderEntity"]]

    @property
    def orders(self) -> list[int]:
        return [row["orderId"] for row in self.body["result"]["orderEntity"]]

    @property
    def error(self) -> tuple[int, Any]:
        return self.status, self.body["error"]


Send = Callable[[str, bytes], Awaitable[Reply]]


class Client:
    def __init__(self, portal: SandboxPortal, send: Send) -> None:
        self.portal = portal
        self.send = send

    async def call(self, method: str, params: Any = None, *, code: str = "sandboxsecret") -> Reply:
        return await self.send(f"/rest/1/{code}/{method}", json.dumps(params or {}).encode())

    async def list(self, **params: Any) -> Reply:
        return await self.call("crm.orderentity.list", params)

    async def add(self, **fields: Any) -> Reply:
        return await self.call("crm.orderentity.add", {"fields": fields})

    async def delete(self, **fields: Any) -> Reply:
        return await self.call("crm.orderentity.deleteByFilter", {"fields": fields})

    async def batch(self, cmd: Any, halt: Any = 0) -> dict[str, Any]:
        reply = await self.call("batch", {"halt": halt, "cmd": cmd})
        assert reply.status == 200
        result: dict[str, Any] = reply.body["result"]
        return result


@pytest.fixture(params=["in-process", "tcp"])
async def client(request: pytest.FixtureRequest) -> AsyncIterator[Client]:
    portal = SandboxPortal(ROWS, orders=[1])
    if request.param == "in-process":

        async def respond(path: str, body: bytes) -> Reply:
            answer = await portal.respond("POST", path, "", JSON_TYPE, body)
            return Reply(answer.status, json.loads(answer.body))

        yield Client(portal, respond)
        return
    async with SandboxServer(portal) as server, httpx.AsyncClient(base_url=server.url) as http:

        async def post(path: str, body: bytes) -> Reply:
            answer = await http.post(path, content=body, headers=JSON_TYPE)
            return Reply(answer.status_code, answer.json())

        yield Client(portal, post)


async def test_01_a_bare_list_comes_by_owner_with_total_and_without_next(client: Client) -> None:
    reply = await client.list()
    assert reply.rows == BY_OWNER
    assert reply.body["total"] == 3
    assert "next" not in reply.body


async def test_02_an_upper_case_filter_key_is_dropped_and_the_list_is_wider(client: Client) -> None:
    reply = await client.list(filter={"ORDER_ID": 5})
    assert (reply.rows, reply.body["total"]) == (BY_OWNER, 3)


async def test_03_a_camel_case_key_with_a_string_value_filters(client: Client) -> None:
    assert (await client.list(filter={"orderId": "5"})).orders == [5]


async def test_04_an_in_list_is_normalised(client: Client) -> None:
    assert (await client.list(filter={"@orderId": [7, "5", 5, -1, 0]})).orders == [5, 7]


async def test_05_an_empty_in_list_means_one(client: Client) -> None:
    assert (await client.list(filter={"@orderId": []})).orders == []
    client.portal.bind(1, 2, 10)
    assert (await client.list(filter={"@orderId": []})).orders == [1]


async def test_06_a_comma_list_is_cast_to_its_first_number(client: Client) -> None:
    assert (await client.list(filter={"@orderId": "5,7"})).orders == [5]


async def test_07_a_percent_prefix_is_plain_equality(client: Client) -> None:
    assert (await client.list(filter={"%orderId": "5"})).orders == [5]


async def test_08_between_is_unknown_and_dropped(client: Client) -> None:
    assert (await client.list(filter={"><orderId": [1, 6]})).rows == BY_OWNER


async def test_09_logic_and_groups_are_dropped(client: Client) -> None:
    assert (await client.list(filter={"LOGIC": "OR", "0": {"orderId": 5}})).rows == BY_OWNER


async def test_10_a_comparison_with_an_array_takes_its_smallest(client: Client) -> None:
    assert (await client.list(filter={">orderId": [7, 5]})).orders == [9, 7]


async def test_11_unknown_selected_names_are_dropped(client: Client) -> None:
    assert (await client.list(select=["orderId", "foo"])).rows == [(9,), (5,), (7,)]


async def test_12_nothing_known_selected_selects_everything(client: Client) -> None:
    assert (await client.list(select=["FOO"])).rows == BY_OWNER


async def test_13_a_wrong_direction_is_refused(client: Client) -> None:
    reply = await client.list(order={"orderId": "up"})
    assert reply.error == (400, "100")
    assert reply.body["error_description"] == 'Invalid order "UP"'


async def test_14_start_minus_one_has_neither_total_nor_next(client: Client) -> None:
    reply = await client.list(start=-1)
    assert reply.rows == BY_OWNER
    assert not {"total", "next"} & set(reply.body)


async def test_15_a_page_beyond_the_end_makes_up_its_total(client: Client) -> None:
    reply = await client.list(start=50)
    assert (reply.rows, reply.body["total"]) == ([], 50)
    assert "next" not in reply.body


async def test_16_any_other_negative_start_is_the_first_page(client: Client) -> None:
    reply = await client.list(start=-2)
    assert (reply.rows, reply.body["total"]) == (BY_OWNER, 3)


async def test_17_a_select_that_is_no_array_is_refused(client: Client) -> None:
    assert (await client.list(select="orderId")).error == (400, "100")


async def test_18_adding_what_is_there_is_a_duplicate(client: Client) -> None:
    assert (await client.add(orderId=5, ownerId=10, ownerTypeId=2)).error == (400, "201650000001")


async def test_19_adding_another_owner_replaces(client: Client) -> None:
    reply = await client.add(orderId=5, ownerId=11, ownerTypeId=2)
    assert reply.status == 200
    assert reply.body["result"] == {"dealOrder": {"orderId": 5, "ownerId": 11, "ownerTypeId": 2}}
    assert (await client.list(filter={"orderId": 5})).rows == [(5, 11, 2)]


async def test_20_an_unknown_order_cannot_be_bound(client: Client) -> None:
    assert (await client.add(orderId=999, ownerId=10, ownerTypeId=2)).error == (400, "200540400001")


async def test_21_owner_zero_is_refused(client: Client) -> None:
    assert (await client.add(orderId=5, ownerId=0, ownerTypeId=2)).error == (400, "201640400001")


async def test_22_missing_fields_are_named_in_a_fixed_order(client: Client) -> None:
    reply = await client.add(ownerTypeId=2)
    assert reply.error == (400, "0")
    assert reply.body["error_description"] == "Required fields: ownerId, orderId"


async def test_23_no_fields_at_all_is_an_argument_error(client: Client) -> None:
    assert (await client.call("crm.orderentity.add")).error == (400, "100")


async def test_24_upper_case_fields_are_dropped_and_then_missing(client: Client) -> None:
    reply = await client.add(ORDER_ID=5, OWNER_ID=10, OWNER_TYPE_ID=2)
    assert reply.error == (400, "0")
    assert reply.body["error_description"] == "Required fields: ownerId, ownerTypeId, orderId"


async def test_25_the_owner_need_not_exist(client: Client) -> None:
    assert (await client.add(orderId=5, ownerId=424242, ownerTypeId=2)).status == 200


async def test_26_the_owner_type_is_not_checked(client: Client) -> None:
    assert (await client.add(orderId=5, ownerId=10, ownerTypeId=99)).status == 200


async def test_27_delete_by_filter_compares_and_deletes(client: Client) -> None:
    assert (await client.delete(orderId=5, ownerId=11, ownerTypeId=2)).error == (400, "201640400004")
    assert (await client.delete(orderId=5, ownerId=10, ownerTypeId=2)).body["result"] is True
    assert (await client.delete(orderId=5, ownerId=10, ownerTypeId=2)).error == (400, "201640400004")


async def test_28_a_chain_that_overruns_starts_again(client: Client) -> None:
    result = await client.batch(
        {
            "p0": "crm.orderentity.list?start=-1&order[orderId]=asc",
            "p1": "crm.orderentity.list?start=-1&order[orderId]=asc"
            "&filter[>orderId]=$result[p0][orderEntity][49][orderId]",
        }
    )
    assert [row["orderId"] for row in result["result"]["p1"]["orderEntity"]] == [5, 7, 9]


async def test_29_commands_beyond_fifty_are_refused_one_by_one(client: Client) -> None:
    result = await client.batch({f"c{number}": "crm.orderentity.list?start=-1" for number in range(52)})
    assert len(result["result"]) == 50
    assert {key: error["error"] for key, error in result["result_error"].items()} == {
        "c50": "ERROR_BATCH_LENGTH_EXCEEDED",
        "c51": "ERROR_BATCH_LENGTH_EXCEEDED",
    }


async def test_30_lists_stay_lists_only_without_gaps(client: Client) -> None:
    good, bad = "crm.orderentity.list?start=-1", "crm.orderentity.list?select=orderId"
    assert isinstance((await client.batch([good, good]))["result"], list)
    assert list((await client.batch([bad, good]))["result"]) == ["1"]
    assert (await client.batch([bad, bad]))["result"] == []


async def test_31_resolution_comes_before_authentication(client: Client) -> None:
    assert (await client.call("crm.nothing.list", code="wrong")).error == (404, "ERROR_METHOD_NOT_FOUND")
    assert (await client.call("crm.orderentity.list", code="wrong")).error == (401, "INVALID_CREDENTIALS")


async def test_32_broken_json_is_no_parameters(client: Client) -> None:
    reply = await client.send("/rest/1/sandboxsecret/crm.orderentity.list", b'{"filter":{"orderId":5}')
    assert (reply.status, reply.rows) == (200, BY_OWNER)


async def test_33_the_sale_right_decides(client: Client) -> None:
    client.portal.sale_right = "U"
    assert (await client.list()).status == 200
    assert (await client.add(orderId=5, ownerId=11, ownerTypeId=2)).error == (400, "200040300020")
    client.portal.sale_right = "D"
    assert (await client.list()).error == (400, "200040300010")


async def test_34_a_webhook_cannot_subscribe(client: Client) -> None:
    reply = await client.call("event.bind", {"event": "ONSALEORDERSAVED", "handler": "https://example.com/"})
    assert reply.error == (403, "WRONG_AUTH_TYPE")


async def test_35_two_saves_in_one_batch_make_one_event_for_each_handler(client: Client) -> None:
    client.portal.handlers += [("ONSALEORDERSAVED", "https://a.example/"), ("ONSALEORDERSAVED", "https://b.example/")]
    add = "crm.orderentity.add?fields[orderId]={}&fields[ownerId]=12&fields[ownerTypeId]=2"
    await client.batch({"a": add.format(5), "b": add.format(7)})
    assert [(event.handler, event.order_id) for event in client.portal.events] == [
        ("https://a.example/", 5),
        ("https://b.example/", 5),
    ]


async def test_section_14_orders_are_found_by_the_keys_they_have_beside_their_ids(client: Client) -> None:
    client.portal.set_order_key("xmlId", 5, "a-1")
    client.portal.set_order_key("xmlId", 7, "A-1 ")
    asked = {"filter": {"@xmlId": ["a-1", "none"]}, "select": ["id", "xmlId"], "order": {"id": "asc"}, "start": -1}
    reply = await client.call("sale.order.list", asked)
    assert reply.body["result"] == {"orders": [{"id": 5, "xmlId": "a-1"}, {"id": 7, "xmlId": "A-1 "}]}
    assert "total" not in reply.body


async def test_section_14_orders_in_a_batch_are_listed_like_alone(client: Client) -> None:
    command = "sale.order.list?filter%5B%40accountNumber%5D%5B%5D=WEB-9&select%5B%5D=id&select%5B%5D=accountNumber"
    answer = await client.batch({"a": command})
    assert answer["result"] == {"a": {"orders": [{"id": 9, "accountNumber": "WEB-9"}]}}
