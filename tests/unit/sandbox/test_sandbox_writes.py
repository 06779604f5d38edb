"""The sandbox's writes: order of the checks, casts, effects."""

from __future__ import annotations

from typing import Any

import pytest

from syncd.sandbox import SandboxPortal, Version
from syncd.sandbox.data import LoggedWrite, PortalEvent
from tests.fakes.clock import SetClock
from tests.unit.sandbox.sandbox_calls import add, add_command, ask, batch, delete, listed

ROWS = {5: (2, 10), 7: (2, 10), 9: (31, 3)}


@pytest.fixture
def portal() -> SandboxPortal:
    return SandboxPortal(ROWS, orders=[1, 2], clock=SetClock())


@pytest.mark.parametrize(
    ("params", "code", "text"),
    [
        ({}, "100", "Could not find value for parameter {fields}"),
        ({"fields": None}, "100", "Could not find value for parameter {fields}"),
        ({"fields": "x"}, "100", "Invalid value {x} to match with parameter {fields}. Should be value of type array."),
        ({"fields": {}}, "0", "Required fields: ownerId, ownerTypeId, orderId"),
        ({"fields": {"orderId": 5, "ownerId": None, "ownerTypeId": 2}}, "0", "Required fields: ownerId"),
        ({"fields": {"orderId": 0, "ownerId": 0, "ownerTypeId": 0}}, "201640400001", "ownerId - parameter is empty"),
        ({"fields": {"orderId": 0, "ownerId": 1, "ownerTypeId": "x"}}, "201640400002", "ownerTypeId - parameter is empty"),
        ({"fields": {"orderId": -1, "ownerId": 1, "ownerTypeId": 2}}, "201640400003", "orderId - parameter is empty"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["crm.orderentity.add", "crm.orderentity.deleteByFilter"])
def test_both_writes_check_their_fields_in_the_same_order(
    portal: SandboxPortal, method: str, params: Any, code: str, text: str
) -> None:
    assert ask(portal, method, params).error == (400, code, text)


def test_arguments_are_checked_before_the_right_and_the_right_before_the_fields(portal: SandboxPortal) -> None:
    portal.sale_right = "U"
    assert ask(portal, "crm.orderentity.add", {}).error[1] == "100"
    assert ask(portal, "crm.orderentity.add", {"fields": {}}).error == (400, "200040300020", "Access Denied")


def test_the_harmless_probe_for_the_write_right_has_no_effect(portal: SandboxPortal) -> None:
    assert add(portal, orderId=5, ownerId=0, ownerTypeId=2).error[1] == "201640400001"
    portal.sale_right = "U"
    assert add(portal, orderId=5, ownerId=0, ownerTypeId=2).error[1] == "200040300020"
    assert portal.bindings == ROWS


def test_ids_are_cast_as_php_casts_them(portal: SandboxPortal) -> None:
    assert add(portal, order_id="5abc", OwnerId="11.9", ownerTypeID=True).result == {
        "dealOrder": {"orderId": 5, "ownerId": 11, "ownerTypeId": 1}
    }


def test_a_duplicate_is_noticed_before_a_missing_order(portal: SandboxPortal) -> None:
    portal.delete_order(5, dangling=True)
    assert add(portal, orderId=5, ownerId=10, ownerTypeId=2).error[1] == "201650000001"
    assert add(portal, orderId=5, ownerId=11, ownerTypeId=2).error == (400, "200540400001", "order does not exist")


def test_a_dangling_binding_cannot_be_removed_over_rest(portal: SandboxPortal) -> None:
    portal.delete_order(5, dangling=True)
    assert delete(portal, orderId=5, ownerId=10, ownerTypeId=2).error == (400, "200540400001", "order does not exist")


def test_an_unbound_order_is_still_an_order(portal: SandboxPortal) -> None:
    delete(portal, orderId=5, ownerId=10, ownerTypeId=2)
    assert add(portal, orderId=5, ownerId=12, ownerTypeId=2).status == 200


def test_an_old_box_checks_less() -> None:
    portal = SandboxPortal(ROWS, version=Version.OLD)
    status, code, text = add(portal, orderId=999, ownerId=1, ownerTypeId=2).error
    assert (status, code) == (400, 0)
    assert "null" in text
    assert add(portal, orderId=5, ownerId=0, ownerTypeId=2).status == 200
    assert listed(portal, filter={"orderId": 5}).result["orderEntity"] == [
        {"orderId": 5, "ownerId": None, "ownerTypeId": 2}
    ]


@pytest.mark.parametrize(("version", "code"), [(Version.NEW, "100"), (Version.MID, 100), (Version.OLD, 100)])
def test_numeric_codes_are_strings_only_on_a_new_portal(version: Version, code: Any) -> None:
    assert ask(SandboxPortal(version=version), "crm.orderentity.add").error[1] == code


def test_every_write_is_logged_in_order_with_what_it_replaced(portal: SandboxPortal) -> None:
    add(portal, orderId=5, ownerId=11, ownerTypeId=2)
    portal.unbind(7)
    delete(portal, orderId=9, ownerId=3, ownerTypeId=31)
    add(portal, orderId=999, ownerId=3, ownerTypeId=31)
    assert portal.stats.writes == [
        LoggedWrite(1_800_000_000.0, 1, "crm.orderentity.add", 5, (2, 10), (2, 11)),
        LoggedWrite(1_800_000_000.0, 0, "ui", 7, (2, 10), None),
        LoggedWrite(1_800_000_000.0, 2, "crm.orderentity.deletebyfilter", 9, (31, 3), None),
    ]


def test_an_edit_between_two_calls_is_possible(portal: SandboxPortal) -> None:
    def steal(method: str, params: Any, request: int) -> None:
        if method == "crm.orderentity.add":
            portal.bind(5, 2, 77)

    stop = portal.before_call(steal)
    result = batch(portal, {"r": "crm.orderentity.list?filter[orderId]=5", "w": add_command(5)})
    assert result["result"]["r"]["orderEntity"][0]["ownerId"] == 10
    assert portal.stats.writes[-1].before == (2, 77)
    stop()
    add(portal, orderId=5, ownerId=13, ownerTypeId=2)
    assert portal.stats.writes[-1].before == (2, 12)


def test_deleting_a_deal_deletes_its_orders(portal: SandboxPortal) -> None:
    portal.delete_owner(2, 10)
    assert portal.bindings == {9: (31, 3)}
    assert add(portal, orderId=5, ownerId=11, ownerTypeId=2).error[1] == "200540400001"
    assert ask(portal, "sale.order.get", {"id": 5}).error[1] == "200540400001"


def test_deleting_an_invoice_leaves_its_orders(portal: SandboxPortal) -> None:
    portal.delete_owner(31, 3)
    assert 9 not in portal.bindings
    assert ask(portal, "sale.order.get", {"id": 9}).result["order"]["id"] == 9


def test_an_order_deleted_and_made_again_is_there(portal: SandboxPortal) -> None:
    portal.delete_order(5)
    assert 5 not in portal.bindings
    portal.add_order(5)
    assert add(portal, orderId=5, ownerId=10, ownerTypeId=2).status == 200


def test_each_edit_in_the_interface_tells_each_handler(portal: SandboxPortal) -> None:
    portal.handlers += [("ONSALEORDERSAVED", "https://a.example/"), ("ONORDERDELETED", "https://a.example/")]
    portal.bind(5, 2, 11)
    portal.unbind(5)
    portal.unbind(5)
    portal.delete_order(7)
    assert portal.events == [
        PortalEvent("ONSALEORDERSAVED", 5, "https://a.example/", 0),
        PortalEvent("ONSALEORDERSAVED", 5, "https://a.example/", 0),
        PortalEvent("ONSALEORDERSAVED", 7, "https://a.example/", 0),
        PortalEvent("ONORDERDELETED", 7, "https://a.example/", 0),
    ]


def test_two_requests_make_two_events_one_request_makes_one(portal: SandboxPortal) -> None:
    portal.handlers.append(("ONSALEORDERSAVED", "https://a.example/"))
    batch(portal, [add_command(1), add_command(2)])
    add(portal, orderId=2, ownerId=13, ownerTypeId=2)
    assert [(event.order_id, event.request) for event in portal.events] == [(1, 1), (2, 2)]
