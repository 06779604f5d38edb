"""The clock of the operating system: the program's, not a test's."""

from __future__ import annotations

import asyncio
import time

import pytest

from syncd.obs.clock import SystemClock


def test_given_the_system_clock_then_it_tells_the_time_and_draws_numbers() -> None:
    clock = SystemClock()

    assert time.time() <= clock.now() <= time.time()
    assert time.monotonic() <= clock.monotonic() <= time.monotonic()
    drawn = {clock.random() for _ in range(100)}
    assert len(drawn) > 1
    assert all(0 <= number < 1 for number in drawn)


@pytest.mark.anyio
@pytest.mark.parametrize("seconds", [0, -1])
async def test_given_no_time_to_sleep_then_others_get_a_turn(seconds: float) -> None:
    turns: list[str] = []
    other = asyncio.create_task(_take(turns))

    await SystemClock().sleep(seconds)

    assert turns == ["other"]
    await other


async def _take(turns: list[str]) -> None:
    turns.append("other")
