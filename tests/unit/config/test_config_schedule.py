"""Durations, intervals and cron expressions."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.config.schedule import Cron, Interval, format_duration, parse_duration, parse_schedule


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("5m", 300), ("1h30m", 5400), ("1d", 86400), ("1d2h3m4s", 93784), ("90m", 5400), (" 1h 30m ", 5400)],
)
def test_a_duration_is_read_in_seconds(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", " ", "5", "5x", "m", "-5m", "1.5h", "30m1h", "5m5m", "\u0665m", "every 5m"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be a duration with units"):
        parse_duration(text)


def test_a_duration_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="longer than 0 seconds"):
        parse_duration("0s")


@given(st.integers(min_value=1, max_value=10**9))
def test_writing_a_duration_and_reading_it_gives_the_same_seconds(seconds: Any) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


def test_nothing_is_written_as_zero_seconds() -> None:
    assert format_duration(0) == "0s"


def test_an_interval_writes_itself_in_the_shortest_way() -> None:
    assert str(parse_schedule("90m")) == "1h30m"


def test_a_text_with_one_field_is_an_interval() -> None:
    assert parse_schedule("5m") == Interval(300)


def test_a_text_with_five_fields_is_a_cron_expression() -> None:
    assert parse_schedule(" 0  3 * *   * ") == Cron("0 3 * * *")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("60 * * * *", "the minute field must be [*] or numbers from 0 to 59, written like"),
        ("* 24 * * *", "the hour field must be [*] or numbers from 0 to 23"),
        ("* * 0 * *", "the day-of-month field must be [*] or numbers from 1 to 31"),
        ("* * * 13 *", "the month field must be [*] or numbers from 1 to 12 or jan to dec"),
        ("* * * * 8", "the day-of-week field must be [*] or numbers from 0 to 7 or sun to sat"),
        ("*/0 * * * *", "the minute field must be .* written like"),
        ("9-5 * * * *", "the minute field must be"),
        ("0 0 31 2,4 *", "names a day that none of its months has"),
        ("every five minutes", "must be an interval such as"),
        ("* * * * * *", "must be an interval such as"),
    ],
)
def test_what_is_no_schedule_is_refused_with_the_field(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        parse_schedule(text)


def _fires(expression: str, days: int = 15) -> list[str]:
    """The first firings of a cron expression, from a Monday on."""
    first = datetime(2024, 1, 1, tzinfo=UTC).timestamp()
    cron, fired = parse_schedule(expression), []
    assert isinstance(cron, Cron)
    at = cron.after(first - 1, UTC)
    while at is not None and at < first + days * 86400:
        fired.append(f"{datetime.fromtimestamp(at, UTC):%a %d %H:%M}")
        at = cron.after(at, UTC)
    return fired


@pytest.mark.parametrize("sunday", ["0", "7", "sun", "Sun"])
def test_weekday_0_and_7_are_sunday(sunday: str) -> None:
    assert _fires(f"30 2 * * {sunday}") == ["Sun 07 02:30", "Sun 14 02:30"]


def test_a_range_of_weekdays_may_end_with_sunday() -> None:
    assert _fires("0 0 * * 6-7") == ["Sat 06 00:00", "Sun 07 00:00", "Sat 13 00:00", "Sun 14 00:00"]


def test_where_both_days_are_restricted_either_fires() -> None:
    assert _fires("0 0 3 * 1") == ["Mon 01 00:00", "Wed 03 00:00", "Mon 08 00:00", "Mon 15 00:00"]


def test_a_starred_day_does_not_widen_the_other() -> None:
    assert _fires("0 0 */2 * 1") == ["Mon 01 00:00", "Mon 15 00:00"]


def test_every_field_counts() -> None:
    assert _fires("5,35 8-9 2 jan *") == ["Tue 02 08:05", "Tue 02 08:35", "Tue 02 09:05", "Tue 02 09:35"]


def test_steps_count_within_their_range() -> None:
    assert _fires("5-9/2 0 1 1 *") == ["Mon 01 00:05", "Mon 01 00:07", "Mon 01 00:09"]


def test_a_day_no_month_has_is_fine_where_a_weekday_would_do() -> None:
    assert _fires("0 0 31 1 mon", days=8) == ["Mon 01 00:00", "Mon 08 00:00"]


def test_the_next_time_is_later_to_the_fraction_of_a_second() -> None:
    cron, noon = Cron("0 12 * * *"), datetime(2024, 1, 1, 12, tzinfo=UTC).timestamp()
    assert [cron.after(noon + late, UTC) for late in (-0.5, 0, 0.5)] == [noon, noon + 86400, noon + 86400]


def test_an_hour_that_is_repeated_runs_once_and_never_in_the_past() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    moment = datetime(2026, 10, 25, 2, 15, tzinfo=berlin, fold=1).timestamp()
    first = datetime(2026, 10, 25, 2, 30, tzinfo=berlin).timestamp()
    assert Cron("30 2 * * *").after(first - 60, berlin) == first
    assert Cron("30 2 * * *").after(moment, berlin) == datetime(2026, 10, 26, 2, 30, tzinfo=berlin).timestamp()


def test_an_hour_that_is_skipped_runs_right_after_it() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    before = datetime(2026, 3, 28, 12, tzinfo=berlin).timestamp()
    assert Cron("30 2 * * *").after(before, berlin) == datetime(2026, 3, 29, 3, 0, tzinfo=berlin).timestamp()
