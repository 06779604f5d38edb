"""SQLite as the home of a mapping table."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.pool import NullPool

from syncd.errors import UnavailableError
from syncd.table import dialect

_IMMEDIATE = "syncd_immediate"


class SQLite(dialect.Dialect):
    """A file. Opened anew for each transaction: one that was replaced by a copy must not live on under our hands."""

    kind = "sqlite"
    driver = "sqlite"
    folds_case = True

    @contextmanager
    def snapshot(self) -> Iterator[sa.Connection]:
        """Read within BEGIN: the first read fixes what the following ones see."""
        with self.engine.connect() as connection:
            connection.begin()
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Take the write lock first: nobody else writes between our reads and our writes."""
        with self.engine.connect().execution_options(**{_IMMEDIATE: True}) as connection:
            connection.begin()
            yield connection

    def digits_match(self, column: sa.ColumnClause[Any], parameter: sa.BindParameter[Any]) -> sa.ColumnElement[bool]:
        """SQLite's CAST takes the longest prefix that is a number."""
        return sa.cast(column, sa.Integer).in_(parameter)

    def forms(self, order_id: int, *, numeric: bool) -> tuple[object, ...]:
        """Any cell may hold any type, whatever its column's."""
        del numeric
        text = str(order_id)
        return (order_id, text, text.encode())

    def id_cell(self, reflected: sa.types.TypeEngine[Any]) -> type[int | str | bytes] | None:
        """A column may have no type at all, or BLOB."""
        if isinstance(reflected, sa.types.NullType):
            return int
        return bytes if isinstance(reflected, sa.LargeBinary) else super().id_cell(reflected)

    def cell(self, value: object) -> object:
        """SQLite knows no times; texts stand for them."""
        if isinstance(value, datetime):
            return value.isoformat(" ")
        return value.isoformat() if isinstance(value, date | time) else value

    def _engine(self, url: sa.URL) -> sa.Engine:
        path = Path(url.database or "")

        def connect() -> sqlite3.Connection:
            if not path.is_file():
                raise UnavailableError(
                    f"The mapping table's database does not exist: there is no file {path}. Nothing was written.",
                    hint="syncd makes no database of its own; point the link's table at the right file.",
                )
            connection = sqlite3.connect(
                f"file:{quote(str(path))}?mode=rw",
                uri=True,
                timeout=dialect.LOCK_SECONDS,
                isolation_level=None,
                check_same_thread=False,
            )
            # What is no UTF-8 is a cell that cannot be read, not a table that cannot be read.
            connection.text_factory = _text
            try:
                # The owner of the table declared its constraints; leaving them off would let syncd break them.
                connection.execute("PRAGMA foreign_keys = ON")
            except sqlite3.Error:
                connection.close()
                raise
            return connection

        engine = sa.create_engine("sqlite://", creator=connect, poolclass=NullPool, hide_parameters=True)

        @event.listens_for(engine, "begin")
        def begin(connection: sa.Connection) -> None:
            immediate = connection.get_execution_options().get(_IMMEDIATE, False)
            connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

        return engine

    def _bound(self, connection: sa.Connection, seconds: int, lock_seconds: float | None = None) -> None:
        """There is no server; the only lock is waited for at the beginning, as long as the connection says."""


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", errors="backslashreplace")
