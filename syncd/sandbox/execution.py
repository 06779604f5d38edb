"""Calls executed: one by one, or as a batch (bitrix24-rest.md 6)."""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import TYPE_CHECKING

from syncd.sandbox.answers import Answer, Refusal, Version
from syncd.sandbox.catalogue import find_method
from syncd.sandbox.damage import damage_answer
from syncd.sandbox.exchange import Done, Exchange, Pause
from syncd.sandbox.faults import BATCH, Fault, FaultRule
from syncd.sandbox.method import Actor, Call, Method
from syncd.sandbox.parsing import without_reserved
from syncd.sandbox.php import PhpArray, parse_query, to_bool
from syncd.sandbox.references import resolve
from syncd.sandbox.timing import Timing

if TYPE_CHECKING:
    from syncd.sandbox.portal import SandboxPortal

BATCH_SIZE = 50
_FORBIDDEN = ("download", "upload", BATCH)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

Running = Generator[Pause, None, Done]


def run_call(
    portal: SandboxPortal, exchange: Exchange, name: str, params: PhpArray, *, key: int | str | None = None
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
    actor = exchange.actor
    assert actor is not None
    if method is None:
        return Done(Refusal("ERROR_METHOD_NOT_FOUND", "Method not found!", 404))
    rules = _count(portal, exchange, name, key)
    started = portal.clock.now() if key is not None else exchange.started
    began = portal.clock.now()
    lost = any(rule.action is Fault.LOSE_KEY for rule in rules)
    seconds = 0.0
    try:
        _admit(portal, exchange, method, actor, name, in_batch=key is not None)
        portal.announce(name, params, exchange.number)
        _refuse(rules, "before")
        seconds = getattr(portal.latencies, method.cost) + sum(
            rule.seconds for rule in rules if rule.action is Fault.SLOW
        )
        yield from exchange.work(seconds)
        answer = method.run(Call(portal, without_reserved(params), exchange.number, actor, exchange.delivered))
        if answer.counted and portal.latencies.count:
            yield from exchange.work(portal.latencies.count)
            seconds += portal.latencies.count
        _refuse(rules, "after")
        damage_answer(answer, rules, portal.last_page)
    except Refusal as refusal:
        return Done(refusal, lost=lost)
    finally:
        portal.stats.method_seconds[name] += seconds
        exchange.spending.spend(name, seconds)
    return Done(
        answer, _timing(portal, exchange, name, started=started, processing=portal.clock.now() - began), lost=lost
    )


def _count(portal: SandboxPortal, exchange: Exchange, name: str, key: int | str | None) -> list[FaultRule]:
    """Count a call and return the faults that strike it."""
    portal.stats.calls[name] += 1
    if not portal.faults:
        return []
    return portal.faults.for_call(exchange.number, portal.stats.calls[name], name, key)


def _admit(
    portal: SandboxPortal, exchange: Exchange, method: Method, actor: Actor, name: str, *, in_batch: bool
) -> None:
    if method.scope and method.scope not in actor.scope:
        text = "" if in_batch else "The request requires higher privileges than provided by the access token"
        raise Refusal("insufficient_scope", text, portal.auth_status)
    if portal.operating.blocked(actor.key, name, exchange.spending, portal.clock.now()):
        portal.stats.refused += 1
        raise Refusal("OPERATION_TIME_LIMIT", "Method is blocked due to operation time limit.", 429)
    if method.app_only and not actor.is_application:
        raise Refusal("WRONG_AUTH_TYPE", "Current authorization type is denied for this method", 403)


def _refuse(rules: list[FaultRule], when: str) -> None:
    for rule in rules:
        if rule.action is Fault.ERROR and rule.when == when:
            raise Refusal(rule.code, rule.text, rule.status)


def _timing(portal: SandboxPortal, exchange: Exchange, name: str, *, started: float, processing: float) -> Timing:
    now = portal.clock.now()
    operating = None
    if portal.operating.active:
        assert exchange.actor is not None
        key = exchange.actor.key
        operating = (
            portal.operating.used(key, name, exchange.spending, now),
            portal.operating.reset_at(key, name, exchange.started),
        )
    return Timing(portal.version, started, now, processing, operating)


def run_batch(portal: SandboxPortal, exchange: Exchange, params: PhpArray) -> Running:
    """Execute a batch: strictly in order, HTTP 200 whatever fails inside, halting after the first error if asked."""
    rules = _count(portal, exchange, BATCH, None)
    _refuse(rules, "before")
    yield from exchange.work(sum(rule.seconds for rule in rules))
    started = exchange.started
    arguments = {str(name).lower(): value for name, value in params.items()}
    halt = to_bool(arguments.get("halt"))
    commands = arguments.get("cmd")
    parts: dict[str, PhpArray] = {"result": {}, "next": {}, "total": {}, "time": {}, "error": {}}
    if isinstance(commands, dict):
        for position, (key, command) in enumerate(commands.items()):
            if position >= BATCH_SIZE:
                done = Done(Refusal("ERROR_BATCH_LENGTH_EXCEEDED", "Max batch length exceeded"))
            elif isinstance(command, str):
                done = yield from _command(portal, exchange, key, command, parts)
            else:
                continue
            if isinstance(done.outcome, Refusal):
                body = done.outcome.body(portal.version)
                if not done.lost:
                    parts["error"][key] = body
                if halt:
                    break
            elif not done.lost:
                for name, value in done.parts().items():
                    parts[name][key] = value
    _refuse(rules, "after")
    now = portal.clock.now()
    operating = (0.0, int(exchange.started + 600)) if portal.operating.active else None
    result = {
        "result": parts["result"],
        "result_error": parts["error"],
        "result_total": parts["total"],
        "result_next": parts["next"],
        "result_time": parts["time"],
    }
    return Done(Answer(result), Timing(portal.version, started, now, now - started, operating))


def _command(
    portal: SandboxPortal, exchange: Exchange, key: int | str, command: str, parts: dict[str, PhpArray]
) -> Running:
    path, _, query = _CONTROL.sub("_", command).partition("#")[0].partition("?")
    name = path.lower()
    params = parse_query(query, portal.max_input_vars)
    if "$" in query or "%24" in query:
        params = resolve(params, parts)
    if name == BATCH and portal.version is Version.OLD:
        return (yield from run_batch(portal, exchange, params))
    if name in _FORBIDDEN:
        return Done(Refusal("ERROR_BATCH_METHOD_NOT_ALLOWED", "Method is not allowed for batch usage"))
    return (yield from run_call(portal, exchange, name, params, key=key))
