"""Which rows have changed since the last look, by a column that gets a larger value with every write to a row.

The database compares values of the column with each other only, so no clock matters. A row that is committed after a
newer one, or in the same tick of a coarse clock, is still found: each look begins at the newest value of the look
before the last, and leaves out the rows that it has already seen unchanged. Deleted rows, and rows that waited even
longer for their commit, are found by the next pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from syncd.db.backend import Backend
from syncd.table.columns import Columns, normal_id
from syncd.table.marks import constant

MOST_CHANGED: Final = 2000
"""Rows read in one look. If more have changed, a pass compares all orders."""


class ChangedOrders(NamedTuple):
    """The orders whose rows have changed; `many`: there were too many to read."""

    orders: frozenset[int] = frozenset()
    many: bool = False


class WatchedColumn(NamedTuple):
    """The column whose values show what has changed, and the conditions under which the driver can read them."""

    column: sa.ColumnClause[Any]
    readable: Sequence[sa.ColumnElement[bool]] = ()


class ChangedRows:
    """Looks at one table again and again.

    Args:
        columns: The table.
        watched: The column whose values show what has changed.
        backend: The kind of database.
    """

    def __init__(self, columns: Columns, watched: WatchedColumn, backend: Backend) -> None:
        own = [*(column == constant(value) for column, value in columns.rows), *watched.readable]
        own += [] if columns.where is None else [columns.where]
        # As text: the driver may be unable to read a mark's time, too.
        mark = [] if columns.deleted is None else [sa.cast(columns.deleted.column, sa.String)]
        self._newest = sa.select(sa.func.max(watched.column)).select_from(columns.table).where(*own)
        self._rows = sa.select(*columns.read(backend), watched.column, *mark).select_from(columns.table).where(*own)
        self._watched = watched.column
        self._noted = False
        self._since: object = None
        self._last: object = None
        self._crowded: object = None
        self._seen: frozenset[tuple[Any, ...]] = frozenset()

    def look(self, connection: sa.Connection) -> ChangedOrders:
        """Return what has changed since the last look; the first look only notes the newest value."""
        newest = connection.execute(self._newest).scalar()  # before the rows, so that they include it
        if not self._noted:
            self._note(connection, newest)
            return ChangedOrders()
        rows = self._from(connection, self._since)
        if len(rows) > MOST_CHANGED:
            self._note(connection, newest)
            return ChangedOrders(many=True)
        new = [row for row in rows if row not in self._seen]
        self._seen = frozenset(rows)
        self._since, self._last = self._last, newest
        return ChangedOrders(frozenset(order for row in new if (order := normal_id(row[0])) is not None))

    def _note(self, connection: sa.Connection, newest: object) -> None:
        """Begin again at the newest value. If very many rows share it, the following looks leave it out."""
        self._noted, self._since, self._last, self._crowded = True, newest, newest, None
        rows = self._from(connection, newest) if newest is not None else []
        if len(rows) > MOST_CHANGED:
            self._crowded, rows = newest, []
        self._seen = frozenset(rows)

    def _from(self, connection: sa.Connection, since: object) -> Sequence[tuple[Any, ...]]:
        if since is None:
            changed: sa.ColumnElement[bool] = self._watched.is_not(None)
        elif since == self._crowded:
            changed = self._watched > constant(since)
        else:
            changed = self._watched >= constant(since)
        return [tuple(row) for row in connection.execute(self._rows.where(changed).limit(MOST_CHANGED + 1))]
