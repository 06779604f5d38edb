"""Many rows at once, the way each database is fastest at it.

The portable path of SQLAlchemy costs four times the CPU of the driver's own (operations.md 3.3), which counts at a
million orders: tuples through the driver's executemany on SQLite and MySQL, COPY on PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, TypeVar, cast

from sqlalchemy import Connection, Executable, Table, insert, text

from syncd.core.records import BindingRow, BindingUpdate
from syncd.state.rows import Values, binding_values

T = TypeVar("T")

CHUNK = 10_000
"""Rows in one transaction: some hundred milliseconds, so that a lease is renewed in time between two."""

PARAMETERS = 5_000
"""Values in one IN list; SQLite takes 32,766 parameters, the others more."""

_REPLACE = {
    "sqlite": "INSERT OR REPLACE INTO binding (link_id, order_id, crm_type, crm_id, agreed_type, agreed_id)"
    " VALUES (?, ?, ?, ?, ?, ?)",
    "mysql": "REPLACE INTO binding (link_id, order_id, crm_type, crm_id, agreed_type, agreed_id)"
    " VALUES (%s, %s, %s, %s, %s, %s)",
}
_DELETE = {
    "sqlite": "DELETE FROM binding WHERE link_id = ? AND order_id = ?",
    "mysql": "DELETE FROM binding WHERE link_id = %s AND order_id = %s",
}
_STAGE = text(
    "CREATE TEMPORARY TABLE IF NOT EXISTS staged_binding (link_id bigint, order_id bigint,"
    " crm_type bigint, crm_id bigint, agreed_type bigint, agreed_id bigint) ON COMMIT DELETE ROWS"
)
_COPY_STAGED = "COPY staged_binding FROM STDIN"
_UNSTAGE = text(
    "DELETE FROM binding USING staged_binding AS staged"
    " WHERE binding.link_id = staged.link_id AND binding.order_id = staged.order_id"
    " AND staged.crm_type IS NULL AND staged.agreed_type IS NULL"
)
_MERGE = text(
    "INSERT INTO binding (link_id, order_id, crm_type, crm_id, agreed_type, agreed_id)"
    " SELECT link_id, order_id, crm_type, crm_id, agreed_type, agreed_id FROM staged_binding AS staged"
    " WHERE staged.crm_type IS NOT NULL OR staged.agreed_type IS NOT NULL"
    " ON CONFLICT (link_id, order_id) DO UPDATE SET crm_type = excluded.crm_type, crm_id = excluded.crm_id,"
    " agreed_type = excluded.agreed_type, agreed_id = excluded.agreed_id"
)


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Given items, yield them in lists of at most `size`."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def store_bindings(connection: Connection, link_id: int, updates: Iterable[BindingUpdate]) -> None:
    """Write new values of orders; a row whose values are all none is deleted. To be called once in a transaction.

    Args:
        connection: In a writing transaction.
        link_id: The link's generation.
        updates: The new values; the last of several for one order counts.
    """
    rows = {update.order_id: binding_values(link_id, update) for update in updates}
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        connection.execute(_STAGE)
        _copy(connection, _COPY_STAGED, rows.values())
        connection.execute(_UNSTAGE)
        connection.execute(_MERGE)
        return
    kept = [row for row in rows.values() if row[2] is not None or row[4] is not None]
    if kept:
        connection.exec_driver_sql(_REPLACE[connection.dialect.name], kept)
    if len(kept) < len(rows):
        gone = [row[:2] for row in rows.values() if row[2] is None and row[4] is None]
        connection.exec_driver_sql(_DELETE[connection.dialect.name], gone)


def insert_rows(connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[Values]) -> None:
    """Insert rows.

    Args:
        connection: In a writing transaction.
        table: Where to.
        columns: The names of the values, in the order of the table.
        rows: One tuple of values for each row.
    """
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        names = ", ".join(columns)
        _copy(connection, f"COPY {table.name} ({names}) FROM STDIN", rows)
        return
    compiled = insert(table).compile(dialect=connection.dialect, column_keys=list(columns))
    connection.exec_driver_sql(str(compiled), rows)


def fetch_bindings(connection: Connection, query: Executable, values: dict[str, Any]) -> list[BindingRow]:
    """Given a query for the columns of `BindingRow`, return its rows.

    They come from the driver's cursor and become BindingRows without one line of Python for each: a million in under a
    second.
    """
    result = connection.execute(query, values)
    rows = cast("Any", result).cursor.fetchall()
    result.close()
    make = partial(tuple.__new__, BindingRow)
    return cast("list[BindingRow]", list(map(make, rows)))


def _copy(connection: Connection, statement: str, rows: Iterable[Values]) -> None:
    driver = cast("Any", connection.connection.driver_connection)
    with driver.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)
