"""From a URL to the kind of database it names."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import exc

from syncd.errors import ConfigError
from syncd.obs.redact import remember
from syncd.table.dialect import Dialect
from syncd.table.servers import MySQL, PostgreSQL
from syncd.table.sqlite import SQLite

_KINDS: dict[str, type[Dialect]] = {"sqlite": SQLite, "postgresql": PostgreSQL, "mysql": MySQL, "mariadb": MySQL}


def dialect_for(url: str, key: str) -> Dialect:
    """Given a database URL, return how to speak to that database. Nothing connects yet.

    Args:
        url: A SQLAlchemy URL; the driver in it is replaced by the one syncd uses.
        key: The configuration key it comes from, for the sentences of errors.

    Raises:
        ConfigError: It is not a URL, names no kind of database syncd knows, or a driver is not installed.
    """
    try:
        parsed = sa.make_url(url)
    except exc.ArgumentError:
        # The parser's words would repeat the URL, with its password.
        raise ConfigError(f"{key} is not a database URL.", hint='Write "postgresql://user@host/database".') from None
    kind = _KINDS.get(parsed.get_backend_name())
    if kind is None:
        raise ConfigError(
            f"{key} names a {parsed.get_backend_name()} database, which syncd does not know how to read and write "
            "without risk.",
            hint="Use SQLite, PostgreSQL, MariaDB or MySQL.",
        )
    if kind is SQLite and (parsed.database or ":memory:") == ":memory:":
        raise ConfigError(f"{key} names no file.", hint='Write it as "sqlite:///orders.db".')
    if parsed.password:
        remember(str(parsed.password))
    try:
        return kind(parsed.set(drivername=kind.driver))
    except (exc.NoSuchModuleError, ModuleNotFoundError):
        raise ConfigError(
            f"The driver of a {kind.kind} mapping table is not installed.",
            hint=f"Install it with: pip install 'syncd[{kind.extra}]'",
        ) from None
