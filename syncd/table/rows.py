"""Reading single orders, and what their rows mean. Unreadable rows are described in the same words as in a snapshot."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import sqlalchemy as sa

from syncd.core.model import MaybeOwner
from syncd.core.ports import TableValue
from syncd.db.backend import Backend
from syncd.table.columns import Columns, IdColumn, OrderKeyColumn, normal_id
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
                by_digits = self._statements.select_by_digits, self._backend.digits(some)
                self._select(connection, some, by_digits, found, lock=lock)
        return found

    def _usual(self, ids: Sequence[int]) -> set[object]:
        """Return the cells that usually hold these ids."""
        order_id = self._columns.order_id
        if isinstance(order_id, OrderKeyColumn):
            return {*order_id.search(ids)}
        forms = {form for one in ids for form in self._backend.forms(one, numeric=not order_id.textual)}
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
    cells = [cell for cell in connection.execute(statements.select_padded).scalars() if normal_id(cell) is not None]
    if not cells or connection.execute(statements.select_shorter(len(cells[0].strip()))).first() is not None:
        return []
    return cells
