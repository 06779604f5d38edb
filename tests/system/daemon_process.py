"""`syncd run` as a process, with a service manager's socket to hear it by and its web port to look through."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from tests.loaded_python import LoadedPython
from tests.system.shop import SECRET, Shop

PATIENCE = 90.0
"""Seconds after which something that should have happened has not; nothing waits this long unless it failed."""


def events_of(log: str, name: str) -> list[dict[str, Any]]:
    """Given what a daemon has logged, return the events of one name."""
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == name]


class RunningDaemon:
    """One daemon.

    Args:
        directory: Where its configuration, socket and output are.
        name: Tells it from others in the same directory.
    """

    def __init__(self, directory: Path, config: Path, name: str = "daemon", **environ: str) -> None:
        self.messages: list[dict[str, str]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        address = directory / f"{name}.notify"
        self._socket.bind(str(address))
        self._log = directory / f"{name}.log"
        kept = {key: value for key, value in os.environ.items() if not key.startswith("SYNCD_")}
        with self._log.open("a") as log:
            self.process = LoadedPython(
                ["-m", "syncd.cli.main", "--config", str(config), "--log-format", "json", "run"],
                cwd=directory,
                env=kept | {"PYTHONWARNINGS": "error", "NOTIFY_SOCKET": str(address)} | environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._socket.close()
        assert SECRET not in self.log
        assert "Traceback" not in self.log

    @property
    def log(self) -> str:
        return self._log.read_text()

    def events(self, name: str) -> list[dict[str, Any]]:
        return events_of(self.log, name)

    # ------------------------------------------------------------ what it says

    def hear(self, wanted: Callable[[dict[str, str]], bool]) -> dict[str, str]:
        """Return the first message from now on that is wanted."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if not select.select([self._socket], [], [], 0.2)[0]:
                assert self.process.poll() is None, f"it ended with {self.process.returncode}\n{self.log}"
                continue
            text = self._socket.recv(65536).decode()
            message = dict(line.split("=", 1) for line in text.splitlines())
            self.messages.append(message)
            if wanted(message):
                return message
        raise AssertionError(f"not heard in time: {self.messages[-5:]}\n{self.log}")

    def ready(self) -> Self:
        self.hear(lambda message: "READY" in message)
        return self

    def status(self, pattern: str) -> str:
        """Wait for a status line like this."""
        return self.hear(lambda message: re.search(pattern, message.get("STATUS", "")) is not None)["STATUS"]

    # --------------------------------------------------------------- signals to it

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.send(number)
        return self.process.wait(PATIENCE)


@contextmanager
def running(shop: Shop, name: str = "daemon", **environ: str) -> Iterator[RunningDaemon]:
    """Run a shop's daemon for the time of the block."""
    with RunningDaemon(shop.directory, shop.configure(), name, **environ) as daemon:
        yield daemon


def fetch(port: int, path: str) -> tuple[int, str]:
    """Get a path of a daemon's web port."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def until(what: Callable[[], Any], patience: float = PATIENCE) -> Any:
    """Ask again until the answer is true, and return it."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if answer := what():
            return answer
        time.sleep(0.05)
    raise AssertionError("it has not come true in time")
