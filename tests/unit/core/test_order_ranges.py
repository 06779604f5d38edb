"""Sets of order ids as ranges: a person's text, set arithmetic, and the pieces they are read in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.core.order_ranges import FEW, LARGEST_ID, NARROW, FewOrders, OrderRange, OrderRanges, parse_order_id

IDS = st.integers(1, 60)
SETS = st.lists(st.tuples(IDS, IDS), max_size=6).map(OrderRanges.of)


def ids(ranges: OrderRanges) -> set[int]:
    return {order for one in ranges.ranges for order in range(one.first, min(one.last, 99) + 1)}


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("5125", "5125"),
        ("5200-5300,5125", "5125,5200-5300"),
        (" 7 , 5-6 ", "5-7"),
        ("9-,3", "3,9-"),
        (f"1-{LARGEST_ID}", "1-"),
        ("4-4,4", "4"),
    ],
)
def test_given_a_persons_text_when_parsed_then_it_is_the_set_it_names(text: str, written: str) -> None:
    assert str(OrderRanges.parse(text)) == written


@pytest.mark.parametrize(
    "text", ["", "0", "5,", "five", "9-5", "-5", "5--6", "1_000", "5.0", "\u0665", str(LARGEST_ID + 1)]
)
def test_given_a_text_that_names_no_orders_when_parsed_then_it_says_which_part(text: str) -> None:
    with pytest.raises(ValueError, match="neither an order id nor a range"):
        OrderRanges.parse(text)


@pytest.mark.parametrize(
    ("text", "order"),
    [("1", 1), ("5", 5), ("0005", 5), (str(LARGEST_ID), LARGEST_ID)]
    + [(text, None) for text in ("", "0", "-5", "5.0", " 5", "\u0665", str(LARGEST_ID + 1), "9" * 5000)],
)
def test_given_a_text_then_it_is_an_order_id_or_none(text: str, order: int | None) -> None:
    assert parse_order_id(text) == order


@given(SETS, SETS)
def test_ranges_are_sets(left: OrderRanges, right: OrderRanges) -> None:
    assert ids(left | right) == ids(left) | ids(right)
    assert ids(left & right) == ids(left) & ids(right)
    assert ids(left - right) == ids(left) - ids(right)
    assert left.includes(right) == (ids(right) <= ids(left))
    assert bool(left) == bool(ids(left))
    assert left.complement().complement() == left
    assert left.among(range(1, 62)) == sorted(ids(left))
    for made in (left | right, left & right, left - right, left.complement(), left.hull()):
        assert all(one.last + 1 < two.first for one, two in zip(made.ranges, made.ranges[1:], strict=False)), "apart"
    assert not left or OrderRanges.parse(str(left)) == left


@given(SETS, IDS, IDS)
def test_a_set_holds_what_lies_in_it_without_a_gap(ranges: OrderRanges, first: int, width: int) -> None:
    last = first + width - 1
    assert ranges.holds(first, last) == (set(range(first, last + 1)) <= ids(ranges))


def test_given_single_orders_then_neighbours_are_one_range() -> None:
    assert OrderRanges.of_orders([9, 5, 7, 6, 5]).ranges == ((5, 7), (9, 9))
    assert OrderRange(5).last == LARGEST_ID


@given(st.lists(st.tuples(st.integers(1, 3000), st.integers(0, 40)), max_size=60))
def test_the_pieces_of_a_set_are_the_set_in_order(pairs: list[tuple[int, int]]) -> None:
    ranges = OrderRanges.of((first, first + width) for first, width in pairs)
    found: list[int] = []
    for piece in ranges.pieces():
        if isinstance(piece, FewOrders):
            assert 0 < len(piece.orders) <= FEW
            found += piece.orders
        else:
            assert piece.span > NARROW
            found += range(piece.first, piece.last + 1)
    assert found == sorted(ids_of(ranges))


def ids_of(ranges: OrderRanges) -> set[int]:
    return {order for one in ranges.ranges for order in range(one.first, one.last + 1)}


def test_given_many_single_orders_then_their_pieces_are_bounded() -> None:
    pieces = list(OrderRanges.of_orders(range(2, 4 * FEW, 2)).pieces())
    assert [len(piece.orders) for piece in pieces if isinstance(piece, FewOrders)] == [FEW, FEW - 1]


@given(SETS)
def test_the_hull_of_a_set_is_everything_from_its_first_id_to_its_last(ranges: OrderRanges) -> None:
    found = ids(ranges)
    assert ids(ranges.hull()) == (set(range(min(found), max(found) + 1)) if found else set())
