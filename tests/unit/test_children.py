"""Every child that a test starts has a limit."""

from __future__ import annotations

import ast
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.children import Child

TESTS = Path(__file__).parents[1]
STARTS = {
    *(f"subprocess.{name}" for name in ("Popen", "run", "call", "check_call", "check_output")),
    *("os.system", "os.popen"),
}
SOURCES = sorted(path for path in TESTS.rglob("*.py") if path != TESTS / "children.py")


def test_given_a_child_that_never_ends_when_its_time_is_over_then_a_reader_of_its_output_sees_the_end() -> None:
    with Child([sys.executable, "-c", "import time; time.sleep(600)"], limit=0.2, stdout=-1) as child:
        assert child.stdout is not None
        assert child.stdout.read() == ""

    assert child.returncode == -signal.SIGKILL


def test_given_the_modules_of_the_tests_then_each_child_they_start_has_a_limit() -> None:
    without = [
        f"{path.relative_to(TESTS)}:{call}" for path in SOURCES for call in _started_without_a_limit(path.read_text())
    ]

    assert without == [], "give it a timeout, or start a tests.children.Child"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("subprocess.run(command, timeout=60)", []),
        ("subprocess.run(command)", ["1: subprocess.run"]),
        ("subprocess.Popen(command, timeout=60)", ["1: subprocess.Popen"]),
        ("def start():\n    return subprocess.check_output(command)", ["2: subprocess.check_output"]),
        ("from subprocess import run", ["1: from subprocess import run"]),
        ("os.system(command)", ["1: os.system"]),
        ("Child(command, limit=60)", []),
    ],
)
def test_given_a_call_that_starts_a_child_then_it_is_found_unless_it_has_a_limit(source: str, found: list[str]) -> None:
    assert list(_started_without_a_limit(source)) == found


def _started_without_a_limit(source: str) -> Iterator[str]:
    """Yield the places that start a child without a limit, or import what would hide that."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module == "subprocess":
            hidden = [name.name for name in node.names if f"subprocess.{name.name}" in STARTS]
            if hidden:
                yield f"{node.lineno}: from subprocess import {', '.join(hidden)}"
        elif isinstance(node, ast.Call) and (name := ast.unparse(node.func)) in STARTS - _limits_of(node):
            yield f"{node.lineno}: {name}"


def _limits_of(call: ast.Call) -> set[str]:
    """Return the functions that a `timeout` limits, if the call has one. `Popen` takes it, and waits all the same."""
    return STARTS - {"subprocess.Popen"} if "timeout" in {word.arg for word in call.keywords} else set()
