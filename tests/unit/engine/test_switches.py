"""The tests of the engine can fail: each of its rules is switched off in turn, and what passed with it breaks.

The table is in `switches/`, a row a rule. What a program can count (guards, limits, functions that refuse or hold, kinds
of hold) is held against it, so that a new rule without a row fails here. `make mutation` changes every other condition.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

import syncd.core
import syncd.engine
from syncd import errors
from syncd.core.guards import GuardLimits
from syncd.core.model import HoldKind, Side
from tests.simulation.switch import Guard, Off, Played, Switch, Test, Together, refusals
from tests.unit.engine.switches import (
    of_adapters,
    of_decisions,
    of_guards,
    of_leases,
    of_order_keys,
    of_portions,
    of_refusals,
    of_second_looks,
    of_stored_plans,
    of_writing,
)

TABLES = (
    of_guards,
    of_decisions,
    of_second_looks,
    of_writing,
    of_leases,
    of_stored_plans,
    of_refusals,
    of_portions,
    of_adapters,
    of_order_keys,
)
SWITCHES: list[Switch] = [switch for table in TABLES for switch in table.SWITCHES]

PARTS = {
    "syncd.core.guards": {"_side", "_beyond"},
    "syncd.engine.plan_draft": {"Holds.hold"},
    "syncd.engine.run": {"Run.points_elsewhere"},
    "syncd.engine.outcomes": {"OutcomeRecorder._in_doubt"},
}
"""Functions that put a refusal or a hold into words or values; the rule is the function that asks them. `_side` is one
of guards, and each guard has rows of its own."""

SIZES = {
    "syncd.core.pacing:FIRST_SHARE",
    "syncd.core.pacing:LONG",
    "syncd.core.pacing:SMALLEST_SHARE",
    "syncd.core.order_keys:LONGEST_KEY",
    "syncd.core.order_keys:_FORMER",
    "syncd.core.ports:OPERATING_LIMIT",
    "syncd.engine.learned_keys:ASKED_AT_ONCE",
    "syncd.engine.learned_keys:REMEMBERED",
    "syncd.engine.observe:LIMIT",
    "syncd.engine.observe:SEGMENT",
    "syncd.engine.observe:PAGE",
    "syncd.engine.formatting:SHOWN_RANGES",
    "syncd.engine.covering:ASKED_FOR",
    "syncd.core.model:LARGEST_ID",
    "syncd.core.order_ranges:FEW",
    "syncd.core.order_ranges:LARGEST_ID",
    "syncd.core.order_ranges:NARROW",
    "syncd.engine.covering:LARGEST_ID",
    "syncd.engine.plan_draft:BLOCK",
    "syncd.engine.plan_draft:SORTED",
    "syncd.engine.report:REPORTED",
    "syncd.engine.run:REPORTED",
    "syncd.engine.stored_plans:PAGE",
    "syncd.engine.observe:WITNESSES",
    "syncd.engine.recover:CHUNK",
    "syncd.engine.state_check:_SEGMENT",
    "syncd.engine.observation_record:CONFIRM",
    "syncd.engine.write_queue:CRM_ORDERS",
    "syncd.engine.write_queue:TABLE_ORDERS",
    "syncd.engine.verify:PAGE",
    "syncd.engine.write_queue:CRM_BATCH",
    "syncd.engine.write_queue:TABLE_BATCH",
}
"""Numbers that decide how much is done at a time, or are a fact of the portal, and nothing else."""

NOT_DECIDING = {
    *(f"syncd.core.{name}" for name in ("ports", "records", "store")),
    "syncd.engine.formatting",
}
"""Protocols, values and words. All other modules, new ones as well, decide what is written, held or refused: each of their
functions is mutated, or has a row."""

PAGE = Path(__file__).parents[3] / "docs" / "mutation.md"


@pytest.mark.parametrize("switch", SWITCHES, ids=lambda switch: switch.rule)
def test_given_a_rule_switched_off_then_what_passes_with_it_fails(
    switch: Switch, monkeypatch: pytest.MonkeyPatch
) -> None:
    for test in switch.caught_by:
        _passes(test)
    switch.off.flip(monkeypatch)
    for test in switch.caught_by:
        with pytest.raises((AssertionError, errors.SyncdError, pytest.fail.Exception)):
            test()


@cache
def _passes(test: Test) -> None:
    """Run a test with every rule in force, once for all rows that name it."""
    test()


def test_every_guard_that_knows_a_side_is_switched_off_on_each() -> None:
    named = {field.name for field in dataclasses.fields(GuardLimits)} - {"second_look_above"}
    _, function = next(one for one in _functions("syncd.core.guards") if one[0] == "_side")
    for one in ast.walk(function):
        if isinstance(one, ast.Constant) and isinstance(one.value, str) and one.value.startswith(("max_", "empty_")):
            named.add(one.value)
    switched = {(off.name, off.side) for switch in SWITCHES for off in _parts(switch.off) if isinstance(off, Guard)}
    assert switched == {(name, side) for name in named for side in Side}


def test_every_function_that_refuses_or_holds_is_switched_off() -> None:
    unknown = set()
    for module in _modules():
        for name, function in _functions(module):
            if refusals(function) and name not in PARTS.get(module, ()):
                unknown.add(f"{module}:{name}")
    assert unknown - _switched() == set()


def test_every_limit_is_switched_off() -> None:
    limits = set()
    for module in _modules():
        for name, value in vars(importlib.import_module(module)).items():
            if name.isupper() and type(value) in {int, float}:
                limits.add(f"{module}:{name}")
    switched = {place.rpartition(":")[2] for place in _switched()}
    assert {place for place in limits - SIZES if place.rpartition(":")[2] not in switched} == set()


def test_every_function_that_decides_is_mutated_or_switched_off() -> None:
    """A new function: run `make mutation PART=` with its module, kill what survives, and name it in docs/mutation.md."""
    mutated = _mutated()
    modules = set(_modules())
    deciding = {f"{module}:{name}" for module in modules - NOT_DECIDING for name, _ in _functions(module)}
    assert deciding - mutated - _switched() == set()
    assert modules >= NOT_DECIDING
    there = {f"{module}:{name}" for module in _modules() for name, _ in _functions(module)}
    assert mutated - there == set(), "docs/mutation.md names functions that are not there any more"


def test_every_kind_of_hold_is_missed_where_its_rule_is_off() -> None:
    scenarios = [test.scenario for switch in SWITCHES for test in switch.caught_by if isinstance(test, Played)]
    held = {line.words[-1] for scenario in scenarios for line in scenario.lines if "held" in line.words}
    # Scenarios know order ids only; what keys of the shop's own lead to has rows of its own in `of_order_keys`.
    assert held == {kind.value for kind in HoldKind} - {HoldKind.AMBIGUOUS_KEY.value}


def test_the_parts_and_sizes_that_need_no_row_are_there() -> None:
    for module, names in PARTS.items():
        assert names <= {name for name, _ in _functions(module)}, module
    for place in SIZES:
        assert pkgutil.resolve_name(place)


def _mutated() -> set[str]:
    """Return the functions that docs/mutation.md names as mutated to the end."""
    section = PAGE.read_text(encoding="utf-8").partition("## Mutated to the end")[2].partition("\n## ")[0]
    found: set[str] = set()
    for item in re.split(r"^- ", section, flags=re.MULTILINE)[1:]:
        path, *names = re.findall(r"`([^`]+)`", item)
        found |= {f"syncd.{path.removesuffix('.py').replace('/', '.')}:{name}" for name in names}
    return found


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
