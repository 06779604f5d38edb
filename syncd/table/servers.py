"""PostgreSQL, and MariaDB and MySQL, as homes of a mapping table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects import mysql

from syncd.table import dialect


class _Server(dialect.Dialect):
    """What the servers share: a small pool whose connections are tried before use, after a restart too."""

    arguments: ClassVar[dict[str, Any]]
    """What the driver is told, unless the URL says otherwise."""

    def _engine(self, url: sa.URL) -> sa.Engine:
        return sa.create_engine(
            url,
            isolation_level="READ COMMITTED",
            pool_size=2,
            pool_pre_ping=True,
            hide_parameters=True,
            connect_args={name: value for name, value in self.arguments.items() if name not in url.query},
        )


class PostgreSQL(_Server):
    """PostgreSQL over psycopg 3."""

    kind = "postgresql"
    driver = "postgresql+psycopg"
    extra = "postgres"
    arguments: ClassVar[dict[str, Any]] = {
        "application_name": "syncd",
        "connect_timeout": dialect.CONNECT_SECONDS,
        # A server that fell silent is noticed within a minute instead of the two hours of the system's default.
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "tcp_user_timeout": 60_000,
        # A pooler between us and the server may lead the next transaction to a session that knows no statement of ours.
        "prepare_threshold": None,
    }

    @contextmanager
    def snapshot(self) -> Iterator[sa.Connection]:
        """Read with REPEATABLE READ, READ ONLY."""
        options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        with self.engine.connect().execution_options(**options) as connection:
            self._bound(connection, dialect.SNAPSHOT_SECONDS)
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

    def _bound(self, connection: sa.Connection, seconds: int, lock_seconds: float | None = None) -> None:
        wait = (lock_seconds or dialect.LOCK_SECONDS) * 1000
        # LOCAL: a pooler between us and the server may hand the session to somebody else afterwards.
        connection.exec_driver_sql(
            f"SET LOCAL lock_timeout = {wait:.0f}; SET LOCAL statement_timeout = {seconds * 1000}"
        )


class MySQL(_Server):
    """MariaDB and MySQL over PyMySQL. SQLAlchemy sets FOUND_ROWS: affected rows are the rows that matched."""

    kind = "mysql"
    driver = "mysql+pymysql"
    extra = "mysql"
    folds_case = True
    arguments: ClassVar[dict[str, Any]] = {
        "connect_timeout": dialect.CONNECT_SECONDS,
        "read_timeout": dialect.SNAPSHOT_SECONDS + 10,
        "write_timeout": dialect.WRITE_SECONDS,
    }

    @contextmanager
    def snapshot(self) -> Iterator[sa.Connection]:
        """Read with REPEATABLE READ from a read view that is made now, not by the first read."""
        with self.engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
            self._bound(connection, dialect.SNAPSHOT_SECONDS)
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

    def _bound(self, connection: sa.Connection, seconds: int, lock_seconds: float | None = None) -> None:
        wait = max(1, round(lock_seconds or dialect.LOCK_SECONDS))
        is_mariadb = getattr(connection.dialect, "is_mariadb", False)
        limit = f"max_statement_time = {seconds}" if is_mariadb else f"max_execution_time = {seconds * 1000}"
        connection.exec_driver_sql(
            f"SET SESSION {limit}, innodb_lock_wait_timeout = {wait}, lock_wait_timeout = {wait}"
        )


def _set_up_mysql(connection: Any, _record: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            # A TIMESTAMP is told in the session's zone; syncd's times are UTC.
            "SET SESSION time_zone = '+00:00', "
            # Without it a value that does not fit is cut to one that does.
            "sql_mode = CONCAT_WS(',', NULLIF(@@sql_mode, ''), 'STRICT_ALL_TABLES')"
        )
    connection.commit()
