"""How a command ends: one exit code, and sentences that say what happened and what to do."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

from syncd.cli.screen import GAP, Block, Line
from syncd.errors import ConfigError, SyncdError

UNEXPECTED = 1
USAGE = 64
INTERRUPTED = 130

SERIOUS = (1, 78, 77, 69, 75, 4, 5, 3, 2, 0)
"""Exit codes from the most to the least serious: over several links, a command ends with the most serious one."""


def most_serious(codes: Iterable[int]) -> int:
    """Given the exit codes of several links, return the one to end with; codes of signals come before all others."""
    return min(codes, key=lambda code: SERIOUS.index(code) if code in SERIOUS else -1, default=0)


def describe(error: SyncdError, *, about: str = "") -> Iterator[Block]:
    """Given an error, yield what the operator reads: what happened, every problem, and what to do next.

    Args:
        error: The error.
        about: The link it belongs to, where a command works on several.
    """
    yield Line(f"Error: {f'{about}: ' if about else ''}{error.message}", "bad")
    if isinstance(error, ConfigError):
        for problem in error.problems:
            yield Line(f"- {problem}", indent=2)
    if error.hint:
        yield Line(f"Hint: {error.hint}")


def output_lost(reason: str, code: int) -> Iterator[Block]:
    """Given why standard output could not be written and the command's exit code, yield the sentence that says so."""
    work = "The command did its work" if not code else f"The command ended with {code}"
    yield Line(f"Error: standard output could not be written: {reason}. {work}; its output is lost.", "bad")


def unexpected(error: BaseException, *, debug: bool) -> Iterator[Block]:
    """Given an unexpected error, yield the sentence that says so; with `debug`, where it came from too."""
    if debug:
        import traceback

        for line in "".join(traceback.format_exception(error)).splitlines():
            yield Line(line)
        yield GAP
    where = "" if debug else " `--log-level debug` shows where; please report it."
    yield Line(f"Error: unexpected {type(error).__name__}: {str(error).rstrip('. ')}. This is a bug.{where}", "bad")


def show(blocks: Iterable[Block]) -> None:
    """Print blocks on stderr."""
    from syncd.cli.screen import Screen

    Screen(sys.stderr).show(blocks)
