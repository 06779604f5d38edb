"""Durations, intervals and cron expressions, parsed when the configuration is read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import TypeAlias

from cronsim import CronSim, CronSimError

_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
_DURATION = re.compile(r"(?:(\d{1,5})d)?\s*(?:(\d{1,6})h)?\s*(?:(\d{1,7})m)?\s*(?:(\d{1,9})s)?", re.ASCII)
_CRON_FIELDS = {
    "minute": "0 to 59",
    "hour": "0 to 23",
    "day-of-month": "1 to 31",
    "month": "1 to 12 or jan to dec",
    "day-of-week": "0 to 7 or sun to sat",
}
"""The fields of a cron expression, by their names in cronsim's errors, with their values; 0 and 7 are Sunday."""
_ANY_TIME = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Interval:
    """A pass every so many seconds."""

    seconds: int

    def __str__(self) -> str:
        return format_duration(self.seconds)


@dataclass(frozen=True, slots=True)
class Cron:
    """A pass at each minute that a cron expression names, by the rules of cron(8).

    Args:
        expression: As written, with single spaces.
    """

    expression: str

    def __str__(self) -> str:
        return self.expression

    def after(self, moment: float, zone: tzinfo) -> float | None:
        """Given a moment and a time zone, return the first time later than it that the expression names in the zone.

        Moments are seconds since the epoch. None if there is no such time within 50 years.
        """
        times = CronSim(self.expression, datetime.fromtimestamp(moment // 1, zone))
        # Of an hour that is repeated when the clock is set back, cronsim names the first one, which may be in the past.
        return next((at for at in (time.timestamp() for time in times) if at > moment), None)


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
        raise ValueError("must be longer than 0 seconds")
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
    if len(fields) == len(_CRON_FIELDS):
        return _parse_cron(fields)
    try:
        return Interval(parse_duration(text))
    except ValueError:
        raise ValueError(
            "must be an interval such as 30s, 5m, 1h30m or 1d, or a cron expression of five fields such as '0 3 * * *'"
        ) from None


def _parse_cron(fields: list[str]) -> Cron:
    problem = _cron_problem(" ".join(fields))
    if not problem:
        return Cron(" ".join(fields))
    name = problem.removeprefix("Bad ")
    if name == "day-of-month" and not _cron_problem(f"* * {fields[2]} * *"):
        raise ValueError("names a day that none of its months has, so it would never run")
    raise ValueError(
        f"the {name} field must be * or numbers from {_CRON_FIELDS[name]}, written like 5, 1-5, 1,3 or */2"
    )


def _cron_problem(expression: str) -> str:
    """Return why cronsim refuses an expression, as `Bad` and the name of a field; empty if it does not."""
    try:
        CronSim(expression, _ANY_TIME)
    except CronSimError as error:
        return str(error)
    return ""
