"""What goes wrong with the mapping table's database: which kind of trouble it is, and the sentence for the operator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any

from syncd.db.kinds import CLEARTEXT_HINT, ErrorKind
from syncd.db.registry import code_and_words, driver_errors, error_kind
from syncd.errors import AuthError, ConfigError, SyncdError, UnavailableError


class TableFault(StrEnum):
    """Kinds of trouble, by what may be done about them.

    GONE: no connection. NOT_READY: the server answered, and takes no connections now. UNUSABLE: connected, but nothing
    can be done (full, read-only). DENIED: a credential or a right. CLEARTEXT: the
    server asks for the password in the clear. OPTION: a connection cannot be made as the options
    of the URL ask. NO_TABLE: table, column or database is not as configured. LOCKED: somebody held a lock, or a
    statement ran out of time; the transaction lives on. AGAIN: the database ended the whole transaction (deadlock).
    ROW: the database does not want this row.
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
        "See that the server runs and can be reached from here; the next run looks again.",
    ),
    TableFault.NOT_READY: (
        UnavailableError,
        "answers, and takes no connections now",
        "It starts, stops or turns new clients away: look at its log; the next run looks again.",
    ),
    TableFault.OPTION: (
        ConfigError,
        "cannot be reached with the options of its URL, or its certificate is not trusted",
        "Compare the options behind the `?` of the URL (sslmode, certificates) with what the server offers.",
    ),
    TableFault.UNUSABLE: (
        UnavailableError,
        "cannot be used now",
        "Look at its disk, its log and whether it is writable; the next run looks again.",
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
        "was kept locked by another program for too long, or took too long over a statement",
        "Look for a long transaction on the mapping table; the next run looks again.",
    ),
    TableFault.AGAIN: (
        UnavailableError,
        "ended the transaction because of others that ran beside it",
        "Nothing to do: the next run tries again.",
    ),
    TableFault.ROW: (
        UnavailableError,
        "answered with an error",
        "Look at the database's own words, and try: syncd check",
    ),
}


def diagnose(error: BaseException) -> TableFault:
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
    return error_kind(error) is ErrorKind.CANNOT_OPEN or diagnose(error) is TableFault.UNUSABLE


def is_of_settings(error: BaseException) -> bool:
    """Given an error of a statement that reads, return whether a value or a condition of the settings may cause it."""
    return error_kind(error) in {ErrorKind.UNFIT, ErrorKind.STATEMENT, ErrorKind.NO_COLUMN}


def hides_rows(error: BaseException) -> bool:
    """Given an error, return whether a query was refused because a policy would hide rows from it."""
    return error_kind(error) is ErrorKind.HIDDEN


def words(error: BaseException) -> tuple[str, str]:
    """Given an error, return the database's own code and words: one line, without row contents and secrets."""
    return code_and_words(error)


def told(error: BaseException, database: str) -> SyncdError:
    """Given an error, return what to tell the operator.

    Args:
        error: Of SQLAlchemy or of a driver.
        database: The database, free of secrets.
    """
    kind, sentence, hint = _SENTENCES[diagnose(error)]
    _, text = words(error)
    return kind(f"The mapping table's database {database} {sentence} ({text}). Nothing was written.", hint=hint)


def rows_hidden(database: str, key: str) -> AuthError:
    """Return what to tell the operator of row level security: a hidden row looks like a removed one.

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
def explained(database: str, dbapi: Any, key: str) -> Iterator[None]:
    """Let errors of the mapping table's database out as syncd's own.

    Args:
        database: The database, free of secrets.
        dbapi: The driver's module.
        key: The configuration key of the table's settings, such as `links.shop.table`.
    """
    try:
        yield
    except driver_errors(dbapi) as error:  # the snapshot's cursor is the driver's own
        raise (rows_hidden(database, key) if hides_rows(error) else told(error, database)) from None
