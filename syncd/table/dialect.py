"""Where kinds of databases differ: opening, one-moment reads, write transactions, timeouts, ids kept as text.

Every transaction is bounded by the database itself (locks, statements), since a thread cannot be cancelled.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import sqlalchemy as sa

CONNECT_SECONDS = 10
LOCK_SECONDS: float = 5
"""How long a statement waits for somebody else's lock."""
WRITE_SECONDS = 60
"""How long a server may work on one statement of a write or of a read by id."""
SNAPSHOT_SECONDS = 300
"""How long a server may take over the snapshot's statement; sorting without an index takes its time."""
HURRIED_LOCK_SECONDS = 0.2
HURRIED_SECONDS = 5
"""How long it waits and works once a batch has met a lock or a slow statement: it is tried again in smaller parts."""


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

    def cell(self, value: object) -> object:
        """Given a value from the configuration, return it as the driver takes it."""
        return value

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

    def hurry(self, connection: sa.Connection) -> None:
        """Wait and work for less time from now on in this transaction."""
        self._bound(connection, HURRIED_SECONDS, HURRIED_LOCK_SECONDS)

    @abstractmethod
    def _bound(self, connection: sa.Connection, seconds: int, lock_seconds: float | None = None) -> None:
        """Limit how long the server works on a statement of this transaction, and how long it waits for a lock."""
