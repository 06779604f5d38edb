"""Calls and batches executed, with their costs, limits and faults (portal.md 6, 9).

The fault `race` edits an order inside the very request that is about to write it, which is what conditional writes are
for. The edit falls at a random moment of a call, by the call's documented time. A call is taken to read or write within
its first hundredth of a second and to spend the rest in handlers (portal.md 6.6: the rest of the window, which includes
the inside of one `add`, is milliseconds).
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Sequence
from typing import Any

from syncd.sandbox.calls import Call, CallOutcome, Exchange, Method, Running, Timing, Wait
from syncd.sandbox.data import DEAL, PortalData
from syncd.sandbox.faults import BATCH, Fault, FaultRule, damage_answer
from syncd.sandbox.limits import Latencies
from syncd.sandbox.methods import find_method
from syncd.sandbox.oauth import Caller
from syncd.sandbox.php import PhpArray, parse_query, to_bool, to_int
from syncd.sandbox.requests import Answer, Refusal, Version, parameters, resolve, route_of, without_reserved

BATCH_SIZE = 50
FIRST_OWNER = 10**8
"""The first deal that the fault `race` binds an order to; each edit takes the next one."""
EFFECT_SECONDS = 0.01
"""Seconds from the start of a call within which it has read or written its data."""

_DOCUMENTED = Latencies.documented()
_FORBIDDEN = ("download", "upload", BATCH)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_ORDER = re.compile(r"(?:0\.0*)?([1-9][0-9]*)(?:e1\$|\Z)")
"""An order id in a write or in a condition: plain, or as a conditional bind writes it (portal.md 6.6)."""
_WRITES = ("crm.orderentity.add", "crm.orderentity.deletebyfilter")


def refused(code: int | str, text: str = "", status: int = 400) -> CallOutcome:
    """Return the outcome of a refused call."""
    return CallOutcome(Refusal(code, text, status))


def run_call(
    portal: PortalData, exchange: Exchange, name: str, params: PhpArray, *, key: int | str | None = None
) -> Running:
    """Execute one call that has passed authentication.

    Args:
        portal: The portal.
        exchange: The request it belongs to.
        name: The method's lower-case name.
        params: As sent.
        key: The batch key; None outside a batch.
    """
    method = find_method(name)
    caller = exchange.caller
    assert caller is not None
    if method is None:
        return refused("ERROR_METHOD_NOT_FOUND", "Method not found!", 404)
    rules = _count_call(portal, exchange, name, key)
    started = portal.clock.now() if key is not None else exchange.started
    began = portal.clock.now()
    lost = any(rule.action is Fault.LOSE_KEY for rule in rules)
    seconds = 0.0
    early, late = (rules, []) if _is_early(portal, rules, getattr(_DOCUMENTED, method.cost)) else ([], rules)
    try:
        _admit(portal, exchange, method, caller, name, in_batch=key is not None)
        portal.run_hooks(name, params, exchange.number)
        _raise_error_fault(rules, "before")
        seconds = getattr(portal.latencies, method.cost) + _extra_seconds(rules)
        yield from exchange.work(seconds)
        _race(portal, exchange, early)
        answer = method.run(Call(portal, without_reserved(params), exchange.number, caller, exchange.delivered))
        more = portal.latencies.count * answer.counted + portal.latencies.scan * answer.walked / 1000
        if more:
            yield from exchange.work(more)
            seconds += more
        _race(portal, exchange, late)
        _raise_error_fault(rules, "after")
        damage_answer(answer, rules, portal.last_page)
    except Refusal as refusal:
        return CallOutcome(refusal, lost=lost)
    finally:
        portal.stats.method_seconds[name] += seconds
        billed = BATCH if portal.limits.batch_billed and key is not None else name
        exchange.spending.spend(billed, seconds)
    return CallOutcome(
        answer, _timing_of(portal, exchange, billed, started=started, processing=portal.clock.now() - began), lost=lost
    )


def _count_call(portal: PortalData, exchange: Exchange, name: str, key: int | str | None) -> list[FaultRule]:
    """Count a call and return the fault rules that hit it."""
    portal.stats.calls[name] += 1
    if not portal.faults:
        return []
    method = find_method(name)
    seconds = 0.0 if method is None else getattr(_DOCUMENTED, method.cost)
    return portal.faults.for_call(exchange.number, portal.stats.calls[name], name, key, seconds)


def _admit(
    portal: PortalData, exchange: Exchange, method: Method, caller: Caller, name: str, *, in_batch: bool
) -> None:
    if method.scope and method.scope not in caller.scope:
        text = "" if in_batch else "The request requires higher privileges than provided by the access token"
        raise Refusal("insufficient_scope", text, portal.auth_status)
    _admit_by_budget(portal, exchange, name)
    if method.app_only and not caller.is_application:
        raise Refusal("WRONG_AUTH_TYPE", "Current authorization type is denied for this method", 403)


def _admit_by_budget(portal: PortalData, exchange: Exchange, name: str) -> None:
    """Refuse a method whose operating time is used up (portal.md 9.2)."""
    assert exchange.caller is not None
    if portal.operating.blocked(exchange.caller.key, name, exchange.spending, portal.clock.now()):
        portal.stats.refused += 1
        raise Refusal("OPERATION_TIME_LIMIT", "Method is blocked due to operation time limit.", 429)


def _raise_error_fault(rules: list[FaultRule], when: str) -> None:
    """Raise the refusal of the first `error` rule for this moment: `before` or `after` the effect."""
    for rule in rules:
        if rule.action is Fault.ERROR and rule.when == when:
            raise Refusal(rule.code, rule.text, rule.status or 400)


def _extra_seconds(rules: list[FaultRule]) -> float:
    """Return the seconds that `slow` rules add to a call."""
    return sum(rule.seconds for rule in rules if rule.action is Fault.SLOW)


def _timing_of(portal: PortalData, exchange: Exchange, name: str, *, started: float, processing: float) -> Timing:
    """Return the `time` of a call that ends now."""
    now = portal.clock.now()
    operating = None
    if portal.operating.active:
        assert exchange.caller is not None
        key = exchange.caller.key
        operating = (
            portal.operating.used(key, name, exchange.spending, now),
            portal.operating.reset_at(key, name, exchange.started),
        )
    return Timing(portal.version, started, now, processing, operating)


# ---------------------------------------------------------------------- batches


def run_batch(portal: PortalData, exchange: Exchange, params: PhpArray) -> Running:
    """Execute a batch that has passed authentication: HTTP 200 whatever fails inside.

    Args:
        portal: The portal.
        exchange: The request it belongs to.
        params: As sent; `cmd` and `halt` in any case.
    """
    arguments = {str(name).lower(): value for name, value in params.items()}
    commands = arguments.get("cmd")
    try:
        _admit_by_budget(portal, exchange, BATCH)
        rules = _count_call(portal, exchange, BATCH, None)
        _raise_error_fault(rules, "before")
        yield from exchange.work(_extra_seconds(rules))
        parts: dict[str, PhpArray] = {"result": {}, "next": {}, "total": {}, "time": {}, "error": {}}
        if isinstance(commands, dict):
            yield from _run_commands(portal, exchange, commands, parts, halt=to_bool(arguments.get("halt")))
        _raise_error_fault(rules, "after")
    except Refusal as refusal:
        return CallOutcome(refusal)
    result = {
        "result": parts["result"],
        "result_error": parts["error"],
        "result_total": parts["total"],
        "result_next": parts["next"],
        "result_time": parts["time"],
    }
    processing = portal.clock.now() - exchange.started
    return CallOutcome(
        Answer(result), _timing_of(portal, exchange, BATCH, started=exchange.started, processing=processing)
    )


def _run_commands(
    portal: PortalData, exchange: Exchange, commands: PhpArray, parts: dict[str, PhpArray], *, halt: bool
) -> Generator[Wait, None, None]:
    """Execute the commands and gather their answers in `parts`, until an error if `halt` is on."""
    for position, (key, command) in enumerate(commands.items()):
        if position >= BATCH_SIZE:
            done = refused("ERROR_BATCH_LENGTH_EXCEEDED", "Max batch length exceeded")
        elif isinstance(command, str):
            done = yield from _run_command(portal, exchange, key, command, parts)
        else:
            continue
        failed = isinstance(done.outcome, Refusal)
        if not done.lost:
            for name, value in done.parts(portal.version).items():
                parts[name][key] = value
        if failed and halt:
            return


def _run_command(
    portal: PortalData, exchange: Exchange, key: int | str, command: str, parts: dict[str, PhpArray]
) -> Running:
    path, _, query = _CONTROL.sub("_", command).partition("#")[0].partition("?")
    name = path.lower()
    params = parse_query(query, portal.max_input_vars)
    if "$" in query or "%24" in query:
        params = resolve(params, parts, portal.references)
    if name == BATCH and portal.version is Version.OLD:
        return (yield from run_batch(portal, exchange, params))
    if name in _FORBIDDEN:
        return refused("ERROR_BATCH_METHOD_NOT_ALLOWED", "Method is not allowed for batch usage")
    return (yield from run_call(portal, exchange, name, params, key=key))


# --------------------------------------------------------------- the fault `race`


def _is_early(portal: PortalData, rules: Sequence[FaultRule], seconds: float) -> bool:
    """Draw whether an edit during a call comes before the call's effect. seconds: its duration by the documentation."""
    races = any(rule.action is Fault.RACE for rule in rules)
    return races and portal.faults.chance() * seconds < EFFECT_SECONDS


def _race(portal: PortalData, exchange: Exchange, rules: Sequence[FaultRule]) -> None:
    """Bind an order that the request is about to write to another deal, once for each `race` rule."""
    for rule in rules:
        if rule.action is Fault.RACE:
            orders = sorted(set(_written(portal, exchange)))
            if orders:
                order = orders[int(portal.faults.chance() * len(orders))]
                portal.raced.append((exchange.number, order, FIRST_OWNER + len(portal.raced)))
                portal.bind(order, DEAL, portal.raced[-1][2])


def _written(portal: PortalData, exchange: Exchange) -> Iterator[int]:
    """Yield the orders that a batch is about to write: those in its writes, and those it lists alone as conditions."""
    request = exchange.request
    route = route_of(request.path)
    commands = parameters(request, portal.max_input_vars).get("cmd") if route is not None else None
    if route is None or route.method.lower() != BATCH or not isinstance(commands, dict):
        return
    calls = [command.partition("?") for command in commands.values() if isinstance(command, str)]
    if not any(name.lower() in _WRITES for name, _, _ in calls):
        return
    for name, _, query in calls:
        params = parse_query(query, portal.max_input_vars)
        yield from _named(params.get("fields") if name.lower() in _WRITES else params.get("filter"))


def _named(fields: Any) -> Iterator[int]:
    if not isinstance(fields, dict) or any(str(key)[:1] in "<>" for key in fields):
        return  # a filter with bounds reads a known bound order, which is not written
    for key in ("orderId", "=orderId"):
        named = _ORDER.match(str(fields.get(key)))
        if named is not None and (order := to_int(named[1])) > 0:
            yield order
