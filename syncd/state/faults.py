"""What goes wrong with the state database, as sentences for an operator.

A driver's own words are never repeated: they may hold a parameter or a part of the URL.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from sqlalchemy import exc

from syncd.errors import AuthError, ConfigError, StateUnavailable, SyncdError


class Fault(NamedTuple):
    """One kind of trouble: which error it is, what to say, what to do."""

    kind: type[StateUnavailable | AuthError | ConfigError]
    sentence: str
    hint: str


_NOT_MADE = Fault(StateUnavailable, "holds no tables of syncd yet", "Make them with: syncd db upgrade")
_OLD = Fault(StateUnavailable, "has an older schema than this syncd", "Bring it up to date with: syncd db upgrade")
_REFUSED = Fault(
    AuthError, "refuses these credentials or this right", "Check the user, password and grants of [state] url."
)
_NO_DATABASE = Fault(
    ConfigError,
    "is not known to its server",
    "Create the database, let the user of syncd create tables in it, then run: syncd db upgrade",
)
_UNREACHABLE = Fault(
    StateUnavailable,
    "cannot be reached, or the connection was lost",
    "See that the server runs and can be reached from here; syncd goes on where it stopped.",
)
_LOCKED = Fault(
    StateUnavailable,
    "was kept locked by another program for too long",
    "Look for a long-running program or transaction on it, then try again.",
)
_SLOW = Fault(
    StateUnavailable, "took too long over a statement", "Look for locks and load on the server, then try again."
)
# The files beside it keep the permissions it had when they were made.
_READ_ONLY_FILE = Fault(
    StateUnavailable,
    "is read-only",
    "Give the user of syncd write access to the file, to those beside it (-wal, -shm), and to their folder.",
)
_READ_ONLY_SERVER = Fault(StateUnavailable, "is read-only", "Point [state] url at the primary server.")
_FULL = Fault(
    StateUnavailable, "has no room left: its disk is full", "Free some space; syncd goes on where it stopped."
)
_OVERLOADED = Fault(
    StateUnavailable, "is out of memory, disk space or connections", "Look at the server's log and its limits."
)

# By SQLite's result code (sqlite.org/rescode.html), the extended one where that says more than the primary one.
_SQLITE = {
    4874: _FULL,  # no room for the -shm file, which every connection needs
    3: Fault(StateUnavailable, "may not be opened by this user", _READ_ONLY_FILE.hint),
    5: _LOCKED,
    6: _LOCKED,
    8: _READ_ONLY_FILE,
    10: Fault(StateUnavailable, "answers with input/output errors", "Look at the disk, then run: syncd db check"),
    11: Fault(StateUnavailable, "is damaged", "Stop syncd, restore the file from a backup, then run: syncd db check"),
    13: _FULL,
    14: Fault(StateUnavailable, "cannot be opened", "See that the file and its folder are open to the user of syncd."),
    26: Fault(StateUnavailable, "is not an SQLite database", "Point [state] url at the right file, or restore it."),
}

# By SQLSTATE, or by its class of two characters.
_POSTGRES = {
    "28": _REFUSED,
    "42501": _REFUSED,
    "3D000": _NO_DATABASE,
    "42P01": _NOT_MADE,
    "42703": _OLD,
    "25006": _READ_ONLY_SERVER,
    "53100": _FULL,
    "53": _OVERLOADED,
    "55P03": _LOCKED,
    "57014": _SLOW,
    "08": _UNREACHABLE,
    "57P": _UNREACHABLE,
}
_POSTGRES_AGAIN = ("40001", "40P01")

# libpq has no code for what happens before a session begins, only words.
_POSTGRES_WORDS = {
    "password authentication failed": _REFUSED,
    "no password supplied": _REFUSED,
    "no pg_hba.conf entry": _REFUSED,
    "does not exist": _NO_DATABASE,
}

# By MySQL's error number.
_MYSQL = {
    **dict.fromkeys((1044, 1045, 1142, 1143, 1698), _REFUSED),
    1049: _NO_DATABASE,
    1146: _NOT_MADE,
    1054: _OLD,
    **dict.fromkeys((1290, 1836), _READ_ONLY_SERVER),
    **dict.fromkeys((1021, 1114), _FULL),
    1040: _OVERLOADED,
    1205: _LOCKED,
    **dict.fromkeys((1969, 3024), _SLOW),
}
_MYSQL_AGAIN = (1213,)


def is_passing(error: exc.DBAPIError) -> bool:
    """Whether the whole transaction may succeed at once when tried again.

    That is so after a deadlock or a serialization failure, and where two processes made the same row: the second try
    finds it.
    """
    if isinstance(error, exc.IntegrityError):
        return True
    return getattr(error.orig, "sqlstate", None) in _POSTGRES_AGAIN or _mysql_number(error) in _MYSQL_AGAIN


def explain(error: exc.DBAPIError, where: str) -> SyncdError | None:
    """Given a driver's error, return what to tell the operator; None for what can only be a bug of syncd.

    Args:
        error: What SQLAlchemy raised.
        where: The database, free of secrets.
    """
    fault = _fault(error)
    if fault is None:
        return None
    return fault.kind(f"The state database {where} {fault.sentence}. Nothing more was written.", hint=fault.hint)


def _fault(error: exc.DBAPIError) -> Fault | None:
    words = str(error.orig)
    found: Fault | None = None
    if (code := getattr(error.orig, "sqlite_errorcode", None)) is not None:
        found = _SQLITE.get(code) or _SQLITE.get(code & 0xFF)
        if found is None and "no such table" in words:
            found = _NOT_MADE
        if found is None and ("no column named" in words or "no such column" in words):
            found = _OLD
        return found
    if (number := _mysql_number(error)) is not None:
        found = _MYSQL.get(number)
    elif (state := getattr(error.orig, "sqlstate", None)) is not None:
        return _POSTGRES.get(state) or _POSTGRES.get(state[:3]) or _POSTGRES.get(state[:2])
    elif isinstance(error, exc.OperationalError):
        found = next((fault for said, fault in _POSTGRES_WORDS.items() if said in words), None)
    if found is None and (error.connection_invalidated or isinstance(error, exc.OperationalError | exc.InterfaceError)):
        return _UNREACHABLE
    return found


def _mysql_number(error: exc.DBAPIError) -> int | None:
    origin = error.orig
    if origin is None or not type(origin).__module__.startswith("pymysql") or not origin.args:
        return None
    return origin.args[0] if isinstance(origin.args[0], int) else None


@contextmanager
def explained(where: str) -> Iterator[None]:
    """Let errors of the database out as syncd's own; what can only be a bug comes out as it is.

    Args:
        where: The database, free of secrets.
    """
    try:
        yield
    except exc.DBAPIError as error:
        told = explain(error, where)
        if told is None:
            raise
        raise told from None
    except exc.TimeoutError:
        raise _OVERLOADED.kind(
            f"The state database {where} {_OVERLOADED.sentence}. Nothing more was written.", hint=_OVERLOADED.hint
        ) from None
