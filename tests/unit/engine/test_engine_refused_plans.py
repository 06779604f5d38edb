"""A refused plan that waits for a person while passes look whether the facts have changed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from syncd.core.model import Side
from syncd.core.order_ranges import OrderRanges
from syncd.core.records import GuardHit, RunRow
from syncd.engine import reconcile as engine
from syncd.engine.link import hold_lease
from syncd.engine.report import Report
from syncd.engine.stored_plans import refused_plan
from syncd.errors import StalePlan, UnavailableError
from tests.fakes.link import FREE, SecondLink
from tests.simulation.world import World
from tests.unit.engine.given import apply, deal, in_step, lose, rebase, written

pytestmark = pytest.mark.anyio

LIMITS = replace(FREE, max_removes=5, second_look_above=2)
HOUR = 3600.0


async def look(world: World, **changed: Any) -> Report:
    """A pass, five minutes after the one before."""
    await world.clock.sleep(300)
    link = world.link()
    for name, value in changed.items():
        setattr(link, name, value)
    return await engine.reconcile(link, origin="schedule")


async def refused(removes: int = 10) -> tuple[World, Report]:
    """A link of 40 orders whose table has lost some rows, and the pass that refused to follow."""
    world = await in_step(40, limits=LIMITS)
    lose(world, *range(1, removes + 1))
    report = await look(world)
    assert (report.row.state, len(report.changes)) == ("refused", removes)
    return world, report


def put_back(world: World, orders: range) -> None:
    for order in orders:
        world.edit_table(order, (2, 100 + order))


async def test_given_nothing_has_changed_then_a_look_stores_no_plan_again_and_names_the_one_that_waits() -> None:
    world, first = await refused()

    second = await look(world)
    third = await look(world)

    assert [second.row.plan, third.row.plan] == [first.row.id] * 2
    assert second.changes == third.changes == []
    assert (second.row.state, second.exit_code) == ("refused", 4)
    assert second.row.guards == first.row.guards
    assert second.row.digest == first.row.digest


async def test_given_a_look_then_the_plan_that_waits_is_the_one_to_apply_and_all_of_them_are_spent_by_it() -> None:
    world, first = await refused()
    second = await look(world)

    with pytest.raises(StalePlan, match=f"only checked whether the plan of run {first.row.id}"):
        await apply(world, second.row.id)
    applied = await apply(world, first.row.id)

    assert applied.exit_code == 0
    assert len(world.portal.bindings) == 30
    rows = [await world.store.run(row.id) for row in (first.row, second.row)]
    assert [row and row.spent_by for row in rows] == [applied.row.id] * 2


async def test_given_a_plan_that_changed_a_little_then_the_stored_one_still_stands() -> None:
    world, first = await refused()
    world.edit_crm(100, (2, 7))
    lose(world, 11)

    report = await look(world)

    assert report.row.plan == first.row.id
    assert report.row.digest != first.row.digest
    assert report.row.guards == [GuardHit("max_removes", Side.CRM, 5, 11)]


async def test_given_a_plan_that_changed_a_lot_then_it_is_stored_anew() -> None:
    world, first = await refused()
    lose(world, *range(11, 21))

    report = await look(world)

    assert report.row.plan == report.row.id != first.row.id
    assert len(report.changes) == 20


async def test_given_a_plan_that_grows_old_then_it_is_stored_anew_so_that_there_is_always_one_to_apply() -> None:
    world, first = await refused()
    looks = []
    for _ in range(4 * 30):
        await world.clock.sleep(HOUR / 4 - 300)
        looks.append(await look(world))

    plans = list(dict.fromkeys(report.row.plan for report in looks))
    assert len(plans) == 5  # of 120 looks in 30 hours
    applied = await apply(world, plans[-1])
    assert applied.exit_code == 0
    assert first.row.id == plans[0]


@pytest.mark.parametrize("origin", ["command", "schedule", "trigger", "signal"])
async def test_given_any_origin_then_a_plan_that_is_still_refused_is_stored_once(origin: str) -> None:
    world, first = await refused()

    for _ in range(3):
        report = await engine.reconcile(world.link(), origin=origin)
        assert (report.row.state, report.row.plan, report.changes) == ("refused", first.row.id, [])


async def test_given_a_plan_that_only_shrinks_then_the_stored_one_still_stands() -> None:
    world, first = await refused(30)
    for back in (3, 7, 12, 20):
        put_back(world, range(1, back + 1))
        report = await look(world)
        assert (report.row.state, report.row.plan) == ("refused", first.row.id)


async def test_given_the_cause_was_mended_then_the_next_look_goes_on_by_itself() -> None:
    world, _first = await refused()
    put_back(world, range(1, 11))
    world.edit_crm(2, (2, 700))

    report = await look(world)

    assert (report.row.state, report.exit_code) == ("applied", 0)
    assert len(world.portal.bindings) == 40
    assert world.table.bindings[2] == deal(700)


async def test_given_a_cause_that_is_being_mended_then_what_is_left_is_not_carried_out() -> None:
    world, _first = await refused(30)
    before = written(world)

    put_back(world, range(1, 27))  # 4 are left, which no guard would refuse
    half = await look(world)
    put_back(world, range(27, 28))
    nearly = await look(world)
    put_back(world, range(28, 31))
    whole = await look(world)

    assert [(one.row.state, one.row.counts.waiting) for one in (half, nearly, whole)] == [
        ("applied", 4),
        ("applied", 3),
        ("applied", 0),
    ]
    assert [one.exit_code for one in (half, nearly, whole)] == [0, 0, 0]
    assert written(world) == before
    assert len(world.portal.bindings) == 40


async def test_given_a_part_that_stays_lost_then_it_is_carried_out_at_the_second_look_that_finds_it() -> None:
    world, _first = await refused(30)
    put_back(world, range(1, 28))

    held = await look(world)
    report = await look(world)

    assert (held.row.state, held.row.counts.waiting) == ("applied", 3)
    assert (report.row.state, report.exit_code) == ("applied", 0)
    assert len(world.portal.bindings) == 37


async def test_given_a_refused_plan_that_was_looked_at_twice_then_what_is_allowed_of_it_later_does_not_wait() -> None:
    world, _first = await refused(10)

    report = await look(world, limits=replace(LIMITS, max_removes=10))

    assert (report.row.state, report.row.counts.waiting) == ("applied", 0)
    assert len(world.portal.bindings) == 30


async def test_given_a_failed_look_between_then_the_plan_still_waits() -> None:
    world, first = await refused()
    world.table.fail("snapshot", UnavailableError("The mapping table's database is out of reach."))

    failed = await look(world)
    report = await look(world)

    assert failed.exit_code == 69
    assert report.row.plan == first.row.id


async def test_given_limits_that_were_raised_then_the_refused_plan_is_carried_out_at_once() -> None:
    world, _first = await refused()

    report = await look(world, limits=FREE)

    assert (report.row.state, report.exit_code) == ("applied", 0)
    assert len(world.portal.bindings) == 30


async def test_given_a_plan_that_was_applied_then_the_next_refusal_is_one_of_its_own() -> None:
    world, first = await refused()
    await apply(world, first.row.id)
    lose(world, *range(11, 21))

    report = await look(world)

    assert report.row.plan == report.row.id
    assert len(report.changes) == 10


async def test_given_a_rebase_then_nothing_waits_any_more() -> None:
    world, _first = await refused()
    await rebase(world)

    report = await look(world)

    assert report.row.state == "applied"  # a first sync, which removes nothing
    assert len(world.table.bindings) == 40


async def test_given_a_link_that_pointed_elsewhere_for_a_while_then_the_plan_still_waits() -> None:
    world, first = await refused()
    elsewhere = await look(world, fingerprint="other ends")

    report = await look(world)

    assert elsewhere.row.guards == [GuardHit("fingerprint", None, 0, 1)]
    assert report.row.plan == first.row.id


async def test_given_an_apply_that_failed_before_it_wrote_then_the_plan_still_waits_under_its_number() -> None:
    world, first = await refused()
    world.table.fail("snapshot", UnavailableError("The mapping table's database is out of reach."))

    failed = await apply(world, first.row.id)
    report = await look(world)

    assert failed.exit_code == 69
    assert (report.row.state, report.row.plan, report.changes) == ("refused", first.row.id, [])


async def test_given_runs_of_another_link_then_they_say_nothing_of_this_ones_plan() -> None:
    world, first = await refused()
    await SecondLink(world.clock).live(5, world.store)

    report = await look(world)

    assert report.row.plan == first.row.id


async def history(*runs: dict[str, Any]) -> tuple[World, int]:
    """A link that has had these runs, from 1 on: refused passes over all orders, but for what is said of each."""
    world = World()
    for number, run in enumerate(runs, 1):
        async with hold_lease(world.link()) as lease:
            row = RunRow(number, "shop", lease.row.id, **({"kind": "pass", "state": "refused"} | run))
            assert await world.store.start_run(lease.current, row.kind, "schedule", 0, row.source) == number
            await world.store.finish_run(lease.current, row)
    return world, lease.row.id


def over(orders: str, **run: Any) -> dict[str, Any]:
    return {"covers": OrderRanges.parse(orders), **run}


ELSEWHERE = [GuardHit("fingerprint", None, 0, 1)]


FIRST, LAST = OrderRanges.parse("1-20"), OrderRanges.parse("21-")


@pytest.mark.parametrize(
    ("later", "orders", "waits"),
    [
        ([], None, 1),
        ([{}], None, 2),
        ([{"source": 1}], None, 1),
        ([{"state": "failed"}, {"state": "incomplete"}, {"guards": ELSEWHERE}], None, 1),
        ([{"kind": "plan", "state": "planned"}, {"kind": "undo", "state": "planned"}], None, 1),
        ([{"kind": "plan"}, {"kind": "apply", "state": "failed"}], None, 1),
        ([{"state": "applied"}], None, None),
        ([{"state": "partial"}], None, None),
        ([{"kind": "apply", "state": "partial"}], None, None),
        ([{"kind": "rebase", "state": "applied"}], None, None),
        ([over("1-20", state="applied")], None, 1),
        ([over("1-20", state="failed"), over("1-20", state="applied")], None, 1),
        ([], FIRST, None),
        ([over("1-20"), over("21-")], FIRST, 2),
        ([over("1-20"), over("21-")], LAST, 3),
        ([over("1-20"), over("21-")], None, 1),
        ([over("1-20"), over("1-9", state="applied"), over("10-19", state="partial")], FIRST, 2),
        ([over("1-20"), over("1-9", state="applied"), over("10-20", state="partial")], FIRST, None),
        ([over("1-20"), over("10-20", state="partial"), over("1-9", state="applied")], FIRST, None),
        ([over("1-20"), over("5-30", state="applied")], LAST, None),
    ],
    ids=str,
)
async def test_given_later_runs_then_the_newest_refusal_over_the_same_orders_waits_unless_one_of_them_settled_it(
    later: list[dict[str, Any]], orders: OrderRanges | None, waits: int | None
) -> None:
    world, link_id = await history({}, *later)

    found = await refused_plan(world.link(), link_id, orders)

    assert (found and found.plan.id) == waits


async def test_given_a_plan_of_an_earlier_generation_then_it_does_not_wait_on_this_one() -> None:
    world, link_id = await history({})

    assert await refused_plan(world.link(), link_id + 1, None) is None
