"""An order that is absent is not gone yet: many removes wait for a second look, and all while a row has no readable id."""

from __future__ import annotations

from dataclasses import replace
from functools import partialmethod

import pytest

from syncd.core.model import HoldKind, Outcome, Side
from syncd.core.order_ranges import Coverage, OrderRanges
from syncd.engine import reconcile as engine
from syncd.engine.covering import Portion
from syncd.engine.report import iso, to_json
from syncd.spill import SpillList
from tests.fakes.link import FREE
from tests.fakes.portal import Surprise
from tests.simulation.world import World
from tests.unit.engine.given import apply, both, deal, in_step, lose, outcomes, plan, written

pytestmark = pytest.mark.anyio

LIMITS = replace(FREE, second_look_above=2)


async def lost(orders: int, *, side: Side = Side.TABLE, of: int = 40) -> World:
    """A link of so many orders, of which a side has lost some."""
    world = await in_step(of, limits=LIMITS)
    lose(world, *range(1, orders + 1), side=side)
    return world


@pytest.mark.parametrize("side", list(Side))
async def test_given_few_absences_then_they_are_removed_at_once(side: Side) -> None:
    world = await lost(2, side=side)

    report = await world.reconcile()

    assert (report.row.counts.waiting, both(world, 1), both(world, 2)) == (0, (None, None), (None, None))


@pytest.mark.parametrize("side", list(Side))
async def test_given_many_absences_then_they_wait_until_a_later_pass_finds_the_same(side: Side) -> None:
    world = await lost(3, side=side)
    before = written(world)
    since = iso(world.clock.now())

    first = await world.reconcile()
    await world.clock.sleep(59)
    too_soon = await world.reconcile()
    await world.clock.sleep(1)

    assert [(one.exit_code, one.row.counts.waiting) for one in (first, too_soon)] == [(0, 3), (0, 3)]
    assert outcomes(first) == {(order, side.other.value): Outcome.WAITING for order in (1, 2, 3)}
    name = {Side.CRM: "the CRM", Side.TABLE: "the table"}[side]
    waits = f"waits: absent from {name} since {since}; a later pass removes it if it is still absent"
    assert {one.error for report in (first, too_soon) for one in report.changes} == {waits}
    assert written(world) == before
    later = await world.reconcile()
    assert (later.exit_code, later.row.counts.waiting) == (0, 0)
    assert {both(world, order) for order in (1, 2, 3)} == {(None, None)}
    assert await world.store.absence_counts(1) == {}


async def test_given_a_plan_too_long_for_memory_then_all_that_wait_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SpillList, "__init__", partialmethod(SpillList.__init__, chunk=2))
    monkeypatch.setattr("syncd.engine.observe.SEGMENT", 2)
    world = await lost(5)
    world.portal.chunk = 2

    report = await world.reconcile()

    assert (report.row.counts.waiting, len(outcomes(report))) == (5, 5)


async def test_given_an_order_that_joins_those_that_waited_then_only_it_waits() -> None:
    world = await lost(3)
    await world.reconcile()
    await world.clock.sleep(60)
    lose(world, 4)

    report = await world.reconcile()

    assert outcomes(report) == {
        (1, "crm"): Outcome.APPLIED,
        (2, "crm"): Outcome.APPLIED,
        (3, "crm"): Outcome.APPLIED,
        (4, "crm"): Outcome.WAITING,
    }


async def test_given_some_that_waited_and_are_back_then_a_plan_shows_that_the_others_wait_anew() -> None:
    world = await lost(4)
    await world.reconcile()
    await world.clock.sleep(60)
    world.edit_table(1, deal(101))

    report = await plan(world)

    assert report.row.counts.waiting == 3


async def test_given_a_table_that_is_loaded_row_by_row_then_nothing_is_removed_however_many_passes_see_it() -> None:
    world = await lost(20)
    before = written(world)
    for back in range(1, 21):
        await world.clock.sleep(300)
        report = await world.reconcile()
        assert report.exit_code == 0
        assert written(world) == before
        world.edit_table(back, (2, 100 + back))

    assert len(world.portal.bindings) == 40


async def test_given_a_waiting_order_that_is_back_then_it_waits_anew_when_it_goes_again() -> None:
    world = await lost(3)
    await world.reconcile()
    await world.clock.sleep(100)
    for order in (1, 2, 3):
        world.edit_table(order, (2, 100 + order))
    await world.reconcile()
    lose(world, 1, 2, 3)

    report = await world.reconcile()

    assert report.row.counts.waiting == 3


async def test_given_a_pass_that_fails_after_its_removes_when_the_orders_are_bound_anew_then_they_wait_anew() -> None:
    world = await lost(3, side=Side.CRM)
    await world.reconcile()
    await world.clock.sleep(60)
    world.edit_table(39, (2, 998))
    world.portal.script.append(Surprise.UNAVAILABLE)
    failed = await world.reconcile()
    assert (failed.error is not None, both(world, 1)) == (True, (None, None))
    for order in (1, 2, 3):
        world.edit_crm(order, (2, 200 + order))
    await world.reconcile()
    lose(world, 1, 2, 3, side=Side.CRM)

    report = await world.reconcile()

    assert (report.row.counts.waiting, both(world, 1)) == (3, (None, deal(201)))


async def test_given_a_plan_then_it_shows_what_waits_and_its_application_does_it_at_once() -> None:
    world = await lost(3)
    world.edit_crm(9, (2, 900))

    planned = await plan(world)

    assert planned.exit_code == 2
    form = to_json(planned)
    assert form["counts"]["waiting"] == 3
    assert [one["outcome"] for one in form["changes"]] == ["waiting"] * 3 + ["planned"]
    assert await world.store.absence_counts(1) == {}, "a plan is no pass"
    applied = await apply(world, planned.row.id)
    assert applied.exit_code == 0
    assert {both(world, order) for order in (1, 2, 3)} == {(None, None)}
    assert both(world, 9) == (deal(900), deal(900))


async def test_given_a_plan_that_guards_refuse_then_its_application_removes_at_once() -> None:
    world = await lost(10)
    world.limits = replace(LIMITS, max_removes=5)
    refused = await world.reconcile()
    assert {one.outcome for one in refused.changes} == {Outcome.PLANNED}

    assert (await apply(world, refused.row.id)).exit_code == 0
    assert len(world.portal.bindings) == 30


async def test_given_decided_removes_then_they_do_not_wait() -> None:
    world = await in_step(40, limits=LIMITS)
    for order in (1, 2, 3):
        world.edit_crm(order, (2, 900))
        world.edit_table(order, None)
    held = await world.reconcile()
    await world.store.decide(held.row.link_id, [1, 2, 3], "table", world.clock.now())

    report = await world.reconcile()

    assert (report.row.counts.waiting, both(world, 1), both(world, 3)) == (0, (None, None), (None, None))


async def test_given_rows_that_are_marked_as_deleted_then_they_do_not_wait() -> None:
    world = await in_step(40, limits=LIMITS)
    world.table.soft = True
    for row in world.table.stored:
        row.deleted = row.order_id in {1, 2, 3}

    report = await world.reconcile()

    assert (report.row.counts.waiting, len(world.portal.bindings)) == (0, 37)


async def test_given_a_row_marked_as_deleted_in_a_table_that_hides_effects_then_its_order_is_unbound() -> None:
    world = await in_step({5: 10, 6: 11})
    world.table.hides_effects = world.table.soft = True
    world.edit_crm(6, (2, 21))
    await world.reconcile()
    for row in world.table.stored:
        row.deleted = row.order_id == 5

    report = await world.reconcile()

    assert (report.exit_code, await world.held()) == (0, {})
    assert both(world, 5) == (None, None)


async def test_given_a_clock_that_was_set_back_then_the_second_look_comes_all_the_same() -> None:
    world = await lost(3)
    await world.reconcile()
    world.clock.time -= 100_000
    await world.reconcile()
    await world.clock.sleep(60)

    assert (await world.reconcile()).row.counts.waiting == 0
    assert len(world.portal.bindings) == 37


# -------------------------------------------------------------------------- rows without a readable order id


@pytest.mark.parametrize("unreadable", [None, "A-5", -5, 0])
async def test_given_a_row_without_a_readable_order_id_then_no_absent_order_is_removed(unreadable: object) -> None:
    world = await in_step(40)
    for row in world.table.stored:
        row.order_id = unreadable if row.order_id in {1, 2} else row.order_id
    world.edit_crm(9, (2, 900))
    before = dict(world.portal.bindings)

    report = await world.reconcile()

    assert report.exit_code == 3
    assert [hold.order_id for hold in report.holds] == [0]
    assert "2 agreed orders are absent" in report.holds[0].detail
    assert report.holds[0].detail.count(f"order_id is {unreadable} ") == 2, "it says which rows"
    assert report.row.counts.waiting == 2
    assert world.portal.bindings == before
    assert both(world, 9) == (deal(900), deal(900)), "everything else goes on"


async def test_given_the_rows_are_mended_then_nothing_was_lost() -> None:
    world = await in_step(40)
    [row] = [row for row in world.table.stored if row.order_id == 1]
    row.order_id = None
    world.edit_crm(1, None)  # unbound in the CRM meanwhile, which must not be agreed on beside a row nobody can read
    await world.reconcile()
    row.order_id = 1

    report = await world.reconcile()

    assert (report.exit_code, report.holds) == (0, [])
    assert both(world, 1) == (None, None)


async def test_given_an_order_the_list_leaves_out_then_it_is_held_and_everything_else_goes_on() -> None:
    world = await in_step(40)
    world.portal.omitted = {5}
    world.edit_table(7, (2, 22))

    report = await world.reconcile()

    assert report.exit_code == 3
    assert [(hold.order_id, hold.kind) for hold in report.holds] == [(5, HoldKind.INVALID_ROW)]
    assert "list leaves this order out" in report.holds[0].detail
    assert both(world, 5) == (deal(105), deal(105))
    assert both(world, 7) == (deal(22), deal(22))
    assert (await world.reconcile()).exit_code == 0


async def test_given_a_table_that_hides_effects_then_a_pass_over_other_orders_is_no_reading_of_what_went() -> None:
    world = await in_step({5: 10, 6: 11, 7: 12})
    world.table.hides_effects = True
    world.edit_crm(6, (2, 21))
    await world.reconcile()
    await engine.reconcile(world.link(), portion=Portion(orders=OrderRanges.parse("6-7")))
    world.edit_table(5, None)

    await world.reconcile()

    assert await world.held() == {5: "uncertain"}
    assert both(world, 5) == (deal(10), None)


async def test_given_a_table_that_hides_effects_then_what_another_link_wrote_does_not_hold_a_row_that_went() -> None:
    world = await in_step({5: 10, 6: 11})
    world.table.hides_effects = True
    world.options["name"] = "other"
    await world.reconcile()
    world.edit_crm(6, (2, 21))
    assert (await world.reconcile()).row.counts.table.total == 1
    del world.options["name"]
    world.edit_table(5, None)

    report = await world.reconcile()

    assert (report.exit_code, await world.held()) == (0, {})
    assert both(world, 5) == (None, None)


async def test_given_a_table_that_hides_effects_and_a_reading_nobody_knows_of_then_all_runs_are_looked_through() -> (
    None
):
    world = await in_step({5: 10, 6: 11})
    world.table.hides_effects = True
    report = await world.reconcile()
    row = await world.store.find_link("shop")
    assert row is not None
    lease = await world.store.acquire(row, "an earlier version", 60, world.clock.now())
    await world.store.set_coverage(lease, Coverage.whole(report.row.started_at))
    await world.store.release(lease)
    world.edit_table(5, None)

    report = await world.reconcile()

    assert (report.exit_code, await world.held()) == (0, {})
    assert both(world, 5) == (None, None)
