"""Reading single orders, and telling what their rows come to. The snapshot and this module use the same words."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import sqlalchemy as sa

from syncd.core.model import MaybeOwner
from syncd.core.ports import TableValue
from syncd.table.columns import IDS, Columns, IdColumn
from syncd.table.dialect import Dialect
from syncd.table.ids import normal_id

CHUNK = 500
"""How many orders are asked for in one statement."""

T = TypeVar("T")


class Stored(NamedTuple):
    """A row as it stands: its cells as read, its owner if they name one, whether it is live, whether it is syncd's."""

    cells: tuple[Any, ...]
    owner: MaybeOwner
    says: str
    live: bool
    selected: bool


def parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Given a sequence, yield it in slices of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def stored(
    connection: sa.Connection,
    dialect: Dialect,
    columns: Columns,
    ids: Sequence[int],
    cells: Collection[object] | None = None,
) -> dict[int, list[Stored]]:
    """Given order ids, return every row of theirs, softly deleted ones and ones `where` does not select included.

    Where the column holds numbers, an index on it is used. Where it holds text, an id may be written in several ways
    (`' 5'`, `'005'`, `'5.0'`), so the whole column is read; orders that were just written are found by their cells.

    Args:
        connection: Within a transaction.
        dialect: How to speak to this database.
        columns: The table.
        ids: The orders.
        cells: Where only rows are of interest whose order id is written as usual or like one of these cells.
    """
    found: dict[int, list[Stored]] = {}
    column = columns.order_id.column
    for some in parts(sorted(set(ids)), CHUNK):
        # A row is looked for by one statement only, and a statement tells of its own orders only: told twice, one row
        # would look like two.
        if columns.order_id.textual and cells is None:
            statement, values = columns.some.where(dialect.digits_match(column, IDS)), dialect.digits(some)
        else:
            forms = (
                form for order_id in some for form in dialect.forms(order_id, numeric=not columns.order_id.textual)
            )
            statement, values = columns.by_id, [*{*forms, *(cells or ())}]
        _collect(found, set(some), columns, connection.execute(statement, {"ids": values}))
    return found


def _collect(found: dict[int, list[Stored]], wanted: set[int], columns: Columns, rows: Iterable[Any]) -> None:
    for row in rows:
        *cells, live, selected = row
        order_id = normal_id(cells[0])
        if order_id is None or order_id not in wanted:
            continue
        kind = cells[1] if isinstance(columns.owner_type, IdColumn) else columns.owner_type
        owner, says = columns.owner(kind, cells[-1]), columns.says(kind, cells[-1])
        found.setdefault(order_id, []).append(Stored(tuple(cells), owner, says, bool(live), bool(selected)))


def mine(rows: Sequence[Stored]) -> list[Stored]:
    """Given the rows of one order, return the live ones `where` selects: those syncd works with."""
    return [row for row in rows if row.live and row.selected]


def value(columns: Columns, rows: Sequence[Stored]) -> TableValue | None:
    """Given the rows of one order, return what the table says of it; None if there is no live row.

    Rows that `where` selects are all that counts, as in the snapshot; only without any, the others are told of.
    """
    live = mine(rows) or [row for row in rows if row.live]
    if not live:
        return None
    selected = live[0].selected
    if len(live) == 1 and live[0].owner is not None:
        return TableValue(live[0].owner, selected)
    return TableValue(None, selected, columns.unreadable(row.says for row in live))
