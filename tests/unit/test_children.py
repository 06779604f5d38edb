"""No test waits for a child without a limit."""

from __future__ import annotations

import ast
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.children import Child

TESTS = Path(__file__).parents[1]
STARTS = {f"subprocess.{name}" for name in ("Popen", "run", "call", "check_call", "check_output")}
SOURCES = sorted(path for path in TESTS.rglob("*.py") if path != TESTS / "children.py")


def test_given_a_child_that_never_ends_when_its_time_is_over_then_whoever_reads_it_reads_the_end() -> None:
    with Child([sys.executable, "-c", "import time; time.sleep(600)"], limit=0.2, stdout=-1) as child:
        assert child.stdout is not None
        assert child.stdout.read() == ""

    assert child.returncode == -signal.SIGKILL


def test_given_the_modules_of_the_tests_then_each_child_they_start_has_a_limit() -> None:
    without = []
    for path in SOURCES:
        for call in _calls_of_subprocess(path.read_text()):
            limited = "timeout" in {word.arg for word in call.keywords}
            if ast.unparse(call.func) == "subprocess.Popen" or not limited:
                without.append(f"{path.relative_to(TESTS)}:{call.lineno}: {ast.unparse(call.func)}")

    assert without == [], "give it a timeout, or start a tests.children.Child"


def _calls_of_subprocess(source: str) -> Iterator[ast.Call]:
    """Yield the calls that start a child, or wait for one."""
    for node in ast.walk(ast.parse(source)) if "subprocess." in source else ():
        if isinstance(node, ast.Call) and ast.unparse(node.func) in STARTS:
            yield node
