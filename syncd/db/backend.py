"""What differs from one kind of database to another: the class that the module of each kind fills in.

The state database and the mapping tables are opened, bounded and written through it, so that no code outside this
package asks which kind it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import ReflectedColumn

from syncd.db.kinds import ErrorKind
from syncd.db.options import OptionError, Options
from syncd.errors import ConfigError

CONNECT_SECONDS = 10
"""How long a server may take to answer a new connection."""

Opening = Callable[[], AbstractContextManager[object]]
"""Surrounds the opening of a file: its user checks the file before, and explains an error after."""


class Limits(NamedTuple):
    """How long a statement may wait for somebody else's lock, and how long a server may work on it; seconds."""

    lock: float
    statement: int


class Backend(ABC):
    """One kind of database."""

    kind: ClassVar[str]
    """Its name in sentences, and SQLAlchemy's for it."""
    names: ClassVar[tuple[str, ...]]
    """What a URL may call it."""
    driver: ClassVar[str]
    """Driver and dialect as SQLAlchemy writes them."""
    module: ClassVar[str]
    """The driver's module."""
    packages: ClassVar[str] = ""
    """What pip installs for the driver, as a shell takes it; empty where Python brings it."""
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
        """Given an error of the driver, return which kind of trouble it is."""

    @abstractmethod
    def code_and_words(self, error: BaseException) -> tuple[str, str]:
        """Given an error of the driver, return the database's own code and words; no row's contents among them."""

    def settle_refusal(self, error: BaseException, arguments: Mapping[str, Any]) -> None:
        """Given the driver's error at connecting, find out the code of a server that answered; it goes on the error.

        Args:
            error: As the driver raised it.
            arguments: What the driver was called with.
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
            limits: How long its statements may take; None for as long as they take.
            transactions: How many are at work at once in pooled sessions. 0: one session is kept over many of them.
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
            limits: Those of the longest statement; each transaction has its own besides (see `limit_time`).
            opening: Around each opening of a file.

        Raises:
            ConfigError: The driver is not installed, or an option of the URL cannot be used.
        """

    def usable_options(self, url: sa.URL, key: str) -> Options:
        """Return the options of a URL, or raise the `ConfigError` of one that cannot be used."""
        try:
            return self.options(url)
        except OptionError as error:
            raise ConfigError(f"{key}: {error}.", hint=f"Look at the options behind the `?` of {key}.") from None

    def exposure(self, connection: sa.Connection) -> str:
        """Return how somebody between here and the server could read or change what is sent, as a sentence.

        Empty where nothing leaves this machine, or where the server has proved who it is.
        """
        del connection
        return ""

    # -------------------------------------------------- sessions of the state

    def is_pooled(self, connection: sa.Connection) -> bool:
        """Return whether a pooler stands in between that gives each transaction another session."""
        del connection
        return False

    def damage(self, connection: sa.Connection) -> list[str]:
        """Return what is broken in the database, each a sentence, as far as it can tell by itself."""
        del connection
        return []

    def disorder(self, connection: sa.Connection) -> list[str]:
        """Return what is wrong with the order of an undamaged database, each a sentence."""
        del connection
        return []

    def hindrance(self, connection: sa.Connection) -> str:
        """Return what keeps this user from making tables in the database, as a sentence; empty if nothing does."""
        del connection
        return ""

    # ------------------------------------------------------ many rows at once

    mark: ClassVar[str] = "%s"
    """What stands for a value in a statement that the driver gets as it is."""

    def insert_rows(
        self, connection: sa.Connection, table: sa.Table, columns: Sequence[str], rows: Sequence[Sequence[Any]]
    ) -> None:
        """Insert rows the way this database is fastest at it.

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
        """Insert rows, or put them in the place of those with the same primary key; once in a transaction.

        No foreign key leads to such a row.

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
    """Those of a connection that writes."""

    def fix_moment(self, connection: sa.Connection) -> None:
        """Fix the moment that a snapshot's reads see, where its first read does not."""
        del connection

    @abstractmethod
    def limit_time(self, connection: sa.Connection, limits: Limits, *, refuse_hidden_rows: bool = False) -> None:
        """Let the server itself bound this transaction, since a thread cannot be cancelled.

        Args:
            connection: At the beginning of a transaction, or in the middle of it for what is left.
            limits: How long each statement may wait and work.
            refuse_hidden_rows: The server shall refuse to read where row level security would hide rows.
        """

    def has_ended(self, connection: sa.Connection) -> bool:
        """Return whether the database ended the transaction of a connection that lives, without being asked to."""
        del connection
        return False

    def stream(self, connection: sa.Connection) -> Any:
        """Return a cursor of the driver whose rows stay on the server until they are fetched.

        SQLAlchemy's own rows would cost three times what the driver's tuples do.
        """
        return connection.connection.cursor()

    def serialise_inserts(self, connection: sa.Connection, table: sa.TableClause) -> None:
        """Wait for others' open inserts, and keep new ones out until this transaction ends."""
        del connection, table

    def defer_constraints(self, connection: sa.Connection) -> None:
        """Let constraints that can be deferred be checked later in this transaction."""
        del connection

    def check_constraints(self, connection: sa.Connection) -> None:
        """Check constraints that were deferred."""
        del connection

    def refresh_statistics(self, connection: sa.Connection, table: sa.Table) -> None:
        """Let the planner know that a table has grown, where it would otherwise choose by what the table was."""
        del connection, table

    def balance(self, connection: sa.Connection, table: sa.TableClause) -> int | None:
        """Return a number that grows by one for each row that this transaction inserts, and falls with each it deletes.

        Only differences within a transaction mean something. None where the database cannot tell.
        """
        del connection, table
        return None

    # ------------------------------------------------------------ the mapping table's shape

    folds_case: ClassVar[bool] = False
    """Whether column names are the same whatever their case."""
    zero_dates: ClassVar[bool] = False
    """Whether a date may be zero (0000-00-00), which stands for none."""
    has_booleans: ClassVar[bool] = True
    """Whether a truth is a value of its own, and not the number 1."""
    has_times: ClassVar[bool] = True
    """Whether it knows times and days, and keeps none of them as text."""
    locks_reads: ClassVar[bool] = False
    """Whether a locking read waits for rows that others have inserted and not committed yet."""

    def other_schemas(self, inspector: sa.Inspector) -> list[str]:
        """Return the schemas of this database besides the one that names without a schema are in."""
        del inspector
        return []

    def plain_type(self, reflected: sa.types.TypeEngine[Any]) -> sa.types.TypeEngine[Any]:
        """Given a column's type, return the one that says how its cells are written."""
        return reflected

    def fills_itself(self, column: ReflectedColumn, key: Sequence[str]) -> bool:
        """Return whether the database fills a column of inserted rows, by what reflection tells of it.

        Args:
            column: The column.
            key: The columns of the primary key.
        """
        del key
        own = column.get("default") is not None or column.get("computed") or column.get("identity")
        return bool(own) or column.get("autoincrement") is True

    def holds_fractions(self, column: ReflectedColumn, key: Sequence[str]) -> bool:
        """Given a column of numbers, and the columns of the primary key, return whether a number need not be whole."""
        del key
        kind = self.plain_type(column["type"])
        return isinstance(kind, sa.Numeric) and kind.scale != 0

    def is_fraction(self, column: sa.ColumnClause[Any]) -> sa.ColumnElement[bool]:
        """Return the condition that a number is not whole."""
        return column != sa.func.floor(column)

    def filled_columns(self, connection: sa.Connection, schema: str | None, table: str) -> set[str]:
        """Return columns with a default that the driver's reflection does not see."""
        del connection, schema, table
        return set()

    def takes_writes(self, connection: sa.Connection) -> bool:
        """Return whether the database takes any writes in this transaction, which was begun to write."""
        del connection
        return True

    def lacks(self, connection: sa.Connection, schema: str | None, table: str) -> str:
        """Return what this table lacks for a safe sync, as the end of a sentence; empty if nothing."""
        del connection, schema, table
        return ""

    def hides_rows(self, connection: sa.Connection, schema: str | None, table: str) -> bool:
        """Return whether row level security may hide rows of this table from this user."""
        del connection, schema, table
        return False

    def is_view(self, connection: sa.Connection, schema: str | None, table: str) -> bool:
        """Return whether this is a view, whose statements need not tell how many rows they met."""
        del connection, schema, table
        return False

    def may_reach_other_rows(self, connection: sa.Connection, schema: str | None, table: str) -> bool:
        """Return whether a write may change other rows of the table too, by a trigger or ON CONFLICT REPLACE."""
        del connection, schema, table
        return False

    def hides_effects(self, connection: sa.Connection, schema: str | None, table: str) -> bool:
        """Return whether a write may add or remove other rows and the transaction's balance cannot tell."""
        return self.is_view(connection, schema, table)

    # ------------------------------------------------------------ the mapping table's cells

    def readable_times(self, column: sa.ColumnElement[Any]) -> list[sa.ColumnElement[bool]]:
        """Given a column of times, return the conditions under which the driver can read them."""
        del column
        return []

    def id_cell(self, reflected: sa.types.TypeEngine[Any]) -> type[int | str | bytes] | None:
        """Given a column's type, return how an id is written into it; None for a type that holds no ids exactly."""
        if isinstance(reflected, sa.Float | sa.Enum):
            return None
        if isinstance(reflected, sa.Integer | sa.Numeric):
            return int
        return str if isinstance(reflected, sa.String) else None

    def cut(self, column: sa.ColumnClause[Any], length: int, *, textual: bool) -> sa.ColumnElement[Any]:
        """Return a column's cells as SQL, of texts so many characters at most: nobody knows what somebody put there.

        Args:
            column: The column.
            length: How many characters are read.
            textual: Whether the column is one of texts or bytes.
        """
        return sa.func.substr(column, sa.literal_column("1"), sa.literal_column(str(length))) if textual else column

    def cell(self, value: object) -> object:
        """Given a value from the configuration, return it as the driver takes it."""
        return value

    def forms(self, order_id: int, *, numeric: bool) -> tuple[object, ...]:
        """Given an id, return the values a cell usually holds it as, for a search that can use an index."""
        return (order_id,) if numeric else (str(order_id),)

    @abstractmethod
    def equals_exactly(self, column: sa.ColumnClause[Any], parameter: sa.BindParameter[Any]) -> sa.ColumnElement[bool]:
        """Return a condition true of the very text in the parameter, whatever the column's collation takes for it."""

    @abstractmethod
    def digits_match(self, column: sa.ColumnClause[Any], parameter: sa.BindParameter[Any]) -> sa.ColumnElement[bool]:
        """Return a condition true of every text that may be one of the ids in the parameter, in whatever writing."""

    def digits(self, ids: Sequence[int]) -> Sequence[object]:
        """Return the ids as `digits_match` compares them."""
        return ids

    def digit_order(self, column: sa.ColumnClause[Any]) -> tuple[sa.ColumnElement[Any], ...]:
        """Return what brings ids kept as text into their order; empty where sorting after reading costs less."""
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
