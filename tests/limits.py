"""A limit for tests that wait in an event loop: such a test fails at the line where it waits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

Test = Callable[..., Awaitable[None]]

LONGEST = 300.0
"""Seconds that a test may take. The longest needs a fifth of it on a quiet machine."""


def limited(test: Test, seconds: float = LONGEST) -> Test:
    """Return a test that fails when its time is over.

    Args:
        test: A coroutine function.
        seconds: Of real time: that of its loop may be virtual.
    """

    @wraps(test)
    async def within(*args: Any, **named: Any) -> None:
        loop, task, late = asyncio.get_running_loop(), asyncio.current_task(), False
        assert task is not None

        def end() -> None:
            nonlocal late
            late = True
            task.cancel()

        limit = threading.Timer(seconds, loop.call_soon_threadsafe, [end])
        limit.daemon = True
        limit.start()
        try:
            await test(*args, **named)
        except asyncio.CancelledError as where:
            if late:
                raise TimeoutError(f"the test still waits after {seconds:g} s") from where
            raise
        finally:
            limit.cancel()
        assert not late, f"the test waited for {seconds:g} s and went on when it was cancelled"

    return within
