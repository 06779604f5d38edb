"""A guard refuses a whole plan before its first write, and keeps it for a person to approve by its number."""

from __future__ import annotations

from dataclasses import replace

import pytest

from syncd.core.guards import GuardLimits
from syncd.core.model import Outcome
from syncd.core.records import GuardHit
from tests.simulation.world import FREE
from tests.unit.engine.given import Side, apply, both, deal, in_step, outcomes, plan, written

pytestmark = pytest.mark.anyio

NOT_THIS = replace(FREE, max_removes_percent=100)


async def test_given_a_side_that_reads_as_empty_then_nothing_is_written() -> None:
    world = await in_step(3)
    world.table.stored.clear()

    report = await world.reconcile()

    assert (report.row.state, report.exit_code) == ("refused", 4)
    assert GuardHit("empty_side", Side.TABLE, 1, 0) in report.row.guards
    assert "the table reads as empty" in report.row.error
    assert len(world.portal.bindings) == 3


@pytest.mark.parametrize("side", list(Side))
async def test_given_more_removes_than_the_limit_then_the_plan_is_refused_with_both_numbers(side: Side) -> None:
    world = await in_step(30, limits=replace(FREE, max_removes=4))
    for order in range(1, 6):
        (world.edit_table if side is Side.CRM else world.edit_crm)(order, None)
    before = written(world)

    report = await world.reconcile()

    assert report.row.guards == [GuardHit("max_removes", side, 4, 5)]
    assert "5 removes" in report.row.error
    assert "4" in report.row.error
    assert written(world) == before
    assert not world.portal.sent


@pytest.mark.parametrize(
    ("limit", "edit"),
    [
        ("max_removes_percent", None),
        ("max_moves_percent", (2, 999)),
    ],
)
async def test_given_a_part_of_the_bindings_above_the_percentage_then_the_plan_is_refused(
    limit: str, edit: tuple[int, int] | None
) -> None:
    world = await in_step(40, limits=replace(FREE, **{limit: 10}))
    for order in range(1, 6):
        world.edit_crm(order, edit)

    report = await world.reconcile()

    assert report.row.guards == [GuardHit(limit, Side.TABLE, 10, 12.5)]
    assert world.table.written == []


async def test_given_many_new_bindings_then_the_plan_is_refused() -> None:
    world = await in_step(20, limits=replace(FREE, max_adds_percent=50))
    for order in range(101, 112):
        world.edit_crm(order, (2, order))

    report = await world.reconcile()

    assert report.row.guards == [GuardHit("max_adds_percent", Side.TABLE, 50, 55)]


async def test_given_a_refused_plan_then_neither_agreed_state_nor_holds_move() -> None:
    world = await in_step(30, limits=replace(FREE, max_removes=1))
    for order in (1, 2):
        world.edit_table(order, None)
    world.edit_crm(3, (2, 700))
    world.edit_table(3, (2, 701))
    world.edit_crm(4, (2, 702))
    world.edit_table(4, (2, 702))

    report = await world.reconcile()

    assert report.exit_code == 4
    assert [(hold.order_id, hold.kind.value) for hold in report.holds] == [(3, "edit-edit")]
    assert await world.held() == {}
    assert await world.agreed(4) == deal(104)


async def test_given_a_refused_plan_when_its_run_is_applied_then_exactly_that_is_done() -> None:
    world = await in_step(30, limits=replace(FREE, max_removes=1))
    for order in (1, 2):
        world.edit_table(order, None)
    refused = (await world.reconcile()).row.id

    report = await apply(world, refused)

    assert outcomes(report) == {(1, "crm"): Outcome.APPLIED, (2, "crm"): Outcome.APPLIED}
    assert report.exit_code == 0
    assert both(world, 1) == both(world, 2) == (None, None)


async def test_given_a_refused_plan_when_the_next_pass_finds_the_same_then_it_is_refused_again() -> None:
    world = await in_step(30, limits=replace(FREE, max_removes=1))
    for order in (1, 2):
        world.edit_table(order, None)

    first, second = await world.reconcile(), await world.reconcile()

    assert first.exit_code == second.exit_code == 4
    assert first.row.digest == second.row.digest


async def test_given_a_plan_command_then_it_is_refused_just_as_a_pass_is() -> None:
    world = await in_step(30, limits=replace(FREE, max_removes=1))
    for order in (1, 2):
        world.edit_table(order, None)

    report = await plan(world)

    assert (report.row.state, report.exit_code) == ("refused", 4)
    assert outcomes(report) == {(1, "crm"): Outcome.PLANNED, (2, "crm"): Outcome.PLANNED}


async def test_given_removes_of_earlier_runs_today_then_they_count() -> None:
    world = await in_step(40, limits=replace(NOT_THIS, max_removes_per_day=3))
    for order in (1, 2):
        world.edit_table(order, None)
    await world.reconcile()
    for order in (3, 4):
        world.edit_table(order, None)

    refused = await world.reconcile()
    await world.clock.sleep(86_401)
    later = await world.reconcile()

    assert refused.row.guards == [GuardHit("max_removes_per_day", Side.CRM, 3, 4)]
    assert later.exit_code == 0


async def test_given_removes_by_apply_and_undo_then_they_count_too() -> None:
    world = await in_step(40, limits=replace(NOT_THIS, max_removes_per_day=1))
    for order in (1, 2):
        world.edit_table(order, None)
    await apply(world, (await world.reconcile()).row.id)
    world.edit_table(3, None)

    assert (await world.reconcile()).row.guards == [GuardHit("max_removes_per_day", Side.CRM, 1, 3)]


async def test_given_few_bindings_then_two_removes_are_free_and_a_third_is_not() -> None:
    world = await in_step(10, limits=GuardLimits())
    for order in (1, 2):
        world.edit_table(order, None)
    free = await world.reconcile()
    for order in (3, 4, 5):
        world.edit_table(order, None)

    refused = await world.reconcile()

    assert free.exit_code == 0
    assert [hit.name for hit in refused.row.guards] == ["max_removes_small"]
