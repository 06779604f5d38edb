"""Whatever rows come, in whatever order and chunks: each order is told once, and rightly."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.core.model import HoldKind, Row, Scope
from syncd.core.order_ranges import LARGEST_ID
from syncd.table.columns import Columns, IdColumn, parse_id
from syncd.table.snapshot import SHOWN_ORDERLESS, SnapshotBuilder
from syncd.table.spool import Spool, SpooledSnapshot

ORDER, TYPE, OWNER = (IdColumn(sa.column(name), textual=False, writes=int) for name in ("order_id", "kind", "deal"))
TABLE = sa.table("m")
WITH_TYPE = Columns(TABLE, ORDER, TYPE, OWNER)
CONSTANT = Columns(TABLE, ORDER, 2, OWNER)
EVERYTHING = Scope(frozenset({2}))


def taken_in(columns: Columns, chunks: list[list[tuple[Any, ...]]], scope: Scope = EVERYTHING) -> SpooledSnapshot:
    spool = Spool()
    builder = SnapshotBuilder(columns, scope.orders, spool)
    for chunk in chunks:
        builder.feed(chunk)
    return builder.finish()


cells = st.one_of(
    st.integers(-1, 12),
    st.integers(1, 12).map(str),
    st.integers(1, 12).map(Decimal),
    st.sampled_from([None, "", "x", "5.5", b"7", 3.0, LARGEST_ID, LARGEST_ID + 1]),
)
rows = st.tuples(cells, st.sampled_from([2, 31, "2", None]), cells)


@settings(max_examples=300)
@given(st.lists(st.lists(rows, min_size=1, max_size=6), max_size=6), st.booleans())
def test_given_any_rows_then_the_snapshot_is_what_a_dictionary_would_tell(
    chunks: list[list[tuple[Any, ...]]], in_order: bool
) -> None:
    if in_order:
        flat = sorted((row for chunk in chunks for row in chunk), key=lambda row: parse_id(row[0]) or 0)
        chunks = [flat[at : at + 3] for at in range(0, len(flat), 3)]
    by_order: dict[int, list[tuple[Any, ...]]] = defaultdict(list)
    for row in (row for chunk in chunks for row in chunk):
        by_order[parse_id(row[0]) or 0].append(row)
    without = by_order.pop(0, [])
    readable = {
        order: (order, parse_id(same[0][1]), parse_id(same[0][2]))
        for order, same in by_order.items()
        if len(same) == 1 and parse_id(same[0][1]) and parse_id(same[0][2])
    }
    snapshot = taken_in(WITH_TYPE, chunks)
    assert snapshot.take(None) == sorted(readable.values())
    assert snapshot.rows == len(readable)
    assert {order: why.kind for order, why in snapshot.unreadable.items()} == {
        order: HoldKind.DUPLICATE_ROWS if len(same) > 1 else HoldKind.INVALID_ROW
        for order, same in by_order.items()
        if order not in readable
    }
    assert len(snapshot.orderless) == min(len(without), SHOWN_ORDERLESS)
    snapshot.close()


@given(st.permutations([(5, 2, 7), (5, 2, 8), (5, 2, None)]))
def test_given_the_same_rows_in_another_order_then_the_words_are_the_same(same: list[tuple[Any, ...]]) -> None:
    apart = taken_in(WITH_TYPE, [[row] for row in same])
    together = taken_in(WITH_TYPE, [same])
    expected = "3 rows for one order: deal is null; owner type 2, owner 7; owner type 2, owner 8"
    assert apart.unreadable[5].detail == together.unreadable[5].detail == expected
    apart.close()
    together.close()


def test_given_a_constant_type_then_rows_carry_it() -> None:
    snapshot = taken_in(CONSTANT, [[(1, 7), (2, 8)], [("3", "9")]])
    assert snapshot.take(None) == [Row(1, 2, 7), Row(2, 2, 8), Row(3, 2, 9)]
    snapshot.close()


@given(st.lists(st.integers(1, 200), unique=True, max_size=60), st.lists(st.integers(0, 210), max_size=8))
def test_given_any_steps_then_taking_leaves_nothing_out_and_gives_nothing_twice(
    orders: list[int], steps: list[int]
) -> None:
    ordered = sorted(orders)
    snapshot = taken_in(CONSTANT, [[(order, 7) for order in ordered[at : at + 7]] for at in range(0, len(ordered), 7)])
    seen: list[int] = []
    for upto in sorted(steps):
        seen += [row.order_id for row in snapshot.take(upto)]
        assert seen == [order for order in ordered if order <= upto]
    seen += [row.order_id for row in snapshot.take(None)]
    assert seen == ordered
    snapshot.close()


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ((5, 2, None), "the row cannot be read: deal is null"),
        ((5, None, "x"), "the row cannot be read: kind is null, deal is 'x'"),
        ((5, 2, -3), "the row cannot be read: deal is -3"),
        ((5, True, 7), "the row cannot be read: kind is True"),
    ],
)
def test_given_an_unreadable_row_then_its_cells_are_shown(row: tuple[Any, ...], words: str) -> None:
    snapshot = taken_in(WITH_TYPE, [[row]])
    assert snapshot.unreadable[5][:2] == (HoldKind.INVALID_ROW, words)
    snapshot.close()


def test_given_rows_without_an_order_then_twenty_are_described_and_the_rest_counted() -> None:
    snapshot = taken_in(CONSTANT, [[(None, number) for number in range(1, 31)]])
    assert len(snapshot.orderless) == SHOWN_ORDERLESS
    assert snapshot.orderless[0] == "order_id is null (owner type 2, owner 1)"
    assert snapshot.orderless[-1] == "and 11 more rows without a readable order id"
    snapshot.close()


def test_given_orders_out_of_the_range_then_neither_rows_nor_trouble_of_theirs_is_told() -> None:
    scope = Scope(frozenset({2}), 3, 4)
    snapshot = taken_in(CONSTANT, [[(1, 7), (2, 7), (3, 7)], [(4, 7), (5, 7)], [(6, None), (7, 7)]], scope)
    assert (snapshot.take(None), dict(snapshot.unreadable)) == ([(3, 2, 7), (4, 2, 7)], {})
    snapshot.close()


@pytest.mark.parametrize("row", [(LARGEST_ID + 1, 2, 7), (5, LARGEST_ID + 1, 7), (5, 2, LARGEST_ID + 1)])
def test_given_a_number_beyond_all_ids_then_its_row_is_told_and_not_read(row: tuple[int, int, int]) -> None:
    snapshot = taken_in(WITH_TYPE, [[(1, 2, 7), row]])
    assert snapshot.take(None) == [(1, 2, 7)]
    assert len(snapshot.orderless) + len(snapshot.unreadable) == 1
    snapshot.close()
