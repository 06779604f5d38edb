"""Errors of the state database, as sentences for an operator.

A driver's own message is never repeated: it may contain a parameter or a part of the URL.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from sqlalchemy import exc

from syncd.db import CLEARTEXT_HINT, ErrorKind
from syncd.db.registry import code_and_words, error_kind, is_of_file
from syncd.errors import AuthError, ConfigError, StateUnavailable, SyncdError


class Explanation(NamedTuple):
    """What one kind of error is raised as, what it says, and what to do."""

    kind: type[StateUnavailable | AuthError | ConfigError]
    sentence: str
    hint: str


_NOT_MADE = Explanation(StateUnavailable, "holds no tables of syncd yet", "Make them with: syncd db upgrade")
_OLD = Explanation(
    StateUnavailable, "has an older schema than this syncd", "Bring it up to date with: syncd db upgrade"
)
_REFUSED = Explanation(
    AuthError, "refuses these credentials or this right", "Check the user, password and grants of [state] url."
)
_NO_DATABASE = Explanation(
    ConfigError,
    "is not known to its server",
    "Create the database, let the user of syncd create tables in it, then run: syncd db upgrade",
)
_UNREACHABLE = Explanation(
    StateUnavailable,
    "cannot be reached, or the connection was lost",
    "Check that the server runs and can be reached from here; syncd continues where it stopped.",
)
_LOCKED = Explanation(
    StateUnavailable,
    "was kept locked by another program for too long",
    "Look for a long-running program or transaction on it, then try again.",
)
_SLOW = Explanation(
    StateUnavailable, "took too long for a statement", "Look for locks and load on the server, then try again."
)
# The files beside the database keep the permissions that it had when they were made.
_READ_ONLY_FILE = Explanation(
    StateUnavailable,
    "is read-only",
    "Give the user of syncd write access to the file, to those beside it (-wal, -shm), and to their folder.",
)
_READ_ONLY_SERVER = Explanation(StateUnavailable, "is read-only", "Point [state] url to the primary server.")
_FULL = Explanation(
    StateUnavailable,
    "has no room left: its disk is full, or the one for temporary files",
    "Free some space on both; syncd continues where it stopped.",
)
_OVERLOADED = Explanation(
    StateUnavailable, "is out of memory, disk space or connections", "Check the server's log and its limits."
)

_FAULTS = {
    ErrorKind.UNREACHABLE: _UNREACHABLE,
    ErrorKind.NOT_READY: Explanation(
        StateUnavailable,
        "accepts no connections now",
        "It is starting, stopping or full: check the server's log; syncd continues where it stopped.",
    ),
    ErrorKind.REFUSED: _REFUSED,
    ErrorKind.HIDDEN: _REFUSED,
    ErrorKind.CLEARTEXT: Explanation(
        AuthError,
        "asks for the password in the clear, and has not proved who it is; the password was not sent",
        CLEARTEXT_HINT,
    ),
    ErrorKind.NO_DATABASE: _NO_DATABASE,
    ErrorKind.NO_TABLE: _NOT_MADE,
    ErrorKind.NO_COLUMN: _OLD,
    ErrorKind.OPTION: Explanation(
        ConfigError,
        "cannot be reached with the options of [state] url, or its certificate is not trusted",
        "Compare the options after its `?` (sslmode, certificates) with what the server offers.",
    ),
    ErrorKind.READ_ONLY: _READ_ONLY_SERVER,
    ErrorKind.FULL: _FULL,
    ErrorKind.OVERLOADED: _OVERLOADED,
    ErrorKind.BROKEN: Explanation(
        StateUnavailable, "reports an internal error", "Check the server's log and its disk, then try again."
    ),
    ErrorKind.LOCKED: _LOCKED,
    ErrorKind.SLOW: _SLOW,
}

# What differs if the database is a file.
_OF_FILES = {
    ErrorKind.FORBIDDEN: Explanation(StateUnavailable, "may not be opened by this user", _READ_ONLY_FILE.hint),
    ErrorKind.READ_ONLY: _READ_ONLY_FILE,
    ErrorKind.BROKEN: Explanation(
        StateUnavailable, "reports input/output errors", "Check the disk, then run: syncd db check"
    ),
    ErrorKind.DAMAGED: Explanation(
        StateUnavailable, "is damaged", "Stop syncd, restore the file from a backup, then run: syncd db check"
    ),
    ErrorKind.CANNOT_OPEN: Explanation(
        StateUnavailable, "cannot be opened", "Give the user of syncd access to the file and its folder."
    ),
    ErrorKind.NOT_A_DATABASE: Explanation(
        StateUnavailable, "is not an SQLite database", "Point [state] url to the right file, or restore it."
    ),
}
_UNKNOWN = Explanation(
    StateUnavailable, "reports an error that syncd does not know", "Check the server's log, then try again."
)


def is_retryable(error: exc.DBAPIError) -> bool:
    """Return whether the whole transaction may succeed if it is tried again at once.

    It may after a deadlock or a serialization failure, and after two processes inserted the same row: the second try
    finds the row.
    """
    return isinstance(error, exc.IntegrityError) or error_kind(error) is ErrorKind.RETRY


def translate(error: exc.DBAPIError, where: str) -> SyncdError | None:
    """Given a driver's error, return the error for the operator; None for what can only be a bug of syncd.

    Args:
        error: What SQLAlchemy raised.
        where: The database, free of secrets.
    """
    fault = _explanation(error)
    if fault is None:
        return None
    code, _ = code_and_words(error)
    known_as = f" ({code})" if fault is _UNKNOWN and code else ""
    return fault.kind(
        f"The state database {where} {fault.sentence}{known_as}. Nothing more was written.", hint=fault.hint
    )


def _explanation(error: exc.DBAPIError) -> Explanation | None:
    kind = error_kind(error)
    of_file = is_of_file(error)
    found = (_OF_FILES.get(kind) if of_file else None) or _FAULTS.get(kind)
    if found is not None or of_file:
        return found
    if error.connection_invalidated:
        return _UNREACHABLE
    # A server that complains about statements or rows works; such errors are bugs of syncd.
    return _UNKNOWN if isinstance(error, exc.OperationalError | exc.InterfaceError) else None


@contextmanager
def translated_errors(where: str) -> Iterator[None]:
    """Raise errors of the database as syncd's own; what can only be a bug is raised as it is.

    Args:
        where: The database, free of secrets.
    """
    try:
        yield
    except exc.DBAPIError as error:
        translated = translate(error, where)
        if translated is None:
            raise
        raise translated from None
    except exc.TimeoutError:
        raise _OVERLOADED.kind(
            f"The state database {where} {_OVERLOADED.sentence}. Nothing more was written.", hint=_OVERLOADED.hint
        ) from None


def is_unreachable(error: exc.DBAPIError) -> bool:
    """Given an error of a driver, return whether its server cannot be reached, or accepts no connections yet."""
    return error.connection_invalidated or error_kind(error) in {ErrorKind.UNREACHABLE, ErrorKind.NOT_READY}
