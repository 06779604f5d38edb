"""A list that moves to a temporary file when it grows: what a pass collects must not grow memory with its changes."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterable, Iterator
from typing import IO, Generic, TypeVar

from syncd.errors import UnavailableError

T = TypeVar("T")


class SpillList(Generic[T]):
    """An append-only sequence, kept in chunks of about `chunk` items of which at most one is in memory.

    It may be read as often as one likes, also by several readers at a time.
    """

    def __init__(self, items: Iterable[T] = (), *, chunk: int = 5000) -> None:
        self._chunk = chunk
        self._tail: list[T] = []
        self._file: IO[bytes] | None = None
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
            UnavailableError: The temporary directory is full or cannot be written.
        """
        self._tail.extend(items)
        if len(self._tail) >= self._chunk:
            try:
                self._spill()
            except OSError as error:
                raise UnavailableError(
                    f"What a pass collects cannot be kept in the temporary directory: {error.strerror}.",
                    hint="Free some space in the folder for temporary files, or set $TMPDIR to another folder.",
                ) from None

    def _spill(self) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="syncd-")  # noqa: SIM115 - lives as long as the list
        self._file.seek(0, 2)
        pickle.dump(self._tail, self._file, protocol=pickle.HIGHEST_PROTOCOL)
        self._file.flush()
        self._stored += len(self._tail)
        self._tail = []

    def append(self, item: T) -> None:
        """Append one item."""
        self.extend((item,))

    def chunks(self) -> Iterator[list[T]]:
        """Yield all items, a chunk at a time, in the order they came."""
        place, left = 0, self._stored
        while left and self._file is not None:
            self._file.seek(place)
            items: list[T] = pickle.load(self._file)  # noqa: S301 - our own unnamed file
            place = self._file.tell()
            left -= len(items)
            yield items
        if self._tail:
            yield list(self._tail)

    def close(self) -> None:
        """Forget everything."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._stored = 0
        self._tail = []
