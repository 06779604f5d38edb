"""The two sides as the applier sees them: read by id, write a batch, say how large a batch may be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from syncd.core.model import Action, MaybeOwner, Side
from syncd.core.ports import Portal, Table, Write, WriteAnswer

TABLE_BATCH = 500
"""Rows of the mapping table that are written in one transaction: short enough never to hold locks for long."""


class Unlike:
    """Stands for a value that is no binding (unreadable rows): equal to nothing that is expected or wanted."""


UNLIKE = Unlike()


class SideWriter(Protocol):
    """One side, as the applier uses it."""

    side: Side
    reads_before: bool
    """Whether its writes are unconditional, so that orders must be read right before they are written."""

    async def read(self, order_ids: Sequence[int]) -> dict[int, MaybeOwner | Unlike]:
        """Given order ids, return what stands there now, for each of them."""
        ...

    def batch_size(self, writes: Sequence[Write]) -> int:
        """Given writes, return how many of the first go into one batch."""
        ...

    def wait_for(self, action: Action) -> float:
        """Return the seconds until an action may be sent."""
        ...

    async def write(self, batch: Sequence[Write], then_read: Sequence[int]) -> WriteAnswer:
        """Write a batch."""
        ...


class CrmWriter:
    """The portal. `add` replaces whatever is bound, so its orders are read before."""

    side = Side.CRM
    reads_before = True

    def __init__(self, portal: Portal) -> None:
        self._portal = portal

    async def read(self, order_ids: Sequence[int]) -> dict[int, MaybeOwner | Unlike]:
        """See `SideWriter`."""
        there = await self._portal.read(order_ids)
        return {order: there.get(order) for order in order_ids}

    def batch_size(self, writes: Sequence[Write]) -> int:
        """See `SideWriter`."""
        return self._portal.batch_size(writes)

    def wait_for(self, action: Action) -> float:
        """See `SideWriter`."""
        return self._portal.wait_for(action)

    async def write(self, batch: Sequence[Write], then_read: Sequence[int]) -> WriteAnswer:
        """See `SideWriter`."""
        return await self._portal.write(batch, then_read)


class TableWriter:
    """The mapping table. Every write carries the expected old values, so nothing is read before."""

    side = Side.TABLE
    reads_before = False

    def __init__(self, table: Table) -> None:
        self._table = table

    async def read(self, order_ids: Sequence[int]) -> dict[int, MaybeOwner | Unlike]:
        """See `SideWriter`."""
        there = await self._table.read(order_ids)
        found: dict[int, MaybeOwner | Unlike] = {}
        for order in order_ids:
            value = there.get(order)
            found[order] = None if value is None else UNLIKE if value.unreadable is not None else value.owner
        return found

    def batch_size(self, writes: Sequence[Write]) -> int:
        """See `SideWriter`."""
        return min(len(writes), TABLE_BATCH)

    def wait_for(self, action: Action) -> float:  # noqa: ARG002 - a database has no budget
        """See `SideWriter`."""
        return 0.0

    async def write(self, batch: Sequence[Write], then_read: Sequence[int]) -> WriteAnswer:  # noqa: ARG002
        """See `SideWriter`; reading ahead saves nothing here."""
        return WriteAnswer(await self._table.write(batch), None)
