"""A guard refuses a whole plan before its first write, and keeps it for a person to approve by its number."""

from __future__ import annotations

from dataclasses import replace

import pytest

from syncd.core.guards import GuardLimits
from syncd.core.model import HoldKind, OnConflict, Outcome, Side, Unreadable
from syncd.core.plan import REVERTS_WITHIN
from syncd.core.records import GuardHit
from syncd.engine.verify import FLAPPING_AFTER, FLAPPING_WITHIN
from tests.fakes.link import FREE
from tests.simulation.world import World
from tests.unit.engine.given import apply, both, deal, in_step, outcomes, plan, policy, rebase, written

pytestmark = pytest.mark.anyio

NO_OWNER = Unreadable(HoldKind.INVALID_ROW, "no owner that can be read")
NOT_THIS = replace(FREE, max_removes_percent=100)


@pytest.mark.parametrize("odd", [False, True])
async def test_given_a_table_that_reads_as_empty_then_nothing_is_written_whatever_the_crm_shows(odd: bool) -> None:
    world = await in_step(3)
    world.table.stored.clear()
    if odd:
        world.portal.odd[99] = NO_OWNER

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


async def test_given_a_large_link_then_one_percent_of_it_may_be_put_back() -> None:
    world = await in_step(600, limits=replace(FREE, max_reverts=5))
    for order in range(1, 8):
        world.edit_crm(order, (2, 999))
    await world.reconcile()
    for order in range(1, 7):
        world.edit_table(order, (2, 100 + order))

    assert (await world.reconcile()).row.state == "applied", "six of six hundred are one percent"

    world.edit_crm(7, (2, 107))
    for order in range(1, 8):
        world.edit_crm(order, (2, 999))
    await world.reconcile()
    for order in range(1, 8):
        world.edit_table(order, (2, 100 + order))

    report = await world.reconcile()

    assert report.row.guards == [GuardHit("max_reverts", Side.CRM, 6, 7)]
    assert "restored backup" in report.row.error


@pytest.mark.parametrize("restored", list(Side))
async def test_given_a_restore_that_drips_back_order_by_order_then_the_day_ends_it(restored: Side) -> None:
    world = await in_step(30, limits=GuardLimits(max_moves_percent=100, max_moves_percent_per_day=200))
    edit, restore = (world.edit_crm, world.edit_table)[:: 1 if restored is Side.TABLE else -1]
    for order in range(1, 31):
        edit(order, (2, 9000 + order))
    assert (await world.reconcile()).row.state == "applied"
    states = []
    for order in range(1, 31):
        restore(order, (2, 100 + order))
        states.append((await world.reconcile()).row.state)
        await world.clock.sleep(300)

    assert states == ["applied"] * 5 + ["refused"] * 25
    assert all(both(world, order)[restored is Side.CRM] == deal(9000 + order) for order in range(6, 31))

    await world.clock.sleep(86400)

    assert (await world.reconcile()).row.guards == [GuardHit("max_reverts", restored.other, 5, 25)]


async def test_given_one_order_that_goes_back_and_forth_then_it_counts_once_and_its_own_hold_ends_it() -> None:
    world = await in_step(30, limits=replace(FREE, max_reverts=1))
    for _ in range(FLAPPING_AFTER):
        world.edit_crm(7, (2, 999))
        assert (await world.reconcile()).row.guards == []
        world.edit_table(7, (2, 107))
        assert (await world.reconcile()).row.guards == []
    world.edit_crm(7, (2, 999))

    report = await world.reconcile()

    assert (report.row.guards, [hold.kind for hold in report.holds]) == ([], [HoldKind.FLAPPING])


@pytest.mark.parametrize(("seconds", "held"), [(FLAPPING_WITHIN, {7: "flapping"}), (FLAPPING_WITHIN + 1, {})])
async def test_given_writes_that_were_undone_a_day_ago_then_the_order_is_held_for_a_day_and_no_longer(
    seconds: float, held: dict[int, str]
) -> None:
    world = await in_step(30)
    for _ in range(FLAPPING_AFTER):
        world.edit_crm(7, (2, 999))
        await world.reconcile()
        world.edit_table(7, (2, 107))
        await world.reconcile()
    world.edit_crm(7, (2, 999))
    await world.clock.sleep(seconds)

    await world.reconcile()

    assert await world.held() == held


@pytest.mark.parametrize(("seconds", "state"), [(REVERTS_WITHIN, "refused"), (REVERTS_WITHIN + 1, "applied")])
async def test_given_a_side_put_back_then_what_was_replaced_within_a_week_before_it_was_read_last_is_a_revert(
    seconds: float, state: str
) -> None:
    world = await in_step(3, limits=replace(FREE, max_reverts=0))
    world.edit_crm(1, (2, 999))
    await world.reconcile()
    await world.clock.sleep(seconds)
    await world.reconcile()
    await world.clock.sleep(3600)
    world.edit_table(1, (2, 101))

    assert (await world.reconcile()).row.state == state


async def test_given_a_decision_that_puts_back_then_it_is_no_revert() -> None:
    world = await in_step(3, limits=replace(FREE, max_reverts=0))
    world.edit_crm(1, (2, 999))
    await world.reconcile()
    world.edit_table(1, (2, 101))
    world.edit_crm(1, (2, 998))
    held = await world.reconcile()
    assert [hold.order_id for hold in held.holds] == [1]
    await world.store.decide(held.row.link_id, [1], "table", world.clock.now())

    report = await world.reconcile()

    assert (report.row.guards, both(world, 1)) == ([], (deal(101), deal(101)))


async def test_given_a_first_sync_with_wrong_owners_then_it_is_refused() -> None:
    world = World(policy(on_conflict=OnConflict.TABLE), replace(FREE, max_moves_percent=30))
    for order in range(1, 41):
        world.edit_crm(order, (2, 100 + order))
        world.edit_table(order, (2, 1))

    report = await world.reconcile()

    assert report.row.guards == [GuardHit("max_moves_percent", Side.CRM, 30, 100.0)]
    assert world.portal.bindings[7] == deal(107)


async def test_given_a_rebase_onto_a_table_of_wrong_owners_then_the_first_pass_after_it_is_refused() -> None:
    world = await in_step(40, limits=GuardLimits(), policy=policy(on_conflict=OnConflict.TABLE))
    for order in range(1, 41):
        world.edit_table(order, (2, 1))
    world.options["fingerprint"] = "another table"
    assert (await rebase(world)).exit_code == 0
    before = written(world)

    report = await world.reconcile()

    assert report.row.guards == [
        GuardHit("max_moves_percent", Side.CRM, 30, 100.0),
        GuardHit("max_moves_percent_per_day", Side.CRM, 35, 100.0),
    ]
    assert written(world) == before


async def test_given_the_table_of_last_night_then_what_was_done_today_is_not_undone() -> None:
    world = await in_step(2000, limits=GuardLimits())
    for order in range(1, 401):
        world.edit_crm(order, (2, 9000 + order))
    for order in range(2001, 2091):
        world.edit_crm(order, (2, 9000 + order))
    assert (await world.reconcile()).row.state == "applied"
    for order in range(1, 401):
        world.edit_table(order, (2, 100 + order))
    for order in range(2001, 2091):
        world.edit_table(order, None)
    before = written(world)

    report = await world.reconcile()

    assert GuardHit("max_reverts", Side.CRM, 20, 490) in report.row.guards
    assert written(world) == before


async def test_given_rows_that_vanish_ten_percent_a_pass_then_the_day_ends_it() -> None:
    world = await in_step(300, limits=replace(GuardLimits(), second_look_above=10**6))
    left = 300
    states = []
    for _ in range(12):
        await world.clock.sleep(1800)
        for order in range(left, left - max(left // 10, 1), -1):
            world.edit_table(order, None)
        left -= max(left // 10, 1)
        states.append((await world.reconcile()).row.state)

    assert "refused" in states
    assert len(world.portal.bindings) >= 300 * 85 / 100


async def test_given_owners_replaced_a_part_a_pass_then_the_day_ends_it() -> None:
    world = await in_step(1000, limits=GuardLimits())
    for part in range(4):
        await world.clock.sleep(1800)
        for order in range(1 + 250 * part, 251 + 250 * part):
            world.edit_table(order, (2, 1))
        await world.reconcile()

    assert sum(owner == deal(1) for owner in world.portal.bindings.values()) <= 350


async def test_given_a_small_link_then_its_owners_may_not_all_be_moved_and_it_may_not_be_flooded() -> None:
    world = await in_step(19, limits=GuardLimits())
    for order in range(1, 20):
        world.edit_table(order, (2, 1))
    moved = await world.reconcile()
    for order in range(1, 20):
        world.edit_table(order, (2, 100 + order))
    for order in range(100, 3100):
        world.edit_table(order, (2, 1))

    flooded = await world.reconcile()

    assert GuardHit("max_moves_small", Side.CRM, 2, 19) in moved.row.guards
    assert flooded.row.guards == [GuardHit("max_adds_small", Side.CRM, 20, 3000)]
    assert len(world.portal.bindings) == 19


async def test_given_a_plan_that_guards_refuse_then_none_of_its_changes_waits_for_a_second_look() -> None:
    world = await in_step(40, limits=replace(FREE, second_look_above=2, max_removes=3))
    for order in range(1, 6):
        world.edit_table(order, None)

    refused = await plan(world)

    assert (refused.exit_code, refused.row.counts.waiting) == (4, 0)
    assert set(outcomes(refused).values()) == {Outcome.PLANNED}
    assert (await apply(world, refused.row.id)).exit_code == 0
    assert len(world.portal.bindings) == 35
