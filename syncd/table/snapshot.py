"""Reading the whole table in one consistent transaction, at the driver's speed, into a spool.

Ordinary rows (whole positive numbers, ascending) are checked and written chunk by chunk without a loop in Python; a
chunk with anything else in it is looked at row by row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import groupby, islice
from operator import itemgetter, lt
from typing import Any

import sqlalchemy as sa

from syncd.core.model import Row, Scope, Unreadable
from syncd.table.columns import Columns
from syncd.table.dialect import Dialect
from syncd.table.ids import MAX_ID, normal_id
from syncd.table.spool import Spool, SpooledSnapshot

CHUNK = 10_000
"""How many rows are fetched at once."""

SHOWN_ORDERLESS = 20

_ONLY_INTS = {int}


def read_all(
    connection: sa.Connection, dialect: Dialect, columns: Columns, scope: Scope, tell: Callable[[int], None]
) -> SpooledSnapshot:
    """Read every row that is syncd's into a snapshot; the transaction may end afterwards.

    Any error of the driver leaves this function as it is: a table that was not read to its end is no snapshot.

    Args:
        connection: Within a transaction whose reads all see one moment.
        dialect: How to speak to this database.
        columns: The table.
        scope: Orders outside its range are left out.
        tell: Called with the number of rows read so far; raises to stop.
    """
    spool = Spool()
    try:
        intake = Intake(columns, scope, spool)
        statement = columns.everything.compile(connection, compile_kwargs={"literal_binds": True})
        with closing(dialect.stream(connection)) as cursor:
            # Empty parameters, not none: with none, drivers would leave the doubled percent signs as they are.
            cursor.execute(str(statement), ())
            done = 0
            while rows := cursor.fetchmany(CHUNK):
                intake.feed(rows)
                done += len(rows)
                tell(done)
        return intake.finish()
    except BaseException:
        spool.close()
        raise


class Intake:
    """Takes rows as the driver gives them, and makes a snapshot of them.

    Args:
        columns: The table.
        scope: Orders outside its range are left out.
        spool: Where readable rows go.
    """

    def __init__(self, columns: Columns, scope: Scope, spool: Spool) -> None:
        self._columns = columns
        self._constant = columns.owner_type if isinstance(columns.owner_type, int) else None
        self._scope = scope
        self._spool = spool
        self._last = 0
        self._troubled: dict[int, list[str]] = {}
        self._orderless: list[str] = []
        self._more_orderless = 0

    def feed(self, rows: Sequence[Sequence[Any]]) -> None:
        """Take rows: order id, owner type unless it is constant, owner id."""
        if not self._plain(rows):
            self._one_by_one(rows)

    def _plain(self, rows: Sequence[Sequence[Any]]) -> bool:
        cells = list(zip(*rows, strict=True))
        orders, owners = cells[0], cells[-1]
        types = self._constant or cells[1]
        if any(set(map(type, column)) != _ONLY_INTS for column in cells):
            return False
        if not (self._last < orders[0] and orders[-1] <= MAX_ID and all(map(lt, orders, islice(orders, 1, None)))):
            return False
        if any(min(column) < 1 or max(column) > MAX_ID for column in cells[1:]):
            return False
        if not (self._scope.holds_order(orders[0]) and self._scope.holds_order(orders[-1])):
            return False
        self._spool.append(orders, types, owners)
        self._last = orders[-1]
        return True

    def _one_by_one(self, rows: Sequence[Sequence[Any]]) -> None:
        with_order: list[tuple[int, Any, Any]] = []
        for row in rows:
            order_id = normal_id(row[0])
            if order_id is None:
                self._without_order(row)
            elif self._scope.holds_order(order_id):
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
                self._troubled.setdefault(order_id, []).extend(self._columns.says(*row[1:]) for row in same)
        if good:
            self._spool.append(*zip(*good, strict=True))

    def _without_order(self, row: Sequence[Any]) -> None:
        if len(self._orderless) < SHOWN_ORDERLESS:
            self._orderless.append(self._columns.orderless(row[0], self._constant or row[1], row[-1]))
        else:
            self._more_orderless += 1

    def finish(self) -> SpooledSnapshot:
        """Return the snapshot of all rows fed."""
        spool = self._spool if len(self._spool.runs) == 1 else self._one_run()
        unreadable: dict[int, Unreadable] = {}
        alike: dict[str, Unreadable] = {}
        for order_id in sorted(self._troubled):
            told = self._troubled[order_id]
            if len(told) == 1:  # a million rows with the same trouble share one sentence
                unreadable[order_id] = alike.setdefault(told[0], self._columns.unreadable(told))
            else:
                unreadable[order_id] = self._columns.unreadable(told)
        if self._more_orderless:
            self._orderless[-1] = f"and {self._more_orderless + 1} more rows without a readable order id"
        return SpooledSnapshot(spool, unreadable, self._orderless)

    def _one_run(self) -> Spool:
        """Merge the runs, in which an order may come more than once."""
        clean = Spool()
        try:
            singles = self._singles()
            while some := list(islice(singles, CHUNK)):
                clean.append(*zip(*some, strict=True))
        except BaseException:
            clean.close()
            raise
        self._spool.close()
        return clean

    def _singles(self) -> Iterator[Row]:
        for order_id, group in groupby(self._spool.merged(), key=itemgetter(0)):
            same = list(group)
            if len(same) == 1 and order_id not in self._troubled:
                yield same[0]
            else:
                self._troubled.setdefault(order_id, []).extend(self._columns.says(*row[1:]) for row in same)
