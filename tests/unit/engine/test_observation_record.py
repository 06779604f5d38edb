"""What a pass keeps of its reading, before it writes anything: agreed orders, and the holds with since when."""

from __future__ import annotations

from dataclasses import replace

import pytest

from syncd.core.model import Action, HoldKind
from syncd.core.records import StoredHold
from syncd.engine import observation_record
from syncd.engine import reconcile as engine
from syncd.engine.link import hold_lease
from syncd.engine.report import Report
from tests.simulation.world import World
from tests.unit.engine.given import deal, in_step

pytestmark = pytest.mark.anyio


async def hint(world: World) -> Report:
    """A pass that the daemon makes between those of the schedule."""
    return await engine.reconcile(world.link(), origin="hint")


async def in_conflict() -> World:
    world = await in_step({5: 10, 6: 11})
    world.edit_crm(5, (2, 20))
    world.edit_table(5, (2, 30))
    assert (await world.reconcile()).exit_code == 3
    return world


async def held(world: World) -> StoredHold:
    (stored,) = await world.store.holds(1)
    return stored


async def agreed_by(world: World, report: Report) -> list[int]:
    """The orders that a run agreed on, as often as it did, ascending."""
    audit = [await world.store.history("shop", order) for order in range(1, 6)]
    return [
        one.change.order_id
        for of_order in audit
        for one in of_order
        if one.run == report.row.id and one.change.action is Action.AGREE
    ]


async def later(world: World) -> float:
    await world.clock.sleep(600)
    return world.clock.now()


async def test_given_a_hold_that_shows_something_else_then_it_is_the_same_hold_and_an_event_of_this_run() -> None:
    world = await in_conflict()
    first = await held(world)
    await later(world)
    world.edit_crm(5, (2, 21))

    report = await world.reconcile()

    stored = await held(world)
    assert stored.hold.facts.crm == deal(21)
    assert (stored.hold.since, stored.run, stored.sticky) == (first.hold.since, report.row.id, False)


async def test_given_another_kind_of_hold_then_it_began_now() -> None:
    world = await in_conflict()
    now = await later(world)
    world.edit_crm(5, None)

    await world.reconcile()

    stored = await held(world)
    assert (stored.hold.kind, stored.hold.since) == (HoldKind.REMOVE_EDIT, now)


async def test_given_a_hold_in_other_words_then_they_are_kept_and_it_is_as_old_as_before() -> None:
    world = await in_conflict()
    first = await held(world)
    async with hold_lease(world.link()) as lease:
        older = replace(first, hold=replace(first.hold, detail="as an earlier version said it"))
        await world.store.set_holds(lease.current, first.run, opened=[older], released=(), now=first.hold.since)
    await later(world)

    await world.reconcile()

    assert replace(await held(world), run=first.run) == first


async def test_given_a_decision_to_try_again_that_changed_nothing_then_the_hold_is_open_again() -> None:
    world = await in_conflict()
    first = await held(world)
    await world.store.decide(1, [5], "retry", world.clock.now())
    await later(world)

    report = await world.reconcile()

    stored = await held(world)
    assert (stored.decision, stored.hold, stored.run) == ("", first.hold, report.row.id)


@pytest.mark.parametrize("news", ["held", "released", "agreed", "listed", "nothing"])
async def test_given_a_pass_on_a_hint_then_it_leaves_a_row_where_anything_is_new(news: str) -> None:
    world = await in_conflict()
    if news == "held":
        world.table.add(6, 2, 99)  # a second row
    elif news == "released":
        world.table.add(6, 2, 99)
        await world.reconcile()
        world.table.stored.pop()
    elif news == "agreed":
        world.edit_crm(6, (2, 12))
        world.edit_table(6, (2, 12))
    elif news == "listed":
        world.edit_crm(5, (2, 21))

    report = await hint(world)

    kept = await world.store.run(report.row.id)
    assert (kept is None) == (news == "nothing")


async def test_given_more_orders_than_are_confirmed_at_a_time_then_each_is_agreed_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(observation_record, "CONFIRM", 2)
    world = World()
    for order in range(1, 6):
        world.edit_crm(order, (2, order))
        world.edit_table(order, (2, order))

    report = await world.reconcile()

    assert await agreed_by(world, report) == [1, 2, 3, 4, 5]
    assert await world.store.agreed_count(1) == 5


async def test_given_one_of_several_that_moves_while_they_are_confirmed_then_the_others_are_agreed() -> None:
    world = World()
    for order in range(1, 4):
        world.edit_crm(order, (2, order))
        world.edit_table(order, (2, order))
    world.table.meanwhile("read", lambda: world.edit_table(1, (2, 99)))

    report = await world.reconcile()

    assert await agreed_by(world, report) == [2, 3]
    assert await world.store.agreed_count(1) == 2


async def test_given_one_of_several_ends_that_is_none_then_the_others_are_agreed() -> None:
    world = await in_step({order: order for order in range(1, 4)})
    for order in (1, 2, 3):
        world.edit_table(order, None)
    world.edit_crm(2, None)
    world.edit_crm(3, None)
    world.portal.omitted = {1}

    await world.reconcile()

    agreed = {row.order_id for row in await world.store.bindings(1, 0, None) if row.agreed_id is not None}
    assert agreed == {1}


async def test_given_one_of_several_ends_whose_row_where_hides_then_the_others_are_agreed() -> None:
    world = await in_step({order: order for order in range(1, 4)})
    for order in (1, 2):
        world.edit_crm(order, None)
    world.edit_table(2, None)
    (hidden,) = (row for row in world.table.stored if row.order_id == 1)
    hidden.selected = False

    report = await world.reconcile()

    assert [hold.order_id for hold in report.holds] == [1]
    assert {row.order_id for row in await world.store.bindings(1, 0, None) if row.agreed_id is not None} == {1, 3}
