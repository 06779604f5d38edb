"""Every test that docs/guarantees.md names is there: a promise whose test was renamed or removed is found here."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

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
