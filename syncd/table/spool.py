"""Rows on disk instead of in memory: 24 bytes each, in runs that ascend by order id and are merged at the end.

The spool lets the database transaction end before the first network call, and keeps memory flat for a million rows.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from typing import NamedTuple

from syncd.core.model import Row, Unreadable
from syncd.core.order_keys import UnknownKey
from syncd.spill import WIDTH, RowFile

BLOCK = 4096
"""How many rows are read back at once."""

MERGED = 16 * BLOCK
"""How many rows of all runs together are in memory while they are merged."""
_FEWEST = 64


class SortedRun(NamedTuple):
    """A part of the spool whose order ids ascend strictly: its first row, and its number of rows."""

    start: int
    rows: int


class Spool:
    """A temporary file of rows, in one run or several."""

    def __init__(self) -> None:
        self._file = RowFile()
        self.runs = [SortedRun(0, 0)]
        self._rows = 0

    def append(self, orders: Sequence[int], types: Sequence[int] | int, owners: Sequence[int]) -> None:
        """Add rows at the end of the last run.

        Args:
            orders: Order ids, ascending strictly, beyond those of the run so far.
            types: The owner types, or the one that all have.
            owners: The owner ids.

        Raises:
            UnavailableError: The folder for temporary files is full or cannot be written.
        """
        count = len(orders)
        block = array("q", [0]) * (count * WIDTH)
        block[0::WIDTH] = array("q", orders)
        block[1::WIDTH] = array("q", [types]) * count if isinstance(types, int) else array("q", types)
        block[2::WIDTH] = array("q", owners)
        self._file.append(block)
        last = self.runs[-1]
        self.runs[-1] = last._replace(rows=last.rows + count)
        self._rows += count

    def new_run(self) -> None:
        """Begin a run."""
        self.runs.append(SortedRun(self._rows, 0))

    def blocks(self, run: SortedRun, size: int | None = None) -> Iterator[list[Row]]:
        """Yield a run's rows, `size` at a time; by default `BLOCK`."""
        size = size or BLOCK
        for start in range(0, run.rows, size):
            yield self._file.rows(run.start + start, min(size, run.rows - start))

    def merged(self) -> Iterator[list[Row]]:
        """Yield the rows of all runs in order of order id, in pieces; all rows of one order are in one piece.

        Each piece is what the runs hold up to the smallest of their last rows in memory, sorted as a whole: that is
        done at C speed, and memory does not grow with the number of runs.
        """
        size = max(_FEWEST, MERGED // len(self.runs))
        readers = [self.blocks(run, size) for run in self.runs if run.rows]
        heads = [(next(reader), 0, reader) for reader in readers]
        while heads:
            upto = min(block[-1][0] for block, _, _ in heads)
            piece: list[Row] = []
            left = []
            for block, start, reader in heads:
                end = bisect_right(block, upto, lo=start, key=itemgetter(0))
                piece += block[start:end]
                if end < len(block):
                    left.append((block, end, reader))
                elif (following := next(reader, None)) is not None:
                    left.append((following, 0, reader))
            heads = left
            piece.sort()
            yield piece

    def close(self) -> None:
        """Free the disk space."""
        self._file.close()


class SpooledSnapshot:
    """A reading of the mapping table, `syncd.core.ports.Snapshot`.

    Args:
        spool: Holds one run.
        unreadable: Orders whose rows cannot be read as one binding.
        orderless: Descriptions of the rows whose order id cannot be read.
        unknown: Rows with a key that no order of the portal has, by the number of the key.
        odd: Whether the table holds order ids as texts that are not in the form that syncd writes.
    """

    def __init__(
        self,
        spool: Spool,
        unreadable: Mapping[int, Unreadable],
        orderless: Sequence[str],
        unknown: Mapping[int, UnknownKey],
        *,
        odd: bool = False,
    ) -> None:
        self.odd = odd
        self._spool = spool
        (run,) = spool.runs
        self.rows = run.rows
        self.unreadable = unreadable
        self.orderless = orderless
        self.unknown = unknown
        self._blocks = spool.blocks(run)
        self._block: list[Row] = []
        self._at = 0

    def take(self, upto: int | None, limit: int | None = None) -> list[Row]:
        """Return the readable rows not yet taken with an order id at most `upto` (None: all that are left).

        Of more than `limit` such rows, only so many are taken.
        """
        taken: list[Row] = []
        while (limit is None or len(taken) < limit) and (self._at < len(self._block) or self._refill()):
            end = len(self._block) if limit is None else min(len(self._block), self._at + limit - len(taken))
            if upto is not None and self._block[end - 1][0] > upto:
                end = bisect_right(self._block, upto, lo=self._at, hi=end, key=itemgetter(0))
                taken += self._block[self._at : end]
                self._at = end
                break
            taken += self._block[self._at : end]
            self._at = end
        return taken

    def _refill(self) -> bool:
        self._block = next(self._blocks, [])
        self._at = 0
        return bool(self._block)

    def close(self) -> None:
        """Free the disk space."""
        self._spool.close()
