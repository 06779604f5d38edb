"""The kinds of database there are, found by a URL, by a connection, or by a driver's error."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from syncd.config.urls import parse_database_url
from syncd.db import ErrorKind, mysql, postgresql, sqlite
from syncd.db.backend import Backend
from syncd.errors import ConfigError
from syncd.obs.redact import redact, register_secret

BACKENDS: tuple[Backend, ...] = (sqlite.BACKEND, postgresql.BACKEND, mysql.BACKEND)
_BY_NAME = {name: backend for backend in BACKENDS for name in backend.names}


def read_url(url: str, key: str) -> tuple[Backend, sa.URL]:
    """Given a database URL, return the kind of database and the URL. Nothing connects.

    Args:
        url: A SQLAlchemy URL; the driver in it is replaced by the one syncd uses.
        key: The configuration key it comes from, for the sentences of errors.

    Raises:
        ConfigError: It is not a URL, names a kind of database that syncd does not know, or no file of SQLite.
    """
    hint = 'Write it as "postgresql://user@host/database" or "sqlite:///file.db".'
    try:
        parse_database_url(url)
    except ValueError as error:
        raise ConfigError(f"{key} {error}.", hint=hint) from None
    try:
        parsed = sa.make_url(url)
    except (exc.ArgumentError, ValueError):  # its message would repeat the URL, with its password
        raise ConfigError(f"{key} is not a database URL.", hint=hint) from None
    if parsed.password:
        register_secret(str(parsed.password))
    name = parsed.get_backend_name()
    backend = _BY_NAME.get(name)
    if backend is None:
        raise ConfigError(
            f"{key} names a {name} database, which syncd does not support.",
            hint="Use SQLite, PostgreSQL, MariaDB or MySQL.",
        )
    if backend.is_file and _has_no_file(parsed):
        raise ConfigError(f"{key} names no file.", hint='Write it as "sqlite:///syncd.db".')
    return backend, parsed.set(drivername=backend.driver)


def backend_of(url: sa.URL) -> Backend:
    """Given a URL that `read_url` returned, return its kind of database."""
    return _BY_NAME[url.get_backend_name()]


def backend_at_work(connection: sa.Connection) -> Backend:
    """Given a connection, return its kind of database."""
    return _BY_NAME[connection.dialect.name]


def _has_no_file(url: sa.URL) -> bool:
    return not url.database or url.database == ":memory:"


def driver_error(error: BaseException) -> BaseException:
    """Given an error of SQLAlchemy or of a driver, return the driver's."""
    return error.orig if isinstance(error, exc.DBAPIError) and error.orig is not None else error


def driver_errors(dbapi: Any) -> tuple[type[BaseException], ...]:
    """Given a driver's module, return the classes of its errors: SQLAlchemy's, and its own."""
    return (exc.DBAPIError, dbapi.Error)


def error_kind(error: BaseException) -> ErrorKind:
    """Given an error of SQLAlchemy or of a driver, return its kind."""
    origin = driver_error(error)
    backend = _speaker(origin)
    return ErrorKind.OTHER if backend is None else backend.error_kind(origin)


def code_and_words(error: BaseException) -> tuple[str, str]:
    """Given an error, return the database's own code and message: one line, without row contents and secrets."""
    origin = driver_error(error)
    backend = _speaker(origin)
    code, text = ("", str(origin)) if backend is None else backend.code_and_words(origin)
    return code, redact(" ".join(text.split()))


def is_of_file(error: BaseException) -> bool:
    """Given an error of SQLAlchemy or of a driver, return whether it is about a database that is a file."""
    backend = _speaker(driver_error(error))
    return backend is not None and backend.is_file


def _speaker(origin: BaseException) -> Backend | None:
    return next((backend for backend in BACKENDS if backend.speaks(origin)), None)
