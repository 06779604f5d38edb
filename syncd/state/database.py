"""One state database: how it is opened, and its two kinds of transaction.

SQLite runs in WAL mode with `synchronous=FULL`: the journal of intents must be on the disk before a request is sent, or
a power cut forgets that an order may have been written. PostgreSQL and MariaDB/MySQL commit durably by default.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum, auto
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event, exc, make_url
from sqlalchemy.pool import NullPool, QueuePool

from syncd.errors import ConfigError, StateUnavailable
from syncd.state.faults import explained, is_passing

P = ParamSpec("P")
T = TypeVar("T")

LOCK_SECONDS = 10.0
"""How long a statement waits for somebody else's lock."""

STATEMENT_SECONDS = 120
"""How long a server may work on one statement."""

THREADS = 4
"""How many transactions one process has at work on a server at once. SQLite has one writer."""

ATTEMPTS = 4
"""How often a transaction is tried when the server picks it as a deadlock's victim."""

# A holder of locks whose host is gone is found out by the server within half a minute instead of hours.
_POSTGRES_SESSION = (
    "SET tcp_keepalives_idle = 15",
    "SET tcp_keepalives_interval = 5",
    "SET tcp_keepalives_count = 3",
)
_POSTGRES_LIMITS = (
    f"SET lock_timeout = {int(LOCK_SECONDS * 1000)}",
    f"SET statement_timeout = {STATEMENT_SECONDS * 1000}",
)
_MYSQL_LIMITS = (f"SET SESSION innodb_lock_wait_timeout = {int(LOCK_SECONDS)}",)

_WRITES = "syncd_writes"
_DRIVERS = {
    "postgresql": ("postgresql+psycopg", "psycopg", "postgres"),
    "mysql": ("mysql+pymysql", "pymysql", "mysql"),
    "mariadb": ("mysql+pymysql", "pymysql", "mysql"),
}


def read_url(url: str) -> URL:
    """Given the URL of a state database, return it with the driver syncd uses.

    Raises:
        ConfigError: It is not a URL, names another kind of database, or an SQLite database without a file.
    """
    try:
        parsed = make_url(url)
    except exc.ArgumentError:
        # The parser's words would repeat the URL, with its password.
        raise ConfigError(
            "[state] url is not a database URL.",
            hint='Write it as "sqlite:///syncd.db" or "postgresql://user@host/name".',
        ) from None
    kind = parsed.get_backend_name()
    if kind == "sqlite":
        if not parsed.database or parsed.database == ":memory:" or parsed.database.startswith("file:"):
            raise ConfigError("[state] url names no file.", hint='Write it as "sqlite:///syncd.db".')
        return parsed.set(drivername="sqlite")
    if kind in _DRIVERS:
        return parsed.set(drivername=_DRIVERS[kind][0])
    raise ConfigError(
        f"[state] url names a {kind} database, which cannot keep the state.",
        hint="Use SQLite, PostgreSQL, MariaDB or MySQL.",
    )


def sqlite_path(url: URL) -> Path | None:
    """Given a URL, return its SQLite file, or None for a server."""
    return Path(url.database or "") if url.get_backend_name() == "sqlite" else None


def _place(url: URL) -> str:
    """Given the URL of a server's database, return what of it is no secret."""
    bare = URL.create(url.get_backend_name(), host=url.host, port=url.port, database=url.database)
    return bare.render_as_string()


class Purpose(Enum):
    """What a database is opened for.

    WORK: short transactions over pooled connections, with limits of time. LOCKS: one session kept for as long as its
    locks. UPGRADE: a missing SQLite file is made, and statements take as long as they take.
    """

    WORK = auto()
    LOCKS = auto()
    UPGRADE = auto()


class Database:
    """The engine of one state database.

    Args:
        url: From `read_url`.
        purpose: What it is opened for.

    Raises:
        ConfigError: The driver of this kind of database is not installed.
    """

    def __init__(self, url: URL, purpose: Purpose = Purpose.WORK) -> None:
        self.url = url
        self.path = sqlite_path(url)
        self.where = str(self.path) if self.path else _place(url)
        self.engine = _sqlite_engine(self.path, purpose) if self.path else _server_engine(url, purpose)

    @property
    def dialect(self) -> str:
        """sqlite, postgresql or mysql (which MariaDB is, too)."""
        return self.engine.dialect.name

    @contextmanager
    def transaction(self, *, writes: bool) -> Iterator[Connection]:
        """A transaction, committed when the block ends without an error. Let `explained` tell its errors."""
        with (
            self.engine.connect().execution_options(**{_WRITES: writes}) as connection,
            connection.begin(),
        ):
            yield connection

    def read(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work` in a transaction that only reads."""
        with explained(self.where), self.transaction(writes=False) as connection:
            return work(connection, *args, **kwargs)

    def write(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work` in a transaction that writes, again when the server broke a deadlock by ending it."""
        left = ATTEMPTS
        with explained(self.where):
            while True:
                left -= 1
                try:
                    with self.transaction(writes=True) as connection:
                        return work(connection, *args, **kwargs)
                except exc.DBAPIError as error:
                    if not (left and is_passing(error)):
                        raise

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def _sqlite_engine(path: Path, purpose: Purpose) -> Engine:
    def connect() -> sqlite3.Connection:
        _check_file(path, purpose)
        connection = sqlite3.connect(
            f"file:{quote(str(path))}?mode=rw",
            uri=True,
            timeout=LOCK_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA journal_size_limit = 67108864")
            connection.execute("PRAGMA cache_size = -16384")
        except sqlite3.Error:
            connection.close()
            _check_disk(path)
            raise
        return connection

    engine = create_engine("sqlite://", creator=connect, poolclass=QueuePool, hide_parameters=True)

    # The module begins transactions by itself only before some statements, and never takes the write lock up front; a
    # transaction that reads first and writes later would then fail at once instead of waiting for its turn.
    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(_WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _check_file(path: Path, purpose: Purpose) -> None:
    """See that the SQLite file is there; make it where that is the purpose."""
    try:
        if path.exists():
            return
        if not path.parent.is_dir():
            raise StateUnavailable(
                f"The state database {path} cannot be made: the folder {path.parent} does not exist.",
                hint="Create the folder, or point [state] url elsewhere.",
            )
        if purpose is not Purpose.UPGRADE:
            raise StateUnavailable(f"The state database {path} does not exist.", hint="Make it with: syncd db upgrade")
        # Tokens are kept in it: nobody else may read it, whatever the umask.
        path.touch(mode=0o600)
    except OSError as error:
        raise StateUnavailable(
            f"The state database {path} cannot be made or looked at: {error.strerror}.",
            hint="Give the user of syncd read and write access to the folder.",
        ) from None


def _check_disk(path: Path) -> None:
    """See that the disk an SQLite file lies on may be written; SQLite itself only says that it cannot open a file."""
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        raise StateUnavailable(
            f"The state database {path} lies on a disk that is mounted read-only. Nothing was written.",
            hint="See why in the system's log (a failing disk, often), and mount it for writing again.",
        )


def _server_engine(url: URL, purpose: Purpose) -> Engine:
    kind = url.get_backend_name()
    options: dict[str, Any] = {"poolclass": NullPool}
    if purpose is Purpose.WORK:
        options = {"pool_pre_ping": True, "pool_size": THREADS, "max_overflow": THREADS, "pool_timeout": 30}
    arguments: dict[str, Any] = {"connect_timeout": 10}
    if kind == "mysql":
        options["paramstyle"] = "format"  # what `bulk` hands to the driver are tuples
        if purpose is not Purpose.UPGRADE:
            arguments |= {"read_timeout": STATEMENT_SECONDS, "write_timeout": STATEMENT_SECONDS}
    try:
        engine = create_engine(
            url, isolation_level="READ COMMITTED", hide_parameters=True, connect_args=arguments, **options
        )
    except (exc.NoSuchModuleError, ModuleNotFoundError):
        _, driver, extra = _DRIVERS[kind]
        raise ConfigError(
            f"The driver {driver}, which a {kind} state database needs, is not installed.",
            hint=f"Install it with: pip install 'syncd[{extra}]'",
        ) from None
    # As statements and not as a start-up option, which would push out those of the operator's URL (a search_path).
    settings: tuple[str, ...] = _POSTGRES_SESSION if kind == "postgresql" else ()
    if purpose is not Purpose.UPGRADE:
        settings += _POSTGRES_LIMITS if kind == "postgresql" else _MYSQL_LIMITS

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, _record: object) -> None:
        with connection.cursor() as cursor:
            for setting in settings:
                cursor.execute(setting)
        connection.commit()

    return engine
