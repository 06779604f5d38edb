"""A state database that knows less than was noted outside it writes nothing until a person says so."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from syncd.core.records import GuardHit
from syncd.engine import reconcile as engine
from syncd.engine.report import Report
from tests.fakes.high_water import MemoryMark
from tests.simulation.world import World
from tests.unit.engine.given import apply, both, deal, in_step, plan, rebase, undo, written

pytestmark = pytest.mark.anyio


def backup(world: World) -> dict[str, Any]:
    return copy.deepcopy({name: value for name, value in vars(world.store).items() if name != "_clock"})


def restore(world: World, saved: dict[str, Any]) -> None:
    vars(world.store).update(copy.deepcopy(saved))


async def restored() -> World:
    """A link whose state was put back to before a person's edit in the CRM, which has been synced since."""
    world = await in_step({5: 10, 6: 11}, options={"high_water": MemoryMark()})
    saved = backup(world)
    world.clock.time += 3600
    world.edit_crm(5, (2, 20))
    assert (await world.reconcile()).exit_code == 0
    world.edit_table(5, (2, 10))  # what the old state would take for yesterday's value, and today's edit for drift
    world.edit_crm(6, (2, 21))
    restore(world, saved)
    world.clock.time += 3600
    return world


def is_refused(report: Report) -> None:
    assert (report.row.state, report.exit_code) == ("refused", 4)
    assert [hit.name for hit in report.row.guards] == ["state_older"]
    assert "does not know what run 2 of this link changed" in report.row.error


@pytest.mark.parametrize("act", [engine.reconcile, engine.plan])
async def test_given_an_older_state_then_a_plan_that_would_write_is_refused(act: Any) -> None:
    world = await restored()
    before = written(world)
    report = await act(world.link())
    is_refused(report)
    assert report.row.guards == [GuardHit("state_older", None, 0, 2)]
    assert written(world) == before


async def test_given_an_older_state_then_it_stays_refused_however_many_runs_are_counted_up_again() -> None:
    world = await restored()
    for _ in range(5):
        is_refused(await world.reconcile())


async def test_given_an_older_state_after_a_run_that_was_cut_off_then_it_is_refused_just_so() -> None:
    world = await restored()
    mark = world.options["high_water"]
    mark.known["shop"] = mark.known["shop"]._replace(finished_at=None)
    for _ in range(2):
        is_refused(await world.reconcile())


async def test_given_an_older_state_and_a_clock_that_stands_still_then_the_run_counted_up_anew_is_not_the_noted_one() -> (
    None
):
    world = await in_step({5: 10}, options={"high_water": MemoryMark()})
    saved = backup(world)
    world.edit_crm(5, (2, 20))
    noted = (await world.reconcile()).row
    mark = world.options["high_water"]
    await mark.write("shop", mark.known["shop"]._replace(finished_at=None))
    restore(world, saved)
    world.edit_table(5, (2, 10))
    report = await world.reconcile()
    assert (report.row.id, report.row.started_at) == (noted.id, noted.started_at)
    assert [hit.name for hit in report.row.guards] == ["state_older"]


async def test_given_an_older_state_that_only_the_mark_of_the_link_knows_then_it_is_refused_just_so() -> None:
    world = await restored()
    world.options["high_water"].ends.clear()
    is_refused(await world.reconcile())


async def test_given_an_older_state_then_applying_the_refused_plan_makes_it_the_state_of_the_link() -> None:
    world = await restored()
    refused = await world.reconcile()
    assert (await apply(world, refused.row.plan)).exit_code == 0
    world.edit_crm(5, (2, 22))
    assert (await world.reconcile()).exit_code == 0
    assert both(world, 5) == (deal(22), deal(22))


async def test_given_an_older_state_then_a_rebase_makes_it_the_state_of_the_link() -> None:
    world = await restored()
    await rebase(world)
    world.edit_crm(7, (2, 17))
    assert (await world.reconcile()).row.guards == []
    assert both(world, 7) == (deal(17), deal(17))


async def test_given_an_older_state_and_both_sides_alike_then_it_is_taken_for_good() -> None:
    world = await restored()
    world.edit_table(5, (2, 20))
    world.edit_table(6, (2, 21))
    report = await world.reconcile()
    assert report.exit_code == 0
    assert world.options["high_water"].known["shop"].run == report.row.id, "it has agreed on both orders"
    world.edit_crm(5, (2, 23))
    assert (await world.reconcile()).exit_code == 0
    assert both(world, 5) == (deal(23), deal(23))


async def test_given_an_older_state_and_absences_that_wait_then_it_is_not_taken_for_good() -> None:
    world = await restored()
    world.edit_table(5, (2, 20))
    world.edit_table(6, None)  # in the eyes of the older state a removal; today it was unbound and bound again
    world.edit_crm(6, (2, 11))
    world.table.add(None, 2, 5)  # any row whose order cannot be read may be order 6
    assert (await world.reconcile()).row.counts.waiting == 1
    world.table.stored = [row for row in world.table.stored if row.order_id is not None]
    report = await world.reconcile()
    assert [hit.name for hit in report.row.guards] == ["state_older"]
    assert both(world, 6) == (deal(11), None)


async def test_given_an_older_state_then_applying_an_undo_says_nothing_about_the_other_orders() -> None:
    world = await in_step({5: 10, 6: 11}, options={"high_water": MemoryMark()})
    world.edit_crm(6, (2, 12))
    moved = await world.reconcile()
    saved = backup(world)
    world.clock.time += 3600
    world.edit_crm(5, (2, 20))
    assert (await world.reconcile()).exit_code == 0
    restore(world, saved)
    world.clock.time += 3600
    world.edit_table(5, (2, 10))
    reversal = await undo(world, moved.row.id)
    assert (await apply(world, reversal.row.id)).row.state == "applied"
    assert [hit.name for hit in (await world.reconcile()).row.guards] == ["state_older"]


async def test_given_a_backup_made_in_the_middle_of_the_last_run_then_it_is_older_too() -> None:
    world = await in_step({5: 10}, options={"high_water": MemoryMark()})
    world.edit_table(5, (2, 20))
    taken: list[dict[str, Any]] = []
    world.portal.before_write = lambda _batch: taken.append(backup(world))
    await world.reconcile()
    restore(world, taken[0])
    world.clock.time += 3600
    world.store._leases.clear()
    world.edit_table(5, (2, 30))
    report = await world.reconcile()
    assert [hit.name for hit in report.row.guards] == ["state_older"]


async def test_given_another_state_database_then_it_knows_nothing_of_this_link() -> None:
    world = await in_step({5: 10}, options={"high_water": MemoryMark()})
    world.store.name = "another one"
    world.edit_crm(6, (2, 11))
    report = await world.reconcile()
    assert [hit.name for hit in report.row.guards] == ["state_older"]
    assert both(world, 6) == (deal(11), None)


async def test_given_the_state_the_mark_was_made_with_then_nothing_is_refused() -> None:
    world = await in_step({5: 10}, options={"high_water": MemoryMark()})
    for number in range(3):
        world.edit_crm(5, (2, 20 + number))
        assert (await world.reconcile()).exit_code == 0


async def test_given_a_pass_that_changes_nothing_then_nothing_is_noted() -> None:
    world = await in_step({5: 10}, options={"high_water": MemoryMark()})
    noted = dict(world.options["high_water"].known)
    await world.reconcile()
    await plan(world)
    assert world.options["high_water"].known == noted
