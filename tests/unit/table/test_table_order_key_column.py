"""What a cell of a column of keys says, and what is written into it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa

from syncd.core.order_keys import LONGEST_KEY
from syncd.table.columns import OrderKeyColumn, key_text

COLUMN: sa.ColumnClause[Any] = sa.column("number")


@pytest.mark.parametrize(
    ("cell", "key"),
    [
        ("WEB-5", "WEB-5"),
        (" 05 ", " 05 "),
        ("Заказ", "Заказ"),
        (b"WEB-5", "WEB-5"),
        (1005, "1005"),
        (0, "0"),
        (Decimal("1005.00"), "1005"),
        (1005.0, "1005"),
        ("x" * LONGEST_KEY, "x" * LONGEST_KEY),
    ],
)
def test_given_a_cell_then_its_text_or_its_digits_are_the_key(cell: Any, key: str) -> None:
    assert key_text(cell) == key


@pytest.mark.parametrize(
    "cell",
    [
        None,
        "",
        b"",
        b"\xff",
        "a\0b",
        "x" * (LONGEST_KEY + 1),
        True,
        10.5,
        -0.5,
        float("nan"),
        float("inf"),
        Decimal("NaN"),
        Decimal("Infinity"),
        Decimal("1e999999"),
        Decimal("1.5"),
    ],
)
def test_given_a_cell_that_no_order_can_have_as_its_key_then_it_holds_none(cell: Any) -> None:
    assert key_text(cell) is None
    assert OrderKeyColumn(COLUMN, str).keys_of([cell, "WEB-5"]) == [None, "WEB-5"]


def test_given_a_column_that_pads_then_spaces_at_the_end_are_no_part_of_a_key() -> None:
    padded = OrderKeyColumn(COLUMN, str, pads=True)
    assert padded.keys_of(["WEB-5     ", " 5  ", "     "]) == ["WEB-5", " 5", None]


def test_given_the_keys_of_orders_then_only_their_cells_are_theirs_and_only_exactly() -> None:
    known = OrderKeyColumn(COLUMN, str).knowing({5: "a-1", 6: "A-1"})
    assert [known.id_of(cell) for cell in ("a-1", "A-1", "a-1 ", None)] == [5, 6, None, None]
    assert (known.cell(5), list(known.search([5, 6]))) == ("a-1", ["a-1", "A-1"])


def test_given_a_column_of_numbers_then_a_key_that_is_none_does_not_fit_and_is_not_looked_for() -> None:
    known = OrderKeyColumn(COLUMN, int).knowing({5: "1005", 6: "WEB-6", 7: "007", 8: "9" * 19})
    assert [bool(known.unfit(order)) for order in (5, 6, 7, 8)] == [False, True, True, True]
    assert list(known.search([5, 6, 7, 8])) == [1005]


def test_given_a_column_of_any_type_then_digits_are_looked_for_as_a_number_too() -> None:
    known = OrderKeyColumn(COLUMN, str, loose=True).knowing({5: "1005"})
    assert list(known.search([5])) == ["1005", 1005]
