"""Orders that syncd leaves alone: how each hold begins, how long it lasts, and what ends it."""

from __future__ import annotations

from itertools import pairwise

import pytest

from syncd.core.model import Direction, OnConflict, Outcome
from syncd.engine import reconcile as engine
from tests.fakes.portal import Surprise
from tests.simulation.world import World
from tests.unit.engine.given import both, deal, in_step, one_change, outcomes, policy, written

pytestmark = pytest.mark.anyio

DAY = 86_400


async def decide(world: World, order: int, decision: str) -> None:
    row = await world.store.find_link("shop")
    assert row is not None
    assert await world.store.decide(row.id, [order], decision, world.clock.now()) == 1


def adds(world: World) -> int:
    return sum(count for write, count in world.portal.sent.items() if write.after is not None)


# ------------------------------------------------------------------ order-missing


async def test_given_an_order_the_portal_does_not_know_then_it_is_held_and_asked_for_at_least_once_an_hour() -> None:
    world = await in_step({5: 10})
    world.portal.missing_orders = {9}
    world.edit_table(9, (2, 90))

    first = await world.reconcile()
    tried = await attempts_at(world, hours=8)

    assert one_change(first).outcome is Outcome.FAILED
    assert one_change(first).error == "200540400001 order does not exist"
    assert tried[:6] == [60, 180, 420, 900, 1860, 3780]
    assert all(later - earlier == 3600 for earlier, later in pairwise(tried[6:]))
    assert await world.held() == {9: "order-missing"}


async def test_given_a_missing_order_when_it_appears_then_it_is_bound_and_its_hold_released_without_a_person() -> None:
    world = await in_step({5: 10})
    world.portal.missing_orders = {9}
    world.edit_table(9, (2, 90))
    await world.reconcile()
    world.portal.missing_orders = set()

    assert (await world.reconcile()).exit_code == 3
    await world.clock.sleep(60)
    assert (await world.reconcile()).exit_code == 0

    assert both(world, 9) == (deal(90), deal(90))
    assert await world.held() == {}
    assert await world.store.attempts(1) == {}


async def test_given_a_missing_order_that_is_not_due_then_nothing_of_it_is_planned() -> None:
    world = await in_step({5: 10})
    world.portal.missing_orders = {9}
    world.edit_table(9, (2, 90))
    await world.reconcile()

    report = await world.reconcile()

    assert report.changes == []
    assert [hold.kind.value for hold in report.holds] == ["order-missing"]


async def test_given_a_row_whose_foreign_key_is_not_there_yet_then_it_is_written_once_it_is() -> None:
    world = await in_step({5: 10})
    world.table.refuse(9, "23503", "violates foreign key constraint")
    world.edit_crm(9, (2, 90))
    await attempts_at(world, hours=3)
    assert await world.held() == {9: "refused"}
    (hold,) = await world.store.holds(1)
    assert "23503 violates foreign key constraint" in hold.hold.detail
    world.table.accept(9)

    await world.clock.sleep(3600)
    report = await world.reconcile()

    assert report.exit_code == 0
    assert both(world, 9) == (deal(90), deal(90))
    assert await world.held() == {}


async def test_given_a_held_order_that_is_tried_again_in_vain_then_its_hold_is_never_released() -> None:
    world = await in_step({5: 10})
    world.portal.missing_orders = {9}
    world.edit_table(9, (2, 90))
    await attempts_at(world, hours=5)
    assert [released for _, released in await world.store.past_holds("shop", 9)] == [None]


async def test_given_a_refused_order_whose_row_changes_then_it_is_tried_again_at_once() -> None:
    world = await in_step({5: 10})
    world.portal.poisoned = {5: ("100", "no")}
    world.edit_table(5, (2, 20))
    await attempts_at(world, hours=3)
    assert await world.held() == {5: "refused"}
    world.portal.poisoned = {}
    world.edit_table(5, (2, 21))

    assert (await world.reconcile()).exit_code == 0
    assert both(world, 5) == (deal(21), deal(21))


async def attempts_at(world: World, *, hours: int) -> list[float]:
    """Run a pass a minute for so long; return after how many seconds writes were recorded as failed."""
    began, tried = world.clock.time, []
    while world.clock.time - began < hours * 3600:
        await world.clock.sleep(60)
        report = await world.reconcile()
        if any(one.outcome is Outcome.FAILED for one in report.changes):
            tried.append(world.clock.time - began)
    return tried


async def test_given_a_missing_order_when_its_row_changes_then_it_is_tried_again() -> None:
    world = await in_step({5: 10})
    world.portal.missing_orders = {9}
    world.edit_table(9, (2, 90))
    await world.reconcile()
    world.portal.missing_orders = set()
    world.edit_table(9, (2, 91))

    assert (await world.reconcile()).exit_code == 0
    assert both(world, 9) == (deal(91), deal(91))


async def test_given_a_missing_order_when_its_row_goes_then_the_hold_goes() -> None:
    world = await in_step({5: 10})
    world.portal.missing_orders = {9}
    world.edit_table(9, (2, 90))
    await world.reconcile()
    world.edit_table(9, None)

    assert (await world.reconcile()).exit_code == 0
    assert await world.held() == {}


async def test_given_a_missing_order_when_a_person_says_retry_then_it_is_tried_once_more() -> None:
    world = await in_step({5: 10})
    world.portal.missing_orders = {9}
    world.edit_table(9, (2, 90))
    await world.reconcile()
    world.portal.missing_orders = set()
    await decide(world, 9, "retry")

    assert (await world.reconcile()).exit_code == 0
    assert both(world, 9) == (deal(90), deal(90))


# ------------------------------------------------------------------ owner-missing


async def test_given_an_owner_that_does_not_exist_then_the_order_is_held_before_anything_is_written() -> None:
    world = await in_step({5: 10, 6: 11})
    world.portal.owners = {deal(10), deal(11), deal(12)}
    world.edit_table(5, (2, 66))
    world.edit_table(6, (2, 12))

    report = await world.reconcile()

    assert outcomes(report) == {(6, "crm"): Outcome.APPLIED}
    assert await world.held() == {5: "owner-missing"}
    assert world.portal.bindings[5] == deal(10)


async def test_given_an_order_that_stays_bound_to_an_owner_that_is_gone_then_its_row_follows_the_crm() -> None:
    world = await in_step({5: 10, 6: 11})
    world.portal.owners = {deal(10), deal(11), deal(12)}
    world.edit_crm(5, (2, 66))
    world.edit_table(6, (2, 12))

    assert (await world.reconcile()).exit_code == 0
    assert (both(world, 5), both(world, 6)) == ((deal(66), deal(66)), (deal(12), deal(12)))


async def test_given_a_held_owner_when_it_appears_then_the_order_is_written_and_the_hold_goes() -> None:
    world = await in_step({5: 10, 6: 11})
    world.portal.owners = {deal(10), deal(11)}
    world.edit_table(5, (2, 66))
    await world.reconcile()
    world.portal.owners.add(deal(66))

    assert (await world.reconcile()).exit_code == 0
    assert both(world, 5) == (deal(66), deal(66))
    assert await world.held() == {}


async def test_given_a_held_owner_then_the_hold_keeps_its_date_however_many_passes_see_it() -> None:
    world = await in_step({5: 10, 6: 11})
    world.portal.owners = {deal(10), deal(11)}
    world.edit_table(5, (2, 66))
    await world.reconcile()
    (first,) = await world.store.holds(1)
    await world.clock.sleep(DAY)
    await world.reconcile()

    assert await world.store.holds(1) == [first]


async def test_given_credentials_that_cannot_see_owners_then_none_is_called_missing() -> None:
    world = await in_step({5: 10, 6: 11})
    world.portal.owners, world.portal.sees_owners = {deal(10)}, False
    world.edit_table(5, (2, 66))

    assert (await world.reconcile()).exit_code == 0
    assert world.portal.bindings[5] == deal(66)


async def test_given_owners_that_orders_are_bound_to_now_then_they_bear_witness() -> None:
    world = await in_step({5: 10, 6: 11, 7: 12})
    link = world.link()
    asked: list[object] = []
    missing = link.portal.missing_owners

    async def witnessed(owners: object, witnesses: object) -> object:
        asked.append(witnesses)
        return await missing(owners, witnesses)  # type: ignore[arg-type]

    link.portal.missing_owners = witnessed  # type: ignore[method-assign, assignment]
    world.edit_table(5, (2, 66))

    await engine.reconcile(link)

    assert asked == [[deal(11)]]


async def test_given_a_link_that_does_not_verify_owners_then_none_is_asked_for() -> None:
    world = await in_step({5: 10}, options={"verify_owners": False})
    world.portal.owners = {deal(10)}
    world.edit_table(5, (2, 66))

    assert (await world.reconcile()).exit_code == 0


# ----------------------------------------------------------------------- flapping


@pytest.mark.parametrize("direction", [Direction.CRM_TO_TABLE, Direction.TABLE_TO_CRM])
async def test_given_somebody_who_undoes_each_write_on_the_target_then_the_order_is_held_after_three(
    direction: Direction,
) -> None:
    world = await in_step({5: 10, 6: 11}, policy=policy(direction))
    undo = world.edit_table if direction is Direction.CRM_TO_TABLE else world.edit_crm
    for _ in range(10):
        undo(5, (2, 77))
        await world.reconcile()
        await world.clock.sleep(60)

    await world.clock.sleep(2 * DAY)
    await world.reconcile()

    assert written(world) == ((0, 3) if direction is Direction.CRM_TO_TABLE else (3, 0))
    assert await world.held() == {5: "flapping"}
    assert deal(77) in both(world, 5)
    (hold,) = await world.store.holds(1)
    side = "the table" if direction is Direction.CRM_TO_TABLE else "the CRM"
    assert hold.hold.detail.startswith(f"The same value was written to {side} 3 times within a day")


async def test_given_two_opposing_automatons_then_the_writes_are_bounded_and_the_order_is_held() -> None:
    world = await in_step({5: 10, 6: 11})
    for _ in range(20):
        world.edit_crm(5, (2, 70))
        await world.reconcile()
        world.edit_table(5, (2, 80))
        await world.reconcile()
        await world.clock.sleep(60)

    crm, table = written(world)
    assert crm + table <= 6
    assert await world.held() == {5: "flapping"}


async def test_given_a_flapping_order_when_nobody_undoes_it_any_more_then_a_person_decides_once() -> None:
    world = await in_step({5: 10, 6: 11}, policy=policy(Direction.CRM_TO_TABLE))
    for _ in range(4):
        world.edit_table(5, (2, 77))
        await world.reconcile()
    await decide(world, 5, "crm")

    assert (await world.reconcile()).exit_code == 0
    assert both(world, 5) == (deal(10), deal(10))
    assert await world.held() == {}


async def test_given_the_same_write_twice_a_day_then_nothing_is_flapping() -> None:
    world = await in_step({5: 10, 6: 11}, policy=policy(Direction.CRM_TO_TABLE))
    for _ in range(6):
        world.edit_table(5, (2, 77))
        assert (await world.reconcile()).exit_code == 0
        await world.clock.sleep(DAY / 2)


async def test_given_writes_that_are_exactly_a_day_old_then_they_still_count_as_flapping() -> None:
    world = await in_step({5: 10, 6: 11}, policy=policy(Direction.CRM_TO_TABLE))
    for _ in range(3):
        world.edit_table(5, (2, 77))
        await world.reconcile()
    (at,) = {one.at for one in await world.store.written(1, [5], 0)}
    await world.clock.sleep(at + DAY - world.clock.now())
    world.edit_table(5, (2, 77))

    await world.reconcile()

    assert await world.held() == {5: "flapping"}


# --------------------------------------------------------------------- quarantine


async def test_given_an_order_the_portal_refuses_then_it_waits_longer_each_time_and_is_held_after_five() -> None:
    world = await in_step({5: 10, 6: 11})
    world.portal.poisoned = {5: ("100", "no")}
    world.edit_table(5, (2, 20))
    tried: list[float] = []
    began = world.clock.time
    for _ in range(120):
        if await world.held():
            break
        before = adds(world)
        await world.reconcile()
        if adds(world) > before:
            tried.append(world.clock.time - began)
        await world.clock.sleep(10)

    assert tried == [0, 60, 180, 420, 900]
    assert await world.held() == {5: "refused"}
    (hold,) = await world.store.holds(1)
    assert hold.hold.detail == "Refused 5 times in a row, and tried again at least once an hour: 100 no"


async def test_given_an_order_that_waits_then_it_is_reported_as_skipped_with_the_reason() -> None:
    world = await in_step({5: 10})
    world.portal.poisoned = {5: ("100", "no")}
    world.edit_table(5, (2, 20))
    await world.reconcile()

    report = await world.reconcile()

    assert one_change(report).outcome is Outcome.SKIPPED
    assert one_change(report).error == "waits 60 s after 1 failed attempt: 100 no"
    assert report.exit_code == 3


async def test_given_an_order_that_always_fails_then_no_other_is_stopped() -> None:
    world = await in_step({order: 10 * order for order in range(1, 31)})
    world.portal.poisoned = {3: ("100", "no")}
    world.table.refuse(4)
    world.portal.missing_orders = {5}
    for order in range(1, 8):
        (world.edit_crm if order % 2 == 0 else world.edit_table)(order, (2, 900 + order))

    report = await world.reconcile()

    fine = [1, 2, 6, 7]
    assert {order: both(world, order) for order in fine} == {
        order: (deal(900 + order), deal(900 + order)) for order in fine
    }
    assert {order for (order, _), outcome in outcomes(report).items() if outcome is Outcome.FAILED} == {3, 4, 5}


async def test_given_a_failing_order_when_it_succeeds_then_its_failures_are_forgotten() -> None:
    world = await in_step({5: 10})
    world.portal.poisoned = {5: ("100", "no")}
    world.edit_table(5, (2, 20))
    for _ in range(3):
        await world.reconcile()
        await world.clock.sleep(3600)
    world.portal.poisoned = {}

    assert (await world.reconcile()).exit_code == 0
    assert await world.store.attempts(1) == {}


async def test_given_a_failing_order_when_somebody_else_sets_the_value_meanwhile_then_its_failures_are_forgotten() -> (
    None
):
    world = await in_step({5: 10})
    world.portal.poisoned = {5: ("100", "no")}
    world.edit_table(5, (2, 20))
    await world.reconcile()
    await world.clock.sleep(3600)
    world.portal.poisoned = {}
    world.portal.before_each = lambda _write: world.edit_crm(5, (2, 20))

    await world.reconcile()

    assert await world.store.attempts(1) == {}


async def test_given_a_clock_that_was_set_back_a_year_then_a_failed_order_waits_no_longer_than_the_longest_pause() -> (
    None
):
    world = await in_step({5: 10})
    world.portal.poisoned = {5: ("100", "no")}
    world.edit_table(5, (2, 20))
    await world.reconcile()
    world.portal.poisoned = {}
    await world.clock.sleep(-365 * DAY)

    assert (await world.reconcile()).exit_code == 0
    assert both(world, 5) == (deal(20), deal(20))


async def test_given_limits_that_refuse_every_request_then_no_order_is_blamed_for_it() -> None:
    world = await in_step({5: 10})
    world.edit_table(5, (2, 20))
    for _ in range(8):
        world.portal.script.extend([Surprise.NOT_SENT] * 3)
        report = await world.reconcile()
        await world.clock.sleep(3600)
    assert one_change(report).outcome is Outcome.SKIPPED
    assert one_change(report).error.startswith("skipped: not executed 3 times")

    assert await world.held() == {}
    assert await world.store.attempts(1) == {}
    assert (await world.reconcile()).exit_code == 0


# --------------------------------------------------------------- released by facts


@pytest.mark.parametrize("side", ["crm", "table"])
async def test_given_a_conflict_when_one_side_takes_the_others_value_then_the_hold_goes(side: str) -> None:
    world = await in_step({5: 10})
    world.edit_crm(5, (2, 20))
    world.edit_table(5, (2, 30))
    await world.reconcile()
    (world.edit_crm if side == "crm" else world.edit_table)(5, (2, 30 if side == "crm" else 20))

    assert (await world.reconcile()).exit_code == 0
    assert await world.held() == {}


async def test_given_unreadable_rows_then_the_order_is_held_and_written_on_neither_side_until_they_are_mended() -> None:
    world = await in_step({5: 10, 6: 11})
    world.table.add(5, 2, 99)
    world.table.put(6, 2, None)
    world.edit_crm(5, (2, 20))

    held = await world.reconcile()
    assert await world.held() == {5: "duplicate-rows", 6: "invalid-row"}
    assert held.changes == []
    world.table.put(5, 2, 10)
    world.table.put(6, 2, 11)

    assert (await world.reconcile()).exit_code == 0
    assert await world.held() == {}
    assert both(world, 5) == (deal(20), deal(20))


async def test_given_rows_without_a_readable_order_then_one_hold_speaks_for_them_and_goes_with_them() -> None:
    world = await in_step({5: 10})
    world.table.add("who knows", 2, 7)
    await world.reconcile()
    assert await world.held() == {0: "invalid-row"}
    world.table.stored = [row for row in world.table.stored if row.order_id != "who knows"]

    assert (await world.reconcile()).exit_code == 0
    assert await world.held() == {}


async def test_given_an_overwritten_value_then_its_hold_lasts_until_a_person_or_a_side_moves_it() -> None:
    world = await in_step({5: 10})
    world.edit_table(5, (2, 20))
    world.portal.conditional = False
    world.portal.before_each = lambda _write: world.edit_crm(5, (2, 30))
    world.portal.before_write = lambda _batch: world.edit_crm(5, (2, 30))
    report = await world.reconcile()
    world.portal.before_each = world.portal.before_write = None
    await world.reconcile()

    assert one_change(report).found == deal(30)
    (stored,) = await world.store.holds(1)
    assert (stored.sticky, stored.hold.kind.value, stored.hold.facts.crm) == (True, "edit-edit", deal(30))
    assert both(world, 5) == (deal(20), deal(20))
    assert await world.agreed(5) == deal(20)

    await decide(world, 5, "crm")
    assert (await world.reconcile()).exit_code == 0
    assert both(world, 5) == (deal(30), deal(30))


async def test_given_a_decision_that_cannot_be_carried_out_yet_then_the_hold_stays() -> None:
    world = await in_step({5: 10})
    world.edit_crm(5, (2, 20))
    world.edit_table(5, (2, 30))
    await world.reconcile()
    await decide(world, 5, "table")
    world.portal.poisoned = {5: ("100", "no")}

    report = await world.reconcile()

    assert report.exit_code == 3
    assert await world.held() == {5: "edit-edit"}
    world.portal.poisoned = {}
    await world.clock.sleep(DAY)
    assert (await world.reconcile()).exit_code == 0
    assert both(world, 5) == (deal(30), deal(30))


@pytest.mark.parametrize("on_conflict", [OnConflict.CRM, OnConflict.TABLE])
async def test_given_a_policy_then_a_conflict_is_written_and_what_was_replaced_is_in_the_audit(
    on_conflict: OnConflict,
) -> None:
    world = await in_step({5: 10}, policy=policy(on_conflict=on_conflict))
    world.edit_crm(5, (2, 20))
    world.edit_table(5, (2, 30))

    change = one_change(await world.reconcile()).change

    winner, loser = (deal(20), deal(30)) if on_conflict is OnConflict.CRM else (deal(30), deal(20))
    assert both(world, 5) == (winner, winner)
    assert change.before == loser


async def test_given_a_hold_whose_order_is_decided_for_the_crm_when_the_table_moved_meanwhile_then_nothing_is_overwritten() -> (
    None
):
    world = await in_step({5: 10})
    world.edit_crm(5, (2, 20))
    world.edit_table(5, (2, 30))
    await world.reconcile()
    await decide(world, 5, "crm")
    world.edit_table(5, (2, 40))

    await world.reconcile()

    assert both(world, 5) == (deal(20), deal(40))
    assert await world.held() == {5: "edit-edit"}
