"""PostgreSQL over psycopg 3, directly or behind a pooler."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, cast

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects import postgresql

from syncd.db import ErrorKind, libpq
from syncd.db.backend import CONNECT_SECONDS, Limits, is_module
from syncd.db.options import Options
from syncd.db.server import Server

# By SQLSTATE, or by its class of two characters, or of three (postgresql.org/docs/current/errcodes-appendix.html).
ERRORS = MappingProxyType(
    {
        "08": ErrorKind.UNREACHABLE,
        **dict.fromkeys(("23505", "23P01"), ErrorKind.DUPLICATE),
        **dict.fromkeys(("23001", "23503", "23514", "P0001"), ErrorKind.CONSTRAINT),
        "22": ErrorKind.UNFIT,
        "25006": ErrorKind.READ_ONLY,
        "28": ErrorKind.REFUSED,
        "3D000": ErrorKind.NO_DATABASE,
        "3F000": ErrorKind.NO_TABLE,
        "40": ErrorKind.RETRY,
        "40003": ErrorKind.UNREACHABLE,  # whether the transaction was completed is not known
        "42501": ErrorKind.REFUSED,
        "42703": ErrorKind.NO_COLUMN,
        "42P01": ErrorKind.NO_TABLE,
        "42": ErrorKind.STATEMENT,
        "53": ErrorKind.OVERLOADED,
        "53100": ErrorKind.FULL,
        "55P03": ErrorKind.LOCKED,
        "57014": ErrorKind.SLOW,
        "57P03": ErrorKind.NOT_READY,
        "57": ErrorKind.UNREACHABLE,
        "58": ErrorKind.BROKEN,
        "XX": ErrorKind.BROKEN,
    }
)

# A right that is missing, a policy that hides rows and one that refuses a row have one code, and their words are
# translated; the name of the server's function is not.
_BY_FUNCTION = {"check_enable_rls": ErrorKind.HIDDEN, "ExecWithCheckOptions": ErrorKind.CONSTRAINT}

_POOLED = "syncd_pooled"
"""The key in a connection's `info` for whether it goes through a pooler."""

# A holder of locks whose host is gone is found out by the server within half a minute instead of hours.
_KEEP_ALIVE = (
    "SET tcp_keepalives_idle = 15",
    "SET tcp_keepalives_interval = 5",
    "SET tcp_keepalives_count = 3",
)


class PostgreSQL(Server):
    """PostgreSQL."""

    kind = "postgresql"
    names = ("postgresql",)
    driver = "postgresql+psycopg"
    module = libpq.MODULE
    packages = "'psycopg[binary]'"
    session_id = "SELECT pg_backend_pid()"
    take_lock = "SELECT pg_try_advisory_lock(:key)"
    drop_lock = "SELECT pg_advisory_unlock(:key)"
    snapshot_options: ClassVar[Mapping[str, Any]] = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}

    # ----------------------------------------------------------------- errors

    def speaks(self, error: BaseException) -> bool:
        """See `Backend`."""
        return is_module(error, "psycopg")

    def error_kind(self, error: BaseException) -> ErrorKind:
        """A server's errors have codes; before a server answers, there are only libpq's own messages."""
        state: str | None = getattr(error, "sqlstate", None)
        if state is None:
            return libpq.kind_without_code(str(error))
        by = _BY_FUNCTION.get(getattr(getattr(error, "diag", None), "source_function", None) or "")
        if by is not None:
            return by
        known = (ERRORS.get(state[:length]) for length in (5, 3, 2))
        return next((kind for kind in known if kind is not None), ErrorKind.OTHER)

    def code_and_words(self, error: BaseException) -> tuple[str, str]:
        """The full text of an error would quote the whole row; its primary message names the constraint."""
        diagnosis = getattr(error, "diag", None)
        primary = getattr(diagnosis, "message_primary", None)
        # libpq indents its questions to the reader, such as whether the server is running.
        words = "\n".join(line for line in str(error).splitlines() if not line.startswith("\t"))
        return getattr(error, "sqlstate", None) or "", primary or words

    def find_refusal_code(self, error: BaseException, arguments: Mapping[str, Any]) -> None:
        """When a server refuses the connection, libpq does not return its code."""
        if getattr(error, "sqlstate", None) is None and (state := libpq.refusal_code(error, arguments)):
            error.sqlstate = state  # type: ignore[attr-defined]

    # ---------------------------------------------------------------- opening

    def options(self, url: sa.URL) -> Options:
        """See `Backend`."""
        return libpq.options_of(url)

    def session_arguments(self, limits: Limits | None) -> dict[str, Any]:
        """A statement prepared in one session does not exist in the next one that a pooler gives us."""
        del limits
        return {"connect_timeout": CONNECT_SECONDS, "prepare_threshold": None}

    def table_arguments(self, limits: Limits) -> dict[str, Any]:
        """A server that stops answering is noticed within a minute; by default the system needs two hours."""
        return {
            "application_name": "syncd",
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            "tcp_user_timeout": 60_000,
            **self.session_arguments(limits),
        }

    def set_up_sessions(self, engine: sa.Engine, limits: Limits | None, *, transactions: bool) -> None:
        """Without a pooler the whole session is ours; behind one it is ours for one transaction only."""
        limited = () if limits is None else _limits(limits)
        local = "; ".join(limit.replace("SET ", "SET LOCAL ") for limit in limited)

        @event.listens_for(engine, "connect")
        def set_up(connection: Any, record: Any) -> None:
            record.info[_POOLED] = is_pooled(connection)
            if not record.info[_POOLED]:
                # Not as start-up options, which would replace those of the operator's URL (a search_path).
                with connection.cursor() as cursor:
                    for statement in (*_KEEP_ALIVE, *limited):
                        cursor.execute(statement)
                connection.commit()

        @event.listens_for(engine, "begin")
        def limit(connection: sa.Connection) -> None:
            if transactions and local and self.is_pooled(connection):
                connection.exec_driver_sql(local)

    def exposure(self, connection: sa.Connection) -> str:
        """See `Backend`."""
        return libpq.exposure(connection.connection.driver_connection)

    # -------------------------------------------------- sessions of the state

    def lock_key(self, subject: str) -> int:
        """A number of 64 bits, unique within a database."""
        return int.from_bytes(hashlib.sha256(subject.encode()).digest()[:8], signed=True)

    def wait_for_lock(self, connection: sa.Connection, subject: str) -> None:
        """See `Server`."""
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": self.lock_key(subject)})

    def is_pooled(self, connection: sa.Connection) -> bool:
        """The answer was found out when the session began."""
        return bool(connection.connection.info.get(_POOLED))

    # ------------------------------------------------------ many rows at once

    def insert_rows(
        self, connection: sa.Connection, table: sa.Table, columns: Sequence[str], rows: Sequence[Sequence[Any]]
    ) -> None:
        """With COPY."""
        _copy(connection, table.name, columns, rows)

    def replace_rows(
        self, connection: sa.Connection, table: sa.Table, columns: Sequence[str], rows: Iterable[Sequence[Any]]
    ) -> None:
        """With COPY into a temporary table, which the end of the transaction empties, and one merge."""
        staged, names = f"staged_{table.name}", ", ".join(columns)
        key = [column.name for column in table.primary_key]
        values = ", ".join(f"{name} = excluded.{name}" for name in columns if name not in key)
        connection.exec_driver_sql(
            f"CREATE TEMPORARY TABLE IF NOT EXISTS {staged} (LIKE {table.name}) ON COMMIT DELETE ROWS"
        )
        _copy(connection, staged, columns, rows)
        connection.exec_driver_sql(
            f"INSERT INTO {table.name} ({names}) SELECT {names} FROM {staged}"  # noqa: S608 - names of the schema
            f" ON CONFLICT ({', '.join(key)}) DO UPDATE SET {values}"
        )

    def refresh_statistics(self, connection: sa.Connection, table: sa.Table) -> None:
        """ANALYZE a table that has doubled.

        Until autovacuum has run, the planner may take a million rows for none, and choose an index that reads all rows
        of a link.
        """
        doubled = connection.exec_driver_sql(
            "SELECT pg_relation_size(oid) > 2 * greatest(relpages, 32) * current_setting('block_size')::bigint"
            " FROM pg_class WHERE oid = %s::regclass",
            (table.name,),
        ).scalar()
        if doubled:
            connection.exec_driver_sql(f"ANALYZE {table.name}")

    def delete_rows(self, connection: sa.Connection, table: sa.Table, keys: Sequence[Sequence[int]]) -> None:
        """With one array for each column of the key."""
        names = [column.name for column in table.primary_key]
        arrays = ", ".join("CAST(%s AS bigint[])" for _ in names)
        matched = " AND ".join(f"{table.name}.{name} = gone.{name}" for name in names)
        connection.exec_driver_sql(
            f"DELETE FROM {table.name} USING unnest({arrays}) AS gone ({', '.join(names)})"  # noqa: S608 - as above
            f" WHERE {matched}",
            tuple(map(list, zip(*keys, strict=True))),
        )

    # -------------------------------------------- transactions on the mapping table

    def limit_time(self, connection: sa.Connection, limits: Limits, *, refuse_hidden_rows: bool = False) -> None:
        """LOCAL: a pooler may give the session to another client afterwards."""
        limited = [limit.replace("SET ", "SET LOCAL ") for limit in _limits(limits)]
        hidden = ["SET LOCAL row_security = off"] if refuse_hidden_rows else []
        connection.exec_driver_sql("; ".join([*limited, *hidden]))

    def stream(self, connection: sa.Connection) -> Any:
        """A named cursor keeps its rows on the server."""
        return connection.connection.cursor("syncd_snapshot")

    def serialise_inserts(self, connection: sa.Connection, table: sa.TableClause) -> None:
        """SHARE ROW EXCLUSIVE lets others read, and allows one writer at a time."""
        name = _quoted(connection, table.schema, table.name)
        connection.exec_driver_sql(f"LOCK TABLE {name} IN SHARE ROW EXCLUSIVE MODE".replace("%", "%%"))

    def defer_constraints(self, connection: sa.Connection) -> None:
        """Constraints that are not deferrable stay as they are."""
        connection.exec_driver_sql("SET CONSTRAINTS ALL DEFERRED")

    def check_constraints(self, connection: sa.Connection) -> None:
        """Deferred constraint triggers run here, too."""
        connection.exec_driver_sql("SET CONSTRAINTS ALL IMMEDIATE")

    def balance(self, connection: sa.Connection, table: sa.TableClause) -> int | None:
        """The server counts the rows that each transaction changes in each table, also by triggers."""
        query = sa.text(
            "SELECT pg_stat_get_xact_tuples_inserted(id) - pg_stat_get_xact_tuples_deleted(id)"
            " FROM CAST(CAST(:name AS regclass) AS oid) id"
        )
        return int(connection.execute(query, {"name": _quoted(connection, table.schema, table.name)}).scalar_one())

    # ------------------------------------------------------------ the mapping table's shape

    def other_schemas(self, inspector: sa.Inspector) -> list[str]:
        """See `Backend`."""
        own = {inspector.default_schema_name, "information_schema"}
        return [name for name in inspector.get_schema_names() if name not in own and not name.startswith("pg_")]

    def plain_type(self, reflected: sa.types.TypeEngine[Any]) -> sa.types.TypeEngine[Any]:
        """A domain's cells are those of its type."""
        return reflected.data_type if isinstance(reflected, postgresql.DOMAIN) else reflected

    def hindrance(self, connection: sa.Connection) -> str:
        """See `Backend`. Since version 15 only the owner of a database may make tables in its schema `public`."""
        schema, may = connection.execute(
            sa.text("SELECT current_schema(), has_schema_privilege(current_schema(), 'CREATE')")
        ).one()
        if schema is None:
            return "None of the schemas of its search_path exists, so no table can be made."
        return "" if may else f"This user may not make tables in its schema {schema}."

    def takes_writes(self, connection: sa.Connection) -> bool:
        """A standby, and a role or database that is set to read only, accept none."""
        return connection.exec_driver_sql("SHOW transaction_read_only").scalar() == "off"

    def hides_rows(self, connection: sa.Connection, schema: str | None, table: str) -> bool:
        """The server knows for which users, roles and owners its policies are in force."""
        query = sa.text("SELECT row_security_active(CAST(:name AS regclass))")
        return bool(connection.execute(query, {"name": _quoted(connection, schema, table)}).scalar())

    def is_view(self, connection: sa.Connection, schema: str | None, table: str) -> bool:
        """Materialized views accept no writes."""
        return _relation(connection, schema, table) == "v"

    def may_reach_other_rows(self, connection: sa.Connection, schema: str | None, table: str) -> bool:
        """The counts of a partitioned table are those of its partitions; a foreign table has none."""
        return _relation(connection, schema, table) == "r" and _has_triggers(connection, schema, table)

    def readable_times(self, column: sa.ColumnElement[Any]) -> list[sa.ColumnElement[bool]]:
        """`infinity`, and years that Python's `datetime` does not know, make psycopg raise an error.

        A day is left out at each end, since the time zone of the session moves times with a zone.
        """
        return [column >= sa.literal_column("'0001-01-02'"), column < sa.literal_column("'9999-12-31'")]

    def hides_effects(self, connection: sa.Connection, schema: str | None, table: str) -> bool:
        """Views and foreign tables are counted elsewhere, partitioned tables by their partitions."""
        relation = _relation(connection, schema, table)
        return relation in {"v", "f"} or (relation == "p" and _has_triggers(connection, schema, table))

    # ------------------------------------------------------------ the mapping table's cells

    def equals_exactly(self, column: sa.ColumnClause[Any], parameter: sa.BindParameter[Any]) -> sa.ColumnElement[bool]:
        """A citext, or a collation that is not deterministic, treats different texts as equal."""
        return sa.and_(column == parameter, sa.collate(sa.cast(column, sa.Text), "C") == parameter)

    def matches_form(self, column: sa.ColumnClause[Any], parameter: sa.BindParameter[Any]) -> sa.ColumnElement[bool]:
        """Texts are compared: a cast to a number would fail at the first cell that is not one."""
        whole = sa.func.split_part(sa.cast(column, sa.Text), ".", 1)
        return sa.func.ltrim(sa.func.btrim(whole, " \t\r\n"), "+0").in_(parameter)

    def ids_to_match(self, ids: Sequence[int]) -> Sequence[object]:
        """Return the ids as texts."""
        return [str(order_id) for order_id in ids]

    def id_order(self, column: sa.ColumnClause[Any]) -> tuple[sa.ColumnElement[Any], ...]:
        """Bytes compare faster than letters of a language, and give the same result for digits."""
        return sa.func.length(column), sa.collate(column, "C")

    def text_now(self) -> sa.ColumnElement[Any]:
        """to_char returns local time."""
        return sa.func.to_char(sa.func.current_timestamp(), "YYYY-MM-DD HH24:MI:SS")

    def seconds_now(self) -> sa.ColumnElement[Any]:
        """The epoch comes with a fraction."""
        return sa.cast(sa.func.floor(sa.func.extract("epoch", sa.func.current_timestamp())), sa.BigInteger)


def is_pooled(connection: Any) -> bool:
    """Given a connection of the driver, return whether it goes through a pooler that may change sessions.

    The session number that a pooler sends at connecting is its own, not the server's.
    """
    with connection.cursor() as cursor:
        cursor.execute(PostgreSQL.session_id)
        row = cursor.fetchone()
    connection.rollback()
    return bool(row[0] != connection.info.backend_pid)


def _limits(limits: Limits) -> tuple[str, ...]:
    return f"SET lock_timeout = {limits.lock * 1000:.0f}", f"SET statement_timeout = {limits.statement * 1000}"


def _copy(connection: sa.Connection, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    driver = cast("Any", connection.connection.driver_connection)
    with driver.cursor() as cursor, cursor.copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)


def _has_triggers(connection: sa.Connection, schema: str | None, table: str) -> bool:
    query = sa.text("SELECT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = CAST(:name AS regclass))")
    return bool(connection.execute(query, {"name": _quoted(connection, schema, table)}).scalar())


def _relation(connection: sa.Connection, schema: str | None, table: str) -> str:
    """Return PostgreSQL's letter for the kind of a relation."""
    query = sa.text("SELECT relkind FROM pg_class WHERE oid = CAST(:name AS regclass)")
    return str(connection.execute(query, {"name": _quoted(connection, schema, table)}).scalar())


def _quoted(connection: sa.Connection, schema: str | None, table: str) -> str:
    preparer = connection.dialect.identifier_preparer
    return ".".join(preparer.quote_identifier(part) for part in (schema, table) if part)


BACKEND = PostgreSQL()
