"""What the engine's tests begin with, and the few words they ask its reports with."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from syncd.core.model import Direction, MaybeOwner, OnConflict, Outcome, Owner, Policy, Side
from syncd.core.records import StoredChange
from syncd.engine import reconcile as engine
from syncd.engine.report import Report
from tests.fakes.clock import FakeClock
from tests.fakes.link import DEALS
from tests.fakes.store import MemoryStore
from tests.simulation.crash import Crash, Steps
from tests.simulation.world import World


def deal(number: int) -> Owner:
    return Owner(2, number)


def policy(direction: Direction = Direction.TWO_WAY, on_conflict: OnConflict = OnConflict.HOLD) -> Policy:
    return Policy(direction, on_conflict, DEALS)


def patient(**options: Any) -> World:
    """A world whose time passes while everybody waits, so that tasks run side by side."""
    world = World(**options)
    world.clock = FakeClock()  # type: ignore[assignment]
    world.store = MemoryStore(world.clock)
    return world


async def in_step(orders: dict[int, int] | int, **world: Any) -> World:
    """A link that has these orders on both sides, agreed by a first pass; a number stands for so many orders."""
    made = World(**({"policy": policy()} | world))
    if isinstance(orders, int):
        orders = {order: 100 + order for order in range(1, orders + 1)}
    for order, number in orders.items():
        made.edit_crm(order, (2, number))
        made.edit_table(order, (2, number))
    report = await made.reconcile()
    assert report.exit_code == 0
    made.portal.sent.clear()
    return made


def outcomes(report: Report) -> dict[tuple[int, str], Outcome]:
    """What became of each change: by order and side."""
    return {(one.change.order_id, str(one.change.side)): one.outcome for one in report.changes}


def one_change(report: Report) -> StoredChange:
    (change,) = report.changes
    return change


async def apply(world: World, run: int) -> Report:
    return await engine.apply(world.link(), run)


async def plan(world: World) -> Report:
    return await engine.plan(world.link())


async def undo(world: World, run: int) -> Report:
    return await engine.undo(world.link(), run)


async def rebase(world: World) -> Report:
    return await engine.rebase(world.link())


def lose(world: World, *orders: int, side: Side = Side.TABLE) -> None:
    """These orders are gone from a side."""
    for order in orders:
        (world.edit_table if side is Side.TABLE else world.edit_crm)(order, None)


def written(world: World) -> tuple[int, int]:
    """How many writes each side has executed so far."""
    return len(world.portal.written), len(world.table.written)


async def die(world: World, step: str, times: int = 1) -> int:
    """One pass whose process dies when it comes to a step for so many times; return its run."""
    steps, seen = Steps(), []

    def count(name: str) -> None:
        seen.append(name)
        if seen.count(step) == times:
            steps.die(name)

    steps.meanwhile = count
    with suppress(Crash):
        await world.reconcile(steps)
    assert steps.dead
    return (await world.store.runs(None, 1))[0].id


def both(world: World, order: int) -> tuple[MaybeOwner, MaybeOwner]:
    return world.portal.bindings.get(order), world.table.bindings.get(order)
