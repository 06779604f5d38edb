"""MariaDB and MySQL over PyMySQL, and all that differs from other databases."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from types import MappingProxyType
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects import mysql

from syncd.db import ErrorKind
from syncd.db.backend import CONNECT_SECONDS, Limits, Opening, is_module
from syncd.db.mysql_options import CLEARTEXT, MODULE, exposure, options_of
from syncd.db.options import Options
from syncd.db.server import Server

_STATE_MODE = "STRICT_ALL_TABLES"
"""The SQL mode of the state database's sessions: a value that does not fit is refused."""

# By error number (mariadb.com/kb/en/mariadb-error-codes, dev.mysql.com: server error reference). From 2000 to 2999 they
# are the client's own.
ERRORS = MappingProxyType(
    {
        **dict.fromkeys((1044, 1045, 1130, 1142, 1143, 1227, 1251, 1370, 1524, 1698), ErrorKind.REFUSED),
        **dict.fromkeys((1820, 1862, 3118, 3159, 3955, 4151, 2049, 2059, 2061), ErrorKind.REFUSED),
        1049: ErrorKind.NO_DATABASE,
        **dict.fromkeys((1051, 1109, 1146, 1305, 1356), ErrorKind.NO_TABLE),
        1054: ErrorKind.NO_COLUMN,
        1064: ErrorKind.STATEMENT,
        **dict.fromkeys((1290, 1792, 1836), ErrorKind.READ_ONLY),
        **dict.fromkeys((1021, 1114), ErrorKind.FULL),
        **dict.fromkeys((1037, 1038, 1040, 1041, 1135, 1203, 1226), ErrorKind.OVERLOADED),
        1129: ErrorKind.NOT_READY,
        1030: ErrorKind.BROKEN,
        **dict.fromkeys((1053, 1077, 1079, 1152, 1158, 1159, 1160, 1161, 1317, 1927, 4031), ErrorKind.UNREACHABLE),
        **dict.fromkeys((2002, 2003, 2005, 2006, 2013, 2014, 2055), ErrorKind.UNREACHABLE),
        2026: ErrorKind.OPTION,
        CLEARTEXT: ErrorKind.CLEARTEXT,
        **dict.fromkeys((1062, 1586, 1761), ErrorKind.DUPLICATE),
        **dict.fromkeys((1216, 1217, 1451, 1452, 1644, 3819, 4025), ErrorKind.CONSTRAINT),
        1205: ErrorKind.LOCKED,
        **dict.fromkeys((1969, 3024), ErrorKind.SLOW),
        **dict.fromkeys((1020, 1213, 1412), ErrorKind.RETRY),
    }
)

_SEND_SECONDS = 60
"""How long a server may take to accept what it is sent."""

_ENGINE_WITHOUT_TRANSACTIONS = sa.text(
    "SELECT t.ENGINE FROM information_schema.TABLES t LEFT JOIN information_schema.ENGINES e"
    " ON e.ENGINE = t.ENGINE WHERE t.TABLE_SCHEMA = COALESCE(:schema, DATABASE()) AND t.TABLE_NAME = :table"
    " AND t.ENGINE IS NOT NULL AND COALESCE(e.TRANSACTIONS, 'NO') <> 'YES'"
)
_VIEW_DEFINITION = sa.text(
    "SELECT VIEW_DEFINITION FROM information_schema.VIEWS"
    " WHERE TABLE_SCHEMA = COALESCE(:schema, DATABASE()) AND TABLE_NAME = :table"
)
_UNIQUE_KEYS = sa.text(
    "SELECT s.INDEX_NAME, s.COLUMN_NAME, c.GENERATION_EXPRESSION FROM information_schema.STATISTICS s"
    " LEFT JOIN information_schema.COLUMNS c ON c.TABLE_SCHEMA = s.TABLE_SCHEMA AND c.TABLE_NAME = s.TABLE_NAME"
    " AND c.COLUMN_NAME = s.COLUMN_NAME"
    " WHERE s.TABLE_SCHEMA = COALESCE(:schema, DATABASE()) AND s.TABLE_NAME = :table AND s.NON_UNIQUE = 0"
)
# The server keeps a view's definition with every table as `database`.`table`, and every column behind one more name.
_TABLE_OF_VIEW = re.compile(r"`([^`]+)`\.`([^`]+)`(?!\.)")


class MySQL(Server):
    """MariaDB and MySQL. SQLAlchemy sets FOUND_ROWS: affected rows are the rows that matched."""

    kind = "mysql"
    names = ("mysql", "mariadb")
    driver = "mysql+pymysql"
    module = MODULE
    packages = "pymysql cryptography"
    # Statements that go to the driver as they are have tuples as parameters.
    engine_options: ClassVar[Mapping[str, Any]] = {"paramstyle": "format"}
    session_id = "SELECT CONNECTION_ID()"
    take_lock = "SELECT GET_LOCK(:key, 0)"
    drop_lock = "SELECT RELEASE_LOCK(:key)"
    snapshot_options: ClassVar[Mapping[str, Any]] = {"isolation_level": "REPEATABLE READ"}
    folds_case = True
    zero_dates = True
    has_booleans = False
    locks_reads = True

    # ----------------------------------------------------------------- errors

    def speaks(self, error: BaseException) -> bool:
        """See `Backend`."""
        return is_module(error, "pymysql")

    def error_kind(self, error: BaseException) -> ErrorKind:
        """By number, and not by SQLSTATE, which is HY000 for most."""
        number = error_number(error)
        if number is None:
            # "Already closed", or an invalid packet: the connection is lost.
            lost = type(error).__name__ in {"InterfaceError", "OperationalError", "InternalError"}
            return ErrorKind.UNREACHABLE if lost else ErrorKind.OTHER
        kind = ERRORS.get(number, ErrorKind.OTHER)
        # The driver reports an error of TLS, whose text is Python's and never translated, as a missing server.
        return ErrorKind.OPTION if kind is ErrorKind.UNREACHABLE and "[SSL:" in str(error) else kind

    def code_and_words(self, error: BaseException) -> tuple[str, str]:
        """See `Backend`."""
        number = error_number(error)
        return ("", str(error)) if number is None else (str(number), str(error.args[-1]))

    # ---------------------------------------------------------------- opening

    def options(self, url: sa.URL) -> Options:
        """See `Backend`."""
        return options_of(url)

    def session_arguments(self, limits: Limits | None) -> dict[str, Any]:
        """The server has no time limit for statements that write; the driver's limit replaces it."""
        timeouts = {} if limits is None else dict.fromkeys(("read_timeout", "write_timeout"), limits.statement)
        return {"connect_timeout": CONNECT_SECONDS, **timeouts}

    def table_arguments(self, limits: Limits) -> dict[str, Any]:
        """The server's own limits end a statement first; the driver's are for a server that stops answering."""
        timeouts = {"read_timeout": limits.statement + CONNECT_SECONDS, "write_timeout": _SEND_SECONDS}
        return {"connect_timeout": CONNECT_SECONDS, **timeouts}

    def connect(self, driver: Any, args: Sequence[Any], arguments: Mapping[str, Any]) -> Any:
        """PyMySQL's limit for connecting ends with TCP's; it would wait for the greeting as long as for a statement."""
        connection = driver.connect(*args, **{**arguments, "defer_connect": True})
        for_statements = connection._read_timeout  # noqa: SLF001 - no argument of the driver sets it for a time
        connection._read_timeout = min(connection.connect_timeout, for_statements or connection.connect_timeout)  # noqa: SLF001
        connection.connect()
        connection._read_timeout = for_statements  # noqa: SLF001 - as above
        return connection

    def table_engine(self, url: sa.URL, key: str, limits: Limits, *, opening: Opening = nullcontext) -> sa.Engine:
        """The session keeps the user's time zone, which their defaults, triggers and marks use."""
        # SQLAlchemy does not know MariaDB's periods of time and says so in each pass. syncd needs no part of them.
        warnings.filterwarnings("ignore", "Unknown schema content", sa.exc.SAWarning)
        engine = super().table_engine(url, key, limits, opening=opening)

        @event.listens_for(engine, "connect")
        def set_up(connection: Any, _record: object) -> None:
            with connection.cursor() as cursor:
                # Without it, the server cuts a value that does not fit.
                cursor.execute("SET SESSION sql_mode = CONCAT_WS(',', NULLIF(@@sql_mode, ''), 'STRICT_ALL_TABLES')")
            connection.commit()

        return engine

    def set_up_sessions(self, engine: sa.Engine, limits: Limits | None, *, transactions: bool) -> None:
        """The server's mode is for other programs: ORACLE, say, reserves names of syncd's columns."""
        del transactions
        settings = [f"sql_mode = '{_STATE_MODE}'"]
        if limits is not None:
            settings.append(f"innodb_lock_wait_timeout = {limits.lock:.0f}")

        # Before SQLAlchemy asks the first connection for its mode, to know how names are quoted.
        @event.listens_for(engine, "connect", insert=True)
        def set_up(connection: Any, _record: object) -> None:
            with connection.cursor() as cursor:
                cursor.execute(f"SET SESSION {', '.join(settings)}")
            connection.commit()

    def exposure(self, connection: sa.Connection) -> str:
        """See `Backend`."""
        return exposure(connection.connection.driver_connection)

    # -------------------------------------------------- sessions of the state

    def lock_key(self, subject: str) -> str:
        """A name of at most 64 characters, over all databases of the server."""
        return f"syncd {hashlib.sha256(subject.encode()).hexdigest()[:48]}"

    def wait_for_lock(self, connection: sa.Connection, subject: str) -> None:
        """MariaDB cannot wait without a limit."""
        while not connection.scalar(sa.text("SELECT GET_LOCK(:key, 60)"), {"key": self.lock_key(subject)}):
            pass

    # -------------------------------------------- transactions on the mapping table

    def limit_time(self, connection: sa.Connection, limits: Limits, *, refuse_hidden_rows: bool = False) -> None:
        """The server takes whole seconds."""
        del refuse_hidden_rows
        wait = max(1, round(limits.lock))
        is_mariadb = getattr(connection.dialect, "is_mariadb", False)
        limit = f"max_statement_time = {limits.statement}"
        if not is_mariadb:
            limit = f"max_execution_time = {limits.statement * 1000}"
        connection.exec_driver_sql(
            f"SET SESSION {limit}, innodb_lock_wait_timeout = {wait}, lock_wait_timeout = {wait}"
        )

    def fix_moment(self, connection: sa.Connection) -> None:
        """START TRANSACTION makes the read view now; otherwise the first read makes it."""
        connection.exec_driver_sql("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")

    def stream(self, connection: sa.Connection) -> Any:
        """PyMySQL's ordinary cursor reads everything at once."""
        driver: Any = connection.dialect.dbapi
        return connection.connection.cursor(driver.cursors.SSCursor)

    # ------------------------------------------------------------ the mapping table's shape

    def plain_type(self, reflected: sa.types.TypeEngine[Any]) -> sa.types.TypeEngine[Any]:
        """A BIT is a boolean."""
        return sa.Boolean() if isinstance(reflected, mysql.BIT) else reflected

    def shortcoming(self, connection: sa.Connection, schema: str | None, table: str) -> str:
        """MyISAM and similar engines, and views over them, have neither snapshots nor rollback."""
        waiting: list[tuple[str | None, str]] = [(schema, table)]
        seen: set[tuple[str | None, str]] = set()
        while waiting:
            at, name = waiting.pop()
            if (at, name) in seen:
                continue
            seen.add((at, name))
            engine = connection.execute(_ENGINE_WITHOUT_TRANSACTIONS, {"schema": at, "table": name}).scalar()
            if engine:
                where = "" if name == table else f'reads the table "{name}", which '
                return f"{where}is kept by the engine {engine}, which has no transactions; make it InnoDB"
            definition = connection.execute(_VIEW_DEFINITION, {"schema": at, "table": name}).scalar()
            waiting += [(found[1], found[2]) for found in _TABLE_OF_VIEW.finditer(definition or "")]
        return ""

    # A view counts rows as its table does, since INSTEAD OF does not exist here; and a trigger may not change its own
    # table.

    def filled_columns(self, connection: sa.Connection, schema: str | None, table: str) -> set[str]:
        """MariaDB writes INVISIBLE between NOT NULL and DEFAULT, and SQLAlchemy then misses the default."""
        query = sa.text(
            "SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = COALESCE(:schema, DATABASE())"
            " AND TABLE_NAME = :table AND (COLUMN_DEFAULT IS NOT NULL OR EXTRA LIKE '%GENERATED%')"
        )
        return set(connection.execute(query, {"schema": schema, "table": table}).scalars())

    def unique_keys(self, connection: sa.Connection, schema: str | None, table: str) -> list[set[str]]:
        """MariaDB's periods of time are in a key by their columns.

        SQLAlchemy leaves out a period that a key names WITHOUT OVERLAPS: an order may have several rows there. And a
        table with a history adds the end of a row's time to each key. It is the same in all current rows, so it counts
        as absent.
        """
        keys: dict[str, set[str]] = {}
        for index, column, generated in connection.execute(_UNIQUE_KEYS, {"schema": schema, "table": table}):
            columns = keys.setdefault(index, set())
            if generated != "ROW END":
                columns.add(column or "")  # an expression has no name
        return list(keys.values())

    # ------------------------------------------------------------ the mapping table's cells

    def id_cell(self, reflected: sa.types.TypeEngine[Any]) -> type[int | str | bytes] | None:
        """VARBINARY compares byte by byte, which suits digits."""
        return bytes if isinstance(reflected, sa.LargeBinary | sa.VARBINARY) else super().id_cell(reflected)

    def equals_exactly(self, column: sa.ColumnClause[Any], parameter: sa.BindParameter[Any]) -> sa.ColumnElement[bool]:
        """Most collations ignore case and spaces at the end; bytes are compared exactly."""
        text = mysql.CHAR(charset="utf8mb4")
        of_column, of_parameter = (sa.cast(sa.cast(one, text), mysql.BINARY) for one in (column, parameter))
        return sa.and_(column == parameter, of_column == of_parameter)

    def matches_form(self, column: sa.ColumnClause[Any], parameter: sa.BindParameter[Any]) -> sa.ColumnElement[bool]:
        """MySQL's CAST takes the longest prefix that is a number, with only a warning."""
        return sa.cast(column, mysql.INTEGER(unsigned=True)).in_(parameter)

    def time_now(self, precision: int | None) -> sa.ColumnElement[Any]:
        """A time with more digits than the column holds would be rounded up, to a time in the future."""
        return sa.func.current_timestamp(sa.text(str(precision))) if precision else sa.func.current_timestamp()

    def text_now(self) -> sa.ColumnElement[Any]:
        """DATE_FORMAT would need percent signs."""
        return sa.cast(sa.func.current_timestamp(), sa.CHAR(19))

    def seconds_now(self) -> sa.ColumnElement[Any]:
        """UNIX_TIMESTAMP takes the session's time zone into account."""
        return sa.func.unix_timestamp()


def error_number(error: BaseException) -> int | None:
    """Given an error of the driver, return its number, if it has one."""
    if not is_module(error, "pymysql") or not error.args:
        return None
    return error.args[0] if isinstance(error.args[0], int) and error.args[0] else None


BACKEND = MySQL()
