"""`undo` puts back what a run wrote, and nothing else."""

from __future__ import annotations

import pytest

from syncd.core.model import Direction, Outcome
from syncd.errors import UsageError
from tests.simulation.crash import Crash, Steps
from tests.unit.engine.given import apply, both, deal, in_step, outcomes, plan, policy, undo, written

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("side", ["crm", "table"])
async def test_given_a_run_that_copied_a_new_binding_when_undone_then_the_copy_is_removed(side: str) -> None:
    world = await in_step({5: 10, 6: 11, 7: 12})
    (world.edit_crm if side == "crm" else world.edit_table)(9, (2, 90))
    run = (await world.reconcile()).row.id

    report = await apply(world, (await undo(world, run)).row.id)

    copy = "table" if side == "crm" else "crm"
    assert outcomes(report) == {(9, copy): Outcome.APPLIED}
    assert both(world, 9) == ((deal(90), None) if side == "crm" else (None, deal(90)))
    assert await world.held() == {9: "edit-remove" if side == "crm" else "remove-edit"}


async def test_given_a_run_that_moved_a_binding_when_undone_then_the_old_owner_is_back_and_stays() -> None:
    world = await in_step({5: 10, 6: 11})
    world.edit_table(5, (2, 20))
    run = (await world.reconcile()).row.id

    await apply(world, (await undo(world, run)).row.id)
    await world.reconcile()

    assert both(world, 5) == (deal(10), deal(20))
    assert await world.agreed(5) == deal(10)


async def test_given_a_run_that_removed_a_binding_when_undone_then_it_is_bound_again() -> None:
    world = await in_step({5: 10, 6: 11})
    world.edit_table(5, None)
    run = (await world.reconcile()).row.id

    await apply(world, (await undo(world, run)).row.id)

    assert both(world, 5) == (deal(10), None)
    assert await world.held() == {5: "edit-remove"}


async def test_given_an_undo_when_stored_then_neither_side_is_written() -> None:
    world = await in_step({5: 10})
    world.edit_table(5, (2, 20))
    run = (await world.reconcile()).row.id
    before = written(world)

    report = await undo(world, run)

    assert report.row.state == "planned"
    assert written(world) == before


async def test_given_an_order_that_changed_since_when_undone_then_it_is_skipped_and_the_others_are_put_back() -> None:
    world = await in_step({5: 10, 6: 11})
    world.edit_table(5, (2, 20))
    world.edit_table(6, (2, 21))
    run = (await world.reconcile()).row.id
    world.edit_crm(6, (2, 31))

    stored = await undo(world, run)
    report = await apply(world, stored.row.id)

    assert outcomes(stored) == {(5, "crm"): Outcome.PLANNED, (6, "crm"): Outcome.SKIPPED}
    assert outcomes(report) == {(5, "crm"): Outcome.APPLIED}
    assert world.portal.bindings[6] == deal(31)


@pytest.mark.parametrize(
    ("direction", "source", "target"),
    [(Direction.CRM_TO_TABLE, "crm", "table"), (Direction.TABLE_TO_CRM, "table", "crm")],
)
async def test_given_a_link_that_became_one_way_then_neither_an_undo_nor_a_stored_plan_writes_its_source(
    direction: Direction, source: str, target: str
) -> None:
    world = await in_step({5: 10, 6: 11})
    world.edit_crm(5, (2, 20))
    world.edit_table(6, (2, 21))
    run = (await world.reconcile()).row.id
    earlier = await undo(world, run)
    world.policy = policy(direction)

    stored = await undo(world, run)
    report = await apply(world, earlier.row.id)

    # Order 5 was written in the table, and order 6 in the CRM.
    on_source, on_target = (6, 5) if source == "crm" else (5, 6)
    assert outcomes(stored) == {(on_target, target): Outcome.PLANNED, (on_source, source): Outcome.SKIPPED}
    assert outcomes(report) == {(on_target, target): Outcome.APPLIED, (on_source, source): Outcome.SKIPPED}
    (skipped,) = [one for one in report.changes if one.outcome is Outcome.SKIPPED]
    assert f"never writes the {source} side" in skipped.error
    assert both(world, on_source) == (deal(20 if on_source == 5 else 21),) * 2


async def test_given_an_order_that_changed_after_the_undo_was_stored_when_applied_then_it_is_skipped() -> None:
    world = await in_step({5: 10, 6: 11})
    world.edit_table(5, (2, 20))
    run = (await world.reconcile()).row.id
    stored = await undo(world, run)
    world.edit_crm(5, (2, 31))

    report = await apply(world, stored.row.id)

    assert outcomes(report) == {(5, "crm"): Outcome.SKIPPED}
    assert world.portal.bindings[5] == deal(31)


async def test_given_a_run_that_wrote_nothing_when_undone_then_it_says_so() -> None:
    world = await in_step({5: 10})
    run = (await plan(world)).row.id

    with pytest.raises(UsageError, match="wrote nothing") as caught:
        await undo(world, run)
    assert f"syncd show {run}" in caught.value.hint


async def test_given_a_run_of_another_link_or_none_at_all_when_undone_then_it_is_a_usage_error() -> None:
    world = await in_step({5: 10})
    world.edit_table(5, (2, 20))
    run = (await world.reconcile()).row.id
    world.options["name"] = "other"

    for number in (run, 999):
        with pytest.raises(UsageError, match=f"There is no run {number} of link other"):
            await undo(world, number)


async def test_given_a_run_that_died_after_its_write_when_undone_then_the_write_is_put_back() -> None:
    world = await in_step({5: 10, 6: 11})
    world.edit_table(5, (2, 20))
    steps = Steps()
    steps.meanwhile = lambda name: steps.die(name) if name == "portal.write after" else None
    with pytest.raises(Crash):
        await world.reconcile(steps)
    run = (await world.store.runs("shop", 1))[0].id

    await apply(world, (await undo(world, run)).row.id)

    assert both(world, 5) == (deal(10), deal(20))
    assert await world.held() == {5: "edit-edit"}


async def test_given_an_undone_order_when_either_side_changes_it_then_it_is_synchronised_again() -> None:
    world = await in_step({5: 10, 6: 11})
    world.edit_table(5, (2, 20))
    run = (await world.reconcile()).row.id
    await apply(world, (await undo(world, run)).row.id)
    world.edit_table(5, (2, 10))

    report = await world.reconcile()

    assert both(world, 5) == (deal(10), deal(10))
    assert report.exit_code == 0
    assert await world.held() == {}


async def test_given_the_owner_a_run_replaced_is_gone_when_undone_then_the_order_is_held_instead() -> None:
    world = await in_step({5: 10, 6: 11})
    world.edit_table(5, (2, 20))
    run = (await world.reconcile()).row.id
    world.portal.owners = {deal(20), deal(11)}

    report = await apply(world, (await undo(world, run)).row.id)

    assert report.exit_code == 3
    assert await world.held() == {5: "owner-missing"}
    assert world.portal.bindings[5] == deal(20)
