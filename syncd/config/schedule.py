"""Durations, intervals and cron expressions: parsed once, when the configuration is read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
_DURATION = re.compile(r"(?:(\d{1,5})d)?\s*(?:(\d{1,6})h)?\s*(?:(\d{1,7})m)?\s*(?:(\d{1,9})s)?", re.ASCII)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_LONGEST_MONTHS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


class _Field(NamedTuple):
    """One field of a cron expression: what it is called, its range, and the names that stand for numbers."""

    name: str
    first: int
    last: int
    names: tuple[str, ...] = ()


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day-of-month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day-of-week", 0, 7, _WEEKDAYS),  # 0 and 7 are both Sunday
)


@dataclass(frozen=True, slots=True)
class Interval:
    """A pass every so many seconds."""

    seconds: int

    def __str__(self) -> str:
        return format_duration(self.seconds)


@dataclass(frozen=True, slots=True)
class Cron:
    """A pass at each minute a cron expression names, read as cron(8) does.

    0 and 7 are Sunday, and where both the day of the month and the day of the week are restricted, either is enough.

    Args:
        expression: As written, with single spaces.
        minutes, hours, days, months: The values each field names, ascending.
        weekdays: Likewise; 0 is Sunday, 6 Saturday.
        either_day: Both day fields are restricted.
    """

    expression: str
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...]
    months: tuple[int, ...]
    weekdays: tuple[int, ...]
    either_day: bool

    def __str__(self) -> str:
        return self.expression

    def triggers(self) -> tuple[dict[str, str], ...]:
        """Return keyword arguments for APScheduler's `CronTrigger`: one set, or two of which either may fire.

        `CronTrigger.from_crontab` cannot be used: it takes weekday 0 for Monday and asks for both days where cron asks
        for either. Weekdays are therefore passed by name.
        """
        common = {"minute": _listed(self.minutes), "hour": _listed(self.hours), "month": _listed(self.months)}
        day = {"day": _listed(self.days)}
        weekday = {"day_of_week": ",".join(_WEEKDAYS[number] for number in self.weekdays)}
        if self.either_day:
            return (common | day, common | weekday)
        return (common | day | weekday,)


Schedule: TypeAlias = Interval | Cron


def parse_duration(text: str) -> int:
    """Given a duration such as `30s`, `5m`, `1h30m` or `1d`, return its seconds.

    Raises:
        ValueError: It is not one, or it is zero. The sentence does not repeat the text.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None or not any(match.groups()):
        raise ValueError("must be a duration with units, such as 30s, 5m, 1h30m or 1d")
    seconds = sum(int(digits) * unit for digits, (_, unit) in zip(match.groups(), _UNITS, strict=True) if digits)
    if seconds == 0:
        raise ValueError("must be longer than nothing")
    return seconds


def format_duration(seconds: int) -> str:
    """Given seconds, return the shortest way to write them: 5400 is `1h30m`."""
    parts = []
    for letter, unit in _UNITS:
        count, seconds = divmod(seconds, unit)
        if count:
            parts.append(f"{count}{letter}")
    return "".join(parts) or "0s"


def parse_schedule(text: str) -> Schedule:
    """Given an interval or a cron expression of five fields, return the schedule.

    Raises:
        ValueError: It is neither, or names no moment at all. The sentence does not repeat the text.
    """
    fields = text.split()
    if len(fields) == len(_FIELDS):
        return _parse_cron(fields)
    try:
        return Interval(parse_duration(text))
    except ValueError:
        raise ValueError(
            "must be an interval such as 30s, 5m, 1h30m or 1d, or a cron expression of five fields such as '0 3 * * *'"
        ) from None


def _parse_cron(texts: list[str]) -> Cron:
    minutes, hours, days, months, weekdays = (
        _parse_field(field, text) for field, text in zip(_FIELDS, texts, strict=True)
    )
    # Vixie cron: a field that begins with a star does not restrict, even `*/2`.
    either_day = not texts[2].startswith("*") and not texts[4].startswith("*")
    if not either_day and not any(days[0] <= _LONGEST_MONTHS[month - 1] for month in months):
        raise ValueError("names a day that none of its months has, so it would never run")
    return Cron(" ".join(texts), minutes, hours, days, months, tuple(sorted({day % 7 for day in weekdays})), either_day)


def _parse_field(field: _Field, text: str) -> tuple[int, ...]:
    values: set[int] = set()
    for part in text.split(","):
        span, slash, step_text = part.partition("/")
        if slash and not (step_text.isascii() and step_text.isdigit() and int(step_text) > 0):
            raise ValueError(f"the {field.name} field has a step that is not a positive whole number")
        if span == "*":
            first, last = field.first, field.last
        else:
            low, dash, high = span.partition("-")
            if slash and not dash:
                raise ValueError(f"the {field.name} field has a step without a range; write a-b/n or */n")
            first = _number(field, low)
            last = _number(field, high) if dash else first
            if last < first:
                raise ValueError(f"the {field.name} field has a range that ends before it begins")
        values.update(range(first, last + 1, int(step_text) if slash else 1))
    return tuple(sorted(values))


def _number(field: _Field, text: str) -> int:
    if text.isascii() and text.isdigit():
        number = int(text)
        if field.first <= number <= field.last:
            return number
    elif text.lower() in field.names:
        return field.names.index(text.lower()) + (1 if field.names is _MONTHS else 0)
    named = f" or {field.names[0]} to {field.names[-1]}" if field.names else ""
    raise ValueError(f"the {field.name} field must name numbers from {field.first} to {field.last}{named}")


def _listed(values: tuple[int, ...]) -> str:
    return ",".join(map(str, values))
