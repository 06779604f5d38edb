"""What differs from one kind of database to another: the class that the module of each kind fills in.

The state database and the mapping tables are opened, limited in time and written through it, so that no code outside
this package asks which kind it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import ReflectedColumn

from syncd.db import ErrorKind
from syncd.db.options import OptionError, Options
from syncd.errors import ConfigError

CONNECT_SECONDS = 10
"""How long a server may take to answer a new connection."""

Opening = Callable[[], AbstractContextManager[object]]
"""A context around the opening of a file: it checks the file before, and explains an error after."""


class Limits(NamedTuple):
    """Seconds that a statement may wait for another session's lock, and that a server may work on it."""

    lock: float
    statement: int


class Backend(ABC):
    """One kind of database."""

    kind: ClassVar[str]
    """Its name in sentences, and SQLAlchemy's for it."""
    names: ClassVar[tuple[str, ...]]
    """Its names in URLs."""
    driver: ClassVar[str]
    """Driver and dialect as SQLAlchemy writes them."""
    module: ClassVar[str]
    """The driver's module."""
    packages: ClassVar[str] = ""
    """The packages of the driver for pip, quoted for a shell; empty if it comes with Python."""
    engine_options: ClassVar[Mapping[str, Any]] = {}
    """Arguments of every engine that SQLAlchemy makes."""
    is_file: ClassVar[bool] = False
    """Whether a database is a file of this machine, and not a server's."""

    # ----------------------------------------------------------------- errors

    @abstractmethod
    def speaks(self, error: BaseException) -> bool:
        """Return whether an error is this driver's."""

    @abstractmethod
    def error_kind(self, error: BaseException) -> ErrorKind:
        """Given an error of the driver, return its kind."""

    @abstractmethod
    def code_and_words(self, error: BaseException) -> tuple[str, str]:
        """Given an error of the driver, return the database's own code and message, without the contents of rows."""

    def find_refusal_code(self, error: BaseException, arguments: Mapping[str, Any]) -> None:
        """Find out the code that the server answered, and set it on the driver's error at connecting.

        `arguments` are what the driver was called with.
        """
        del error, arguments

    # ---------------------------------------------------------------- opening

    @abstractmethod
    def options(self, url: sa.URL) -> Options:
        """Given a URL, return its options as the driver takes them.

        Raises:
            OptionError: The driver does not know one, or cannot use its value.
        """

    @abstractmethod
    def state_engine(
        self, url: sa.URL, key: str, limits: Limits | None, *, transactions: int, opening: Opening = nullcontext
    ) -> sa.Engine:
        """Make the engine of a state database. Nothing connects yet.

        Args:
            url: The database.
            key: The configuration key it comes from, for the sentences of errors.
            limits: How long its statements may take; None for no limit.
            transactions: How many may run at once in pooled sessions. 0: one session is kept over many of them.
            opening: Around each opening of a file.

        Raises:
            ConfigError: The driver is not installed, or an option of the URL cannot be used.
        """

    @abstractmethod
    def table_engine(self, url: sa.URL, key: str, limits: Limits, *, opening: Opening = nullcontext) -> sa.Engine:
        """Make the engine of a mapping table's database, with a small pool. Nothing connects yet.

        Args:
            url: The database.
            key: The configuration key it comes from, for the sentences of errors.
            limits: Those of the longest statement; each transaction also has its own (see `limit_time`).
            opening: Around each opening of a file.

        Raises:
            ConfigError: The driver is not installed, or an option of the URL cannot be used.
        """

    def usable_options(self, url: sa.URL, key: str) -> Options:
        """Return the options of a URL, or raise the `ConfigError` of one that cannot be used."""
        try:
            return self.options(url)
        except OptionError as error:
            raise ConfigError(f"{key}: {error}.", hint=f"Check the options after the `?` of {key}.") from None

    def exposure(self, connection: sa.Connection) -> str:
        """Return how a third party could read or change what is sent to the server, as a sentence.

        Empty if nothing leaves this machine, or if the server has proved its identity.
        """
        del connection
        return ""

    # -------------------------------------------------- sessions of the state

    def is_pooled(self, connection: sa.Connection) -> bool:
        """Return whether a pooler gives each transaction another session."""
        del connection
        return False

    def damage(self, connection: sa.Connection) -> list[str]:
        """Return what is damaged in the database, each as a sentence, as far as it can find out by itself."""
        del connection
        return []

    def disorder(self, connection: sa.Connection) -> list[str]:
        """Return what is wrong with an undamaged database, each as a sentence."""
        del connection
        return []

    def hindrance(self, connection: sa.Connection) -> str:
        """Return why this user cannot make tables in the database, as a sentence; empty if they can."""
        del connection
        return ""

    # ------------------------------------------------------ many rows at once

    mark: ClassVar[str] = "%s"
    """The placeholder of a value in a statement that goes to the driver as it is."""

    def insert_rows(
        self, connection: sa.Connection, table: sa.Table, columns: Sequence[str], rows: Sequence[Sequence[Any]]
    ) -> None:
        """Insert rows in the fastest way of this database.

        Args:
            connection: In a writing transaction.
            table: Where to.
            columns: The names of the values, in the order of the table.
            rows: One tuple of values for each row.
        """
        compiled = sa.insert(table).compile(dialect=connection.dialect, column_keys=list(columns))
        connection.exec_driver_sql(str(compiled), list(rows))

    def replace_rows(
        self, connection: sa.Connection, table: sa.Table, columns: Sequence[str], rows: Iterable[Sequence[Any]]
    ) -> None:
        """Insert rows, or replace those with the same primary key; once in a transaction.

        No foreign key may refer to such a row.

        Args:
            connection: In a writing transaction.
            table: Where to.
            columns: The names of the values, in the order of the table.
            rows: One tuple of values for each row, each key once.
        """
        marks = ", ".join(self.mark for _ in columns)
        statement = f"REPLACE INTO `{table.name}` ({', '.join(columns)}) VALUES ({marks})"  # noqa: S608 - names
        connection.exec_driver_sql(statement, list(rows))

    def delete_rows(self, connection: sa.Connection, table: sa.Table, keys: Sequence[Sequence[int]]) -> None:
        """Delete the rows with these primary keys, all of whose columns are whole numbers."""
        condition = " AND ".join(f"{column.name} = {self.mark}" for column in table.primary_key)
        statement = f"DELETE FROM `{table.name}` WHERE {condition}"  # noqa: S608 - names of the schema
        connection.exec_driver_sql(statement, list(keys))

    # -------------------------------------------- transactions on the mapping table

    snapshot_options: ClassVar[Mapping[str, Any]] = {}
    """The execution options of a snapshot's connection."""
    writing_options: ClassVar[Mapping[str, Any]] = {}
    """The execution options of a connection that writes."""

    def fix_moment(self, connection: sa.Connection) -> None:
        """Fix the moment that a snapshot's reads see, if the first read does not do so."""
        del connection

    @abstractmethod
    def limit_time(self, connection: sa.Connection, limits: Limits, *, refuse_hidden_rows: bool = False) -> None:
        """Set time limits on the server for this transaction, since a thread cannot be cancelled.

        Args:
            connection: At the beginning of a transaction, or in it for the rest.
            limits: How long each statement may wait and work.
            refuse_hidden_rows: The server must refuse a read from which row level security would hide rows.
        """

    def has_ended(self, connection: sa.Connection) -> bool:
        """Return whether the database ended the transaction of a live connection by itself."""
        del connection
        return False

    def stream(self, connection: sa.Connection) -> Any:
        """Return a cursor of the driver whose rows stay on the server until they are fetched.

        SQLAlchemy's own rows would take three times as long as the driver's tuples.
        """
        return connection.connection.cursor()

    def serialise_inserts(self, connection: sa.Connection, table: sa.TableClause) -> None:
        """Wait for open inserts of other sessions, and block new ones until this transaction ends."""
        del connection, table

    def defer_constraints(self, connection: sa.Connection) -> None:
        """Defer the constraints that can be checked later in this transaction."""
        del connection

    def check_constraints(self, connection: sa.Connection) -> None:
        """Check constraints that were deferred."""
        del connection

    def refresh_statistics(self, connection: sa.Connection, table: sa.Table) -> None:
        """Refresh the planner's statistics of a table that has grown, if the database does not do so in time."""
        del connection, table

    def balance(self, connection: sa.Connection, table: sa.TableClause) -> int | None:
        """Return a number that grows by one for each row that this transaction inserts, and falls with each it deletes.

        Only differences within a transaction have a meaning. None if the database does not count.
        """
        del connection, table
        return None

    # ------------------------------------------------------------ the mapping table's shape

    folds_case: ClassVar[bool] = False
    """Whether the case of column names does not matter."""
    zero_dates: ClassVar[bool] = False
    """Whether a date may be zero (0000-00-00), which means none."""
    has_booleans: ClassVar[bool] = True
    """Whether true is a value of its own, and not the number 1."""
    has_times: ClassVar[bool] = True
    """Whether it has types for times and days, and does not keep them as text."""
    locks_reads: ClassVar[bool] = False
    """Whether a locking read waits for rows that others have inserted and not committed yet."""

    def other_schemas(self, inspector: sa.Inspector) -> list[str]:
        """Return the schemas of this database other than the default one."""
        del inspector
        return []

    def plain_type(self, reflected: sa.types.TypeEngine[Any]) -> sa.types.TypeEngine[Any]:
        """Given a column's type, return the type that determines how its cells are written."""
        return reflected

    def fills_itself(self, column: ReflectedColumn, key: Sequence[str]) -> bool:
        """Return whether the database fills a column of inserted rows, as far as reflection shows.

        Args:
            column: The column.
            key: The columns of the primary key.
        """
        del key
        own = column.get("default") is not None or column.get("computed") or column.get("identity")
        return bool(own) or column.get("autoincrement") is True

    def holds_fractions(self, column: ReflectedColumn, key: Sequence[str]) -> bool:
        """Given a column of numbers, and the columns of the primary key, return whether it can hold fractions."""
        del key
        kind = self.plain_type(column["type"])
        return isinstance(kind, sa.Numeric) and kind.scale != 0

    def is_fraction(self, column: sa.ColumnClause[Any]) -> sa.ColumnElement[bool]:
        """Return the condition that a number is not whole."""
        return column != sa.func.floor(column)

    def filled_columns(self, connection: sa.Connection, schema: str | None, table: str) -> set[str]:
        """Return the columns with a default that reflection does not show."""
        del connection, schema, table
        return set()

    def unique_keys(self, connection: sa.Connection, schema: str | None, table: str) -> list[set[str]]:
        """Return the columns of each unique key where reflection shows others; empty where it shows these."""
        del connection, schema, table
        return []

    def takes_writes(self, connection: sa.Connection) -> bool:
        """Return whether the database accepts writes in this transaction, which is a writing one."""
        del connection
        return True

    def shortcoming(self, connection: sa.Connection, schema: str | None, table: str) -> str:
        """Return what this table lacks for a safe sync, as the end of a sentence; empty if it lacks nothing."""
        del connection, schema, table
        return ""

    def hides_rows(self, connection: sa.Connection, schema: str | None, table: str) -> bool:
        """Return whether row level security may hide rows of this table from this user."""
        del connection, schema, table
        return False

    def is_view(self, connection: sa.Connection, schema: str | None, table: str) -> bool:
        """Return whether this is a view, whose statements may report wrong row counts."""
        del connection, schema, table
        return False

    def may_reach_other_rows(self, connection: sa.Connection, schema: str | None, table: str) -> bool:
        """Return whether a write may change other rows of the table too, by a trigger or ON CONFLICT REPLACE."""
        del connection, schema, table
        return False

    def hides_effects(self, connection: sa.Connection, schema: str | None, table: str) -> bool:
        """Return whether a write may add or remove other rows without changing the transaction's balance."""
        return self.is_view(connection, schema, table)

    # ------------------------------------------------------------ the mapping table's cells

    def readable_times(self, column: sa.ColumnElement[Any]) -> list[sa.ColumnElement[bool]]:
        """Given a column of times, return the conditions under which the driver can read them."""
        del column
        return []

    def id_cell(self, reflected: sa.types.TypeEngine[Any]) -> type[int | str | bytes] | None:
        """Given a column's type, return how an id is written into it; None for a type that cannot hold ids exactly."""
        if isinstance(reflected, sa.Float | sa.Enum):
            return None
        if isinstance(reflected, sa.Integer | sa.Numeric):
            return int
        return str if isinstance(reflected, sa.String) else None

    def cut(self, column: sa.ColumnClause[Any], length: int, *, textual: bool) -> sa.ColumnElement[Any]:
        """Return a column's cells as SQL; texts are cut to `length` characters, since a cell may hold anything.

        Args:
            column: The column.
            length: How many characters are read.
            textual: Whether the column is one of texts or bytes.
        """
        return sa.func.substr(column, sa.literal_column("1"), sa.literal_column(str(length))) if textual else column

    def cell(self, value: object) -> object:
        """Given a value from the configuration, return it as the driver takes it."""
        return value

    def usual_cells(self, order_id: int, *, numeric: bool) -> tuple[object, ...]:
        """Given an id, return the values a cell usually holds it as, for a search that can use an index."""
        return (order_id,) if numeric else (str(order_id),)

    @abstractmethod
    def equals_exactly(self, column: sa.ColumnClause[Any], parameter: sa.BindParameter[Any]) -> sa.ColumnElement[bool]:
        """Return the condition that a cell is exactly the text in the parameter, whatever the column's collation."""

    @abstractmethod
    def matches_form(self, column: sa.ColumnClause[Any], parameter: sa.BindParameter[Any]) -> sa.ColumnElement[bool]:
        """Return a condition that is true of every text that may be one of the ids in the parameter, in any form."""

    def ids_to_match(self, ids: Sequence[int]) -> Sequence[object]:
        """Return the ids as `matches_form` compares them."""
        return ids

    def id_order(self, column: sa.ColumnClause[Any]) -> tuple[sa.ColumnElement[Any], ...]:
        """Return what sorts ids that are kept as text; empty if sorting after reading costs less."""
        del column
        return ()

    def time_now(self, precision: int | None) -> sa.ColumnElement[Any]:
        """Return the current time as SQL, in the session's zone; precision: the column's fraction digits."""
        del precision
        return sa.func.current_timestamp()

    @abstractmethod
    def text_now(self) -> sa.ColumnElement[Any]:
        """Return the current time as a text of 19 characters, as SQL."""

    @abstractmethod
    def seconds_now(self) -> sa.ColumnElement[Any]:
        """Return the seconds since 1970 as SQL."""


def is_module(error: BaseException, name: str) -> bool:
    """Return whether an error's class comes from a package."""
    return type(error).__module__.partition(".")[0] == name
