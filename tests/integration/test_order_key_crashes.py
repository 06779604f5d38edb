"""A process that dies at any step of a pass over keys leaves what the next passes bring to the same end."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from syncd.engine import reconcile as engine
from tests.integration.keyed_shop import KeyedShop
from tests.simulation.crash import Crash, Mortal, Steps

pytestmark = pytest.mark.anyio

EVERY = 5
"""Each so-many-th step is tried: a pass of this story has some 150, and a try takes a fifth of a second."""


async def lived(url: str, steps: Steps) -> object:
    """Return what both sides and the holds are in the end, where the second pass died at the step of `steps`, if any."""
    async with KeyedShop(url, "xmlId").running() as world:
        await world.in_step({order: 100 + order for order in range(1, 6)})
        for order, key in ((1, "moved"), (9, "shop-1"), (30, "twice"), (31, "twice"), (32, "")):
            world.give_key(order, key)
        for key, owner in (("shop-1", 301), ("unknown", 302), ("shop-21", 305), ("twice", 306)):
            world.put(key, owner)
        for order, owner in ((2, 303), (20, 304), (32, 307)):
            world.bind(order, owner)
        world.drop("shop-3")
        await pass_of_a_mortal(world, steps)
        for _ in range(3):
            report = await world.reconcile(minutes=61)
        link = await world.store.find_link("shop")
        assert await world.store.open_intents(link.id) == []
        assert "running" not in {run.state for run in await world.store.runs("shop", 99)}
        return world.rows, world.bound, [(hold.order_id, hold.kind) for hold in report.holds], report.row.state


async def pass_of_a_mortal(world: KeyedShop, steps: Steps) -> None:
    """Make a pass whose process may die: nothing of it runs then, and its lock is gone."""
    link: Any = world.link()
    table = link.table
    link.store = link.order_keys._store = Mortal(world.store, "store", steps)
    link.portal = link.order_keys._portal = Mortal(link.portal, "portal", steps)
    link.table = Mortal(table, "table", steps)
    with suppress(Crash):
        await engine.reconcile(link)
    await table.aclose()
    world.store.bury(link.holder)
    world.clock.advance(200)


def database(path: Path) -> str:
    path.touch()
    return f"sqlite:///{path}"


async def test_given_a_death_at_any_step_then_the_next_passes_end_as_if_it_had_lived(tmp_path: Path) -> None:
    whole = Steps()
    end = await lived(database(tmp_path / "whole.db"), whole)
    assert whole.taken > 100
    for stop_at in range(1, whole.taken + 1, EVERY):
        steps = Steps(stop_at)
        assert await lived(database(tmp_path / f"{stop_at}.db"), steps) == end, f"{stop_at}: {steps.names[-1]}"
        assert steps.dead
