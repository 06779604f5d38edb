"""Passes over some orders only, as the engine's tests ask for them, and what they ask of them."""

from __future__ import annotations

from syncd.core.order_ranges import Coverage, OrderRanges
from syncd.engine import reconcile as engine
from syncd.engine.covering import Portion
from syncd.engine.report import Report
from tests.simulation.world import World


def named(text: str) -> Portion:
    return Portion(orders=OrderRanges.parse(text))


async def over(world: World, text: str) -> Report:
    return await engine.reconcile(world.link(), portion=named(text))


async def coverage(world: World) -> Coverage:
    row = await world.store.find_link("shop")
    assert row is not None
    assert row.coverage is not None
    return row.coverage


def edit(world: World, *orders: int, to: int = 900) -> None:
    for order in orders:
        world.edit_table(order, (2, to + order))


def guards(report: Report) -> list[str]:
    return sorted({hit.name for hit in report.row.guards})


async def sliced(world: World, slices: int = 4) -> Report:
    world.options = {"slices": slices, "recent_orders": 5}
    await world.clock.sleep(300)
    return await engine.reconcile(world.link(), origin="schedule", portion=Portion(slice=True))


async def recent(world: World) -> Report:
    world.options |= {"recent_orders": 5}
    return await engine.reconcile(world.link(), origin="recent", portion=Portion(recent=True))
