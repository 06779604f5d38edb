"""Signals: what the outside may say to the process while it runs."""

from __future__ import annotations

import asyncio
import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

import structlog

log = structlog.get_logger("syncd.daemon")

GRACE = 3.0
"""Seconds the second signal to stop leaves for giving leases back before the process is simply gone."""


class Stop:
    """The wish to stop: the first signal asks, the second insists.

    Args:
        insisted: Called at the second signal.
    """

    def __init__(self, insisted: Callable[[], None]) -> None:
        self.wanted = asyncio.Event()
        self.reason = ""
        self.exit_code = 0
        self._insisted = insisted

    def ask(self, reason: str, exit_code: int = 0) -> None:
        """Want the service to stop, and to end with this code."""
        if not self.wanted.is_set():
            self.reason, self.exit_code = reason, exit_code
            self.wanted.set()

    def signalled(self, number: signal.Signals) -> None:
        """A signal to stop has come."""
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
