"""`apply RUN`: that plan and no other, once, while it is fresh, skipping orders that moved (sync-rules.md 23)."""

from __future__ import annotations

from typing import Any

import pytest

from syncd.core.model import Outcome
from syncd.core.records import Lease
from syncd.engine import reconcile as engine
from syncd.errors import LeaseHeld, StalePlan, UsageError
from tests.fakes.portal import Surprise
from tests.simulation.crash import Crash, Steps
from tests.simulation.world import World
from tests.unit.engine.given import apply, both, deal, in_step, outcomes, plan, policy, rebase, undo, written

pytestmark = pytest.mark.anyio


async def planned() -> tuple[World, int]:
    """A stored plan: order 5 goes to the table, order 6 to the CRM."""
    world = await in_step({5: 10, 6: 11, 7: 12})
    world.edit_crm(5, (2, 20))
    world.edit_table(6, (2, 21))
    return world, (await plan(world)).row.id


async def test_given_a_stored_plan_when_nothing_moved_then_it_is_done_and_nothing_else() -> None:
    world, run = await planned()
    world.edit_crm(7, (2, 22))

    report = await apply(world, run)

    assert outcomes(report) == {(5, "table"): Outcome.APPLIED, (6, "crm"): Outcome.APPLIED}
    assert both(world, 7) == (deal(22), deal(12))
    assert (report.row.source, report.row.state, report.exit_code) == (run, "applied", 0)


@pytest.mark.parametrize("side", ["crm", "table"])
async def test_given_an_order_that_moved_on_either_side_then_it_is_skipped_and_says_so(side: str) -> None:
    world, run = await planned()
    (world.edit_crm if side == "crm" else world.edit_table)(5, (2, 30))
    there = both(world, 5)

    report = await apply(world, run)

    assert outcomes(report) == {(5, "table"): Outcome.SKIPPED, (6, "crm"): Outcome.APPLIED}
    skipped = next(one for one in report.changes if one.change.order_id == 5)
    assert skipped.error.startswith("moved since the plan: ")
    assert "deal 30" in skipped.error
    assert both(world, 5) == there
    assert (report.row.state, report.exit_code) == ("partial", 3)


async def test_given_an_order_whose_agreed_state_moved_then_it_is_skipped() -> None:
    world, run = await planned()
    world.edit_table(6, (2, 40))
    await world.reconcile()
    world.edit_table(6, (2, 21))
    world.edit_crm(6, (2, 11))

    report = await apply(world, run)

    assert outcomes(report)[6, "crm"] is Outcome.SKIPPED
    assert "agreed was deal 11, is deal 40" in next(one.error for one in report.changes if one.change.order_id == 6)


async def test_given_an_order_whose_rows_became_unreadable_then_it_is_skipped() -> None:
    world, run = await planned()
    world.table.add(6, 2, 99)

    report = await apply(world, run)

    assert outcomes(report)[6, "crm"] is Outcome.SKIPPED
    assert world.portal.bindings[6] == deal(11)


async def test_given_an_order_that_was_held_since_then_it_is_skipped() -> None:
    world, run = await planned()
    world.table.refuse(5)
    for _ in range(5):
        await world.clock.sleep(3600)
        await world.reconcile()
    assert await world.held() == {5: "refused"}
    world.table.accept(5)

    report = await apply(world, run)

    assert outcomes(report)[5, "table"] is Outcome.SKIPPED
    assert "held as refused" in next(one.error for one in report.changes if one.change.order_id == 5)
    assert world.table.bindings[5] == deal(10)


async def test_given_a_plan_that_was_applied_when_applied_again_then_it_is_spent() -> None:
    world, run = await planned()
    await apply(world, run)
    before = written(world)

    with pytest.raises(StalePlan, match="applied already"):
        await apply(world, run)

    assert written(world) == before


async def test_given_a_plan_that_is_spent_while_we_read_then_nothing_is_written() -> None:
    world, run = await planned()
    link = world.link()

    async def spent(lease: Lease, run: int, by: int) -> bool:
        return False

    link.store.spend = spent  # type: ignore[method-assign]
    with pytest.raises(StalePlan, match="applied already") as caught:
        await engine.apply(link, run)

    assert "syncd plan shop" in caught.value.hint
    assert not world.portal.sent
    assert world.table.written == []
    (last, *_) = await world.store.runs("shop", 1)
    assert (last.kind, last.state) == ("apply", "failed")


async def test_given_a_plan_older_than_its_time_then_it_is_stale() -> None:
    world, run = await planned()
    await world.clock.sleep(world.link().plan_ttl + 1)

    with pytest.raises(StalePlan, match=r"is 1 d old; plans are good for 1 d\."):
        await apply(world, run)

    assert not world.portal.sent


async def test_given_a_plan_of_just_its_time_then_it_is_fresh() -> None:
    world, run = await planned()
    await world.clock.sleep(world.link().plan_ttl - 1)

    assert (await apply(world, run)).exit_code == 0


async def test_given_a_plan_made_before_a_rebase_then_it_is_stale() -> None:
    world, run = await planned()
    world.options["fingerprint"] = "elsewhere"
    await rebase(world)

    with pytest.raises(StalePlan, match="before the link was rebased"):
        await apply(world, run)

    assert not world.portal.sent


async def test_given_a_finished_pass_then_it_is_no_plan_to_apply() -> None:
    world = await in_step({5: 10})
    world.edit_crm(5, (2, 20))
    run = (await world.reconcile()).row.id

    with pytest.raises(StalePlan, match="it is applied"):
        await apply(world, run)


async def test_given_a_run_of_another_link_or_none_at_all_then_it_is_a_usage_error() -> None:
    world, run = await planned()
    world.options["name"] = "other"

    for number in (run, 999):
        with pytest.raises(UsageError, match=f"There is no run {number} of link other"):
            await apply(world, number)


async def test_given_a_plan_whose_process_died_before_it_was_complete_then_it_cannot_be_applied() -> None:
    world = await in_step({5: 10})
    world.edit_crm(5, (2, 20))
    link = world.link(steps := Steps())
    steps.meanwhile = lambda name: (
        setattr(steps, "stop_at", steps.taken + 1) if name == "store.save_plan after" else None
    )
    with pytest.raises(Crash):
        await engine.plan(link)
    world.store.bury(link.holder)
    (cut_off, *_) = await world.store.runs("shop", 1)
    await world.reconcile()

    with pytest.raises(StalePlan, match="not a plan that waits to be applied"):
        await apply(world, cut_off.id)


async def test_given_the_link_is_worked_on_then_apply_is_turned_away_and_the_plan_stays_good() -> None:
    world, run = await planned()
    row = await world.store.find_link("shop")
    assert row is not None
    lease = await world.store.acquire(row, "somebody", 60, world.clock.now())
    with pytest.raises(LeaseHeld, match="somebody"):
        await apply(world, run)
    await world.store.release(lease)

    assert (await apply(world, run)).exit_code == 0


async def test_given_an_incomplete_listing_then_the_plan_is_not_spent() -> None:
    world, run = await planned()
    world.portal.listings.append(Surprise.INCOMPLETE)

    failed = await apply(world, run)
    again = await apply(world, run)

    assert (failed.row.state, failed.exit_code) == ("incomplete", 69)
    assert again.exit_code == 0


async def test_given_other_orders_held_for_an_owner_when_a_plan_is_applied_then_they_stay_held() -> None:
    world = await in_step({5: 10, 6: 11})
    world.portal.owners = {deal(10), deal(11)}
    world.edit_table(6, (2, 66))
    await world.reconcile()
    (held,) = await world.store.holds(1)
    world.edit_crm(5, (2, 11))
    run = (await plan(world)).row.id
    await world.clock.sleep(100)

    await apply(world, run)

    (still,) = await world.store.holds(1)
    assert still.hold == held.hold


async def test_given_a_first_sync_that_waits_for_a_person_when_its_run_is_applied_then_it_is_written() -> None:
    world = World(policy(), options={"ask_first_sync": True})
    world.edit_crm(5, (2, 10))
    world.edit_table(6, (2, 11))

    asked = await world.reconcile()
    report = await apply(world, asked.row.id)

    assert [hit.name for hit in asked.row.guards] == ["first_sync"]
    assert (asked.exit_code, report.exit_code) == (4, 0)
    assert both(world, 5) == (deal(10), deal(10))
    assert both(world, 6) == (deal(11), deal(11))


async def test_given_each_command_then_its_run_says_what_it_was_who_asked_and_which_run_was_named() -> None:
    world = await in_step({5: 10, 6: 11})
    world.edit_table(5, (2, 20))
    planned = (await plan(world)).row
    applied = (await apply(world, planned.id)).row
    undone = (await undo(world, applied.id)).row
    await rebase(world)

    rows = [await world.store.run(number) for number in range(1, 6)]
    assert [(row.kind, row.state, row.origin, row.source) for row in rows if row is not None] == [
        ("pass", "applied", "command", None),
        ("plan", "planned", "command", None),
        ("apply", "applied", "command", planned.id),
        ("undo", "planned", "command", applied.id),
        ("rebase", "applied", "command", None),
    ]
    assert undone.id == 4


@pytest.mark.parametrize("act", [engine.reconcile, engine.plan])
async def test_given_the_schedule_when_it_asks_for_a_run_then_the_run_says_so(act: Any) -> None:
    world = await in_step({5: 10})

    assert (await act(world.link(), origin="schedule")).row.origin == "schedule"


async def test_given_a_plan_that_may_not_be_applied_then_the_hint_says_how_to_make_another() -> None:
    world = await in_step({5: 10, 6: 11})
    world.edit_table(5, (2, 20))
    run = (await plan(world)).row.id
    await apply(world, run)
    with pytest.raises(StalePlan) as spent:
        await apply(world, run)
    other = (await plan(world)).row.id
    await rebase(world)
    with pytest.raises(StalePlan) as rebased:
        await apply(world, other)

    assert "applied already" in spent.value.message
    assert "before the link was rebased" in rebased.value.message
    assert "syncd plan shop" in spent.value.hint
    assert "syncd plan shop" in rebased.value.hint
