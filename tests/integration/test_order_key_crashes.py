"""A process that dies at any step of a pass over keys leaves what the next passes bring to the same end."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from syncd.engine import reconcile as engine
from tests.integration.keyed_shop import KeyedShop

pytestmark = pytest.mark.anyio

STEPS = (47, 85)
"""Calls of the store or the portal before which, or after which, the process dies; a pass of this story has some 120."""


class Death(BaseException):
    """The process is gone."""


class Mortal:
    """A port whose calls are counted, before and after; the process dies when none is left."""

    def __init__(self, port: Any, left: list[int]) -> None:
        self._port, self._left = port, left

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        if not asyncio.iscoroutinefunction(found):
            return found

        async def call(*args: Any, **options: Any) -> Any:
            self._count()
            result = await found(*args, **options)
            self._count()
            return result

        return call

    def _count(self) -> None:
        self._left[0] -= 1
        if not self._left[0]:
            raise Death


async def lived(url: str, steps: int) -> object:
    """Return what both sides and the holds are in the end, where the first pass died after so many steps (0: not)."""
    async with KeyedShop(url, "xmlId").running() as world:
        await world.in_step({order: 100 + order for order in range(1, 6)})
        for order, key in ((1, "moved"), (9, "shop-1"), (30, "twice"), (31, "twice"), (32, "")):
            world.give_key(order, key)
        for key, owner in (("shop-1", 301), ("unknown", 302), ("shop-21", 305), ("twice", 306)):
            world.put(key, owner)
        for order, owner in ((2, 303), (20, 304), (32, 307)):
            world.bind(order, owner)
        world.drop("shop-3")
        if steps:
            left = [steps]
            link = world.link()
            assert link.order_keys is not None
            link.store = link.order_keys._store = Mortal(world.store, left)
            link.portal = link.order_keys._portal = Mortal(link.portal, left)
            with suppress(Death):
                await engine.reconcile(link)
            assert left[0] <= 0, "the pass had fewer steps"
            await link.table.aclose()
            world.clock.advance(200)
        for _ in range(3):
            report = await world.reconcile(minutes=61)
        return world.rows, world.bound, [(hold.order_id, hold.kind) for hold in report.holds], report.row.state


def database(path: Path) -> str:
    path.touch()
    return f"sqlite:///{path}"


async def test_given_a_death_at_any_step_then_the_next_passes_end_as_if_it_had_lived(tmp_path: Path) -> None:
    whole = await lived(database(tmp_path / "whole.db"), 0)
    for steps in STEPS:
        assert await lived(database(tmp_path / f"{steps}.db"), steps) == whole, steps
