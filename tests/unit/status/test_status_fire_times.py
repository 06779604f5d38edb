"""The fire times of a schedule: slots, spread, cron, time zones."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.config.schedule import parse_schedule
from syncd.status.fire_times import FireTimes

NOON = 1_800_000_000.0
MOMENTS = st.floats(min_value=1_600_000_000, max_value=2_000_000_000)


def _slots(schedule: str, link: str = "shop", timezone: str = "UTC") -> FireTimes:
    return FireTimes(link, parse_schedule(schedule), timezone)


@given(moment=MOMENTS, seconds=st.integers(1, 86400), link=st.text(min_size=1, max_size=9))
def test_given_an_interval_then_the_next_slot_is_later_and_at_most_one_interval_away(
    moment: Any, seconds: int, link: str
) -> None:
    slot = FireTimes(link, parse_schedule(f"{seconds}s")).after(moment)
    assert slot is not None
    assert moment < slot <= moment + seconds


@given(moment=MOMENTS, seconds=st.integers(1, 86400))
def test_given_an_interval_then_slots_are_one_interval_apart_wherever_one_begins(moment: Any, seconds: int) -> None:
    slots = _slots(f"{seconds}s")
    first = slots.after(moment)
    assert first is not None
    assert slots.after(first) == first + seconds
    assert slots.after(first - 0.5) == first


def test_given_two_daemons_then_a_link_has_the_same_slots_in_both() -> None:
    assert _slots("5m").after(NOON) == _slots("5m").after(NOON)


def test_given_many_links_of_one_interval_then_their_slots_are_spread_over_it() -> None:
    offsets = {_slots("5m", f"link{number}").after(NOON) for number in range(100)}
    assert len(offsets) > 70


@pytest.mark.parametrize(
    ("expression", "after", "expected"),
    [
        ("*/15 * * * *", "2026-11-21 10:00", "2026-11-21 10:15"),
        ("0 3 * * *", "2026-11-21 10:00", "2026-11-22 03:00"),
        ("0 3 * * 0", "2026-11-21 10:00", "2026-11-22 03:00"),
        ("0 0 13 * 5", "2026-11-01 10:00", "2026-11-06 00:00"),
        ("0 0 29 2 *", "2026-11-21 10:00", "2028-02-29 00:00"),
    ],
)
def test_given_a_cron_expression_then_the_next_slot_is_the_one_cron_names(
    expression: str, after: str, expected: str
) -> None:
    slot = _slots(expression).after(datetime.fromisoformat(after).replace(tzinfo=UTC).timestamp())
    assert slot == datetime.fromisoformat(expected).replace(tzinfo=UTC).timestamp()


def test_given_a_time_zone_then_cron_is_read_in_it_and_follows_daylight_saving() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    slots = _slots("0 3 * * *", timezone="Europe/Berlin")
    saturday = slots.after(datetime(2026, 10, 23, 12, tzinfo=UTC).timestamp())
    assert saturday is not None
    sunday = slots.after(saturday)
    assert sunday is not None
    assert [datetime.fromtimestamp(at, berlin).hour for at in (saturday, sunday)] == [3, 3]
    assert sunday - saturday == 25 * 3600


def test_given_a_schedule_then_its_spacing_is_the_distance_of_the_next_two_slots() -> None:
    assert _slots("5m").spacing(NOON) == 300
    assert _slots("0 3 * * *").spacing(NOON) == 86400
