"""Seeded lives of a link keep every promise (sync-rules.md 14 to 18, 20, 24, 25). `make soak` plays many more."""

from __future__ import annotations

import pytest

from tests.simulation.chaos import live

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("first", range(0, 200, 20))
async def test_given_any_life_then_no_promise_is_broken(first: int) -> None:
    for seed in range(first, first + 20):
        life = await live(seed)
        assert not life.broken, f"seed {seed}: python -m tests.simulation.soak --first {seed} --lives 1"
