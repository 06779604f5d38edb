"""SQLite: a file, opened by its path. Of the URL's options, only `mode` is accepted."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing, nullcontext
from datetime import date, datetime, time
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine.interfaces import ReflectedColumn
from sqlalchemy.pool import NullPool, QueuePool

from syncd.db import ErrorKind
from syncd.db.backend import Backend, Limits, Opening
from syncd.db.options import OptionError, Options, once, unknown_option
from syncd.errors import ConfigError

_WRITES = "syncd_writes"
"""The execution option of a connection whose transaction takes the write lock first."""

_LOCK_SECONDS = 10.0
"""Seconds that a statement waits for another connection's lock if no limit is given."""

# WAL with `synchronous=FULL`: the journal of intents must be on the disk before a request is sent, or a power cut
# forgets that an order may have been written. The servers commit durably by default.
_STATE = (
    "PRAGMA foreign_keys = ON",
    "PRAGMA synchronous = FULL",
    "PRAGMA journal_mode = WAL",
    "PRAGMA journal_size_limit = 67108864",
    "PRAGMA cache_size = -16384",
)
# The owner of the table declared its constraints; leaving them off would let syncd break them.
_TABLE = ("PRAGMA foreign_keys = ON",)

# By SQLite's result code (sqlite.org/rescode.html), the extended one if it says more than the primary one. Code 1 is
# an error in the statement itself; only its message says which.
ERRORS = MappingProxyType(
    {
        4874: ErrorKind.FULL,  # no room for the -shm file, which every connection needs
        **dict.fromkeys((1555, 2067, 2579), ErrorKind.DUPLICATE),
        **dict.fromkeys((275, 787, 1811), ErrorKind.CONSTRAINT),
        3: ErrorKind.FORBIDDEN,
        5: ErrorKind.LOCKED,
        6: ErrorKind.LOCKED,
        7: ErrorKind.OVERLOADED,
        8: ErrorKind.READ_ONLY,
        9: ErrorKind.LOCKED,
        10: ErrorKind.BROKEN,
        11: ErrorKind.DAMAGED,
        13: ErrorKind.FULL,
        14: ErrorKind.CANNOT_OPEN,
        17: ErrorKind.RETRY,
        26: ErrorKind.NOT_A_DATABASE,
    }
)
_STATEMENT = {
    "no such table": ErrorKind.NO_TABLE,
    "no such column": ErrorKind.NO_COLUMN,
    "no column named": ErrorKind.NO_COLUMN,
}


class SQLite(Backend):
    """SQLite over Python's own module."""

    kind = "sqlite"
    names = ("sqlite",)
    driver = "sqlite"
    module = "sqlite3"
    is_file = True
    writing_options: ClassVar[Mapping[str, Any]] = {_WRITES: True}
    folds_case = True
    has_booleans = False
    has_times = False
    mark = "?"

    # ----------------------------------------------------------------- errors

    def speaks(self, error: BaseException) -> bool:
        """Errors of Python's module itself (a closed connection) have no code of SQLite."""
        return isinstance(error, sqlite3.Error)

    def error_kind(self, error: BaseException) -> ErrorKind:
        """See `Backend`."""
        code = getattr(error, "sqlite_errorcode", 0)
        if code == sqlite3.SQLITE_ERROR:
            words = str(error)
            return next((kind for said, kind in _STATEMENT.items() if said in words), ErrorKind.STATEMENT)
        return ERRORS.get(code) or ERRORS.get(code & 0xFF) or ErrorKind.OTHER

    def code_and_words(self, error: BaseException) -> tuple[str, str]:
        """See `Backend`."""
        return getattr(error, "sqlite_errorname", ""), str(error)

    # ---------------------------------------------------------------- opening

    def options(self, url: sa.URL) -> Options:
        """`mode` may be ro or rw; connecting to a file never makes it."""
        given = once(url)
        for name, value in given.items():
            if name == "uri":
                continue  # tells Python that a path has options; syncd always does that
            if name != "mode":
                raise unknown_option(name, self.module, ["mode"])
            if value not in {"ro", "rw"}:
                raise OptionError("its option mode takes ro or rw: syncd does not create a database by connecting")
        return Options(given, {})

    def state_engine(
        self, url: sa.URL, key: str, limits: Limits | None, *, transactions: int, opening: Opening = nullcontext
    ) -> sa.Engine:
        """The file is locked while a statement writes, so several writers would only wait for each other."""
        del transactions
        if self._mode(url, key) != "rw":
            raise ConfigError(f"{key}: syncd writes to the state database, so mode=ro cannot be used.")
        waiting = _LOCK_SECONDS if limits is None else limits.lock
        return self._engine(lambda: _connect(url, "rw", waiting, _STATE), QueuePool, opening)

    def table_engine(self, url: sa.URL, key: str, limits: Limits, *, opening: Opening = nullcontext) -> sa.Engine:
        """Opened anew for each transaction: otherwise we would keep using a file that was replaced by a copy."""
        mode = self._mode(url, key)

        def connect() -> sqlite3.Connection:
            connection = _connect(url, mode, limits.lock, _TABLE)
            # A text that is not UTF-8 makes one cell unreadable, not the whole table.
            connection.text_factory = _text
            return connection

        return self._engine(connect, NullPool, opening)

    def _engine(
        self, connect: Callable[[], sqlite3.Connection], pool: type[QueuePool | NullPool], opening: Opening
    ) -> sa.Engine:
        def create() -> sqlite3.Connection:
            with opening():
                return connect()

        engine = sa.create_engine("sqlite://", creator=create, poolclass=pool, hide_parameters=True)
        event.listen(engine, "begin", _begin)
        return engine

    def _mode(self, url: sa.URL, key: str) -> str:
        """Given a URL, return how its file is to be opened: ro or rw."""
        return str(self.usable_options(url, key).texts.get("mode", "rw"))

    # -------------------------------------------------- sessions of the state

    def damage(self, connection: sa.Connection) -> list[str]:
        """See `Backend`."""
        found = list(connection.scalars(sa.text("PRAGMA quick_check(20)")))
        if found == ["ok"]:
            return []
        return [*(f"The file is damaged: {line}" for line in found), "Stop syncd, and restore the file from a backup."]

    def disorder(self, connection: sa.Connection) -> list[str]:
        """See `Backend`."""
        problems = []
        broken = connection.execute(sa.text("PRAGMA foreign_key_check")).fetchall()
        if broken:
            rows = "1 row refers" if len(broken) == 1 else f"{len(broken)} rows refer"
            problems.append(f"{rows} to a link that does not exist.")
        if (mode := connection.scalar(sa.text("PRAGMA journal_mode"))) != "wal":
            problems.append(f"Its journal mode is {mode} and cannot be set to WAL; is it on a network file system?")
        return problems

    # -------------------------------------------- transactions on the mapping table

    def limit_time(self, connection: sa.Connection, limits: Limits, *, refuse_hidden_rows: bool = False) -> None:
        """There is no server. The only lock is taken at the beginning, with the connection's own time limit."""

    def has_ended(self, connection: sa.Connection) -> bool:
        """RAISE(ROLLBACK) in a trigger does that. Each further statement would then be committed by itself."""
        driver = connection.connection.driver_connection
        return isinstance(driver, sqlite3.Connection) and not driver.in_transaction

    def balance(self, connection: sa.Connection, table: sa.TableClause) -> int | None:
        """No other connection can write during our write transaction, so the number of all rows is enough."""
        return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())

    # ------------------------------------------------------------ the mapping table's shape

    def fills_itself(self, column: ReflectedColumn, key: Sequence[str]) -> bool:
        """An INTEGER PRIMARY KEY is the row's number."""
        return _is_row_number(column, key) or super().fills_itself(column, key)

    def holds_fractions(self, column: ReflectedColumn, key: Sequence[str]) -> bool:
        """Any column of numbers can, except the row's own number."""
        return not _is_row_number(column, key)

    def is_fraction(self, column: sa.ColumnClause[Any]) -> sa.ColumnElement[bool]:
        """A whole number becomes an integer in a column of numbers."""
        return sa.func.typeof(column) == sa.literal_column("'real'")

    def is_view(self, connection: sa.Connection, schema: str | None, table: str) -> bool:
        """INSTEAD OF triggers report no row counts."""
        return _master(connection, schema, "type = 'view' AND lower(name) = lower(:table)", table)

    def may_reach_other_rows(self, connection: sa.Connection, schema: str | None, table: str) -> bool:
        """REPLACE deletes the row that it displaces, and does not report it."""
        reaching = "(type = 'trigger' OR sql LIKE '%REPLACE%') AND lower(tbl_name) = lower(:table)"
        return _master(connection, schema, reaching, table)

    # ------------------------------------------------------------ the mapping table's cells

    def id_cell(self, reflected: sa.types.TypeEngine[Any]) -> type[int | str | bytes] | None:
        """A column may have no type at all, or BLOB."""
        if isinstance(reflected, sa.types.NullType):
            return int
        return bytes if isinstance(reflected, sa.LargeBinary) else super().id_cell(reflected)

    def cut(self, column: sa.ColumnClause[Any], length: int, *, textual: bool) -> sa.ColumnElement[Any]:
        """Any cell may hold a text, whatever its column's type; numbers are left as they are."""
        del textual
        return sa.case(
            (sa.func.typeof(column).in_([sa.literal_column("'text'"), sa.literal_column("'blob'")]),
             super().cut(column, length, textual=True)),
            else_=column,
        )  # fmt: skip

    def cell(self, value: object) -> object:
        """SQLite has no type for times; they are texts."""
        if isinstance(value, datetime):
            return value.isoformat(" ")
        return value.isoformat() if isinstance(value, date | time) else value

    def usual_cells(self, order_id: int, *, numeric: bool) -> tuple[object, ...]:
        """Any cell may hold any type, whatever its column's."""
        del numeric
        text = str(order_id)
        return (order_id, text, text.encode())

    def equals_exactly(self, column: sa.ColumnClause[Any], parameter: sa.BindParameter[Any]) -> sa.ColumnElement[bool]:
        """A column may be declared NOCASE."""
        return sa.and_(column == parameter, sa.collate(column, "BINARY") == parameter)

    def matches_form(self, column: sa.ColumnClause[Any], parameter: sa.BindParameter[Any]) -> sa.ColumnElement[bool]:
        """SQLite's CAST takes the longest prefix that is a number."""
        return sa.cast(column, sa.Integer).in_(parameter)

    def text_now(self) -> sa.ColumnElement[Any]:
        """SQLite's current time is a text, in UTC."""
        return sa.func.current_timestamp()

    def seconds_now(self) -> sa.ColumnElement[Any]:
        """The result of strftime is a text."""
        return sa.cast(sa.func.strftime("%s", "now"), sa.Integer)


def _is_row_number(column: ReflectedColumn, key: Sequence[str]) -> bool:
    """Return whether a column is an INTEGER PRIMARY KEY, which numbers the rows."""
    return list(key) == [column["name"]] and str(column["type"]).upper() == "INTEGER"


def copy_database(source: Path, target: Path) -> None:
    """Make a consistent copy of a database, as it is committed now.

    Args:
        source: The database's file.
        target: An empty file.

    Raises:
        OSError: The copy cannot be made.
    """
    try:
        with closing(sqlite3.connect(source)) as original, closing(sqlite3.connect(target)) as copy:
            original.backup(copy)
            # The copy needs no other file beside it, so that it can be restored or mailed alone.
            copy.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error as error:
        raise OSError(str(error)) from None


def _connect(url: sa.URL, mode: str, seconds: float, statements: Iterable[str]) -> sqlite3.Connection:
    """Open an existing file; its statements wait `seconds` for another connection's lock."""
    connection = sqlite3.connect(
        f"file:{quote(url.database or '')}?mode={mode}",
        uri=True,
        timeout=seconds,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        for statement in statements:
            connection.execute(statement)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", errors="backslashreplace")


def _master(connection: sa.Connection, schema: str | None, condition: str, table: str) -> bool:
    prefix = f"{connection.dialect.identifier_preparer.quote(schema)}." if schema else ""
    query = sa.text(f"SELECT 1 FROM {prefix}sqlite_master WHERE {condition}")  # noqa: S608 - names, quoted
    return connection.execute(query, {"table": table}).first() is not None


def _begin(connection: sa.Connection) -> None:
    """Begin a transaction; it takes the write lock if the connection's option says so.

    The module begins transactions by itself only before some statements, and never takes the write lock up front; a
    transaction that reads first and writes later would then fail at once instead of waiting for its turn.
    """
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


BACKEND: SQLite = SQLite()
