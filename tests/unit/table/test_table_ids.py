"""What counts as an id (sync-rules.md 13)."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.core.order_ranges import LARGEST_ID
from syncd.table.columns import display_cell, parse_id

ids = st.integers(1, LARGEST_ID)
padding = st.text(" \t\r\n", max_size=3)


@given(ids)
def test_given_an_id_then_every_type_a_driver_returns_it_as_is_the_same_id(number: int) -> None:
    alike = [number, str(number), str(number).encode(), bytearray(str(number).encode()), Decimal(number)]
    alike += [memoryview(str(number).encode()), Decimal(f"{number}.00")]
    assert {parse_id(value) for value in alike} == {number}


before = st.tuples(padding, st.sampled_from(["", "+"]), st.sampled_from(["", "0", "0000"])).map("".join)
after = st.tuples(st.sampled_from(["", ".", ".0", ".000"]), padding).map("".join)


@given(ids, before, after)
def test_given_an_id_as_text_then_its_writing_does_not_matter(number: int, head: str, tail: str) -> None:
    assert parse_id(f"{head}{number}{tail}") == number


@given(st.integers(1, 2**53))
def test_given_a_whole_float_then_it_is_that_id(number: int) -> None:
    assert parse_id(float(number)) == number


@given(st.one_of(st.integers(max_value=0), st.integers(min_value=LARGEST_ID + 1)))
def test_given_a_number_out_of_range_then_no_writing_makes_it_an_id(number: int) -> None:
    assert {parse_id(value) for value in (number, str(number), Decimal(number), str(number).encode())} == {None}


@given(st.one_of(st.text(), st.binary(), st.floats(), st.decimals(), st.booleans(), st.none(), st.integers()))
def test_given_anything_then_the_answer_is_an_id_or_none(value: object) -> None:
    number = parse_id(value)
    assert number is None or (type(number) is int and 1 <= number <= LARGEST_ID)


@pytest.mark.parametrize(
    "value",
    [
        None, True, False, 0, -1, "", " ", "abc", "5.5", "5a", "5 5", "-5", "0", "000", "1e3", "5_0", "0x5", "\u0665", "\uff15",
        b"", b"\xff", b"5.5", 5.5, 0.0, float("nan"), float("inf"), 2.0**60, Decimal("5.5"), Decimal("NaN"),
        Decimal("Infinity"), Decimal("1e999999"), Decimal(0), dt.date(2026, 1, 1), uuid.UUID(int=5), [5], str(2**63),
    ],
    ids=repr,
)  # fmt: skip
def test_given_what_is_no_id_then_it_is_none(value: object) -> None:
    assert parse_id(value) is None


def test_given_the_largest_id_then_it_is_one() -> None:
    assert parse_id(str(2**63 - 1)) == 2**63 - 1


@pytest.mark.parametrize(
    ("value", "words"),
    [(None, "null"), ("abc", "'abc'"), ("a\nb", r"'a\nb'"), (-5, "-5"), (Decimal("5.5"), "5.5"), (b"x", "b'x'")],
)
def test_given_a_cell_then_it_is_shown_on_one_line(value: object, words: str) -> None:
    assert display_cell(value) == words


def test_given_a_long_cell_then_it_is_cut() -> None:
    assert display_cell("x" * 100) == "'" + "x" * 59 + "…"
    assert display_cell("x" * 1000) == "longer than 255 characters ('" + "x" * 59 + "…)"
