"""Each row of bitrix24-rest.md 7.2 has a behaviour: sent again, read first, or ended at once with a hint."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import httpx
import pytest
from pydantic import SecretBytes, SecretStr

from syncd.core.model import Owner
from syncd.core.ports import Effect, Write
from syncd.errors import AuthError, PortalBlocked, SyncdError, UnavailableError
from syncd.portal.hosts import Hosts
from syncd.portal.transport import PerhapsExecuted, Wire
from syncd.sandbox import Fault, FaultRule, SandboxPortal, SandboxServer, Version
from syncd.sandbox.oauth import Application
from tests.fakes.clock import FakeClock
from tests.fakes.portal_client import WEBHOOK, batch_answer, client, listed

pytestmark = pytest.mark.anyio

DEAL, OTHER = Owner(2, 10), Owner(2, 11)
ROWS = [(5, 2, 10), (7, 2, 10)]
JSON = {"Content-Type": "application/json; charset=utf-8"}


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def sandbox(clock: FakeClock, *rules: FaultRule, **options) -> SandboxPortal:
    portal = SandboxPortal(ROWS, orders=range(1, 100), clock=clock, **options)
    for rule in rules:
        portal.faults.add(rule)
    return portal


def status(number: int, code: str, body: str = "json", times: int | None = 1) -> FaultRule:
    return FaultRule(Fault.STATUS, status=number, code=code, body=body, times=times)  # type: ignore[arg-type]


# Not executed, and passing: sent again until it works, writes too; each is executed once.

PASSING = {
    "rate limit, as documented": status(503, "QUERY_LIMIT_EXCEEDED"),
    "rate limit, as a page of the front server": status(503, "", "html"),
    "429 without an envelope": status(429, "", "html"),
    "OAuth server unreachable from the portal": status(401, "CONNECTION_ERROR"),
}


@pytest.mark.parametrize("rule", PASSING.values(), ids=PASSING.keys())
async def test_given_a_refusal_that_passes_when_writing_then_it_is_sent_again_and_done_once(
    clock: FakeClock, rule: FaultRule
) -> None:
    portal = sandbox(clock, rule)
    async with client(portal, clock) as ours:
        answer = await ours.write([Write(9, None, DEAL)])

    assert [result.effect for result in answer.results] == [Effect.DONE]
    assert [written.order_id for written in portal.stats.writes] == [9]
    assert portal.stats.requests == 2


@pytest.mark.parametrize("rule", PASSING.values(), ids=PASSING.keys())
async def test_given_a_refusal_that_never_passes_when_writing_then_the_portal_is_unavailable_and_nothing_is_written(
    clock: FakeClock, rule: FaultRule
) -> None:
    portal = sandbox(clock, FaultRule(rule.action, status=rule.status, code=rule.code, body=rule.body, times=None))
    async with client(portal, clock) as ours:
        with pytest.raises(UnavailableError):
            await ours.write([Write(9, None, DEAL)])

    assert portal.stats.writes == []
    assert portal.stats.requests <= 10


# Perhaps executed: reads are repeated, writes are not; the caller is told that it is unknown.

BROKEN = {
    "502 page": status(502, "", "html"),
    "504 page": status(504, "", "html"),
    "500 page": status(500, "", "html"),
    "403 page of the front server": status(403, "", "html"),
    "500 with a code": status(500, "INTERNAL_SERVER_ERROR"),
    "other exception, 500": status(500, "ERROR_CORE"),
    "other exception, 400": status(400, "ERROR_CORE"),
    "bad output encoding, status 200": status(200, "WRONG_ENCODING"),
    "HTML with status 200": FaultRule(Fault.HTML),
    "answer cut off": FaultRule(Fault.TRUNCATE),
    "connection dropped before the effect": FaultRule(Fault.DROP),
    "connection dropped after the effect": FaultRule(Fault.DROP, when="after"),
    "redirect to a page that is not the portal": FaultRule(Fault.REDIRECT, location="https://portal.example/auth/"),
}


@pytest.mark.parametrize("rule", BROKEN.values(), ids=BROKEN.keys())
async def test_given_an_answer_that_cannot_be_used_when_listing_then_it_is_asked_for_again(
    clock: FakeClock, rule: FaultRule
) -> None:
    async with client(sandbox(clock, rule), clock) as ours:
        assert await listed(ours) == ROWS


@pytest.mark.parametrize("rule", BROKEN.values(), ids=BROKEN.keys())
async def test_given_an_answer_that_cannot_be_used_when_writing_then_nothing_is_sent_again(
    clock: FakeClock, rule: FaultRule
) -> None:
    portal = sandbox(clock, rule)
    async with client(portal, clock) as ours:
        answer = await ours.write([Write(9, None, DEAL), Write(5, DEAL, OTHER)], then_read=[7])

    assert [result.effect for result in answer.results] == [Effect.UNKNOWN, Effect.UNKNOWN]
    assert answer.read is None
    assert portal.stats.requests == 1


@pytest.mark.parametrize("rule", BROKEN.values(), ids=BROKEN.keys())
async def test_given_answers_that_stay_unusable_when_reading_then_the_portal_is_unavailable(
    clock: FakeClock, rule: FaultRule
) -> None:
    portal = sandbox(clock)
    portal.faults.add(
        FaultRule(rule.action, status=rule.status, code=rule.code, body=rule.body, location=rule.location, times=None)
    )
    async with client(portal, clock) as ours:
        with pytest.raises(UnavailableError) as caught:
            await ours.read([5])

    assert "portal.example" in caught.value.message
    assert caught.value.hint
    assert portal.stats.requests <= 5


# Cannot heal: ended at once, after one request, with a hint that fits.

TERMINAL = {
    "wrong webhook, status 401": (401, "INVALID_CREDENTIALS", AuthError, "inbound webhook"),
    "wrong webhook, status 403": (403, "INVALID_CREDENTIALS", AuthError, "inbound webhook"),
    "no credentials at all": (401, "NO_AUTH_FOUND", AuthError, "syncd auth shop"),
    "scope missing, status 401": (401, "insufficient_scope", AuthError, "scope crm"),
    "scope missing, status 403": (403, "insufficient_scope", AuthError, "scope crm"),
    "user deactivated": (401, "authorization_error", AuthError, "dismissed"),
    "application not open to the user": (401, "user_access_error", AuthError, "access"),
    "application removed": (401, "APPLICATION_NOT_FOUND", AuthError, "not installed"),
    "application not installed": (401, "ERROR_OAUTH", AuthError, "not installed"),
    "no REST subscription, status 401": (401, "ACCESS_DENIED", AuthError, "paid plan"),
    "not an administrator, status 403": (403, "ACCESS_DENIED", AuthError, "administrator"),
    "method needs an application": (403, "WRONG_AUTH_TYPE", AuthError, "credentials"),
    "plan feature missing": (403, "WRONG_LICENSE", AuthError, "plan"),
    "https required": (400, "INVALID_REQUEST", AuthError, "https"),
    "unknown method: the user id is forgotten": (404, "ERROR_METHOD_NOT_FOUND", AuthError, "/rest/USER/CODE/"),
    "no read right at all": (400, "200040300010", AuthError, "right"),
    "overload block, status 401": (401, "OVERLOAD_LIMIT", PortalBlocked, "support"),
    "overload block, status 503": (503, "OVERLOAD_LIMIT", PortalBlocked, "support"),
    "portal deleted, status 403": (403, "PORTAL_DELETED", UnavailableError, "address"),
    "portal deleted, status 500": (500, "PORTAL_DELETED", UnavailableError, "address"),
    "portal deleted, status 410": (410, "PORTAL_DELETED", UnavailableError, "address"),
    "an unknown code with status 401": (401, "SOMETHING_NEW", AuthError, "rights"),
}


@pytest.mark.parametrize("refusal", TERMINAL.values(), ids=TERMINAL.keys())
@pytest.mark.parametrize("act", ["listing", "writing"])
async def test_given_a_refusal_that_cannot_heal_when_asked_then_the_run_ends_after_one_request(
    clock: FakeClock, refusal: tuple[int, str, type[SyncdError], str], act: str
) -> None:
    number, code, kind, hint = refusal
    portal = sandbox(clock, status(number, code, times=None))
    async with client(portal, clock) as ours:
        with pytest.raises(kind) as caught:
            await (listed(ours) if act == "listing" else ours.write([Write(9, None, DEAL)]))

    assert type(caught.value) is kind
    assert code in caught.value.message
    assert hint in caught.value.hint
    assert portal.stats.requests == 1
    assert portal.stats.writes == []


async def test_given_a_wrong_code_when_asked_then_the_real_refusal_ends_the_run(clock: FakeClock) -> None:
    async with client(sandbox(clock, code="another"), clock) as ours:
        with pytest.raises(AuthError, match="INVALID_CREDENTIALS"):
            await listed(ours)


async def test_given_a_webhook_without_the_scope_when_listing_then_the_items_refusal_ends_the_run(
    clock: FakeClock,
) -> None:
    async with client(sandbox(clock, scope=frozenset({"sale"})), clock) as ours:
        with pytest.raises(AuthError, match="insufficient_scope") as caught:
            await listed(ours)

    assert "scope crm" in caught.value.hint


async def test_given_no_read_right_when_listing_then_the_items_refusal_ends_the_run(clock: FakeClock) -> None:
    async with client(sandbox(clock, sale_right="D"), clock) as ours:
        with pytest.raises(AuthError, match="200040300010"):
            await listed(ours)


@pytest.mark.parametrize("version", Version)
async def test_given_numeric_codes_as_numbers_or_strings_when_writing_then_they_mean_the_same(
    clock: FakeClock, version: Version
) -> None:
    portal = sandbox(clock, version=version)
    async with client(portal, clock) as ours:
        answer = await ours.write([Write(5, None, DEAL), Write(100, None, DEAL)])

    first, second = answer.results
    assert (first.effect, first.code) == (Effect.ALREADY, "201650000001")
    assert second.effect is Effect.ORDER_MISSING


@pytest.mark.parametrize("code", [0, "0"])
async def test_given_the_error_code_zero_when_writing_then_it_is_a_refusal_like_any_other(
    clock: FakeClock, code: int | str
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        sent = json.loads(request.content)["cmd"]
        listing = next(key for key, command in sent.items() if ".list" in command)
        error = {"error": code, "error_description": "Required fields: ownerId"}
        return batch_answer({listing: {"orderEntity": []}}, {"o9": error})

    async with client(answer, clock) as ours:
        (result,) = (await ours.write([Write(9, None, DEAL)])).results

    assert (result.effect, result.code, result.text) == (Effect.REFUSED, "0", "Required fields: ownerId")


async def test_given_the_error_code_zero_of_a_whole_request_when_reading_then_it_is_not_taken_for_success(
    clock: FakeClock,
) -> None:
    async with client(lambda _: httpx.Response(400, json={"error": 0, "result": []}), clock) as ours:
        with pytest.raises(UnavailableError):
            await ours.read([5])


async def test_given_another_content_type_when_the_body_is_a_portals_answer_then_it_is_taken(clock: FakeClock) -> None:
    portal = sandbox(clock, FaultRule(Fault.CONTENT_TYPE, times=None))
    async with client(portal, clock) as ours:
        assert await listed(ours) == ROWS


async def test_given_an_oversized_body_when_listing_then_it_is_not_read_to_its_end_and_asked_for_again(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncd.portal.transport.LARGEST_BODY", 50_000)
    portal = sandbox(clock, FaultRule(Fault.OVERSIZE, size=60_000))
    async with client(portal, clock) as ours:
        assert await listed(ours) == ROWS

    assert portal.stats.requests == 2


@pytest.mark.parametrize(
    "body",
    [
        b"", b"null", b"[]", b"5", b'"ok"', b"{}", b'{"result":[]}', b'{"result":{"result":5}}', b'{"result":', b"\xff\xfe",
        b"[" * 100_000, b'{"result":true}',
    ],
)  # fmt: skip
async def test_given_a_body_of_another_shape_when_reading_then_it_is_never_taken_for_unbound(
    clock: FakeClock, body: bytes
) -> None:
    async with client(lambda _: httpx.Response(200, content=body, headers=JSON), clock) as ours:
        with pytest.raises(UnavailableError):
            await ours.read([5])


async def test_given_the_port_is_closed_when_writing_then_the_portal_is_unavailable(clock: FakeClock) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError(f"All connection attempts failed for {request.url}", request=request)

    async with client(refuse, clock) as ours:
        with pytest.raises(UnavailableError) as caught:
            await ours.write([Write(9, None, DEAL)])

    assert "connection attempts failed" in caught.value.message
    assert ours.usage().requests == 4


TIMEOUTS = {
    "while connecting": (httpx.ConnectTimeout, UnavailableError),
    "while waiting for a connection": (httpx.PoolTimeout, UnavailableError),
    "while sending": (httpx.WriteTimeout, None),
    "while waiting for the answer": (httpx.ReadTimeout, None),
    "connection lost while sending": (httpx.WriteError, None),
    "connection lost while reading": (httpx.ReadError, None),
}


@pytest.mark.parametrize(("error", "raised"), TIMEOUTS.values(), ids=TIMEOUTS.keys())
async def test_given_a_timeout_when_writing_then_only_one_before_sending_is_certain(
    clock: FakeClock, error: type[httpx.TransportError], raised: type[SyncdError] | None
) -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise error("", request=request)

    async with client(fail, clock) as ours:
        if raised is not None:
            with pytest.raises(raised):
                await ours.write([Write(9, None, DEAL)])
        else:
            (result,) = (await ours.write([Write(9, None, DEAL)])).results
            assert result.effect is Effect.UNKNOWN
            assert ours.usage().requests == 1


async def test_given_a_new_portal_address_when_writing_then_the_post_is_repeated_there_and_the_host_remembered(
    clock: FakeClock,
) -> None:
    portal = sandbox(clock)
    seen: list[str] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        seen.append(f"{request.method} {request.url.host}")
        if request.url.host == "portal.example":
            return httpx.Response(302, headers={"Location": str(request.url.copy_with(host="new.example"))})
        response = await portal.respond(
            request.method, request.url.raw_path.decode(), "", dict(request.headers), request.content, secure=True
        )
        return httpx.Response(response.status, headers=list(response.headers), content=response.body)

    async with client(httpx.MockTransport(answer), clock) as ours:
        (result,) = (await ours.write([Write(9, None, DEAL)])).results
        await ours.read([9])

    assert result.effect is Effect.DONE
    assert seen == ["POST portal.example", "POST new.example", "POST new.example"]


REFUSED_REDIRECTS = {
    "to plain http": "http://new.example{path}",
    "to another path": "https://new.example/rest/1/collect/batch",
    "to a page": "/auth/",
    "with a user name": "https://me:you@new.example{path}",
    "to nowhere": "",
    "to nonsense": "https://[::1",
}


@pytest.mark.parametrize("location", REFUSED_REDIRECTS.values(), ids=REFUSED_REDIRECTS.keys())
async def test_given_a_redirect_that_is_no_change_of_address_when_followed_then_the_secret_is_not_sent_there(
    clock: FakeClock, location: str
) -> None:
    hosts: set[str] = set()

    def answer(request: httpx.Request) -> httpx.Response:
        hosts.add(f"{request.url.scheme}://{request.url.host}{request.url.path}")
        return httpx.Response(302, headers={"Location": location.format(path=request.url.path)})

    async with client(answer, clock) as ours:
        with pytest.raises(UnavailableError):
            await ours.read([5])

    assert hosts == {f"{WEBHOOK}batch"}


async def test_given_two_addresses_that_redirect_to_each_other_when_asked_then_it_ends(clock: FakeClock) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        other = "b.example" if request.url.host != "b.example" else "a.example"
        return httpx.Response(302, headers={"Location": str(request.url.copy_with(host=other))})

    async with client(answer, clock) as ours:
        with pytest.raises(UnavailableError, match="circle"):
            await ours.read([5])


async def test_given_an_application_on_a_portal_that_removed_it_then_the_hint_names_the_next_command(
    clock: FakeClock,
) -> None:
    portal = sandbox(clock, application=Application(installed=False))
    portal.faults.add(status(401, "ERROR_OAUTH"))
    async with client(portal, clock) as ours:
        with pytest.raises(AuthError) as caught:
            await listed(ours)

    assert "syncd auth shop" in caught.value.hint


async def test_given_an_answer_that_never_comes_when_waited_for_then_it_counts_as_perhaps_executed() -> None:
    async def hang(_: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError("never")

    wire = Wire(transport=httpx.MockTransport(hang))
    with pytest.raises(PerhapsExecuted, match="no complete answer in time"):
        await wire.post(SecretStr(WEBHOOK), SecretBytes(b""), "application/json", seconds=0.01)
    await wire.aclose()


async def test_given_a_certificate_nobody_vouches_for_when_asked_then_the_sentence_says_how_to_trust_it(
    clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    portal = SandboxPortal(ROWS)
    async with SandboxServer(portal, tls=True) as server:
        webhook = SecretStr(server.webhook_url)
        async with client(portal, clock, hosts=Hosts(clock, runtime_dir=tmp_path), webhook=webhook) as ours:
            with pytest.raises(UnavailableError, match="certificate is not trusted"):
                await ours.read([5])
        authority = tmp_path / "ca.pem"
        authority.write_text(server.ca_pem)
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        async with client(portal, clock, hosts=Hosts(clock, runtime_dir=tmp_path), webhook=webhook) as ours:
            assert await ours.read([5]) == {5: DEAL}


@pytest.mark.parametrize("location", ["https://[::1", "https://new.example:99999/rest/1/x/batch", "https://a\u2100b/"])
def test_given_a_location_that_is_no_address_when_followed_then_it_is_not(clock: FakeClock, location: str) -> None:
    host = Hosts(clock).open("https://portal.example", None)

    assert host.follow(SecretStr("https://portal.example/rest/1/x/batch"), location) is None
    assert host.current("https://portal.example") == "https://portal.example"


@pytest.mark.parametrize(
    ("location", "origin"),
    [
        ("http://127.0.0.1:9/rest/1/x/batch", "http://127.0.0.1:9"),
        ("https://new.example/rest/1/x/batch/", "https://new.example"),
        ("http://new.example/rest/1/x/batch", None),
    ],
)
def test_given_a_sandbox_on_this_machine_when_it_redirects_then_plain_http_will_do_only_here(
    clock: FakeClock, location: str, origin: str | None
) -> None:
    host = Hosts(clock).open("http://127.0.0.1:8", None)

    assert host.follow(SecretStr("http://127.0.0.1:8/rest/1/x/batch"), location) == origin
