"""A child that has syncd loaded is a process as Python makes it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.children import Child
from tests.loaded_python import ROOT, LoadedPython
from tests.system.shop import environment

SAYS_WHAT_IT_IS = """
import os, signal, sys, warnings
print(__name__, sys.argv, sys.path[0], os.getcwd(), sorted(os.environ.items()), sys.warnoptions, warnings.filters[0][0])
print([signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE)])
print(sorted(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else "", signal.pthread_sigmask(0, []))
for stream in (sys.stdin, sys.stdout, sys.stderr):
    print(stream.encoding, stream.errors, stream.line_buffering, stream.write_through, stream.fileno())
"""
LATE = """
import threading
threading.Thread(target=lambda: (threading.main_thread().join(), print('late'))).start()
print('soon')
"""
HANGS = "import time; print('up', flush=True); time.sleep(600)"
ALIKE = {
    "what it is": ("-c", SAYS_WHAT_IT_IS, "one", "two"),
    "a module": ("-m", "syncd.cli.main", "--version"),
    "a module's error": ("-m", "syncd.cli.main", "reconcile"),
    "its exit code": ("-c", "raise SystemExit(3)"),
    "an exit code beyond a byte": ("-c", "raise SystemExit(-2)"),
    "what it could not write": ("-c", "import os; print('lost'); os.close(1)"),
    "a stream that it closed": ("-c", "import sys; sys.stdout.close()"),
    "its last words": ("-c", "import sys; sys.exit('so it ends')"),
    "a signal": ("-c", "import os; os.kill(os.getpid(), 15)"),
    "an interruption": ("-c", "import os; os.close(2); raise KeyboardInterrupt"),
    "a thread that outlives the code": ("-c", LATE),
    "a handler at exit": ("-c", "import atexit; atexit.register(print, 'bye')"),
    "what it reads": ("-c", "print(input() + input())"),
    "what nobody sets": ("-c", "import os; print(os.environ.get('LANG'), os.environ.get('A'))"),
}


@pytest.mark.parametrize("argv", ALIKE.values(), ids=ALIKE)
def test_given_what_python_is_to_run_then_it_is_the_process_that_python_would_be(
    tmp_path: Path, argv: tuple[str, ...]
) -> None:
    plainly, forked = both(tmp_path, argv, environment())

    assert forked == plainly


def test_given_variables_that_python_reads_when_it_starts_then_it_has_read_them(tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1", "A": "b"}  # without a locale, too

    plainly, forked = both(tmp_path, ALIKE["what it is"], env)

    assert forked == plainly


def both(directory: Path, argv: tuple[str, ...], env: dict[str, str]) -> list[tuple[str, str, int]]:
    """Return what a process printed and how it ended: one that Python starts, then one that is forked."""
    pipe = subprocess.PIPE
    ends = []
    for forked in (False, True):
        how: dict[str, Any] = {"cwd": directory, "env": env, "stdin": pipe, "stdout": pipe, "stderr": pipe}
        with LoadedPython(argv, **how) if forked else Child([sys.executable, *argv], **how) as child:
            ends.append((*child.communicate("1\n2\n", timeout=60), child.returncode))
    return ends


def test_given_a_child_that_runs_then_it_has_an_id_takes_signals_and_is_waited_for() -> None:
    with LoadedPython(["-c", HANGS], env=environment(), stdout=-1) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "up\n"
        assert child.poll() is None
        os.kill(child.pid, 0)
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.01)
        child.send_signal(signal.SIGTERM)
        assert child.wait(60) == -signal.SIGTERM

    assert child.poll() == child.returncode == -signal.SIGTERM


def test_given_a_child_that_never_ends_when_its_time_is_over_then_it_is_killed() -> None:
    with LoadedPython(["-c", HANGS], env=environment(), limit=0.5, stdout=-1) as child:
        assert child.wait(60) == -signal.SIGKILL


def test_given_threads_that_wait_for_a_child_when_it_is_killed_then_each_hears_of_its_end() -> None:
    with LoadedPython(["-c", HANGS], env=environment(), stdout=-1) as child, ThreadPoolExecutor(8) as threads:
        waiting = [threads.submit(child.wait, 60) for _ in range(8)]
        child.kill()
        assert {one.result() for one in waiting} == {-signal.SIGKILL}


def test_given_children_that_end_at_the_same_time_then_each_end_is_told() -> None:
    for _ in range(8):
        children = [LoadedPython(["-c", "import time; time.sleep(600)"], env=environment()) for _ in range(16)]
        for child in children:
            child.kill()
        assert {child.wait(60) for child in children} == {-signal.SIGKILL}


def test_given_a_session_of_its_own_then_it_leads_it() -> None:
    code = "import os; print(os.getsid(0) == os.getpid())"
    with LoadedPython(["-c", code], env=environment(), stdout=-1, start_new_session=True) as child:
        assert child.communicate(timeout=60)[0] == "True\n"


def test_given_a_test_process_that_is_killed_in_the_middle_of_an_order_then_the_one_that_forks_ends() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        number = theirs.fileno()
        command = [sys.executable, "-m", "tests.loaded_python", str(number)]
        with Child(
            command, limit=60, cwd=ROOT, env=environment(), stdin=subprocess.DEVNULL, pass_fds=[number]
        ) as child:
            theirs.close()
            ours.sendall((100).to_bytes(8, "big") + b"[")
            ours.close()

    assert child.returncode == 0
