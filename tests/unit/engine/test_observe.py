"""A reading in segments, of all orders or of some, finds what one would that reads everything at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.core import order_ranges
from syncd.core.model import Change, HoldKind, Unreadable
from syncd.core.order_ranges import OrderRange, OrderRanges
from syncd.engine import observe as module
from syncd.engine.link import hold_lease
from syncd.engine.observe import Observation, observe
from syncd.engine.stored_plans import WantedChanges
from tests.simulation.world import World
from tests.unit.engine.given import policy

ODD = "odd"
AT_ONCE = 10**6
OWNERS = st.sampled_from([None, 1, 2])
CELLS = st.sampled_from([None, 1, 2, 3, ODD])


class Sizes(NamedTuple):
    """How much is read at a time: rows compared, rows taken beside them, rows in a chunk of the listing."""

    segment: int
    limit: int
    chunk: int


@contextmanager
def sizes(world: World, read: Sizes) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SEGMENT", read.segment)
        patch.setattr(module, "LIMIT", read.limit)
        patch.setattr(world.portal, "chunk", read.chunk)
        patch.setattr(order_ranges, "NARROW", 3)
        patch.setattr(order_ranges, "FEW", 4)
        yield


async def agreed(orders: dict[int, Any]) -> World:
    """A link in step; orders without an owner are on neither side."""
    world = World(policy=policy())
    for order, owner in orders.items():
        if owner is not None:
            world.edit_crm(order, (2, owner))
            world.edit_table(order, (2, owner))
    await world.reconcile()
    return world


def edit(world: World, sides: dict[int, tuple[Any, Any]]) -> None:
    """Let both sides say something else of some orders; what is odd cannot be read."""
    world.portal.odd = {order: Unreadable(HoldKind.INVALID_ROW, ODD) for order, (crm, _) in sides.items() if crm == ODD}
    for order, (crm, table) in sides.items():
        world.edit_crm(order, None if crm in {None, ODD} else (2, crm))
        if table == ODD:
            world.table.put(order, 2, None)
        else:
            world.edit_table(order, None if table is None else (2, table))


class Seen(NamedTuple):
    """What a reading found, as far as it is about some orders."""

    changes: list[Change]
    agreements: list[Any]
    observed: list[Any]
    holds: dict[int, Any]
    released: list[int]
    decided: set[int]


def seen(found: Observation, orders: OrderRanges) -> Seen:
    return Seen(
        [one for one in found.changes if one.order_id in orders],
        [one for one in found.agreements if one[0].order_id in orders],
        [one for one in found.observed if one.order_id in orders],
        {order: hold for order, hold in found.holds.items() if order in orders},
        sorted(order for order in found.released if order in orders),
        {order for order in found.decided if order in orders},
    )


async def read(
    world: World, how: Sizes, covers: OrderRanges | None = None, wanted: WantedChanges | None = None
) -> Observation:
    link = world.link()
    with sizes(world, how):
        async with hold_lease(link) as lease:
            return await observe(link, lease, wanted, covers)


RANGES = st.lists(st.tuples(st.integers(1, 45), st.sampled_from([0, 0, 1, 5, 9])), min_size=1, max_size=5)
SIDES = st.dictionaries(st.integers(1, 45), st.tuples(OWNERS, CELLS, CELLS), min_size=5, max_size=30)
SIZES = st.builds(Sizes, st.integers(1, 9), st.integers(2, 9), st.integers(1, 9))


@given(orders=SIDES, how=SIZES, ranges=st.none() | RANGES, lost=st.sets(st.integers(0, 4)))
@settings(max_examples=80)
def test_given_any_segments_and_ranges_then_each_order_comes_out_as_if_everything_was_read_at_once(
    orders: dict[int, tuple[Any, Any, Any]], how: Sizes, ranges: list[tuple[int, int]] | None, lost: set[int]
) -> None:
    async def tried() -> None:
        world = await agreed({order: one[0] for order, one in orders.items()})
        edit(world, {order: (crm, table) for order, (_, crm, table) in orders.items()})
        everything = await read(world, Sizes(AT_ONCE, AT_ONCE, AT_ONCE))
        asked = None if ranges is None else OrderRanges.of(OrderRange(one, one + more) for one, more in ranges)
        wide = [] if asked is None else [one for one in asked.ranges if one.span > 3]
        unproved = {one: f"{one} is lost" for at, one in enumerate(wide) if at in lost}
        if asked is not None and len(unproved) == len(asked.ranges):
            return
        world.portal.unproved = dict(unproved)

        found = await read(world, how, asked)

        covered = OrderRanges.of([OrderRange(1)]) if asked is None else asked - OrderRanges.of(unproved)
        assert (found.covers, found.unproved) == (None if asked is None else covered, unproved)
        assert seen(found, OrderRanges.of([OrderRange(1)])) == seen(everything, covered)
        rows = {
            order: (owner is not None, crm not in {None, ODD}, table is not None)
            for order, (owner, crm, table) in orders.items()
        }
        in_all = [order for order in rows if order in covered]
        assert (found.counts.agreed, found.counts.crm_rows, found.counts.table_rows) == tuple(
            sum(rows[order][source] for order in in_all) for source in range(3)
        )
        assert found.ranges == {
            one: tuple(
                sum(rows[order][source] for order in rows if order in OrderRanges((one,))) for source in range(3)
            )
            for one in wide
            if one not in unproved
        }

    asyncio.run(tried())
