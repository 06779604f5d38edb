"""Runs what the documentation shows, as a reader would type it.

A page's ```console blocks are played in order by one shell, in a directory of their own:

- `$ command` is typed, `> ` goes on with it; `# exit N` behind it is the exit code it must have, 0 if left out.
- The lines below a command are all it may print; a `…` stands for any text in a line, a line of `…` for any lines but
  the last: what a command comes to is always shown. A command with no lines below prints nothing.

HTML comments right before a block, which readers do not see, say what a reader knows from the text:

- `<!-- file: NAME -->`: the block is this file; any language.
- `<!-- another terminal, ready when: COMMAND -->`: the block's one command stays at work until the page ends.
- `<!-- not run: REASON -->`: it cannot run on any machine; the reason is required.

`<!-- given: shop in step -->` anywhere: the page begins in the shop of the tutorial, after its first sync.
"""

from __future__ import annotations

import io
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, chdir, closing, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from syncd.cli.main import main
from tests.children import Child
from tests.system.shop import call, open_shop, quiet_logs

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "docs/tutorial/first-link.md"
ORDERS = 100
PATIENCE = 60
CONFIGURATION = """\
[links.shop]
schedule = "5m"

[links.shop.portal]
webhook_file = "shop.webhook"

[links.shop.table]
url = "sqlite:///erp.db"
name = "order_deals"
columns = { order_id = "order_id", owner_type_id = 2, owner_id = "deal_id" }
"""
"""The `syncd.toml` of the tutorial without its comments, which the fragments of other pages change."""

GIVEN = "<!-- given: shop in step -->"
_FENCE = re.compile(r"^(\s*)```(\w*)")
_COMMENT = re.compile(r"^\s*<!-- (file|not run|another terminal, ready when): ?(.*?) -->$")
_EXIT = re.compile(r"\s+# exit (\d+)$")
_FOR_SYNCD = re.compile(r"syncd [\w .-]+")
_END = "--- end of command"


@dataclass
class Block:
    """A fenced block, and the marks before it."""

    page: Path
    line: int
    language: str
    text: str
    marks: dict[str, str]

    @property
    def place(self) -> str:
        return f"{self.page.name}:{self.line}"


@dataclass
class Step:
    """A command, the exit code it must have, and what it may print."""

    command: str
    code: int = 0
    shown: list[str] = field(default_factory=list)


def pages() -> list[Path]:
    """Return every page of the documentation."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path) -> Iterator[Block]:
    """Yield a page's fenced blocks."""
    marks: dict[str, str] = {}
    lines = enumerate(page.read_text().splitlines(), start=1)
    for number, line in lines:
        if (mark := _COMMENT.match(line)) is not None:
            marks[mark[1]] = mark[2].strip()
        elif (fence := _FENCE.match(line)) is not None:
            indent, language = len(fence[1]), fence[2]
            inside = []
            for _, text in lines:
                if text.strip() == "```":
                    break
                inside.append(text[indent:])
            yield Block(page, number, language, "\n".join(inside) + "\n", marks)
            marks = {}
        elif line.strip():
            marks = {}


def steps(block: Block) -> list[Step]:
    """Given a console block, return its commands."""
    found: list[Step] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append(Step(line[2:]))
        elif line.startswith("> ") and found and not found[-1].shown:
            found[-1].command += "\n" + line[2:]
        else:
            assert found, f"{block.place}: a console block begins with a command: {line!r}"
            found[-1].shown.append(line)
    for step in found:
        if (code := _EXIT.search(step.command)) is not None:
            step.code, step.command = int(code[1]), step.command[: code.start()]
        while step.shown and not step.shown[-1].strip():
            step.shown.pop()
    return found


def file_of(page: Path, name: str) -> str:
    """Given a page and a file it shows, return the file's text."""
    return next(block.text for block in blocks(page) if block.marks.get("file") == name)


@contextmanager
def shop_in_step(directory: Path) -> Iterator[None]:
    """The tutorial's shop with a hundred orders, after its first sync, which was run 1."""
    owners = {order: (order + 1) // 2 for order in range(1, ORDERS + 1)}
    with open_shop(directory, owners) as shop:
        shop.sql("CREATE TABLE order_deals (order_id INTEGER PRIMARY KEY, deal_id INTEGER)")
        with closing(sqlite3.connect(shop.file)) as erp, erp:
            erp.executemany("INSERT INTO order_deals VALUES (?, ?)", owners.items())
        shop.file.rename(directory / "erp.db")
        (directory / "shop.webhook").write_text(shop.server.webhook_url + "\n")
        (directory / "shop.webhook").chmod(0o600)
        for name in ("crm.py", "erp.py"):
            (directory / name).write_text(file_of(TUTORIAL, name))
        (directory / "syncd.toml").write_text(CONFIGURATION)
        call("reconcile", directory=directory).check(0)
        yield


def agrees(shown: list[str], printed: list[str]) -> bool:
    """Given what a page shows and what was printed, return whether the page is right."""
    pattern = "".join(
        r"(?:.*\n)*?" if line.strip() == "…" else ".*?".join(map(re.escape, line.rstrip().split("…"))) + r"[ ]*\n"
        for line in shown
    )
    return re.fullmatch(pattern, "".join(line + "\n" for line in printed)) is not None


class Reader:
    """Types a page into a shell, word for word.

    Args:
        directory: Where.
        hurried: Run commands of syncd inside the test's process where no shell is needed to understand them. It is the
            same program, without the half second in which a process begins.
    """

    def __init__(self, directory: Path, *, hurried: bool = False) -> None:
        self.directory = directory
        self._hurried = hurried
        environ = {name: value for name, value in os.environ.items() if not name.startswith("SYNCD_")}
        self._environ = environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{environ['PATH']}",
            "COLUMNS": "80",
            "SYNCD_LOG__LEVEL": "error",  # as on a terminal
        }
        self._shell = self._start("bash", stdin=subprocess.PIPE)
        self._others: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with ExitStack() as stack:
            for process in [self._shell, *self._others]:
                stack.callback(_end, process)

    def play(self, page: Path) -> int:
        """Play a page's blocks in order, and return how many commands that were."""
        played = 0
        for block in blocks(page):
            if "not run" in block.marks:
                continue
            if "file" in block.marks:
                (self.directory / block.marks["file"]).write_text(block.text)
            elif block.language == "console":
                ready = block.marks.get("another terminal, ready when")
                for step in steps(block):
                    if ready is not None:
                        self.leave_at_work(step.command, ready, block.place)
                    else:
                        self.type(step, block.place)
                    played += 1
        return played

    def type(self, step: Step, place: str) -> None:
        """Type a command; its exit code and its output must be those that are shown."""
        if self._hurried and _FOR_SYNCD.fullmatch(step.command):
            code, printed = _run_here(step.command, self.directory)
        else:
            code, printed = self._run(step.command)
        text = "\n".join(printed)
        assert code == step.code, f"{place}: `{step.command}` ended with {code} instead of {step.code}:\n{text}"
        shown = "\n".join(step.shown)
        assert agrees(step.shown, printed), f"{place}: `{step.command}` printed\n{text}\nand the page shows\n{shown}"

    def leave_at_work(self, command: str, ready: str, place: str) -> None:
        """Start a command in another terminal, and go on when it is ready."""
        process = self._start("bash", "-c", command)
        self._others.append(process)
        deadline = time.monotonic() + PATIENCE
        while self._run(ready)[0] != 0:
            assert process.poll() is None, f"{place}: `{command}` ended: {process.communicate(timeout=PATIENCE)[0]}"
            assert time.monotonic() < deadline, f"{place}: `{command}` was never ready"
            time.sleep(0.05)

    def _run(self, command: str) -> tuple[int, list[str]]:
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.write(f"{{ {command}\n}} </dev/null 2>&1\nprintf '\\n{_END} %d\\n' $?\n")
        self._shell.stdin.flush()
        watch = threading.Timer(PATIENCE, os.killpg, (self._shell.pid, signal.SIGKILL))
        watch.start()
        printed: list[str] = []
        for line in self._shell.stdout:
            if line.startswith(_END):
                watch.cancel()
                while printed and not printed[-1]:
                    printed.pop()
                return int(line.removeprefix(_END)), printed
            printed.append(line.rstrip())
        watch.cancel()
        raise AssertionError(f"the shell ended during `{command}`: {printed}")

    def _start(self, *argv: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
        return Child(
            argv,
            cwd=self.directory,
            env=self._environ,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )


def _end(process: subprocess.Popen[str]) -> None:
    """End a process and all that it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise


def _run_here(command: str, directory: Path) -> tuple[int, list[str]]:
    printed = io.StringIO()
    with redirect_stdout(printed), redirect_stderr(printed), chdir(directory), quiet_logs():
        code = main(["--log-level", "error", *command.split()[1:]])
    return code, [line.rstrip() for line in printed.getvalue().rstrip().splitlines()]
