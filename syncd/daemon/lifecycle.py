"""The life of the process: what it says of itself, its signals, its side tasks, and reading the configuration again.

A side task that ends with an error is a bug, and ends the service.

The configuration is read again on SIGHUP, and when a secret's file changes while a link waits for new credentials: a
webhook that was renewed, a secret that Kubernetes has replaced. Some changes take effect at once, others need a
restart.
"""

from __future__ import annotations

import asyncio
import faulthandler
import hashlib
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial, reduce
from pathlib import Path
from typing import Any, Final

import structlog

from syncd.config.load import Loaded, load
from syncd.config.model import Settings
from syncd.config.render import secret_values
from syncd.config.sources import Source
from syncd.core.ports import Clock
from syncd.obs.redact import register_secret

log = structlog.get_logger("syncd.daemon")

GRACE = 3.0
"""Seconds the second signal to stop leaves for giving leases back before the process is simply gone."""
RESTART = ("state.url", "web.listen")
"""Keys that need a restart: a running daemon has opened what they name."""
SECRETS_EVERY: Final = 5.0
"""Seconds between two looks at the files of secrets."""
_LARGEST_SECRET: Final = 1024 * 1024
"""Bytes of a file that are compared; no secret is that long."""


@dataclass(frozen=True, slots=True)
class Process:
    """What a daemon says of itself.

    Args:
        holder: Host and process, as in leases.
        phase: starting, running, stopping.
        started_at: Seconds since the epoch.
        config: The configuration file.
        config_at: When it was last read without an error.
        config_error: What was wrong with it when it was read since.
        restart: Keys that changed in the file and take effect only after a restart.
        troubles: By link, why its newest pass opened no run; the state database does not know that.
    """

    holder: str
    phase: str
    started_at: float
    config: str
    config_at: float
    config_error: str = ""
    restart: tuple[str, ...] = ()
    troubles: tuple[tuple[str, str], ...] = ()

    def but(self, **changes: Any) -> Process:
        """Return the same with these changes."""
        return replace(self, **changes)


class Stop:
    """A request to stop: the first signal asks, the second forces it.

    Args:
        insisted: Called at the second signal.
    """

    def __init__(self, insisted: Callable[[], None]) -> None:
        self.wanted = asyncio.Event()
        self.reason = ""
        self.exit_code = 0
        self._insisted = insisted

    def ask(self, reason: str, exit_code: int = 0) -> None:
        """Ask the service to stop and to end with this code."""
        if not self.wanted.is_set():
            self.reason, self.exit_code = reason, exit_code
            self.wanted.set()

    def signalled(self, number: signal.Signals) -> None:
        """Handle a signal to stop."""
        if not self.wanted.is_set():
            self.ask(number.name)
            return
        code = 128 + number
        log.warning("stopping at once", signal=number.name)
        # What this cuts off is healed from the journal; a thread that hangs in a database must not keep the process.
        last = threading.Timer(GRACE, os._exit, (code,))
        last.daemon = True
        last.start()
        self.exit_code = code
        self._insisted()


@contextmanager
def handled(stop: Stop, *, reload: Callable[[], None], now: Callable[[], None]) -> Iterator[None]:
    """Handle signals for the time of the block: TERM and INT stop, HUP reloads, USR1 asks for passes now.

    USR2 writes what every thread is doing to stderr, from a handler in C: it works while the loop hangs.
    """
    loop = asyncio.get_running_loop()
    handlers: dict[signal.Signals, Callable[[], None]] = {
        signal.SIGHUP: reload,
        signal.SIGUSR1: now,
        signal.SIGTERM: partial(stop.signalled, signal.SIGTERM),
        signal.SIGINT: partial(stop.signalled, signal.SIGINT),
    }
    for number, handler in handlers.items():
        loop.add_signal_handler(number, handler)
    with suppress(OSError, ValueError):  # stderr may be no file
        faulthandler.register(signal.SIGUSR2, file=sys.stderr, all_threads=True)
    try:
        yield
    finally:
        for number in handlers:
            loop.remove_signal_handler(number)
        faulthandler.unregister(signal.SIGUSR2)


class Tasks:
    """Tasks that run until they are ended.

    Args:
        crashed: Called with the error of a task that crashed.
    """

    def __init__(self, crashed: Callable[[BaseException], None]) -> None:
        self._crashed = crashed
        self._running: set[asyncio.Task[None]] = set()

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Start a task."""
        _ = self._start(name, work)

    @asynccontextmanager
    async def during(self, name: str, work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
        """Run a task for the time of the block."""
        task = self._start(name, work)
        try:
            yield
        finally:
            await _end(task)

    async def end_all(self) -> None:
        """End every task."""
        for task in list(self._running):
            await _end(task)

    async def finish(self, timeout: float) -> bool:  # noqa: ASYNC109 - what it means is the caller's to say
        """Wait for the tasks to end by themselves; return whether all did. The others are cut off."""
        if not self._running:
            return True
        _done, late = await asyncio.wait(self._running, timeout=timeout)
        self.cut_off()
        await asyncio.gather(*late, return_exceptions=True)
        return not late

    def cut_off(self) -> None:
        """Cancel every task."""
        for task in self._running:
            task.cancel()

    def _start(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.critical("task crashed", task=task.get_name(), exc_info=error)
            self._crashed(error)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})


def read_again(loaded: Loaded) -> Loaded:
    """Given the configuration in force, read it again from where it came from, flags included.

    Raises:
        ConfigError: With every problem; the one in force stays.
    """
    again = load(loaded.path, os.environ, _flags(loaded))
    for secret in secret_values(again.settings):
        register_secret(secret)
    return again


def needs_restart(old: Settings, new: Settings) -> list[str]:
    """Given the settings in force and new ones, return the changed keys that take effect only after a restart."""
    return [key for key in RESTART if _value(old, key) != _value(new, key)]


def _flags(loaded: Loaded) -> Mapping[str, Any]:
    return {key: _value(loaded.settings, key) for key, origin in loaded.origins.items() if origin.source is Source.FLAG}


def _value(settings: Settings, key: str) -> Any:
    return reduce(getattr, key.split("."), settings)


class SecretFiles:
    """The files that the secrets of a configuration came from: those of `_file` keys and of the credentials directory.

    Args:
        loaded: The configuration, just read.
        environ: The environment it was read in.
    """

    def __init__(self, loaded: Loaded, environ: Mapping[str, str]) -> None:
        self._named = [Path(origin.name) for origin in loaded.origins.values() if origin.source is Source.SECRET_FILE]
        self._directory = environ.get("CREDENTIALS_DIRECTORY")
        self._prints = self._look()

    def changed(self) -> list[Path]:
        """Return the files that came, went or changed since this was asked last."""
        before, self._prints = self._prints, self._look()
        return sorted(path for path in before | self._prints if before.get(path) != self._prints.get(path))

    def _look(self) -> dict[Path, bytes]:
        return {path: found for path in self._files() if (found := _print_of(path)) is not None}

    def _files(self) -> list[Path]:
        if not self._directory:
            return self._named
        try:
            return [*self._named, *Path(self._directory).iterdir()]
        except OSError:
            return self._named


def _print_of(path: Path) -> bytes | None:
    """Given a file, return a hash of its content; None where it cannot be read."""
    try:
        with path.open("rb") as opened:
            return hashlib.sha256(opened.read(_LARGEST_SECRET)).digest()
    except OSError:
        return None


async def watch_secrets(
    files: Callable[[], SecretFiles], wanted: Callable[[], bool], changed: Callable[[], None], clock: Clock
) -> None:
    """Compare the files every few seconds. Never returns.

    Args:
        files: Those of the configuration in force.
        wanted: Whether a link waits for new credentials.
        changed: Called when a file differs.
        clock: Time.
    """
    while True:
        await clock.sleep(SECRETS_EVERY)
        if wanted():
            found = await asyncio.to_thread(files().changed)
            if found:
                log.info("credentials changed", files=[str(path) for path in found])
                changed()
