"""Every test that docs/guarantees.md names is there: a promise whose test was renamed or removed is found here."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from syncd.core.guards import (
    REVERTS_PERCENT,
    SMALL,
    SMALL_ADDS,
    SMALL_MOVES,
    SMALL_MOVES_PER_DAY,
    SMALL_REMOVES,
    SMALL_REMOVES_PER_DAY,
    GuardLimits,
)

ROOT = Path(__file__).parents[2]
NAMED = sorted(
    set(
        re.findall(
            r"`((?:tests/)?[\w/*-]*(?:test_[\w*]+|\w[\w*-]*\.scenario|(?<=tests/)[\w/*]+)(?:\.py|\.scenario)?)`",
            (ROOT / "docs/guarantees.md").read_text(),
        )
    )
)


@cache
def functions() -> set[str]:
    """The names of all test functions there are."""
    sources = (path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    return {name for source in sources for name in re.findall(r"^(?:async )?def (test_\w+)", source, re.MULTILINE)}


def is_there(name: str) -> bool:
    """Given a test as the page names it, return whether it exists; `*` stands for anything."""
    if name.endswith((".py", ".scenario")):
        return any(ROOT.glob(name) if "/" in name else (ROOT / "tests").rglob(name))
    return name in functions() or (ROOT / name).exists()


def test_the_page_names_tests_of_every_form() -> None:
    assert len(NAMED) > 30
    assert {Path(name).suffix for name in NAMED} >= {"", ".py", ".scenario"}


@pytest.mark.parametrize("name", NAMED)
def test_given_a_promise_then_the_test_it_names_is_there(name: str) -> None:
    assert is_there(name), f"docs/guarantees.md names {name}"


@pytest.mark.parametrize("name", ["test_that_is_nowhere", "tests/unit/test_nowhere.py", "no-such-*.scenario"])
def test_given_a_name_that_is_nowhere_then_it_is_noticed(name: str) -> None:
    assert not is_there(name)


def test_given_the_default_guards_then_the_page_tells_their_sizes() -> None:
    page = " ".join((ROOT / "docs/guarantees.md").read_text().split())
    limits = GuardLimits()
    small = f"{SMALL_REMOVES} removals, {SMALL_MOVES} moves and {SMALL_ADDS} adds in a pass"
    moves = f"{limits.max_moves_percent} % of the bindings or {limits.max_moves:,} in a pass"
    removals = f"{limits.max_removes} and {limits.max_removes_percent} % of the bindings in a pass"
    for size in (
        f"{limits.second_look_above} removals in a pass. More of them wait",
        f"at most {removals}, {limits.max_removes_per_day} and {limits.max_removes_percent_per_day} % in 24 hours",
        f"{moves}, {limits.max_moves_percent_per_day} % in 24 hours",
        f"{limits.max_reverts} orders, or {REVERTS_PERCENT} % of the bindings where that is more, in 24 hours",
        f"fewer than {SMALL} bindings | {small}; {SMALL_REMOVES_PER_DAY} removals and {SMALL_MOVES_PER_DAY} moves in 24 hours",
    ):
        assert size in page
