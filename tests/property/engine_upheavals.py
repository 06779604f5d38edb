"""What ordinary life does to the world of the rule machine, and no single edit is (sync-rules.md, "Ordinary life").

The state database is restored from a backup or lost, odd rows stand in the portal, new orders are bound all through a
listing, another link lives in the same state database.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path

from syncd.sandbox import SandboxPortal
from tests.fakes.high_water import MemoryMark

LIST = "crm.orderentity.list"
NEW = range(101, 161)
"""Orders that are bound during listings."""
ODD = (2, 0)
"""An owner that nobody can read: the portal shows it as null."""


class StateFiles:
    """The state database of a world as a file, with its backups, and what is noted beside it.

    Args:
        path: The database.
        empty: It as the migrations make it.
    """

    def __init__(self, path: Path, empty: bytes) -> None:
        self.mark = MemoryMark()
        self.copies: list[tuple[bytes, int]] = []
        self._path = path
        self._empty = empty
        path.write_bytes(empty)

    def back_up(self, written: int) -> None:
        """Copy the database, whose connections are closed, when so much had been written on both sides."""
        self.copies.append((self._path.read_bytes(), written))

    def restore(self) -> int:
        """Put the latest copy back; return how much had been written by then."""
        content, written = self.copies[-1]
        self._put(content)
        return written

    def lose(self) -> None:
        """Begin with a new one, and with nothing noted beside it."""
        self._put(self._empty)
        self.mark = MemoryMark()

    def _put(self, content: bytes) -> None:
        for suffix in ("-wal", "-shm"):
            Path(f"{self._path}{suffix}").unlink(missing_ok=True)
        self._path.write_bytes(content)


def restore_bindings(crm: SandboxPortal, copy: dict[int, tuple[int, int]]) -> None:
    """Put the portal's bindings back as a backup has them; orders that were deleted since then are there again."""
    for order in crm.bindings.keys() - copy.keys():
        crm.unbind(order)
    for order, owner in copy.items():
        if crm.bindings.get(order) != owner:
            crm.bind(order, *owner)


def bind_during_a_listing(crm: SandboxPortal, orders: count[int], times: int, look: Callable[[], None]) -> None:
    """Let somebody bind a new order before each of the next calls of a listing, so many times."""
    left = iter(range(times))

    def bind(method: str, _params: object, _request: int) -> None:
        if method == LIST and next(left, None) is not None:
            look()
            order = next(orders)
            if order in NEW:
                crm.bind(order, 2, 10**6 + order)
            look()

    crm.before_call(bind)
