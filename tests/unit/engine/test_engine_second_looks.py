"""What seems gone, or new, is looked at again before it is believed (sync-rules.md 10, 18, 22)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from syncd.core.model import Action, Direction, HoldKind, Outcome, Owner, Side, Unreadable
from syncd.engine import reconcile as engine
from syncd.engine.verify import LEFT_OUT
from syncd.errors import ConfigError, UnavailableError
from tests.fakes.portal import Surprise
from tests.simulation.world import World
from tests.unit.engine.given import both, deal, in_step, one_change, outcomes, plan, policy, undo, written

pytestmark = pytest.mark.anyio


def leave_out(world: World, *orders: int) -> None:
    """From the next listing on, the portal lists as if these orders were unbound, and proves it complete."""
    listing = world.portal.listing

    async def short(*args: Any) -> Any:
        async for listed in listing(*args):
            yield listed._replace(rows=[row for row in listed.rows if row.order_id not in orders])

    world.portal.listing = short  # type: ignore[method-assign]


# ------------------------------------------------------------------ half a listing


async def test_given_a_listing_that_left_out_an_order_bound_elsewhere_by_now_then_its_row_is_not_removed() -> None:
    world = await in_step({5: 10, 6: 11})
    leave_out(world, 5)
    world.edit_crm(5, (2, 20))

    report = await world.reconcile()

    assert one_change(report).outcome is Outcome.SKIPPED
    assert world.table.bindings[5] == deal(10)


async def test_given_orders_missing_from_the_list_when_they_are_asked_for_then_each_gets_what_is_found_of_it() -> None:
    world = await in_step(8)
    leave_out(world, 1, 2, 3, 4, 5)
    world.edit_crm(1, None)
    world.edit_crm(4, (2, 20))
    unreadable = Unreadable(HoldKind.INVALID_ROW, "its row in the CRM names no owner")
    read = world.portal.read

    async def with_an_odd_row(order_ids: Sequence[int]) -> dict[int, Owner | Unreadable]:
        return await read(order_ids) | {2: unreadable}

    world.portal.read = with_an_odd_row  # type: ignore[method-assign]
    report = await world.reconcile()

    assert outcomes(report) == {(1, "table"): Outcome.APPLIED, (4, "table"): Outcome.SKIPPED}
    assert {hold.order_id: hold.detail for hold in report.holds} == {2: unreadable.detail, 3: LEFT_OUT, 5: LEFT_OUT}
    left_out = Unreadable(HoldKind.INVALID_ROW, LEFT_OUT, Side.CRM)
    assert [hold.facts.unreadable for hold in report.holds if hold.order_id != 2] == [left_out, left_out]
    assert sorted(world.table.bindings) == [2, 3, 4, 5, 6, 7, 8]


async def test_given_an_order_missing_from_both_sides_that_is_bound_after_all_then_its_end_is_not_agreed() -> None:
    world = await in_step({5: 10, 6: 11})
    world.edit_table(5, None)
    leave_out(world, 5)

    await world.reconcile()

    assert await world.agreed(5) == deal(10)


@pytest.mark.parametrize("act", [engine.reconcile, engine.plan])
async def test_given_an_incomplete_listing_then_nothing_at_all_is_written(act: Any) -> None:
    world = await in_step({5: 10, 6: 11, 7: 12})
    world.edit_crm(5, (2, 20))
    world.edit_table(6, None)
    world.edit_crm(7, (2, 22))
    world.edit_table(7, (2, 22))
    world.portal.listings.append(Surprise.INCOMPLETE)

    report = await act(world.link())

    assert (report.row.state, report.exit_code) == ("incomplete", 69)
    assert written(world) == (0, 0)
    assert await world.agreed(7) == deal(12)
    assert report.changes == []


@pytest.mark.parametrize(
    ("error", "code"), [(UnavailableError("the table is away"), 69), (ConfigError("the column is gone"), 78)]
)
async def test_given_a_table_that_cannot_be_read_then_nothing_at_all_is_written(error: Exception, code: int) -> None:
    world = await in_step({5: 10, 6: 11})
    world.edit_table(5, (2, 20))
    world.table.fail("snapshot", error)

    report = await world.reconcile()

    assert (report.row.state, report.exit_code) == ("failed", code)
    assert written(world) == (0, 0)


# ------------------------------------------------------------- gone from the table


async def test_given_a_row_that_where_no_longer_selects_then_that_is_no_removal() -> None:
    world = await in_step({5: 10, 6: 11})
    world.table.drop(5)
    world.table.add(5, 2, 10, selected=False)

    report = await world.reconcile()

    assert report.changes == []
    assert await world.held() == {5: "out-of-scope"}
    assert world.portal.bindings[5] == deal(10)


async def test_given_a_deselected_row_when_it_is_selected_again_then_the_hold_goes() -> None:
    world = await in_step({5: 10, 6: 11})
    world.table.drop(5)
    world.table.add(5, 2, 10, selected=False)
    await world.reconcile()
    world.table.put(5, 2, 10)

    assert (await world.reconcile()).exit_code == 0
    assert await world.held() == {}


@pytest.mark.parametrize("direction", [Direction.TWO_WAY, Direction.CRM_TO_TABLE])
async def test_given_a_new_binding_whose_row_where_does_not_select_then_the_order_is_held_not_tried_for_ever(
    direction: Direction,
) -> None:
    world = await in_step({5: 10}, policy=policy(direction))
    world.table.add(9, 2, 80, selected=False)
    world.edit_crm(9, (2, 90))

    for _ in range(3):
        report = await world.reconcile()

    assert report.changes == []
    assert await world.held() == {9: "out-of-scope"}
    assert [row.owner_id for row in world.table.stored if row.order_id == 9] == [80]


async def test_given_a_deselected_row_and_an_order_unbound_in_the_crm_then_their_end_is_not_agreed_but_held() -> None:
    world = await in_step({5: 10, 6: 11})
    world.table.drop(5)
    world.table.add(5, 2, 10, selected=False)
    world.edit_crm(5, None)
    await world.reconcile()
    (first,) = await world.store.holds(1)
    await world.clock.sleep(100)

    await world.reconcile()

    assert await world.held() == {5: "out-of-scope"}
    assert await world.store.holds(1) == [first]
    assert await world.agreed(5) == deal(10)


async def test_given_a_row_that_comes_back_after_the_snapshot_then_its_order_is_not_unbound_and_the_others_are() -> (
    None
):
    world = await in_step({4: 9, 5: 10, 6: 11})
    world.edit_table(4, None)
    world.edit_table(5, None)
    world.table.meanwhile("read", lambda: world.edit_table(5, (2, 10)))

    report = await world.reconcile()

    assert outcomes(report) == {(4, "crm"): Outcome.APPLIED, (5, "crm"): Outcome.SKIPPED}
    assert world.portal.bindings == {5: deal(10), 6: deal(11)}


async def test_given_a_row_that_becomes_unreadable_after_the_snapshot_then_the_order_is_held() -> None:
    world = await in_step({5: 10, 6: 11})
    world.edit_table(5, None)
    world.table.meanwhile("read", lambda: world.table.add(5, 2, None))

    await world.reconcile()

    assert await world.held() == {5: "invalid-row"}
    assert world.portal.bindings[5] == deal(10)


async def test_given_nothing_that_seems_gone_or_new_in_the_table_then_the_table_is_not_asked_again() -> None:
    world = await in_step({5: 10, 6: 11})
    world.edit_crm(5, (2, 20))
    world.edit_table(9, (2, 90))
    world.table.calls.clear()

    await world.reconcile()

    assert (both(world, 5), both(world, 9)) == ((deal(20), deal(20)), (deal(90), deal(90)))
    assert "read" not in world.table.calls


# ------------------------------------------------------ moved between look and write


async def test_given_an_order_bound_elsewhere_after_the_listing_then_it_is_not_overwritten() -> None:
    world = await in_step({5: 10, 6: 11})
    world.edit_table(5, (2, 20))
    world.portal.before_write = lambda _batch: world.edit_crm(5, (2, 30))
    report = await world.reconcile()

    assert one_change(report).outcome is Outcome.SKIPPED
    assert "deal 30 is there now" in one_change(report).error
    assert world.portal.bindings[5] == deal(30)


async def test_given_an_order_that_got_the_wanted_owner_after_the_listing_then_nothing_is_written_and_it_is_agreed() -> (
    None
):
    world = await in_step({5: 10, 6: 11})
    world.edit_table(5, (2, 20))
    world.portal.before_write = lambda _batch: world.edit_crm(5, (2, 20))
    report = await world.reconcile()

    assert one_change(report).outcome is Outcome.ALREADY
    assert not world.portal.written
    assert await world.agreed(5) == deal(20)


async def test_given_a_table_row_that_moved_after_the_snapshot_then_it_is_not_overwritten() -> None:
    world = await in_step({5: 10, 6: 11})
    world.edit_crm(5, (2, 20))
    world.table.meanwhile("write", lambda: world.edit_table(5, (2, 30)))

    report = await world.reconcile()

    assert one_change(report).outcome is Outcome.SKIPPED
    assert world.table.bindings[5] == deal(30)


async def test_given_both_sides_alike_when_the_table_moves_before_that_is_agreed_then_it_is_not_agreed() -> None:
    world = await in_step({5: 10, 6: 11})
    world.edit_crm(5, (2, 20))
    world.edit_table(5, (2, 20))
    world.table.meanwhile("read", lambda: world.edit_table(5, (2, 30)))

    await world.reconcile()

    assert await world.agreed(5) == deal(10)


async def test_given_a_wait_before_a_batch_then_what_was_written_meanwhile_is_not_overwritten() -> None:
    world = await in_step(3)
    world.portal.size = 1
    for order in (1, 2):
        world.edit_table(order, (2, 500 + order))

    def after_the_first(_batch: object) -> None:
        world.portal.waits = {Action.ADD: 300.0}

    wait = world.clock.sleep

    async def sleep(seconds: float) -> None:
        await wait(seconds)
        world.edit_crm(2, (2, 77))
        world.portal.waits = {}

    world.portal.before_write = after_the_first
    world.clock.sleep = sleep  # type: ignore[method-assign]
    report = await world.reconcile()

    assert outcomes(report) == {(1, "crm"): Outcome.APPLIED, (2, "crm"): Outcome.SKIPPED}
    assert world.portal.bindings[2] == deal(77)


# ------------------------------------------------------------------------- purity


async def test_given_changes_of_every_kind_then_plan_writes_to_neither_side_nor_to_the_agreed_state() -> None:
    world = await in_step({5: 10, 6: 11, 7: 12, 8: 13})
    world.edit_crm(5, (2, 20))
    world.edit_table(6, None)
    world.edit_crm(7, (2, 22))
    world.edit_table(7, (2, 23))
    world.edit_crm(8, (2, 24))
    world.edit_table(8, (2, 24))
    world.edit_crm(9, (2, 25))
    rows = await world.store.bindings(1, 0, None)

    report = await plan(world)

    assert report.exit_code == 2
    assert written(world) == (0, 0)
    assert not world.portal.sent
    assert await world.store.bindings(1, 0, None) == rows
    assert await world.store.holds(1) == []
    assert [hold.order_id for hold in report.holds] == [7]


async def test_given_a_run_then_storing_its_undo_writes_to_neither_side_nor_to_the_agreed_state() -> None:
    world = await in_step({5: 10, 6: 11})
    world.edit_crm(5, (2, 20))
    run = (await world.reconcile()).row.id
    before, rows = written(world), await world.store.bindings(1, 0, None)

    await undo(world, run)

    assert written(world) == before
    assert await world.store.bindings(1, 0, None) == rows


async def test_given_nothing_changed_then_a_pass_writes_no_binding_rows_and_sends_nothing() -> None:
    world = await in_step(60)
    link = world.link()

    async def never(*_args: Any, **_kwargs: Any) -> None:
        raise AssertionError("nothing is to be written")

    for name in ("observed", "agree", "intend", "record", "set_holds"):
        setattr(link.store, name, never)
    report = await engine.reconcile(link)

    assert (report.exit_code, report.changes, report.row.counts.in_step) == (0, [], 60)
    assert not world.portal.sent
    assert both(world, 1) == (deal(101), deal(101))
