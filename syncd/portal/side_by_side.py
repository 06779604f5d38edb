"""Doing several things at once, the first failure ending all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


async def side_by_side(act: Callable[[T], Awaitable[None]], items: Iterable[T], lanes: int) -> None:
    """Await `act` for each item, at most `lanes` of them at a time, begun in order.

    Raises:
        BaseException: The first failure, once the other lanes have been cancelled and are over.
    """
    waiting = iter(items)

    async def lane() -> None:
        for item in waiting:
            await act(item)

    tasks = [asyncio.ensure_future(lane()) for _ in range(lanes)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
