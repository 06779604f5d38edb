"""Temporary files of what a pass reads and plans, so that memory does not grow with the number of bindings.

No file has a name: the system deletes it when the process ends in any way.
"""

from __future__ import annotations

import os
import pickle
import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import repeat
from typing import IO, Final, Generic, TypeVar

from syncd.core.model import Row
from syncd.errors import UnavailableError

T = TypeVar("T")

WIDTH: Final = 3
"""Numbers of a row: order id, owner type id, owner id."""

_ROW_BYTES: Final = 8 * WIDTH
_new: Final[Callable[[type[Row], tuple[int, int, int]], Row]] = tuple.__new__


class SpillFile:
    """Bytes that are added at the end, and read back from any place. The file is made with the first of them."""

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self._end = 0

    def append(self, data: bytes | memoryview) -> int:
        """Add bytes, and return the place where they begin.

        Raises:
            UnavailableError: The folder for temporary files is full or cannot be written.
        """
        begin, place, left = self._end, self._end, memoryview(data)
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="syncd-", buffering=0)  # noqa: SIM115 - `close` ends it
            while left:
                written = os.pwrite(self._file.fileno(), left, place)
                place, left = place + written, left[written:]
        except OSError as error:
            raise UnavailableError(
                f"What syncd reads and plans cannot be kept in a temporary file: {error.strerror}. "
                "Nothing more was written.",
                hint="Free some space in the folder for temporary files, or set $TMPDIR to another folder.",
            ) from None
        self._end = place
        return begin

    def read(self, place: int, size: int) -> bytes:
        """Return so many bytes from a place on.

        Raises:
            UnavailableError: The file does not give them back. Rows that it lost would look like orders that are gone.
        """
        try:
            found = b"" if self._file is None else os.pread(self._file.fileno(), size, place)
        except OSError as error:
            raise _unreadable(error.strerror) from None
        if len(found) < size:
            raise _unreadable("it is too short")
        return found

    def close(self) -> None:
        """Forget everything, and free the disk space."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._end = 0


def _unreadable(why: str | None) -> UnavailableError:
    return UnavailableError(
        f"What syncd reads and plans cannot be read back from a temporary file: {why}. Nothing more was written.",
        hint="Check the disk of the folder for temporary files, or set $TMPDIR to another folder.",
    )


class RowFile:
    """Rows of bindings, packed into 24 bytes each."""

    def __init__(self) -> None:
        self._file = SpillFile()

    def append(self, numbers: array[int]) -> int:
        """Add rows, given end to end (order id, owner type id, owner id, and again); return the number of the first.

        Raises:
            UnavailableError: The folder for temporary files is full or cannot be written.
        """
        return self._file.append(memoryview(numbers).cast("B")) // _ROW_BYTES

    def rows(self, first: int, count: int) -> list[Row]:
        """Return so many rows from the one with this number on."""
        return rows_of(array("q", self._file.read(first * _ROW_BYTES, count * _ROW_BYTES)))

    def close(self) -> None:
        """Forget all rows, and free the disk space."""
        self._file.close()


def rows_of(numbers: Sequence[int]) -> list[Row]:
    """Given the numbers of rows end to end, return the rows."""
    one: Iterator[int] = iter(numbers)
    return list(map(_new, repeat(Row), zip(one, one, one, strict=True)))


class SpillList(Generic[T]):
    """An append-only sequence, kept in chunks of about `chunk` items of which at most one is in memory.

    It may be read as often as one likes, also by several readers at a time.
    """

    def __init__(self, items: Iterable[T] = (), *, chunk: int = 5000) -> None:
        self._chunk = chunk
        self._tail: list[T] = []
        self._file = SpillFile()
        self._places: list[tuple[int, int]] = []
        self._stored = 0
        self.extend(items)

    def __len__(self) -> int:
        return self._stored + len(self._tail)

    def __iter__(self) -> Iterator[T]:
        for chunk in self.chunks():
            yield from chunk

    def extend(self, items: Iterable[T]) -> None:
        """Append items; those of one call are never torn apart by `chunks`.

        Raises:
            UnavailableError: The folder for temporary files is full or cannot be written.
        """
        self._tail.extend(items)
        if len(self._tail) >= self._chunk:
            packed = pickle.dumps(self._tail, pickle.HIGHEST_PROTOCOL)
            self._places.append((self._file.append(packed), len(packed)))
            self._stored += len(self._tail)
            self._tail = []

    def append(self, item: T) -> None:
        """Append one item."""
        self.extend((item,))

    def chunks(self) -> Iterator[list[T]]:
        """Yield all items, a chunk at a time, in the order they came."""
        for place, size in tuple(self._places):
            yield pickle.loads(self._file.read(place, size))  # noqa: S301 - our own unnamed file
        if self._tail:
            yield list(self._tail)

    def close(self) -> None:
        """Forget everything, and free the disk space."""
        self._file.close()
        self._places = []
        self._stored = 0
        self._tail = []
