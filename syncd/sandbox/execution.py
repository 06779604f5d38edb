"""One call executed, with what it costs and what strikes it."""

from __future__ import annotations

from syncd.sandbox.answers import Refusal
from syncd.sandbox.catalogue import find_method
from syncd.sandbox.damage import damage_answer
from syncd.sandbox.exchange import Done, Exchange, Running
from syncd.sandbox.faults import BATCH, Fault, FaultRule
from syncd.sandbox.machine import Machine
from syncd.sandbox.method import Actor, Call, Method
from syncd.sandbox.parsing import without_reserved
from syncd.sandbox.php import PhpArray
from syncd.sandbox.timing import Timing


def refused(code: int | str, text: str = "", status: int = 400) -> Done:
    """Return a call that ends in this refusal."""
    return Done(Refusal(code, text, status))


def run_call(
    machine: Machine, exchange: Exchange, name: str, params: PhpArray, *, key: int | str | None = None
) -> Running:
    """Execute one call that has passed authentication.

    Args:
        machine: The portal.
        exchange: The request it belongs to.
        name: The method's lower-case name.
        params: As sent.
        key: The batch key; None outside a batch.
    """
    method = find_method(name)
    actor = exchange.actor
    assert actor is not None
    if method is None:
        return refused("ERROR_METHOD_NOT_FOUND", "Method not found!", 404)
    rules = count_call(machine, exchange, name, key)
    started = machine.clock.now() if key is not None else exchange.started
    began = machine.clock.now()
    lost = any(rule.action is Fault.LOSE_KEY for rule in rules)
    seconds = 0.0
    try:
        _admit(machine, exchange, method, actor, name, in_batch=key is not None)
        machine.announce(name, params, exchange.number)
        strike(rules, "before")
        seconds = getattr(machine.latencies, method.cost) + slowness(rules)
        yield from exchange.work(seconds)
        answer = method.run(Call(machine, without_reserved(params), exchange.number, actor, exchange.delivered))
        more = machine.latencies.count * answer.counted + machine.latencies.scan * answer.walked / 1000
        if more:
            yield from exchange.work(more)
            seconds += more
        strike(rules, "after")
        damage_answer(answer, rules, machine.last_page)
    except Refusal as refusal:
        return Done(refusal, lost=lost)
    finally:
        machine.stats.method_seconds[name] += seconds
        exchange.spending.spend(BATCH if machine.limits.batch_billed and key is not None else name, seconds)
    return Done(
        answer, timing_of(machine, exchange, name, started=started, processing=machine.clock.now() - began), lost=lost
    )


def count_call(machine: Machine, exchange: Exchange, name: str, key: int | str | None) -> list[FaultRule]:
    """Count a call and return the faults that strike it."""
    machine.stats.calls[name] += 1
    if not machine.faults:
        return []
    return machine.faults.for_call(exchange.number, machine.stats.calls[name], name, key)


def _admit(machine: Machine, exchange: Exchange, method: Method, actor: Actor, name: str, *, in_batch: bool) -> None:
    if method.scope and method.scope not in actor.scope:
        text = "" if in_batch else "The request requires higher privileges than provided by the access token"
        raise Refusal("insufficient_scope", text, machine.auth_status)
    admit_by_budget(machine, exchange, name)
    if method.app_only and not actor.is_application:
        raise Refusal("WRONG_AUTH_TYPE", "Current authorization type is denied for this method", 403)


def admit_by_budget(machine: Machine, exchange: Exchange, name: str) -> None:
    """Refuse a method whose operating time is used up (bitrix24-rest.md 9.2)."""
    assert exchange.actor is not None
    if machine.operating.blocked(exchange.actor.key, name, exchange.spending, machine.clock.now()):
        machine.stats.refused += 1
        raise Refusal("OPERATION_TIME_LIMIT", "Method is blocked due to operation time limit.", 429)


def strike(rules: list[FaultRule], when: str) -> None:
    """Refuse a call as the rules have it, before or after its effect."""
    for rule in rules:
        if rule.action is Fault.ERROR and rule.when == when:
            raise Refusal(rule.code, rule.text, rule.status or 400)


def slowness(rules: list[FaultRule]) -> float:
    """Return how many seconds longer the rules make a call take."""
    return sum(rule.seconds for rule in rules if rule.action is Fault.SLOW)


def timing_of(machine: Machine, exchange: Exchange, name: str, *, started: float, processing: float) -> Timing:
    """Return the `time` of a call that ends now."""
    now = machine.clock.now()
    operating = None
    if machine.operating.active:
        assert exchange.actor is not None
        key = exchange.actor.key
        operating = (
            machine.operating.used(key, name, exchange.spending, now),
            machine.operating.reset_at(key, name, exchange.started),
        )
    return Timing(machine.version, started, now, processing, operating)
