"""The side tasks of the daemon: one that ends with an error is a bug, and ends the service, to be started anew."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import structlog

log = structlog.get_logger("syncd.daemon")


class Tasks:
    """Tasks that run until they are ended.

    Args:
        crashed: Told of an error none of them was to end with.
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
