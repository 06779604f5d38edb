"""Python as a child that has all of syncd loaded: it is forked from one that has, which saves most of a command's time.

`LoadedPython` is a child like any other: `-m MODULE` or `-c CODE` with arguments; a process of its own with its own
pipes, environment and directory, which ends as Python ends. Only its start is another: tests of that use a `Child`.

Run as a module, this is the process that forks. It serves one test process over a socket, and ends with it.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import io
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import types
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from tests.children import LIMIT, Child

ROOT = Path(__file__).parents[1]
BESIDE = ("alembic.command", "psycopg", "pymysql", "uvicorn.lifespan.on", "uvicorn.protocols.http.h11_impl")
"""What syncd imports late."""
READ_AT_START = ("PYTHON", "LANG", "LC_", "TZ", "LD_", "MALLOC_")
"""How the variables begin that Python reads when it starts: children who differ in them have parents of their own."""
LIFE = 12 * 3600.0
"""Seconds that the process which forks lives at most."""


class LoadedPython(Child):
    """A child that runs Python.

    Args:
        argv: What follows `python`: `-m MODULE` or `-c CODE`, and arguments.
        env: Its environment, whole.
        limit: Seconds after which it is killed.
        options: `cwd`, `stdin`, `stdout`, `stderr` and `start_new_session`, as `Popen` takes them.
    """

    FORMS = ("-m", "-c")

    def __init__(self, argv: Sequence[str], *, env: Mapping[str, str], limit: float = LIMIT, **options: Any) -> None:
        self._reports: socket.socket | None = None
        super().__init__([sys.executable, *argv], limit=limit, env=env, **options)

    def _execute_child(self, args: Sequence[str], *given: Any) -> None:
        """Take the place of `Popen`'s fork and exec: `given` are its arguments, the ends of the pipes among them."""
        cwd, env, ends, session = given[4], given[5], given[9:15], given[20]
        streams = [own if end == -1 else end for own, end in enumerate((ends[0], ends[3], ends[5]))]
        job = _Job(list(args[1:]), str(cwd or Path.cwd()), dict(env), bool(session))
        self._reports, writer = socket.socketpair()
        with writer:
            forking = _forking(tuple(sorted(_read_at_start(env).items())))
            forking.order(job, [writer.fileno(), *streams])
        reports = self._await_report(LIMIT)
        assert reports, "the process that forks has not answered"
        self.pid = int(self._reports.recv(reports.index(b"\n") + 1))
        self._child_created = True
        self._close_pipe_fds(*ends)  # type: ignore[attr-defined]

    def _await_report(self, seconds: float | None) -> bytes:
        """Return the reports of it that were not read yet; empty if none comes in so many seconds."""
        assert self._reports is not None
        if not select.select([self._reports], [], [], seconds)[0]:
            return b""
        reports = self._reports.recv(64, socket.MSG_PEEK)
        assert reports, "the process that forks is gone"
        return reports

    def _internal_poll(self, *_: Any, **__: Any) -> int | None:
        self._has_ended(0.0)
        return self.returncode

    def _wait(self, timeout: float | None) -> int:
        if not self._has_ended(timeout):
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        assert self.returncode is not None
        return self.returncode

    def _has_ended(self, seconds: float | None) -> bool:
        if self.returncode is None and self._reports is not None and (report := self._await_report(seconds)):
            self.returncode = int(report)  # it stays there, for others that wait in other threads
        return self.returncode is not None

    def __del__(self, *_: Any) -> None:
        if self._reports is not None:
            self._reports.close()
        super().__del__()


class _Job(NamedTuple):
    argv: list[str]
    cwd: str
    env: dict[str, str]
    session: bool


class _Forking:
    """The process that forks, as the tests see it; it is loaded while they go on.

    Args:
        env: The variables that Python reads when it starts.
    """

    def __init__(self, env: Mapping[str, str]) -> None:
        self._one_at_a_time = threading.Lock()
        self._socket, theirs = socket.socketpair()
        kept = {name: value for name, value in os.environ.items() if not name.startswith(READ_AT_START)}
        with theirs:
            number = theirs.fileno()
            command = [sys.executable, "-m", "tests.loaded_python", str(number)]
            null = subprocess.DEVNULL
            self._process = Child(command, limit=LIFE, cwd=ROOT, env=kept | dict(env), stdin=null, pass_fds=[number])
        atexit.register(self.close)

    def close(self) -> None:
        """End it; its children live on."""
        self._socket.close()
        self._process.wait(LIMIT)

    def order(self, job: _Job, descriptors: list[int]) -> None:
        """Order a child; the descriptors are the socket for reports of it, and its stdin, stdout and stderr."""
        text = json.dumps(job).encode()
        with self._one_at_a_time:
            socket.send_fds(self._socket, [len(text).to_bytes(8, "big")], descriptors)
            self._socket.sendall(text)


def _read_at_start(env: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that Python reads when it starts, but for the one that is read anew (`_become`)."""
    names = {name for name in env if name.startswith(READ_AT_START)} - {"PYTHONWARNINGS"}
    return {name: env[name] for name in names}


@cache
def _forking(env: tuple[tuple[str, str], ...]) -> _Forking:
    return _Forking(dict(env))


# ------------------------------------------------------------------ the process that forks


def _load() -> None:
    import syncd

    with warnings.catch_warnings(action="error"):
        for module in pkgutil.walk_packages(syncd.__path__, "syncd."):
            importlib.import_module(module.name)
        for name in BESIDE:
            with suppress(ImportError):
                importlib.import_module(name)
    gc.collect()
    gc.freeze()


class _Children:
    """The children that live, and the sockets that their ends are reported to."""

    def __init__(self) -> None:
        self._writers: dict[int, int] = {}

    def add(self, pid: int, writer: int) -> None:
        """Report a child's id now, and its exit code when it ends."""
        self._writers[pid] = writer
        self._report(writer, pid)

    def reap(self) -> None:
        """Report the exit codes of those that have ended."""
        for pid, writer in list(self._writers.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del self._writers[pid]
                self._report(writer, os.waitstatus_to_exitcode(status))
                os.close(writer)

    def _report(self, writer: int, number: int) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):
            os.write(writer, b"%d\n" % number)


def _await_job(orders: socket.socket) -> tuple[_Job, list[int]]:
    """Return the job of the child that this process has become, and its stdin, stdout and stderr."""
    children = _Children()
    # A signal that arrives right before a call that waits does not end the call; a byte in a pipe does.
    ends, mark = os.pipe()
    os.set_blocking(ends, False)
    os.set_blocking(mark, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(mark, warn_on_full_buffer=False)
    while True:
        ready, *_ = select.select([orders.fileno(), ends], [], [])
        if ends in ready:
            with suppress(BlockingIOError):
                while os.read(ends, 1 << 10):
                    pass
            children.reap()
        if orders.fileno() not in ready:
            continue
        head, descriptors, *_ = socket.recv_fds(orders, 8, 4)
        if not head:
            os._exit(0)
        text = b""
        while len(text) < int.from_bytes(head, "big"):
            part = orders.recv(1 << 20)
            if not part:
                os._exit(0)  # the test process was killed in the middle of an order
            text += part
        pid = os.fork()
        if not pid:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            orders.close()
            return _Job(*json.loads(text)), descriptors[1:]
        children.add(pid, descriptors[0])
        for descriptor in descriptors[1:]:
            os.close(descriptor)


def _become(job: _Job, streams: Sequence[int]) -> None:
    """Take on what the job says of the process."""
    if job.session:
        os.setsid()
    os.chdir(job.cwd)
    coerced = _read_at_start(os.environ)  # Python sets LC_CTYPE for itself where the locale is C
    os.environ.clear()
    os.environ.update(job.env | coerced)
    if options := job.env.get("PYTHONWARNINGS"):
        sys.warnoptions[:] = options.split(",")
        warnings._processoptions(sys.warnoptions)  # type: ignore[attr-defined]
    for number, stream in enumerate(streams):
        os.dup2(stream, number, inheritable=True)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    unbuffered = bool(job.env.get("PYTHONUNBUFFERED"))
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        old = getattr(sys, name)
        binary: Any = open(number, "wb" if number else "rb", 0 if number and unbuffered else -1, closefd=False)  # noqa: SIM115
        getattr(binary, "raw", binary).name = f"<{name}>"
        by_line = not unbuffered and (number == 2 or binary.isatty())
        new: Any = io.TextIOWrapper(
            binary, old.encoding, old.errors, "\n", line_buffering=by_line, write_through=unbuffered
        )
        new.mode = "w" if number else "r"
        setattr(sys, name, new)
        setattr(sys, f"__{name}__", new)


def _run(how: str, what: str, *args: str) -> None:
    """Be `python -m MODULE ARGS` or `python -c CODE ARGS`."""
    sys.argv = [how, *args]
    if how == "-m":
        sys.path[0] = str(Path.cwd())
        sys.modules.pop(what, None)  # else runpy warns of it
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = ""
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(what, "<string>", "exec"), vars(main))


def _end(code: int) -> None:
    """End as Python ends, but for the modules: taking them down costs more than most commands do.

    Whatever is out of the ordinary is left to Python: its words, and its own exit codes.
    """
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads
    atexit._run_exitfuncs()
    gc.collect()  # what was left open complains now
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _load()
    _job, _streams = _await_job(socket.socket(fileno=int(sys.argv[1])))
    _become(_job, _streams)
    _code = 0
    try:
        _run(*_job.argv)
    except SystemExit as _ended:
        if not isinstance(_ended.code, int | None):
            raise
        _code = _ended.code or 0
    with suppress(OSError, ValueError):  # a stream that is closed
        _end(_code & 0xFF)
    sys.exit(_code)
