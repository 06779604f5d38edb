"""A shop to drive the real command line against: a sandbox portal over TCP, an SQLite table, a configuration."""

from __future__ import annotations

import http.client
import io
import json
import logging
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir, closing, contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from syncd.sandbox import SandboxPortal, SandboxServer
from tests.children import Child
from tests.loaded_python import LoadedPython
from tests.terminals import Terminal

DEAL = 2
SECRET = "s3cr3t-of-this-test"


@dataclass
class Ran:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def check(self, code: int) -> Ran:
        """Expect this exit code, and neither a traceback nor the webhook's secret anywhere."""
        assert self.code == code, f"exit {self.code} instead of {code}\n{self.out}\n{self.err}"
        said = self.out + self.err
        assert "Traceback" not in said, said[said.find("Traceback") :][:4000]
        assert SECRET not in self.out + self.err
        return self


@dataclass
class Shop:
    """One link named shop, and everything around it."""

    directory: Path
    portal: SandboxPortal
    server: SandboxServer
    settings: dict[str, str] = field(default_factory=dict)
    portal_settings: dict[str, str] = field(default_factory=dict)
    columns: str = '{ order_id = "order_id", owner_type_id = 2, owner_id = "deal_id" }'
    webhook: str = ""
    state_url: str = ""
    table_url: str = ""
    table_name: str = "bindings"
    extra: str = ""
    more_links: str = ""
    program: tuple[str, ...] = ("-m", "syncd.cli.main")
    """What the interpreter is given to start the program beside the test."""

    @property
    def file(self) -> Path:
        return self.directory / "shop.db"

    def configure(self) -> Path:
        """Write the configuration as it stands."""
        state = self.state_url or f"sqlite:///{self.directory / 'syncd.db'}"
        lines = [f'[state]\nurl = "{state}"', "[links.shop]"]
        lines += [f"{key} = {value}" for key, value in self.settings.items()]
        lines += ["[links.shop.portal]", f'webhook = "{self.webhook or self.server.webhook_url}"']
        lines += [f"{key} = {value}" for key, value in self.portal_settings.items()]
        lines += ["[links.shop.table]", f'url = "{self.table_url or f"sqlite:///{self.file}"}"']
        lines += [f'name = "{self.table_name}"', f"columns = {self.columns}", self.extra, self.more_links]
        path, text = self.directory / "syncd.toml", "\n".join(lines) + "\n"
        if not path.exists() or path.read_text() != text:  # a process that has just started may be reading it
            path.write_text(text)
            path.chmod(0o600)
        return path

    # ------------------------------------------------------------------ the table

    def create_table(self, rows: Sequence[tuple[int, int | None]] | None = None, *, key: bool = True) -> None:
        what = "order_id INTEGER PRIMARY KEY" if key else "order_id INTEGER"
        self.sql(f"CREATE TABLE bindings ({what}, deal_id INTEGER)")
        with closing(sqlite3.connect(self.file)) as connection, connection:
            connection.executemany("INSERT INTO bindings VALUES (?, ?)", rows or [])

    def sql(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.file)) as connection, connection:
            return connection.execute(statement, values).fetchall()

    def table(self) -> dict[int, int]:
        return dict(self.sql("SELECT order_id, deal_id FROM bindings"))

    def crm(self) -> dict[int, int]:
        return {order: owner for order, (_kind, owner) in self.portal.bindings.items()}

    def at_first(self, method: str, act: Callable[[], object]) -> None:
        """Let somebody act right before the portal executes its first call of this method from now on."""
        acts = [act]

        def look(called: str, _params: object, _request: int) -> None:
            if called.lower() == method and acts:
                acts.pop()()

        self.portal.before_call(look)

    # ---------------------------------------------------------------- the program

    def start(self, *args: str, **environ: str) -> subprocess.Popen[str]:
        """Start a command beside the test."""
        self.configure()
        return start(*args, directory=self.directory, program=self.program, **environ)

    def run(self, *args: str, **environ: str) -> Ran:
        """Run a command to its end."""
        with self.start(*args, **environ) as process:
            out, err = process.communicate(timeout=120)
        return Ran(process.returncode, out, err)

    def call(self, *args: str, terminal: bool = False) -> Ran:
        """Run a command inside the test's process."""
        return call("--config", str(self.configure()), *args, directory=self.directory, terminal=terminal)

    def first_sync(self) -> None:
        """Get the link into step."""
        refused = self.call("reconcile", "--json").check(4)
        self.call("apply", str(refused.json[0]["run"])).check(0)

    def interrupt(self, process: subprocess.Popen[str], number: signal.Signals) -> Ran:
        process.send_signal(number)
        out, err = process.communicate(timeout=120)
        return Ran(process.returncode, out, err)


def start(
    *args: str, directory: Path, program: tuple[str, ...] = Shop.program, **environ: str
) -> subprocess.Popen[str]:
    """Start the program in a directory; it is loaded already, unless a script starts it, or it is another syncd."""
    options: dict[str, Any] = {
        "cwd": directory,
        "env": environment() | environ,
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
    }
    if program[0] not in LoadedPython.FORMS or "PYTHONPATH" in environ:
        return Child([sys.executable, *program, *args], **options)
    return LoadedPython([*program, *args], **options)


def environment() -> dict[str, str]:
    """Return what the program is to find in its environment."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SYNCD_")}
    return kept | {"PYTHONWARNINGS": "error", "COLUMNS": "80"}


@contextmanager
def open_shop(directory: Path, bindings: dict[int, int] | None = None, **options: Any) -> Iterator[Shop]:
    """Open a shop whose portal has these bindings, order to deal; more options are the portal's."""
    owners = {order: (DEAL, deal) for order, deal in (bindings or {}).items()}
    portal = SandboxPortal(owners, code=SECRET, **options)
    with SandboxServer.in_thread(portal) as server:
        yield Shop(directory, portal, server)


def call(*args: str, directory: Path | None = None, terminal: bool = False) -> Ran:
    """Run the program inside the test's process, which is faster; for commands that no signal is sent to."""
    from syncd.cli.main import main

    out, err = Terminal() if terminal else io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), chdir(directory or Path.cwd()), quiet_logs():
        code = main(args)
    return Ran(code, out.getvalue(), err.getvalue())


@contextmanager
def quiet_logs() -> Iterator[None]:
    """Take back what a command sets up for its process: handlers on streams that are gone afterwards."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        yield
    finally:
        logging.captureWarnings(capture=False)
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.reset_defaults()


def free_port() -> int:
    """Return a port of loopback that nobody listens on.

    It is below those that the kernel picks itself, so no other connection gets it before it is used.
    """
    first, picked = 20_000, int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    for _ in range(100):
        port = random.SystemRandom().randrange(first, max(picked, first + 1000))
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


def visit(url: str) -> str:
    """Go to a page as a browser does, and return where it sends the browser."""
    parts = urllib.parse.urlsplit(url)
    with closing(http.client.HTTPConnection(parts.netloc, timeout=30)) as connection:
        connection.request("GET", f"{parts.path}?{parts.query}")
        return connection.getresponse().getheader("Location") or ""
