"""What syncd writes into a `deleted` or `touched` column, and what in it means "not deleted", by the column's type."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

_EPOCH_ENDINGS = ("_at", "_on", "_ts", "time", "date", "stamp")
_TIME_LENGTH = 19


class Mark(StrEnum):
    """How a column takes a mark: a time (with or without zone), a day, both as text, seconds since 1970, a yes or 1."""

    TIME = "time"
    ZONED_TIME = "zoned-time"
    DAY = "day"
    TIME_TEXT = "time-text"
    DAY_TEXT = "day-text"
    SECONDS = "seconds"
    YES = "yes"
    ONE = "one"


@dataclass(frozen=True, slots=True)
class Marked:
    """A column that takes a mark. Times are UTC."""

    column: sa.ColumnClause[Any]
    mark: Mark
    nullable: bool

    def value(self, now: float) -> object:
        """Given seconds since the epoch, return what the column gets."""
        moment = datetime.fromtimestamp(now, UTC)
        values: dict[Mark, object] = {
            Mark.TIME: moment.replace(tzinfo=None),
            Mark.ZONED_TIME: moment,
            Mark.DAY: moment.date(),
            Mark.TIME_TEXT: moment.strftime("%Y-%m-%d %H:%M:%S"),
            Mark.DAY_TEXT: moment.strftime("%Y-%m-%d"),
            Mark.SECONDS: int(now),
            Mark.YES: True,
            Mark.ONE: 1,
        }
        return values[self.mark]

    @property
    def unset(self) -> object:
        """What the column holds where the mark is not set."""
        if self.mark is Mark.YES:
            return False
        if self.mark is Mark.ONE:
            return 0
        if self.nullable:
            return None
        return 0 if self.mark is Mark.SECONDS else ""

    def is_unset(self) -> sa.ColumnElement[bool]:
        """Return the condition that the mark is not set."""
        if self.mark is Mark.YES:
            return self.column.is_not(sa.true())
        if self.mark in {Mark.ONE, Mark.SECONDS}:
            return sa.func.coalesce(self.column, 0) == 0
        if self.mark in {Mark.TIME_TEXT, Mark.DAY_TEXT}:
            return sa.func.coalesce(self.column, "") == ""
        return self.column.is_(None)


def mark_for(column: sa.ColumnClause[Any], reflected: sa.types.TypeEngine[Any], *, sqlite: bool) -> Mark | None:
    """Given a column and its reflected type, return how it takes a mark; None where it cannot."""
    mark: Mark | None = None
    if isinstance(reflected, sa.Boolean | mysql.BIT):
        mark = Mark.YES if not sqlite and isinstance(reflected, sa.Boolean) else Mark.ONE
    elif isinstance(reflected, sa.Integer):
        # A flag and a time look alike in an integer column; the name is all there is to tell them by.
        mark = Mark.SECONDS if column.name.lower().endswith(_EPOCH_ENDINGS) else Mark.ONE
    elif isinstance(reflected, sa.DateTime):
        mark = Mark.TIME_TEXT if sqlite else Mark.ZONED_TIME if reflected.timezone else Mark.TIME
    elif isinstance(reflected, sa.Date):
        mark = Mark.DAY_TEXT if sqlite else Mark.DAY
    elif isinstance(reflected, sa.String) and not isinstance(reflected, sa.Enum):
        mark = Mark.TIME_TEXT if (reflected.length or _TIME_LENGTH) >= _TIME_LENGTH else None
    elif sqlite and isinstance(reflected, sa.types.NullType):
        mark = Mark.TIME_TEXT
    return mark
