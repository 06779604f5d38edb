"""OAuth 2.0: authorisation, rotation, one refresh for many, terminal and passing errors (portal.md 8)."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx
import pytest
from pydantic import SecretStr

from syncd.config.model import OAuthSettings, PortalSettings
from syncd.core.model import Owner
from syncd.core.ports import Effect, Write
from syncd.errors import AuthError, ConfigError, StateUnavailable, UnavailableError, UsageError
from syncd.portal.factory import Authorisation, budget_key, open_portal
from syncd.portal.hosts import Hosts
from syncd.sandbox import Fault, FaultRule, SandboxPortal, SandboxServer
from syncd.sandbox.oauth import Application
from tests.fakes.clock import FakeClock
from tests.fakes.portal_client import OAUTH, WEBHOOK, PortalStore, client
from tests.fakes.sandbox_transport import SandboxTransport

pytestmark = pytest.mark.anyio

DEAL = Owner(2, 10)
KEY = "portal.example/local.sandbox"
TOKEN = "oauth/token"
SETTINGS = PortalSettings(oauth=OAUTH)


@pytest.fixture
def portal(clock: FakeClock) -> SandboxPortal:
    endpoint = "https://portal.example/rest/"
    announced = Application(server_endpoint=endpoint, client_endpoint=endpoint)
    return SandboxPortal({5: DEAL}, orders=range(1, 100), clock=clock, application=announced)


@pytest.fixture
async def store(portal: SandboxPortal, clock: FakeClock, tmp_path: Path) -> PortalStore:
    """A state database with the pair of an authorised application."""
    store = PortalStore()
    await authorise(portal, clock, store, tmp_path)
    return store


async def authorise(portal: SandboxPortal, clock: FakeClock, store: PortalStore, directory: Path) -> None:
    hosts = Hosts(clock, runtime_dir=directory, transport=SandboxTransport(portal))
    walk = Authorisation(SETTINGS, link="shop", hosts=hosts, store=store)
    await walk.complete(await code_of(portal, walk.url), "portal.example")
    await walk.aclose()


async def code_of(portal: SandboxPortal, url: str) -> str:
    """What a person's browser does on the authorisation page."""
    parts = urlsplit(url)
    response = await portal.respond("GET", parts.path, parts.query + "&redirect_uri=https://me.example/", secure=True)
    location = dict(response.headers)["Location"]
    answer = dict(parse_qsl(urlsplit(location).query))
    assert answer["state"] == parse_qs(parts.query)["state"][0]
    return answer["code"]


def kept(store: PortalStore) -> dict[str, Any]:
    return store.tokens[KEY]


def spy(portal: SandboxPortal, seen: list[tuple[str, str]]) -> httpx.AsyncBaseTransport:
    """Note the URL and the body of each request."""
    inner = SandboxTransport(portal)

    class Spy(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            seen.append((str(request.url), (await request.aread()).decode()))
            return await inner.handle_async_request(request)

    return Spy()


async def test_given_an_authorised_application_when_used_then_it_reads_and_writes(
    portal: SandboxPortal, clock: FakeClock, store: PortalStore
) -> None:
    async with client(portal, clock, store=store, oauth=OAUTH) as ours:
        assert await ours.read([5]) == {5: DEAL}
        (result,) = await ours.write([Write(7, None, DEAL)])

    assert result.effect is Effect.DONE
    assert portal.stats.calls[TOKEN] == 1


async def test_given_any_request_when_sent_then_no_secret_is_in_its_url(
    portal: SandboxPortal, clock: FakeClock, store: PortalStore, tmp_path: Path
) -> None:
    seen: list[tuple[str, str]] = []
    hosts = Hosts(clock, runtime_dir=tmp_path, transport=spy(portal, seen))
    clock.advance(3600)
    async with client(portal, clock, hosts=hosts, store=store, oauth=OAUTH) as ours:
        await ours.read([5])

    assert [url for url, _ in seen] == ["https://portal.example/oauth/token/", "https://portal.example/rest/batch"]
    assert "client_secret=sandboxclientsecret" in seen[0][1]
    assert json.loads(seen[1][1])["auth"] == kept(store)["access_token"]


async def test_given_no_stored_pair_when_used_then_the_hint_is_to_authorise(
    portal: SandboxPortal, clock: FakeClock
) -> None:
    async with client(portal, clock, store=PortalStore(), oauth=OAUTH) as ours:
        with pytest.raises(AuthError) as caught:
            await ours.read([5])

    assert "syncd auth shop" in caught.value.hint


async def test_given_an_expired_token_when_the_portal_says_so_then_it_is_refreshed_and_the_request_repeated(
    portal: SandboxPortal, clock: FakeClock, store: PortalStore
) -> None:
    before = dict(kept(store))
    portal.oauth.expire_access_tokens()
    async with client(portal, clock, store=store, oauth=OAUTH) as ours:
        (result,) = await ours.write([Write(7, None, DEAL)])

    assert result.effect is Effect.DONE
    assert kept(store)["refresh_token"] != before["refresh_token"]
    assert portal.stats.calls[TOKEN] == 2


async def test_given_a_token_about_to_end_when_used_then_it_is_refreshed_before(
    portal: SandboxPortal, clock: FakeClock, store: PortalStore
) -> None:
    async with client(portal, clock, store=store, oauth=OAUTH) as ours:
        await ours.read([5])
        clock.advance(3600 - 30)
        requests = ours.usage().requests
        await ours.read([5])
        assert ours.usage().requests == requests + 1

    assert portal.stats.calls[TOKEN] == 2


async def test_given_a_token_with_time_left_when_used_again_and_again_then_it_is_not_refreshed(
    portal: SandboxPortal, clock: FakeClock, store: PortalStore
) -> None:
    async with client(portal, clock, store=store, oauth=OAUTH) as ours:
        for _ in range(5):
            clock.advance(600)
            await ours.read([5])

    assert portal.stats.calls[TOKEN] == 1


async def test_given_many_calls_at_once_when_the_token_is_over_then_it_is_refreshed_once(
    portal: SandboxPortal, clock: FakeClock, store: PortalStore
) -> None:
    async with client(portal, clock, store=store, oauth=OAUTH) as ours:
        await ours.read([5])
        portal.faults.add(FaultRule(Fault.DELAY, method="*", seconds=1, times=None))
        portal.oauth.expire_access_tokens()
        answers = await asyncio.gather(*(ours.read([5]) for _ in range(10)))

    assert answers == [{5: DEAL}] * 10
    assert portal.stats.calls[TOKEN] == 2


async def test_given_several_processes_when_the_token_is_over_then_they_share_one_refresh(
    portal: SandboxPortal, clock: FakeClock, store: PortalStore, tmp_path: Path
) -> None:
    processes = [Hosts(clock, runtime_dir=tmp_path, transport=SandboxTransport(portal)) for _ in range(3)]
    clients = [open_portal(SETTINGS, link="shop", hosts=hosts, store=store) for hosts in processes]
    portal.oauth.expire_access_tokens()

    answers = await asyncio.gather(*(ours.read([5]) for ours in clients))

    assert answers == [{5: DEAL}] * 3
    assert portal.stats.calls[TOKEN] == 2
    for ours in clients:
        await ours.aclose()


async def test_given_another_host_refreshes_at_the_same_moment_when_ours_is_refused_then_its_pair_is_taken(
    portal: SandboxPortal, clock: FakeClock, store: PortalStore, tmp_path: Path
) -> None:
    hosts = [Hosts(clock, runtime_dir=tmp_path / name, transport=SandboxTransport(portal)) for name in ("a", "b")]
    clients = [open_portal(SETTINGS, link="shop", hosts=one, store=store) for one in hosts]
    portal.faults.add(FaultRule(Fault.DELAY, method=TOKEN, seconds=2, times=None))
    portal.oauth.expire_access_tokens()

    answers = await asyncio.gather(*(ours.read([5]) for ours in clients))

    assert answers == [{5: DEAL}] * 2
    assert portal.stats.calls[TOKEN] == 3  # two asked, one was refused and looked again
    for ours in clients:
        await ours.aclose()


async def test_given_another_process_stored_its_pair_first_when_ours_is_stored_then_theirs_is_used(
    portal: SandboxPortal, clock: FakeClock, store: PortalStore, tmp_path: Path
) -> None:
    portal.oauth.expire_access_tokens()
    theirs = PortalStore()
    await authorise(portal, clock, theirs, tmp_path)

    def meanwhile() -> None:
        store.before_swap = lambda: None
        store.tokens[KEY] = kept(theirs)

    store.before_swap = meanwhile
    seen: list[tuple[str, str]] = []
    hosts = Hosts(clock, runtime_dir=tmp_path, transport=spy(portal, seen))
    async with client(portal, clock, hosts=hosts, store=store, oauth=OAUTH) as ours:
        assert await ours.read([5]) == {5: DEAL}

    assert json.loads(seen[-1][1])["auth"] == kept(theirs)["access_token"]
    assert kept(store) == kept(theirs)


async def test_given_a_new_pair_when_used_then_it_was_stored_before(
    portal: SandboxPortal, clock: FakeClock, store: PortalStore, tmp_path: Path
) -> None:
    seen: list[tuple[str, str]] = []
    order: list[str] = []
    store.before_swap = lambda: order.append("stored")
    portal.before_call(lambda *_: order.append("used"))
    portal.oauth.expire_access_tokens()
    hosts = Hosts(clock, runtime_dir=tmp_path, transport=spy(portal, seen))
    async with client(portal, clock, hosts=hosts, store=store, oauth=OAUTH) as ours:
        await ours.read([5])

    assert order == ["stored", "used"]


async def test_given_the_state_database_fails_when_the_new_pair_is_stored_then_it_is_stored_later_and_not_lost(
    portal: SandboxPortal, clock: FakeClock, store: PortalStore
) -> None:
    def fail() -> None:
        raise StateUnavailable("The state database is locked.")

    store.before_swap = fail
    portal.oauth.expire_access_tokens()
    async with client(portal, clock, store=store, oauth=OAUTH) as ours:
        with pytest.raises(StateUnavailable):
            await ours.read([5])
        store.before_swap = lambda: None
        assert await ours.read([5]) == {5: DEAL}

    assert portal.stats.calls[TOKEN] == 2


TERMINAL = {
    "refresh token used or over": (400, "invalid_grant", "authorise"),
    "unknown client, status 200": (200, "wrong_client", "client_id"),
    "wrong secret": (400, "invalid_client", "client_secret"),
    "not installed": (401, "NOT_INSTALLED", "Install"),
    "not paid": (402, "PAYMENT_REQUIRED", "paid"),
    "scope": (403, "invalid_scope", "scope crm"),
    "scope missing": (403, "insufficient_scope", "scope crm"),
    "bad request": (400, "invalid_request", "syncd auth shop"),
}


@pytest.mark.parametrize("refusal", TERMINAL.values(), ids=TERMINAL.keys())
async def test_given_an_error_of_the_authorisation_server_that_cannot_heal_when_refreshing_then_the_run_ends(
    portal: SandboxPortal, clock: FakeClock, store: PortalStore, refusal: tuple[int, str, str]
) -> None:
    status, code, hint = refusal
    before = portal.stats.requests
    portal.oauth.expire_access_tokens()
    portal.faults.add(FaultRule(Fault.STATUS, method=TOKEN, status=status, code=code, times=None))
    async with client(portal, clock, store=store, oauth=OAUTH) as ours:
        with pytest.raises(AuthError) as caught:
            await ours.read([5])

    assert hint in caught.value.hint
    assert portal.stats.requests == before + 2  # the expired call, one refresh


PASSING = {
    "500": FaultRule(Fault.STATUS, method=TOKEN, status=500),
    "502 page": FaultRule(Fault.STATUS, method=TOKEN, status=502, body="html"),
    "HTML with status 200": FaultRule(Fault.HTML, method=TOKEN),
    "connection dropped": FaultRule(Fault.DROP, method=TOKEN),
    "an unknown error": FaultRule(Fault.STATUS, method=TOKEN, status=400, code="temporarily_unavailable"),
}


@pytest.mark.parametrize("rule", PASSING.values(), ids=PASSING.keys())
async def test_given_an_error_of_the_authorisation_server_that_passes_when_refreshing_then_it_is_asked_again(
    portal: SandboxPortal, clock: FakeClock, store: PortalStore, rule: FaultRule
) -> None:
    portal.oauth.expire_access_tokens()
    portal.faults.add(rule)
    async with client(portal, clock, store=store, oauth=OAUTH) as ours:
        assert await ours.read([5]) == {5: DEAL}


async def test_given_the_authorisation_server_stays_away_when_refreshing_then_it_is_unavailable_and_not_terminal(
    portal: SandboxPortal, clock: FakeClock, store: PortalStore
) -> None:
    portal.oauth.expire_access_tokens()
    portal.faults.add(FaultRule(Fault.DROP, method=TOKEN, times=None))
    async with client(portal, clock, store=store, oauth=OAUTH) as ours:
        with pytest.raises(UnavailableError, match=r"portal\.example gives no new tokens"):
            await ours.read([5])
        portal.faults.clear()
        assert await ours.read([5]) == {5: DEAL}


async def test_given_a_portal_that_keeps_calling_the_token_expired_when_used_then_it_ends(
    portal: SandboxPortal, clock: FakeClock, store: PortalStore
) -> None:
    portal.faults.add(FaultRule(Fault.STATUS, method="batch", status=401, code="expired_token", times=None))
    async with client(portal, clock, store=store, oauth=OAUTH) as ours:
        with pytest.raises(AuthError, match="expired_token"):
            await ours.read([5])

    assert portal.stats.calls[TOKEN] <= 3


async def test_given_the_server_endpoint_moves_when_refreshed_then_the_next_refresh_goes_there(
    portal: SandboxPortal, clock: FakeClock, store: PortalStore, tmp_path: Path
) -> None:
    seen: list[tuple[str, str]] = []
    hosts = Hosts(clock, runtime_dir=tmp_path, transport=spy(portal, seen))
    portal.oauth.application.server_endpoint = "https://oauth.bitrix24.tech/rest/"
    portal.oauth.application.client_endpoint = "https://renamed.example/rest/"
    async with client(portal, clock, hosts=hosts, store=store, oauth=OAUTH) as ours:
        for _ in range(2):
            clock.advance(3600)
            await ours.read([5])

    assert [urlsplit(url).netloc for url, _ in seen] == [
        "portal.example", "renamed.example", "oauth.bitrix24.tech", "renamed.example",
    ]  # fmt: skip


@pytest.mark.parametrize("endpoint", ["http://evil.example/rest/", "http://127.0.0.1/rest/", "nonsense"])
async def test_given_an_endpoint_that_is_not_fit_for_tokens_when_refreshed_then_the_known_one_stays(
    portal: SandboxPortal, clock: FakeClock, store: PortalStore, endpoint: str
) -> None:
    portal.oauth.application.server_endpoint = portal.oauth.application.client_endpoint = endpoint
    clock.advance(3600)
    async with client(portal, clock, store=store, oauth=OAUTH) as ours:
        await ours.read([5])

    assert kept(store)["client_endpoint"] == "https://portal.example/rest/"
    assert kept(store)["server_endpoint"].startswith("https://portal.example")


async def test_given_an_answer_without_endpoints_or_lifetime_when_refreshed_then_the_known_ones_stay(
    portal: SandboxPortal, clock: FakeClock, store: PortalStore
) -> None:
    inner = SandboxTransport(portal)

    class Terse(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            response = await inner.handle_async_request(request)
            if request.url.path != "/oauth/token/":
                return response
            body = json.loads(await response.aread())
            return httpx.Response(200, json={name: body[name] for name in ("access_token", "refresh_token")})

    clock.advance(3600)
    async with client(Terse(), clock, store=store, oauth=OAUTH) as ours:
        assert await ours.read([5]) == {5: DEAL}

    assert kept(store)["client_endpoint"] == "https://portal.example/rest/"
    assert kept(store)["expires_at"] == clock.now() + 3600


async def test_given_the_portal_redirects_to_a_new_address_when_used_then_it_is_kept_with_the_pair(
    portal: SandboxPortal, clock: FakeClock, store: PortalStore
) -> None:
    inner = SandboxTransport(portal)
    seen: list[str] = []

    class Moving(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            seen.append(request.url.host)
            if request.url.host == "portal.example":
                return httpx.Response(302, headers={"Location": str(request.url.copy_with(host="new.portal.example"))})
            return await inner.handle_async_request(request)

    for _ in range(2):
        async with client(Moving(), clock, store=store, oauth=OAUTH) as ours:
            assert await ours.read([5]) == {5: DEAL}

    assert seen == ["portal.example", "new.portal.example", "new.portal.example"]
    assert kept(store)["client_endpoint"] == "https://new.portal.example/rest/"


async def test_given_tokens_of_another_portal_when_refreshed_then_they_are_refused(
    portal: SandboxPortal, clock: FakeClock, store: PortalStore
) -> None:
    portal.oauth.application.member_id = "another"
    clock.advance(3600)
    async with client(portal, clock, store=store, oauth=OAUTH) as ours:
        with pytest.raises(AuthError, match="another portal"):
            await ours.read([5])


async def test_given_an_answer_without_member_id_but_of_another_address_when_refreshed_then_it_is_refused(
    portal: SandboxPortal, clock: FakeClock, store: PortalStore
) -> None:
    portal.oauth.application.member_id = ""
    portal.oauth.application.client_endpoint = "https://other.example/rest/"
    before = dict(kept(store))
    clock.advance(3600)
    async with client(portal, clock, store=store, oauth=OAUTH) as ours:
        with pytest.raises(AuthError, match="another portal"):
            await ours.read([5])

    assert kept(store) == before


@pytest.mark.parametrize(
    "answer",
    [
        ("", "https://other.example/rest/", "other.example, not portal.example"),
        ("another", "https://other.example/rest/", "other.example, not portal.example"),
        ("another", "https://portal.example/rest/", "not the one this link was made for"),
    ],
)
async def test_given_a_code_of_another_portal_when_authorising_then_nothing_is_stored(
    portal: SandboxPortal, clock: FakeClock, tmp_path: Path, answer: tuple[str, str, str]
) -> None:
    known, endpoint, named = answer
    portal.oauth.application.client_endpoint = endpoint
    store = PortalStore()
    hosts = Hosts(clock, runtime_dir=tmp_path, transport=SandboxTransport(portal))
    walk = Authorisation(SETTINGS, link="shop", hosts=hosts, store=store, member_id=known)

    with pytest.raises(AuthError, match=named) as caught:
        await walk.complete(await code_of(portal, walk.url))
    await walk.aclose()

    assert store.tokens == {}
    assert "syncd auth shop" in caught.value.hint


async def test_given_a_pair_then_it_brings_the_portals_lasting_id(
    portal: SandboxPortal, clock: FakeClock, store: PortalStore
) -> None:
    async with client(portal, clock, store=store, oauth=OAUTH) as ours:
        assert await ours.member_id() == portal.oauth.application.member_id
    async with client(portal, clock, store=PortalStore(), oauth=OAUTH) as ours:
        assert await ours.member_id() == ""


async def test_given_a_portal_that_was_renamed_when_authorising_then_its_member_id_proves_that_it_is_the_same(
    portal: SandboxPortal, clock: FakeClock, tmp_path: Path
) -> None:
    portal.oauth.application.client_endpoint = "https://renamed.example/rest/"
    store = PortalStore()
    hosts = Hosts(clock, runtime_dir=tmp_path, transport=SandboxTransport(portal))
    member = portal.oauth.application.member_id
    walk = Authorisation(SETTINGS, link="shop", hosts=hosts, store=store, member_id=member)
    await walk.complete(await code_of(portal, walk.url))
    await walk.aclose()

    assert kept(store)["client_endpoint"] == "https://renamed.example/rest/"


@pytest.mark.parametrize(
    "server",
    [
        "evil.example",
        "https://oauth.bitrix.info.evil.example",
        "http://portal.example",
        "http://[::1",
        "x.bitrix24.com",
    ],
)
async def test_given_an_address_that_names_a_strange_authorisation_server_then_it_is_not_given_the_secret(
    portal: SandboxPortal, clock: FakeClock, tmp_path: Path, server: str
) -> None:
    seen: list[tuple[str, str]] = []
    hosts = Hosts(clock, runtime_dir=tmp_path, transport=spy(portal, seen))
    store = PortalStore()
    walk = Authorisation(SETTINGS, link="shop", hosts=hosts, store=store)

    with pytest.raises(UsageError, match="nothing was sent or stored") as caught:
        await walk.complete("a-code", server)
    await walk.aclose()

    assert seen == []
    assert store.tokens == {}
    assert "oauth.server" in caught.value.hint


async def test_given_an_address_that_names_the_vendors_other_server_then_the_code_is_exchanged_there(
    portal: SandboxPortal, clock: FakeClock, tmp_path: Path
) -> None:
    seen: list[tuple[str, str]] = []
    hosts = Hosts(clock, runtime_dir=tmp_path, transport=spy(portal, seen))
    walk = Authorisation(SETTINGS, link="shop", hosts=hosts, store=PortalStore())
    await walk.complete(await code_of(portal, walk.url), "oauth.bitrix24.tech")
    await walk.aclose()

    assert [url for url, _ in seen] == ["https://oauth.bitrix24.tech/oauth/token/"]


class Away(httpx.AsyncBaseTransport):
    """Some hosts cannot be reached; the portal answers at all others."""

    def __init__(self, portal: SandboxPortal, *hosts: str) -> None:
        self.hosts = set(hosts)
        self.seen: list[str] = []
        self._portal = SandboxTransport(portal)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(f"{request.url.host}{request.url.path}")
        if request.url.host in self.hosts:
            raise httpx.ConnectError("no such host", request=request)
        return await self._portal.handle_async_request(request)


class TakenOver(Away):
    """Another portal refuses at the configured address. Once it has done so, the hosts can be reached again."""

    def __init__(self, portal: SandboxPortal, *hosts: str, refusal: httpx.Response) -> None:
        super().__init__(portal, *hosts)
        self._refusal = refusal

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.host == "portal.example" and request.url.path.startswith("/rest"):
            self.hosts.clear()
            return self._refusal
        return await super().handle_async_request(request)


async def test_given_a_kept_address_that_is_dead_when_used_then_the_configured_one_answers_and_is_kept(
    portal: SandboxPortal, clock: FakeClock, store: PortalStore
) -> None:
    kept(store)["client_endpoint"] = "https://dead.example/rest/"
    behind = Away(portal, "dead.example")
    async with client(behind, clock, store=store, oauth=OAUTH) as ours:
        assert await ours.read([5]) == {5: DEAL}
        assert await ours.read([5]) == {5: DEAL}

    assert behind.seen == ["dead.example/rest/batch", "portal.example/rest/batch", "portal.example/rest/batch"]
    assert kept(store)["client_endpoint"] == "https://portal.example/rest/"


async def test_given_another_portal_at_the_configured_address_while_the_kept_one_is_away_then_no_tokens_are_given_up(
    portal: SandboxPortal, clock: FakeClock, store: PortalStore
) -> None:
    kept(store)["client_endpoint"] = "https://renamed.example/rest/"
    behind = TakenOver(portal, "renamed.example", refusal=httpx.Response(403, json={"error": "user_access_error"}))
    async with client(behind, clock, store=store, oauth=OAUTH) as ours:
        assert await ours.read([5]) == {5: DEAL}

    assert kept(store)["client_endpoint"] == "https://renamed.example/rest/"


async def test_given_another_portal_at_the_configured_address_that_calls_the_tokens_expired_then_they_are_not_renewed(
    portal: SandboxPortal, clock: FakeClock, store: PortalStore
) -> None:
    kept(store)["client_endpoint"] = "https://renamed.example/rest/"
    behind = TakenOver(portal, "renamed.example", refusal=httpx.Response(401, json={"error": "invalid_token"}))
    async with client(behind, clock, store=store, oauth=OAUTH) as ours:
        assert await ours.read([5]) == {5: DEAL}

    assert behind.seen == ["renamed.example/rest/batch", "renamed.example/rest/batch"]
    assert portal.stats.calls[TOKEN] == 1


async def test_given_a_kept_authorisation_server_that_is_dead_when_refreshing_then_the_configured_one_heals_it(
    portal: SandboxPortal, clock: FakeClock, store: PortalStore
) -> None:
    kept(store)["server_endpoint"] = "https://oauth.bitrix24.tech/rest/"
    portal.oauth.application.server_endpoint = ""
    clock.advance(3600)
    async with client(Away(portal, "oauth.bitrix24.tech"), clock, store=store, oauth=OAUTH) as ours:
        assert await ours.read([5]) == {5: DEAL}

    assert kept(store)["server_endpoint"].startswith("https://portal.example")


async def test_given_the_kept_server_is_away_and_the_configured_one_does_not_know_the_pair_then_that_is_not_terminal(
    portal: SandboxPortal, clock: FakeClock, store: PortalStore
) -> None:
    kept(store)["server_endpoint"] = "https://oauth.bitrix24.tech/rest/"
    portal.faults.add(FaultRule(Fault.STATUS, method=TOKEN, status=400, code="invalid_grant"))
    behind = Away(portal, "oauth.bitrix24.tech")
    clock.advance(3600)
    async with client(behind, clock, store=store, oauth=OAUTH) as ours:
        with pytest.raises(UnavailableError, match=r"neither does the configured one, portal\.example"):
            await ours.read([5])
        behind.hosts.clear()
        assert await ours.read([5]) == {5: DEAL}


async def test_given_a_kept_server_that_is_nobodys_when_refreshing_then_it_is_not_given_the_secret(
    portal: SandboxPortal, clock: FakeClock, store: PortalStore
) -> None:
    kept(store)["server_endpoint"] = "https://evil.example/rest/"
    portal.oauth.application.server_endpoint = "https://evil.example/rest/"
    behind = Away(portal)
    clock.advance(3600)
    async with client(behind, clock, store=store, oauth=OAUTH) as ours:
        await ours.read([5])

    assert behind.seen[0] == "portal.example/oauth/token/"
    assert "evil" not in kept(store)["server_endpoint"]


async def test_given_a_code_that_is_over_when_authorising_then_the_hint_is_to_be_quick(
    portal: SandboxPortal, clock: FakeClock, tmp_path: Path
) -> None:
    store = PortalStore()
    hosts = Hosts(clock, runtime_dir=tmp_path, transport=SandboxTransport(portal))
    walk = Authorisation(SETTINGS, link="shop", hosts=hosts, store=store)
    code = await code_of(portal, walk.url)
    clock.advance(31)

    with pytest.raises(AuthError, match="30 seconds"):
        await walk.complete(code, "portal.example")
    await walk.aclose()

    assert store.tokens == {}


async def test_given_a_sandbox_on_loopback_when_authorising_then_it_plays_the_authorisation_server(
    tmp_path: Path,
) -> None:
    from syncd.obs.clock import SystemClock

    portal = SandboxPortal({5: DEAL})
    store = PortalStore()
    async with SandboxServer(portal) as server:
        oauth = OAuthSettings(
            portal=server.url, client_id="local.sandbox", client_secret=SecretStr("sandboxclientsecret")
        )
        settings = PortalSettings(oauth=oauth)
        hosts = Hosts(SystemClock(), runtime_dir=tmp_path)
        walk = Authorisation(settings, link="shop", hosts=hosts, store=store)
        await walk.complete(await code_of(portal, walk.url))
        ours = open_portal(settings, link="shop", hosts=hosts, store=store)
        assert await ours.read([5]) == {5: DEAL}
        await ours.aclose()
        await walk.aclose()


async def test_given_a_pair_when_shown_then_no_token_is_in_it(
    portal: SandboxPortal, clock: FakeClock, tmp_path: Path
) -> None:
    hosts = Hosts(clock, runtime_dir=tmp_path, transport=SandboxTransport(portal))
    store = PortalStore()
    walk = Authorisation(SETTINGS, link="shop", hosts=hosts, store=store)
    token = await walk.complete(await code_of(portal, walk.url), "portal.example")
    await walk.aclose()

    assert kept(store)["access_token"] not in repr(token)
    assert kept(store)["refresh_token"] not in repr(token)


async def test_given_no_state_database_when_opened_then_the_sentence_says_that_it_is_needed(
    clock: FakeClock, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="state database"):
        open_portal(SETTINGS, link="shop", hosts=Hosts(clock, runtime_dir=tmp_path))


def test_given_settings_when_a_budget_is_kept_then_its_key_names_the_credentials_without_their_secret() -> None:
    assert budget_key(SETTINGS) == KEY
    by_webhook = budget_key(PortalSettings(webhook=SecretStr(WEBHOOK)))
    assert by_webhook.startswith("portal.example/1/")
    assert "sandboxsecret" not in by_webhook


async def test_given_a_webhook_when_authorising_then_the_sentence_says_that_it_needs_none(
    clock: FakeClock, tmp_path: Path
) -> None:
    settings = PortalSettings(webhook=SecretStr(WEBHOOK))
    with pytest.raises(ConfigError, match="needs no authorisation"):
        Authorisation(settings, link="shop", hosts=Hosts(clock, runtime_dir=tmp_path), store=PortalStore())


async def test_given_files_that_were_not_read_when_opened_then_the_error_names_what_is_missing(
    clock: FakeClock, tmp_path: Path
) -> None:
    hosts = Hosts(clock, runtime_dir=tmp_path)
    with pytest.raises(ConfigError, match="no webhook"):
        open_portal(PortalSettings(webhook_file="x"), link="shop", hosts=hosts)
    oauth = OAuthSettings(portal="https://portal.example", client_id="x", client_secret_file="y")
    with pytest.raises(ConfigError, match="no client_secret"):
        open_portal(PortalSettings(oauth=oauth), link="shop", hosts=hosts, store=PortalStore())
