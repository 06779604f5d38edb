"""The sandbox portal: one object that answers HTTP requests as a Bitrix24 portal does, without a socket.

A stateful, deterministic machine over an injected clock. `SandboxServer` puts it on a TCP port; tests call `respond`
through a mock transport; both see the same bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Generator, Iterable, Mapping
from typing import Any

from syncd.core.ports import Clock
from syncd.sandbox.answers import Refusal, SandboxRequest, SandboxResponse, Version
from syncd.sandbox.bindings import OwnerPair
from syncd.sandbox.catalogue import call_name, find_method
from syncd.sandbox.contents import Contents
from syncd.sandbox.damage import LastPage, damage_response, html, instead_of_answer
from syncd.sandbox.exchange import Done, Exchange, Pause, WallReached
from syncd.sandbox.execution import run_batch, run_call
from syncd.sandbox.faults import BATCH, Fault, FaultRule, Faults
from syncd.sandbox.limits import Latencies, LeakyBuckets, Limits, OperatingTime
from syncd.sandbox.method import Actor
from syncd.sandbox.oauth import Application, OAuth, endpoint_of
from syncd.sandbox.parsing import Route, bearer_of, parameters, route_of
from syncd.sandbox.php import MAX_INPUT_VARS, PhpArray, to_int
from syncd.sandbox.phpjson import encode

SCOPE = frozenset({"crm", "sale"})
_HEADERS = (
    ("Content-Type", "application/json; charset=utf-8"),
    ("Access-Control-Allow-Origin", "*"),
    ("X-Content-Type-Options", "nosniff"),
)
_WRONG_ENCODING = b'{"error":"WRONG_ENCODING","error_description":"Wrong request encoding"}'

Steps = Generator[Pause, None, SandboxResponse]


class SandboxPortal(Contents):
    """A Bitrix24 portal to try things on.

    Args:
        bindings: order id → (owner type id, owner id), or triples (order id, owner type id, owner id).
        orders: Orders that exist besides the bound ones; a range or frozenset is not copied.
        code: The webhook's secret.
        user_id: The webhook's user.
        version: Which portal is played.
        sale_right: The user's right in the sale module: `W` reads and writes, any other reads, `D` does neither.
        scope: Of the webhook.
        latencies: How long the portal works; not at all by default.
        limits: The request and operating limits; None has none, as a box.
        faults: What goes wrong; rules can be added later.
        application: The OAuth application whose tokens are taken beside the webhook.
        owners: The owners that exist; None: all do but `missing_owners`.
        require_https: Refuse webhooks over plain http, as a real portal does.
        minus_one_is_everything: `start=-1` answers every row, as a sentence of the documentation has it.
        unstable_ties: Rows of equal owner id come in another order with every other query.
        auth_status: The HTTP status of failed authentication, 401 by source, 403 by documentation.
        max_input_vars: PHP's limit on form and query parameters.
        clock: Time and waiting; the machine's by default.
    """

    def __init__(
        self,
        bindings: Mapping[int, OwnerPair] | Iterable[tuple[int, int, int]] = (),
        *,
        orders: Iterable[int] | None = None,
        code: str = "sandboxsecret",
        user_id: int = 1,
        version: Version = Version.NEW,
        sale_right: str = "W",
        scope: frozenset[str] = SCOPE,
        latencies: Latencies | None = None,
        limits: Limits | None = None,
        faults: Faults | None = None,
        application: Application | None = None,
        owners: Collection[OwnerPair] | None = None,
        require_https: bool = False,
        minus_one_is_everything: bool = False,
        unstable_ties: bool = False,
        auth_status: int = 401,
        max_input_vars: int = MAX_INPUT_VARS,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(
            bindings,
            orders=orders,
            owners=owners,
            version=version,
            sale_right=sale_right,
            user_id=user_id,
            minus_one_is_everything=minus_one_is_everything,
            unstable_ties=unstable_ties,
            clock=clock,
        )
        self.code = code
        self.scope = scope
        self.latencies = latencies or Latencies()
        self.limits = limits or Limits.box()
        self.faults = faults if faults is not None else Faults()
        self.require_https = require_https
        self.auth_status = auth_status
        self.max_input_vars = max_input_vars
        self.user_active = True
        self.oauth = OAuth(application or Application(), user_id, self.clock)
        self.buckets = LeakyBuckets(self.limits)
        self.operating = OperatingTime(self.limits)
        self.last_page = LastPage([])
        self._late: list[tuple[float, SandboxRequest]] = []
        self._settling = False
        self._overtaken: list[asyncio.Event] = []

    @property
    def webhook_path(self) -> str:
        """The webhook's path, with its secret."""
        return f"/rest/{self.user_id}/{self.code}/"

    # ---------------------------------------------------------------- front doors

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
            client: The source address, which the request limit is counted by.
            secure: Whether it came over TLS.
        """
        lower = {name.lower(): value for name, value in (headers or {}).items()}
        return await self.drive(self.exchange(SandboxRequest(method, path, query, lower, body, client, secure)))

    async def drive(self, steps: Steps, pause: Pause | None = None) -> SandboxResponse:
        """Take an exchange to its end, waiting where it waits; first for `pause` if it has begun already."""
        while True:
            if pause is not None:
                await self._wait(pause)
            try:
                with self.lock:
                    pause = next(steps)
            except StopIteration as end:
                self.answered()
                response: SandboxResponse = end.value
                return response

    def answered(self) -> None:
        """A request has been answered: those that were to be overtaken may go."""
        for event in self._overtaken:
            event.set()

    async def _wait(self, pause: Pause) -> None:
        if not pause.until_overtaken:
            await self.clock.sleep(pause.seconds)
            return
        event = asyncio.Event()
        self._overtaken.append(event)
        overtaken, patience = (
            asyncio.ensure_future(event.wait()),
            asyncio.ensure_future(self.clock.sleep(pause.seconds)),
        )
        try:
            await asyncio.wait({overtaken, patience}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._overtaken.remove(event)
            overtaken.cancel()
            patience.cancel()

    def handle(self, request: SandboxRequest) -> SandboxResponse:
        """Answer one HTTP request at once, without waiting for anything."""
        steps = self.exchange(request)
        with self.lock:
            while True:
                try:
                    next(steps)
                except StopIteration as end:
                    response: SandboxResponse = end.value
                    return response

    # ------------------------------------------------------------------- exchange

    def settle(self) -> None:
        """Execute the requests whose connection was dropped earlier and whose time has come."""
        if self._settling or not self._late:
            return
        self._settling = True
        try:
            now = self.clock.now()
            due = [request for at, request in self._late if at <= now]
            self._late = [(at, request) for at, request in self._late if at > now]
            for request in due:
                for _ in self._answer(self._open(request)):
                    pass
        finally:
            self._settling = False

    def exchange(self, request: SandboxRequest) -> Steps:
        """Answer one HTTP request step by step; see `syncd.sandbox.exchange`."""
        self.settle()
        exchange = self._open(request)
        if endpoint_of(request.path) is None and not self.buckets.admit(request.client, self.clock.monotonic()):
            self.stats.refused += 1
            return _json(503, {"error": "QUERY_LIMIT_EXCEEDED", "error_description": "Too many requests"})
        rules = self.faults.for_request(exchange.number, self._names(request)) if self.faults else []
        for rule in rules:
            if rule.when == "before":
                if rule.action is Fault.DELAY:
                    yield Pause(rule.seconds)
                if rule.action is Fault.ZOMBIE:
                    self._late.append((self.clock.now() + rule.seconds, request))
                instead = instead_of_answer(rule)
                if instead is not None:
                    return instead
        response = yield from self._answer(exchange)
        for rule in rules:
            if rule.action is Fault.OVERTAKEN or (rule.action is Fault.DELAY and rule.when == "after"):
                yield Pause(rule.seconds, until_overtaken=rule.action is Fault.OVERTAKEN)
            else:
                response = damage_response(response, rule) if _damages(rule) else response
        return response

    def _open(self, request: SandboxRequest) -> Exchange:
        self.stats.requests += 1
        return Exchange(self.stats.requests, request, self.clock.now(), wall=self.limits.wall)

    def _names(self, request: SandboxRequest) -> list[str]:
        """Return the lower-case method names in a request, the batch's own included."""
        route = route_of(request.path)
        if route is None:
            return [endpoint_of(request.path) or ""]
        name = route.method.lower()
        commands = parameters(request, self.max_input_vars).get("cmd") if name == BATCH else None
        return [name, *map(call_name, commands.values())] if isinstance(commands, dict) else [name]

    def _answer(self, exchange: Exchange) -> Steps:
        """Execute a request and return its response."""
        request = exchange.request
        endpoint, route = endpoint_of(request.path), route_of(request.path)
        if endpoint is not None:
            self.stats.calls[endpoint] += 1
            yield from exchange.work(self.latencies.request)
            return self.oauth.respond(endpoint, request)
        if route is None:
            return html(404, "Not Found")
        try:
            yield from exchange.work(self.latencies.request)
            done = yield from self._route(exchange, route)
        except WallReached:
            return html(504, "Gateway Time-out")
        finally:
            if exchange.actor is not None:
                self.operating.settle(exchange.actor.key, exchange.spending, exchange.started)
        if isinstance(done.outcome, Refusal):
            return _json(done.outcome.status, done.outcome.body(self.version))
        return _json(200, done.parts())

    def _route(self, exchange: Exchange, route: Route) -> Generator[Pause, None, Done]:
        """Resolve the method, then authenticate, then execute (bitrix24-rest.md 1.4)."""
        name = route.method.lower()
        if name != BATCH and find_method(name) is None:
            return Done(Refusal("ERROR_METHOD_NOT_FOUND", "Method not found!", 404))
        params = parameters(exchange.request, self.max_input_vars)
        try:
            exchange.actor = self._authenticate(exchange.request, route, params)
            if name == BATCH:
                return (yield from run_batch(self, exchange, params))
        except Refusal as refusal:
            return Done(refusal)
        if exchange.request.method not in ("GET", "POST"):
            return Done(Refusal("invalid_http_method", "Wrong method for current action"))
        return (yield from run_call(self, exchange, name, params))

    def _authenticate(self, request: SandboxRequest, route: Route, params: PhpArray) -> Actor:
        if route.code is None:
            return self.oauth.actor_of(bearer_of(request, params))
        if self.require_https and not request.secure:
            raise Refusal("INVALID_REQUEST", "Https required.")
        if route.code != self.code or route.user is None or not self._is_user(route.user):
            raise Refusal("INVALID_CREDENTIALS", "Invalid request credentials", self.auth_status)
        if not self.user_active:
            raise Refusal("authorization_error", "Unable to authorize user", 401)
        return Actor("webhook", self.scope)

    def _is_user(self, user: str) -> bool:
        return user.isascii() and user.isdigit() and to_int(user) == self.user_id


def _damages(rule: FaultRule) -> bool:
    return rule.when == "after" or rule.action in (Fault.TRUNCATE, Fault.OVERSIZE, Fault.CONTENT_TYPE)


def _json(status: int, body: Any) -> SandboxResponse:
    try:
        raw = encode(body).encode()
    except UnicodeEncodeError:
        status, raw = 200, _WRONG_ENCODING
    return SandboxResponse(status, _HEADERS, raw)
