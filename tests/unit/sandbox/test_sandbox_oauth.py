"""The sandbox's OAuth server: codes, pairs of tokens, refreshing."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from syncd.sandbox import Application, Fault, FaultRule, SandboxPortal, SandboxRequest, SandboxResponse
from tests.fakes.clock import SetClock
from tests.unit.sandbox.sandbox_calls import Reply, add_command, request_of

CLIENT = {"client_id": "local.sandbox", "client_secret": "sandboxclientsecret"}
CALLBACK = "http://127.0.0.1:7000/callback"


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def portal(clock: SetClock) -> SandboxPortal:
    return SandboxPortal({5: (2, 10)}, clock=clock)


def authorize(portal: SandboxPortal, **params: str) -> SandboxResponse:
    query = urlencode({"client_id": "local.sandbox", "state": "s&1", "redirect_uri": CALLBACK, **params})
    return portal.handle(SandboxRequest("GET", "/oauth/authorize/", query, {"host": "portal.example"}, secure=True))


def code_of(portal: SandboxPortal) -> str:
    location = dict(authorize(portal).headers)["Location"]
    return parse_qs(urlsplit(location).query)["code"][0]


def token(portal: SandboxPortal, *, verb: str = "POST", **params: str) -> Reply:
    form = urlencode(CLIENT | params)
    headers = {"host": "portal.example", "content-type": "application/x-www-form-urlencoded"}
    query, body = (form, b"") if verb == "GET" else ("", form.encode())
    response = portal.handle(SandboxRequest(verb, "/oauth/token/", query, headers, body, secure=True))
    return Reply(response.status, json.loads(response.body))


def first_pair(portal: SandboxPortal) -> Any:
    return token(portal, grant_type="authorization_code", code=code_of(portal)).body


def call(portal: SandboxPortal, access: str, method: str = "crm.orderentity.list", **params: Any) -> Reply:
    response = portal.handle(request_of(method, {"auth": access, **params}, path=f"/rest/{method}"))
    return Reply(response.status, json.loads(response.body))


def test_the_authorisation_page_sends_the_browser_back_with_a_code(portal: SandboxPortal) -> None:
    response = authorize(portal)
    location = dict(response.headers)["Location"]
    assert response.status == 302
    assert location.startswith(CALLBACK + "?")
    answer = {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}
    assert answer.pop("code")
    assert answer == {
        "state": "s&1",
        "domain": "portal.example",
        "member_id": portal.oauth.application.member_id,
        "scope": "crm,sale",
        "server_domain": "portal.example",
    }


def test_the_applications_own_address_is_used_where_none_is_asked_for(portal: SandboxPortal) -> None:
    portal.oauth.application.redirect_uri = "https://app.example/?x=1"
    assert dict(authorize(portal, redirect_uri="").headers)["Location"].startswith("https://app.example/?x=1&code=")


def test_without_any_address_the_page_shows_the_code(portal: SandboxPortal) -> None:
    response = authorize(portal, redirect_uri="")
    code = response.body.decode().partition("<code>")[2].partition("</code>")[0]
    assert token(portal, grant_type="authorization_code", code=code).status == 200


@pytest.mark.parametrize("client", ["", "other"])
def test_an_unknown_application_gets_a_page_and_no_redirect(portal: SandboxPortal, client: str) -> None:
    response = authorize(portal, client_id=client)
    assert (response.status, "Location" in dict(response.headers)) == (200, False)


@pytest.mark.parametrize("verb", ["GET", "POST"])
def test_a_code_is_exchanged_for_a_pair_once(portal: SandboxPortal, verb: str) -> None:
    code = code_of(portal)
    reply = token(portal, verb=verb, grant_type="authorization_code", code=code)
    pair = reply.body
    assert reply.status == 200
    assert (pair["expires_in"], pair["domain"], pair["user_id"], pair["status"]) == (3600, "portal.example", 1, "L")
    assert pair["client_endpoint"] == pair["server_endpoint"] == "https://portal.example/rest/"
    assert "expires" not in pair
    again = token(portal, verb=verb, grant_type="authorization_code", code=code)
    assert (again.status, again.body) == (400, {"error": "invalid_grant"})


def test_a_code_lives_half_a_minute(portal: SandboxPortal, clock: SetClock) -> None:
    code = code_of(portal)
    clock.advance(30)
    assert token(portal, grant_type="authorization_code", code=code).body["error"] == "invalid_grant"


def test_refreshing_rotates_and_the_old_token_is_refused(portal: SandboxPortal) -> None:
    pair = first_pair(portal)
    fresh = token(portal, grant_type="refresh_token", refresh_token=pair["refresh_token"])
    assert fresh.body["expires"] == 1_800_000_000 + 3600
    assert fresh.body["refresh_token"] != pair["refresh_token"]
    assert fresh.body["access_token"] != pair["access_token"]
    old = token(portal, grant_type="refresh_token", refresh_token=pair["refresh_token"])
    assert (old.status, old.body["error"]) == (400, "invalid_grant")
    assert call(portal, pair["access_token"]).status == 200


@pytest.mark.parametrize(
    ("params", "status", "error"),
    [
        ({"grant_type": "refresh_token"}, 400, "invalid_request"),
        ({"grant_type": "password"}, 400, "invalid_request"),
        ({"grant_type": "authorization_code", "code": "x"}, 400, "invalid_grant"),
        ({"grant_type": "refresh_token", "refresh_token": "x", "client_secret": "y"}, 400, "invalid_client"),
        ({"grant_type": "refresh_token", "refresh_token": "x", "client_id": "y"}, 200, "wrong_client"),
    ],
)
def test_token_errors_have_the_vendors_codes(
    portal: SandboxPortal, params: dict[str, str], status: int, error: str
) -> None:
    reply = token(portal, **params)
    assert (reply.status, reply.body["error"]) == (status, error)


def test_an_access_token_opens_rest_and_expires(portal: SandboxPortal, clock: SetClock) -> None:
    access = first_pair(portal)["access_token"]
    assert call(portal, access).orders == [5]
    result = call(portal, access, "batch", cmd={"a": add_command(5)}).result
    assert result["result"]["a"]["dealOrder"]["ownerId"] == 12
    clock.advance(3600)
    assert call(portal, access).error == (401, "expired_token", "The access token provided has expired.")


def test_the_header_wins_over_the_parameters(portal: SandboxPortal) -> None:
    access = first_pair(portal)["access_token"]
    for headers, params, status in (
        ({"authorization": f"Bearer {access}"}, {"auth": "garbage"}, 200),
        ({}, {"auth": access, "access_token": "garbage"}, 200),
        ({}, {"access_token": access}, 200),
        ({"authorization": "Basic x"}, {}, 401),
        ({"authorization": "Bearer garbage"}, {"auth": access}, 401),
    ):
        request = request_of("", params, path="/rest/crm.orderentity.list")
        request.headers.update(headers)
        assert portal.handle(request).status == status


def test_garbage_and_refresh_tokens_do_not_open_rest(portal: SandboxPortal) -> None:
    assert call(portal, "garbage").error[:2] == (401, "invalid_token")
    assert call(portal, first_pair(portal)["refresh_token"]).error[:2] == (401, "invalid_token")


def test_tokens_can_be_made_to_expire(portal: SandboxPortal) -> None:
    pair = first_pair(portal)
    portal.oauth.expire_access_tokens()
    assert call(portal, pair["access_token"]).error[1] == "expired_token"
    portal.oauth.expire_refresh_tokens()
    reply = token(portal, grant_type="refresh_token", refresh_token=pair["refresh_token"])
    assert reply.body["error"] == "invalid_grant"


def test_an_application_that_was_removed_gets_nothing(portal: SandboxPortal) -> None:
    pair = first_pair(portal)
    portal.oauth.application.installed = False
    assert call(portal, pair["access_token"]).error[:2] == (401, "APPLICATION_NOT_FOUND")
    reply = token(portal, grant_type="refresh_token", refresh_token=pair["refresh_token"])
    assert (reply.status, reply.body["error"]) == (401, "NOT_INSTALLED")
    assert authorize(portal).status == 200


def test_other_endpoints_can_be_announced() -> None:
    application = Application(
        server_endpoint="https://oauth.example/rest/", client_endpoint="https://new.example/rest/", member_id="m"
    )
    pair = first_pair(SandboxPortal(application=application))
    assert pair["domain"] == "oauth.example"
    assert pair["server_endpoint"] == "https://oauth.example/rest/"
    assert pair["client_endpoint"] == "https://new.example/rest/"
    assert pair["member_id"] == "m"


def test_an_application_may_subscribe_where_a_webhook_may_not(portal: SandboxPortal) -> None:
    access = first_pair(portal)["access_token"]
    handler = {"event": "OnSaleOrderSaved", "handler": "https://app.example/"}
    assert call(portal, access, "event.bind", **handler).result is True
    assert call(portal, access, "event.bind", **handler).error[1] == "ERROR_EVENT_BINDING_EXISTS"
    call(portal, access, "crm.orderentity.add", fields={"orderId": 5, "ownerId": 11, "ownerTypeId": 2})
    assert [event.handler for event in portal.events] == ["https://app.example/"]
    assert call(portal, access, "event.get").result == [
        {"event": "ONSALEORDERSAVED", "handler": "https://app.example/"}
    ]
    assert call(portal, access, "event.unbind", **handler).result == {"count": 1}


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"event": "ONNOTHING", "handler": "https://app.example/"}, "ERROR_EVENT_NOT_FOUND"),
        ({"event": "ONSALEORDERSAVED", "handler": "https://localhost/"}, "ERROR_WRONG_HANDLER_URL"),
        ({"event": "ONSALEORDERSAVED", "handler": "ftp://app.example/"}, "ERROR_UNSUPPORTED_PROTOCOL"),
    ],
)
def test_a_wrong_subscription_is_refused(portal: SandboxPortal, params: dict[str, str], code: str) -> None:
    assert call(portal, first_pair(portal)["access_token"], "event.bind", **params).error[1] == code


def test_offline_events_are_not_licensed(portal: SandboxPortal) -> None:
    access = first_pair(portal)["access_token"]
    assert call(portal, access, "event.offline.get").error[:2] == (403, "WRONG_LICENSE")


def test_faults_strike_the_endpoints_too(portal: SandboxPortal) -> None:
    portal.faults.add(FaultRule(Fault.STATUS, method="oauth/token", status=503))
    assert authorize(portal).status == 302
    assert token(portal, grant_type="refresh_token", refresh_token="x").status == 503
    assert portal.stats.calls["oauth/authorize"] == 1


def test_no_secret_is_in_a_repr(portal: SandboxPortal) -> None:
    assert "sandboxclientsecret" not in repr(portal.oauth.application)
