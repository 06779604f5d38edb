"""Mutants of syncd, each in a fork of one process that has collected the tests: `python -m tests.mutation engine.verify`.

mutmut makes the mutants, asks the type checker, and shows them (`mutmut results`, `mutmut show NAME`). `mutmut run` begins a
pytest of its own for each of them, which takes most of its time; here a fork runs the tests that reach the function, the
ones that noticed other mutants of it first, and ends with the first that fails. A mutant is asked again only while it
survives, or once its function was changed.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from contextlib import redirect_stdout
from fnmatch import fnmatch
from functools import cache
from math import ceil
from pathlib import Path
from typing import TypeAlias

import pytest
from _pytest.runner import runtestprotocol
from mutmut.__main__ import create_mutants
from mutmut.configuration import config
from mutmut.mutation.data import LineSpan, MutantLineSpans, SourceFileMutationData
from mutmut.mutation.trampoline import set_mutant_under_test
from mutmut.state import state
from mutmut.stats import status_by_exit_code
from mutmut.type_checking import run_type_checker
from mutmut.utils.file_utils import (
    change_cwd,
    copy_also_copy_files,
    copy_src_dir,
    setup_source_paths,
    walk_mutatable_files,
)
from mutmut.utils.format_utils import get_mutant_name
from mutmut.utils.format_utils import mangled_name_from_mutant_name as function_of

REACHED = Path("mutants").absolute() / "reached.json"
SURVIVED, KILLED, UNREACHED, UNTRIED, TIMEOUT, REFUSED = 0, 1, 33, 34, 36, 37
"""mutmut's numbers, which `mutmut results` reads; UNTRIED, its "skipped", has passed the type checker."""
OPEN = {SURVIVED, UNREACHED, UNTRIED}
LONGEST = 120
"""Seconds of the clock after which a test that waits for ever is stopped; one that is busy for ever is stopped by its CPU time."""


Mutant: TypeAlias = tuple[SourceFileMutationData, str]
"""A mutant's name, and the file that keeps what became of it."""


class Mutants:
    """A plugin of pytest that runs no tests but those that reach the mutants.

    Args:
        mutants: What is to be tried.
        names: All there are.
    """

    def __init__(self, mutants: list[Mutant], names: set[str]) -> None:
        self._mutants = mutants
        self._all = names
        self._noticed: dict[str, Counter[str]] = defaultdict(Counter)
        """How many mutants of a function or a module each test has noticed, and each file of tests."""

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Find out which test reaches what, then try the mutants."""
        items = {item.nodeid: item for item in session.items}
        reached = _reached(items, sorted({function_of(name) for name in self._all}))
        for file, name in self._mutants:
            function = function_of(name)
            tests = [test for test, (_, functions) in reached.items() if function in functions]
            of_function, of_module = self._noticed[function], self._noticed[function.rpartition(".")[0]]
            tests.sort(
                key=lambda one: (
                    -of_function[one],
                    -of_module[one],
                    -of_module[one.partition("::")[0]],
                    reached[one][0],
                )
            )
            began = time.monotonic()
            code, by = _try(name, [(items[one], reached[one][0]) for one in tests]) if tests else (UNREACHED, "")
            of_function[by] += 1
            of_module.update([by, by.partition("::")[0]])
            file.exit_code_by_key[name] = code
            file.durations_by_key[name] = time.monotonic() - began
            file.save()
            print(f"{status_by_exit_code[code]:<10} {name.removeprefix('syncd.')} {by}", flush=True)
        return True


def _reached(items: dict[str, pytest.Item], functions: list[str]) -> dict[str, tuple[float, list[str]]]:
    """Run the tests that were not run with these functions before; return how long each takes, and what it reaches."""
    kept = json.loads(REACHED.read_text()) if REACHED.exists() else {}
    known = kept["tests"] if kept.get("functions") == functions else {}
    set_mutant_under_test("stats")
    for name in items.keys() - known.keys():
        state()._stats.clear()
        began = time.process_time()
        if _passes(items[name]):
            known[name] = (time.process_time() - began, sorted(state()._stats))
        else:
            print(f"left out, since it fails without a mutant: {name}", flush=True)
    set_mutant_under_test("")
    REACHED.write_text(json.dumps({"functions": functions, "tests": known}))
    return {name: known[name] for name in items if name in known}


def _passes(item: pytest.Item) -> bool:
    return not any(report.failed for report in runtestprotocol(item, log=False, nextitem=None))


def _try(name: str, tests: list[tuple[pytest.Item, float]]) -> tuple[int, str]:
    """Run tests with a mutant in a fork, until one fails; return mutmut's number, and the test that failed.

    Args:
        name: The mutant.
        tests: The tests, each with the seconds of CPU time that it takes without a mutant.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        set_mutant_under_test(name)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        code = SURVIVED
        try:
            for item, seconds in tests:
                most = time.process_time() + 2 + 3 * seconds
                resource.setrlimit(resource.RLIMIT_CPU, (ceil(most), resource.RLIM_INFINITY))
                signal.alarm(LONGEST)
                if not _passes(item):
                    os.write(writer, item.nodeid.encode())
                    code = KILLED
                    break
        except BaseException:  # noqa: BLE001 - whatever comes of it, the fork ends here
            code = KILLED
        os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        by = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return (TIMEOUT if code < 0 else code), by


def make(parts: Iterable[str]) -> Mutants:
    """Make all mutants, ask the type checker, and return the open ones of these parts, part by part."""
    set_mutant_under_test("mutant_generation")
    Path("mutants").mkdir(exist_ok=True)
    with redirect_stdout(sys.stderr):
        copy_src_dir()
        copy_also_copy_files()
        setup_source_paths()
        create_mutants(1)
    files = [SourceFileMutationData(path=path) for path in walk_mutatable_files()]
    for file in files:
        file.load()
        file.meta_path = file.meta_path.absolute()
    if any(None in file.exit_code_by_key.values() for file in files):
        refused = _refused()
        for file in files:
            for name in [name for name, code in file.exit_code_by_key.items() if code is None]:
                file.exit_code_by_key[name] = REFUSED if name in refused else UNTRIED
            file.save()
    wanted = [
        (file, name)
        for pattern in map(_pattern, parts)
        for file in files
        for name, code in file.exit_code_by_key.items()
        if code in OPEN and fnmatch(name, pattern)
    ]
    return Mutants(wanted, {name for file in files for name in file.exit_code_by_key})


@cache
def _spans(path: Path) -> Mapping[str, LineSpan]:
    """Return the lines of each function in a file with mutants."""
    index = MutantLineSpans.load(path)
    return index.span_by_function_name if index is not None else {}


def _refused() -> set[str]:
    """Return the mutants that the type checker refuses."""
    with change_cwd("mutants"):
        errors = run_type_checker(config().type_check_command)
    refused: set[str] = set()
    for error in errors:
        path = error.file_path.relative_to(Path("mutants").absolute())
        found = [name for name, span in _spans(path).items() if span.start <= error.line_number <= span.end]
        if not found:
            sys.exit(f"{path}:{error.line_number}: {error.error_description}, and no mutant is there")
        refused |= {get_mutant_name(path, name) for name in found}
    return refused


def _pattern(part: str) -> str:
    """Given a package, a module or a function, return the pattern of its mutants' names."""
    module, _, function = part.partition(":")
    if not function:
        return f"syncd.{module}.*"
    return f"syncd.{module}.x{'_' if '.' not in function else 'ǁ'}{function.replace('.', 'ǁ')}__mutmut_*"


def main(parts: list[str]) -> None:
    """Try the mutants of packages (`core`), modules (`engine.verify`) or functions (`engine.run:Run.plan`), and print them."""
    mutants = make(parts)
    tests = [*config().pytest_add_cli_args, *config().pytest_add_cli_args_test_selection]
    os.chdir("mutants")
    pytest.main(["-q", "--rootdir=.", "--timeout=0", *tests], plugins=[mutants])


if __name__ == "__main__":
    main(sys.argv[1:] or ["core"])
