"""What goes wrong with the mapping table's database: which kind of trouble it is, and the sentence for the operator."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any

from sqlalchemy import exc

from syncd.errors import AuthError, ConfigError, SyncdError, UnavailableError
from syncd.obs.redact import redact


class Fault(StrEnum):
    """Kinds of trouble, by what may be done about them.

    GONE: no connection. UNUSABLE: connected, but nothing can be done (full, read-only, shutting down). DENIED: a
    credential or a right. NO_TABLE: table, column or database is not as configured. LOCKED: somebody held a lock, or a
    statement ran out of time; the transaction lives on. AGAIN: the database ended the whole transaction (deadlock).
    ROW: the database does not want this row.
    """

    GONE = "gone"
    UNUSABLE = "unusable"
    DENIED = "denied"
    NO_TABLE = "no-table"
    LOCKED = "locked"
    AGAIN = "again"
    ROW = "row"


# SQLite's primary result codes (sqlite.org/rescode.html). 1 is SQLITE_ERROR: what a statement itself does wrong.
_SQLITE = {
    1: Fault.NO_TABLE,
    3: Fault.DENIED,
    5: Fault.LOCKED,
    6: Fault.LOCKED,
    7: Fault.UNUSABLE,
    8: Fault.UNUSABLE,
    9: Fault.LOCKED,
    10: Fault.UNUSABLE,
    11: Fault.UNUSABLE,
    13: Fault.UNUSABLE,
    14: Fault.GONE,
    17: Fault.AGAIN,
    26: Fault.UNUSABLE,
}

# SQLSTATE, or its class of two characters.
_POSTGRES = {
    "08": Fault.GONE,
    "25006": Fault.UNUSABLE,
    "28": Fault.DENIED,
    "3D000": Fault.NO_TABLE,
    "3F000": Fault.NO_TABLE,
    "40": Fault.AGAIN,
    "42501": Fault.DENIED,
    "42": Fault.NO_TABLE,
    "53": Fault.UNUSABLE,
    "55P03": Fault.LOCKED,
    "57014": Fault.LOCKED,
    "57": Fault.GONE,
    "58": Fault.UNUSABLE,
    "XX": Fault.UNUSABLE,
}
# libpq has no code for what happens before a session begins, only words.
_POSTGRES_WORDS = {
    "password authentication failed": Fault.DENIED,
    "no password supplied": Fault.DENIED,
    "no pg_hba.conf entry": Fault.DENIED,
    "does not exist": Fault.NO_TABLE,
}

# MySQL's and MariaDB's error numbers.
_MYSQL = {
    **dict.fromkeys((1044, 1045, 1142, 1143, 1227, 1370, 1698), Fault.DENIED),
    **dict.fromkeys((1049, 1051, 1054, 1064, 1109, 1146, 1305, 1356), Fault.NO_TABLE),
    **dict.fromkeys((1021, 1030, 1040, 1041, 1114, 1203, 1290, 1792, 1836), Fault.UNUSABLE),
    **dict.fromkeys((1053, 1077, 1079, 1152, 1158, 1159, 1160, 1161, 1317, 1927), Fault.GONE),
    **dict.fromkeys((2002, 2003, 2005, 2006, 2013, 2014, 2055), Fault.GONE),
    **dict.fromkeys((1205, 1969, 3024), Fault.LOCKED),
    **dict.fromkeys((1020, 1213, 1412), Fault.AGAIN),
}

GRANTS = "Check the user, the password and the grants on the mapping table."

_SENTENCES = {
    Fault.GONE: (
        UnavailableError,
        "cannot be reached, or the connection was lost",
        "See that the server runs and can be reached from here; the next run looks again.",
    ),
    Fault.UNUSABLE: (
        UnavailableError,
        "cannot be used now",
        "Look at its disk, its log and whether it is writable; the next run looks again.",
    ),
    Fault.DENIED: (
        AuthError,
        "refuses these credentials or this right",
        GRANTS,
    ),
    Fault.NO_TABLE: (
        ConfigError,
        "does not hold the mapping table as configured",
        "Compare the link's table settings with the database: syncd check",
    ),
    Fault.LOCKED: (
        UnavailableError,
        "was kept locked by another program for too long, or took too long over a statement",
        "Look for a long transaction on the mapping table; the next run looks again.",
    ),
    Fault.AGAIN: (
        UnavailableError,
        "ended the transaction because of others that ran beside it",
        "Nothing to do: the next run tries again.",
    ),
    Fault.ROW: (
        UnavailableError,
        "answered with an error",
        "Look at the database's own words, and try: syncd check",
    ),
}


def driver_error(error: BaseException) -> BaseException:
    """Given an error of SQLAlchemy or of a driver, return the driver's."""
    return error.orig if isinstance(error, exc.DBAPIError) and error.orig is not None else error


def diagnose(error: BaseException) -> Fault:
    """Given an error of SQLAlchemy or of a driver, return which kind of trouble it is."""
    origin = driver_error(error)
    if isinstance(origin, sqlite3.Error):
        # Python's own complaints (a closed connection) carry no code of SQLite.
        return _SQLITE.get(getattr(origin, "sqlite_errorcode", 0) & 0xFF, Fault.ROW)
    number = _number(origin)
    if number is not None:  # before the SQLSTATE, which PyMySQL tells too, and which is HY000 for most of its errors
        return _MYSQL.get(number) or Fault.ROW
    state: str | None = getattr(origin, "sqlstate", None)
    if state == "42501" and _by_a_row(origin):
        return Fault.ROW
    if state is not None:
        return _POSTGRES.get(state) or _POSTGRES.get(state[:2]) or Fault.ROW
    text = str(origin)
    return next((fault for words, fault in _POSTGRES_WORDS.items() if words in text), Fault.GONE)


def _by_a_row(origin: BaseException) -> bool:
    """Whether a right is refused to one row by a policy (row security) rather than to the user.

    Both have one SQLSTATE, and their words are translated; the name of the server's function is not.
    """
    return getattr(getattr(origin, "diag", None), "source_function", None) == "ExecWithCheckOptions"


def words(error: BaseException) -> tuple[str, str]:
    """Given an error, return the database's own code and words: one line, without row contents and secrets."""
    origin = driver_error(error)
    diagnosis: Any = getattr(origin, "diag", None)
    number = _number(origin)
    if isinstance(origin, sqlite3.Error):
        code, text = getattr(origin, "sqlite_errorname", ""), str(origin)
    elif diagnosis is not None:
        # The full text would quote the whole row; the primary message names the constraint, which is enough.
        code, text = getattr(origin, "sqlstate", None) or "", diagnosis.message_primary or str(origin)
    elif number is not None:
        code, text = str(number), str(origin.args[-1])
    else:
        code, text = "", str(origin)
    return code, redact(" ".join(text.split()))


def _number(origin: BaseException) -> int | None:
    if not type(origin).__module__.startswith("pymysql") or not origin.args:
        return None
    return origin.args[0] if isinstance(origin.args[0], int) and origin.args[0] else None


def told(error: BaseException, database: str) -> SyncdError:
    """Given an error, return what to tell the operator.

    Args:
        error: Of SQLAlchemy or of a driver.
        database: The database, free of secrets.
    """
    kind, sentence, hint = _SENTENCES[diagnose(error)]
    _, text = words(error)
    return kind(f"The mapping table's database {database} {sentence} ({text}). Nothing was written.", hint=hint)


def driver_errors(dbapi: Any) -> tuple[type[BaseException], ...]:
    """Given a driver's module, return the errors it speaks with: wrapped by SQLAlchemy, and its own."""
    return (exc.DBAPIError, dbapi.Error)


@contextmanager
def explained(database: str, dbapi: Any) -> Iterator[None]:
    """Let errors of the database out as syncd's own.

    Args:
        database: The database, free of secrets.
        dbapi: The driver's module.
    """
    try:
        yield
    except driver_errors(dbapi) as error:
        raise told(error, database) from None
