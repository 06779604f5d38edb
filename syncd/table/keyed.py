"""A mapping table with order ids, or with the shop's own keys. Only this module sees keys; all others work with ids."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from operator import is_, itemgetter
from typing import Any, Final

import sqlalchemy as sa

from syncd.config.model import TableSettings
from syncd.config.portal_and_table import RowSecurity
from syncd.core.model import MaybeOwner, Scope, Unreadable
from syncd.core.order_keys import KeyOrders, OrderKeys, UnknownKey, no_key, shared_key
from syncd.core.order_ranges import OrderRanges
from syncd.core.ports import Clock, Effect, Progress, TableValue, Write, WriteResult
from syncd.errors import ConfigError
from syncd.obs.clock import NULL_METER, Meter
from syncd.spill import SpillList
from syncd.table.columns import Columns, OrderKeyColumn
from syncd.table.database import TableDatabase
from syncd.table.snapshot import SnapshotBuilder, fetch_all
from syncd.table.spool import Spool, SpooledSnapshot
from syncd.table.sql import SqlTable, TableSetup, shows_failure

ASKED_AT_ONCE: Final = 2400
"""Rows with unknown keys that are collected before the portal is asked for their orders."""

MOST_UNKNOWN: Final = 10_000
"""Rows with a key that no order has which are kept one by one. If there are more, each may be the row of any order."""

RowCells = tuple[Any, ...]
"""A row's order key as read, its owner type unless that is constant, and its owner id."""

_first = itemgetter(0)


class KeyReading:
    """Rows with their keys, in a temporary file."""

    def __init__(self) -> None:
        self._kept: SpillList[tuple[Sequence[str | None] | None, list[RowCells]]] = SpillList(chunk=1)

    def append(self, keys: Sequence[str | None], rows: Sequence[Sequence[Any]]) -> None:
        """Keep a chunk of rows, and the key in each one's cell; None if it holds none."""
        plain = all(map(is_, keys, map(_first, rows)))
        self._kept.append((None if plain else keys, list(map(tuple, rows))))

    def chunks(self) -> Iterator[tuple[list[str | None], list[RowCells]]]:
        """Yield the chunks in the sequence in which they were added."""
        for keys, rows in self._kept:
            yield list(map(_first, rows) if keys is None else keys), rows

    def close(self) -> None:
        """Free the disk space."""
        self._kept.close()


class KeyTranslation:
    """Makes a snapshot of a reading.

    Args:
        columns: The table.
        orders: Orders outside of these are left out.
        keys: Knows which orders have which keys.
    """

    def __init__(self, columns: Columns, orders: OrderRanges, keys: OrderKeys) -> None:
        self._columns = columns
        self._keys = keys
        self._orders = orders
        self._spool = Spool()
        self._builder = SnapshotBuilder(columns, orders, self._spool)
        self._late: list[tuple[str, RowCells]] = []
        self._unknown: dict[int, UnknownKey] = {}
        self._kept_unknown = 0
        self._more_unknown = 0
        self._shared: dict[int, Unreadable] = {}

    async def translate(self, reading: KeyReading) -> SpooledSnapshot:
        """Given a reading, return its snapshot. The portal is asked for the orders of unknown keys.

        Raises:
            UnavailableError, AuthError, PortalBlocked: The portal cannot be asked for them.
        """
        try:
            for maybe_keys, rows in reading.chunks():
                await self._take(*self._with_keys(maybe_keys, rows))
            await self._ask()
            if self._more_unknown:
                self._builder.describe_orderless(
                    f"{self._more_unknown:,} more rows have an {self._keys.field.value} that no order of the portal has"
                )
            else:
                await self._keys.forget_but({one.key for one in self._unknown.values()})
            return self._builder.finish(self._shared, self._unknown)
        except BaseException:
            self._spool.close()
            raise

    def _with_keys(self, maybe_keys: list[str | None], rows: list[RowCells]) -> tuple[list[str], list[RowCells]]:
        """Return the rows that have a key, with their keys; the others are noted as rows without an order."""
        keys = [key for key in maybe_keys if key is not None]
        if len(keys) < len(rows):
            for key, row in zip(maybe_keys, rows, strict=True):
                if key is None:
                    self._builder.without_order(row)
            rows = [row for key, row in zip(maybe_keys, rows, strict=True) if key is not None]
        return keys, rows

    async def _take(self, keys: list[str], rows: list[RowCells]) -> None:
        known = await self._keys.known(list(dict.fromkeys(keys)))
        orders = [*map(known.single.get, keys)]
        settled = [order for order in orders if order is not None]
        if len(settled) == len(keys) and min(settled, default=1) > 0:
            self._feed(settled, rows)
            return
        late = [key not in known.single and key not in known.shared for key in keys]
        self._late += [(key, row) for key, row, is_late in zip(keys, rows, late, strict=True) if is_late]
        self._sort(known, [(key, row) for key, row, is_late in zip(keys, rows, late, strict=True) if not is_late])
        if len(self._late) >= ASKED_AT_ONCE:
            await self._ask()

    async def _ask(self) -> None:
        """Ask the portal for the orders of the waiting rows."""
        if self._late:
            waiting, self._late = self._late, []
            self._sort(await self._keys.learn({key for key, _ in waiting}), waiting)

    def _sort(self, found: KeyOrders, rows: Sequence[tuple[str, RowCells]]) -> None:
        """Take rows whose keys have all been looked up."""
        orders: list[int] = []
        of_orders: list[RowCells] = []
        for key, row in rows:
            order = found.single.get(key)
            if order is None:
                self._share(key, found.shared[key])
            elif order < 0:
                self._put_aside(order, key, row)
            else:
                orders.append(order)
                of_orders.append(row)
        if orders:
            self._feed(orders, of_orders)

    def _put_aside(self, number: int, key: str, row: RowCells) -> None:
        """Take a row with a key that no order has. If it names no owner either, it may be the row of any order."""
        owner, known = self._owner(row), self._unknown.get(number)
        named = set() if owner is None else {owner}
        if owner is None:
            self._builder.without_order(row)
        if known is not None:
            self._unknown[number] = known._replace(owner=None)
            if named <= known.owners:
                return
        if self._kept_unknown >= MOST_UNKNOWN:
            self._more_unknown += 1
            return
        self._kept_unknown += 1
        if known is not None:
            known.owners.update(named)
        else:
            self._unknown[number] = UnknownKey(key, owner, named)

    def _feed(self, orders: Sequence[int], rows: Sequence[RowCells]) -> None:
        columns = [orders, *list(zip(*rows, strict=True))[1:]]
        self._builder.feed(sorted(zip(*columns, strict=True), key=_first))

    def _owner(self, row: RowCells) -> MaybeOwner:
        constant = self._columns.owner_type
        return self._columns.owner(constant if isinstance(constant, int) else row[1], row[-1])

    def _share(self, key: str, orders: Sequence[int]) -> None:
        why = shared_key(self._keys.field, key, orders)
        self._shared |= {order: why for order in orders if order in self._orders}


_NOT_LISTED = "the portal does not list this order, so its {} is not known"


class KeyedTable(SqlTable):
    """A mapping table whose rows name orders by a key.

    The portal is asked for keys before a transaction begins or after it has ended, never within one.

    Args:
        setup: As for any table.
        keys: Knows which orders have which keys.
    """

    def __init__(self, setup: TableSetup, keys: OrderKeys) -> None:
        super().__init__(setup)
        self._keys = keys

    @asynccontextmanager
    async def snapshot(self, progress: Progress, ranges: OrderRanges | None = None) -> AsyncIterator[SpooledSnapshot]:
        """Read the whole selected table in one transaction; after it, look up the orders of its keys.

        Raises:
            UnavailableError, AuthError, ConfigError: As for `SqlTable.snapshot`; and of the portal.
        """
        reading = await self._read_in_thread(self._key_reading, progress)
        try:
            assert self._columns is not None
            snapshot = await KeyTranslation(self._columns, self._orders(ranges), self._keys).translate(reading)
        finally:
            reading.close()
        try:
            yield snapshot
        finally:
            snapshot.close()

    async def read(self, order_ids: Sequence[int]) -> dict[int, TableValue]:
        """Given order ids, return what the table holds for each; an order that no row can name is unreadable.

        Raises:
            UnavailableError, AuthError, ConfigError: As for `SqlTable.read`; and of the portal.
        """
        keys = await self._keys.keys_of(order_ids)
        nameless = self._nameless(keys)
        named = {order: key for order, key in keys.items() if order not in nameless}
        found = await self._in_thread(lambda: self._read([*named], named)) if named else {}
        return found | {order: TableValue(None, unreadable=why) for order, why in nameless.items()}

    async def write(self, batch: Sequence[Write]) -> list[WriteResult]:
        """Carry out conditional writes in one transaction; an order that no row can name is refused.

        Raises:
            UnavailableError, AuthError, ConfigError: Nothing was written.
        """
        keys = await self._keys.keys_of([write.order_id for write in batch])
        why = {order: one.detail for order, one in self._nameless(keys).items()}
        why |= {write.order_id: _NOT_LISTED.format(self._keys.field) for write in batch if write.order_id not in keys}
        named = {order: key for order, key in keys.items() if order not in why}
        results = {order: WriteResult(order, Effect.REFUSED, text=text) for order, text in why.items()}
        if due := [write for write in batch if write.order_id in named]:
            written = await self._in_thread(lambda: self._write(due, named), broken=shows_failure)
            results |= {result.order_id: result for result in written}
        return [results[write.order_id] for write in batch]

    def _nameless(self, keys: dict[int, str]) -> dict[int, Unreadable]:
        """Given orders with their keys, return those that share a key or have none, each with the reason."""
        by_key: dict[str, list[int]] = {}
        for order, key in keys.items():
            by_key.setdefault(key, []).append(order)
        field = self._keys.field
        shared = {key: shared_key(field, key, orders) for key, orders in by_key.items() if len(orders) > 1}
        return {order: shared[key] if key else no_key(field) for order, key in keys.items() if not key or key in shared}

    def _key_reading(self, count: Callable[[int], None]) -> KeyReading:
        def read(connection: sa.Connection, columns: Columns) -> KeyReading:
            order_key = columns.order_id
            assert isinstance(order_key, OrderKeyColumn)
            reading = KeyReading()
            try:
                for rows in fetch_all(connection, self._home.backend, columns, count):
                    reading.append(order_key.keys_of([row[0] for row in rows]), rows)
            except BaseException:
                reading.close()
                raise
            return reading

        return self._read_whole(read)


def open_table(
    settings: TableSettings,
    *,
    scope: Scope,
    clock: Clock,
    link: str,
    keys: OrderKeys | None = None,
    writable: bool = True,
    meter: Meter = NULL_METER,
) -> SqlTable:
    """Return the mapping table of a link. Nothing connects yet.

    Args:
        settings: `[links.X.table]`, with the URL itself (a `url_file` has been read).
        scope: The link's scope. Only its order range is used, since rows with owners of other types count too.
        clock: Measures how long the database takes.
        link: The link's name, for the keys in problems.
        keys: Knows the orders of the keys, if the table holds keys instead of order ids; `check` works without.
        writable: Whether the link's direction lets syncd write to the table; if not, no write rights are needed.
        meter: Receives the duration of every read and write.

    Raises:
        ConfigError: The URL cannot be used, or the driver is not installed.
    """
    key = f"links.{link}.table"
    if settings.url is None:
        raise ConfigError(f"{key}.url: is missing.", hint="Give the link's table a url or url_file.")
    home = TableDatabase(
        settings.url.get_secret_value(),
        f"{key}.url",
        refuses_hidden_rows=settings.row_security is RowSecurity.REFUSE,
    )
    setup = TableSetup(settings, home, scope, clock, link, writable, meter)
    return SqlTable(setup) if settings.key.field is None or keys is None else KeyedTable(setup, keys)
