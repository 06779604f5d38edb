"""docs/reference/log-events.md lists what the code logs: every event, its level and its keys."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs/reference/log-events.md"
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
BOUND = {"exc_info"}


class Event(NamedTuple):
    level: str
    keys: frozenset[str]
    more: bool = False
    """Whether the call also passes keys that only show when it runs (`**`)."""


@cache
def _logged() -> dict[str, set[Event]]:
    """What the code logs with a literal name, by name."""
    found: dict[str, set[Event]] = defaultdict(set)
    for call in _calls():
        keys = frozenset(keyword.arg for keyword in call.keywords if keyword.arg) - BOUND
        assert isinstance(call.func, ast.Attribute)
        assert isinstance(call.args[0], ast.Constant)
        level = {"exception": "error"}.get(call.func.attr, call.func.attr)
        name = call.args[0].value
        assert isinstance(name, str)
        found[name].add(Event(level, keys, more=any(keyword.arg is None for keyword in call.keywords)))
    return found


@cache
def _calls() -> list[ast.Call]:
    return list(_found_calls())


def _found_calls() -> Iterator[ast.Call]:
    for path in (ROOT / "syncd").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and isinstance(node.func.value, ast.Name)
                and (node.func.value.id, node.func.attr in LEVELS) == ("log", True)
            ):
                yield node


def _documented() -> dict[str, Event]:
    rows = re.findall(r"^\| `([^`]+)` \| (\w+) \|([^|]*)\| .+ \|$", PAGE.read_text(), re.MULTILINE)
    return {name: Event(level, frozenset(re.findall(r"`(\w+)`", keys))) for name, level, keys in rows}


def test_given_the_page_then_it_lists_every_event_and_no_other() -> None:
    assert set(_documented()) == set(_logged())


@pytest.mark.parametrize("name", sorted(_documented()))
def test_given_an_event_then_its_level_and_keys_are_as_documented(name: str) -> None:
    documented = _documented()[name]
    logged = _logged()[name]
    keys = frozenset[str]().union(*(event.keys for event in logged))
    assert {event.level for event in logged} == {documented.level}
    assert keys <= documented.keys
    assert keys == documented.keys or any(event.more for event in logged)


def test_given_a_name_then_it_is_a_phrase_and_carries_no_value() -> None:
    for call in _calls():
        assert isinstance(call.args[0], ast.Constant), ast.unparse(call)
        assert len(call.args) == 1, ast.unparse(call)
