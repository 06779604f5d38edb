"""Where a listing's rows wait until the whole of it is proved: packed, in a file once there are many.

Rows already handed out cannot be taken back, and a page found short can only be read again, or the run given up, if its
rows were not handed out yet. So nothing is yielded before the proof; what waits is in a file, 24 bytes a row, and only
one small tuple for each page read is in memory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import Final, NamedTuple

from syncd.core.model import Row
from syncd.errors import UnavailableError
from syncd.portal.pages import ROW_BYTES, Page, pack, unpack

IN_MEMORY: Final = 256 * 1024
"""Bytes of rows that need no file: some ten thousand."""

CHUNK: Final = 1000
"""Rows that are yielded at a time, at least."""


class Stretch(NamedTuple):
    """A range of order ids (after, upto] that was read, with its number of rows and where they are."""

    after: int
    upto: int
    rows: int
    offset: int


class Shelf:
    """The rows of one listing, by the ranges they were read in."""

    def __init__(self) -> None:
        self.rows = 0
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY, prefix="syncd-")  # noqa: SIM115 - `close` closes it
        self._end = 0
        self._stretches: list[Stretch] = []

    def put(self, after: int, upto: int, page: Page) -> None:
        """Keep the rows of the range (after, upto].

        Raises:
            UnusablePage: An id is beyond 63 bits.
            UnavailableError: The temporary directory is full or cannot be written.
        """
        packed = pack(page)
        try:
            self._file.seek(self._end)
            self._file.write(packed)
        except OSError as error:
            raise UnavailableError(
                f"The listing cannot be kept in the temporary directory: {error.strerror}.",
                hint="It needs 24 bytes a binding; TMPDIR names another directory.",
            ) from None
        self._stretches.append(Stretch(after, upto, len(page), self._end))
        self._end += len(packed)
        self.rows += len(page)

    def drop(self, after: int, upto: int) -> None:
        """Forget the rows of the stretches inside (after, upto]: they are being read again."""
        inside = [one for one in self._stretches if after <= one.after and one.upto <= upto]
        self.rows -= sum(one.rows for one in inside)
        gone = set(inside)
        self._stretches = [one for one in self._stretches if one not in gone]

    def stretches(self) -> list[Stretch]:
        """Return what was read, in order of order id."""
        self._stretches.sort()
        return self._stretches

    def gap(self, after: int, upto: int) -> int | None:
        """Return where (after, upto] is not covered by stretches that meet exactly; None when it is."""
        for one in self.stretches():
            if one.after != after:
                return after
            after = one.upto
        return None if after == upto else after

    def chunks(self) -> Iterator[list[Row]]:
        """Yield all rows in order of order id."""
        rows: list[Row] = []
        for one in self.stretches():
            if one.rows:
                self._file.seek(one.offset)
                rows += unpack(self._file.read(one.rows * ROW_BYTES))
                if len(rows) >= CHUNK:
                    yield rows
                    rows = []
        if rows:
            yield rows

    def close(self) -> None:
        """Forget everything."""
        self._file.close()
        self._stretches = []
