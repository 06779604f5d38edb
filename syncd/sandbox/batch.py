"""`batch`: up to fifty commands in one request, strictly in order (bitrix24-rest.md 6)."""

from __future__ import annotations

import re
from collections.abc import Generator

from syncd.sandbox.answers import Answer, Refusal, Version
from syncd.sandbox.exchange import Done, Exchange, Pause, Running
from syncd.sandbox.execution import admit_by_budget, count_call, refused, run_call, slowness, strike, timing_of
from syncd.sandbox.faults import BATCH
from syncd.sandbox.machine import Machine
from syncd.sandbox.php import PhpArray, parse_query, to_bool
from syncd.sandbox.references import resolve

BATCH_SIZE = 50
_FORBIDDEN = ("download", "upload", BATCH)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def run_batch(machine: Machine, exchange: Exchange, params: PhpArray) -> Running:
    """Execute a batch that has passed authentication: HTTP 200 whatever fails inside.

    Args:
        machine: The portal.
        exchange: The request it belongs to.
        params: As sent; `cmd` and `halt` in any case.
    """
    arguments = {str(name).lower(): value for name, value in params.items()}
    commands = arguments.get("cmd")
    try:
        admit_by_budget(machine, exchange, BATCH)
        rules = count_call(machine, exchange, BATCH, None)
        strike(rules, "before")
        yield from exchange.work(slowness(rules))
        parts: dict[str, PhpArray] = {"result": {}, "next": {}, "total": {}, "time": {}, "error": {}}
        if isinstance(commands, dict):
            yield from _run_commands(machine, exchange, commands, parts, halt=to_bool(arguments.get("halt")))
        strike(rules, "after")
    except Refusal as refusal:
        return Done(refusal)
    result = {
        "result": parts["result"],
        "result_error": parts["error"],
        "result_total": parts["total"],
        "result_next": parts["next"],
        "result_time": parts["time"],
    }
    processing = machine.clock.now() - exchange.started
    return Done(Answer(result), timing_of(machine, exchange, BATCH, started=exchange.started, processing=processing))


def _run_commands(
    machine: Machine, exchange: Exchange, commands: PhpArray, parts: dict[str, PhpArray], *, halt: bool
) -> Generator[Pause, None, None]:
    """Execute the commands and gather their answers in `parts`, until an error if `halt` is on."""
    for position, (key, command) in enumerate(commands.items()):
        if position >= BATCH_SIZE:
            done = refused("ERROR_BATCH_LENGTH_EXCEEDED", "Max batch length exceeded")
        elif isinstance(command, str):
            done = yield from _run_command(machine, exchange, key, command, parts)
        else:
            continue
        failed = isinstance(done.outcome, Refusal)
        if not done.lost:
            for name, value in done.parts(machine.version).items():
                parts[name][key] = value
        if failed and halt:
            return


def _run_command(
    machine: Machine, exchange: Exchange, key: int | str, command: str, parts: dict[str, PhpArray]
) -> Running:
    path, _, query = _CONTROL.sub("_", command).partition("#")[0].partition("?")
    name = path.lower()
    params = parse_query(query, machine.max_input_vars)
    if "$" in query or "%24" in query:
        params = resolve(params, parts)
    if name == BATCH and machine.version is Version.OLD:
        return (yield from run_batch(machine, exchange, params))
    if name in _FORBIDDEN:
        return refused("ERROR_BATCH_METHOD_NOT_ALLOWED", "Method is not allowed for batch usage")
    return (yield from run_call(machine, exchange, name, params, key=key))
