"""The sandbox's addresses, and its answers to wrong ones."""

from __future__ import annotations

import json
from typing import Any

import pytest

from syncd.sandbox import SandboxPortal, SandboxRequest, Version
from tests.fakes.clock import SetClock
from tests.unit.sandbox.sandbox_calls import ask, listed, reply_of, request_of

LIST = "crm.orderentity.list"


@pytest.fixture
def portal() -> SandboxPortal:
    return SandboxPortal({5: (2, 10), 7: (2, 10)}, clock=SetClock())


def send(portal: SandboxPortal, verb: str, query: str = "", body: bytes = b"", kind: str = "") -> Any:
    headers = {"content-type": kind} if kind else {}
    path = "/rest/1/sandboxsecret/crm.orderentity.list"
    return reply_of(portal.handle(SandboxRequest(verb, path, query, headers, body))).orders


@pytest.mark.parametrize(
    "path",
    [
        "/rest/1/sandboxsecret/crm.orderentity.list",
        "/rest/1/sandboxsecret/crm.orderentity.list/",
        "/rest/1/sandboxsecret/crm.orderentity.list.json",
        "/rest/1/sandboxsecret/crm.orderentity.list.json/",
        "/rest/1/sandboxsecret/CRM.OrderEntity.List",
        "/rest/01/sandboxsecret/crm.orderentity.list",
    ],
)
def test_a_webhook_url_may_be_spelt_in_several_ways(portal: SandboxPortal, path: str) -> None:
    assert ask(portal, LIST, path=path).orders == [5, 7]


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/rest/1/wrong/crm.orderentity.list", 401, "INVALID_CREDENTIALS"),
        ("/rest/2/sandboxsecret/crm.orderentity.list", 401, "INVALID_CREDENTIALS"),
        ("/rest/admin/sandboxsecret/crm.orderentity.list", 401, "INVALID_CREDENTIALS"),
        ("/rest/1/wrong/batch", 401, "INVALID_CREDENTIALS"),
        ("/rest/crm.orderentity.list", 401, "NO_AUTH_FOUND"),
        ("/rest/sandboxsecret/crm.orderentity.list", 404, "ERROR_METHOD_NOT_FOUND"),
        ("/rest/1/wrong/crm.nothing", 404, "ERROR_METHOD_NOT_FOUND"),
        ("/rest/1/sandboxsecret/crm.orderentity.list.xyz", 404, "ERROR_METHOD_NOT_FOUND"),
        ("/rest/api/crm.orderentity.list", 404, "ERROR_METHOD_NOT_FOUND"),
        ("/rest/", 404, "ERROR_METHOD_NOT_FOUND"),
        ("/rest", 404, "ERROR_METHOD_NOT_FOUND"),
    ],
)
def test_wrong_urls_are_told_apart(portal: SandboxPortal, path: str, status: int, code: str) -> None:
    assert ask(portal, LIST, path=path).error[:2] == (status, code)


def test_what_is_not_rest_is_a_page(portal: SandboxPortal) -> None:
    response = portal.handle(SandboxRequest("GET", "/crm/deal/"))
    assert (response.status, dict(response.headers)["Content-Type"]) == (404, "text/html; charset=utf-8")


def test_the_documentations_status_for_bad_credentials_can_be_played() -> None:
    portal = SandboxPortal(auth_status=403)
    assert ask(portal, LIST, code="wrong").error[:2] == (403, "INVALID_CREDENTIALS")


def test_a_dismissed_user_kills_the_webhook(portal: SandboxPortal) -> None:
    portal.user_active = False
    assert ask(portal, LIST).error[:2] == (401, "authorization_error")


def test_https_can_be_demanded() -> None:
    portal = SandboxPortal(require_https=True)
    assert ask(portal, LIST).error == (400, "INVALID_REQUEST", "Https required.")
    assert ask(portal, LIST, secure=True).status == 200


@pytest.mark.parametrize("version", list(Version))
def test_an_unknown_action_of_a_known_controller_passes_authentication_first(version: Version) -> None:
    portal = SandboxPortal(version=version)
    assert ask(portal, "crm.orderentity.update", code="wrong").error[1] == "INVALID_CREDENTIALS"
    status, code, text = ask(portal, "crm.orderentity.Update").error
    assert (status, str(code)) == (400, "22002")
    assert text == "Could not find description of update in Bitrix\\Crm\\Controller\\OrderEntity"


def test_get_reads_the_query_and_ignores_a_body(portal: SandboxPortal) -> None:
    assert send(portal, "GET", "filter[orderId]=5") == [5]
    assert send(portal, "GET", "", b'{"filter":{"orderId":5}}', "application/json") == [5, 7]


def test_a_body_replaces_the_query_key_by_key_at_the_top(portal: SandboxPortal) -> None:
    query, body = "filter[orderId]=5&select[]=orderId", b'{"filter":{"ownerId":10}}'
    assert send(portal, "POST", query, body, "application/json; charset=utf-8") == [5, 7]


@pytest.mark.parametrize(
    "kind", ["application/x-www-form-urlencoded", "", "text/json", "text/plain", "application/json+x"]
)
def test_anything_but_json_is_read_as_a_query_string(portal: SandboxPortal, kind: str) -> None:
    assert send(portal, "POST", "", b"filter[orderId]=7", kind) == [7]
    assert send(portal, "POST", "", b'{"filter":{"orderId":7}}', kind) == [5, 7]


@pytest.mark.parametrize("body", [b"", b"{", b"5", b'"x"', b"[]"])
def test_json_that_is_no_object_is_no_parameters(portal: SandboxPortal, body: bytes) -> None:
    assert send(portal, "POST", "", body, "application/json") == [5, 7]


def test_other_verbs_reach_no_controller(portal: SandboxPortal) -> None:
    assert ask(portal, LIST, verb="PUT").error[:2] == (400, "invalid_http_method")


def test_answers_carry_the_portals_headers_and_escape_their_text(portal: SandboxPortal) -> None:
    response = portal.handle(request_of(LIST, {"order": {"orderId": "<'ы'&>"}}))
    assert dict(response.headers) == {
        "Content-Type": "application/json; charset=utf-8",
        "Access-Control-Allow-Origin": "*",
        "X-Content-Type-Options": "nosniff",
    }
    assert b"Invalid order \\u0022\\u003C\\u0027" + "Ы".encode() + b"\\u0027\\u0026\\u003E\\u0022" in response.body


def test_what_cannot_be_encoded_is_answered_with_200(portal: SandboxPortal) -> None:
    path, query = "/rest/1/sandboxsecret/crm.orderentity.list", "order[orderId]=%ff"
    response = portal.handle(SandboxRequest("GET", path, query))
    assert (response.status, json.loads(response.body)["error"]) == (200, "WRONG_ENCODING")


def test_the_other_methods_answer(portal: SandboxPortal) -> None:
    field = {"isImmutable": True, "isReadOnly": False, "isRequired": True, "type": "integer"}
    assert ask(portal, "crm.orderentity.getFields").result == {
        "orderEntity": {"orderId": field, "ownerId": field, "ownerTypeId": field}
    }
    portal.sale_right = "D"
    assert ask(portal, "crm.orderentity.getFields").error[1] == "200040300010"
    assert ask(portal, "crm.enum.getOrderOwnerTypes").result == [
        {"attribute": "DYN", "code": "DEAL", "id": 2, "name": "Deal"}
    ]
    assert ask(portal, "server.time").result == "2027-01-15T11:00:00+03:00"
    assert ask(portal, "profile").result["ID"] == "1"
    assert ask(portal, "scope").result == ["crm", "sale"]
    assert ask(portal, "app.info").result["STATUS"] == "L"


def test_items_are_listed_by_id_fifty_a_page(portal: SandboxPortal) -> None:
    def items(**params: Any) -> Any:
        return ask(portal, "crm.item.list", {"entityTypeId": 2, "select": ["id"], **params})

    wanted = list(range(1, 61))
    assert [item["id"] for item in items(filter={"@id": wanted}).result["items"]] == wanted[:50]
    assert items(filter={"@id": wanted}).body["total"] == 60
    assert items(filter={"@id": wanted}).body["next"] == 50
    assert [item["id"] for item in items(filter={"@id": wanted}, start=50).result["items"]] == wanted[50:]
    portal.missing_owners = {(2, 3), (31, 4)}
    assert [item["id"] for item in items(filter={"@id": [3, 4, 5]}, start=-1).result["items"]] == [4, 5]
    assert items(filter={"id": 3}).result["items"] == []
    assert items(filter={">id": 2}).result["items"] == [{"id": 10}]
    assert items(filter={"!id": 10}).result["items"] == []
    assert [item["id"] for item in items(filter={"@id": [4, 5]}, order={"id": "DESC"}).result["items"]] == [5, 4]
    portal.owners = {(2, 1), (2, 2)}
    assert [item["id"] for item in items().result["items"]] == [1, 2]
    portal.owners_visible = False
    assert (items(filter={"@id": [1]}).result["items"], items().body["total"]) == ([], 0)


@pytest.mark.parametrize(
    ("params", "code"),
    [({}, "100"), ({"entityTypeId": 0}, "NOT_FOUND"), ({"entityTypeId": 2, "filter": {"X": 1}}, "100")],
)
def test_items_refuse_what_they_do_not_know(portal: SandboxPortal, params: Any, code: str) -> None:
    assert ask(portal, "crm.item.list", params).error[:2] == (400, code)


@pytest.mark.anyio
async def test_a_portal_answers_over_its_asynchronous_door(portal: SandboxPortal) -> None:
    response = await portal.respond(
        "POST", portal.webhook_path + LIST, "", {"Content-Type": "application/json"}, b'{"filter":{"orderId":5}}'
    )
    assert reply_of(response).orders == [5]
    assert listed(portal).orders == [5, 7]
