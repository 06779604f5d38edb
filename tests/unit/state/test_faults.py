"""What a driver's error becomes: a sentence and a hint, without the driver's words."""

from __future__ import annotations

import sqlite3
from typing import Any

import psycopg
import pymysql
import pytest
from sqlalchemy import exc

from syncd.errors import AuthError, ConfigError, StateUnavailable
from syncd.state.faults import is_retryable, translate, translated_errors

SECRET = "s3cr3t"


def sqlite_error(code: int, words: str = SECRET) -> exc.DBAPIError:
    error = sqlite3.OperationalError(words)
    error.sqlite_errorcode = code
    return exc.OperationalError("SELECT 1", {}, error)


def postgres_error(state: str | None, words: str = SECRET) -> exc.DBAPIError:
    error = psycopg.OperationalError(words)
    error.sqlstate = state
    return exc.OperationalError("SELECT 1", {}, error)


def mysql_error(number: int) -> exc.DBAPIError:
    return exc.OperationalError("SELECT 1", {}, pymysql.err.OperationalError(number, SECRET, sqlstate="HY000"))


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (sqlite_error(sqlite3.SQLITE_PERM), StateUnavailable, "may not be opened by this user"),
        (sqlite_error(sqlite3.SQLITE_BUSY), StateUnavailable, "kept locked"),
        (sqlite_error(sqlite3.SQLITE_BUSY | 2 << 8), StateUnavailable, "kept locked"),
        (sqlite_error(sqlite3.SQLITE_LOCKED), StateUnavailable, "kept locked"),
        (sqlite_error(sqlite3.SQLITE_READONLY), StateUnavailable, "is read-only"),
        (sqlite_error(sqlite3.SQLITE_IOERR), StateUnavailable, "input/output"),
        (sqlite_error(sqlite3.SQLITE_IOERR_SHMSIZE), StateUnavailable, "disk is full"),
        (sqlite_error(sqlite3.SQLITE_CORRUPT), StateUnavailable, "is damaged"),
        (sqlite_error(sqlite3.SQLITE_FULL), StateUnavailable, "disk is full, or the one for temporary files"),
        (sqlite_error(sqlite3.SQLITE_CANTOPEN), StateUnavailable, "cannot be opened"),
        (sqlite_error(sqlite3.SQLITE_NOTADB), StateUnavailable, "not an SQLite database"),
        (sqlite_error(sqlite3.SQLITE_ERROR, "no such table: link"), StateUnavailable, "no tables of syncd"),
        (sqlite_error(sqlite3.SQLITE_ERROR, "no such column: colour"), StateUnavailable, "older schema"),
        (postgres_error("28P01"), AuthError, "refuses these credentials"),
        (postgres_error("42501"), AuthError, "refuses these credentials"),
        (postgres_error(None, f"FATAL: password authentication failed {SECRET}"), AuthError, "refuses"),
        (postgres_error(None, f"FATAL: no pg_hba.conf entry {SECRET}"), AuthError, "refuses"),
        (postgres_error("3D000"), ConfigError, "not known to its server"),
        (postgres_error(None, f'FATAL: database "x" does not exist {SECRET}'), ConfigError, "not known to its server"),
        (postgres_error("42P01"), StateUnavailable, "no tables of syncd"),
        (postgres_error("42703"), StateUnavailable, "older schema"),
        (postgres_error("25006"), StateUnavailable, "is read-only"),
        (postgres_error("53100"), StateUnavailable, "disk is full"),
        (postgres_error("53300"), StateUnavailable, "out of memory, disk space or connections"),
        (postgres_error("55P03"), StateUnavailable, "kept locked"),
        (postgres_error("57014"), StateUnavailable, "took too long"),
        (postgres_error("57P01"), StateUnavailable, "cannot be reached, or the connection was lost"),
        (postgres_error("08006"), StateUnavailable, "cannot be reached, or the connection was lost"),
        (postgres_error(None), StateUnavailable, "cannot be reached, or the connection was lost"),
        (mysql_error(1045), AuthError, "refuses these credentials"),
        (mysql_error(1049), ConfigError, "not known to its server"),
        (mysql_error(1146), StateUnavailable, "no tables of syncd"),
        (mysql_error(1054), StateUnavailable, "older schema"),
        (mysql_error(1290), StateUnavailable, "is read-only"),
        (mysql_error(1021), StateUnavailable, "disk is full"),
        (mysql_error(1040), StateUnavailable, "out of memory, disk space or connections"),
        (mysql_error(1205), StateUnavailable, "kept locked"),
        (mysql_error(3024), StateUnavailable, "took too long"),
        (mysql_error(2013), StateUnavailable, "cannot be reached, or the connection was lost"),
    ],
)
def test_a_fault_is_a_sentence_with_a_hint_and_without_the_drivers_words(error: Any, kind: Any, words: str) -> None:
    told = translate(error, "the-place")
    assert told is not None
    assert type(told) is kind
    assert words in told.message
    assert "the-place" in told.message
    assert told.hint
    assert SECRET not in told.message + told.hint


def test_what_can_only_be_a_bug_comes_out_as_it_is() -> None:
    bug = exc.ProgrammingError("SELEC 1", {}, psycopg.errors.SyntaxError("syntax error"))
    assert translate(bug, "the-place") is None
    with pytest.raises(exc.ProgrammingError), translated_errors("the-place"):
        raise bug


def test_a_pool_that_runs_dry_is_a_sentence() -> None:
    with pytest.raises(StateUnavailable, match="connections"), translated_errors("the-place"):
        raise exc.TimeoutError("QueuePool limit")


@pytest.mark.parametrize("error", [postgres_error("40001"), postgres_error("40P01"), mysql_error(1213)])
def test_a_deadlock_is_tried_again(error: Any) -> None:
    assert is_retryable(error)


@pytest.mark.parametrize("error", [postgres_error("57014"), mysql_error(1205), sqlite_error(sqlite3.SQLITE_BUSY)])
def test_a_wait_that_was_too_long_is_not_tried_again(error: Any) -> None:
    assert not is_retryable(error)
