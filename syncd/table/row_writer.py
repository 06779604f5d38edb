"""Carrying out due writes, statement by statement, and proving their effect by reading back.

Every statement has the cells that were read in its condition, and its rows are counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import sqlalchemy as sa
from sqlalchemy import exc

from syncd.core.model import Owner
from syncd.core.ports import Write
from syncd.db.backend import Backend
from syncd.db.registry import backend_at_work
from syncd.table.columns import Columns
from syncd.table.database import TableFault, fault_of, is_duplicate
from syncd.table.rows import RowReader, TableRow, active_rows
from syncd.table.statements import BEFORE, PARKED, Statement, Statements

_ENDS_TRANSACTION = frozenset({TableFault.GONE, TableFault.UNUSABLE, TableFault.AGAIN})
ENDS_BATCH = _ENDS_TRANSACTION | {TableFault.DENIED}
"""Faults that no single order causes: a right that is missing is missing for all of them."""

_LARGE_ID = 2_147_483_647

Rows = Mapping[int, Sequence[TableRow]]

Unit = tuple[Write, ...]
"""Writes that are carried out together: one, or all moves of a ring, in which the first takes the last one's owner."""


class UnexpectedEffect(Exception):
    """A statement had another effect than it should have.

    Args:
        text: A sentence for the operator.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class TransactionEnded(Exception):
    """The database ended the whole transaction because of one row.

    Args:
        error: The database's error.
    """

    def __init__(self, error: exc.DBAPIError) -> None:
        super().__init__(str(error))
        self.error = error


@contextmanager
def savepoint(connection: sa.Connection) -> Iterator[sa.NestedTransaction]:
    """A part of a transaction. If it ends with an error, it is undone alone, unless the database ended the whole.

    Raises:
        TransactionEnded: The database ended the whole transaction because of a row.
    """
    begun = connection.begin_nested()
    try:
        yield begun
    except exc.DBAPIError as error:
        if not connection.invalidated and backend_at_work(connection).has_ended(connection):
            raise TransactionEnded(error) from None
        if fault_of(error) not in _ENDS_TRANSACTION:
            begun.rollback()
        raise
    except UnexpectedEffect:
        begun.rollback()
        raise
    if begun.is_active:
        begun.commit()


def in_sequence(batch: Sequence[Write]) -> list[Unit]:
    """Given a batch of writes, one for each order, return them in a sequence that frees owners before they are taken.

    Removes free owners, so they come first. A move comes after the move that frees its owner. Moves that wait for each
    other in a ring stay together, since one of them must give up its owner for a moment. Inserts come last.
    """
    removes = [(write,) for write in batch if write.after is None]
    adds = [(write,) for write in batch if write.before is None and write.after is not None]
    moves = [write for write in batch if write.before is not None and write.after is not None]
    return [*removes, *_moves(moves), *adds]


def _moves(moves: Sequence[Write]) -> Iterator[Unit]:
    holders: dict[Owner | None, Write] = {}
    for write in moves:
        # If two orders have the same owner, the database allows that, so their sequence does not matter.
        holders.setdefault(write.before, write)
    done: set[int] = set()
    for write in moves:
        chain: list[Write] = []
        on_chain: dict[int, int] = {}
        at: Write | None = write
        while at is not None and at.order_id not in done and at.order_id not in on_chain:
            on_chain[at.order_id] = len(chain)
            chain.append(at)
            at = holders.get(at.after)
        if at is not None and at.order_id in on_chain:
            start = on_chain[at.order_id]
            yield tuple(reversed(chain[start:]))
            chain = chain[:start]
        done.update(on_chain)
        for before in reversed(chain):
            yield (before,)


class RowWriter:
    """Writes rows of one table within one transaction.

    Args:
        connection: Within the transaction.
        backend: The kind of database.
        columns: The table.
        key: The configuration key of the table's settings, such as `links.shop.table`.
    """

    def __init__(self, connection: sa.Connection, backend: Backend, columns: Columns, key: str) -> None:
        self._connection = connection
        self._backend = backend
        self._columns = columns
        self._key = key
        self._statements = Statements(columns, backend)
        self._reader = RowReader(columns, self._statements, backend)

    def fetch(self, writes: Sequence[Write], cells: set[object] | None = None) -> dict[int, list[TableRow]]:
        """Given writes, return every row of their orders, as `RowReader.fetch`.

        If no unique index keeps an order from getting two rows, the read waits for inserts of other sessions.
        """
        inserts = any(write.before is None for write in writes)
        if cells is None and not self._columns.order_id.odd:
            cells = set()  # an order without a row in the usual form was looked for in all forms when this was planned
        lock = inserts and self._backend.locks_reads and not self._columns.order_is_unique
        return self._reader.fetch(self._connection, [write.order_id for write in writes], cells, lock=lock)

    def carry_out(self, due: Sequence[Unit], there: Rows) -> None:
        """Carry out writes in the given sequence; return when the database has accepted all of them.

        Args:
            due: The writes.
            there: The rows of their orders, as they were read in this transaction.

        Raises:
            DBAPIError: The database refuses one of them.
            UnexpectedEffect: One of them found no row, or changed more than its own row.
        """
        counts = self._columns.reaches_other_rows
        before = self._backend.balance(self._connection, self._columns.table) if counts else None
        inserts: list[dict[str, object]] = []
        grown = 0
        for unit in due:
            if len(unit) > 1:
                self._go_round(unit, there)
                continue
            (write,) = unit
            rows = there.get(write.order_id, [])
            if active_rows(rows):
                self._change(write, there)
                grown -= write.after is None and self._columns.deleted is None
            elif any(not row.live for row in rows):
                grown += self._add_beside_deleted(write, rows)
            else:
                inserts.append(self._statements.insert.only(self._parameters(write, ())))
        if inserts:
            self._connection.execute(self._statements.insert.clause, inserts)
        self._backend.check_constraints(self._connection)
        self._backend.defer_constraints(self._connection)
        if before is not None:
            after = self._backend.balance(self._connection, self._columns.table)
            if after is not None and after - before != grown + len(inserts):
                raise UnexpectedEffect(
                    "writing it adds or removes rows of other orders (a trigger of the table, or ON CONFLICT REPLACE); "
                    "it was rolled back",
                )

    def prove(self, writes: Sequence[Write], there: Rows) -> None:
        """Read back what was written: triggers, defaults, `where` and other writers may have changed it.

        Args:
            writes: What was written.
            there: The rows of their orders as they were before.

        Raises:
            UnexpectedEffect: An order does not show the owner that was written.
        """
        cells: set[object] = {row.cells[0] for write in writes for row in there.get(write.order_id, [])}
        now_there = self.fetch(writes, cells)
        for write in writes:
            rows = now_there.get(write.order_id, [])
            active = active_rows(rows)
            if [row.owner for row in active] == ([] if write.after is None else [write.after]):
                continue
            if write.after is not None and not active and any(row.live for row in rows):
                raise UnexpectedEffect(
                    f"the row would not be selected by {self._key}.where afterwards, so it was not written; "
                    f"give {self._key}.extra the values that `where` asks for",
                )
            shows = "; ".join(sorted(row.describe for row in active)) or "no row"
            raise UnexpectedEffect(f"the table shows something else than was written ({shows}); it was rolled back")

    # ------------------------------------------------------------------ one row

    def _parameters(self, write: Write, cells: Sequence[object]) -> dict[str, object]:
        return self._statements.parameters(write.order_id, write.after, cells)

    def _change(self, write: Write, there: Rows) -> None:
        """Move or remove the row of an order that has one."""
        row = active_rows(there[write.order_id])[0]
        statement = self._statements.delete if write.after is None else self._statements.move
        self._one_row(statement, self._parameters(write, row.cells))

    def _one_row(self, statement: Statement, parameters: dict[str, object]) -> None:
        count = self._connection.execute(statement.clause, statement.only(parameters)).rowcount
        # A view with INSTEAD OF triggers reports no row counts; reading back proves the effect.
        if count != 1 and not self._columns.is_view:
            raise UnexpectedEffect(f"the statement changed {count} rows instead of one; it was rolled back")

    def _add_beside_deleted(self, write: Write, rows: Sequence[TableRow]) -> int:
        """Add an order that has softly deleted rows; return by how many rows the table has grown.

        A closed row is history, and stays as it is if the database allows a new one beside it. If it allows only one
        row for an order, that row is revived.
        """
        gone = [row for row in rows if not row.live]
        parameters = self._parameters(write, gone[0].cells)
        if self._columns.order_is_unique and self._revived(write, parameters):
            return 0
        insert = self._statements.insert
        try:
            with savepoint(self._connection):
                self._connection.execute(insert.clause, insert.only(parameters))
        except exc.DBAPIError as error:
            if not is_duplicate(error) or len(gone) > 1 or not self._revived(write, parameters):
                raise
            return 0
        return 1

    def _revived(self, write: Write, parameters: dict[str, object]) -> bool:
        """Revive the order's softly deleted row, unless `where` would not select it then; return whether it is live."""
        with savepoint(self._connection) as begun:
            self._one_row(self._statements.revive, parameters)
            if active_rows(self.fetch([write], {parameters[BEFORE[0]]}).get(write.order_id, [])):
                return True
            begun.rollback()
        return False

    # ------------------------------------------------------------------- a ring

    def _go_round(self, ring: Unit, there: Rows) -> None:
        """Carry out moves that each take the owner of another one, in a way that the database allows."""
        try:
            with savepoint(self._connection):
                for write in ring:
                    self._change(write, there)
        except exc.DBAPIError as error:
            if not is_duplicate(error):
                raise
        else:
            return
        last: exc.DBAPIError | None = None
        for parked in self._parking(ring[-1]):
            try:
                with savepoint(self._connection):
                    self._aside(ring, there, parked)
            except exc.DBAPIError as error:
                if fault_of(error) is not TableFault.ROW:
                    raise
                last = error
            else:
                return
        assert last is not None
        raise last

    def _parking(self, write: Write) -> Iterator[object]:
        """Yield owner ids that a row may have for a moment: null, a negative one, the largest of an ordinary column."""
        if self._columns.nullable_owner:
            yield None
        assert write.before is not None
        yield self._columns.owner_id.cell(-write.before.owner_id)
        yield self._columns.owner_id.cell(_LARGE_ID)

    def _aside(self, ring: Unit, there: Rows, parked: object) -> None:
        """Give the ring's last order another owner for a moment, so that the first one can take its own."""
        *others, aside = ring
        row = active_rows(there[aside.order_id])[0]
        parameters = {**self._parameters(aside, row.cells), PARKED: parked}
        self._one_row(self._statements.park, parameters)
        for write in others:
            self._change(write, there)
        self._one_row(self._statements.unpark, parameters)
