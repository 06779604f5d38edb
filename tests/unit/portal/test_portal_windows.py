"""Ranges of order ids cut into windows, and calls into batches."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.core.order_ranges import LARGEST_ID
from syncd.portal.commands import PAGE
from syncd.portal.window_reader import (
    LEAST_COMMANDS,
    Window,
    batches,
    cut_windows,
    density,
    window_width,
    windows_between,
)


@given(
    after=st.integers(0, 10**9),
    span=st.integers(1, 10**9),
    rows=st.integers(-10, 200_000),
    near=st.lists(st.floats(1e-9, 1), max_size=2),
)
def test_given_any_range_when_cut_then_the_windows_meet_from_end_to_end(
    after: int, span: int, rows: int, near: list[float]
) -> None:
    rows = min(rows, span)
    windows = cut_windows(after, after + span, rows, near)

    assert windows[0].after == after
    assert windows[-1].upto == after + span
    assert all(one.upto == following.after for one, following in pairwise(windows))
    assert all(one.after < one.upto for one in windows)
    assert len(windows) <= max(60, rows / 20)


def test_given_dense_ids_when_cut_then_each_window_is_a_page_and_none_is_wasted() -> None:
    assert cut_windows(0, 100_000, 100_000, (1.0, 1.0)) == [Window(low, low + 50) for low in range(0, 100_000, 50)]


def test_given_no_range_when_cut_then_there_is_no_window() -> None:
    assert cut_windows(5, 5, 10) == []


def test_given_an_open_end_with_rows_when_cut_then_it_is_cut_as_far_as_they_would_go_and_left_open() -> None:
    windows = cut_windows(100, LARGEST_ID, 500, (0.5,))

    assert windows[-1] == Window(1100, LARGEST_ID, counted=True)
    assert windows[-2].upto == 1100
    assert cut_windows(100, LARGEST_ID, 0) == [Window(100, LARGEST_ID)]


def test_given_an_uneven_range_when_cut_then_it_is_counted_in_a_request() -> None:
    windows = cut_windows(0, 10**9, 100_000, (1.0, 1.0))

    assert len(windows) <= 50
    assert all(one.counted for one in windows)
    assert windows[0].upto == 100_000


@given(part=st.floats(1e-6, 1))
def test_given_a_density_when_a_window_is_sized_then_it_spans_a_page_at_least_and_holds_one_at_most_on_average(
    part: float,
) -> None:
    assert window_width(part) >= PAGE
    assert window_width(part) * part <= PAGE + 1e-6 or window_width(part) == PAGE


def test_given_known_ids_when_cut_between_then_those_outside_are_left_out() -> None:
    assert windows_between(10, 40, [5, 20, 30, 40, 50]) == [Window(10, 20), Window(20, 30), Window(30, 40)]


@pytest.mark.parametrize(("ids", "expected"), [([], 1.0), ([7], 1.0), ([1, 2, 3], 1.0), ([10, 20, 30], 0.1)])
def test_given_a_page_when_its_density_is_taken_then_the_gap_before_it_does_not_count(
    ids: list[int], expected: float
) -> None:
    assert density(ids) == expected


@given(calls=st.integers(0, 3000), lanes=st.integers(0, 200))
def test_given_any_calls_when_batched_then_each_is_sent_once_in_order_and_no_batch_is_too_large(
    calls: int, lanes: int
) -> None:
    groups = batches(range(calls), lanes)

    assert [call for group in groups for call in group] == list(range(calls))
    assert all(1 <= len(group) <= 50 for group in groups)
    assert len(groups) <= max(-(-calls // 50), min(-(-calls // LEAST_COMMANDS), lanes))
