"""A plan that takes long looks at its source again before each batch."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from syncd.core.model import Outcome
from syncd.core.ports import Write
from syncd.engine import reconcile as engine
from tests.simulation.world import World
from tests.unit.engine.given import apply, both, deal, in_step, outcomes, plan, undo

pytestmark = pytest.mark.anyio


def slow_portal(world: World, seconds: float, then: dict[int, Any]) -> None:
    """Each write request takes so long; after the first, the order system puts these rows into its table."""

    def write(_batch: Sequence[Write]) -> None:
        world.clock.time += seconds
        for order, value in then.items():
            world.edit_table(order, value)
        then.clear()

    world.portal.size = 2
    world.portal.before_write = write


async def test_given_rows_put_back_while_the_plan_is_applied_then_the_rest_is_not_written() -> None:
    world = await in_step(120)
    for order in range(1, 121):
        world.edit_table(order, (2, 999))
    slow_portal(world, 6, {order: (2, 100 + order) for order in range(1, 121)})

    report = await world.reconcile()

    done = outcomes(report)
    assert [order for order, _ in done if done[order, "crm"] is Outcome.APPLIED] == [1]
    assert {done[order, "crm"] for order in range(2, 121)} == {Outcome.SKIPPED}
    assert "the table now says deal 103" in next(one.error for one in report.changes if one.change.order_id == 3)
    assert both(world, 3) == (deal(103), deal(103))
    assert (await world.reconcile()).exit_code == 0
    assert all(both(world, order) == (deal(100 + order),) * 2 for order in range(1, 121))


async def test_given_a_plan_made_a_moment_ago_then_the_source_is_not_read_again() -> None:
    world = await in_step(20)
    for order in range(1, 21):
        world.edit_table(order, (2, 900 + order))
    world.table.calls.clear()
    slow_portal(world, 0.05, {})

    await world.reconcile()

    assert world.table.calls.count("read") == 0


async def test_given_a_long_plan_then_the_table_is_asked_before_each_batch_at_most_once_a_second() -> None:
    for seconds, reads in ((2, range(19, 20)), (0.25, range(3, 6))):
        world = await in_step(40)
        for order in range(1, 41):
            world.edit_table(order, (2, 900 + order))
        world.table.calls.clear()
        slow_portal(world, seconds, {})

        assert (await world.reconcile()).exit_code == 0

        assert world.table.calls.count("read") in reads


async def test_given_rows_put_back_two_seconds_into_a_quick_start_then_no_later_batch_carries_the_mistake() -> None:
    world = await in_step(120)
    for order in range(1, 121):
        world.edit_table(order, (2, 999))
    slow_portal(world, 1.5, {order: (2, 100 + order) for order in range(1, 121)})

    done = outcomes(await world.reconcile())

    assert {done[order, "crm"] for order in range(3, 121)} == {Outcome.SKIPPED}


@pytest.mark.parametrize("row", ["gone", "deselected", "doubled", "garbled"])
async def test_given_a_row_that_says_nothing_clear_any_more_then_its_order_is_not_written(row: str) -> None:
    world = await in_step(20)
    for order in range(1, 9):
        world.edit_table(order, (2, 900 + order))
    slow_portal(world, 6, {})
    write = world.portal.before_write
    assert write is not None

    def and_then(batch: Sequence[Write]) -> None:
        write(batch)
        if row == "gone":
            world.table.drop(8)
        elif row == "deselected":
            world.table.drop(8)
            world.table.add(8, 2, 908, selected=False)
        elif row == "doubled":
            world.table.add(8, 2, 1)
        else:
            world.table.put(8, 2, None)
        world.portal.before_write = write

    world.portal.before_write = and_then
    report = await world.reconcile()

    assert outcomes(report)[8, "crm"] is Outcome.SKIPPED
    assert world.portal.bindings[8] == deal(108)


async def test_given_a_removal_whose_row_comes_back_while_the_plan_is_applied_then_it_is_not_made() -> None:
    world = await in_step(20)
    for order in range(1, 9):
        world.edit_table(order, None)
    slow_portal(world, 6, {8: (2, 108)})

    report = await world.reconcile()

    assert outcomes(report)[8, "crm"] is Outcome.SKIPPED
    assert both(world, 8) == (deal(108), deal(108))


async def test_given_bindings_that_change_while_the_table_is_written_then_their_rows_are_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("syncd.engine.write_queue.TABLE_BATCH", 2)
    world = await in_step(20)
    for order in range(1, 9):
        world.edit_crm(order, (2, 900 + order))

    def slowly() -> None:
        world.clock.time += 6
        world.edit_crm(8, (2, 77))

    world.table.meanwhile("write", slowly)
    report = await world.reconcile()

    done = outcomes(report)
    assert done.pop((8, "table")) is Outcome.SKIPPED
    assert set(done.values()) == {Outcome.APPLIED}
    assert world.table.bindings[8] == deal(108)
    assert (await world.reconcile()).exit_code == 0
    assert both(world, 8) == (deal(77), deal(77))


async def test_given_bindings_that_change_later_than_they_were_read_then_their_rows_are_left_alone() -> None:
    world = await in_step(1300)
    for order in range(1, 1301):
        world.edit_crm(order, (2, 2000 + order))
    write, batches = world.table.write, []

    async def slowly(batch: Sequence[Write]) -> Any:
        world.clock.time += 6
        batches.append(len(batch))
        if len(batches) == 2:
            world.edit_crm(1300, (2, 77))
        return await write(batch)

    world.table.write = slowly  # type: ignore[method-assign]
    report = await world.reconcile()

    assert batches == [500, 500, 299]
    assert outcomes(report)[1300, "table"] is Outcome.SKIPPED
    assert world.table.bindings[1300] == deal(1400)


async def test_given_a_stored_plan_then_its_source_is_looked_at_again_too() -> None:
    world = await in_step(20)
    for order in range(1, 9):
        world.edit_table(order, (2, 900 + order))
    stored = await plan(world)
    slow_portal(world, 6, {8: (2, 108)})

    report = await apply(world, stored.row.id)

    assert outcomes(report)[8, "crm"] is Outcome.SKIPPED
    assert world.portal.bindings[8] == deal(108)


async def overwritten() -> World:
    """A link whose last pass replaced owner 77 of order 1 in the CRM by 901, and that a person tells to take it back."""
    world = await in_step(20)
    world.edit_table(1, (2, 901))
    world.portal.conditional = False
    world.races = [(1, (2, 77))]
    await world.reconcile()
    assert await world.held() == {1: "edit-edit"}
    await world.store.decide(1, [1], "crm", world.clock.now())
    return world


def slow_table(world: World) -> None:
    """Each transaction takes six seconds."""
    write = world.table.write

    async def slow(batch: Sequence[Write]) -> Any:
        world.clock.time += 6
        return await write(batch)

    world.table.write = slow  # type: ignore[method-assign]


async def test_given_a_decision_that_writes_both_sides_then_its_own_row_is_no_change_of_the_source() -> None:
    world = await overwritten()
    for order in (2, 3):
        world.edit_table(order, (2, 900 + order))
    slow_table(world)

    report = await world.reconcile()

    assert report.exit_code == 0
    assert both(world, 1) == (deal(77), deal(77))
    assert await world.held() == {}


async def test_given_an_undo_that_puts_back_another_owner_on_each_side_then_its_own_row_is_no_change_of_the_source() -> (
    None
):
    world = await overwritten()
    world.races = [(1, (2, 55))]
    decided = await world.reconcile()
    assert both(world, 1) == (deal(77), deal(77))
    stored = await undo(world, decided.row.id)
    slow_table(world)

    await apply(world, stored.row.id)

    assert both(world, 1) == (deal(55), deal(901))


async def test_given_the_stop_while_the_source_is_read_again_then_the_run_ends_and_nothing_more_is_sent() -> None:
    world = await in_step(20)
    for order in range(1, 9):
        world.edit_table(order, (2, 900 + order))
    slow_portal(world, 6, {})
    link = world.link()
    read = link.table.read

    async def stopping(orders: Sequence[int]) -> Any:
        link.cancelled.set("SIGTERM")
        for _turn in range(50):
            await asyncio.sleep(0)
        return await read(orders)

    link.table.read = stopping  # type: ignore[method-assign, assignment]
    report = await engine.reconcile(link)

    assert (report.exit_code, report.row.state) == (143, "partial")
    assert sorted(write.order_id for write in world.portal.sent) == [1, 2]
    assert await world.store.open_intents(1) == []


@pytest.mark.parametrize(("side", "limit"), [("crm", "TABLE_ORDERS"), ("table", "CRM_ORDERS")])
async def test_given_a_long_plan_then_the_source_is_asked_for_no_more_orders_at_a_time_than_its_side_takes(
    side: str, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"syncd.engine.write_queue.{limit}", 20)
    monkeypatch.setattr("syncd.engine.write_queue.TABLE_BATCH", 2)
    world = await in_step(60)
    source, written = (world.table, world.portal) if side == "crm" else (world.portal, world.table)
    for order in range(1, 51):
        (world.edit_table if side == "crm" else world.edit_crm)(order, (2, 900 + order))
    world.portal.size = 2
    asked: list[int] = []
    read, write = source.read, written.write

    async def reading(orders: Sequence[int]) -> Any:
        asked.append(len(orders))
        return await read(orders)

    async def slowly(batch: Sequence[Write]) -> Any:
        world.clock.time += 6
        return await write(batch)

    source.read, written.write = reading, slowly  # type: ignore[method-assign, assignment]
    report = await world.reconcile()

    assert report.exit_code == 0
    assert asked[0] == 20
    assert sorted(asked, reverse=True) == asked
