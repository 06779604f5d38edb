"""`sale.order.list`: orders, bound or not, and the keys they have beside their ids (portal.md 14)."""

from __future__ import annotations

from typing import Any

import pytest

from syncd.sandbox import SandboxPortal
from tests.unit.sandbox.sandbox_calls import ask

ROWS = {5: (2, 10), 7: (2, 10), 9: (31, 3)}


@pytest.fixture
def portal() -> SandboxPortal:
    return SandboxPortal(ROWS, orders=[6])


def orders(portal: SandboxPortal, **params: Any) -> list[dict[str, Any]]:
    result: list[dict[str, Any]] = ask(portal, "sale.order.list", params).result["orders"]
    return result


def ids(portal: SandboxPortal, **params: Any) -> list[int]:
    return [order["id"] for order in orders(portal, **params)]


def test_given_orders_then_they_are_listed_whether_bound_or_not(portal: SandboxPortal) -> None:
    assert ids(portal) == [5, 6, 7, 9]
    assert ids(portal, filter={"@id": [6, 8]}) == [6]
    assert ids(portal, filter={">id": 6}, order={"id": "desc"}) == [9, 7]


def test_given_a_deleted_order_then_it_is_not_listed(portal: SandboxPortal) -> None:
    portal.delete_order(5)
    assert ids(portal, filter={"@accountNumber": ["WEB-5", "WEB-6"]}) == [6]


def test_given_no_select_then_an_order_shows_every_key_it_has(portal: SandboxPortal) -> None:
    whole = {"id": 5, "accountNumber": "WEB-5", "xmlId": "shop-5", "id1c": "1C-5", "externalOrder": "N"}
    assert orders(portal, filter={"id": 5}) == [whole]
    assert orders(portal, filter={"id": 5}, select=["id", "xmlId"]) == [{"id": 5, "xmlId": "shop-5"}]
    assert ask(portal, "sale.order.get", {"id": 5}).result == {"order": whole}


@pytest.mark.parametrize("field", ["accountNumber", "xmlId", "id1c"])
def test_given_keys_then_orders_are_found_by_them_and_by_nothing_they_had_before(
    portal: SandboxPortal, field: str
) -> None:
    old = orders(portal, filter={"id": 5})[0][field]
    portal.set_order_key(field, 5, "a-1")
    assert ids(portal, filter={f"@{field}": ["a-1", "nobody's"]}) == [5]
    assert ids(portal, filter={f"={field}": "a-1"}) == ids(portal, filter={field: "a-1"}) == [5]
    assert ids(portal, filter={f"!{field}": "a-1"}) == [6, 7, 9]
    assert ids(portal, filter={f"@{field}": [old]}) == []


def test_given_keys_that_differ_in_case_or_trailing_spaces_then_the_portal_takes_them_for_one(
    portal: SandboxPortal,
) -> None:
    portal.set_order_key("xmlId", 5, "Order-A")
    portal.set_order_key("xmlId", 7, "order-a  ")
    assert ids(portal, filter={"@xmlId": ["ORDER-A"]}) == [5, 7]
    assert ids(portal, filter={"@accountNumber": ["web-9 "]}) == [9]


def test_given_orders_without_a_key_then_an_empty_key_finds_them_all(portal: SandboxPortal) -> None:
    portal.set_order_key("id1c", 5, "")
    portal.set_order_key("id1c", 6, "")
    assert ids(portal, filter={"=id1c": ""}) == [5, 6]


def test_given_a_page_without_a_count_then_at_most_fifty_orders_come_and_no_total() -> None:
    portal = SandboxPortal(orders=range(1, 121))
    reply = ask(portal, "sale.order.list", {"start": -1, "filter": {">id": 60}})
    assert [order["id"] for order in reply.result["orders"]] == list(range(61, 111))
    assert "total" not in reply.body
    counted = ask(portal, "sale.order.list", {"start": 100})
    assert (counted.body["total"], len(counted.result["orders"])) == (120, 20)


def test_given_a_webhook_without_the_scope_sale_then_it_is_refused() -> None:
    portal = SandboxPortal(ROWS, scope=frozenset({"crm"}))
    assert ask(portal, "sale.order.list").error[1] == "insufficient_scope"


def test_given_a_filter_on_something_else_then_it_is_refused(portal: SandboxPortal) -> None:
    assert ask(portal, "sale.order.list", {"filter": {"@statusId": ["N"]}}).error[1] == "100"
