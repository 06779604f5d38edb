"""Fixtures of the daemon's tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, MutableMapping
from typing import Any

import pytest
import structlog
import time_machine

from tests.fakes.store import MemoryStore
from tests.unit.daemon.virtual_daemon import NOON, Daemon, LoopClock, QuickStore, VirtualLoop


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """asyncio, in virtual time."""
    return "asyncio", {"loop_factory": VirtualLoop}


@pytest.fixture(autouse=True)
def told() -> Iterator[list[MutableMapping[str, Any]]]:
    """What was logged, as events."""
    with structlog.testing.capture_logs() as events:
        yield events


@pytest.fixture
def wall_clock() -> Iterator[time_machine.Traveller]:
    """The system's own clock at NOON; `travelling` makes it go with the loop."""
    with time_machine.travel(NOON, tick=False) as traveller:
        yield traveller


@pytest.fixture
async def travelling(wall_clock: time_machine.Traveller) -> time_machine.Traveller:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    wall_clock.move_to(NOON + loop.time())
    loop.traveller = wall_clock
    return wall_clock


@pytest.fixture
def clock() -> LoopClock:
    return LoopClock()


@pytest.fixture
async def store(clock: LoopClock) -> MemoryStore:
    return QuickStore(clock)


@pytest.fixture
async def daemon(store: MemoryStore, clock: LoopClock) -> AsyncIterator[Daemon]:
    made = Daemon(store, clock)
    yield made
    await made.kill()
