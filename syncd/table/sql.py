"""The adapter for `syncd.core.ports.Table`: synchronous SQLAlchemy in threads of its own, behind async methods."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from threading import Event
from typing import TypeVar

import sqlalchemy as sa

from syncd.config.model import TableSettings
from syncd.core.model import Scope
from syncd.core.ports import Clock, Effect, Progress, TableValue, Write, WriteResult
from syncd.errors import ConfigError, UnavailableError
from syncd.obs.measure import UNMEASURED, Measure, measured
from syncd.table.check import find_problems
from syncd.table.columns import Columns
from syncd.table.dialect import Dialect
from syncd.table.dialects import dialect_for
from syncd.table.faults import explained
from syncd.table.reflect import Reflection
from syncd.table.rows import stored, value
from syncd.table.snapshot import read_all
from syncd.table.spool import SpooledSnapshot
from syncd.table.write import Writer

T = TypeVar("T")

THREADS = 2
STAGE = "table"
"""The stage that `Progress` is called with while the table is read."""


def open_table(
    settings: TableSettings,
    *,
    scope: Scope,
    clock: Clock,
    link: str,
    writable: bool = True,
    measure: Measure = UNMEASURED,
) -> SqlTable:
    """Return the mapping table of a link. Nothing connects yet.

    Args:
        settings: `[links.X.table]`, with the URL itself (a `url_file` has been read).
        scope: The link's scope; only its order range is used: owners of other types are rows, too.
        clock: Tells the time for `touched` and `deleted`.
        link: The link's name, for the keys in problems.
        writable: Whether the link's direction lets syncd write to the table; without, no rights are asked for.
        measure: Told of every reading and writing.

    Raises:
        ConfigError: The URL cannot be used, or the driver is not installed.
    """
    key = f"links.{link}.table"
    if settings.url is None:
        raise ConfigError(f"{key}.url: is missing.", hint="Give the link's table a url or url_file.")
    dialect = dialect_for(settings.url.get_secret_value(), f"{key}.url")
    return SqlTable(settings, dialect, scope=scope, clock=clock, link=link, writable=writable, measure=measure)


class SqlTable:
    """A mapping table in an SQL database; see `open_table` for the arguments."""

    def __init__(
        self,
        settings: TableSettings,
        dialect: Dialect,
        *,
        scope: Scope,
        clock: Clock,
        link: str,
        writable: bool,
        measure: Measure = UNMEASURED,
    ) -> None:
        self._settings = settings
        self._dialect = dialect
        self._scope = scope
        self._clock = clock
        self._link = link
        self._key = f"links.{link}.table"
        self._measure = measure
        self._writable = writable
        self._database = settings.database
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="syncd-table")
        self._columns: Columns | None = None

    async def check(self) -> list[str]:
        """Return every problem with the table, its columns, `where` and the rights, each a sentence with its key.

        Raises:
            UnavailableError, AuthError: The database cannot be looked at.
        """
        return await self._in_thread(self._check)

    @asynccontextmanager
    async def snapshot(self, progress: Progress) -> AsyncIterator[SpooledSnapshot]:
        """Read the whole selected table in one consistent transaction that is over when this yields.

        Raises:
            UnavailableError: The database cannot be reached, or the table could not be read to its end.
            AuthError: The database refuses the credentials or the right to read.
            ConfigError: The table or its columns are not as configured; `problems` says all of it.
        """
        loop = asyncio.get_running_loop()
        stop = Event()

        def tell(done: int) -> None:
            if stop.is_set():
                raise UnavailableError("Reading the mapping table was given up.")
            loop.call_soon_threadsafe(progress, STAGE, done, None)

        reading = await self._in_thread(lambda: self._snapshot(tell), stop.set, SpooledSnapshot.close)
        try:
            yield reading
        finally:
            reading.close()

    async def read(self, order_ids: Sequence[int]) -> dict[int, TableValue]:
        """Given order ids, return what the table says of each, without `where`; an order with no row is absent.

        A softly deleted row is no row. Where `where` selects some of an order's rows, those are all that counts.

        Raises:
            UnavailableError, AuthError, ConfigError: As for `snapshot`.
        """
        return await self._in_thread(lambda: self._read(order_ids))

    async def write(self, batch: Sequence[Write]) -> list[WriteResult]:
        """Carry out conditional writes in one transaction, each order once; return one result for each, in order.

        Raises:
            UnavailableError, AuthError, ConfigError: Nothing was written.
        """
        return await self._in_thread(lambda: self._write(batch), broken=_tells_of_failure)

    async def aclose(self) -> None:
        """Close connections, after what is under way has ended."""
        await asyncio.to_thread(self._threads.shutdown)
        self._dialect.engine.dispose()

    # ---------------------------------------------------------------- in threads

    def _check(self) -> list[str]:
        with explained(self._database, self._dialect.dbapi):
            return find_problems(self._settings, self._dialect, key=self._key, writable=self._writable)

    def _snapshot(self, tell: Callable[[int], None]) -> SpooledSnapshot:
        with explained(self._database, self._dialect.dbapi), ExitStack() as unless_done:
            with self._dialect.snapshot() as connection:
                self._columns = self._look(connection)
                try:
                    reading = read_all(connection, self._dialect, self._columns, self._scope, tell)
                except OSError as error:
                    raise UnavailableError(
                        f"The mapping table cannot be kept in a temporary file ({error.strerror}). "
                        "Nothing was written.",
                        hint="Free some space in the folder for temporary files, or name another one in $TMPDIR.",
                    ) from None
                unless_done.callback(reading.close)
            unless_done.pop_all()
        return reading

    def _read(self, order_ids: Sequence[int]) -> dict[int, TableValue]:
        with explained(self._database, self._dialect.dbapi), self._dialect.reading() as connection:
            columns = self._columns or self._look(connection)
            rows = stored(connection, self._dialect, columns, order_ids)
        return {order_id: told for order_id, of_order in rows.items() if (told := value(columns, of_order)) is not None}

    def _write(self, batch: Sequence[Write]) -> list[WriteResult]:
        if self._columns is None:
            with explained(self._database, self._dialect.dbapi), self._dialect.reading() as connection:
                self._columns = self._look(connection)
        writer = Writer(self._dialect, self._columns, database=self._database, key=self._key)
        return writer.write(batch, self._clock.now())

    def _look(self, connection: sa.Connection) -> Columns:
        """Look the table up in the database, or raise ConfigError with every problem found."""
        reflection = Reflection(connection, self._settings, self._dialect, self._key)
        columns = reflection.columns(writable=self._writable)
        if columns is None:
            raise ConfigError(
                f"The mapping table {self._settings.name} is not as configured. Nothing was written.",
                hint="Mend the table or the configuration, then run: syncd check",
                problems=tuple(reflection.problems),
            )
        return columns

    async def _in_thread(
        self,
        work: Callable[[], T],
        give_up: Callable[[], None] | None = None,
        dispose: Callable[[T], None] | None = None,
        broken: Callable[[T], bool] = lambda _result: False,
    ) -> T:
        """Run work in a thread. A thread cannot be cancelled: a cancelled caller waits for it to end, then goes.

        Args:
            work: What to do.
            give_up: Asks the work to end early.
            dispose: Gets a result that nobody waits for any more.
            broken: Whether a result tells of a database that failed.
        """
        timed = partial(measured, self._measure, self._clock, ("table", self._link), work, broken)
        future = asyncio.get_running_loop().run_in_executor(self._threads, timed)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            if give_up is not None:
                give_up()
            await asyncio.wait([future])
            if not future.cancelled() and future.exception() is None and dispose is not None:
                dispose(future.result())
            raise


def _tells_of_failure(results: Sequence[WriteResult]) -> bool:
    """Given what became of a batch, return whether the database could not carry it out, or nobody knows."""
    return any(result.effect in {Effect.UNKNOWN, Effect.NOT_SENT} for result in results)
