"""A reading in segments, of all orders or of some, finds what one would that reads everything at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from syncd.core import order_ranges
from syncd.core.diff import Differ, Segment
from syncd.core.model import Change, Direction, Facts, Hold, HoldKind, Owner, Row, Unreadable
from syncd.core.order_keys import KeyField, UnknownKey, number_of_former, unknown_key
from syncd.core.order_ranges import OrderRange, OrderRanges
from syncd.core.ports import Listed, Progress
from syncd.core.records import BindingRow
from syncd.engine import observe as module
from syncd.engine.learned_keys import LearnedKeys
from syncd.engine.link import hold_lease
from syncd.engine.observe import UNREAD, Observation, observe
from syncd.engine.stored_plans import WantedChanges
from tests.fakes.table import FakeSnapshot
from tests.simulation.world import World
from tests.unit.engine.given import deal, policy

ODD = "odd"
OWNERS = st.sampled_from([None, 1, 2])
CELLS = st.sampled_from([None, 1, 2, 3, ODD])


class Sizes(NamedTuple):
    """How much is read at a time: rows compared, rows taken beside them, rows in a chunk of the listing."""

    segment: int
    limit: int
    chunk: int


AT_ONCE = Sizes(10**6, 10**6, 10**6)
EVERYTHING = OrderRanges.of([OrderRange(1)])


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


RANGES = st.lists(st.tuples(st.integers(1, 40), st.sampled_from([0, 0, 0, 1, 5, 9])), min_size=3, max_size=8)
"""The first of each, and how many more."""
SIDES = st.dictionaries(st.integers(1, 40), st.tuples(OWNERS, CELLS, CELLS), min_size=12, max_size=30)
THREE = dict.fromkeys((5, 7, 9), (1, 1, 1))
SIZES = st.builds(Sizes, st.integers(1, 4), st.integers(2, 6), st.integers(1, 5))


@example(orders=THREE, later=THREE, how=Sizes(1, 2, 1), ranges=[(5, 0), (7, 0), (9, 0)], lost=set())
@given(orders=SIDES, later=SIDES, how=SIZES, ranges=st.none() | RANGES, lost=st.sets(st.integers(0, 4)))
@settings(max_examples=80)
def test_given_any_segments_and_ranges_then_each_order_comes_out_as_if_everything_was_read_at_once(
    orders: dict[int, tuple[Any, Any, Any]],
    later: dict[int, tuple[Any, Any, Any]],
    how: Sizes,
    ranges: list[tuple[int, int]] | None,
    lost: set[int],
) -> None:
    async def tried() -> None:
        world = await agreed({order: one[0] for order, one in orders.items()})
        edit(world, {order: (crm, table) for order, (_, crm, table) in orders.items()})
        await world.reconcile()  # holds what is in conflict
        edit(world, {order: (crm, table) for order, (_, crm, table) in later.items()})
        everything = await read(world, AT_ONCE)
        asked = None if ranges is None else OrderRanges.of(OrderRange(one, one + more) for one, more in ranges)
        wide = [] if asked is None else [one for one in asked.ranges if one.span > 3]
        unproved = {one: f"{one} is lost" for at, one in enumerate(wide) if at in lost}
        if asked is not None and len(unproved) == len(asked.ranges):
            return
        world.portal.unproved = dict(unproved)

        found = await read(world, how, asked)

        covered = EVERYTHING if asked is None else asked - OrderRanges.of(unproved)
        assert (found.covers, found.unproved) == (None if asked is None else covered, unproved)
        assert seen(found, EVERYTHING) == seen(everything, covered)
        sources: list[Collection[int]] = [
            {row.order_id for row in await world.store.bindings(1, 0, None) if row.agreed_id is not None},
            world.portal.bindings.keys() - world.portal.odd.keys(),
            world.table.bindings.keys() | world.table._snapshot().unreadable.keys(),
        ]
        rows = [sum(order in covered for order in there) for there in sources]
        assert [found.counts.agreed, found.counts.crm_rows, found.counts.table_rows] == rows
        assert found.ranges == {
            one: tuple(sum(order in OrderRanges((one,)) for order in there) for there in sources)
            for one in wide
            if one not in unproved
        }

    asyncio.run(tried())


@given(orders=SIDES, later=SIDES, how=SIZES, ranges=st.none() | RANGES)
@settings(max_examples=40)
def test_given_changes_that_a_person_named_then_each_is_compared_once_and_those_not_read_say_so(
    orders: dict[int, tuple[Any, Any, Any]],
    later: dict[int, tuple[Any, Any, Any]],
    how: Sizes,
    ranges: list[tuple[int, int]] | None,
) -> None:
    async def tried() -> None:
        world = await agreed({order: one[0] for order, one in orders.items()})
        edit(world, {order: (crm, table) for order, (_, crm, table) in orders.items()})
        named = list((await read(world, AT_ONCE)).changes)
        edit(world, {order: (crm, table) for order, (_, crm, table) in later.items()})
        whole, wanted = (WantedChanges(named, world.policy) for _ in range(2))
        await read(world, AT_ONCE, wanted=whole)
        asked = None if ranges is None else OrderRanges.of(OrderRange(one, one + more) for one, more in ranges)

        await read(world, how, asked, wanted)

        there = EVERYTHING if asked is None else asked
        assert list(wanted.unmoved) == [one for one in whole.unmoved if one.order_id in there]
        moved = [one for one in whole.moved if one[0].order_id in there]
        unread = [(one, UNREAD) for one in named if one.order_id not in there]
        assert sorted(wanted.moved, key=by_order) == sorted(moved + unread, key=by_order)

    asyncio.run(tried())


def by_order(moved: tuple[Change, str]) -> int:
    return moved[0].order_id


@pytest.mark.anyio
async def test_given_a_row_that_a_view_hid_when_it_is_there_again_then_its_hold_is_over_before_anything_is_written() -> (
    None
):
    world = await agreed(dict.fromkeys(range(1, 21), 1))
    world.table.hides_effects = True
    world.edit_crm(5, (2, 2))
    await world.reconcile()
    world.edit_table(15, None)
    await world.reconcile()
    assert await world.held() == {15: "uncertain"}
    world.edit_table(15, (2, 3))

    found = await read(world, AT_ONCE)

    assert [one.order_id for one in found.changes] == [15]
    assert (found.released, found.decided) == ([15], set())


@pytest.mark.anyio
@pytest.mark.parametrize("side", ["crm", "table"])
async def test_given_a_hold_that_a_person_decided_then_it_is_over_once_the_change_is_made(side: str) -> None:
    world = await agreed({5: 1, 6: 1})
    edit(world, {5: (2, 3)})
    await world.reconcile()
    await world.store.decide(1, [5], side, world.clock.now())

    found = await read(world, AT_ONCE)

    assert [str(one.side) for one in found.changes] == ["table" if side == "crm" else "crm"]
    assert (found.released, found.decided) == ([], {5})


# ------------------------------------------------------------------ how much is read


@pytest.mark.anyio
@pytest.mark.parametrize(("text", "boundaries"), [(None, [50, 100, 150, 200]), ("10-79,90,101-250", [59, 150, 200])])
async def test_given_some_orders_then_both_sides_are_asked_for_these_and_the_portal_by_its_pages(
    text: str | None, boundaries: list[int]
) -> None:
    world = await agreed(dict.fromkeys(range(1, 241), 1))
    asked = None if text is None else OrderRanges.parse(text)
    calls: list[Any] = []
    listing, snapshot = world.portal.listing, world.table.snapshot

    def list_some(known: Sequence[int], *args: Any) -> AsyncIterator[Listed]:
        calls.append((known, args[-1]))
        return listing(known, *args)

    def read_some(progress: Progress, ranges: OrderRanges | None = None) -> AbstractAsyncContextManager[FakeSnapshot]:
        calls.append(ranges)
        return snapshot(progress, ranges)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.portal, "listing", list_some)
        patch.setattr(world.table, "snapshot", read_some)
        await read(world, AT_ONCE, asked)

    assert calls == [asked, (boundaries, asked)]


@pytest.mark.anyio
@pytest.mark.parametrize("known", [True, False])
async def test_given_an_empty_crm_beside_a_large_table_then_no_more_than_the_limit_is_taken_at_a_time(
    known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await agreed(dict.fromkeys(range(1, 41), 1) if known else {})
    world.portal.bindings.clear()
    for order in range(1, 41):
        world.edit_table(order, (2, 1))
    taken: list[int] = []
    take, bindings = FakeSnapshot.take, world.store.bindings

    def take_some(snapshot: FakeSnapshot, upto: int | None, limit: int | None = None) -> list[Row]:
        rows = take(snapshot, upto, limit)
        taken.append(len(rows))
        return rows

    async def some_bindings(*args: Any) -> list[BindingRow]:
        rows = await bindings(*args)
        taken.append(len(rows))
        return rows

    monkeypatch.setattr(FakeSnapshot, "take", take_some)
    monkeypatch.setattr(world.store, "bindings", some_bindings)
    found = await read(world, Sizes(5, 10, 50))

    assert len(found.changes) == 40
    assert max(taken) == 10


@pytest.mark.anyio
@pytest.mark.parametrize("text", [None, "1-40", "1-15,20-40"])
async def test_given_many_rows_in_a_range_then_they_are_compared_a_segment_at_a_time(
    text: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await agreed(dict.fromkeys(range(1, 41), 1))
    compared: list[int] = []
    feed = Differ.feed

    def watched(differ: Differ, crm: Sequence[Row], *args: Any, **more: Any) -> Segment:
        compared.append(len(crm))
        return feed(differ, crm, *args, **more)

    monkeypatch.setattr(Differ, "feed", watched)
    found = await read(world, Sizes(5, 10, 1), None if text is None else OrderRanges.parse(text))

    assert found.counts.in_step == sum(compared)
    assert max(compared) == 5


# ------------------------------------------------------------------ what is remembered, and rows without an order


@pytest.mark.anyio
async def test_given_owners_of_several_types_then_a_few_of_each_are_remembered_as_seen() -> None:
    world = World(policy=policy())
    for order in range(1, 31):
        world.portal.bind(order, Owner(2 if order % 3 else 31, 100 + order // 6))

    found = await read(world, Sizes(1, 10, 1))

    assert found.witnesses == {
        2: [deal(100), deal(101), deal(102)],
        31: [Owner(31, 100), Owner(31, 101), Owner(31, 102)],
    }


@pytest.mark.anyio
async def test_given_many_rows_without_an_order_then_one_hold_names_some_and_says_how_many_orders_wait() -> None:
    world = await agreed(dict.fromkeys(range(1, 9), 1))
    for number in range(1, 8):
        world.table.add(None, 2, number)
    details = []
    for gone in (1, 2):
        world.edit_table(gone, None)
        found = await read(world, AT_ONCE)
        hold = found.holds[0]
        assert (list(found.holds), hold.order_id, hold.kind) == ([0], 0, HoldKind.INVALID_ROW)
        assert hold.facts == Facts(None, None, None, Unreadable(HoldKind.INVALID_ROW, hold.detail))
        details.append(hold.detail)

    assert [detail.count("order_id is None") for detail in details] == [5, 5]
    assert "read: order_id is None (2, 1); order_id is None (2, 2); " in details[0]
    assert "(1 agreed order is absent" in details[0]
    assert "(2 agreed orders are absent" in details[1]


@pytest.mark.anyio
async def test_given_rows_without_an_order_when_some_orders_are_read_then_their_hold_stays_as_it_is() -> None:
    world = await agreed(dict.fromkeys(range(1, 9), 1))
    world.table.add(None, 2, 1)
    await world.reconcile()
    (stored,) = await world.store.holds(1)
    world.table.add(None, 2, 2)

    assert (await read(world, AT_ONCE, OrderRanges.parse("1,5"))).holds == {0: stored.hold}


@pytest.mark.anyio
async def test_given_rows_whose_keys_no_order_has_then_each_in_scope_is_held_by_its_number() -> None:
    world = World(policy=policy())
    world.options = {"order_keys": LearnedKeys(KeyField.XML_ID, world.portal, world.store, world.clock)}
    former = number_of_former(7)
    world.table.add(None, 2, 1)
    world.table.unknown = {
        -1: UnknownKey("out of scope", Owner(31, 1), {Owner(31, 1)}),
        -2: UnknownKey("nobody's", deal(5), {deal(5)}),
        -3: UnknownKey("of two rows", None, {deal(5), deal(6)}),
        former: UnknownKey("order 7's", deal(7), {deal(7)}),
    }
    found = await read(world, AT_ONCE)

    whys = {
        -2: (deal(5), unknown_key(KeyField.XML_ID, "nobody's")),
        -3: (None, unknown_key(KeyField.XML_ID, "of two rows")),
        former: (deal(7), unknown_key(KeyField.XML_ID, "order 7's", 7)),
    }
    assert {number: hold for number, hold in found.holds.items() if number} == {
        number: Hold(number, why.kind, Facts(None, owner, None, why), why.detail)
        for number, (owner, why) in whys.items()
    }

    await world.reconcile()
    del world.table.unknown[-2]
    assert (await read(world, AT_ONCE)).released == [-2], "the others, and order 0, go on"
    world.table.stored.clear()
    assert sorted((await read(world, AT_ONCE)).released) == [-2, 0]


@pytest.mark.anyio
async def test_given_a_table_that_is_only_a_target_then_its_rows_of_unknown_keys_are_left_alone() -> None:
    world = World(policy=policy(Direction.CRM_TO_TABLE))
    world.table.unknown = {-2: UnknownKey("nobody's", deal(5), {deal(5)})}

    assert (await read(world, AT_ONCE)).holds == {}
