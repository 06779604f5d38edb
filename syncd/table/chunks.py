"""Conditional writes within a transaction: every statement carries the cells that were read, every row is counted.

The orders of a chunk are read, what is to be written is written, and read back, under a savepoint. A chunk in which
anything is not as it should be is rolled back and halved until the order that spoils it is alone: one order's failure
costs the others a few statements, never their write.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import sqlalchemy as sa
from sqlalchemy import exc

from syncd.core.ports import Effect, Write, WriteResult
from syncd.table.columns import WAS, Columns, Statement
from syncd.table.dialect import Dialect
from syncd.table.faults import Fault, diagnose, words
from syncd.table.rows import Stored, mine, stored, value

MAX_LOCKED = 3
"""After this many orders of a batch were found locked, the rest is not tried: each costs the lock's whole time."""

_ENDS_TRANSACTION = frozenset({Fault.GONE, Fault.UNUSABLE, Fault.AGAIN})
_ENDS_BATCH = _ENDS_TRANSACTION | {Fault.DENIED}
"""What no order is to be blamed for: a right that is missing is missing for all of them."""


class AstrayError(Exception):
    """A statement did something else than it was asked to.

    Args:
        code: A word for programs.
        text: A sentence for the operator.
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


@contextmanager
def savepoint(connection: sa.Connection) -> Iterator[sa.NestedTransaction]:
    """A part of a transaction that is undone alone when it ends with an error, unless the whole is lost with it."""
    begun = connection.begin_nested()
    try:
        yield begun
    except exc.DBAPIError as error:
        if diagnose(error) not in _ENDS_TRANSACTION:
            begun.rollback()
        raise
    except AstrayError:
        begun.rollback()
        raise
    if begun.is_active:
        begun.commit()


class Chunks:
    """The writes of one transaction.

    Args:
        connection: Within the transaction.
        dialect: How to speak to this database.
        columns: The table.
        now: Seconds since the epoch, for `touched` and `deleted`.
        key: The configuration key of the table's settings, such as `links.shop.table`.
    """

    def __init__(self, connection: sa.Connection, dialect: Dialect, columns: Columns, *, now: float, key: str) -> None:
        self._connection = connection
        self._dialect = dialect
        self._columns = columns
        self._now = now
        self._key = key
        self._locked = 0

    def write(self, writes: Sequence[Write]) -> list[WriteResult]:
        """Carry out writes; return one result for each, in order.

        Raises:
            DBAPIError: The transaction cannot go on, a right is missing, or the table cannot be read.
        """
        if self._locked >= MAX_LOCKED:
            text = "not tried: several orders of this batch are locked by another program"
            return [WriteResult(write.order_id, Effect.NOT_SENT, code="locked", text=text) for write in writes]
        try:
            with savepoint(self._connection):
                return self._attempt(writes)
        except exc.DBAPIError as error:
            if diagnose(error) in _ENDS_BATCH:
                raise
            if diagnose(error) is Fault.LOCKED:
                self._dialect.hurry(self._connection)
            trouble: Exception = error
        except AstrayError as error:
            trouble = error
        if len(writes) == 1:
            return [self._alone(writes[0], trouble)]
        half = len(writes) // 2
        return self.write(writes[:half]) + self.write(writes[half:])

    def _alone(self, write: Write, trouble: Exception) -> WriteResult:
        """Tell what became of the one order whose write failed: it may have moved meanwhile, or nobody wants it."""
        rows = self._stored([write.order_id]).get(write.order_id, [])
        answer = self._answer(write, rows)
        if answer is not None:
            return answer
        if isinstance(trouble, AstrayError):
            return WriteResult(write.order_id, Effect.REFUSED, code=trouble.code, text=trouble.text)
        code, text = words(trouble)
        if diagnose(trouble) is Fault.LOCKED:
            self._locked += 1
            return WriteResult(write.order_id, Effect.NOT_SENT, code=code, text=text)
        return WriteResult(write.order_id, Effect.REFUSED, code=code, text=text)

    def _attempt(self, writes: Sequence[Write]) -> list[WriteResult]:
        there = self._stored([write.order_id for write in writes])
        results: list[WriteResult] = []
        due: list[Write] = []
        for write in writes:
            answer = self._answer(write, there.get(write.order_id, []))
            if answer is None:
                due.append(write)
                answer = WriteResult(write.order_id, Effect.DONE, write.before, found_known=True)
            results.append(answer)
        if due:
            self._carry_out(due, there)
            self._prove(due, there)
        return results

    def _stored(self, ids: Sequence[int], cells: set[object] | None = None) -> dict[int, list[Stored]]:
        return stored(self._connection, self._dialect, self._columns, ids, cells)

    def _answer(self, write: Write, rows: Sequence[Stored]) -> WriteResult | None:
        """Given an order's rows, return the result that stands without writing, or None when it is to be written."""
        there = value(self._columns, rows)
        if there is not None and (there.unreadable is not None or not there.selected):
            text = there.unreadable.detail if there.unreadable else f"no longer selected by {self._key}.where"
            return WriteResult(write.order_id, Effect.MOVED, text=text)
        found = there.owner if there is not None else None
        if found == write.after:
            return WriteResult(write.order_id, Effect.ALREADY, found, found_known=True)
        if found != write.before:
            return WriteResult(write.order_id, Effect.MOVED, found, found_known=True)
        constant = self._columns.owner_type
        if write.after is not None and isinstance(constant, int) and write.after.owner_type_id != constant:
            text = f"the table holds owners of type {constant} only ({self._key}.columns.owner_type_id)"
            return WriteResult(write.order_id, Effect.REFUSED, found, found_known=True, code="owner-type", text=text)
        return None

    # ------------------------------------------------------------------ writing

    def _carry_out(self, due: Sequence[Write], there: dict[int, list[Stored]]) -> None:
        inserts: list[dict[str, object]] = []
        for write in due:
            rows = there.get(write.order_id, [])
            row = next(iter(mine(rows)), None)
            gone = [other for other in rows if not other.live]
            cells = row.cells if row is not None else gone[0].cells if len(gone) == 1 else ()
            parameters = self._columns.parameters(write.order_id, write.after, cells, self._now)
            if row is not None:
                self._one_row(self._columns.delete if write.after is None else self._columns.move, parameters)
            elif not (len(gone) == 1 and self._revived(write, parameters)):
                inserts.append(self._columns.insert.only(parameters))
        if inserts:
            self._connection.execute(self._columns.insert.clause, inserts)

    def _one_row(self, statement: Statement, parameters: dict[str, object]) -> None:
        count = self._connection.execute(statement.clause, statement.only(parameters)).rowcount
        if count != 1:
            raise AstrayError("rows", f"the statement met {count} rows instead of one; it was rolled back")

    def _revived(self, write: Write, parameters: dict[str, object]) -> bool:
        """Give the order's softly deleted row back its life, unless that makes none that `where` selects."""
        with savepoint(self._connection) as begun:
            self._one_row(self._columns.revive, parameters)
            if mine(self._stored([write.order_id], {parameters[WAS[0]]}).get(write.order_id, [])):
                return True
            begun.rollback()
        return False

    def _prove(self, due: Sequence[Write], there: dict[int, list[Stored]]) -> None:
        """Read back what was written: triggers, defaults, `where` and other writers may have made something else of it.

        Raises:
            AstrayError: An order does not show the owner that was written.
        """
        cells: set[object] = {row.cells[0] for write in due for row in there.get(write.order_id, [])}
        now_there = self._stored([write.order_id for write in due], cells)
        for write in due:
            rows = now_there.get(write.order_id, [])
            mines = mine(rows)
            if [row.owner for row in mines] == ([] if write.after is None else [write.after]):
                continue
            if write.after is not None and not mines and any(row.live for row in rows):
                raise AstrayError(
                    "where",
                    f"the row would not be selected by {self._key}.where afterwards, so it was not written; "
                    f"give {self._key}.extra the values that `where` asks for",
                )
            shows = "; ".join(sorted(row.says for row in mines)) or "no row"
            raise AstrayError("other", f"the table shows something else than was written ({shows}); it was rolled back")
