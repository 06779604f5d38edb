"""One batch of conditional writes: one transaction, and what its end says about every order."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy import exc

from syncd.core.ports import Effect, Write, WriteResult
from syncd.table.chunks import Chunks
from syncd.table.columns import Columns
from syncd.table.dialect import Dialect
from syncd.table.faults import Fault, diagnose, told, words
from syncd.table.rows import CHUNK, parts

_NOT_DONE = frozenset({Fault.AGAIN, Fault.LOCKED})


class Writer:
    """Writes batches into one mapping table.

    Args:
        dialect: How to speak to this database.
        columns: The table.
        database: The database, free of secrets.
        key: The configuration key of the table's settings, such as `links.shop.table`.
    """

    def __init__(self, dialect: Dialect, columns: Columns, *, database: str, key: str) -> None:
        self._dialect = dialect
        self._columns = columns
        self._database = database
        self._key = key

    def write(self, batch: Sequence[Write], now: float) -> list[WriteResult]:
        """Carry out writes in one transaction; return one result for each, in order.

        Args:
            batch: Each order once.
            now: Seconds since the epoch, for `touched` and `deleted`.

        Raises:
            UnavailableError, AuthError: The database cannot be reached or used; nothing was written.
            ConfigError: The table or a column is gone; nothing was written.
        """
        connected = False
        refused: exc.DBAPIError | None = None
        try:
            with self._dialect.writing() as connection:
                connected = True
                chunks = Chunks(connection, self._dialect, self._columns, now=now, key=self._key)
                results = [result for some in parts(batch, CHUNK) for result in chunks.write(some)]
                refused = _commit(connection)
        except exc.DBAPIError as error:
            # Before the commit was asked for, whatever ends the connection ends the transaction with it.
            if diagnose(error) in _NOT_DONE or (connected and diagnose(error) is Fault.GONE):
                return _all(batch, Effect.NOT_SENT, error)
            raise told(error, self._database) from None
        if refused is None:
            return results
        if diagnose(refused) in _NOT_DONE:
            return _all(batch, Effect.NOT_SENT, refused)
        if diagnose(refused) is not Fault.ROW:
            return _all(batch, Effect.UNKNOWN, refused)
        # A constraint that is only checked at the commit: each order alone shows which one it is about.
        if len(batch) == 1:
            return _all(batch, Effect.REFUSED, refused)
        return [result for write in batch for result in self.write([write], now)]


def _commit(connection: sa.Connection) -> exc.DBAPIError | None:
    try:
        connection.commit()
    except exc.DBAPIError as error:
        return error
    return None


def _all(batch: Sequence[Write], effect: Effect, error: exc.DBAPIError) -> list[WriteResult]:
    code, text = words(error)
    return [WriteResult(write.order_id, effect, code=code, text=text) for write in batch]
