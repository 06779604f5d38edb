"""Writes that a crash left open: they are read request by request, and nothing else is taken for interrupted."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from syncd.core.model import Outcome, Owner, Unreadable
from syncd.core.records import StoredChange
from syncd.engine import reconcile as engine
from syncd.engine import recover
from tests.fakes.portal import Surprise
from tests.simulation.world import World
from tests.unit.engine.given import both, deal, die, in_step, one_change, outcomes, rebase

pytestmark = pytest.mark.anyio


def reads(world: World) -> list[tuple[float, list[int]]]:
    """From now on, when and of which orders the portal is read by id."""
    read, noted = world.portal.read, []
    began = world.clock.time

    async def noting(order_ids: Sequence[int]) -> dict[int, Owner | Unreadable]:
        noted.append((world.clock.time - began, [*order_ids]))
        return await read(order_ids)

    world.portal.read = noting  # type: ignore[method-assign]
    return noted


async def two_requests(first: Surprise, second: Surprise) -> World:
    """A link whose process died with two requests under way, one for order 5 and one for order 6."""
    world = await in_step({5: 10, 6: 11, 7: 12})
    world.portal.size = 1
    for order in (5, 6):
        world.edit_table(order, (2, 20 + order))
    world.portal.script.extend([first, second])
    await die(world, "portal.write after", times=2)
    world.portal.size = 44
    return world


@pytest.mark.parametrize("numbered", [True, False])
@pytest.mark.parametrize("arrived", [5, 6])
async def test_given_two_requests_cut_off_when_only_one_arrived_then_the_other_is_made_again(
    numbered: bool, arrived: int
) -> None:
    requests = [Surprise.LOST_AFTER if order == arrived else Surprise.LOST_BEFORE for order in (5, 6)]
    world = await two_requests(*requests)
    intents = world.store.open_intents

    async def of_an_earlier_version(link_id: int) -> list[StoredChange]:
        return [replace(one, batch=None) for one in await intents(link_id)]

    if not numbered:
        world.store.open_intents = of_an_earlier_version  # type: ignore[method-assign]
    report = await world.reconcile()

    assert (report.exit_code, await world.held()) == (0, {})
    assert outcomes(report) == {(11 - arrived, "crm"): Outcome.APPLIED}


async def test_given_requests_cut_off_then_their_orders_are_read_as_many_at_a_time_as_one_reading_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recover, "CHUNK", 2)
    world = await two_requests(Surprise.LOST_BEFORE, Surprise.LOST_BEFORE)
    noted = reads(world)

    await world.reconcile()

    assert noted == [(0, [5, 6]), (60, [5, 6])]


async def test_given_a_request_of_many_orders_without_an_answer_then_each_of_them_is_read_once_a_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recover, "CHUNK", 2)
    world = await in_step(30)
    for order in (5, 6, 7):
        world.edit_table(order, (2, 20 + order))
    world.portal.script.append(Surprise.LOST_AFTER)
    noted = reads(world)

    report = await world.reconcile()

    assert report.row.error == ""
    assert set(outcomes(report).values()) == {Outcome.APPLIED}
    assert [orders for _, orders in noted] == [[5, 6], [7]]


async def test_given_a_lost_answer_then_its_order_is_read_at_once_soon_after_and_when_the_request_is_dead() -> None:
    world = await in_step({5: 10, 6: 11})
    world.edit_table(5, (2, 20))
    world.portal.script.append(Surprise.LOST_BEFORE)
    noted = reads(world)

    assert (await world.reconcile()).exit_code == 0
    assert noted == [(0, [5]), (5, [5]), (60, [5])]


async def test_given_a_value_overwritten_by_a_request_that_outlived_its_process_then_the_audit_says_both() -> None:
    world = await in_step({5: 10, 6: 11})
    world.portal.conditional = False
    world.edit_table(5, (2, 20))
    world.portal.script.append(Surprise.LATE)
    world.portal.delays.append(30)
    run = await die(world, "portal.write after")
    world.edit_crm(5, (2, 30))

    await world.reconcile()

    (change,) = await world.store.changes(run)
    assert (change.outcome, change.error) == (Outcome.APPLIED, "found in place after an interruption")
    assert (change.found, await world.held()) == (deal(30), {5: "edit-edit"})


async def test_given_a_stop_while_the_orders_of_a_lost_answer_are_read_then_what_is_found_is_recorded() -> None:
    world = await in_step({5: 10, 6: 11})
    world.edit_table(5, (2, 20))
    world.portal.script.append(Surprise.LOST_AFTER)
    link, read = world.link(), world.portal.read

    async def slow(order_ids: Sequence[int]) -> dict[int, Owner | Unreadable]:
        link.cancelled.set("SIGTERM")
        for _ in range(5):
            await asyncio.sleep(0)
        return await read(order_ids)

    world.portal.read = slow  # type: ignore[method-assign]
    report = await engine.reconcile(link)

    assert one_change(report).outcome is Outcome.APPLIED
    assert await world.store.open_intents(1) == []


async def test_given_a_batch_answered_but_for_its_last_order_then_that_one_is_looked_at() -> None:
    world = await in_step({5: 10, 6: 11, 7: 12})
    for order in (5, 6):
        world.edit_table(order, (2, 20 + order))
    write = world.portal.write

    async def without_the_last(batch: Sequence[object]) -> list[object]:
        *others, last = await write(batch)  # type: ignore[arg-type]
        return [*others, last._replace(effect=type(last.effect).UNKNOWN)] if len(batch) > 1 else [*others, last]

    world.portal.write = without_the_last  # type: ignore[assignment, method-assign]
    report = await world.reconcile()

    assert report.exit_code == 0
    assert set(outcomes(report).values()) == {Outcome.APPLIED}


async def test_given_a_rebase_then_the_writes_that_were_cut_off_say_so() -> None:
    world = await in_step({5: 10, 6: 11})
    world.edit_table(5, (2, 20))
    run = await die(world, "portal.write after")
    world.options["fingerprint"] = "elsewhere"

    await rebase(world)

    (change,) = await world.store.changes(run)
    assert (change.outcome, change.error) == (Outcome.UNCERTAIN, "the link was rebased")


async def test_given_another_link_at_work_then_its_run_is_not_taken_for_interrupted() -> None:
    world = await in_step({5: 10, 6: 11})
    world.options["name"] = "other"
    run = await die(world, "portal.listing after")
    del world.options["name"]

    await world.reconcile()

    row = await world.store.run(run)
    assert row is not None
    assert row.state == "running"
    assert both(world, 5) == (deal(10), deal(10))
