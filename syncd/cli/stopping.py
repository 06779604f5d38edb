"""Signals in commands that do one thing: the first asks for the stop, the second insists."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, Self

from syncd.core.ports import Cancelled
from syncd.errors import Stopped

GRACE_SECONDS = 3.0
"""How long the second signal leaves for closing connections before the process is simply gone."""


class Signals:
    """SIGINT, SIGTERM and SIGHUP while the block works: the first asks it to stop, the second cuts it off.

    Where a signal ended the block, what it raised for that goes no further; `exit_code` says which signal it was.
    """

    def __init__(self) -> None:
        self.cancelled = Cancelled()
        """The flag that the first signal sets, and that the engine looks at before each batch."""
        self._number = 0
        self._heard = _heard()
        self._terminals = [one for one in (1, 2) if os.isatty(one)]

    def __enter__(self) -> Self:
        self._work = asyncio.current_task()
        for number in self._heard:
            asyncio.get_running_loop().add_signal_handler(number, self._come, number)
        return self

    def __exit__(self, _kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> bool:
        for number in self._heard:
            asyncio.get_running_loop().remove_signal_handler(number)
        return bool(self._number) and isinstance(error, Stopped | asyncio.CancelledError)

    def exit_code(self, code: int = Stopped.exit_code) -> int:
        """Given the exit code of the block, if it reached one, return the command's.

        Where a signal ended the block, that is 128 and its number: 130 for INT, 143 for TERM, 129 for HUP.
        """
        return 128 + self._number if self._number and code == Stopped.exit_code else code

    def _come(self, number: signal.Signals) -> None:
        if number is signal.SIGHUP:
            self._leave_terminal()
        if not self._number:
            self._number = int(number)
            self.cancelled.set(number.name)
        elif self._work is not None:
            self._work.cancel()
            # The next run finds out what became of the writes that this cuts off. A hanging database must not keep the
            # process alive.
            asyncio.get_running_loop().call_later(GRACE_SECONDS, os._exit, self.exit_code())

    def _leave_terminal(self) -> None:
        """Say nothing more to a terminal that is gone: it answers with an error, which would end the work."""
        for number in self._terminals:
            if not os.isatty(number):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, number)
                os.close(nowhere)


def _heard() -> list[signal.Signals]:
    """Return the signals that ask for the stop; HUP, for a closed terminal, unless it is ignored (nohup)."""
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([] if ignored else [signal.SIGHUP])]


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

    async def whole() -> int:
        code = Stopped.exit_code
        with Signals() as signals:
            code = await work(signals.cancelled)
        return signals.exit_code(code)

    return asyncio.run(whole())
