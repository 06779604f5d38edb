"""Where SQLite, PostgreSQL and MariaDB/MySQL differ: opening, one-moment reads, write transactions, timeouts, text ids.

Every transaction is bounded by the database itself (locks, statements), since a thread cannot be cancelled.
"""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.dialects import mysql
from sqlalchemy.pool import NullPool

from syncd.errors import ConfigError, UnavailableError
from syncd.obs.redact import remember

CONNECT_SECONDS = 10
LOCK_SECONDS: float = 5
"""How long a statement waits for somebody else's lock."""
WRITE_SECONDS = 60
"""How long a server may work on one statement of a write or of a read by id."""
SNAPSHOT_SECONDS = 600
"""How long a server may take over the snapshot's statement; sorting without an index takes its time."""

_IMMEDIATE = "syncd_immediate"


class Dialect(ABC):
    """One kind of database.

    Args:
        url: With the driver syncd uses.
    """

    kind: ClassVar[str]
    driver: ClassVar[str]
    extra: ClassVar[str] = ""
    folds_case: ClassVar[bool] = False
    """Whether column names are the same whatever their case."""

    def __init__(self, url: sa.URL) -> None:
        self.engine = self._engine(url)

    @property
    def dbapi(self) -> Any:
        """The driver's module."""
        return self.engine.dialect.dbapi

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A transaction for a few reads by id."""
        with self.engine.connect() as connection:
            self._bound(connection, WRITE_SECONDS)
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A write transaction, rolled back unless the block commits. Each statement sees what others committed."""
        with self.engine.connect() as connection:
            self._bound(connection, WRITE_SECONDS)
            yield connection

    @contextmanager
    @abstractmethod
    def snapshot(self) -> Iterator[sa.Connection]:
        """A transaction in which all reads see one moment."""

    def stream(self, connection: sa.Connection) -> Any:
        """Return a cursor of the driver whose rows stay on the server until they are fetched.

        SQLAlchemy's own rows would cost three times what the driver's tuples do.
        """
        return connection.connection.cursor()

    @abstractmethod
    def digits_match(self, column: sa.ColumnClause[Any], parameter: sa.BindParameter[Any]) -> sa.ColumnElement[bool]:
        """Return a condition true of every text that may be one of the ids in the parameter, in whatever writing."""

    def digits(self, ids: Sequence[int]) -> Sequence[object]:
        """Return the ids as `digits_match` compares them."""
        return ids

    def forms(self, order_id: int, *, numeric: bool) -> tuple[object, ...]:
        """Given an id, return the values a cell usually holds it as, for a search that can use an index."""
        return (order_id,) if numeric else (str(order_id),)

    def id_cell(self, reflected: sa.types.TypeEngine[Any]) -> type[int | str | bytes] | None:
        """Given a column's type, return how an id is written into it; None for a type that holds no ids exactly."""
        if isinstance(reflected, sa.Float | sa.Enum):
            return None
        if isinstance(reflected, sa.Integer | sa.Numeric):
            return int
        return str if isinstance(reflected, sa.String) else None

    def takes_writes(self, connection: sa.Connection) -> bool:
        """Return whether the database takes any writes in this transaction, which was begun to write."""
        del connection
        return True

    def lacks(self, connection: sa.Connection, schema: str | None, table: str) -> str:
        """Return what this table lacks for a safe sync, as the end of a sentence; empty if nothing."""
        del connection, schema, table
        return ""

    @abstractmethod
    def _engine(self, url: sa.URL) -> sa.Engine: ...

    @abstractmethod
    def _bound(self, connection: sa.Connection, seconds: int) -> None:
        """Limit how long the server works on a statement of this transaction."""


class SQLite(Dialect):
    """A file. Opened anew for each transaction: one that was replaced by a copy must not live on under our hands."""

    kind = "sqlite"
    driver = "sqlite"
    folds_case = True

    @contextmanager
    def snapshot(self) -> Iterator[sa.Connection]:
        """Read within BEGIN: the first read fixes what the following ones see."""
        with self.engine.connect() as connection:
            connection.begin()
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Take the write lock first: nobody else writes between our reads and our writes."""
        with self.engine.connect().execution_options(**{_IMMEDIATE: True}) as connection:
            connection.begin()
            yield connection

    def digits_match(self, column: sa.ColumnClause[Any], parameter: sa.BindParameter[Any]) -> sa.ColumnElement[bool]:
        """SQLite's CAST takes the longest prefix that is a number."""
        return sa.cast(column, sa.Integer).in_(parameter)

    def forms(self, order_id: int, *, numeric: bool) -> tuple[object, ...]:
        """Any cell may hold any type, whatever its column's."""
        del numeric
        text = str(order_id)
        return (order_id, text, text.encode())

    def id_cell(self, reflected: sa.types.TypeEngine[Any]) -> type[int | str | bytes] | None:
        """A column may have no type at all, or BLOB."""
        if isinstance(reflected, sa.types.NullType):
            return int
        return bytes if isinstance(reflected, sa.LargeBinary) else super().id_cell(reflected)

    def _engine(self, url: sa.URL) -> sa.Engine:
        path = Path(url.database or "")

        def connect() -> sqlite3.Connection:
            if not path.is_file():
                raise UnavailableError(
                    f"The mapping table's database does not exist: there is no file {path}. Nothing was written.",
                    hint="syncd makes no database of its own; point the link's table at the right file.",
                )
            connection = sqlite3.connect(
                f"file:{quote(str(path))}?mode=rw",
                uri=True,
                timeout=LOCK_SECONDS,
                isolation_level=None,
                check_same_thread=False,
            )
            # What is no UTF-8 is a cell that cannot be read, not a table that cannot be read.
            connection.text_factory = _text
            # The owner of the table declared its constraints; leaving them off would let syncd break them.
            connection.execute("PRAGMA foreign_keys = ON")
            return connection

        engine = sa.create_engine("sqlite://", creator=connect, poolclass=NullPool, hide_parameters=True)

        @event.listens_for(engine, "begin")
        def begin(connection: sa.Connection) -> None:
            immediate = connection.get_execution_options().get(_IMMEDIATE, False)
            connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

        return engine

    def _bound(self, connection: sa.Connection, seconds: int) -> None:
        """There is no server; waiting for locks is bounded by the connection."""


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", errors="backslashreplace")


class _Server(Dialect):
    """What the servers share: a small pool whose connections are tried before use, after a restart too."""

    arguments: ClassVar[dict[str, Any]]

    def _engine(self, url: sa.URL) -> sa.Engine:
        return sa.create_engine(
            url,
            isolation_level="READ COMMITTED",
            pool_size=2,
            pool_pre_ping=True,
            hide_parameters=True,
            connect_args=self.arguments,
        )


class PostgreSQL(_Server):
    """PostgreSQL over psycopg 3."""

    kind = "postgresql"
    driver = "postgresql+psycopg"
    extra = "postgres"
    # A server that fell silent is noticed within a minute instead of the two hours of the system's default.
    arguments: ClassVar[dict[str, Any]] = {
        "connect_timeout": CONNECT_SECONDS,
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "application_name": "syncd",
    }

    @contextmanager
    def snapshot(self) -> Iterator[sa.Connection]:
        """Read with REPEATABLE READ, READ ONLY."""
        options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        with self.engine.connect().execution_options(**options) as connection:
            self._bound(connection, SNAPSHOT_SECONDS)
            yield connection

    def stream(self, connection: sa.Connection) -> Any:
        """A named cursor is one of the server's."""
        return connection.connection.cursor("syncd_snapshot")

    def digits_match(self, column: sa.ColumnClause[Any], parameter: sa.BindParameter[Any]) -> sa.ColumnElement[bool]:
        """Compare texts: a cast to a number would fail at the first cell that holds none."""
        whole = sa.func.split_part(sa.cast(column, sa.Text), ".", 1)
        return sa.func.ltrim(sa.func.btrim(whole, " \t\r\n"), "+0").in_(parameter)

    def digits(self, ids: Sequence[int]) -> Sequence[object]:
        """Return the ids as texts."""
        return [str(order_id) for order_id in ids]

    def takes_writes(self, connection: sa.Connection) -> bool:
        """A standby, and a role or database set to read only, take none."""
        return connection.exec_driver_sql("SHOW transaction_read_only").scalar() == "off"

    def _bound(self, connection: sa.Connection, seconds: int) -> None:
        # LOCAL: a pooler between us and the server may hand the session to somebody else afterwards.
        connection.exec_driver_sql(
            f"SET LOCAL lock_timeout = {LOCK_SECONDS * 1000:.0f}; SET LOCAL statement_timeout = {seconds * 1000}"
        )


class MySQL(_Server):
    """MariaDB and MySQL over PyMySQL. SQLAlchemy sets FOUND_ROWS: affected rows are the rows that matched."""

    kind = "mysql"
    driver = "mysql+pymysql"
    extra = "mysql"
    folds_case = True
    arguments: ClassVar[dict[str, Any]] = {
        "connect_timeout": CONNECT_SECONDS,
        "read_timeout": SNAPSHOT_SECONDS + 10,
        "write_timeout": WRITE_SECONDS,
    }

    @contextmanager
    def snapshot(self) -> Iterator[sa.Connection]:
        """Read with REPEATABLE READ from a read view that is made now, not by the first read."""
        with self.engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
            self._bound(connection, SNAPSHOT_SECONDS)
            connection.exec_driver_sql("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
            yield connection

    def stream(self, connection: sa.Connection) -> Any:
        """PyMySQL's ordinary cursor reads everything at once."""
        return connection.connection.cursor(self.dbapi.cursors.SSCursor)

    def digits_match(self, column: sa.ColumnClause[Any], parameter: sa.BindParameter[Any]) -> sa.ColumnElement[bool]:
        """MySQL's CAST takes the longest prefix that is a number, and only warns."""
        return sa.cast(column, mysql.INTEGER(unsigned=True)).in_(parameter)

    def id_cell(self, reflected: sa.types.TypeEngine[Any]) -> type[int | str | bytes] | None:
        """VARBINARY compares byte by byte, which suits digits."""
        return bytes if isinstance(reflected, sa.LargeBinary | sa.VARBINARY) else super().id_cell(reflected)

    def lacks(self, connection: sa.Connection, schema: str | None, table: str) -> str:
        """MyISAM and the like neither read one moment nor take a write back."""
        query = sa.text(
            "SELECT t.ENGINE FROM information_schema.TABLES t LEFT JOIN information_schema.ENGINES e"
            " ON e.ENGINE = t.ENGINE WHERE t.TABLE_SCHEMA = COALESCE(:schema, DATABASE()) AND t.TABLE_NAME = :table"
            " AND t.ENGINE IS NOT NULL AND COALESCE(e.TRANSACTIONS, 'NO') <> 'YES'"
        )
        engine = connection.execute(query, {"schema": schema, "table": table}).scalar()
        return f"is kept by the engine {engine}, which has no transactions; make it InnoDB" if engine else ""

    def _engine(self, url: sa.URL) -> sa.Engine:
        engine = super()._engine(url)
        event.listen(engine, "connect", _set_up_mysql)
        return engine

    def _bound(self, connection: sa.Connection, seconds: int) -> None:
        is_mariadb = getattr(connection.dialect, "is_mariadb", False)
        limit = f"max_statement_time = {seconds}" if is_mariadb else f"max_execution_time = {seconds * 1000}"
        connection.exec_driver_sql(f"SET SESSION {limit}")


def _set_up_mysql(connection: Any, _record: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            f"SET SESSION innodb_lock_wait_timeout = {LOCK_SECONDS:.0f}, lock_wait_timeout = {LOCK_SECONDS:.0f}, "
            # A TIMESTAMP is told in the session's zone; syncd's times are UTC.
            "time_zone = '+00:00', "
            # Without it a value that does not fit is cut to one that does.
            "sql_mode = CONCAT_WS(',', NULLIF(@@sql_mode, ''), 'STRICT_ALL_TABLES')"
        )
    connection.commit()


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
