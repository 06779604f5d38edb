"""Pauses grow, end at a cap, and spread."""

from __future__ import annotations

import pytest

from syncd.core.pacing import LONGEST_PAUSE, MAX_ATTEMPTS, is_waiting, order_pause, pause


def test_pauses_double_from_the_first_one() -> None:
    assert [pause(attempt, first=3, most=1000) for attempt in (1, 2, 3, 4)] == [3, 6, 12, 24]


def test_pauses_end_at_the_longest_one() -> None:
    assert [pause(attempt, first=3, most=20) for attempt in (3, 4, 5, 500)] == [12, 20, 20, 20]


def test_pauses_stop_growing_long_before_a_number_overflows() -> None:
    assert pause(31, first=1, most=1e300) == 2.0**30
    assert pause(10**6, first=1, most=1e300) == 2.0**30


@pytest.mark.parametrize(
    ("spread", "chance", "seconds"), [(0.5, 0.0, 8), (0.5, 0.5, 10), (1.0, 0.75, 14), (0.0, 0.9, 8)]
)
def test_chance_adds_a_part_of_the_pause(spread: float, chance: float, seconds: float) -> None:
    assert pause(1, first=8, most=8, spread=spread, chance=chance) == seconds


def test_without_chance_nothing_is_added() -> None:
    assert pause(1, first=8, most=100, spread=0.5) == 8
    assert pause(1, first=8, most=100, chance=0.5) == 8


def test_an_order_waits_from_a_minute_to_an_hour_and_is_held_after_five_attempts() -> None:
    assert [order_pause(attempt) for attempt in range(1, 9)] == [60, 120, 240, 480, 960, 1920, 3600, 3600]
    assert MAX_ATTEMPTS == 5


@pytest.mark.parametrize(
    ("left", "waits"),
    [(-1, False), (0, False), (0.5, True), (60, True), (LONGEST_PAUSE, True), (LONGEST_PAUSE + 1, False)],
    ids=["over", "just over", "nearly over", "a minute", "the longest pause", "a clock that was set back"],
)
def test_an_order_waits_until_its_pause_is_over_and_no_longer_than_the_longest_one(left: float, waits: bool) -> None:
    now = 1_700_000_000.0
    assert is_waiting(now + left, now) is waits
