"""Columns for marks: how the database's own time is written into them, and which values mean "not deleted".

Times are the database's CURRENT_TIMESTAMP, in the time zone of its session: the one that its own defaults, triggers and
reports use.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from syncd.db.backend import Backend

_EPOCH_ENDINGS = ("_at", "_on", "_ts", "time", "date", "stamp", "_to", "until")
_TIME_LENGTH = 19


class ColumnEncoding(StrEnum):
    """How a mark is written: as a time or a day, as either in text, as seconds since 1970, as true, or as 1."""

    TIME = "time"
    DAY = "day"
    TIME_TEXT = "time-text"
    DAY_TEXT = "day-text"
    SECONDS = "seconds"
    YES = "yes"
    ONE = "one"


_TIMES = frozenset({ColumnEncoding.TIME, ColumnEncoding.DAY})
_TEXTS = frozenset({ColumnEncoding.TIME_TEXT, ColumnEncoding.DAY_TEXT})


@dataclass(frozen=True, slots=True)
class EncodedColumn:
    """A column for marks; precision is the number of digits of a second that it keeps, if that is known."""

    column: sa.ColumnClause[Any]
    encoding: ColumnEncoding
    nullable: bool
    precision: int | None = None

    def set_value(self, backend: Backend) -> sa.ColumnElement[Any]:
        """Return the value that sets the mark, as SQL."""
        values: dict[ColumnEncoding, Callable[[], sa.ColumnElement[Any]]] = {
            ColumnEncoding.TIME: lambda: backend.time_now(self.precision),
            ColumnEncoding.DAY: sa.func.current_date,
            ColumnEncoding.TIME_TEXT: backend.text_now,
            ColumnEncoding.DAY_TEXT: sa.func.current_date,
            ColumnEncoding.SECONDS: backend.seconds_now,
            ColumnEncoding.YES: sa.true,
            ColumnEncoding.ONE: lambda: constant(1),
        }
        return values[self.encoding]()

    def unset_value(self, backend: Backend) -> sa.ColumnElement[Any] | None:
        """Return the value that unsets the mark, as SQL; None if the column has no such value."""
        if self.encoding is ColumnEncoding.YES:
            return sa.false()
        if self.encoding is ColumnEncoding.ONE:
            return constant(0)
        if self.nullable:
            return sa.null()
        if self.encoding is ColumnEncoding.SECONDS:
            return constant(0)
        if self.encoding in _TEXTS:
            return constant("")
        zero = "0000-00-00 00:00:00"[: 19 if self.encoding is ColumnEncoding.TIME else 10]
        return constant(zero) if backend.zero_dates else None

    def is_unset(self, backend: Backend) -> sa.ColumnElement[bool]:
        """Return the condition that the mark is not set."""
        if self.encoding is ColumnEncoding.YES:
            return self.column.is_not(sa.true())
        if self.encoding in {ColumnEncoding.ONE, ColumnEncoding.SECONDS}:
            return sa.func.coalesce(self.column, 0) == 0
        if self.encoding in _TEXTS:
            return sa.func.coalesce(self.column, "") == ""
        # As a number: a server that forbids zero dates would refuse one as a text, too.
        zero = [self.column == constant(0)] if backend.zero_dates else []
        return sa.or_(self.column.is_(None), *zero)


@dataclass(frozen=True, slots=True)
class SoftDelete:
    """A soft delete mark: the column, the values of a deleted and of a live row, and the condition of a live one."""

    column: sa.ColumnClause[Any]
    set: sa.ColumnElement[Any]
    unset: sa.ColumnElement[Any]
    is_live: sa.ColumnElement[bool]


def constant(value: object) -> sa.BindParameter[Any]:
    """Given a value from the configuration, return it as SQL without a type: the database takes the column's."""
    return sa.bindparam(None, value, type_=sa.types.NullType(), unique=True)


def configured_mark(column: sa.ColumnClause[Any], set_value: object, unset_value: object) -> SoftDelete:
    """Return the mark of a column for which the configuration gives both values.

    A row with any other value is live, since no other value means a removal.
    """
    deleted, unset = constant(set_value), constant(unset_value)
    is_other = column != deleted
    # The last condition adds no row: it makes the database refuse now a value that it could not write later.
    is_live = sa.or_(column.is_(None), is_other, sa.and_(is_other, column == unset))
    return SoftDelete(column, deleted, unset, is_live)


def mark_by_type(encoded: EncodedColumn, backend: Backend, unset_value: object | None) -> SoftDelete | None:
    """Return the mark of a column whose type determines how it is set; None if it cannot be unset.

    Args:
        encoded: The column.
        backend: The kind of database.
        unset_value: One more value that means "not set", which syncd writes; None if only the type's own does.
    """
    live, unset = encoded.is_unset(backend), encoded.unset_value(backend)
    if unset_value is not None:
        live, unset = sa.or_(live, encoded.column == constant(unset_value)), constant(unset_value)
    return None if unset is None else SoftDelete(encoded.column, encoded.set_value(backend), unset, live)


def encoding_for(
    column: sa.ColumnClause[Any], reflected: sa.types.TypeEngine[Any], backend: Backend
) -> ColumnEncoding | None:
    """Given a column and its plain type, return how a mark is written into it; None if none can be."""
    encoding: ColumnEncoding | None = None
    if isinstance(reflected, sa.Boolean):
        encoding = ColumnEncoding.YES if backend.has_booleans else ColumnEncoding.ONE
    elif isinstance(reflected, sa.Integer):
        # An integer column may hold a flag or a time; only its name tells which.
        encoding = ColumnEncoding.SECONDS if column.name.lower().endswith(_EPOCH_ENDINGS) else ColumnEncoding.ONE
    elif isinstance(reflected, sa.DateTime):
        encoding = ColumnEncoding.TIME if backend.has_times else ColumnEncoding.TIME_TEXT
    elif isinstance(reflected, sa.Date):
        encoding = ColumnEncoding.DAY if backend.has_times else ColumnEncoding.DAY_TEXT
    elif isinstance(reflected, sa.String) and not isinstance(reflected, sa.Enum):
        long_enough = (reflected.length or _TIME_LENGTH) >= _TIME_LENGTH
        encoding = ColumnEncoding.TIME_TEXT if long_enough else None
    elif not backend.has_times and isinstance(reflected, sa.types.NullType):
        encoding = ColumnEncoding.TIME_TEXT
    return encoding


def keeps_times(encoding: ColumnEncoding) -> bool:
    """Return whether a column with this encoding holds a time or a day rather than a number or a text."""
    return encoding in _TIMES
