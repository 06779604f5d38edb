"""A link that points elsewhere is not touched until it is rebased; a rebase touches no side (sync-rules.md 29)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from syncd.core.records import GuardHit
from syncd.engine import reconcile as engine
from syncd.errors import LeaseHeld, StalePlan
from tests.fakes.link import FREE
from tests.simulation.crash import Crash, Steps
from tests.simulation.world import World
from tests.unit.engine.given import apply, both, deal, in_step, plan, policy, rebase, undo, written

pytestmark = pytest.mark.anyio


async def moved_elsewhere() -> World:
    world = await in_step({5: 10, 6: 11})
    world.edit_table(5, (2, 20))
    world.options |= {"fingerprint": "elsewhere", "changed_ends": lambda _stored: ["portal", "scope"]}
    return world


@pytest.mark.parametrize("act", [engine.reconcile, engine.plan])
async def test_given_other_ends_then_a_run_is_refused_before_anything_is_read(act: Any) -> None:
    world = await moved_elsewhere()
    before, read = written(world), len(world.table.calls)

    report = await act(world.link())

    assert (report.row.state, report.exit_code) == ("refused", 4)
    assert report.row.guards == [GuardHit("fingerprint", None, 0, 1)]
    assert "different: portal, scope" in report.row.error
    assert written(world) == before
    assert len(world.table.calls) == read
    assert report.row.requests == 0


async def test_given_other_ends_then_apply_and_undo_are_refused_likewise() -> None:
    world = await in_step({5: 10, 6: 11})
    world.edit_table(5, (2, 20))
    done = (await world.reconcile()).row.id
    world.edit_table(6, (2, 21))
    run = (await plan(world)).row.id
    world.options["fingerprint"] = "elsewhere"

    reports = [await apply(world, run), await undo(world, done)]

    assert [report.exit_code for report in reports] == [4, 4]
    assert [report.row.requests for report in reports] == [0, 0]
    assert "different: its ends" in reports[0].row.error


async def test_given_a_rebase_then_neither_side_is_written_and_nothing_is_agreed_any_more() -> None:
    world = await moved_elsewhere()
    before = written(world)

    report = await rebase(world)

    assert (report.row.state, report.exit_code) == ("applied", 0)
    assert written(world) == before
    assert (await world.agreed(5), await world.agreed(6)) == (None, None)


async def test_given_a_rebase_then_the_old_generation_stays_as_history() -> None:
    world = await moved_elsewhere()

    await rebase(world)

    assert [one.change.order_id for one in await world.store.history("shop", 6)] == [6]
    assert await world.store.agreed_count(1) == 2


async def test_given_a_rebased_link_then_passes_run_again_and_a_difference_is_a_conflict_not_an_overwrite() -> None:
    world = await moved_elsewhere()
    await rebase(world)

    report = await world.reconcile()

    assert report.exit_code == 3
    assert await world.held() == {5: "create-create"}
    assert both(world, 5) == (deal(10), deal(20))


async def test_given_the_old_ends_again_without_a_rebase_then_nothing_was_lost() -> None:
    world = await moved_elsewhere()
    await world.reconcile()
    del world.options["fingerprint"]

    assert (await world.reconcile()).exit_code == 0
    assert both(world, 5) == (deal(20), deal(20))


async def test_given_the_link_is_worked_on_then_a_rebase_is_turned_away() -> None:
    world = await moved_elsewhere()
    row = await world.store.find_link("shop")
    assert row is not None
    await world.store.acquire(row, "somebody", 60, world.clock.now())

    with pytest.raises(LeaseHeld, match="somebody"):
        await rebase(world)

    assert (await world.store.find_link("shop")) == row


# ---------------------------------------------------------------- before anything is agreed


async def first_plan_refused() -> tuple[World, int]:
    """A link whose first pass only asked; after it, the configuration names other ends."""
    world = World(policy(), options={"ask_first_sync": True})
    world.edit_crm(5, (2, 10))
    run = (await world.reconcile()).row.id
    world.options |= {"fingerprint": "elsewhere", "ask_first_sync": False}
    return world, run


async def test_given_nothing_agreed_yet_when_the_ends_are_mended_then_no_rebase_is_asked_for() -> None:
    world, _ = await first_plan_refused()

    report = await world.reconcile()

    assert (report.row.first_sync, report.exit_code) == (True, 0)
    assert await world.agreed(5) == deal(10)
    assert (await world.reconcile()).exit_code == 0


async def test_given_nothing_agreed_yet_when_the_ends_are_mended_then_a_plan_for_the_others_is_stale() -> None:
    world, run = await first_plan_refused()
    before = written(world)

    with pytest.raises(StalePlan, match="rebased"):
        await apply(world, run)

    assert written(world) == before


async def test_given_a_first_pass_that_found_both_sides_empty_then_other_ends_are_refused() -> None:
    world = await in_step({})
    world.options["fingerprint"] = "elsewhere"

    assert (await world.reconcile()).exit_code == 4


async def test_given_a_first_pass_that_died_with_a_write_in_flight_then_other_ends_are_refused() -> None:
    world = World(policy())
    world.edit_table(5, (2, 10))
    steps = Steps()
    steps.meanwhile = lambda name: steps.die(name) if name == "portal.write after" else None
    with pytest.raises(Crash):
        await world.reconcile(steps)
    await world.clock.sleep(200)
    world.options["fingerprint"] = "elsewhere"

    assert (await world.reconcile()).exit_code == 4
    assert await world.agreed(5) is None


async def test_given_a_first_pass_that_died_with_something_agreed_then_other_ends_are_refused() -> None:
    world = World(policy())
    world.edit_table(5, (2, 10))
    world.edit_crm(6, (2, 11))
    world.edit_table(6, (2, 11))
    steps = Steps()
    steps.meanwhile = lambda name: steps.die(name) if name.startswith("store.intend") else None
    with pytest.raises(Crash):
        await world.reconcile(steps)
    await world.clock.sleep(200)
    assert await world.agreed(6) == deal(11)
    world.options["fingerprint"] = "elsewhere"

    assert (await world.reconcile()).exit_code == 4


async def test_given_removes_of_today_when_the_link_is_rebased_then_they_are_still_counted() -> None:
    world = await in_step(40, limits=replace(FREE, max_removes_per_day=3))
    for order in (1, 2, 3):
        world.edit_table(order, None)
    assert (await world.reconcile()).exit_code == 0
    await rebase(world)
    assert (await world.reconcile()).exit_code == 0
    world.edit_table(4, None)

    report = await world.reconcile()

    assert [hit.name for hit in report.row.guards] == ["max_removes_per_day"]
    await world.clock.sleep(86_401)
    assert (await world.reconcile()).exit_code == 0
