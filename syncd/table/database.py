"""The database a mapping table is in: its engine, the kinds of transaction on it, and what its errors mean.

Every transaction is bounded by the database itself (locks, statements), since a thread cannot be cancelled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from syncd.db import CLEARTEXT_HINT, ErrorKind, registry
from syncd.db.backend import Limits
from syncd.db.registry import code_and_words, driver_errors, error_kind
from syncd.errors import AuthError, ConfigError, SyncdError, UnavailableError

LOCK_SECONDS: float = 5
"""Seconds that a statement waits for another session's lock."""
WRITE_SECONDS = 60
"""Seconds that a server may take for one statement of a write or of a read by id."""
LOOK_SECONDS = 10
"""Seconds that a server may take to find changed rows: another look follows soon, and a stopping daemon waits."""
SNAPSHOT_SECONDS = 300
"""Seconds that a server may take for the statement of a snapshot; sorting without an index is slow."""
HURRIED = Limits(lock=0.2, statement=5)
"""The limits after a batch met a lock or a slow statement: the batch is then tried again in smaller parts."""


class TableDatabase:
    """The database of one mapping table. Nothing connects yet.

    Args:
        url: A SQLAlchemy URL; the driver in it is replaced by the one syncd uses.
        key: The configuration key it comes from, for the sentences of errors.
        refuses_hidden_rows: Whether the server must refuse a read from which row level security would hide rows.

    Raises:
        ConfigError: It is not a URL, names a database that syncd does not support, has an option that cannot be used,
            or needs a driver that is not installed.
    """

    def __init__(self, url: str, key: str, *, refuses_hidden_rows: bool = False) -> None:
        self.backend, parsed = registry.read_url(url, key)
        self.refuses_hidden_rows = refuses_hidden_rows
        self._path = Path(parsed.database or "") if self.backend.is_file else None
        self.engine = self.backend.table_engine(
            parsed, key, Limits(LOCK_SECONDS, SNAPSHOT_SECONDS), opening=self._opening
        )

    @property
    def dbapi(self) -> Any:
        """The driver's module."""
        return self.engine.dialect.dbapi

    def reading(self) -> AbstractContextManager[sa.Connection]:
        """A transaction for a few reads by id."""
        return self._transaction({}, WRITE_SECONDS)

    def watching(self) -> AbstractContextManager[sa.Connection]:
        """A transaction for finding changed rows."""
        return self._transaction({}, LOOK_SECONDS)

    def writing(self) -> AbstractContextManager[sa.Connection]:
        """A write transaction, rolled back unless the block commits. Each statement sees what others committed."""
        return self._transaction(self.backend.writing_options, WRITE_SECONDS)

    @contextmanager
    def snapshot(self) -> Iterator[sa.Connection]:
        """A transaction in which all reads see one moment."""
        with self._transaction(self.backend.snapshot_options, SNAPSHOT_SECONDS) as connection:
            self.backend.fix_moment(connection)
            yield connection

    @contextmanager
    def _transaction(self, options: Mapping[str, Any], seconds: int) -> Iterator[sa.Connection]:
        with self.engine.connect().execution_options(**options) as connection:
            connection.begin()
            limits = Limits(LOCK_SECONDS, seconds)
            self.backend.limit_time(connection, limits, refuse_hidden_rows=self.refuses_hidden_rows)
            yield connection

    @contextmanager
    def _opening(self) -> Iterator[None]:
        if self._path is not None and not self._path.is_file():
            raise UnavailableError(
                f"The mapping table's database does not exist: there is no file {self._path}. Nothing was written.",
                hint="syncd does not create this database; set the url of the link's table to the right file.",
            )
        yield


# ------------------------------------------------------------------ its errors


class TableFault(StrEnum):
    """Kinds of trouble, by what can be done about them.

    GONE: no connection. NOT_READY: the server answers, and accepts no connections now. UNUSABLE: connected, but the
    database is full or read-only. DENIED: a credential or a right. CLEARTEXT: the server asks for the password in the
    clear. OPTION: a connection cannot be made with the options of the URL. NO_TABLE: table, column or database is not
    as configured. LOCKED: another program held a lock, or a statement ran out of time; the transaction goes on. AGAIN:
    the database ended the whole transaction (deadlock). ROW: the database refuses this row.
    """

    GONE = "gone"
    NOT_READY = "not-ready"
    UNUSABLE = "unusable"
    DENIED = "denied"
    CLEARTEXT = "cleartext"
    OPTION = "option"
    NO_TABLE = "no-table"
    LOCKED = "locked"
    AGAIN = "again"
    ROW = "row"


_FAULTS = {
    ErrorKind.UNREACHABLE: TableFault.GONE,
    ErrorKind.CANNOT_OPEN: TableFault.GONE,
    ErrorKind.NOT_READY: TableFault.NOT_READY,
    ErrorKind.REFUSED: TableFault.DENIED,
    ErrorKind.CLEARTEXT: TableFault.CLEARTEXT,
    ErrorKind.HIDDEN: TableFault.DENIED,
    ErrorKind.FORBIDDEN: TableFault.DENIED,
    ErrorKind.NO_DATABASE: TableFault.NO_TABLE,
    ErrorKind.NO_TABLE: TableFault.NO_TABLE,
    ErrorKind.NO_COLUMN: TableFault.NO_TABLE,
    ErrorKind.STATEMENT: TableFault.NO_TABLE,
    ErrorKind.OPTION: TableFault.OPTION,
    ErrorKind.READ_ONLY: TableFault.UNUSABLE,
    ErrorKind.FULL: TableFault.UNUSABLE,
    ErrorKind.OVERLOADED: TableFault.UNUSABLE,
    ErrorKind.BROKEN: TableFault.UNUSABLE,
    ErrorKind.DAMAGED: TableFault.UNUSABLE,
    ErrorKind.NOT_A_DATABASE: TableFault.UNUSABLE,
    ErrorKind.LOCKED: TableFault.LOCKED,
    ErrorKind.SLOW: TableFault.LOCKED,
    ErrorKind.RETRY: TableFault.AGAIN,
    ErrorKind.DUPLICATE: TableFault.ROW,
    ErrorKind.CONSTRAINT: TableFault.ROW,
    ErrorKind.UNFIT: TableFault.ROW,
    ErrorKind.OTHER: TableFault.ROW,
}

GRANTS = "Check the user, the password and the grants on the mapping table."

_SENTENCES: dict[TableFault, tuple[type[SyncdError], str, str]] = {
    TableFault.GONE: (
        UnavailableError,
        "cannot be reached, or the connection was lost",
        "Check that the server runs and can be reached from here; the next run tries again.",
    ),
    TableFault.NOT_READY: (
        UnavailableError,
        "answers, but accepts no connections now",
        "It is starting, stopping or full: check the server's log; the next run tries again.",
    ),
    TableFault.OPTION: (
        ConfigError,
        "cannot be reached with the options of its URL, or its certificate is not trusted",
        "Compare the options after the `?` of the URL (sslmode, certificates) with what the server offers.",
    ),
    TableFault.UNUSABLE: (
        UnavailableError,
        "cannot be used now",
        "Check its disk, its log and whether it is read-only; the next run tries again.",
    ),
    TableFault.DENIED: (
        AuthError,
        "refuses these credentials or this right",
        GRANTS,
    ),
    TableFault.CLEARTEXT: (
        AuthError,
        "asks for the password in the clear, and has not proved who it is; the password was not sent",
        CLEARTEXT_HINT,
    ),
    TableFault.NO_TABLE: (
        ConfigError,
        "does not hold the mapping table as configured",
        "Compare the link's table settings with the database: syncd check",
    ),
    TableFault.LOCKED: (
        UnavailableError,
        "was kept locked by another program for too long, or took too long for a statement",
        "Look for a long transaction on the mapping table; the next run tries again.",
    ),
    TableFault.AGAIN: (
        UnavailableError,
        "ended the transaction because of another one at the same time",
        "Nothing to do: the next run tries again.",
    ),
    TableFault.ROW: (
        UnavailableError,
        "answered with an error",
        "Read the database's own message, and run: syncd check",
    ),
}


def fault_of(error: BaseException) -> TableFault:
    """Given an error of SQLAlchemy or of a driver, return which kind of trouble it is."""
    return _FAULTS[error_kind(error)]


def is_duplicate(error: BaseException) -> bool:
    """Given an error, return whether the database refused a row because of another row with the same unique values."""
    return error_kind(error) is ErrorKind.DUPLICATE


def is_about_a_row(error: BaseException) -> bool:
    """Given an error, return whether the database refused this row, and might take another one."""
    return error_kind(error) in {ErrorKind.DUPLICATE, ErrorKind.CONSTRAINT}


def is_unwritable(error: BaseException) -> bool:
    """Given an error, return whether the whole database takes no writes: read-only, full, no room for a journal."""
    # SQLite cannot open its journal in a folder that may not be written.
    return error_kind(error) is ErrorKind.CANNOT_OPEN or fault_of(error) is TableFault.UNUSABLE


def is_of_settings(error: BaseException) -> bool:
    """Given an error of a statement that reads, return whether a value or a condition of the settings may cause it."""
    return error_kind(error) in {ErrorKind.UNFIT, ErrorKind.STATEMENT, ErrorKind.NO_COLUMN}


def translate(error: BaseException, database: str, key: str) -> SyncdError:
    """Given an error of the database, return the error for the operator.

    Args:
        error: Of SQLAlchemy or of a driver.
        database: The database, free of secrets.
        key: The configuration key of the table's settings, such as `links.shop.table`.
    """
    if error_kind(error) is ErrorKind.HIDDEN:
        return rows_hidden(database, key)
    kind, sentence, hint = _SENTENCES[fault_of(error)]
    _, text = code_and_words(error)
    return kind(f"The mapping table's database {database} {sentence} ({text}). Nothing was written.", hint=hint)


def rows_hidden(database: str, key: str) -> AuthError:
    """Return the error for row level security: a hidden row looks like a removed one.

    Args:
        database: The database, free of secrets.
        key: The configuration key of the table's settings, such as `links.shop.table`.
    """
    return AuthError(
        f"Row level security may hide rows of the mapping table in {database} from this user. syncd would take hidden "
        "rows for removed ones. Nothing was written.",
        hint=f'Give the role BYPASSRLS, or set {key}.row_security = "as-is" if hidden rows are not syncd\'s.',
    )


@contextmanager
def translated_errors(database: str, dbapi: Any, key: str) -> Iterator[None]:
    """Raise errors of the mapping table's database as syncd's own.

    Args:
        database: The database, free of secrets.
        dbapi: The driver's module.
        key: The configuration key of the table's settings, such as `links.shop.table`.
    """
    try:
        yield
    except driver_errors(dbapi) as error:  # the snapshot's cursor is the driver's own
        raise translate(error, database, key) from None
