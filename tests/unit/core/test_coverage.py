"""How fresh each part of a link is, over passes that cover only some orders."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.core.order_ranges import LARGEST_ID, Coverage, OrderRange, OrderRanges, Slice
from syncd.core.pacing import SKEW


def times(coverage: Coverage) -> list[float]:
    return [one.at for one in coverage.slices]


def test_given_a_whole_pass_then_one_slice_holds_everything() -> None:
    coverage = Coverage.whole(5)
    assert (coverage.orders_of(0), coverage.stalest, coverage.next) == (OrderRange(1), 5, 0)


def test_given_slices_when_each_is_covered_in_turn_then_the_rotation_comes_round() -> None:
    coverage = Coverage.whole(0).cut([10, 20])
    order = []
    for now in range(1, 8):
        order.append(coverage.next)
        coverage = coverage.covered(OrderRanges.of([coverage.orders_of(coverage.next)]), now)
    assert order == [0, 1, 2, 0, 1, 2, 0]
    assert (times(coverage), coverage.stalest) == ([7, 5, 6], 5)


def test_given_a_slice_that_failed_then_another_one_is_next_and_it_stays_as_stale_as_it_was() -> None:
    coverage = Coverage.whole(0).cut([10, 20]).attempted(OrderRanges.of([(1, 10)]), 1)
    assert (coverage.next, times(coverage)) == (1, [0, 0, 0])


@pytest.mark.parametrize(("ranges", "fresh"), [([(1, 9)], [0, 0]), ([(1, 10)], [5, 0]), ([(3, LARGEST_ID)], [0, 5])])
def test_given_a_pass_over_a_part_of_a_slice_then_the_slice_is_no_fresher(
    ranges: list[tuple[int, int]], fresh: list[float]
) -> None:
    coverage = Coverage.whole(0).cut([10]).covered(OrderRanges.of(ranges), 5)
    assert times(coverage) == fresh


def test_given_other_slices_when_they_are_cut_anew_then_each_is_as_fresh_as_the_stalest_it_overlaps() -> None:
    coverage = Coverage.whole(1).cut([10, 20]).covered(OrderRanges.of([(11, 20)]), 7)
    assert times(coverage.cut([5, 15, 18])) == [1, 1, 7, 1]
    assert times(coverage.cut([])) == [1]
    assert coverage.cut([10, 20]) == coverage


def test_given_the_first_order_as_a_slice_of_its_own_then_a_slice_cut_from_it_is_as_stale_as_it_is() -> None:
    coverage = Coverage.whole(1).cut([1]).covered(OrderRanges.of([(2, LARGEST_ID)]), 7)
    assert times(coverage.cut([10])) == [1, 7]


def test_given_bounds_outside_or_at_the_ends_of_all_order_ids_then_they_make_no_slice() -> None:
    assert Coverage.whole(1).cut([0, 10, 10, LARGEST_ID]) == Coverage.whole(1).cut([10])


def test_given_other_slices_then_each_was_tried_when_the_first_of_those_it_overlaps_was() -> None:
    coverage = Coverage.whole(0).cut([10, 20]).attempted(OrderRanges.of([(1, 10)]), 1)
    assert [one.tried for one in coverage.cut([5, 15]).slices] == [1, 0, 0]


def test_given_a_pass_over_the_newest_and_more_then_the_newest_are_fresh() -> None:
    coverage = Coverage(Coverage.whole(1).slices, recent_from=50, recent_at=2)
    assert coverage.covered(OrderRanges.of([(1, 60)]), 9).recent_at == 2
    assert coverage.covered(OrderRanges.of([(50, LARGEST_ID)]), 9).recent_at == 9
    assert coverage.covered(None, 9, 6) == Coverage(Coverage.whole(9, 6).slices, 50, 9, 6)


def test_given_passes_over_parts_then_each_order_knows_the_newest_run_that_covered_it() -> None:
    coverage = Coverage.whole(0, 3).cut([10, 20]).covered(OrderRanges.of([(11, 20)]), 1, 4)
    coverage = Coverage(coverage.slices, 18, 2, 5)
    assert [coverage.run_of(order) for order in (10, 11, 17, 18, 21)] == [3, 4, 4, 5, 5]
    assert [coverage.at_of(order) for order in (10, 11, 17, 18, 21)] == [0, 1, 1, 2, 2]
    assert [one.run for one in coverage.cut([15]).slices] == [3, 3]
    from_the_first = replace(coverage, recent_from=1)
    assert [(from_the_first.run_of(order), from_the_first.at_of(order)) for order in (1, 11)] == [(5, 2), (5, 2)]
    of_none = replace(coverage, recent_from=0)
    assert [(of_none.run_of(order), of_none.at_of(order)) for order in (1, 11)] == [(3, 0), (4, 1)]
    assert coverage.attempted(OrderRanges.of([(1, 10)]), 9) == Coverage(
        (coverage.slices[0]._replace(tried=9), *coverage.slices[1:]), 18, 2, 5
    )


def test_given_a_pass_whose_run_is_not_said_then_no_run_is_known() -> None:
    whole = Coverage.whole(1)
    assert (whole.run_of(5), Coverage.whole(1, 3).covered(None, 2).run_of(5)) == (0, 0)


def test_given_a_coverage_of_an_earlier_version_then_no_run_is_known() -> None:
    coverage = Coverage.read('{"slices":[[10,1.0,2.0],[9223372036854775807,3.0,3.0]],"recent_from":5,"recent_at":4.0}')
    assert (times(coverage), coverage.run_of(7), coverage.run_of(11)) == ([1, 3], 0, 0)


@given(st.lists(st.integers(1, 99), max_size=6, unique=True).map(sorted), st.floats(0, 2e9), st.integers(0, 99))
def test_a_coverage_is_read_as_it_was_written(bounds: list[int], at: float, recent: int) -> None:
    coverage = Coverage(Coverage.whole(at, 7).cut(bounds).slices, recent, at, 8)
    assert Coverage.read(coverage.text()) == coverage
    assert [coverage.orders_of(index).last for index in range(len(bounds) + 1)] == [*bounds, LARGEST_ID]


def test_given_times_of_a_clock_that_was_set_back_then_they_count_as_never() -> None:
    noted = Coverage((Slice(10, 50, 60, 1), Slice(20, 9000, 9001, 2), Slice(LARGEST_ID, 70, 9002, 3)), 15, 9003, 4)

    known = noted.known_at(100)

    assert known.slices == (Slice(10, 50, 60, 1), Slice(20, 0, 0, 2), Slice(LARGEST_ID, 70, 0, 3))
    assert (known.recent_from, known.recent_at, known.recent_run) == (15, 0, 4)


def test_given_a_clock_of_another_host_that_is_a_little_ahead_then_what_it_noted_counts() -> None:
    noted = Coverage(Coverage.whole(100 + SKEW).slices, 15, 100 + SKEW)

    assert noted.known_at(100) == noted
