"""Slices in rotation and the newest orders in between: what each pass covers, and how fresh each part is then."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from syncd.core.guards import SMALL
from syncd.core.model import Scope
from syncd.core.order_ranges import Coverage, OrderRange, OrderRanges
from syncd.core.records import BindingRow
from syncd.engine import observe
from syncd.engine import reconcile as engine
from syncd.engine.covering import ASKED_FOR, Portion, portion_of
from syncd.engine.report import Report
from syncd.errors import Stopped, UsageError
from syncd.status.health import last_scheduled
from tests.fakes.link import FREE
from tests.simulation.crash import Steps
from tests.simulation.world import World
from tests.unit.engine.given import both, deal, in_step, lose, policy
from tests.unit.engine.portions import coverage, edit, guards, over, recent, sliced

pytestmark = pytest.mark.anyio

DAY = 86400.0


async def pass_over(world: World, portion: Portion | None) -> Report:
    await world.clock.sleep(1)
    return await engine.reconcile(world.link(), origin="schedule", portion=portion)


# ------------------------------------------------------------------ what is covered


def test_given_the_orders_that_a_command_names_then_these_are_covered_and_all_where_it_names_none() -> None:
    assert portion_of(None) is None
    assert portion_of(OrderRanges.parse("5")) == Portion(orders=OrderRanges.parse("5"))


def forget_coverage(world: World) -> None:
    """The state database is of a version that kept none."""
    world.store._links[0] = world.store._links[0]._replace(coverage=None)


@pytest.mark.parametrize("portion", [Portion(slice=True), Portion(recent=True)])
async def test_given_nothing_known_of_what_was_covered_then_a_pass_covers_all(portion: Portion) -> None:
    world = await in_step(40)
    world.options = {"slices": 4, "recent_orders": 5}
    forget_coverage(world)

    report = await pass_over(world, portion)

    assert (report.row.covers, await coverage(world)) == (None, Coverage.whole(world.clock.now(), report.row.id))


async def test_given_named_orders_or_a_failure_before_anything_was_covered_then_no_part_is_known_to_be_fresh() -> None:
    world = World(policy=policy())
    edit(world, 5)
    await over(world, "5")
    world.portal.omitted = {1}
    world.table.fail("snapshot", UsageError("away"))
    with pytest.raises(UsageError, match="away"):
        await world.reconcile()

    row = await world.store.find_link("shop")

    assert row is not None
    assert row.coverage is None


async def test_given_fewer_orders_than_the_newest_are_then_such_a_pass_covers_all() -> None:
    world = await in_step(3)
    report = await recent(world)
    assert (report.row.covers, (await coverage(world)).recent_from) == (None, 1)


async def test_given_an_order_that_waits_for_its_retry_for_days_then_the_newest_come_with_it() -> None:
    world = await in_step(40)
    world.table.refuse(7)
    world.edit_crm(7, (2, 77))
    edit(world, 3)
    await world.reconcile()
    await world.clock.sleep(DAY + 1)

    assert str((await recent(world)).row.covers) == "7,36-"


async def test_given_very_many_held_orders_then_as_many_come_along_as_there_are_newest() -> None:
    world = await in_step(40)
    world.table.add(None, 2, 9)  # held as order 0, which no pass can cover
    for order in range(1, 21):
        world.edit_crm(order, (2, 1))
        world.edit_table(order, (2, 2))
    await world.reconcile()
    await world.clock.sleep(DAY + 1)

    assert str((await recent(world)).row.covers) == "1-5,36-"


async def test_given_a_link_without_orders_then_a_scheduled_pass_covers_all_and_takes_in_the_first() -> None:
    world = await in_step({})
    edit(world, 5)

    report = await sliced(world)

    assert (report.exit_code, report.row.covers, both(world, 5)) == (0, None, (deal(905),) * 2)


async def test_given_named_orders_and_a_slice_in_one_pass_then_it_covers_both() -> None:
    world = await in_step(40)
    world.options = {"slices": 4}
    edit(world, 5, 25, 35)

    report = await pass_over(world, Portion(slice=True, orders=OrderRanges.parse("35"), called="hints"))

    assert (report.row.part, str(report.row.covers)) == ("slice 1 of 4, hints", "1-10,35")
    assert [both(world, order)[0] for order in (5, 25, 35)] == [deal(905), deal(125), deal(935)]


async def test_given_new_orders_or_another_number_of_slices_then_they_are_cut_anew() -> None:
    world = await in_step(40)
    for _ in range(4):
        await sliced(world)
    for order in range(41, 81):
        world.edit_crm(order, (2, 100 + order))
    await world.reconcile()
    assert [str((await sliced(world)).row.covers) for _ in range(2)] == ["1-20", "21-40"]

    report = await sliced(world, slices=2)

    assert (report.row.part, (await coverage(world)).orders_of(0)) == ("slice 2 of 2", OrderRange(1, 40))


async def test_given_a_link_of_a_range_of_orders_then_its_slices_are_covered_in_turn() -> None:
    world = World(policy=replace(policy(), scope=Scope(frozenset({2}), 11, 50)))
    world.table.scope = world.policy.scope
    for order in range(11, 51):
        world.edit_crm(order, (2, 100 + order))
        world.edit_table(order, (2, 100 + order))
    await world.reconcile()

    seen = [str((await sliced(world)).row.covers) for _ in range(4)]

    assert seen == ["11-20", "21-30", "31-40", "41-50"]
    assert (await coverage(world)).stalest == world.clock.now() - 900


# ------------------------------------------------------------------ how fresh each part is


async def test_given_a_slice_that_cannot_be_proved_beside_the_newest_then_another_slice_is_next() -> None:
    world = await in_step(400)
    world.options = {"recent_orders": 50, "slices": 4}
    world.portal.unproved = {OrderRange(1, 100): "no"}
    failed = await pass_over(world, Portion(slice=True, recent=True))
    world.portal.unproved = {}

    report = await pass_over(world, Portion(slice=True))

    assert [failed.row.part, report.row.part] == ["slice 1 of 4, the newest 50", "slice 2 of 4"]


@pytest.mark.parametrize("recent_orders", [5, 0])
@pytest.mark.parametrize(
    ("portion", "slices"), [(None, 4), (Portion(slice=True), 1), (Portion(orders=OrderRanges.parse("1-")), 4)]
)
async def test_given_a_pass_over_all_then_the_newest_are_as_fresh_as_the_rest_where_passes_cover_them(
    portion: Portion | None, slices: int, recent_orders: int
) -> None:
    world = await in_step(40)
    if recent_orders:
        await recent(world)
    world.options["slices"] = slices

    report = await pass_over(world, portion)

    fresh, now = await coverage(world), world.clock.now()
    newest = (fresh.recent_from, fresh.recent_at, fresh.recent_run)
    assert newest == ((36, now, report.row.id) if recent_orders else (0, 0.0, 0))
    assert fresh.stalest == now


async def test_given_a_slice_that_cannot_be_proved_when_the_rest_is_refused_then_another_slice_is_next() -> None:
    world = await in_step(400, limits=replace(FREE, max_moves=1))
    world.options = {"recent_orders": 50, "slices": 4}
    edit(world, 398, 399)
    world.portal.unproved = {OrderRange(1, 100): "no"}
    both_asked = Portion(slice=True, recent=True)

    refused = await pass_over(world, both_asked)

    assert (refused.row.state, str(refused.row.covers), guards(refused)) == ("refused", "351-", ["max_moves"])
    assert (await pass_over(world, both_asked)).row.part == "slice 2 of 4, the newest 50"


async def test_given_a_pass_that_is_stopped_while_it_writes_then_its_orders_are_as_stale_as_before() -> None:
    world = await in_step(40)
    before = await coverage(world)
    edit(world, 1, 2)
    world.edit_crm(30, (2, 930))
    await world.clock.sleep(60)
    steps = Steps(meanwhile=lambda name: link.cancelled.set("somebody") if name.endswith(".write after") else None)
    link = world.link(steps)

    report = await engine.reconcile(link)

    assert isinstance(report.error, Stopped)
    assert report.row.state == "partial"
    assert (await coverage(world)).stalest == before.stalest


async def test_given_a_plan_then_it_says_nothing_of_what_was_covered() -> None:
    world = await in_step(40)
    await sliced(world)
    before = await coverage(world)
    await engine.plan(world.link(), portion=Portion(slice=True))
    await engine.plan(world.link())
    assert await coverage(world) == before


async def test_given_a_pass_in_between_that_only_found_what_both_sides_share_then_its_run_is_kept() -> None:
    world = await in_step(40)
    before = len(await world.store.runs("shop", 100))
    world.edit_crm(38, (2, 9))
    world.edit_table(38, (2, 9))
    await recent(world)
    assert len(await world.store.runs("shop", 100)) == before + 1
    await over(world, "5")
    assert len(await world.store.runs("shop", 100)) == before + 2, "somebody asked for this one"


# ------------------------------------------------------------------ guards over parts


async def test_given_named_orders_that_are_nowhere_then_that_is_no_first_sync() -> None:
    world = await in_step(40)
    assert not (await over(world, "99")).row.first_sync


async def test_given_a_clock_that_was_set_back_then_what_was_done_in_parts_since_counts() -> None:
    world = await in_step(400, limits=replace(FREE, max_removes=3))
    world.clock.jump -= 5 * 3600
    lose(world, 3, 5, 10, 20)
    assert (await over(world, "3,5,10")).exit_code == 0

    assert guards(await over(world, "20")) == ["max_removes"]


async def test_given_a_rotation_that_takes_days_then_what_was_done_in_parts_counts_for_one() -> None:
    world = await in_step(400, limits=replace(FREE, max_removes=3))
    lose(world, 3, 5, 10, 20)
    await over(world, "3,5,10")
    await world.clock.sleep(DAY + 3600)

    assert (await over(world, "20")).exit_code == 0


async def test_given_many_narrow_ranges_of_which_a_side_shows_nothing_then_they_count_together() -> None:
    orders = {first + more: 7 for first in (1, 101, 201, 301, 401) for more in range(5)}
    world = await in_step(orders | dict.fromkeys(range(1000, 1100), 8))
    lose(world, *orders)

    assert guards(await over(world, "1-30,101-130,201-230,301-330,401-430")) == ["empty_side"]


async def test_given_a_slice_that_is_empty_when_all_its_orders_were_written_today_then_the_plan_is_refused() -> None:
    world = await in_step(100)
    edit(world, *range(1, 26))
    await world.reconcile()
    world.options = {"slices": 4, "recent_orders": 30}
    lose(world, *range(1, 26))

    assert guards(await pass_over(world, Portion(slice=True, recent=True))) == ["empty_side"]


async def test_given_a_range_of_just_as_many_orders_as_make_a_sample_when_it_is_empty_then_the_plan_is_refused() -> (
    None
):
    orders = range(101, 101 + 2 * SMALL, 2)
    world = await in_step(dict.fromkeys([*orders, *range(1, 10)], 7))
    lose(world, *orders)

    assert guards(await over(world, f"1-9,{orders[0]}-{orders[-1]}")) == ["empty_side"]


@pytest.mark.parametrize("others", [range(1, 2), range(1, 99), range(1001, 1099)])
async def test_given_the_last_orders_of_a_link_that_are_gone_then_the_first_tell_whether_the_side_is_empty(
    others: range,
) -> None:
    last = (others[-1] + 1, others[-1] + 2)
    world = await in_step(dict.fromkeys([*others, *last], 7))
    lose(world, *last)
    assert (await over(world, f"{last[0]}-{last[1]}")).exit_code == 0
    assert both(world, last[0]) == (None, None)


async def test_given_all_orders_of_a_link_that_are_gone_when_each_was_named_then_the_plan_is_refused() -> None:
    world = await in_step({5: 10, 6: 11})
    lose(world, 5, 6)

    assert guards(await over(world, "5,6")) == ["empty_side"]


async def test_given_an_order_that_was_never_agreed_on_then_it_does_not_tell_that_the_side_is_not_empty() -> None:
    world = await in_step({5: 10, 6: 11})
    world.edit_crm(9, (31, 12))
    await world.reconcile()
    for order in (5, 6):
        world.edit_crm(order, None)

    assert guards(await over(world, "5")) == ["empty_side"]


async def test_given_a_large_link_when_other_orders_are_asked_for_then_a_page_of_it_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = await in_step(200)
    lose(world, *range(1, 201))
    read: list[int] = []
    bindings = world.store.bindings

    async def watched(*args: Any) -> list[BindingRow]:
        rows = await bindings(*args)
        read.append(len(rows))
        return rows

    monkeypatch.setattr(world.store, "bindings", watched)

    assert guards(await over(world, "7")) == ["empty_side"]
    assert max(read) == ASKED_FOR


async def test_given_a_range_in_several_segments_then_it_is_judged_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observe, "SEGMENT", 30)
    world = await in_step(100)
    world.portal.chunk = 30
    lose(world, *range(31, 61))
    assert (await over(world, "1-60")).exit_code == 0


async def test_given_removes_in_parts_when_a_pass_over_all_finds_more_then_these_wait_for_a_second_look() -> None:
    world = await in_step(100, limits=replace(FREE, second_look_above=2))
    lose(world, 3, 5)
    await over(world, "3,5")
    assert both(world, 5) == (None, None)
    lose(world, 10)

    report = await world.reconcile()

    assert (report.row.counts.waiting, both(world, 10)) == (1, (deal(110), None))


async def test_given_a_refused_plan_when_a_pass_over_its_orders_was_fine_then_the_next_refusal_is_stored() -> None:
    world = await in_step(100, limits=replace(FREE, max_removes=1))
    lose(world, 3, 5)
    first = await over(world, "3,5")
    for order in (3, 5):
        world.edit_table(order, (2, 100 + order))
    assert (await over(world, "1-30")).exit_code == 0
    lose(world, 3, 5)

    again = await over(world, "3,5")

    assert (first.exit_code, again.exit_code) == (4, 4)
    assert again.row.plan == again.row.id


async def test_given_a_range_not_proved_before_another_then_its_rows_are_not_compared_with_that() -> None:
    world = await in_step(200)
    edit(world, 5, 70, 150)
    world.portal.unproved = {OrderRange(60, 99): "no"}

    report = await over(world, "1-40,60-99,140-180")

    assert sorted(one.change.order_id for one in report.changes) == [5, 150]
    assert report.row.counts.table_rows == 81


# ------------------------------------------------------------------ a clock that was set back


async def test_given_a_clock_that_was_set_back_when_rotating_then_no_slice_waits_until_it_is_that_time_again() -> None:
    world = await in_step(40)
    await sliced(world)
    world.clock.jump = 10 * DAY
    ahead = await sliced(world)
    world.clock.jump = 0

    parts = [(await sliced(world)).row.part for _ in range(4)]

    assert ahead.row.part == "slice 2 of 4"
    assert sorted(parts) == [f"slice {number} of 4" for number in range(1, 5)]


async def test_given_a_clock_that_was_set_back_when_a_slice_is_covered_then_the_schedule_goes_on_from_there() -> None:
    world = await in_step(40)
    await sliced(world)
    world.clock.jump = 10 * DAY
    await sliced(world)
    world.clock.jump = 0
    served = (await sliced(world)).row.started_at

    assert last_scheduled(await world.store.find_link("shop"), await world.store.runs("shop", 1)) == served
