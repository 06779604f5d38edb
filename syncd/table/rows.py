"""Reading single rows: those of given orders, and those that have changed since the last look.

Unreadable rows are described in the same words as in a snapshot.

What has changed is found by a column that gets a larger value with every write to a row. The database compares values
of the column with each other only, so no clock matters. A row that is committed after a newer one, or in the same tick
of a coarse clock, is still found: each look begins at the newest value of the look before the last, and leaves out the
rows that it has already seen unchanged. Deleted rows, and rows that waited even longer for their commit, are found by
the next pass.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import sqlalchemy as sa

from syncd.core.model import MaybeOwner
from syncd.core.ports import TableValue
from syncd.db.backend import Backend
from syncd.table.columns import Columns, IdColumn, OrderKeyColumn, parse_id
from syncd.table.marks import constant
from syncd.table.statements import Statements

CHUNK = 500
"""How many orders are asked for in one statement."""

SCANNED = 5_000
"""How many of them if the statement reads the whole column."""

T = TypeVar("T")


class TableRow(NamedTuple):
    """A row: its cells as read, its owner if they name one, whether it is live, and whether `where` selects it."""

    cells: tuple[Any, ...]
    owner: MaybeOwner
    describe: str
    live: bool
    selected: bool


def parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Given a sequence, yield it in slices of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


class RowReader:
    """Looks orders up by their ids.

    Args:
        columns: The table.
        statements: Its statements.
        backend: Its kind of database.
    """

    def __init__(self, columns: Columns, statements: Statements, backend: Backend) -> None:
        self._columns = columns
        self._statements = statements
        self._backend = backend

    def fetch(
        self,
        connection: sa.Connection,
        ids: Sequence[int],
        cells: Collection[object] | None = None,
        *,
        lock: bool = False,
    ) -> dict[int, list[TableRow]]:
        """Given order ids, return all of their rows in the partition, including softly deleted and unselected ones.

        An index on the column is used. But a column of texts may hold an id in several forms (`' 5'`, `'005'`,
        `'5.0'`), so the whole column is read: for all orders if the last reading found such forms, else for those
        without a row in the usual form. Each statement then takes a second for a million rows.

        Args:
            connection: Within a transaction.
            ids: The orders.
            cells: Given, only rows whose order id has the usual form or is one of these cells are read.
            lock: Wait for rows that other sessions are writing.
        """
        found: dict[int, list[TableRow]] = {}
        order_id = self._columns.order_id
        wanted = sorted(set(ids))
        scanned = isinstance(order_id, IdColumn) and order_id.textual and cells is None
        if not (scanned and order_id.odd):
            for some in parts(wanted, CHUNK):
                usual = [*self._usual(some), *(cells or ())]
                self._select(connection, some, (self._statements.select_by_id, usual), found, lock=lock)
        if scanned:
            for some in parts([one for one in wanted if one not in found], SCANNED):
                by_digits = self._statements.select_any_form, self._backend.ids_to_match(some)
                self._select(connection, some, by_digits, found, lock=lock)
        return found

    def _usual(self, ids: Sequence[int]) -> set[object]:
        """Return the cells that usually hold these ids."""
        order_id = self._columns.order_id
        if isinstance(order_id, OrderKeyColumn):
            return {*order_id.search(ids)}
        forms = {form for one in ids for form in self._backend.usual_cells(one, numeric=not order_id.textual)}
        return forms | ({order_id.cell(one) for one in ids} if order_id.width else set())

    def _select(
        self,
        connection: sa.Connection,
        ids: Sequence[int],
        query: tuple[sa.Select[Any], Sequence[object]],
        found: dict[int, list[TableRow]],
        *,
        lock: bool,
    ) -> None:
        # A statement reports only the orders it asked for; otherwise one row could be counted twice.
        statement, values = query
        if lock:
            statement = statement.with_for_update(read=True)
        self._collect(found, set(ids), connection.execute(statement, {"ids": values}))

    def _collect(self, found: dict[int, list[TableRow]], wanted: set[int], rows: Iterable[Any]) -> None:
        columns = self._columns
        for row in rows:
            *cells, live, selected = row
            order_id = columns.order_id.id_of(cells[0])
            if order_id is None or order_id not in wanted:
                continue
            if isinstance(columns.order_id, OrderKeyColumn) and columns.order_id.pads:
                cells[0] = columns.order_id.cell(order_id)
            kind = cells[1] if isinstance(columns.owner_type, IdColumn) else columns.owner_type
            owner, describe = columns.owner(kind, cells[-1]), columns.describe(kind, cells[-1])
            found.setdefault(order_id, []).append(TableRow(tuple(cells), owner, describe, bool(live), bool(selected)))


def active_rows(rows: Sequence[TableRow]) -> list[TableRow]:
    """Given the rows of one order, return the live ones that `where` selects: those that syncd works with."""
    return [row for row in rows if row.live and row.selected]


def value(columns: Columns, rows: Sequence[TableRow]) -> TableValue | None:
    """Given the rows of one order, return what the table holds for it; None if no row counts.

    Rows that `where` selects count alone, as in a snapshot. Other live rows count only if it selects no live one.
    Softly deleted rows count only if there is no live row and `where` selects one of them.
    """
    live = active_rows(rows) or [row for row in rows if row.live]
    if not live:
        return TableValue(None, deleted=True) if any(row.selected for row in rows) else None
    selected = live[0].selected
    if len(live) == 1 and live[0].owner is not None:
        return TableValue(live[0].owner, selected)
    return TableValue(None, selected, columns.unreadable(row.describe for row in live))


def padded_cells(connection: sa.Connection, columns: Columns, backend: Backend) -> list[str]:
    """Return some order ids that are padded with zeros in a column of texts, if the configuration gives no width.

    A padded column holds no shorter ids. If it does, the padded ones are exceptions, and syncd can write ids unpadded.
    """
    order_id = columns.order_id
    if isinstance(order_id, OrderKeyColumn) or not order_id.textual or order_id.width is not None:
        return []
    statements = Statements(columns, backend)
    cells = [cell for cell in connection.execute(statements.select_padded).scalars() if parse_id(cell) is not None]
    if not cells or connection.execute(statements.select_shorter(len(cells[0].strip()))).first() is not None:
        return []
    return cells


# ------------------------------------------------------- rows that have changed

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

    def read(self, connection: sa.Connection) -> ChangedOrders:
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
        return ChangedOrders(frozenset(order for row in new if (order := parse_id(row[0])) is not None))

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
