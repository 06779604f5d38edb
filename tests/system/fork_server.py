"""The program in processes of its own, forked from one that has loaded it: most of what a short command costs else.

Run as a module it is that process. It reads a line of JSON for each command, forks, answers with the process's id, and
then with its exit code. The dead process keeps its id until the next command, so that nobody else's is ever killed.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.children import Child

LOADED = ("syncd.cli", "syncd.wiring", "syncd.portal", "syncd.table", "syncd.state", "syncd.engine")
LIMIT = 300.0
"""Seconds that a process may take to end, and the server to answer."""
LIFE = 12 * 3600.0
"""Seconds that the server lives at most."""


class Forked:
    """A process of the program.

    Args:
        pid: Its id.
        answers: Where the server says what it came to.
        printed: The files that have what it printed to stdout and stderr.
    """

    def __init__(self, pid: int, answers: Answers, printed: tuple[Path, Path]) -> None:
        self.returncode: int | None = None
        self._pid = pid
        self._answers = answers
        self._printed = printed

    def poll(self) -> int | None:
        """Return the exit code, or minus the signal that ended it; None while it runs."""
        if self.returncode is None and (line := self._answers.line(0.0)):
            self.returncode = int(line)
        return self.returncode

    def kill(self) -> None:
        """Send SIGKILL, unless it is known to have ended."""
        if self.returncode is None:
            os.kill(self._pid, 9)

    def wait(self) -> int:
        """Return the exit code once it has ended; it is killed when its time is over."""
        if self.returncode is None:
            line = self._answers.line(LIMIT)
            if not line:
                self.kill()
                line = self._answers.line(LIMIT)
            self.returncode = int(line)
        return self.returncode

    @property
    def printed(self) -> str:
        """What it printed to stdout and stderr."""
        return "\n".join(file.read_text() for file in self._printed)


class Answers:
    """The lines that the server writes."""

    def __init__(self) -> None:
        self._descriptor = -1
        self._read = b""

    def come_from(self, descriptor: int) -> None:
        """Read them from there."""
        self._descriptor = descriptor

    def line(self, seconds: float) -> str:
        """Return the next line; empty if there is none within so many seconds."""
        end = time.monotonic() + seconds
        while b"\n" not in self._read:
            ready, _, _ = select.select([self._descriptor], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                return ""
            more = os.read(self._descriptor, 4096)
            assert more, "the fork server is gone"
            self._read += more
        line, _, self._read = self._read.partition(b"\n")
        return line.decode()


class ForkServer:
    """Starts the program while the context lasts, one process after the other; it is loaded with the first.

    Args:
        directory: Where it is started.
        environ: Its environment.
    """

    def __init__(self, directory: Path, environ: dict[str, str]) -> None:
        self._directory = directory
        self._environ = environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
        self._server: Child | None = None
        self._answers = Answers()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.kill()
            self._server.communicate(timeout=60)

    def start(self, args: Sequence[str], later: float) -> Forked:
        """Start a command; its time of day is so many seconds later than it is."""
        printed = self._directory / "stdout", self._directory / "stderr"
        job = {"args": list(args), "later": later, "printed": [str(file) for file in printed]}
        self._server = self._server or self._load()
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps(job) + "\n")
        self._server.stdin.flush()
        pid = self._answers.line(LIMIT)
        assert pid, "the fork server does not answer"
        return Forked(int(pid), self._answers, printed)

    def _load(self) -> Child:
        argv = [sys.executable, "-m", "tests.system.fork_server"]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        server = Child(argv, limit=LIFE, cwd=self._directory, env=self._environ, **pipes)
        assert server.stdout is not None
        self._answers.come_from(server.stdout.fileno())
        return server


def _import() -> None:
    for name in LOADED:
        package = importlib.import_module(name)
        for module in pkgutil.walk_packages(getattr(package, "__path__", []), f"{name}."):
            importlib.import_module(module.name)


def _run(job: dict[str, Any]) -> None:
    """Be the program: everything is as after its imports."""
    from syncd.cli.main import main
    from syncd.obs.clock import SystemClock

    later = float(job["later"])
    SystemClock.now = lambda _: time.time() + later  # type: ignore[method-assign, assignment]
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, file in enumerate(job["printed"], 1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    code = main(job["args"])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


@contextmanager
def _reaped(pid: int) -> Iterator[int]:
    """Tell the exit code of a child, and let go of its id at the end."""
    ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert ended is not None
    yield ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
    os.waitpid(pid, 0)


def _serve() -> None:
    _import()
    lines = iter(sys.stdin.readline, "")
    line = next(lines, "")
    while line:
        pid = os.fork()
        if not pid:
            _run(json.loads(line))
        print(pid, flush=True)
        with _reaped(pid) as code:
            print(code, flush=True)
            line = next(lines, "")


if __name__ == "__main__":
    _serve()
