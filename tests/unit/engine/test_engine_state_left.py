"""An agreed state that is taken up again after another link, or another state database, has synced the same ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from syncd.core.order_ranges import OrderRanges
from syncd.core.records import GuardHit
from syncd.engine import reconcile as engine
from syncd.engine.covering import Portion
from syncd.engine.report import Report
from tests.fakes.high_water import MemoryMark
from tests.fakes.store import MemoryStore
from tests.simulation.world import World
from tests.unit.engine.given import apply, both, deal, in_step, plan, rebase, written

pytestmark = pytest.mark.anyio

TakeUp = Callable[[World], None]


def another_name(world: World) -> None:
    """The link has another name in the configuration, and the same state database."""
    world.options["name"] = "shop2"


def first_name(world: World) -> None:
    world.options["name"] = "shop"


def state(world: World, name: str) -> None:
    """The configuration names this state database; what it noted is there again, too."""
    if "states" not in vars(world):
        vars(world)["states"] = {"first": (world.store, world.options["high_water"])}
    states = vars(world)["states"]
    if name not in states:
        store = MemoryStore(world.clock)
        store.name = name
        states[name] = (store, world.options["high_water"].beside(f"sqlite:///{name}.db"))
    world.store, world.options["high_water"] = states[name]


def another_state(world: World) -> None:
    state(world, "second")


def first_state(world: World) -> None:
    state(world, "first")


WAYS = pytest.mark.parametrize(
    ("leave", "come_back"), [(another_name, first_name), (another_state, first_state)], ids=["name", "state"]
)


async def begun() -> World:
    world = await in_step({5: 10, 6: 11}, options={"high_water": MemoryMark("sqlite:///first.db")})
    world.clock.time += 3600
    return world


async def left(leave: TakeUp, come_back: TakeUp) -> World:
    """A link that another one went on with: it has synced an edit, and a person has just put the old value back."""
    world = await begun()
    leave(world)
    assert (await world.reconcile()).exit_code == 0
    world.edit_crm(5, (2, 20))
    world.clock.time += 3600
    assert (await world.reconcile()).exit_code == 0
    come_back(world)
    world.clock.time += 3600
    world.edit_table(5, (2, 10))
    return world


def rename_portal(world: World) -> None:
    world.portal.redirected = {"old.example"}
    world.options |= {
        "portal_address": "new.example",
        "fingerprint": "elsewhere",
        "changed_ends": lambda stored: ("portal",) if stored != "elsewhere" else (),
    }


def is_refused(report: Report) -> None:
    assert (report.row.state, report.exit_code) == ("refused", 4)
    assert [hit.name for hit in report.row.guards] == ["state_older"]


@WAYS
@pytest.mark.parametrize("act", [engine.reconcile, engine.plan])
async def test_given_ends_that_another_one_synced_then_the_old_state_overwrites_no_edit(
    leave: TakeUp, come_back: TakeUp, act: Any
) -> None:
    world = await left(leave, come_back)
    before = written(world)
    is_refused(await act(world.link()))
    assert written(world) == before
    assert both(world, 5) == (deal(20), deal(10))


async def test_given_another_link_then_the_refusal_says_which_and_when() -> None:
    world = await left(another_name, first_name)
    noted = world.options["high_water"].ends["ends"]
    report = await world.reconcile()
    assert report.row.guards == [GuardHit("state_older", None, 0, noted.run)]
    assert report.row.error == (
        "link shop2 synced the same portal and table last (run 3, at 2027-01-15T10:00:00+00:00), and the agreed state of "
        "link shop is older"
    )


async def test_given_another_state_database_then_the_refusal_says_which_and_when() -> None:
    world = await left(another_state, first_state)
    assert (await plan(world)).row.error == (
        "link shop with the state database sqlite:///second.db synced the same portal and table last (run 2, at "
        "2027-01-15T10:00:00+00:00), and the agreed state in this one is older"
    )


async def test_given_another_copy_of_the_state_database_then_the_run_there_is_not_one_of_here() -> None:
    world = await left(another_state, first_state)
    marks = world.options["high_water"]
    marks.ends["ends"] = marks.ends["ends"]._replace(state=world.store.name, link="shop2", run=1)
    assert "with the state database sqlite:///second.db synced" in (await plan(world)).row.error


async def test_given_a_restored_mark_of_the_link_then_that_of_its_ends_says_that_the_state_is_an_older_copy() -> None:
    world = await left(another_state, first_state)
    marks = world.options["high_water"]
    marks.ends["ends"] = marks.ends["ends"]._replace(state=world.store.name, run=77)
    assert "does not know what run 77 of this link changed" in (await plan(world)).row.error


@WAYS
async def test_given_a_pass_over_some_orders_then_it_is_refused_as_well(leave: TakeUp, come_back: TakeUp) -> None:
    world = await left(leave, come_back)
    portion = Portion(orders=OrderRanges.of_orders([5]))
    is_refused(await engine.reconcile(world.link(), origin="hint", portion=portion))


@WAYS
async def test_given_a_run_that_was_cut_off_there_then_the_state_is_refused_just_so(
    leave: TakeUp, come_back: TakeUp
) -> None:
    world = await left(leave, come_back)
    ends = world.options["high_water"].ends
    ends["ends"] = ends["ends"]._replace(finished_at=None)
    is_refused(await world.reconcile())


@WAYS
async def test_given_the_refused_plan_is_applied_then_the_state_goes_on_and_the_other_one_is_the_older(
    leave: TakeUp, come_back: TakeUp
) -> None:
    world = await left(leave, come_back)
    refused = await world.reconcile()
    world.clock.time += 60
    assert (await apply(world, refused.row.plan)).exit_code == 0
    assert both(world, 5) == (deal(20), deal(20))
    world.edit_crm(5, (2, 30))
    assert (await world.reconcile()).exit_code == 0
    assert both(world, 5) == (deal(30), deal(30))
    leave(world)
    world.edit_table(5, (2, 20))
    is_refused(await world.reconcile())


@WAYS
async def test_given_a_rebase_then_the_link_goes_on(leave: TakeUp, come_back: TakeUp) -> None:
    world = await left(leave, come_back)
    await rebase(world)
    world.edit_crm(6, (2, 21))
    world.edit_table(6, (2, 21))
    report = await world.reconcile()
    assert (report.row.state, [hold.order_id for hold in report.holds]) == ("applied", [5])
    assert both(world, 5) == (deal(20), deal(10))


@WAYS
async def test_given_both_sides_alike_then_the_state_is_taken_for_good(leave: TakeUp, come_back: TakeUp) -> None:
    world = await left(leave, come_back)
    world.edit_table(5, (2, 20))
    assert (await world.reconcile()).exit_code == 0
    world.edit_table(5, (2, 30))
    assert (await world.reconcile()).exit_code == 0
    assert both(world, 5) == (deal(30), deal(30))


@WAYS
async def test_given_a_plan_from_before_then_applying_it_says_nothing_about_the_state(
    leave: TakeUp, come_back: TakeUp
) -> None:
    world = await begun()
    world.edit_crm(6, (2, 21))
    early = await plan(world)
    leave(world)
    assert [hold.order_id for hold in (await world.reconcile()).holds] == [6]
    world.edit_crm(5, (2, 20))
    world.edit_table(6, (2, 21))
    assert (await world.reconcile()).exit_code == 0
    come_back(world)
    world.edit_table(5, (2, 10))
    await apply(world, early.row.id)
    is_refused(await world.reconcile())
    assert both(world, 5) == (deal(20), deal(10))


@WAYS
async def test_given_a_state_with_nothing_agreed_then_its_first_sync_is_not_refused(
    leave: TakeUp, come_back: TakeUp
) -> None:
    world = World(options={"high_water": MemoryMark(), "ask_first_sync": True})
    world.edit_crm(5, (2, 10))
    is_asked = await world.reconcile()  # the link is known now, and has agreed on nothing
    world.clock.time += 3600
    leave(world)
    assert (await apply(world, (await world.reconcile()).row.id)).exit_code == 0
    come_back(world)
    world.edit_crm(6, (2, 11))
    report = await world.reconcile()
    assert [[hit.name for hit in one.row.guards] for one in (is_asked, report)] == [["first_sync"]] * 2


async def test_given_a_second_host_that_saw_the_former_state_only_then_the_new_one_is_not_refused_there() -> None:
    world = await begun()
    elsewhere = world.options["high_water"].beside("sqlite:///second.db")
    elsewhere.ends = dict(elsewhere.ends)
    another_state(world)
    assert (await world.reconcile()).exit_code == 0
    world.edit_crm(5, (2, 20))
    world.options["high_water"] = elsewhere
    assert (await world.reconcile()).exit_code == 0
    assert both(world, 5) == (deal(20), deal(20))


async def test_given_two_hosts_at_one_state_database_then_an_older_mark_of_one_refuses_nothing() -> None:
    world = await begun()
    here, there = world.options["high_water"], MemoryMark()
    for number, marks in enumerate([there, there, here, there, here]):
        world.options["high_water"] = marks
        world.edit_crm(5, (2, 20 + number))
        assert (await world.reconcile()).exit_code == 0
    assert both(world, 5) == (deal(24), deal(24))


async def test_given_a_copy_of_a_state_database_without_its_mark_then_what_is_noted_of_the_ends_refuses_it() -> None:
    world = await left(another_state, first_state)
    world.options["high_water"].known.clear()
    is_refused(await world.reconcile())


async def test_given_a_mark_of_the_link_by_an_older_syncd_then_nothing_is_refused() -> None:
    world = await begun()
    marks = world.options["high_water"]
    marks.known["shop"] = marks.known["shop"]._replace(link="")
    world.edit_crm(5, (2, 20))
    assert (await world.reconcile()).exit_code == 0
    assert both(world, 5) == (deal(20), deal(20))


async def test_given_another_links_run_that_ended_as_this_link_was_made_then_it_may_be_later() -> None:
    world = await in_step({5: 10}, options={"high_water": MemoryMark()})
    another_name(world)
    await world.reconcile()
    world.edit_crm(5, (2, 20))
    await world.reconcile()
    first_name(world)
    world.edit_table(5, (2, 10))
    is_refused(await world.reconcile())


async def test_given_a_link_to_other_ends_then_its_runs_are_none_of_this_ones() -> None:
    world = await begun()
    other = MemoryStore(world.clock)
    other.name = "second"
    marks = world.options["high_water"]
    marks.ends["other ends"] = marks.ends["ends"]._replace(state="second", run=99)
    world.edit_crm(5, (2, 20))
    assert (await world.reconcile()).exit_code == 0


async def test_given_a_portal_that_was_renamed_meanwhile_then_the_state_is_refused_just_so() -> None:
    world = await begun()
    for come in (first_state, another_state):
        come(world)
        world.options["portal_address"] = "old.example"
        assert (await world.reconcile()).exit_code == 0
    world.edit_crm(5, (2, 20))
    assert (await world.reconcile()).exit_code == 0
    first_state(world)
    world.edit_table(5, (2, 10))
    rename_portal(world)
    for _ in range(2):
        is_refused(await world.reconcile())


async def test_given_ends_with_a_new_fingerprint_then_what_was_noted_under_it_stays() -> None:
    world = await begun()
    world.options["portal_address"] = "old.example"
    await plan(world)
    rename_portal(world)
    marks = world.options["high_water"]
    marks.ends["elsewhere"] = newer = marks.ends["ends"]._replace(run=99)
    assert (await plan(world)).row.state == "planned"
    assert marks.ends["elsewhere"] == newer
