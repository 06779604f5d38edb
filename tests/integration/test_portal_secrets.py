"""No secret in a log, an error, its causes, a repr, or a traceback with locals."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

import syncd
from syncd.config.urls import parse_webhook
from syncd.core.model import Owner
from syncd.core.ports import Write
from syncd.errors import SyncdError
from syncd.portal.client import BitrixPortal
from syncd.portal.hosts import Hosts
from syncd.sandbox import Fault, FaultRule, SandboxPortal, SandboxServer
from tests.fakes.clock import FakeClock
from tests.fakes.portal_client import CODE, OAUTH, WEBHOOK, PortalStore, client, listed

pytestmark = pytest.mark.anyio

TOKENS = {
    "access_token": "accesssecret0123456789",
    "refresh_token": "refreshsecret0123456789",
    "expires_at": 1.0,
    "client_endpoint": "https://portal.example/rest/",
    "server_endpoint": "https://oauth.example/rest/",
    "member_id": "m",
}
PACKAGE = Path(syncd.__file__).parent
SECRETS = (CODE, "accesssecret0123456789", "refreshsecret0123456789", "sandboxclientsecret")


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error with all that hangs on it."""
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            for one in error.exceptions:
                yield from chain(one)
        error = error.__cause__ or error.__context__


def shown(error: BaseException) -> str:
    """Everything a log, a person or a crash reporter could get to see of an error."""
    parts = []
    for one in chain(error):
        parts += [str(one), repr(one), repr(vars(one)), "".join(traceback.format_exception(one))]
        for frame, _ in traceback.walk_tb(one.__traceback__):
            if Path(frame.f_code.co_filename).is_relative_to(PACKAGE):
                parts.append(repr(frame.f_locals))
    return " ".join(parts)


def fail_with(error: type[httpx.TransportError]) -> Callable[[httpx.Request], httpx.Response]:
    def answer(request: httpx.Request) -> httpx.Response:
        raise error(f"could not reach {request.url}", request=request)

    return answer


def reply(status: int, **options: object) -> Callable[[httpx.Request], httpx.Response]:
    return lambda request: httpx.Response(status, request=request, **options)  # type: ignore[arg-type]


FAILURES: dict[str, Callable[[httpx.Request], httpx.Response]] = {
    "port closed": fail_with(httpx.ConnectError),
    "no answer in time": fail_with(httpx.ReadTimeout),
    "connection cut": fail_with(httpx.RemoteProtocolError),
    "400": reply(400, json={"error": "100", "error_description": f"see {WEBHOOK}"}),
    "401": reply(401, json={"error": "INVALID_CREDENTIALS", "error_description": f"no {WEBHOOK} here"}),
    "401 token": reply(401, json={"error": "expired_token", "error_description": "auth=accesssecret0123456789"}),
    "403 page": reply(403, html="<h1>no</h1>"),
    "429": reply(429, json={"error": "OPERATION_TIME_LIMIT"}),
    "502 page": reply(502, html=f"<h1>{WEBHOOK}</h1>"),
    "html with 200": reply(200, html=f"<h1>{WEBHOOK}</h1>"),
    "not json": reply(200, text=WEBHOOK),
    "redirect": reply(302, headers={"Location": "https://elsewhere.example/"}),
}
ACTS: dict[str, Callable[[BitrixPortal], Awaitable[object]]] = {
    "listing": listed,
    "reading": lambda portal: portal.read([5]),
    "writing": lambda portal: portal.write([Write(5, None, Owner(2, 10))]),
    "probing": lambda portal: portal.probe(),
}


@pytest.mark.parametrize("answer", FAILURES.values(), ids=FAILURES.keys())
@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS.keys())
@pytest.mark.parametrize("way", ["webhook", "oauth"])
async def test_given_any_failure_when_it_is_shown_then_no_secret_is_in_it(
    answer: Callable[[httpx.Request], httpx.Response],
    act: Callable[[BitrixPortal], Awaitable[object]],
    way: str,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    store = PortalStore(tokens={"portal.example/local.sandbox": dict(TOKENS)})
    settings: dict[str, Any] = {"oauth": OAUTH} if way == "oauth" else {}
    seen = ""
    async with client(answer, FakeClock(), store=store, **settings) as ours:
        try:
            seen = repr(await act(ours))
        except SyncdError as error:
            seen = shown(error)
        seen += repr(ours) + repr(vars(ours)) + repr(ours.usage())
    captured = capsys.readouterr()

    everything = seen + caplog.text + captured.out + captured.err
    assert not [secret for secret in SECRETS if secret in everything]


async def test_given_debug_logging_when_requests_are_made_over_tcp_then_the_secret_is_in_no_record(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("httpx", "httpcore", "httpcore.http11", "httpcore.connection"):
        caplog.set_level(logging.NOTSET, logger=name)
    portal = SandboxPortal({5: Owner(2, 10)})
    portal.faults.add(FaultRule(Fault.STATUS, status=503, code="QUERY_LIMIT_EXCEEDED"))
    portal.faults.add(FaultRule(Fault.TRUNCATE, skip=1))
    async with SandboxServer(portal) as server:
        clock = FakeClock()
        hosts = Hosts(clock, runtime_dir=tmp_path)
        async with client(portal, clock, hosts=hosts, webhook=SecretStr(server.webhook_url)) as ours:
            assert await ours.read([5]) == {5: Owner(2, 10)}

    assert portal.stats.requests == 3
    assert CODE not in caplog.text
    assert CODE not in "".join(repr(vars(record)) for record in caplog.records)


async def test_given_a_closed_port_when_asked_over_tcp_then_the_sentence_has_the_host_and_not_the_secret(
    tmp_path: Path,
) -> None:
    async with SandboxServer(SandboxPortal()) as server:
        url = server.webhook_url
    clock = FakeClock()
    hosts = Hosts(clock, runtime_dir=tmp_path)
    async with client(SandboxPortal(), clock, hosts=hosts, webhook=SecretStr(url)) as ours:
        with pytest.raises(SyncdError) as caught:
            await ours.read([5])

    assert "127.0.0.1" in caught.value.message
    assert CODE not in shown(caught.value)


def test_given_a_webhook_when_shown_then_its_code_is_not() -> None:
    assert CODE not in repr(parse_webhook(WEBHOOK))
