"""The database a mapping table is in: its engine, and the kinds of transaction on it.

Every transaction is bounded by the database itself (locks, statements), since a thread cannot be cancelled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from syncd.db import registry
from syncd.db.backend import Limits
from syncd.errors import UnavailableError

LOCK_SECONDS: float = 5
"""How long a statement waits for somebody else's lock."""
WRITE_SECONDS = 60
"""How long a server may work on one statement of a write or of a read by id."""
LOOK_SECONDS = 10
"""How long a server may work on a look at what has changed: one is made again soon, and a stopping daemon waits."""
SNAPSHOT_SECONDS = 300
"""How long a server may take over the snapshot's statement; sorting without an index takes its time."""
HURRIED = Limits(lock=0.2, statement=5)
"""How long it waits and works once a batch has met a lock or a slow statement: it is tried again in smaller parts."""


class TableDatabase:
    """The database of one mapping table. Nothing connects yet.

    Args:
        url: A SQLAlchemy URL; the driver in it is replaced by the one syncd uses.
        key: The configuration key it comes from, for the sentences of errors.
        refuses_hidden_rows: Whether the server shall refuse to read where row level security would hide rows.

    Raises:
        ConfigError: It is not a URL, names no kind of database syncd knows, has an option that cannot be used, or a
            driver is not installed.
    """

    def __init__(self, url: str, key: str, *, refuses_hidden_rows: bool = False) -> None:
        self.backend, parsed = registry.read_url(url, key)
        self.refuses_hidden_rows = refuses_hidden_rows
        self._path = Path(parsed.database or "") if self.backend.is_file else None
        self.engine = self.backend.table_engine(
            parsed, key, Limits(LOCK_SECONDS, SNAPSHOT_SECONDS), opening=self._opening
        )

    @property
    def dbapi(self) -> Any:
        """The driver's module."""
        return self.engine.dialect.dbapi

    def reading(self) -> AbstractContextManager[sa.Connection]:
        """A transaction for a few reads by id."""
        return self._transaction({}, WRITE_SECONDS)

    def looking(self) -> AbstractContextManager[sa.Connection]:
        """A transaction for a look at what has changed."""
        return self._transaction({}, LOOK_SECONDS)

    def writing(self) -> AbstractContextManager[sa.Connection]:
        """A write transaction, rolled back unless the block commits. Each statement sees what others committed."""
        return self._transaction(self.backend.writing_options, WRITE_SECONDS)

    @contextmanager
    def snapshot(self) -> Iterator[sa.Connection]:
        """A transaction in which all reads see one moment."""
        with self._transaction(self.backend.snapshot_options, SNAPSHOT_SECONDS) as connection:
            self.backend.fix_moment(connection)
            yield connection

    @contextmanager
    def _transaction(self, options: Mapping[str, Any], seconds: int) -> Iterator[sa.Connection]:
        with self.engine.connect().execution_options(**options) as connection:
            connection.begin()
            limits = Limits(LOCK_SECONDS, seconds)
            self.backend.limit_time(connection, limits, refuse_hidden_rows=self.refuses_hidden_rows)
            yield connection

    @contextmanager
    def _opening(self) -> Iterator[None]:
        if self._path is not None and not self._path.is_file():
            raise UnavailableError(
                f"The mapping table's database does not exist: there is no file {self._path}. Nothing was written.",
                hint="syncd makes no database of its own; point the link's table at the right file.",
            )
        yield
