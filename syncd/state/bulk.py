"""Many rows at once, in the fastest way of each database.

SQLAlchemy's portable way takes four times the CPU of the driver's own, which matters for a million orders.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, TypeVar, cast

from sqlalchemy import Connection, Executable, Table

from syncd.core.records import BindingRow, BindingUpdate
from syncd.db.registry import backend_at_work
from syncd.state.rows import Values, binding_values
from syncd.state.schema import binding

T = TypeVar("T")

CHUNK = 10_000
"""Rows in one transaction, which takes some hundred milliseconds, so that leases are renewed in time between two."""

PARAMETERS = 5_000
"""Values in one IN list; SQLite allows 32,766 parameters, the others more."""

_BINDING = [column.name for column in binding.columns]


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Given items, yield them in lists of at most `size`."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def store_bindings(connection: Connection, link_id: int, updates: Iterable[BindingUpdate]) -> None:
    """Write new values of orders; a row whose values are all None is deleted. Call it once in a transaction.

    Args:
        connection: In a writing transaction.
        link_id: The link's generation.
        updates: The new values; the last of several for one order counts.
    """
    rows = {update.order_id: binding_values(link_id, update) for update in updates}
    kept = [row for row in rows.values() if row[2] is not None or row[4] is not None]
    backend = backend_at_work(connection)
    if kept:
        backend.replace_rows(connection, binding, _BINDING, kept)
    if len(kept) < len(rows):
        gone = [row[:2] for row in rows.values() if row[2] is None and row[4] is None]
        backend.delete_rows(connection, binding, gone)


def insert_rows(connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[Values]) -> None:
    """Insert rows.

    Args:
        connection: In a writing transaction.
        table: Where to.
        columns: The names of the values, in the order of the table.
        rows: One tuple of values for each row.
    """
    if rows:
        backend_at_work(connection).insert_rows(connection, table, columns, rows)


def fetch_bindings(connection: Connection, query: Executable, values: dict[str, Any]) -> list[BindingRow]:
    """Given a query for the columns of `BindingRow`, return its rows.

    They come from the driver's cursor, without a line of Python for each: a million in less than a second.
    """
    result = connection.execute(query, values)
    rows = cast("Any", result).cursor.fetchall()
    result.close()
    make = partial(tuple.__new__, BindingRow)
    return cast("list[BindingRow]", list(map(make, rows)))
