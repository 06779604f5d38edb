"""An HTTP request from the network's edge to its response: limits, faults, routing, authentication, envelope."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from syncd.sandbox.answers import Refusal, SandboxRequest, SandboxResponse
from syncd.sandbox.batch import run_batch
from syncd.sandbox.catalogue import call_name, find_method
from syncd.sandbox.damage import damage_response, html, instead_of_answer
from syncd.sandbox.exchange import Done, Exchange, Pause, Running, WallReached
from syncd.sandbox.execution import refused, run_call
from syncd.sandbox.faults import BATCH, Fault, FaultRule
from syncd.sandbox.machine import Machine
from syncd.sandbox.method import Actor
from syncd.sandbox.oauth import endpoint_of
from syncd.sandbox.parsing import Route, bearer_of, parameters, route_of
from syncd.sandbox.php import PhpArray, to_int
from syncd.sandbox.phpjson import encode

_HEADERS = (
    ("Content-Type", "application/json; charset=utf-8"),
    ("Access-Control-Allow-Origin", "*"),
    ("X-Content-Type-Options", "nosniff"),
)
_WRONG_ENCODING = b'{"error":"WRONG_ENCODING","error_description":"Wrong request encoding"}'

Steps = Generator[Pause, None, SandboxResponse]


def pass_edge(machine: Machine, exchange: Exchange) -> Steps:
    """Answer a request that arrives: the bucket and the faults come before and after all else."""
    request = exchange.request
    if endpoint_of(request.path) is None and not machine.buckets.admit(request.client, machine.clock.monotonic()):
        machine.stats.refused += 1
        return _json(503, {"error": "QUERY_LIMIT_EXCEEDED", "error_description": "Too many requests"})
    rules = machine.faults.for_request(exchange.number, _names(machine, request)) if machine.faults else []
    for rule in rules:
        if rule.when == "before":
            if rule.action is Fault.DELAY:
                yield Pause(rule.seconds)
            if rule.action is Fault.ZOMBIE:
                machine.late.append((machine.clock.now() + rule.seconds, exchange))
            instead = instead_of_answer(rule)
            if instead is not None:
                return instead
    response = yield from answer(machine, exchange)
    for rule in rules:
        if rule.action is Fault.OVERTAKEN or (rule.action is Fault.DELAY and rule.when == "after"):
            yield Pause(rule.seconds, until_overtaken=rule.action is Fault.OVERTAKEN)
        elif _damages(rule):
            response = damage_response(response, rule)
    return response


def _damages(rule: FaultRule) -> bool:
    return rule.when == "after" or rule.action in (Fault.TRUNCATE, Fault.OVERSIZE, Fault.CONTENT_TYPE)


def _names(machine: Machine, request: SandboxRequest) -> list[str]:
    """Return the lower-case method names in a request, the batch's own included."""
    route = route_of(request.path)
    if route is None:
        return [endpoint_of(request.path) or ""]
    name = route.method.lower()
    commands = parameters(request, machine.max_input_vars).get("cmd") if name == BATCH else None
    return [name, *map(call_name, commands.values())] if isinstance(commands, dict) else [name]


def answer(machine: Machine, exchange: Exchange) -> Steps:
    """Execute a request that was let in and return its response."""
    try:
        yield from exchange.work(machine.latencies.request)
        return (yield from _dispatch(machine, exchange))
    except WallReached:
        return html(504, "Gateway Time-out")
    finally:
        if exchange.actor is not None:
            machine.operating.settle(exchange.actor.key, exchange.spending, exchange.started)


def _dispatch(machine: Machine, exchange: Exchange) -> Steps:
    path = exchange.request.path
    endpoint, route = endpoint_of(path), route_of(path)
    if endpoint is not None:
        machine.stats.calls[endpoint] += 1
        return machine.oauth.respond(endpoint, exchange.request)
    if route is None:
        return html(404, "Not Found")
    done = yield from _run(machine, exchange, route)
    if isinstance(done.outcome, Refusal):
        return _json(done.outcome.status, done.outcome.body(machine.version))
    return _json(200, done.parts(machine.version))


def _run(machine: Machine, exchange: Exchange, route: Route) -> Running:
    """Resolve the method, then authenticate, then execute (bitrix24-rest.md 1.4)."""
    name = route.method.lower()
    if name != BATCH and find_method(name) is None:
        return refused("ERROR_METHOD_NOT_FOUND", "Method not found!", 404)
    params = parameters(exchange.request, machine.max_input_vars)
    try:
        exchange.actor = _authenticate(machine, exchange.request, route, params)
    except Refusal as refusal:
        return Done(refusal)
    if name == BATCH:
        return (yield from run_batch(machine, exchange, params))
    if exchange.request.method not in ("GET", "POST"):
        return refused("invalid_http_method", "Wrong method for current action")
    return (yield from run_call(machine, exchange, name, params))


def _authenticate(machine: Machine, request: SandboxRequest, route: Route, params: PhpArray) -> Actor:
    if route.code is None:
        return machine.oauth.actor_of(bearer_of(request, params))
    if machine.require_https and not request.secure:
        raise Refusal("INVALID_REQUEST", "Https required.")
    if route.code != machine.code or route.user is None or not _is_id(route.user, machine.user_id):
        raise Refusal("INVALID_CREDENTIALS", "Invalid request credentials", machine.auth_status)
    if not machine.user_active:
        raise Refusal("authorization_error", "Unable to authorize user", 401)
    return Actor("webhook", machine.scope)


def _is_id(text: str, user_id: int) -> bool:
    return text.isascii() and text.isdigit() and to_int(text) == user_id


def _json(status: int, body: Any) -> SandboxResponse:
    try:
        raw = encode(body).encode()
    except UnicodeEncodeError:
        status, raw = 200, _WRONG_ENCODING
    return SandboxResponse(status, _HEADERS, raw)
