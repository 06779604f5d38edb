"""What ordinary life does to the world of the rule machine, and no single edit is (sync-rules.md, "Ordinary life").

The state database is restored from a backup or lost, odd rows stand in the portal, new orders are bound all through a
listing, another link lives in the same state database.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from syncd.core.model import Direction, OnConflict, Owner, Policy, Scope
from syncd.engine import reconcile as engine
from syncd.engine.link import Link
from syncd.sandbox import SandboxPortal
from tests.fakes.clock import FakeClock
from tests.fakes.high_water import MemoryMark
from tests.fakes.portal import FakePortal
from tests.fakes.table import FakeTable
from tests.simulation.world import FREE

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


class SecondLink:
    """Another link, between sides in memory, whose state is in the same database."""

    def __init__(self, clock: FakeClock) -> None:
        self.crm, self.table = FakePortal(), FakeTable()
        self._clock = clock
        self._owners = count(1)

    async def live(self, order: int, store: Any) -> str:
        """Somebody binds an order of it, and it has a pass; return what is wrong with it then, if anything."""
        self.crm.bind(order, Owner(2, next(self._owners)))
        link = Link(
            name="mart",
            fingerprint="mart",
            policy=Policy(Direction.TWO_WAY, OnConflict.HOLD, Scope(frozenset({2}))),
            limits=FREE,
            clock=self._clock,
            holder="mart:1",
            ask_first_sync=False,
            portal=self.crm,
            table=self.table,
            store=store,
        )
        report = await engine.reconcile(link)
        held = {hold.order_id for hold in report.holds}  # in conflict where the state was lost
        apart = {order for order, _ in self.crm.bindings.items() ^ self.table.bindings.items()}
        if report.row.state == "applied" and apart - held:
            return f"the other link rests at crm {self.crm.bindings}, table {self.table.bindings}"
        return ""
