"""The first sync copies and agrees, removes nothing, and by default asks before it writes (sync-rules.md, "Decisions")."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from syncd.core.guards import GuardLimits
from syncd.core.model import OnConflict, Outcome
from syncd.core.ports import Listed
from tests.simulation.crash import Crash, Steps
from tests.simulation.world import World
from tests.unit.engine.given import both, deal, in_step, outcomes, policy, rebase

pytestmark = pytest.mark.anyio

ASK = {"ask_first_sync": True}


async def test_given_nothing_agreed_when_it_may_write_then_each_side_gets_what_only_the_other_knows() -> None:
    world = World(policy())
    world.edit_crm(5, (2, 10))
    world.edit_table(6, (2, 11))
    world.edit_crm(7, (2, 12))
    world.edit_table(7, (2, 12))
    world.edit_crm(8, (2, 13))
    world.edit_table(8, (2, 14))

    report = await world.reconcile()

    assert report.row.first_sync
    assert outcomes(report) == {(5, "table"): Outcome.APPLIED, (6, "crm"): Outcome.APPLIED}
    assert await world.held() == {8: "create-create"}
    assert await world.agreed(7) == deal(12)


async def test_given_nothing_agreed_when_it_must_ask_then_nothing_is_written_and_the_plan_is_kept() -> None:
    world = World(policy(), options=ASK)
    world.edit_crm(5, (2, 10))

    report = await world.reconcile()

    assert (report.row.state, report.exit_code) == ("refused", 4)
    assert outcomes(report) == {(5, "table"): Outcome.PLANNED}
    assert "first sync" in report.row.error
    assert world.table.bindings == {}


async def test_given_nothing_agreed_and_nothing_to_write_then_nobody_is_asked() -> None:
    world = World(policy(), options=ASK)
    world.edit_crm(5, (2, 10))
    world.edit_table(5, (2, 10))

    report = await world.reconcile()

    assert report.exit_code == 0
    assert await world.agreed(5) == deal(10)


async def test_given_something_agreed_when_it_must_ask_then_a_later_pass_writes() -> None:
    world = await in_step({5: 10}, options=ASK)
    world.edit_crm(5, (2, 20))

    assert (await world.reconcile()).exit_code == 0
    assert both(world, 5) == (deal(20), deal(20))


@pytest.mark.parametrize("winner", [OnConflict.CRM, OnConflict.TABLE])
async def test_given_different_values_and_a_side_that_wins_then_it_overwrites_only_after_asking(
    winner: OnConflict,
) -> None:
    world = World(policy(on_conflict=winner), options=ASK)
    world.edit_crm(5, (2, 10))
    world.edit_table(5, (2, 11))

    assert (await world.reconcile()).exit_code == 4
    assert both(world, 5) == (deal(10), deal(11))


async def test_given_a_rebased_link_then_its_next_pass_is_a_first_sync_that_removes_nothing() -> None:
    world = await in_step({5: 10, 6: 11}, options=dict(ASK))
    world.options["fingerprint"] = "elsewhere"
    world.edit_table(5, None)
    await rebase(world)

    report = await world.reconcile()

    assert [hit.name for hit in report.row.guards] == ["first_sync"]
    assert outcomes(report) == {(5, "table"): Outcome.PLANNED}
    assert world.portal.bindings[5] == deal(10)


async def test_given_a_first_sync_that_was_cut_off_when_it_goes_on_then_no_guard_counts_its_adds() -> None:
    world = World(policy(), GuardLimits(max_adds_percent=50))
    for order in range(1, 81):
        world.edit_table(order, (2, 1000 + order))
    second_batch = Steps()
    second_batch.meanwhile = lambda name: setattr(
        second_batch, "stop_at", second_batch.taken + 1 if name == "portal.write after" else second_batch.stop_at
    )
    with pytest.raises(Crash):
        await world.reconcile(second_batch)
    assert 20 <= len(world.portal.bindings) < 60

    await world.clock.sleep(100)
    report = await world.reconcile()

    assert report.row.first_sync
    assert report.exit_code == 0
    assert world.portal.bindings == world.table.bindings


async def test_given_a_first_sync_behind_it_when_as_much_is_added_then_the_guard_refuses() -> None:
    world = await in_step(dict.fromkeys(range(1, 31), 10), limits=GuardLimits(max_adds_percent=50))
    for order in range(100, 150):
        world.edit_table(order, (2, 1000 + order))

    report = await world.reconcile()

    assert not report.row.first_sync
    assert [hit.name for hit in report.row.guards] == ["max_adds_percent"]


async def test_given_a_portal_whose_listing_is_over_at_once_then_the_table_is_copied() -> None:
    world = World(policy())
    world.edit_table(5, (2, 10))

    async def nothing(*_: Any) -> AsyncIterator[Listed]:
        await asyncio.sleep(0)
        nothing_listed: list[Listed] = []
        for listed in nothing_listed:
            yield listed

    world.portal.listing = nothing  # type: ignore[method-assign]
    assert (await world.reconcile()).exit_code == 0
    assert world.portal.bindings == {5: deal(10)}
