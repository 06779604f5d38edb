"""Pages decoded and kept until they are proved."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.core.model import Row
from syncd.portal.pages import NO_OWNER, RowBuffer, RowPage, UnusablePage, ascending, decode_page, split


def page_of(*rows: tuple[int, int, int]) -> RowPage:
    return RowPage([number for row in rows for number in row])


def test_given_rows_in_any_order_of_keys_when_decoded_then_they_are_triples() -> None:
    page = {"orderEntity": [{"ownerTypeId": 2, "ownerId": "10", "orderId": 5}]}

    assert decode_page(page).rows() == [(5, 2, 10)]


def test_given_a_page_in_descending_order_when_decoded_backwards_then_it_ascends() -> None:
    page = {"orderEntity": [{"orderId": order, "ownerTypeId": 2, "ownerId": order + 10} for order in (9, 7, 4)]}

    assert decode_page(page, backwards=True) == page_of((4, 2, 14), (7, 2, 17), (9, 2, 19))


ODD: list[object] = [True, None, "x", 1.5, 0, -3]


@pytest.mark.parametrize("value", ODD)
def test_given_an_order_id_that_is_no_positive_whole_number_when_decoded_then_the_page_is_unusable(
    value: object,
) -> None:
    row = {"orderId": 5, "ownerTypeId": 2, "ownerId": 10}

    with pytest.raises(UnusablePage):
        decode_page({"orderEntity": [row, {**row, "orderId": value}]})


@pytest.mark.parametrize("value", [*ODD, ...])
@pytest.mark.parametrize("name", ["ownerTypeId", "ownerId"])
def test_given_an_owner_that_cannot_be_read_when_decoded_then_that_row_alone_has_none(name: str, value: object) -> None:
    rows: list[dict[str, object]] = [{"orderId": order, "ownerTypeId": 2, "ownerId": 10} for order in (5, 7, 9)]
    rows[1] = {key: one for key, one in {**rows[1], name: value}.items() if one is not ...}

    page = decode_page({"orderEntity": rows})

    assert page.order_ids == [5, 7, 9]
    assert split(page.rows()) == ([(5, 2, 10), (9, 2, 10)], {7: NO_OWNER})


@pytest.mark.parametrize(("order_id", "left"), [(0, [4, 7, 9]), (4, [7, 9]), (8, [9]), (9, [])])
def test_given_an_order_id_when_asked_what_is_beyond_then_only_later_rows_are_left(
    order_id: int, left: list[int]
) -> None:
    page = page_of((4, 2, 14), (7, 2, 17), (9, 2, 19))

    assert page.beyond(order_id).order_ids == left
    assert len(page.beyond(order_id)) == len(left)


@pytest.mark.parametrize("result", [None, [], True, {}, {"orderEntity": None}, {"orderEntity": [None]}])
def test_given_a_result_without_rows_when_decoded_then_it_is_not_an_empty_page(result: object) -> None:
    with pytest.raises(UnusablePage):
        decode_page(result)


@given(rows=st.lists(st.tuples(*[st.integers(1, 2**63 - 1)] * 3)))
def test_given_any_rows_when_kept_then_they_come_back(rows: list[tuple[int, int, int]]) -> None:
    shelf = RowBuffer()
    shelf.put(0, 50, page_of(*rows))

    kept = [row for chunk in shelf.chunks() for row in chunk]

    assert kept == page_of(*rows).rows() == [Row(*row) for row in rows]
    shelf.close()


def test_given_an_order_id_beyond_63_bits_when_decoded_then_the_page_is_unusable() -> None:
    with pytest.raises(UnusablePage):
        decode_page({"orderEntity": [{"orderId": 2**63, "ownerTypeId": 2, "ownerId": 1}]})


@pytest.mark.parametrize("owner", [(2**63, 1), (2, 2**63), (2, str(2**63))])
def test_given_an_owner_beyond_63_bits_when_decoded_then_only_that_owner_cannot_be_read(owner: tuple[Any, Any]) -> None:
    rows = [
        {"orderId": 5, "ownerTypeId": owner[0], "ownerId": owner[1]},
        {"orderId": 6, "ownerTypeId": 2, "ownerId": 1},
    ]
    page = decode_page({"orderEntity": rows})

    assert split(page.rows()) == ([(6, 2, 1)], {5: NO_OWNER})
    shelf = RowBuffer()
    shelf.put(4, 6, page)
    assert list(shelf.chunks()) == [page.rows()]
    shelf.close()


@given(ids=st.lists(st.integers(1, 100)))
def test_given_ids_when_compared_then_only_strict_growth_is_ascending(ids: list[int]) -> None:
    assert ascending(ids) == (ids == sorted(set(ids)))


def test_given_stretches_out_of_order_when_read_back_then_rows_are_in_order() -> None:
    shelf = RowBuffer()
    shelf.put(50, 100, page_of((60, 2, 1)))
    shelf.put(0, 50, page_of((5, 2, 1), (7, 2, 1)))

    assert [row.order_id for rows in shelf.chunks() for row in rows] == [5, 7, 60]
    assert shelf.gap(0, 100) is None
    shelf.close()


def test_given_ranges_side_by_side_and_apart_when_read_back_then_each_row_comes_once_and_in_order() -> None:
    shelf = RowBuffer()
    ranges = list(range(0, 20_000, 50))
    random.Random(7).shuffle(ranges)  # two thirds out of place, the rest as batches put them
    for low in [*ranges[:250], *sorted(ranges[250:])]:
        rows = range(low + 1, low + 51) if low % 300 else ()  # some windows are empty
        shelf.put(low, low + 50, page_of(*((order, 2, order + 7) for order in rows)))

    read = [row for rows in shelf.chunks() for row in rows]

    assert read == [(order, 2, order + 7) for order in range(1, 20_001) if (order - 1) // 50 * 50 % 300]
    shelf.close()


def test_given_a_hole_when_looked_for_then_it_is_found() -> None:
    shelf = RowBuffer()
    assert shelf.gap(0, 100) == 0
    shelf.put(0, 50, page_of())
    assert shelf.gap(0, 100) == 50
    shelf.put(60, 100, page_of())
    assert shelf.gap(0, 100) == 50
    shelf.close()


def test_given_a_stretch_read_again_when_dropped_then_only_the_new_rows_count() -> None:
    shelf = RowBuffer()
    shelf.put(0, 50, page_of((5, 2, 1)))
    shelf.put(50, 100, page_of((60, 2, 1)))
    shelf.drop(0, 50)
    shelf.put(0, 50, page_of((5, 2, 9), (6, 2, 9)))

    assert shelf.rows == 3
    assert [row for rows in shelf.chunks() for row in rows] == [(5, 2, 9), (6, 2, 9), (60, 2, 1)]
    shelf.close()


def test_given_many_rows_when_read_back_then_they_come_in_chunks() -> None:
    shelf = RowBuffer()
    for low in range(0, 20_000, 50):
        shelf.put(low, low + 50, page_of(*((order, 2, 1) for order in range(low + 1, low + 51))))

    sizes = [len(rows) for rows in shelf.chunks()]

    assert sum(sizes) == 20_000
    assert max(sizes) < 1050
    shelf.close()
