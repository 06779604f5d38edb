"""A list that moves to a temporary file when it grows: what a pass collects must not grow memory with the bindings."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterable, Iterator
from typing import IO, Generic, TypeVar

T = TypeVar("T")


class Spool(Generic[T]):
    """An append-only sequence, kept in chunks of `chunk` items of which at most one is in memory."""

    def __init__(self, chunk: int = 5000) -> None:
        self._chunk = chunk
        self._tail: list[T] = []
        self._file: IO[bytes] | None = None
        self._stored = 0

    def __len__(self) -> int:
        return self._stored + len(self._tail)

    def extend(self, items: Iterable[T]) -> None:
        """Append items."""
        self._tail.extend(items)
        if len(self._tail) >= self._chunk:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="syncd-")  # noqa: SIM115 - lives as long as the spool
            pickle.dump(self._tail, self._file, protocol=pickle.HIGHEST_PROTOCOL)
            self._stored += len(self._tail)
            self._tail = []

    def chunks(self) -> Iterator[list[T]]:
        """Yield all items, a chunk at a time, in the order they came."""
        if self._file is not None:
            self._file.seek(0)
            left = self._stored
            while left:
                items: list[T] = pickle.load(self._file)  # noqa: S301 - our own unnamed file
                left -= len(items)
                yield items
        if self._tail:
            yield self._tail

    def close(self) -> None:
        """Forget everything."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._stored = 0
        self._tail = []
