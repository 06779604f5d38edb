"""The sandbox portal: answers HTTP requests as a Bitrix24 portal does, without a socket.

It is deterministic and keeps time by an injected clock. `SandboxServer` serves it on a TCP port; tests call `respond`
through a mock transport. Both see the same bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Mapping
from functools import partial
from typing import Any

from syncd.sandbox.calls import CallOutcome, Exchange, GatewayTimeout, Running, Wait
from syncd.sandbox.data import PortalData
from syncd.sandbox.execution import refused, run_batch, run_call
from syncd.sandbox.faults import BATCH, Fault, FaultRule, damage_response, html, instead_of_answer
from syncd.sandbox.methods import call_name, find_method
from syncd.sandbox.oauth import Caller, endpoint_of
from syncd.sandbox.php import PhpArray, encode, to_int
from syncd.sandbox.requests import Refusal, Route, SandboxRequest, SandboxResponse, bearer_of, parameters, route_of

_HEADERS = (
    ("Content-Type", "application/json; charset=utf-8"),
    ("Access-Control-Allow-Origin", "*"),
    ("X-Content-Type-Options", "nosniff"),
)
_WRONG_ENCODING = b'{"error":"WRONG_ENCODING","error_description":"Wrong request encoding"}'

Steps = Generator[Wait, None, SandboxResponse]


def _serve(portal: PortalData, exchange: Exchange) -> Steps:
    """Answer an arriving request. The request limit comes first, and faults come before and after the answer."""
    request = exchange.request
    if endpoint_of(request.path) is None and not portal.buckets.admit(request.client, portal.clock.monotonic()):
        portal.stats.refused += 1
        return _json(503, {"error": "QUERY_LIMIT_EXCEEDED", "error_description": "Too many requests"})
    rules = portal.faults.for_request(exchange.number, _names(portal, request)) if portal.faults else []
    for rule in rules:
        if rule.when == "before":
            if rule.action is Fault.DELAY:
                yield Wait(rule.seconds)
            if rule.action is Fault.ZOMBIE:
                portal.late.append((portal.clock.now() + rule.seconds, partial(_run_through, portal, exchange)))
            instead = instead_of_answer(rule)
            if instead is not None:
                return instead
    response = yield from _answer(portal, exchange)
    for rule in rules:
        if rule.action is Fault.OVERTAKEN or (rule.action is Fault.DELAY and rule.when == "after"):
            yield Wait(rule.seconds, until_overtaken=rule.action is Fault.OVERTAKEN)
        elif _damages(rule):
            response = damage_response(response, rule)
    return response


def _damages(rule: FaultRule) -> bool:
    return rule.when == "after" or rule.action in (Fault.TRUNCATE, Fault.OVERSIZE, Fault.CONTENT_TYPE)


def _names(portal: PortalData, request: SandboxRequest) -> list[str]:
    """Return the lower-case method names in a request, including `batch` itself."""
    route = route_of(request.path)
    if route is None:
        return [endpoint_of(request.path) or ""]
    name = route.method.lower()
    commands = parameters(request, portal.max_input_vars).get("cmd") if name == BATCH else None
    return [name, *map(call_name, commands.values())] if isinstance(commands, dict) else [name]


def _answer(portal: PortalData, exchange: Exchange) -> Steps:
    """Execute an admitted request and return its response."""
    try:
        yield from exchange.work(portal.latencies.request)
        return (yield from _dispatch(portal, exchange))
    except GatewayTimeout:
        return html(504, "Gateway Time-out")
    finally:
        if exchange.caller is not None:
            portal.operating.charge(exchange.caller.key, exchange.spending, exchange.started)


def _run_through(portal: PortalData, exchange: Exchange) -> None:
    """Execute a request whose client is gone, without waiting."""
    for _ in _answer(portal, exchange):
        pass


def _dispatch(portal: PortalData, exchange: Exchange) -> Steps:
    path = exchange.request.path
    endpoint, route = endpoint_of(path), route_of(path)
    if endpoint is not None:
        portal.stats.calls[endpoint] += 1
        return portal.oauth.respond(endpoint, exchange.request)
    if route is None:
        return html(404, "Not Found")
    done = yield from _run(portal, exchange, route)
    if isinstance(done.outcome, Refusal):
        return _json(done.outcome.status, done.outcome.body(portal.version))
    return _json(200, done.parts(portal.version))


def _run(portal: PortalData, exchange: Exchange, route: Route) -> Running:
    """Resolve the method, then authenticate, then execute (portal.md 1.4)."""
    name = route.method.lower()
    if name != BATCH and find_method(name) is None:
        return refused("ERROR_METHOD_NOT_FOUND", "Method not found!", 404)
    params = parameters(exchange.request, portal.max_input_vars)
    try:
        exchange.caller = _authenticate(portal, exchange.request, route, params)
    except Refusal as refusal:
        return CallOutcome(refusal)
    if name == BATCH:
        return (yield from run_batch(portal, exchange, params))
    if exchange.request.method not in ("GET", "POST"):
        return refused("invalid_http_method", "Wrong method for current action")
    return (yield from run_call(portal, exchange, name, params))


def _authenticate(portal: PortalData, request: SandboxRequest, route: Route, params: PhpArray) -> Caller:
    if route.code is None:
        return portal.oauth.caller_of(bearer_of(request, params))
    if portal.require_https and not request.secure:
        raise Refusal("INVALID_REQUEST", "Https required.")
    if route.code != portal.code or route.user is None or not _is_id(route.user, portal.user_id):
        raise Refusal("INVALID_CREDENTIALS", "Invalid request credentials", portal.auth_status)
    if not portal.user_active:
        raise Refusal("authorization_error", "Unable to authorize user", 401)
    return Caller("webhook", portal.scope)


def _is_id(text: str, user_id: int) -> bool:
    return text.isascii() and text.isdigit() and to_int(text) == user_id


def _json(status: int, body: Any) -> SandboxResponse:
    try:
        raw = encode(body).encode()
    except UnicodeEncodeError:
        status, raw = 200, _WRONG_ENCODING
    return SandboxResponse(status, _HEADERS, raw)


class SandboxPortal(PortalData):
    """A Bitrix24 portal for trials and tests. `PortalData` has the arguments, the edits and the hooks."""

    @property
    def webhook_path(self) -> str:
        """The webhook's path, with its secret."""
        return f"/rest/{self.user_id}/{self.code}/"

    async def respond(
        self,
        method: str,
        path: str,
        query: str = "",
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        *,
        client: str = "127.0.0.1",
        secure: bool = False,
    ) -> SandboxResponse:
        """Answer one HTTP request, waiting as long as the portal works.

        Args:
            method: The verb, in capitals.
            path: The URL path, percent-encoded as sent.
            query: The query string, without `?`.
            headers: By name in any case.
            body: Raw.
            client: The source address; each has its own request limit.
            secure: Whether it came over TLS.
        """
        lower = {name.lower(): value for name, value in (headers or {}).items()}
        return await self.answer(SandboxRequest(method, path, query, lower, body, client, secure))

    async def answer(self, request: SandboxRequest) -> SandboxResponse:
        """Answer one HTTP request, waiting as long as the portal works."""
        steps = self.exchange(request)
        while True:
            try:
                with self.lock:
                    wait = next(steps)
            except StopIteration as end:
                for overtaken in self.waiting:
                    overtaken.set()
                response: SandboxResponse = end.value
                return response
            await self._wait(wait)

    async def _wait(self, wait: Wait) -> None:
        if not wait.until_overtaken:
            await self.clock.sleep(wait.seconds)
            return
        event = asyncio.Event()
        self.waiting.append(event)
        overtaken, patience = (
            asyncio.ensure_future(event.wait()),
            asyncio.ensure_future(self.clock.sleep(wait.seconds)),
        )
        try:
            await asyncio.wait({overtaken, patience}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.waiting.remove(event)
            overtaken.cancel()
            patience.cancel()

    def handle(self, request: SandboxRequest) -> SandboxResponse:
        """Answer one HTTP request at once, without any waiting."""
        steps = self.exchange(request)
        with self.lock:
            while True:
                try:
                    next(steps)
                except StopIteration as end:
                    response: SandboxResponse = end.value
                    return response

    def exchange(self, request: SandboxRequest) -> Steps:
        """Answer one HTTP request step by step; see `syncd.sandbox.calls`."""
        self.execute_late()
        self.stats.requests += 1
        exchange = Exchange(self.stats.requests, request, self.clock.now(), wall=self.limits.wall)
        return (yield from _serve(self, exchange))
