"""What the state database and the mapping tables share: URLs, drivers, connections, and what a driver's errors mean.

One module a kind of database, with all that differs: `sqlite`, `postgresql`, `mysql`. `registry` finds
the one that a URL, a connection or an error belongs to. Here are the kinds of errors, the words that they all share:
each package that meets one has sentences of its own for it.
"""

from __future__ import annotations

from enum import StrEnum


class ErrorKind(StrEnum):
    """What went wrong, by what can be done about it.

    UNREACHABLE: no connection, or it was lost. NOT_READY: the server answers, but accepts no connections now. REFUSED:
    a credential or a right. CLEARTEXT: the server asks for the password in the clear, and its identity is not verified.
    HIDDEN: row level security would hide rows. NO_DATABASE, NO_TABLE, NO_COLUMN: it does not exist. STATEMENT: the
    statement is wrong in some other way. OPTION: a connection cannot be made with the options of the URL. READ_ONLY,
    FULL (disk), OVERLOADED (memory, connections), BROKEN (input, output, internal errors), DAMAGED, NOT_A_DATABASE,
    CANNOT_OPEN, FORBIDDEN (files of SQLite): nothing can be written. LOCKED: another session held a lock. SLOW: the
    statement ran out of time. RETRY: the database ended the whole transaction, which may succeed if it is tried again.
    UNFIT: a value does not fit its column, or an expression. DUPLICATE: another row has these unique values.
    CONSTRAINT: this row breaks a rule, or a trigger refuses it. OTHER: anything else.
    """

    UNREACHABLE = "unreachable"
    NOT_READY = "not-ready"
    REFUSED = "refused"
    CLEARTEXT = "cleartext"
    HIDDEN = "hidden"
    NO_DATABASE = "no-database"
    NO_TABLE = "no-table"
    NO_COLUMN = "no-column"
    STATEMENT = "statement"
    OPTION = "option"
    READ_ONLY = "read-only"
    FULL = "full"
    OVERLOADED = "overloaded"
    BROKEN = "broken"
    DAMAGED = "damaged"
    NOT_A_DATABASE = "not-a-database"
    CANNOT_OPEN = "cannot-open"
    FORBIDDEN = "forbidden"
    LOCKED = "locked"
    SLOW = "slow"
    RETRY = "retry"
    DUPLICATE = "duplicate"
    CONSTRAINT = "constraint"
    UNFIT = "unfit"
    OTHER = "other"


CLEARTEXT_HINT = (
    "Let the server prove who it is (PostgreSQL: sslmode=verify-full; MySQL: ssl-mode=VERIFY_IDENTITY), or give the "
    "user another way to sign in (scram-sha-256). To send it all the same: require_auth=password; MySQL: "
    "enable_cleartext_plugin=true."
)
"""What to do about `ErrorKind.CLEARTEXT`."""
