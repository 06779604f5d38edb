"""Each row of portal.md 7.2 has a behaviour: sent again, read first, or ended at once with a hint."""

from __future__ import annotations

import asyncio
import gzip
import json
import ssl
import tracemalloc
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
import trustme
from pydantic import SecretBytes, SecretStr

from syncd.config.model import PortalSettings
from syncd.core.model import Owner
from syncd.core.ports import Effect, Write
from syncd.errors import AuthError, PortalBlocked, SyncdError, UnavailableError
from syncd.obs.clock import SystemClock
from syncd.portal.factory import open_portal
from syncd.portal.hosts import Hosts
from syncd.portal.transport import HttpClient, PerhapsExecuted
from syncd.sandbox import Fault, FaultRule, SandboxPortal, SandboxServer, Version
from syncd.sandbox.oauth import Application
from tests.fakes.clock import FakeClock
from tests.fakes.portal_client import CODE, WEBHOOK, batch_answer, client, listed
from tests.fakes.sandbox_transport import SandboxTransport

pytestmark = pytest.mark.anyio

DEAL, OTHER = Owner(2, 10), Owner(2, 11)
ROWS = [(5, 2, 10), (7, 2, 10)]
JSON = {"Content-Type": "application/json; charset=utf-8"}


def sandbox(clock: FakeClock, *rules: FaultRule, **options: Any) -> SandboxPortal:
    portal = SandboxPortal(ROWS, orders=range(1, 100), clock=clock, **options)
    for rule in rules:
        portal.faults.add(rule)
    return portal


def status(number: int, code: str, body: str = "json", times: int | None = 1, skip: int = 0) -> FaultRule:
    return FaultRule(Fault.STATUS, status=number, code=code, body=body, times=times, skip=skip)  # type: ignore[arg-type]


# Not executed, and passing: sent again until it works, writes too; each is executed once.

PASSING = {
    "rate limit, as documented": status(503, "QUERY_LIMIT_EXCEEDED"),
    "OAuth server unreachable from the portal": status(401, "CONNECTION_ERROR"),
}


@pytest.mark.parametrize("rule", PASSING.values(), ids=PASSING.keys())
async def test_given_a_refusal_that_passes_when_writing_then_it_is_sent_again_and_done_once(
    clock: FakeClock, rule: FaultRule
) -> None:
    portal = sandbox(clock, rule)
    async with client(portal, clock) as ours:
        answer = await ours.write([Write(9, None, DEAL)])

    assert [result.effect for result in answer] == [Effect.DONE]
    assert [written.order_id for written in portal.stats.writes] == [9]
    assert portal.stats.requests == 2


async def test_given_a_refusal_that_passes_when_a_bare_write_is_sent_again_then_its_order_was_read_again(
    clock: FakeClock,
) -> None:
    portal = sandbox(clock, status(503, "QUERY_LIMIT_EXCEEDED", skip=1))
    async with client(portal, clock, conditional=False) as ours:
        answer = await ours.write([Write(9, None, DEAL)])

    assert [result.effect for result in answer] == [Effect.DONE]
    assert portal.stats.requests == 4  # a reading, the refusal, a reading of what is there after the wait, the write


@pytest.mark.parametrize("rule", PASSING.values(), ids=PASSING.keys())
async def test_given_a_refusal_that_never_passes_when_writing_then_the_portal_is_unavailable_and_nothing_is_written(
    clock: FakeClock, rule: FaultRule
) -> None:
    portal = sandbox(clock, FaultRule(rule.action, status=rule.status, code=rule.code, body=rule.body, times=None))
    async with client(portal, clock) as ours:
        with pytest.raises(UnavailableError):
            await ours.write([Write(9, None, DEAL)])

    assert portal.stats.writes == []
    assert portal.stats.requests <= 11


# Perhaps executed: reads are repeated, writes are not; their results say that it is unknown.

BROKEN = {
    "502 page": status(502, "", "html"),
    "503 page of a proxy, without the portal's own code": status(503, "", "html"),
    "429 of a proxy, without the portal's own code": status(429, "", "html"),
    "503 with a code that is not the portal's": status(503, "SLOW_DOWN"),
    "503 page after the effect": FaultRule(Fault.STATUS, status=503, code="", body="html", when="after"),
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
        answer = await ours.write([Write(9, None, DEAL), Write(5, DEAL, OTHER)])

    assert [result.effect for result in answer] == [Effect.UNKNOWN, Effect.UNKNOWN]
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


# A reading made before a wait is stale after it.


def after_each_wait(clock: FakeClock, act: Callable[[], None]) -> None:
    """Let somebody act while syncd waits."""
    sleep = clock.sleep

    async def sleeping(seconds: float) -> None:
        await sleep(seconds)
        act()

    clock.sleep = sleeping  # type: ignore[method-assign]


@pytest.mark.parametrize(("now", "effect"), [(OTHER, Effect.MOVED), (DEAL, Effect.ALREADY)])
async def test_given_somebody_binds_an_order_while_its_write_waits_for_the_rate_then_that_write_is_not_sent(
    clock: FakeClock, now: Owner, effect: Effect
) -> None:
    portal = sandbox(clock, status(503, "QUERY_LIMIT_EXCEEDED", skip=1, times=4))
    after_each_wait(clock, lambda: portal.bind(9, *now))
    async with client(portal, clock, conditional=False) as ours:
        first, second = await ours.write([Write(9, None, DEAL), Write(11, None, DEAL)])

    assert (first.effect, first.found, first.found_known) == (effect, now, True)
    assert second.effect is Effect.DONE
    assert [written.order_id for written in portal.stats.writes if written.method != "ui"] == [11]


async def test_given_every_order_was_changed_during_the_wait_then_no_write_is_sent_at_all(clock: FakeClock) -> None:
    portal = sandbox(clock, status(503, "QUERY_LIMIT_EXCEEDED", skip=1))
    after_each_wait(clock, lambda: portal.bind(9, *OTHER))
    async with client(portal, clock, conditional=False) as ours:
        (result,) = await ours.write([Write(9, None, DEAL)])

    assert result.effect is Effect.MOVED
    assert portal.stats.calls["crm.orderentity.add"] == 0


async def test_given_a_write_that_waits_long_for_the_request_bucket_then_it_is_read_again_before_it_is_sent(
    clock: FakeClock,
) -> None:
    portal = sandbox(clock)
    async with client(portal, clock, rate_share=0.02, conditional=False) as ours:
        await ours.read([5])
        after_each_wait(clock, lambda: portal.bind(9, *OTHER))
        (result,) = await ours.write([Write(9, None, DEAL)])

    assert result.effect is Effect.MOVED
    assert portal.stats.calls["crm.orderentity.add"] == 0


# A page in front of the portal is called a page, and may say when to ask again.


def after(seconds: str) -> Callable[[httpx.Request], httpx.Response]:
    return lambda _: httpx.Response(503, html="<h1>Maintenance</h1>", headers={"Retry-After": seconds})


@pytest.mark.parametrize(
    ("header", "waited"),
    [("7", 3 * 7), ("60", 3 * 60), ("86400", 3 * 60), ("soon", 10), ("", 10), ("Fri, 31 Dec 1999 23:59:59 GMT", 10)],
)
async def test_given_a_page_with_503_when_reading_then_it_is_called_a_page_and_retry_after_is_honoured_up_to_a_minute(
    clock: FakeClock, header: str, waited: float
) -> None:
    began = clock.monotonic()
    async with client(after(header), clock) as ours:
        with pytest.raises(UnavailableError) as caught:
            await ours.read([5])

        assert ours.usage().requests == 4
        assert ours.usage().refused == 0
    assert "a web page with HTTP 503" in caught.value.message
    assert "rate" not in caught.value.message
    assert "maintenance" in caught.value.hint
    spent = clock.monotonic() - began
    assert waited <= spent <= waited + 3 if waited > 10 else spent < waited


async def test_given_a_date_in_retry_after_when_reading_then_it_is_waited_for(clock: FakeClock) -> None:
    theirs = datetime(2001, 1, 1, tzinfo=UTC)  # a server whose clock is far off
    headers = {
        "Date": format_datetime(theirs, usegmt=True),
        "Retry-After": format_datetime(theirs + timedelta(seconds=40), usegmt=True),
    }
    began = clock.monotonic()
    async with client(lambda _: httpx.Response(503, html="<h1>Maintenance</h1>", headers=headers), clock) as ours:
        with pytest.raises(UnavailableError):
            await ours.read([5])

    assert 3 * 40 <= clock.monotonic() - began <= 3 * 41


async def test_given_a_long_wait_then_the_log_and_the_progress_say_until_when(clock: FakeClock, tmp_path: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    hosts = Hosts(clock, runtime_dir=tmp_path, transport=httpx.MockTransport(after("30")))
    settings = PortalSettings(webhook=SecretStr(WEBHOOK))
    ours = open_portal(settings, link="shop", hosts=hosts, progress=lambda *step: told.append(step))
    with structlog.testing.capture_logs() as logs, pytest.raises(UnavailableError):
        await ours.read([5])
    await ours.aclose()

    waits = [line for line in logs if line["event"] == "waiting for the portal"]
    assert [line["seconds"] for line in waits] == [30, 30, 30]
    assert datetime.fromisoformat(waits[0]["until"]).timestamp() == pytest.approx(FakeClock().now() + 30, abs=2)
    assert [step[1:] for step in told[:2]] == [(0, 30), (30, 30)]
    assert told[0][0].startswith("waiting until ")


async def test_given_a_long_wait_for_the_request_bucket_then_the_log_says_until_when(clock: FakeClock) -> None:
    async with client(sandbox(clock), clock, rate_share=0.02) as ours:
        await ours.read([5])
        with structlog.testing.capture_logs() as logs:
            await ours.read([5])
        throttled = ours.usage().throttled_seconds

    (wait,) = [line for line in logs if line["event"] == "waiting for the portal"]
    assert (wait["reason"], wait["seconds"]) == ("its limit of requests", pytest.approx(25, abs=1))
    assert throttled == pytest.approx(25, abs=1)


async def test_given_a_short_wait_then_nothing_is_made_of_it(clock: FakeClock) -> None:
    with structlog.testing.capture_logs() as logs:
        async with client(sandbox(clock, status(503, "QUERY_LIMIT_EXCEEDED")), clock) as ours:
            await ours.read([5])

    assert "waiting for the portal" not in [line["event"] for line in logs]


# An answer is limited to what a batch can be.


@pytest.mark.parametrize("packing", ["identity", "gzip"])
async def test_given_an_answer_larger_than_any_batch_when_reading_then_it_is_not_read_or_unpacked_whole(
    clock: FakeClock, packing: str
) -> None:
    large = b'{"result":[' + b"[]," * 20_000_000 + b"[]]}"
    body = gzip.compress(large) if packing == "gzip" else large
    del large

    async def drip() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 65_536):
            yield body[start : start + 65_536]

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=drip(), headers={"Content-Encoding": packing})

    async with client(answer, clock) as ours:
        tracemalloc.start()
        try:
            with pytest.raises(UnavailableError, match="larger than 4 MiB"):
                await ours.read([5])
            assert tracemalloc.get_traced_memory()[1] < 16 * 1024 * 1024
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize(
    ("packed", "words"),
    [
        (gzip.compress(b'{"result":{"result":[]}}')[:-9], "ends in the middle"),
        (b"this is not gzip", "cannot be unpacked"),
    ],
    ids=["cut off", "something else"],
)
async def test_given_an_answer_whose_packing_is_broken_when_reading_then_it_is_not_taken_for_one(
    clock: FakeClock, packed: bytes, words: str
) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield packed

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=body(), headers={"Content-Encoding": "gzip"})

    async with client(answer, clock) as ours:
        with pytest.raises(UnavailableError, match=words):
            await ours.read([5])


async def test_given_an_answer_that_is_packed_when_reading_then_it_is_unpacked(clock: FakeClock) -> None:
    portal = sandbox(clock)
    inner = SandboxTransport(portal)

    class Packing(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            packed = gzip.compress((await inner.handle_async_request(request)).content)

            async def body() -> AsyncIterator[bytes]:
                for start in range(0, len(packed), 10):
                    yield packed[start : start + 10]

            return httpx.Response(200, content=body(), headers={"Content-Encoding": "gzip"})

    async with client(Packing(), clock) as ours:
        assert await ours.read([5]) == {5: DEAL}


@pytest.mark.parametrize("packing", ["gzip, gzip", "br", "zstd", "deflate"])
async def test_given_an_answer_that_is_packed_otherwise_than_offered_when_reading_then_it_is_not_unpacked(
    clock: FakeClock, packing: str
) -> None:
    asked: list[str] = []

    async def body() -> AsyncIterator[bytes]:
        yield gzip.compress(gzip.compress(b"{}"))

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers["Accept-Encoding"])
        return httpx.Response(200, content=body(), headers={"Content-Encoding": packing})

    async with client(answer, clock) as ours:
        with pytest.raises(UnavailableError, match="not asked for"):
            await ours.read([5])

    assert set(asked) == {"gzip"}


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


CAUSES = {
    "INVALID_CREDENTIALS": ["was deleted", "expired", "an administrator edited it", "its code was found in public"],
    "ACCESS_DENIED": ["a paid plan", "the Market subscription", "the user lacks the right"],
}


@pytest.mark.parametrize("code", CAUSES)
async def test_given_a_refusal_of_several_causes_then_the_hint_names_each(clock: FakeClock, code: str) -> None:
    async with client(sandbox(clock, status(401, code)), clock) as ours:
        with pytest.raises(AuthError) as caught:
            await listed(ours)

    assert [cause for cause in CAUSES[code] if cause not in caught.value.hint] == []


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

    first, second = answer
    assert (first.effect, first.code) == (Effect.ALREADY, "0" if version is Version.OLD else "201640400003")
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
        (result,) = await ours.write([Write(9, None, DEAL)])

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
            (result,) = await ours.write([Write(9, None, DEAL)])
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
            return httpx.Response(302, headers={"Location": str(request.url.copy_with(host="new.portal.example"))})
        response = await portal.respond(
            request.method, request.url.raw_path.decode(), "", dict(request.headers), request.content, secure=True
        )
        return httpx.Response(response.status, headers=list(response.headers), content=response.body)

    async with client(httpx.MockTransport(answer), clock) as ours:
        (result,) = await ours.write([Write(5, DEAL, OTHER)])
        await ours.read([9])

    assert result.effect is Effect.DONE
    assert seen == ["POST portal.example", "POST new.portal.example", "POST new.portal.example"]


REFUSED_REDIRECTS = {
    "to plain http": "http://new.portal.example{path}",
    "to another path": "https://new.portal.example/rest/1/collect/batch",
    "to a page": "/auth/",
    "with a user name": "https://me:you@new.portal.example{path}",
    "to somebody else's domain": "https://portal.evil.example{path}",
    "to a domain that only ends alike": "https://evilportal.example{path}",
    "to a host that only begins alike": "https://portal.example.evil.test{path}",
    "to a site that users make at the vendor's": "https://evil.bitrix24.site{path}",
    "to this machine": "https://127.0.0.1{path}",
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


class Addresses(httpx.AsyncBaseTransport):
    """A portal at several addresses, each of which answers, redirects or fails.

    Args:
        portal: The portal.
        answers: By host: what it does; the portal itself answers at any other.
    """

    def __init__(self, portal: SandboxPortal, **answers: Callable[[httpx.Request], httpx.Response]) -> None:
        self.answers = {name.replace("_", "."): answer for name, answer in answers.items()}
        self.seen: list[str] = []
        self._portal = SandboxTransport(portal)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request.url.host)
        answer = self.answers.get(request.url.host)
        return await self._portal.handle_async_request(request) if answer is None else answer(request)


def redirecting(host: str) -> Callable[[httpx.Request], httpx.Response]:
    return lambda request: httpx.Response(302, headers={"Location": str(request.url.copy_with(host=host))})


def unreachable(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("no route to host", request=request)


OTHERS = {
    "a page for the time of maintenance": lambda _: httpx.Response(503, html="<p>soon"),
    "a page with status 200": lambda _: httpx.Response(200, html="<p>hello"),
    "nobody": unreachable,
    "another portal": lambda _: httpx.Response(401, json={"error": "INVALID_CREDENTIALS"}),
    "another portal that was deleted": lambda _: httpx.Response(410, json={"error": "PORTAL_DELETED"}),
}


@pytest.mark.parametrize("answer", OTHERS.values(), ids=OTHERS.keys())
async def test_given_one_passing_redirect_to_what_is_not_the_portal_when_reading_then_its_own_address_is_asked_again(
    clock: FakeClock, answer: Callable[[httpx.Request], httpx.Response]
) -> None:
    behind = Addresses(sandbox(clock), portal_example=redirecting("new.portal.example"), new_portal_example=answer)

    def once(request: httpx.Request) -> httpx.Response:
        del behind.answers["portal.example"]
        return redirecting("new.portal.example")(request)

    behind.answers["portal.example"] = once
    async with client(behind, clock) as ours:
        assert await ours.read([5]) == {5: DEAL}
        assert await ours.read([5]) == {5: DEAL}

    assert behind.seen == ["portal.example", "new.portal.example", "portal.example", "portal.example"]


async def test_given_a_redirect_to_a_portal_that_does_not_know_the_webhook_then_the_run_is_not_ended_as_unauthorised(
    clock: FakeClock,
) -> None:
    behind = Addresses(
        sandbox(clock),
        portal_example=redirecting("other.bitrix24.com"),
        other_bitrix24_com=OTHERS["another portal"],
    )
    async with client(behind, clock) as ours:
        with pytest.raises(UnavailableError, match=r"other\.bitrix24\.com.*INVALID_CREDENTIALS") as caught:
            await ours.read([5])

    assert "new address" in caught.value.hint


async def test_given_the_new_address_dies_when_reading_then_the_configured_one_is_asked_again(clock: FakeClock) -> None:
    behind = Addresses(sandbox(clock), portal_example=redirecting("new.portal.example"))
    async with client(behind, clock) as ours:
        await ours.read([5])
        behind.answers = {"new.portal.example": unreachable}
        assert await ours.read([5]) == {5: DEAL}

    assert behind.seen == ["portal.example", "new.portal.example", "new.portal.example", "portal.example"]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (redirecting("portal.example"), True),
        (redirecting("www.old.example"), True),
        (redirecting("third.example"), False),
        (unreachable, False),
        (lambda _: httpx.Response(200, html="<p>parked"), False),
        (lambda _: httpx.Response(302, headers={"Location": "https://portal.example/"}), False),
        (lambda request: httpx.Response(302, headers={"Location": f"http://portal.example{request.url.path}"}), False),
    ],
)
async def test_given_an_old_address_then_it_is_this_portals_only_if_it_redirects_here_and_no_secret_is_sent_to_it(
    clock: FakeClock, answer: Callable[[httpx.Request], httpx.Response], expected: bool
) -> None:
    behind = Addresses(
        sandbox(clock), old_example=answer, www_old_example=redirecting("portal.example"), third_example=unreachable
    )
    sent: list[str] = []
    inner = behind.handle_async_request

    async def spying(request: httpx.Request) -> httpx.Response:
        sent.append(f"{request.url} {(await request.aread()).decode()} {request.headers}")
        return await inner(request)

    behind.handle_async_request = spying  # type: ignore[method-assign]
    async with client(behind, clock) as ours:
        assert await ours.is_target_of("old.example") is expected
        assert await ours.member_id() == ""

    assert sent
    assert CODE not in "".join(sent)


async def test_given_two_addresses_that_redirect_to_each_other_when_asked_then_it_ends(clock: FakeClock) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        other = "b.portal.example" if request.url.host != "b.portal.example" else "a.portal.example"
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

    wire = HttpClient("https://portal.example", SystemClock(), transport=httpx.MockTransport(hang))
    with pytest.raises(PerhapsExecuted, match="no complete answer in time"):
        await wire.post(SecretStr(WEBHOOK), SecretBytes(b""), "application/json", seconds=0.01)
    await wire.aclose()


CERTIFICATES = {
    "expired": (10, "has expired", "clock"),
    "not valid yet": (9, "not valid yet", "clock"),
    "another name": (62, "for another host name", "host"),
    "another address": (64, "for another host name", "host"),
    "unknown authority": (20, "authority that signed it is unknown", "SSL_CERT_FILE"),
    "signed by itself": (18, "authority that signed it is unknown", "SSL_CERT_FILE"),
}


@pytest.mark.parametrize(("code", "words", "hint"), CERTIFICATES.values(), ids=CERTIFICATES.keys())
async def test_given_a_certificate_that_will_not_do_when_asked_then_the_sentence_and_the_hint_say_why(
    clock: FakeClock, code: int, words: str, hint: str
) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        cause = ssl.SSLCertVerificationError("certificate verify failed")
        cause.verify_code = code
        raise httpx.ConnectError("certificate verify failed", request=request) from cause

    async with client(refuse, clock) as ours:
        with pytest.raises(UnavailableError, match=words) as caught:
            await ours.read([5])

    assert hint in caught.value.hint


REAL_CERTIFICATES: dict[str, tuple[str, timedelta, str]] = {
    "expired": ("127.0.0.1", timedelta(days=-1), "has expired"),
    "another name": ("other.example", timedelta(days=1), "for another host name"),
    "another address": ("127.0.0.2", timedelta(days=1), "for another host name"),
}


@pytest.mark.parametrize("case", REAL_CERTIFICATES.values(), ids=REAL_CERTIFICATES.keys())
async def test_given_a_server_whose_certificate_will_not_do_when_asked_then_the_sentence_says_why(
    clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: tuple[str, timedelta, str]
) -> None:
    name, lasts, words = case
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    now = datetime.now(UTC)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name, not_before=now - timedelta(days=9), not_after=now + lasts).configure_cert(context)
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    webhook, hosts = SecretStr(f"https://127.0.0.1:{port}/rest/1/{CODE}/"), Hosts(clock, runtime_dir=tmp_path)
    async with server, client(sandbox(clock), clock, hosts=hosts, webhook=webhook) as ours:
        with pytest.raises(UnavailableError, match=words):
            await ours.read([5])


async def test_given_a_proxy_that_refuses_when_asked_then_the_hint_names_its_variables(clock: FakeClock) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ProxyError("407 Proxy Authentication Required", request=request)

    async with client(refuse, clock) as ours:
        with pytest.raises(UnavailableError, match="407 Proxy Authentication Required") as caught:
            await ours.read([5])

    assert "HTTPS_PROXY" in caught.value.hint


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
    assert host.origin == "https://portal.example"


@pytest.mark.parametrize(
    ("location", "origin"),
    [
        ("http://127.0.0.1:9/rest/1/x/batch", "http://127.0.0.1:9"),
        ("https://127.0.0.1:9/rest/1/x/batch", None),
        ("https://new.bitrix24.com/rest/1/x/batch/", "https://new.bitrix24.com"),
        ("https://new.example/rest/1/x/batch/", None),
        ("http://new.example/rest/1/x/batch", None),
    ],
)
def test_given_a_sandbox_on_this_machine_when_it_redirects_then_plain_http_will_do_only_here(
    clock: FakeClock, location: str, origin: str | None
) -> None:
    host = Hosts(clock).open("http://127.0.0.1:8", None)

    assert host.follow(SecretStr("http://127.0.0.1:8/rest/1/x/batch"), location) == origin
