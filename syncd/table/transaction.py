"""One batch of conditional writes: one transaction, and what its end means for every order.

The orders of a chunk are read, written and read back under a savepoint. A chunk with an unexpected effect is rolled
back and halved until the order that causes it is alone: that costs the others a few statements, never their write.
Before the commit the whole batch is proved once more, since a later chunk may have undone what an earlier one did.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import sqlalchemy as sa
from sqlalchemy import exc

from syncd.core.model import Owner
from syncd.core.ports import Effect, Write, WriteResult
from syncd.db.backend import Backend
from syncd.db.registry import code_and_words
from syncd.table.columns import Columns
from syncd.table.database import HURRIED, TableDatabase, TableFault, fault_of, translate
from syncd.table.row_writer import (
    ENDS_BATCH,
    RowWriter,
    TransactionEnded,
    UnexpectedEffect,
    Unit,
    in_sequence,
    savepoint,
)
from syncd.table.rows import TableRow, value

CHUNK = 500
"""How many orders are written under one savepoint."""

MAX_LOCKED = 3
"""After this many locked orders in a batch, the rest is not tried: each costs the whole time limit of a lock."""

_NOT_DONE = frozenset({TableFault.AGAIN, TableFault.LOCKED})


def write_batch(
    batch: Sequence[Write], home: TableDatabase, columns: Columns, *, database: str, key: str, padded: bool = False
) -> list[WriteResult]:
    """Carry out writes in one transaction; return their results in the same sequence.

    Args:
        batch: Each order once.
        home: The database the table is in.
        columns: The table.
        database: The database, free of secrets.
        key: The configuration key of the table's settings, such as `links.shop.table`.
        padded: Whether the table's order ids are padded with zeros and the configuration gives no width.

    Raises:
        UnavailableError, AuthError: The database cannot be reached or used; nothing was written.
        ConfigError: The table or a column is gone; nothing was written.
    """
    results: list[WriteResult] = []
    connected = False
    ended = False
    refusal: exc.DBAPIError | None = None
    try:
        with home.writing() as connection:
            connected = True
            results = TransactionWriter(connection, home.backend, columns, key=key, padded=padded).write(batch)
            refusal = _commit(connection)
    except TransactionEnded as error:
        ended, refusal = True, error.error
    except exc.DBAPIError as error:
        # The commit was not sent yet, so a lost connection ends the transaction with it.
        if fault_of(error) in _NOT_DONE or (connected and fault_of(error) is TableFault.GONE):
            return _all(batch, Effect.NOT_SENT, error)
        raise translate(error, database, key) from None
    if refusal is None:
        return results
    if fault_of(refusal) in _NOT_DONE:
        return _all(batch, Effect.NOT_SENT, refusal)
    if fault_of(refusal) is not TableFault.ROW and not ended:
        return _all(batch, Effect.UNKNOWN, refusal)
    # A trigger ended the transaction, or a constraint is only checked at the commit: smaller transactions show which
    # order is the cause.
    units = in_sequence(batch)
    if len(units) == 1:
        return _all(batch, Effect.REFUSED, refusal)
    half = len(units) // 2
    by_order = {
        result.order_id: result
        for some in (units[:half], units[half:])
        for result in write_batch(
            [write for unit in some for write in unit], home, columns, database=database, key=key, padded=padded
        )
    }
    return [by_order[write.order_id] for write in batch]


def _commit(connection: sa.Connection) -> exc.DBAPIError | None:
    try:
        connection.commit()
    except exc.DBAPIError as error:
        return error
    return None


def _all(batch: Sequence[Write], effect: Effect, error: exc.DBAPIError) -> list[WriteResult]:
    code, text = code_and_words(error)
    return [WriteResult(write.order_id, effect, code=code, text=text) for write in batch]


class TransactionWriter:
    """The writes of one transaction; see `write_batch` for the arguments."""

    def __init__(
        self, connection: sa.Connection, backend: Backend, columns: Columns, *, key: str, padded: bool = False
    ) -> None:
        self._connection = connection
        self._backend = backend
        self._columns = columns
        self._key = key
        self._padded = padded
        self._rows = RowWriter(connection, backend, columns, key)
        self._locked = 0
        self._inserts_wait = ""
        self._careful = False
        self._parts = 0
        self._results: dict[int, WriteResult] = {}
        self._done: list[Write] = []
        self._before: dict[int, list[TableRow]] = {}

    def write(self, batch: Sequence[Write]) -> list[WriteResult]:
        """Carry out writes; return their results in the same sequence.

        Raises:
            DBAPIError: The transaction cannot go on, a right is missing, or the table cannot be read.
        """
        units = in_sequence(batch)
        if any(write.before is None for write in batch) and not self._columns.order_is_unique:
            self._keep_inserts_out()
        try:
            with savepoint(self._connection):
                self._write_all(units)
                self._prove_batch()
        except UnexpectedEffect:
            # A later write undid an earlier one. Now each part proves all before it, which finds the cause.
            self._careful = True
            self._results, self._done, self._before = {}, [], {}
            self._write_all(units)
        return [self._results[write.order_id] for write in batch]

    def _prove_batch(self) -> None:
        """Read back all that was written: each part has proved its own writes, not that it left the others alone."""
        if self._parts > 1:
            self._rows.prove(self._done, self._before)

    def _keep_inserts_out(self) -> None:
        """Wait for uncommitted inserts of other sessions: no unique index keeps an order from getting two rows."""
        try:
            with savepoint(self._connection):
                self._backend.serialise_inserts(self._connection, self._columns.table)
        except exc.DBAPIError as error:
            if fault_of(error) in ENDS_BATCH - {TableFault.DENIED}:
                raise
            if fault_of(error) is TableFault.LOCKED:
                self._inserts_wait = (
                    "another program is writing to the table, which has no unique index on the order id"
                )

    def _write_all(self, units: Sequence[Unit]) -> None:
        self._backend.defer_constraints(self._connection)
        part: list[Unit] = []
        size = 0
        for unit in units:
            if part and size + len(unit) > CHUNK:
                self._write(part)
                part, size = [], 0
            part.append(unit)
            size += len(unit)
        if part:
            self._write(part)

    def _write(self, units: Sequence[Unit]) -> None:
        writes = [write for unit in units for write in unit]
        if self._locked >= MAX_LOCKED:
            text = "not tried: several orders of this batch are locked by another program"
            self._note(WriteResult(write.order_id, Effect.NOT_SENT, text=text) for write in writes)
            return
        try:
            with savepoint(self._connection):
                results, done, there = self._attempt(units, writes)
        except exc.DBAPIError as error:
            if fault_of(error) in ENDS_BATCH:
                raise
            if fault_of(error) is TableFault.LOCKED:
                self._backend.limit_time(self._connection, HURRIED)
            trouble: Exception = error
        except UnexpectedEffect as error:
            trouble = error
        else:
            self._note(results)
            self._done += done
            self._before |= there
            self._parts += 1
            return
        if len(units) == 1:
            self._note(self._blamed(write, trouble) for write in writes)
            return
        half = len(units) // 2
        self._write(units[:half])
        self._write(units[half:])

    def _note(self, results: Iterable[WriteResult]) -> None:
        self._results |= {result.order_id: result for result in results}

    def _blamed(self, write: Write, trouble: Exception) -> WriteResult:
        """Return the result of a write that failed alone: its order may have moved meanwhile, or be refused."""
        rows = self._rows.fetch([write]).get(write.order_id, [])
        answer = self._answer(write, rows)
        if answer is not None:
            return answer
        if isinstance(trouble, UnexpectedEffect):
            return WriteResult(write.order_id, Effect.REFUSED, text=trouble.text)
        code, text = code_and_words(trouble)
        if fault_of(trouble) is TableFault.LOCKED:
            self._locked += 1
            return WriteResult(write.order_id, Effect.NOT_SENT, code=code, text=text)
        return WriteResult(write.order_id, Effect.REFUSED, code=code, text=text)

    def _attempt(
        self, units: Sequence[Unit], writes: Sequence[Write]
    ) -> tuple[list[WriteResult], list[Write], dict[int, list[TableRow]]]:
        there = self._rows.fetch(writes)
        results: list[WriteResult] = []
        due: set[int] = set()
        for write in writes:
            answer = self._answer(write, there.get(write.order_id, []))
            if answer is None:
                due.add(write.order_id)
                answer = WriteResult(write.order_id, Effect.DONE, write.before, found_known=True)
            results.append(answer)
        done = [write for write in writes if write.order_id in due]
        if done:
            wanted = (tuple(write for write in unit if write.order_id in due) for unit in units)
            self._rows.carry_out([unit for unit in wanted if unit], there)
            self._rows.prove([*self._done, *done] if self._careful else done, {**self._before, **there})
        return results, done, there

    def _answer(self, write: Write, rows: Sequence[TableRow]) -> WriteResult | None:
        """Given an order's rows, return the result if nothing is to be written; None if the write is due."""
        there = value(self._columns, rows)
        if there is not None and (there.unreadable is not None or not there.selected):
            text = there.unreadable.detail if there.unreadable else f"no longer selected by {self._key}.where"
            return WriteResult(write.order_id, Effect.MOVED, text=text)
        found = there.owner if there is not None else None
        if found == write.after:
            return WriteResult(write.order_id, Effect.ALREADY, found, found_known=True)
        if found != write.before:
            return WriteResult(write.order_id, Effect.MOVED, found, found_known=True)
        return None if write.after is None else self._unfit(write, write.after)

    def _unfit(self, write: Write, after: Owner) -> WriteResult | None:
        """Given a write whose order is as expected, return the refusal if the table cannot take it; None if it can."""
        found = write.before
        if text := self._columns.order_id.unfit(write.order_id):
            return WriteResult(write.order_id, Effect.REFUSED, found, found_known=True, text=text)
        constant = self._columns.owner_type
        if isinstance(constant, int) and after.owner_type_id != constant:
            text = f"the table holds owners of type {constant} only ({self._key}.columns.owner_type_id)"
            return WriteResult(write.order_id, Effect.REFUSED, found, found_known=True, text=text)
        if write.before is None and self._padded:
            text = f"the table's order ids are padded with zeros; give {self._key}.columns.order_id its width"
            return WriteResult(write.order_id, Effect.REFUSED, found, found_known=True, text=text)
        if write.before is None and self._inserts_wait:
            return WriteResult(write.order_id, Effect.NOT_SENT, text=self._inserts_wait)
        return None
