"""Passes over some orders only: what they cover, what they leave alone, and what they may not do between them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from syncd.core.guards import GuardLimits
from syncd.core.model import Outcome, Scope, Side
from syncd.core.order_ranges import OrderRange, OrderRanges
from syncd.core.ports import Listed
from syncd.engine import reconcile as engine
from syncd.engine.covering import Portion
from syncd.engine.observe import UNREAD
from syncd.engine.verify import PAGE
from syncd.errors import IncompleteListing, UsageError
from tests.fakes.high_water import MemoryMark
from tests.fakes.link import FREE
from tests.simulation.world import World
from tests.unit.engine.given import apply, both, deal, in_step, lose, policy
from tests.unit.engine.portions import coverage, edit, guards, named, over, recent, sliced

pytestmark = pytest.mark.anyio


# ------------------------------------------------------------------ what is covered


@pytest.mark.parametrize("text", ["5", "4-6", "5,30-60", "1-40", "2,4-5,7", "5-"])
async def test_given_named_orders_then_these_are_brought_into_step_and_no_other(text: str) -> None:
    world = await in_step(60)
    edit(world, *range(1, 61))

    report = await over(world, text)

    moved = {order for order, owner in world.portal.bindings.items() if owner == deal(900 + order)}
    assert moved == {order for order in range(1, 61) if order in OrderRanges.parse(text)}
    assert (report.exit_code, str(report.row.covers), report.row.part) == (0, text, "named orders")
    assert report.row.counts.crm_rows == len(moved)


async def test_given_new_orders_on_either_side_then_they_are_bound_where_named() -> None:
    world = await in_step(3)
    world.edit_crm(9, (2, 19))
    world.edit_table(8, (2, 18))
    world.edit_table(7, (2, 17))

    await over(world, "8,9")

    assert [both(world, order) for order in (7, 8, 9)] == [(None, deal(17)), (deal(18),) * 2, (deal(19),) * 2]


async def test_given_a_hold_elsewhere_then_it_stays_as_it_is_and_one_that_is_named_is_looked_at() -> None:
    world = await in_step({5: 10, 6: 10, 7: 10})
    for order in (5, 6):
        world.edit_crm(order, (2, 11))
        world.edit_table(order, (2, 12))
    await world.reconcile()
    for order in (5, 6):
        world.edit_table(order, (2, 11))

    report = await over(world, "6,7")

    assert await world.held() == {5: "edit-edit"}
    assert report.exit_code == 3, "another order of the link is held"


async def test_given_a_row_without_an_order_id_then_absences_wait_in_passes_over_some_orders_too() -> None:
    world = await in_step(30)
    world.table.add(None, 2, 9)
    await world.reconcile()
    before = await world.store.holds(1)
    world.edit_table(5, None)

    report = await over(world, "5")

    assert both(world, 5) == (deal(105), None)
    assert await world.store.holds(1) == before
    assert report.row.counts.crm.remove == 0
    world.table.stored = [row for row in world.table.stored if row.order_id is not None]
    await over(world, "5")
    assert both(world, 5) == (None, None)
    assert await world.held() == {}


async def test_given_orders_out_of_the_links_range_then_they_are_left_out_or_refused() -> None:
    world = World(policy=replace(policy(), scope=Scope(frozenset({2}), 10, 20)))
    world.table.scope = world.policy.scope
    await world.reconcile()

    report = await over(world, "5,15-25")

    assert str(report.row.covers) == "15-20"
    before = await world.store.runs("shop", 9)
    with pytest.raises(UsageError, match="None of these orders"):
        await over(world, "5")
    with pytest.raises(UsageError, match="None of these orders"):
        await engine.plan(world.link(), portion=named("5,25-30"))
    assert await world.store.runs("shop", 9) == before, "a slip of a person leaves no failed run"


@pytest.mark.parametrize(("origin", "kept"), [("hint", 0), ("trigger", 1)])
async def test_given_orders_out_of_the_links_range_when_nobody_waits_for_it_then_the_pass_ends_well(
    origin: str, kept: int
) -> None:
    world = World(policy=replace(policy(), scope=Scope(frozenset({2}), 10, 20)))
    world.table.scope = world.policy.scope
    await world.reconcile()
    before, asked = await world.store.runs("shop", 9), world.portal.usage().calls

    report = await engine.reconcile(world.link(), origin=origin, portion=named("5,25-30"))

    assert (report.row.state, str(report.row.covers), report.error) == ("applied", "5,25-30", None)
    assert len(await world.store.runs("shop", 9)) == len(before) + kept
    assert world.portal.usage().calls == asked


async def test_given_a_plan_for_named_orders_when_applied_then_only_these_are_read() -> None:
    world = await in_step(60)
    edit(world, 5, 6)
    planned = await engine.plan(world.link(), portion=named("5,30-60"))
    assert planned.exit_code == 2
    listed: list[object] = []
    listing = world.portal.listing

    async def watched(*args: Any) -> AsyncIterator[Listed]:
        listed.append(args[-1])
        async for chunk in listing(*args):
            yield chunk

    world.portal.listing = watched  # type: ignore[method-assign]
    applied = await apply(world, planned.row.id)

    assert (applied.exit_code, both(world, 5), both(world, 6)[0]) == (0, (deal(905),) * 2, deal(106))
    assert listed == [OrderRanges.parse("5,30-60")]
    assert applied.row.covers == planned.row.covers


# ------------------------------------------------------------------ ranges that cannot be proved


async def test_given_a_range_that_cannot_be_proved_then_it_is_named_and_costs_itself_only() -> None:
    world = await in_step(200)
    edit(world, 5, 70, 150)
    world.edit_table(71, None)
    world.portal.unproved = {OrderRange(60, 99): "The portal's orders 60 to 99 could not be listed."}

    report = await over(world, "1-40,60-99,140-180")

    assert isinstance(report.error, IncompleteListing)
    assert report.error.hint == "The next pass over these orders lists them again."
    assert (report.exit_code, report.row.state) == (69, "partial")
    assert report.row.error == "The portal's orders 60 to 99 could not be listed."
    assert [both(world, order)[0] for order in (5, 70, 150)] == [deal(905), deal(170), deal(1050)]
    assert str(report.row.covers) == "1-40,140-180"
    world.portal.unproved = {}
    assert (await over(world, "60-99")).exit_code == 0
    assert both(world, 70)[0] == deal(970)


async def test_given_a_range_that_cannot_be_proved_when_the_rest_is_refused_then_the_run_says_both() -> None:
    world = await in_step(200, limits=replace(FREE, max_moves=1))
    edit(world, 5, 6, 70)
    world.portal.unproved = {
        OrderRange(first, last): f"Orders {first} to {last} could not be listed."
        for first, last in ((60, 99), (120, 130))
    }

    report = await over(world, "1-40,60-99,120-130")

    assert (report.exit_code, report.row.state, guards(report)) == (69, "refused", ["max_moves"])
    assert report.row.error == (
        "2 moves in the CRM; the limit is 1 a run; "
        "Orders 60 to 99 could not be listed. Orders 120 to 130 could not be listed."
    )


async def test_given_a_range_not_proved_between_single_orders_then_its_rows_are_left_alone() -> None:
    world = await in_step(200)
    edit(world, 5, 70, 140, 150)
    world.edit_crm(71, None)
    world.portal.unproved = {OrderRange(60, 99): "no"}
    before = dict(world.portal.bindings), dict(world.table.bindings)

    report = await over(world, "5,60-99,140,150-180")

    assert (report.exit_code, str(report.row.covers)) == (69, "5,140,150-180")
    assert report.row.counts.table_rows == 33
    assert sorted(one.change.order_id for one in report.changes) == [5, 140, 150]
    for order in range(60, 100):
        assert both(world, order) == (before[0].get(order), before[1].get(order))


async def test_given_a_plan_for_a_range_not_proved_when_applied_then_its_changes_are_skipped_as_not_listed() -> None:
    world = await in_step(200)
    edit(world, 5, 70, 150, 190)
    planned = await engine.plan(world.link(), portion=named("5,60-99,150,170-199"))
    world.portal.unproved = {OrderRange(170, 199): "no"}

    report = await apply(world, planned.row.id)

    assert report.exit_code == 69
    assert [both(world, order)[0] for order in (5, 70, 150, 190)] == [deal(905), deal(970), deal(1050), deal(290)]
    (skipped,) = [one for one in report.changes if one.outcome is Outcome.SKIPPED]
    assert (skipped.change.order_id, skipped.error) == (190, UNREAD)


async def test_given_newest_orders_that_cannot_be_proved_then_they_do_not_count_as_fresh() -> None:
    world = await in_step(400)
    world.options = {"recent_orders": 50, "slices": 4}
    await world.clock.sleep(300)
    world.portal.unproved = {OrderRange(351): "no"}

    report = await engine.reconcile(world.link(), origin="schedule", portion=Portion(slice=True, recent=True))

    assert (report.exit_code, report.row.state, str(report.row.covers)) == (69, "partial", "1-100")
    assert ((await coverage(world)).recent_at, (await coverage(world)).slices[0].at) == (0.0, world.clock.now())


async def test_given_no_range_that_can_be_proved_then_nothing_is_written() -> None:
    world = await in_step(200)
    edit(world, 5, 70)
    world.portal.unproved = {OrderRange(1, 40): "no", OrderRange(60, 99): "no"}

    report = await over(world, "1-40,60-99")

    assert (report.exit_code, report.row.state, both(world, 5)[0]) == (69, "incomplete", deal(105))


# ------------------------------------------------------------------ slices and the newest


async def test_given_slices_then_each_scheduled_pass_covers_the_next_and_all_are_covered_in_turn() -> None:
    world = await in_step(40)
    edit(world, 5, 15, 25, 35, 99)
    seen = []
    for _ in range(4):
        report = await sliced(world)
        seen.append((report.row.part, str(report.row.covers), report.row.counts.crm.move + report.row.counts.crm.add))

    assert seen == [
        ("slice 1 of 4", "1-10", 1),
        ("slice 2 of 4", "11-20", 1),
        ("slice 3 of 4", "21-30", 1),
        ("slice 4 of 4", "31-", 2),
    ]
    assert world.portal.bindings == world.table.bindings
    assert (await coverage(world)).stalest == world.clock.now() - 900
    assert (await sliced(world)).row.part == "slice 1 of 4"


async def test_given_no_first_sync_yet_then_a_scheduled_pass_covers_all_whatever_the_slices() -> None:
    world = World(policy=policy())
    edit(world, 5)

    first = await sliced(world)

    assert (first.row.covers, first.row.first_sync) == (None, True)
    assert (await sliced(world)).row.part == "slice 1 of 2", "one order cannot be cut"


async def test_given_a_slice_that_fails_then_the_next_pass_covers_another_one() -> None:
    world = await in_step(40)
    await sliced(world)
    world.portal.unproved = {OrderRange(11, 20): "no"}

    failed, after = await sliced(world), await sliced(world)

    assert [one.row.part for one in (failed, after)] == ["slice 2 of 4", "slice 3 of 4"]
    assert (failed.exit_code, after.exit_code) == (69, 0)
    assert (await coverage(world)).stalest == (await coverage(world)).slices[1].at


async def test_given_a_pass_over_the_newest_then_it_covers_these_and_all_that_something_goes_on_with() -> None:
    world = await in_step(40, limits=replace(FREE, second_look_above=0))
    edit(world, 3)
    await world.reconcile()  # written today
    world.table.refuse(7)
    world.edit_crm(7, (2, 77))  # will be tried again
    world.edit_crm(11, (2, 1))
    world.edit_table(11, (2, 2))  # held
    world.edit_table(13, None)  # waits for its second look
    await world.reconcile()
    await world.clock.sleep(1)

    report = await recent(world)

    assert str(report.row.covers) == "3,7,11,13,36-"
    assert report.row.part == "the newest 5"


async def test_given_a_pass_over_the_newest_that_finds_nothing_then_it_leaves_no_run_but_says_how_fresh_they_are() -> (
    None
):
    world = await in_step(40)
    before = len(await world.store.runs("shop", 100))
    await world.clock.sleep(20)

    idle = await recent(world)

    assert idle.exit_code == 0
    assert len(await world.store.runs("shop", 100)) == before
    fresh = await coverage(world)
    assert (fresh.recent_from, fresh.recent_at, fresh.stalest) == (36, world.clock.now(), world.clock.now() - 20)
    edit(world, 38)
    report = await recent(world)
    assert len(await world.store.runs("shop", 100)) == before + 1
    assert both(world, 38) == (deal(938),) * 2
    assert report.row.origin == "recent"


# ------------------------------------------------------------------ tables that hide what a write does


async def a_view_that_syncd_wrote_to() -> World:
    """Run 2 has written row 5, and covered everything."""
    world = await in_step(40)
    world.table.hides_effects = True
    world.edit_crm(5, (2, 905))
    await world.reconcile()
    return world


async def test_given_a_write_when_many_passes_over_other_orders_follow_then_its_row_is_held() -> None:
    world = await a_view_that_syncd_wrote_to()
    world.edit_table(15, None)
    for number in range(PAGE + 5):
        edit(world, 3, to=1000 * number)
        assert (await over(world, "3")).exit_code == 0

    await over(world, "15")

    assert (both(world, 15), await world.held()) == ((deal(115), None), {15: "uncertain"})


async def test_given_a_row_read_by_its_slice_since_the_last_write_when_it_goes_then_it_is_a_removal() -> None:
    world = await a_view_that_syncd_wrote_to()
    for _ in range(2):
        await sliced(world)
    world.edit_table(15, None)
    world.edit_table(25, None)

    await over(world, "15,25")

    assert both(world, 15) == (None, None)
    assert (both(world, 25), await world.held()) == ((deal(125), None), {25: "uncertain"})


async def test_given_a_row_among_the_newest_read_since_the_last_write_then_it_is_a_removal() -> None:
    world = await a_view_that_syncd_wrote_to()
    await recent(world)
    world.edit_table(38, None)

    await recent(world)

    assert (both(world, 38), await world.held()) == ((None, None), {})


# ------------------------------------------------------------------ guards


async def test_given_a_bulk_removal_when_passes_find_it_in_parts_then_they_remove_no_more_than_one_pass_may() -> None:
    limits = replace(FREE, max_removes=12, second_look_above=10**6)
    world = await in_step(400, limits=limits)
    await world.clock.sleep(86400)
    for order in range(1, 41):
        world.edit_table(order * 10, None)

    reports = [await sliced(world, slices=10) for _ in range(10)]

    assert [one.row.state for one in reports[:4]] == ["applied", "applied", "applied", "refused"]
    assert guards(reports[3]) == ["max_removes"]
    assert len(world.portal.bindings) == 400 - 12


@pytest.mark.parametrize("text", ["10,20", "1-400"])
async def test_given_removes_in_parts_when_a_pass_over_more_follows_then_they_count_in_it(text: str) -> None:
    world = await in_step(400, limits=replace(FREE, max_removes=3))
    for order in (3, 5, 10, 20):
        world.edit_table(order, None)
    await over(world, "3,5")

    report = await over(world, text) if text == "10,20" else await world.reconcile()

    assert (report.exit_code, guards(report)) == (4, ["max_removes"])
    assert report.row.guards[0].actual == 4


async def test_given_a_pass_over_all_since_then_what_was_done_in_parts_before_no_longer_counts() -> None:
    world = await in_step(400, limits=replace(FREE, max_removes=3))
    for order in (3, 5, 10):
        world.edit_table(order, None)
    await over(world, "3,5,10")
    await world.clock.sleep(1)
    await world.reconcile()
    world.edit_table(20, None)

    assert (await over(world, "20")).exit_code == 0


async def test_given_percentages_then_they_are_of_the_whole_link_not_of_what_is_covered() -> None:
    world = await in_step(400, limits=replace(FREE, max_moves_percent=10))
    edit(world, 1, 2, 3, 4, 5)

    report = await over(world, "1-30")

    assert (report.exit_code, report.row.counts.whole, report.row.counts.agreed) == (0, 400, 30)


@pytest.mark.parametrize("side", list(Side))
async def test_given_a_range_whose_agreed_orders_a_side_no_longer_shows_then_the_plan_is_refused(side: Side) -> None:
    world = await in_step(100)
    for order in range(31, 61):
        (world.edit_table if side is Side.TABLE else world.edit_crm)(order, None)

    report = await over(world, "1-30,31-60,90-100")  # 1-60 is one range
    alone = await over(world, "31-60")

    assert report.exit_code == 0, "this range shows half of its orders"
    assert alone.exit_code == 0
    await world.clock.sleep(86400 * 2)
    for order in range(61, 86):
        (world.edit_table if side is Side.TABLE else world.edit_crm)(order, None)
    assert guards(await over(world, "61-85,1-9")) == ["empty_side"]


@pytest.mark.parametrize("side", list(Side))
async def test_given_a_few_orders_that_are_gone_then_others_tell_whether_the_side_is_empty(side: Side) -> None:
    world = await in_step(100)

    lose(world, 5, 6, side=side)
    assert (await over(world, "5,6")).exit_code == 0
    assert both(world, 5) == (None, None)
    lose(world, *range(7, 101), side=side)
    report = await over(world, "7")
    assert (report.exit_code, guards(report)) == (4, ["empty_side"])
    assert "a range of the orders that were read" in report.row.error


async def test_given_reverts_in_parts_then_they_count_together() -> None:
    world = await in_step(100, limits=replace(FREE, max_reverts=3))
    edit(world, *range(1, 7))
    await world.reconcile()
    await world.clock.sleep(60)
    for order in range(1, 7):  # an older copy of the CRM is put back
        world.edit_crm(order, (2, 100 + order))

    first, second = await over(world, "1-3"), await over(world, "4-6")

    assert (first.exit_code, guards(second)) == (0, ["max_reverts"])
    assert second.row.guards[0].actual == 6


async def test_given_a_first_sync_over_named_orders_then_it_asks_and_the_link_has_still_not_come_through_it() -> None:
    world = World(policy=policy(), limits=GuardLimits(), options={"ask_first_sync": True})
    edit(world, *range(1, 31))

    refused = await over(world, "5")
    await apply(world, refused.row.id)

    assert guards(refused) == ["first_sync"]
    assert both(world, 5) == (deal(905),) * 2
    whole = await world.reconcile()
    assert (whole.row.first_sync, guards(whole)) == (True, ["first_sync"])


async def test_given_a_refused_plan_when_a_pass_over_other_orders_is_fine_then_the_plan_still_waits() -> None:
    world = await in_step(100, limits=replace(FREE, max_removes=2))
    for order in (1, 2, 3):
        world.edit_table(order, None)
    refused = await over(world, "1-30")
    await over(world, "50")

    again, other = await over(world, "1-30"), await over(world, "1-31")

    assert (refused.row.source, again.row.source, other.row.source) == (None, refused.row.id, None)
    assert (await apply(world, refused.row.id)).exit_code == 0
    assert {both(world, order) for order in (1, 2, 3)} == {(None, None)}


async def test_given_two_parts_that_are_refused_in_turn_then_the_plan_of_each_is_stored_once() -> None:
    world = await in_step(100, limits=replace(FREE, max_removes=2))
    for order in (1, 2, 3, 51, 52, 53):
        world.edit_table(order, None)

    looks = [await over(world, orders) for orders in ("1-50", "51-") * 3]

    first, second = looks[:2]
    assert [one.row.state for one in looks] == ["refused"] * 6
    assert [one.row.plan for one in looks] == [first.row.id, second.row.id] * 3


# ------------------------------------------------------------------ absences


async def test_given_absences_noted_elsewhere_then_a_pass_that_does_not_cover_them_leaves_them_waiting() -> None:
    world = await in_step(40, limits=replace(FREE, second_look_above=2))
    for order in (1, 2, 3):
        world.edit_table(order, None)
    await world.reconcile()
    await world.clock.sleep(60)

    await over(world, "10-20")

    assert await world.store.absence_counts(1) == {Side.TABLE: (3, world.clock.now() - 60)}
    await over(world, "1-3")
    assert {both(world, order) for order in (1, 2, 3)} == {(None, None)}


async def test_given_a_limit_that_was_raised_then_what_a_pass_removes_now_says_nothing_of_absences_elsewhere() -> None:
    world = await in_step(40, limits=replace(FREE, second_look_above=2))
    for order in (1, 2, 3):
        world.edit_table(order, None)
    await world.reconcile()
    noted = world.clock.now()
    world.limits = replace(FREE, second_look_above=3)
    await world.clock.sleep(10)

    await over(world, "1,2")

    assert {both(world, order) for order in (1, 2)} == {(None, None)}
    assert await world.store.absence_counts(1) == {Side.TABLE: (1, noted)}


async def test_given_a_table_that_is_loaded_anew_when_hints_name_its_orders_one_by_one_then_most_of_them_wait() -> None:
    world = await in_step(40, limits=replace(FREE, second_look_above=2))
    for order in range(1, 11):
        world.edit_table(order, None)
        await over(world, f"{order}")

    assert len(world.portal.bindings) == 38
    assert (await world.store.absence_counts(1))[Side.TABLE][0] == 8
    for order in range(3, 11):
        world.edit_table(order, (2, 100 + order))
    await world.clock.sleep(60)
    await over(world, "1-20")
    assert len(world.portal.bindings) == 38


async def test_given_some_absences_that_are_back_in_what_is_covered_then_all_of_the_side_wait_anew() -> None:
    world = await in_step(40, limits=replace(FREE, second_look_above=2))
    for order in (1, 2, 3, 4, 31, 32):
        world.edit_table(order, None)
    await world.reconcile()
    await world.clock.sleep(61)
    world.edit_table(4, (2, 104))

    await over(world, "1-10")
    later = await over(world, "31,32")

    assert later.row.counts.waiting == 2
    assert len(world.portal.bindings) == 40


# ------------------------------------------------------------------ an older state


async def test_given_an_older_state_then_a_plan_over_some_orders_does_not_approve_of_it() -> None:
    mark = MemoryMark()
    world = await in_step(40, options={"high_water": mark})
    edit(world, 1)
    await world.reconcile()
    world.store.name = "another state"
    edit(world, 5)

    refused = await over(world, "5")
    idle = await over(world, "9")
    await apply(world, refused.row.id)
    edit(world, 6)

    assert guards(refused) == ["state_older"]
    assert idle.exit_code == 0
    assert both(world, 5) == (deal(905),) * 2
    assert guards(await over(world, "6")) == ["state_older"]


@pytest.mark.parametrize("apart", [10, 1])
async def test_given_many_removes_that_waited_when_a_pass_over_the_newest_looks_again_then_the_side_is_not_empty(
    apart: int,
) -> None:
    world = await in_step(400, limits=replace(FREE, second_look_above=2))
    await world.clock.sleep(86400)
    gone = range(3, 3 + 30 * apart, apart)
    for order in gone:
        world.edit_table(order, None)
    assert (await world.reconcile()).row.counts.waiting == len(gone)
    await world.clock.sleep(61)
    world.options = {"recent_orders": 50}

    report = await engine.reconcile(world.link(), origin="recent", portion=Portion(recent=True))

    assert (guards(report), report.row.state) == ([], "applied")
    assert len(world.portal.bindings) == 400 - len(gone)


async def test_given_a_long_pass_that_began_right_after_orders_were_noted_absent_then_it_is_no_second_look() -> None:
    world = await in_step(400, limits=replace(FREE, second_look_above=2))
    for order in range(351, 400, 2):
        world.edit_table(order, None)
    assert (await over(world, "341-400")).row.counts.waiting == 25
    listing = world.portal.listing

    async def slow(*args: Any) -> AsyncIterator[Listed]:
        await world.clock.sleep(90)
        async for chunk in listing(*args):
            yield chunk

    world.portal.listing = slow  # type: ignore[method-assign]
    await world.clock.sleep(1)
    assert (await world.reconcile()).row.counts.waiting == 25
    assert len(world.portal.bindings) == 400

    world.portal.listing = listing  # type: ignore[method-assign]
    assert (await world.reconcile()).row.counts.waiting == 0
    assert len(world.portal.bindings) == 375
