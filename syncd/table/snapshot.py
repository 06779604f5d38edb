"""Reading the whole table in one consistent transaction, at the driver's speed, into a spool.

Ordinary rows (whole positive numbers, ascending) are checked and written chunk by chunk without a loop in Python; a
chunk with anything else in it is checked row by row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import groupby, islice
from operator import gt, itemgetter, lt
from types import MappingProxyType
from typing import Any

import sqlalchemy as sa

from syncd.core.model import Row, Unreadable
from syncd.core.order_keys import UnknownKey
from syncd.core.order_ranges import LARGEST_ID, OrderRanges
from syncd.db.backend import Backend
from syncd.table.columns import Columns, IdColumn, parse_id
from syncd.table.spool import Spool, SpooledSnapshot
from syncd.table.statements import Statements

CHUNK = 10_000
"""How many rows are fetched at once."""

SHOWN_ORDERLESS = 20

NOTHING: Mapping[int, Any] = MappingProxyType({})

_ONLY_INTS = {int}
_ONLY_TEXTS = {str}
_LONGEST_NUMBER = 19


def read_all(
    connection: sa.Connection,
    backend: Backend,
    columns: Columns,
    orders: OrderRanges,
    count: Callable[[int], None],
    *,
    part: bool = False,
) -> SpooledSnapshot:
    """Read every row that is syncd's into a snapshot; the transaction may end afterwards.

    An error of the driver is not caught here: a table that was not read to its end makes no snapshot.

    Args:
        connection: Within a transaction whose reads all see one moment.
        backend: The kind of database.
        columns: The table.
        orders: Other orders are left out.
        count: Called with the number of rows read so far; raises to stop.
        part: The orders are a part of the table, which the index of the column finds. Ids kept as text have several
            forms, which no index finds: there, all rows are read.
    """
    spool = Spool()
    try:
        builder = SnapshotBuilder(columns, orders, spool)
        for rows in fetch_all(connection, backend, columns, count, orders if part else None):
            builder.feed(rows)
        return builder.finish()
    except BaseException:
        spool.close()
        raise


def fetch_all(
    connection: sa.Connection,
    backend: Backend,
    columns: Columns,
    count: Callable[[int], None],
    orders: OrderRanges | None = None,
) -> Iterator[Sequence[Sequence[Any]]]:
    """Yield every row that is syncd's, as the driver returns them, `CHUNK` at a time; see `read_all`.

    Given `orders`, and a column with an index that finds them, only their rows and those without an order id.
    """
    statements, done = Statements(columns, backend), 0
    selects: Iterable[sa.Select[Any]] = [statements.select_all]
    if orders is not None and isinstance(columns.order_id, IdColumn) and not columns.order_id.textual:
        selects = [*map(statements.select_piece, orders.pieces()), *statements.selects_orderless]
    for select in selects:
        statement = select.compile(connection, compile_kwargs={"render_postcompile": True})
        # Empty parameters, not none: with none, drivers would leave the doubled percent signs as they are.
        values = statement.construct_params()
        parameters = tuple(values[name] for name in statement.positiontup) if statement.positiontup else values
        with closing(backend.stream(connection)) as cursor:
            cursor.execute(str(statement), parameters)
            while rows := cursor.fetchmany(CHUNK):
                yield rows
                done += len(rows)
                count(done)


class SnapshotBuilder:
    """Takes rows as the driver returns them, and makes a snapshot of them.

    Args:
        columns: The table.
        orders: Other orders are left out.
        spool: Where readable rows go.
    """

    def __init__(self, columns: Columns, orders: OrderRanges, spool: Spool) -> None:
        self._columns = columns
        self._constant = columns.owner_type if isinstance(columns.owner_type, int) else None
        self._textual = isinstance(columns.order_id, IdColumn) and columns.order_id.textual
        self._wanted = orders
        self._spool = spool
        self._last = 0
        self._troubled: dict[int, list[str]] = {}
        self._orderless: list[str] = []
        self._more_orderless = 0
        self._odd = False

    def feed(self, rows: Sequence[Sequence[Any]]) -> None:
        """Take rows: order id, owner type unless it is constant, owner id."""
        if not self._plain(rows):
            self._one_by_one(rows)

    def _plain(self, rows: Sequence[Sequence[Any]]) -> bool:
        columns = list(zip(*rows, strict=True))
        cells = [_numbers(column) for column in columns]
        if not all(cells):
            return False
        if self._textual and not self._odd:
            self._odd = self._has_zeros(columns[0])
        if self._textual and any(map(gt, cells[0], islice(cells[0], 1, None))):
            # Texts are sorted by their digits, or not at all.
            cells = list(zip(*sorted(zip(*cells, strict=True)), strict=True))
        orders, owners = cells[0], cells[-1]
        types = self._constant or cells[1]
        if not (orders[0] > 0 and orders[-1] <= LARGEST_ID and all(map(lt, orders, islice(orders, 1, None)))):
            return False
        if any(min(column) < 1 or max(column) > LARGEST_ID for column in cells[1:]):
            return False
        if not self._wanted.holds(orders[0], orders[-1]):
            return False
        if orders[0] <= self._last:
            self._spool.new_run()
        self._spool.append(orders, types, owners)
        self._last = orders[-1]
        return True

    def _has_zeros(self, digits: Sequence[Any]) -> bool:
        """Given texts of digits, or numbers, return whether one begins with zeros that syncd would not write."""
        if type(digits[0]) is int or not any(text[0] == "0" for text in digits):
            return False
        return any(text[0] == "0" and self._oddly_written(int(text), text) for text in digits)

    def _oddly_written(self, order_id: int, cell: object) -> bool:
        return cell not in (order_id, str(order_id), self._columns.order_id.cell(order_id))

    def _one_by_one(self, rows: Sequence[Sequence[Any]]) -> None:
        with_order: list[tuple[int, Any, Any]] = []
        for row in rows:
            order_id = parse_id(row[0])
            if order_id is None:
                self.without_order(row)
            elif order_id in self._wanted:
                self._odd = self._odd or (self._textual and self._oddly_written(order_id, row[0]))
                with_order.append((order_id, self._constant or row[1], row[-1]))
        if not with_order:
            return
        with_order.sort(key=itemgetter(0))
        if with_order[0][0] <= self._last:
            self._spool.new_run()
        self._last = with_order[-1][0]
        good: list[tuple[int, int, int]] = []
        for order_id, group in groupby(with_order, key=itemgetter(0)):
            same = list(group)
            owner = self._columns.owner(*same[0][1:])
            if len(same) == 1 and owner is not None:
                good.append((order_id, *owner))
            else:
                self._troubled.setdefault(order_id, []).extend(self._columns.describe(*row[1:]) for row in same)
        if good:
            self._spool.append(*zip(*good, strict=True))

    def without_order(self, row: Sequence[Any]) -> None:
        """Take a row whose order cannot be read."""
        if len(self._orderless) < SHOWN_ORDERLESS:
            self._orderless.append(self._columns.describe_without_order(row[0], self._constant or row[1], row[-1]))
        else:
            self._more_orderless += 1

    def describe_orderless(self, rows: str) -> None:
        """Take a description of more rows whose orders cannot be read."""
        self._orderless.insert(0, rows)

    def finish(
        self, shared: Mapping[int, Unreadable] = NOTHING, unknown: Mapping[int, UnknownKey] = NOTHING
    ) -> SpooledSnapshot:
        """Return the snapshot of all rows fed.

        Args:
            shared: Orders that share their key with others.
            unknown: Rows with a key that no order has, by the number of the key.
        """
        spool = self._spool if len(self._spool.runs) == 1 else self._one_run()
        unreadable: dict[int, Unreadable] = {}
        alike: dict[str, Unreadable] = {}
        for order_id in sorted(self._troubled):
            rows = self._troubled[order_id]
            if len(rows) == 1:  # a million rows with the same problem share one sentence
                unreadable[order_id] = alike.setdefault(rows[0], self._columns.unreadable(rows))
            else:
                unreadable[order_id] = self._columns.unreadable(rows)
        if self._more_orderless:
            self._orderless[-1] = f"and {self._more_orderless + 1} more rows without a readable order id"
        return SpooledSnapshot(spool, unreadable | dict(shared), self._orderless, unknown, odd=self._odd)

    def _one_run(self) -> Spool:
        """Merge the runs, in which an order may be more than once."""
        clean = Spool()
        try:
            for piece in self._spool.merged():
                orders, types, owners = zip(*piece, strict=True)
                if self._troubled.keys().isdisjoint(orders) and all(map(lt, orders, islice(orders, 1, None))):
                    clean.append(orders, types, owners)
                elif singles := list(self._singles(piece)):
                    clean.append(*zip(*singles, strict=True))
        except BaseException:
            clean.close()
            raise
        self._spool.close()
        return clean

    def _singles(self, rows: Sequence[Row]) -> Iterator[Row]:
        for order_id, group in groupby(rows, key=itemgetter(0)):
            same = list(group)
            if len(same) == 1 and order_id not in self._troubled:
                yield same[0]
            else:
                self._troubled.setdefault(order_id, []).extend(self._columns.describe(*row[1:]) for row in same)


def _numbers(column: Sequence[Any]) -> Sequence[int]:
    """Given the cells of a column, return them as whole numbers; empty if one of them is not plainly one."""
    kinds = set(map(type, column))
    if kinds == _ONLY_INTS:
        return column
    if kinds != _ONLY_TEXTS or not all(column) or max(map(len, column)) > _LONGEST_NUMBER:
        return ()
    digits = "".join(column)
    return tuple(map(int, column)) if digits.isascii() and digits.isdigit() else ()
