"""The tests of the engine can fail: each of its rules is switched off in turn, and what passed with it breaks.

The table stands in `switches/`, a row a rule. What can be counted by a machine (guards, limits, refusals, holds, the
functions that decide) is held against it, so that a new rule without a row fails here.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import FunctionType
from typing import Any

import pytest

import syncd.core
import syncd.engine
from syncd import errors
from syncd.core.guards import GuardLimits
from syncd.core.model import HoldKind, Side
from tests.simulation.switch import Guard, Off, Played, Switch, Together
from tests.unit.engine.switches import (
    of_adapters,
    of_decisions,
    of_guards,
    of_leases,
    of_refusals,
    of_second_looks,
    of_stored_plans,
    of_writing,
)

TABLES = (of_guards, of_decisions, of_second_looks, of_writing, of_leases, of_stored_plans, of_refusals, of_adapters)
SWITCHES: list[Switch] = [switch for table in TABLES for switch in table.SWITCHES]

DECIDING = (
    "syncd.core.guards",
    "syncd.core.policy",
    "syncd.engine.recover",
    "syncd.engine.stored",
    "syncd.engine.verify",
)
"""Modules whose every function is a rule, but for those of `PARTS`."""

PARTS = {
    "syncd.core.guards": {"_side", "_percent", "_count", "_of_both_sides", "sentence"},
    "syncd.core.policy": {"action_between", "write", "_outside", "_outside_detail"},
    "syncd.engine.holding": {"uncertain", "undone"},
    "syncd.engine.recover": {"_Healer.__init__"},
    "syncd.engine.verify": {"Draft.wait", "Draft.hold", "_text"},
    "syncd.engine.ledger": {"Ledger.hold", "Ledger._overwritten"},
    "syncd.engine.stored": {"plan_anew"},
}
"""Functions that put a rule into words or values; the rule is the function that asks them. `_side` is one of guards,
and each guard has rows of its own."""

SIZES = {
    "syncd.core.ports:OPERATING_LIMIT",
    "syncd.engine.observe:SEGMENT",
    "syncd.engine.observe:WITNESSES",
    "syncd.engine.recover:CHUNK",
    "syncd.engine.run:CONFIRM",
    "syncd.engine.sides:TABLE_BATCH",
}
"""Numbers that decide how much is done at a time, or are a fact of the portal, and nothing else."""


@pytest.mark.parametrize("switch", SWITCHES, ids=lambda switch: switch.rule)
def test_given_a_rule_switched_off_then_what_passes_with_it_fails(
    switch: Switch, monkeypatch: pytest.MonkeyPatch
) -> None:
    for test in switch.caught_by:
        test()
    switch.off.flip(monkeypatch)
    for test in switch.caught_by:
        with pytest.raises((AssertionError, errors.SyncdError, pytest.fail.Exception)):
            test()


def test_every_guard_that_knows_a_side_is_switched_off_on_each() -> None:
    named = {field.name for field in dataclasses.fields(GuardLimits)}
    for call in _calls("syncd.core.guards", "_side"):
        if _called(call) == "GuardHit" and isinstance(call.args[0], ast.Constant):
            named.add(call.args[0].value)
    switched = {(off.name, off.side) for switch in SWITCHES for off in _parts(switch.off) if isinstance(off, Guard)}
    assert switched == {(name, side) for name in named for side in Side}


def test_every_function_that_refuses_or_holds_is_switched_off() -> None:
    unknown = set()
    for module in _modules():
        for name, function in _functions(module):
            refuses = {_called(one.exc) for one in ast.walk(function) if isinstance(one, ast.Raise)} & _ERRORS
            makes = {_called(one) for one in ast.walk(function)} & {"GuardHit", "Hold", "hold"}
            if (refuses or makes) and name not in PARTS.get(module, ()):
                unknown.add(f"{module}:{name}")
    assert unknown - _switched() == set()


def test_every_function_of_the_deciding_modules_is_switched_off() -> None:
    functions = {
        f"{module}:{name}" for module in DECIDING for name, _ in _functions(module) if name not in PARTS.get(module, ())
    }
    assert functions - _switched() == set()


def test_every_limit_is_switched_off() -> None:
    limits = set()
    for module in _modules():
        for name, value in vars(importlib.import_module(module)).items():
            if name.isupper() and isinstance(value, int | float):
                limits.add(f"{module}:{name}")
    switched = {place.rpartition(":")[2] for place in _switched()}
    assert {place for place in limits - SIZES if place.rpartition(":")[2] not in switched} == set()


def test_every_kind_of_hold_is_missed_where_its_rule_is_off() -> None:
    scenarios = [test.scenario for switch in SWITCHES for test in switch.caught_by if isinstance(test, Played)]
    held = {line.words[-1] for scenario in scenarios for line in scenario.lines if "held" in line.words}
    assert held == {kind.value for kind in HoldKind}


def test_the_parts_and_sizes_that_need_no_row_are_there() -> None:
    for module, names in PARTS.items():
        assert names <= {name for name, _ in _functions(module)}, module
    for place in SIZES:
        assert pkgutil.resolve_name(place)


_ERRORS = {
    name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, errors.SyncdError)
}


def _modules() -> Iterator[str]:
    for package in (syncd.core, syncd.engine):
        for module in pkgutil.iter_modules(package.__path__):
            yield f"{package.__name__}.{module.name}"


def _functions(module: str) -> Iterator[tuple[str, ast.AST]]:
    """Yield the functions and methods of a module by their names, as `find` knows them."""
    tree = ast.parse(inspect.getsource(importlib.import_module(module)))
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef):
                    yield f"{node.name}.{inner.name}", inner


def _calls(module: str, name: str) -> Iterator[ast.Call]:
    function = dict(_functions(module))[name]
    return (one for one in ast.walk(function) if isinstance(one, ast.Call))


def _called(node: ast.AST | None) -> str:
    """Given a call, return the last part of the name that is called."""
    if not isinstance(node, ast.Call):
        return ""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _parts(off: Off) -> list[Any]:
    return [*_parts(off.first), *_parts(off.second)] if isinstance(off, Together) else [off]


def _switched() -> set[str]:
    """Return the places of the table; a function by the name it was defined under, wherever it is called from."""
    places = set()
    for off in (part for switch in SWITCHES for part in _parts(switch.off)):
        found = pkgutil.resolve_name(off.where)
        found = inspect.unwrap(found) if callable(found) else found
        places.add(f"{found.__module__}:{found.__qualname__}" if isinstance(found, FunctionType) else off.where)
    return places
