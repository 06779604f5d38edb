"""How many requests may be under way at once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from syncd.core.pacing import ConcurrencyLimit


def quiet(limit: ConcurrencyLimit, times: int) -> None:
    for _ in range(times):
        limit.quiet()


def test_given_a_new_limit_then_two_may_be_under_way_and_one_where_no_more_is_allowed() -> None:
    assert ConcurrencyLimit(4).current == 2
    assert ConcurrencyLimit(1).current == 1


def test_given_quiet_from_the_beginning_then_it_rises_with_each_answer_up_to_the_most() -> None:
    limit = ConcurrencyLimit(4)
    seen = []
    for _ in range(4):
        limit.quiet()
        seen.append(limit.current)
    assert seen == [3, 4, 4, 4]


def test_given_quiet_after_trouble_then_it_rises_by_one_a_round() -> None:
    limit = ConcurrencyLimit(4)
    quiet(limit, 2)
    limit.trouble(limit.begin())
    seen = []
    for _ in range(8):
        limit.quiet()
        seen.append(limit.current)
    assert seen == [2, 3, 3, 3, 4, 4, 4, 4]


def test_given_trouble_then_half_as_many_and_one_at_least() -> None:
    limit = ConcurrencyLimit(8)
    quiet(limit, 100)
    limit.trouble(limit.begin())
    assert limit.current == 4
    for _ in range(5):
        limit.trouble(limit.begin())
    assert limit.current == 1


def test_given_trouble_of_several_sent_before_then_it_halves_once() -> None:
    limit = ConcurrencyLimit(8)
    quiet(limit, 100)
    tickets = [limit.begin() for _ in range(8)]
    for ticket in tickets:
        limit.trouble(ticket)
    assert limit.current == 4


def test_given_trouble_then_the_quiet_before_it_counts_for_nothing() -> None:
    limit = ConcurrencyLimit(4)
    quiet(limit, 1)
    limit.trouble(limit.begin())
    quiet(limit, 1)
    assert limit.current == 2


@given(st.integers(1, 10), st.lists(st.booleans()))
def test_it_stays_between_one_and_the_most(most: int, events: list[bool]) -> None:
    limit = ConcurrencyLimit(most)
    for is_quiet in events:
        if is_quiet:
            limit.quiet()
        else:
            limit.trouble(limit.begin())
        assert 1 <= limit.current <= most


def test_given_the_rise_of_a_long_work_then_requests_are_small_until_the_full_width_is_reached() -> None:
    limit = ConcurrencyLimit(4)
    assert limit.share(1000) == 1
    quiet(limit, 2)
    assert limit.current == 4
    assert limit.share(1000) == 250


def test_given_a_short_work_then_its_writes_stay_together_while_the_limit_rises() -> None:
    assert [ConcurrencyLimit(4).share(left) for left in (2, 80)] == [2, 80]


def test_given_the_last_work_at_full_width_then_the_requests_share_it_and_none_is_for_less_than_two() -> None:
    limit = ConcurrencyLimit(2)
    assert [limit.share(left) for left in (100, 9, 3, 1)] == [50, 5, 2, 2]


def test_given_trouble_in_the_rise_then_requests_are_no_smaller_for_it() -> None:
    limit = ConcurrencyLimit(10)
    limit.trouble(limit.begin())
    assert limit.share(1000) == 1000


def test_given_trouble_again_then_what_was_under_way_beside_it_halves_nothing_either() -> None:
    limit = ConcurrencyLimit(16)
    quiet(limit, 100)
    limit.trouble(limit.begin())
    for ticket in [limit.begin() for _ in range(8)]:
        limit.trouble(ticket)
    assert limit.current == 4
