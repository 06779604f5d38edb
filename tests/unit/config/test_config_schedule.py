"""Durations, intervals and cron expressions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.config.schedule import Cron, Interval, format_duration, parse_duration, parse_schedule


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("5m", 300), ("1h30m", 5400), ("1d", 86400), ("1d2h3m4s", 93784), ("90m", 5400), (" 1h 30m ", 5400)],
)
def test_a_duration_is_read_in_seconds(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", " ", "5", "5x", "m", "-5m", "1.5h", "30m1h", "5m5m", "\u0665m", "every 5m"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="must be a duration with units"):
        parse_duration(text)


def test_a_duration_of_nothing_is_refused():
    with pytest.raises(ValueError, match="longer than nothing"):
        parse_duration("0s")


@given(st.integers(min_value=1, max_value=10**9))
def test_writing_a_duration_and_reading_it_gives_the_same_seconds(seconds):
    assert parse_duration(format_duration(seconds)) == seconds


def test_nothing_is_written_as_zero_seconds():
    assert format_duration(0) == "0s"


def test_an_interval_writes_itself_in_the_shortest_way():
    assert str(parse_schedule("90m")) == "1h30m"


def test_a_text_with_one_field_is_an_interval():
    assert parse_schedule("5m") == Interval(300)


def test_a_text_with_five_fields_is_a_cron_expression():
    cron = parse_schedule(" 0  3 * *   * ")
    assert isinstance(cron, Cron)
    assert str(cron) == "0 3 * * *"
    assert (cron.minutes, cron.hours) == ((0,), (3,))


@pytest.mark.parametrize(
    ("field", "minutes"),
    [("*/20", (0, 20, 40)), ("5-9", (5, 6, 7, 8, 9)), ("5-9/2", (5, 7, 9)), ("7,3,7", (3, 7)), ("0-5/10,59", (0, 59))],
)
def test_a_cron_field_lists_steps_and_ranges(field, minutes):
    assert parse_schedule(f"{field} * * * *").minutes == minutes


@pytest.mark.parametrize(
    ("field", "weekdays"),
    [
        ("0", (0,)),
        ("7", (0,)),
        ("sun", (0,)),
        ("1-5", (1, 2, 3, 4, 5)),
        ("Mon-Fri", (1, 2, 3, 4, 5)),
        ("5-7", (0, 5, 6)),
        ("*", (0, 1, 2, 3, 4, 5, 6)),
        ("*/2", (0, 2, 4, 6)),
    ],
)
def test_weekday_0_and_7_are_sunday(field, weekdays):
    assert parse_schedule(f"0 0 * * {field}").weekdays == weekdays


def test_months_may_be_named():
    assert parse_schedule("0 0 1 jan,Dec *").months == (1, 12)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("60 * * * *", "the minute field must name numbers from 0 to 59"),
        ("* 24 * * *", "the hour field must name numbers from 0 to 23"),
        ("* * 0 * *", "the day-of-month field must name numbers from 1 to 31"),
        ("* * * 13 *", "the month field must name numbers from 1 to 12 or jan to dec"),
        ("* * * * 8", "the day-of-week field must name numbers from 0 to 7 or sun to sat"),
        ("5/2 * * * *", "the minute field has a step without a range"),
        ("*/0 * * * *", "the minute field has a step that is not a positive whole number"),
        ("9-5 * * * *", "the minute field has a range that ends before it begins"),
        ("0 0 31 2,4 *", "names a day that none of its months has"),
        ("every five minutes", "must be an interval such as"),
        ("* * * * * *", "must be an interval such as"),
    ],
)
def test_what_is_no_schedule_is_refused_with_the_field(text, sentence):
    with pytest.raises(ValueError, match=sentence):
        parse_schedule(text)


def test_a_day_no_month_has_is_fine_where_a_weekday_would_do():
    assert parse_schedule("0 0 31 2 mon").either_day


def _fires(expression: str, days: int = 15) -> list[str]:
    """What APScheduler makes of a cron expression: the first firings from a Monday on."""
    from apscheduler.triggers.combining import OrTrigger
    from apscheduler.triggers.cron import CronTrigger

    trigger = OrTrigger([CronTrigger(**fields, timezone=UTC) for fields in parse_schedule(expression).triggers()])
    moment, end = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=days)
    fired = []
    previous = None
    while (moment := trigger.get_next_fire_time(previous, moment)) < end:
        fired.append(f"{moment:%a %d %H:%M}")
        previous, moment = moment, moment + timedelta(seconds=1)
    return fired


def test_given_to_apscheduler_a_weekday_number_means_what_cron_means():
    assert _fires("30 2 * * 0") == ["Sun 07 02:30", "Sun 14 02:30"]


def test_given_to_apscheduler_either_restricted_day_fires():
    assert _fires("0 0 3 * 1") == ["Mon 01 00:00", "Wed 03 00:00", "Mon 08 00:00", "Mon 15 00:00"]


def test_given_to_apscheduler_a_starred_day_does_not_widen_the_other():
    assert _fires("0 0 */2 * 1") == ["Mon 01 00:00", "Mon 15 00:00"]


def test_given_to_apscheduler_every_field_counts():
    assert _fires("5,35 8-9 2 jan *") == ["Tue 02 08:05", "Tue 02 08:35", "Tue 02 09:05", "Tue 02 09:35"]
