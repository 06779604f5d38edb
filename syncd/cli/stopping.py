"""Signals in commands that do one thing: the first asks for the stop, the second insists."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

from syncd.core.ports import Cancelled
from syncd.errors import Stopped

GRACE_SECONDS = 3.0
"""How long the second signal leaves for closing connections before the process is simply gone."""


class Stopper:
    """Turns SIGINT, SIGTERM and SIGHUP into `Cancelled`.

    Args:
        cancelled: The flag the engine looks at before each batch.
    """

    def __init__(self, cancelled: Cancelled) -> None:
        self._cancelled = cancelled
        self._work: asyncio.Task[int] | None = None
        self._terminals = [one for one in (1, 2) if os.isatty(one)]
        self.number = 0

    @property
    def exit_code(self) -> int:
        """128 and the number of the signal that came: 130 for INT, 143 for TERM, 129 for HUP."""
        return 128 + self.number

    async def run(self, work: Callable[[], Awaitable[int]]) -> int:
        """Run the work under these signals, and return its exit code, or the signal's where that ended it."""
        loop = asyncio.get_running_loop()
        heard = _heard()
        for number in heard:
            loop.add_signal_handler(number, self._come, number)
        self._work = asyncio.ensure_future(_as_task(work))
        try:
            code = await self._work
        except (Stopped, asyncio.CancelledError):
            if not self.number:
                raise
            return self.exit_code
        finally:
            for number in heard:
                loop.remove_signal_handler(number)
        return self.exit_code if code == Stopped.exit_code and self.number else code

    def _come(self, number: signal.Signals) -> None:
        if number is signal.SIGHUP:
            self._leave_terminal()
        if not self.number:
            self.number = int(number)
            self._cancelled.set(number.name)
        elif self._work is not None:
            self._work.cancel()
            # The journal heals what this cuts off; a database that hangs must not keep the process.
            asyncio.get_running_loop().call_later(GRACE_SECONDS, os._exit, self.exit_code)

    def _leave_terminal(self) -> None:
        """Say nothing more to a terminal that is gone: it answers with an error, which would end the work."""
        for number in self._terminals:
            if not os.isatty(number):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, number)
                os.close(nowhere)


def _heard() -> list[signal.Signals]:
    """Return the signals that ask for the stop: HUP, a closed terminal, not for whoever ignores it (nohup)."""
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([] if ignored else [signal.SIGHUP])]


async def _as_task(work: Callable[[], Awaitable[int]]) -> int:
    return await work()


def serve(work: Callable[[], Coroutine[Any, Any, None]]) -> int:
    """Run something that has no end of its own until SIGINT or SIGTERM, and return 0."""

    async def whole() -> None:
        task = asyncio.get_running_loop().create_task(work())
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        with suppress(asyncio.CancelledError):
            await task

    asyncio.run(whole())
    return 0


def run(work: Callable[[Cancelled], Awaitable[int]]) -> int:
    """Run a command's asynchronous part to its exit code.

    Args:
        work: Takes the flag that is set by the first SIGINT, SIGTERM or SIGHUP; returns the exit code.
    """
    cancelled = Cancelled()
    return asyncio.run(Stopper(cancelled).run(lambda: work(cancelled)))
