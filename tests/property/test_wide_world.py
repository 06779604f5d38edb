"""Properties 31 and 32 (sync-rules.md, "Ordinary life") over the engine and a world in memory, without any fault.

The simulated lives hold them against everything that can go wrong; here is each by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.core.model import Direction, OnConflict, Owner, Policy, Scope, Side
from tests.fakes.link import FREE
from tests.fakes.portal import FakePortal
from tests.fakes.table import FakeTable
from tests.simulation.world import World

ORDERS = 24
"""More than a small link has, whose guards count single orders."""
POLICY = Policy(Direction.TWO_WAY, OnConflict.HOLD, Scope(frozenset({2})))


pytestmark = pytest.mark.usefixtures("quiet")


async def in_step() -> World:
    world = World(POLICY, FREE)
    for order in range(1, ORDERS + 1):
        world.edit_crm(order, (2, 100 + order))
        world.edit_table(order, (2, 100 + order))
    await world.reconcile()
    return world


# A value that stood there before comes back more often than a new one.
values = st.sampled_from([None, 1, 1, 2])
edits = st.lists(st.tuples(st.sampled_from(Side), st.integers(1, 3), values), max_size=3)


@settings(max_examples=40)
@given(st.lists(edits, min_size=1, max_size=6))
def test_31_nothing_vanishes_what_somebody_set_last_is_there_or_held(
    days: Sequence[Sequence[tuple[Side, int, int | None]]],
) -> None:
    asyncio.run(_nothing_vanishes(days))


async def _nothing_vanishes(days: Sequence[Sequence[tuple[Side, int, int | None]]]) -> None:
    world = await in_step()
    last: dict[int, Owner | None] = {order: Owner(2, 100 + order) for order in range(1, ORDERS + 1)}
    for day in days:
        before = {side: dict(_side(world, side).bindings) for side in Side}
        for side, order, number in day:
            edit = world.edit_crm if side is Side.CRM else world.edit_table
            edit(order, None if number is None else (2, number))
        for side in Side:  # an edit that is taken back before anybody has seen it is none
            for order in range(1, ORDERS + 1):
                if (now := _side(world, side).bindings.get(order)) != before[side].get(order):
                    last[order] = now
        await world.reconcile()
    held = await world.held()
    for order, owner in last.items():
        both = world.portal.bindings.get(order), world.table.bindings.get(order)
        assert order in held or both == (owner, owner), f"order {order}: {both}, last set to {owner}"


def _side(world: World, side: Side) -> FakePortal | FakeTable:
    return world.portal if side is Side.CRM else world.table


orders = st.sets(st.integers(1, ORDERS), min_size=1)


@settings(max_examples=40)
@given(st.sampled_from(["hidden", "nameless", "unlisted"]), orders, st.sampled_from([0, 2, ORDERS]))
def test_32_absence_is_not_enough_no_reading_that_could_hide_an_order_removes_it(
    how: str, gone: set[int], enough: int
) -> None:
    asyncio.run(_absence_is_not_enough(how, gone, enough))


async def _absence_is_not_enough(how: str, gone: set[int], enough: int) -> None:
    world = await in_step()
    world.limits = replace(FREE, second_look_above=enough)
    whole = dict(world.portal.bindings), dict(world.table.bindings)
    if how == "hidden" and len(gone) <= enough:
        return  # so few may be gone at once
    hidden = [row for row in world.table.stored if row.order_id in gone]
    if how == "hidden":
        world.table.stored = [row for row in world.table.stored if row.order_id not in gone]
    elif how == "nameless":
        for row in hidden:
            row.order_id = f"A-{row.order_id}"
    else:
        world.portal.omitted = set(gone)

    await world.reconcile()

    assert world.portal.bindings == whole[0]
    assert how != "unlisted" or world.table.bindings == whole[1]
    if how == "hidden":
        world.table.stored += hidden
    for row in hidden:
        row.order_id = int(str(row.order_id).removeprefix("A-"))
    await world.clock.sleep(100)
    await world.reconcile()
    assert (world.portal.bindings, world.table.bindings) == whole
