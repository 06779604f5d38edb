"""Property 39 (sync-rules.md): passes over any ranges, mixed in any order, come to the same rest as passes over all."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.core.model import Direction, OnConflict, Policy, Scope, Side
from syncd.core.order_ranges import LARGEST_ID, OrderRange, OrderRanges
from syncd.engine import reconcile as engine
from syncd.engine.covering import Portion
from tests.fakes.link import FREE
from tests.simulation.world import World

ORDERS = 24
Edit = tuple[Side, int, int | None]


pytestmark = pytest.mark.usefixtures("quiet")


def cut(bounds: set[int]) -> list[OrderRange]:
    """Given where to cut, return all order ids in ranges."""
    ends = [*sorted(bounds), LARGEST_ID]
    return [OrderRange(after + 1, upto) for after, upto in zip([0, *ends], ends, strict=False)]


def portion(part: OrderRange | str) -> Portion:
    """Return what a pass over the part covers."""
    if isinstance(part, OrderRange):
        return Portion(orders=OrderRanges.of([part]))
    return Portion(slice=part == "slice", recent=part == "recent")


def ranges_and_more(bounds: set[int], more: list[OrderRange | str]) -> st.SearchStrategy[list[OrderRange | str]]:
    return st.permutations([*cut(bounds), *more])


named = st.tuples(st.integers(1, ORDERS), st.integers(0, 9)).map(lambda one: OrderRange(one[0], one[0] + one[1]))
extra = st.lists(st.one_of(st.sampled_from(["slice", "recent"]), named), max_size=4)
parts = st.tuples(st.sets(st.integers(1, ORDERS + 3), max_size=5), extra).flatmap(lambda one: ranges_and_more(*one))
edits = st.lists(
    st.tuples(st.sampled_from(Side), st.integers(1, ORDERS + 3), st.sampled_from([None, 1, 2, 3])), max_size=6
)
days = st.lists(st.tuples(edits, parts), min_size=1, max_size=4)


@settings(max_examples=60)
@given(days, st.sampled_from(Direction), st.sampled_from(OnConflict))
def test_39_passes_over_parts_come_to_the_rest_of_passes_over_all(
    lived: Sequence[tuple[list[Edit], list[OrderRange | str]]], direction: Direction, on_conflict: OnConflict
) -> None:
    asyncio.run(_same_rest(lived, Policy(direction, on_conflict, Scope(frozenset({2})))))


async def _same_rest(lived: Sequence[tuple[list[Edit], list[OrderRange | str]]], policy: Policy) -> None:
    whole, parted = await _in_step(policy), await _in_step(policy)
    for made, over in lived:
        for world in (whole, parted):
            for side, order, number in made:
                edit = world.edit_crm if side is Side.CRM else world.edit_table
                edit(order, None if number is None else (2, number))
        await whole.reconcile()
        for part in over:
            await engine.reconcile(parted.link(), portion=portion(part))
        assert await _rest_of(parted) == await _rest_of(whole), over


async def _in_step(policy: Policy) -> World:
    world = World(policy, FREE, options={"slices": 3, "recent_orders": 4})
    for order in range(1, ORDERS + 1):
        world.edit_crm(order, (2, 100 + order))
        world.edit_table(order, (2, 100 + order))
    await world.reconcile()
    return world


async def _rest_of(world: World) -> tuple[object, ...]:
    agreed = [await world.agreed(order) for order in range(1, ORDERS + 4)]
    return world.portal.bindings, world.table.bindings, agreed, await world.held()
