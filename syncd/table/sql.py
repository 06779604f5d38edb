"""The adapter for `syncd.core.ports.Table`: synchronous SQLAlchemy in threads of its own, behind async methods."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from threading import Event
from typing import Protocol, TypeVar

import sqlalchemy as sa

from syncd.config.model import TableSettings
from syncd.core.model import Scope
from syncd.core.order_ranges import OrderRanges
from syncd.core.ports import Clock, Effect, Progress, TableCheck, TableValue, Write, WriteResult
from syncd.db.registry import driver_errors
from syncd.errors import ConfigError, UnavailableError
from syncd.obs.clock import Meter, timed
from syncd.table.check import check_table, refused_settings
from syncd.table.columns import NO_KEYS, Columns
from syncd.table.database import TableDatabase, is_of_settings, translated_errors
from syncd.table.reflect import Reflection
from syncd.table.rows import ChangedOrders, ChangedRows, RowReader, padded_cells, value
from syncd.table.snapshot import read_all
from syncd.table.spool import SpooledSnapshot
from syncd.table.statements import Statements
from syncd.table.transaction import write_batch


class _Closing(Protocol):
    def close(self) -> None: ...


T = TypeVar("T")
S = TypeVar("S", bound=_Closing)

THREADS = 2
STAGE = "table"
"""The stage that `Progress` is called with while the table is read."""


@dataclass(frozen=True, slots=True)
class TableSetup:
    """What the adapter of a link's mapping table is made from; `syncd.table.keyed.open_table` describes the rest.

    Args:
        home: The database the table is in.
    """

    settings: TableSettings
    home: TableDatabase
    scope: Scope
    clock: Clock
    link: str
    writable: bool
    meter: Meter


class SqlTable:
    """A mapping table in an SQL database."""

    def __init__(self, setup: TableSetup) -> None:
        self._settings = setup.settings
        self._home = setup.home
        self._scope = setup.scope
        self._clock = setup.clock
        self._link = setup.link
        self._key = f"links.{setup.link}.table"
        self._meter = setup.meter
        self._writable = setup.writable
        self._database = setup.settings.database_identity
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="syncd-table")
        self._columns: Columns | None = None
        self._padded: bool | None = None
        self._odd = True
        self._changes: ChangedRows | None = None

    @property
    def hides_effects(self) -> bool:
        """Whether a write may add or remove rows of other orders unseen, as known since the last snapshot."""
        return self._columns is not None and self._columns.hides_effects

    async def check(self) -> TableCheck:
        """Return what is wrong with the table, its columns, `where`, the rights and its keys.

        Raises:
            UnavailableError, AuthError: The database cannot be read.
        """
        return await self._in_thread(self._check)

    @asynccontextmanager
    async def snapshot(self, progress: Progress, ranges: OrderRanges | None = None) -> AsyncIterator[SpooledSnapshot]:
        """Read the selected table, or these orders of it, in one consistent transaction that is over when this yields.

        Raises:
            UnavailableError: The database cannot be reached, or the table could not be read to its end.
            AuthError: The database refuses the credentials or the right to read.
            ConfigError: The table or its columns are not as configured; `problems` says all of it.
        """
        orders = self._orders(ranges)
        reading = await self._read_in_thread(lambda count: self._snapshot(count, orders, ranges is not None), progress)
        try:
            yield reading
        finally:
            reading.close()

    async def read(self, order_ids: Sequence[int]) -> dict[int, TableValue]:
        """Given order ids, return what the table holds for each, also in rows that `where` does not select.

        An order without a row is left out. If `where` selects some of an order's rows, only those count.

        Raises:
            UnavailableError, AuthError, ConfigError: As for `snapshot`.
        """
        return await self._in_thread(lambda: self._read(order_ids))

    async def write(self, batch: Sequence[Write]) -> list[WriteResult]:
        """Carry out conditional writes in one transaction, one for each order; return their results in sequence.

        Raises:
            UnavailableError, AuthError, ConfigError: Nothing was written.
        """
        return await self._in_thread(lambda: self._write(batch), broken=shows_failure)

    async def changed(self) -> ChangedOrders:
        """Return the orders whose rows have changed since the last call; none at the first call.

        Raises:
            UnavailableError, AuthError: As for `snapshot`.
            ConfigError: As for `snapshot`; or the column `watch` does not exist, or its type cannot be compared.
        """
        return await self._in_thread(self._changed)

    async def aclose(self) -> None:
        """Close the connections when all work in the threads has ended."""
        await asyncio.to_thread(self._threads.shutdown)
        self._home.engine.dispose()

    # ---------------------------------------------------------------- in threads

    async def _read_in_thread(self, read: Callable[[Callable[[int], None]], S], progress: Progress) -> S:
        """Read the table in a thread, which ends early if its caller is cancelled."""
        loop = asyncio.get_running_loop()
        stop = Event()

        def count(done: int) -> None:
            if stop.is_set():
                raise UnavailableError("syncd stopped reading the mapping table. Nothing was written.")
            loop.call_soon_threadsafe(progress, STAGE, done, None)

        return await self._in_thread(lambda: read(count), stop.set, lambda reading: reading.close())

    def _check(self) -> TableCheck:
        with self._translated_errors():
            return check_table(self._settings, self._home, key=self._key, writable=self._writable)

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        """Raise errors of the database as syncd's own; those that settings cause read as in `check`."""
        with translated_errors(self._database, self._home.dbapi, self._key):
            try:
                yield
            except driver_errors(self._home.dbapi) as error:
                if self._columns is not None and is_of_settings(error):
                    self._accept_settings(self._columns)
                raise

    def _accept_settings(self, columns: Columns) -> None:
        if problems := refused_settings(self._home, columns, self._key):
            raise self._misfit(problems) from None

    def _orders(self, ranges: OrderRanges | None) -> OrderRanges:
        """Given the orders to read, or None for all, return those of them that belong to the link."""
        return self._scope.orders if ranges is None else ranges & self._scope.orders

    def _snapshot(self, count: Callable[[int], None], orders: OrderRanges, part: bool) -> SpooledSnapshot:  # noqa: FBT001
        def read(connection: sa.Connection, columns: Columns) -> SpooledSnapshot:
            reading = read_all(connection, self._home.backend, columns, orders, count, part=part)
            self._odd = reading.odd or (part and self._odd)
            if reading.odd:
                self._padded = None  # an import may have padded them since the last insert
            self._columns = columns.written(odd=self._odd)
            return reading

        return self._read_whole(read)

    def _read_whole(self, read: Callable[[sa.Connection, Columns], S]) -> S:
        """Read the table in one transaction. If that ends with an error, what was read is closed."""
        with self._translated_errors(), ExitStack() as unless_done:
            with self._home.snapshot() as connection:
                self._columns = self._look(connection)
                reading = read(connection, self._columns)
                unless_done.callback(reading.close)
            unless_done.pop_all()
        return reading

    def _read(self, order_ids: Sequence[int], keys: Mapping[int, str] = NO_KEYS) -> dict[int, TableValue]:
        with self._translated_errors(), self._home.reading() as connection:
            self._columns = self._columns or self._look(connection)
            columns = self._columns.knowing(keys)
            rows = RowReader(columns, Statements(columns, self._home.backend), self._home.backend).fetch(
                connection, order_ids
            )
        values = {order_id: value(columns, of_order) for order_id, of_order in rows.items()}
        return {order_id: one for order_id, one in values.items() if one is not None}

    def _write(self, batch: Sequence[Write], keys: Mapping[int, str] = NO_KEYS) -> list[WriteResult]:
        if self._columns is None or (self._padded is None and any(write.before is None for write in batch)):
            with self._translated_errors(), self._home.reading() as connection:
                self._columns = self._columns or self._look(connection)
                self._padded = bool(padded_cells(connection, self._columns, self._home.backend))
        columns = self._columns.knowing(keys)
        return write_batch(
            batch, self._home, columns, database=self._database, key=self._key, padded=bool(self._padded)
        )

    def _changed(self) -> ChangedOrders:
        with self._translated_errors(), self._home.watching() as connection:
            if self._changes is None:
                reflection = self._reflection(connection)
                columns, watched = self._resolved(reflection), reflection.watched()
                if watched is None:
                    raise self._misfit(reflection.problems)
                self._changes = ChangedRows(columns, watched, self._home.backend)
            found = self._changes.read(connection)
        return found._replace(orders=frozenset(order for order in found.orders if order in self._scope.orders))

    def _look(self, connection: sa.Connection) -> Columns:
        """Look up the table in the database, or raise a ConfigError with every problem found."""
        return self._resolved(self._reflection(connection))

    def _reflection(self, connection: sa.Connection) -> Reflection:
        return Reflection(connection, self._settings, self._home.backend, self._key)

    def _resolved(self, reflection: Reflection) -> Columns:
        columns = reflection.columns(writable=self._writable)
        if columns is None:
            raise self._misfit(reflection.problems)
        return columns

    def _misfit(self, problems: Sequence[str]) -> ConfigError:
        return ConfigError(
            f"The mapping table {self._settings.name} is not as configured. Nothing was written.",
            hint="Fix the table or the configuration, then run: syncd check",
            problems=tuple(problems),
        )

    async def _in_thread(
        self,
        work: Callable[[], T],
        give_up: Callable[[], None] | None = None,
        dispose: Callable[[T], None] | None = None,
        broken: Callable[[T], bool] = lambda _result: False,
    ) -> T:
        """Run work in a thread. A thread cannot be cancelled, so a cancelled caller first waits for it to end.

        Args:
            work: What to do.
            give_up: Asks the work to end early.
            dispose: Called with the result if the caller was cancelled.
            broken: Returns whether a result shows that the database failed.
        """
        work_timed = partial(timed, self._meter, self._clock, ("table", self._link), work, broken)
        future = asyncio.get_running_loop().run_in_executor(self._threads, work_timed)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            if give_up is not None:
                give_up()
            await asyncio.wait([future])
            if not future.cancelled() and future.exception() is None and dispose is not None:
                dispose(future.result())
            raise


def shows_failure(results: Sequence[WriteResult]) -> bool:
    """Given the results of a batch, return whether the database could not carry it out, or may not have."""
    return any(result.effect in {Effect.UNKNOWN, Effect.NOT_SENT} for result in results)
