"""The two sides as the applier sees them, and the writes of a plan on their way to one of them, a window at a time.

A plan of many writes takes minutes. Where the order system puts back meanwhile what it had changed by mistake, the rest
of the plan would carry the mistake over all the same. So the side a write's value comes from is read again right before
the write.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice, takewhile
from typing import Any

from syncd.core.model import Action, Change, Side, Unreadable
from syncd.core.pacing import ConcurrencyLimit
from syncd.core.ports import Portal, Table, TableValue, Write, WriteResult
from syncd.core.silent_writes import NOT_A_BINDING, Reading
from syncd.engine.link import Link
from syncd.spill import SpillList

TABLE_BATCH = 500
"""Rows of the mapping table that are written in one transaction: short enough never to hold locks for long."""

CRM_BATCH = 50
"""Writes of the portal that are offered for one batch: it has 50 commands at most (portal.md 6)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SideWriter:
    """One side, as the applier uses it. What it can do is the port's own method where that has the same form.

    Args:
        side: Which side it is.
        name: What the side is called at the beginning of a sentence.
        transactional: Whether a batch is one transaction: carried out as a whole or not at all, and over once its
            answer is lost. A request to the portal may still be executed after its answer was given up.
        at_once: How many batches may be under way at once.
        window: How many writes `batch_size` is shown at most.
        read: Given order ids, returns what each shows now.
        batch_size: Given writes, returns how many of the first go into one batch.
        wait_for: Returns the seconds until an action may be sent.
        refusals: Returns how often the side has refused a request for a limit so far.
        write: Writes a batch, in its order; returns one result for each write.
    """

    side: Side
    name: str
    transactional: bool
    at_once: int
    window: int
    read: Callable[[Sequence[int]], Coroutine[Any, Any, dict[int, Reading]]]
    batch_size: Callable[[Sequence[Write]], int]
    wait_for: Callable[[Action], float]
    refusals: Callable[[], int]
    write: Callable[[Sequence[Write]], Coroutine[Any, Any, list[WriteResult]]]


def crm_writer(portal: Portal, at_once: int) -> SideWriter:
    """Return the portal as a side to write.

    Args:
        portal: The portal.
        at_once: How many batches may be under way at once.
    """
    return SideWriter(
        side=Side.CRM,
        name="The portal",
        transactional=False,
        at_once=at_once,
        window=CRM_BATCH,
        read=partial(read_crm, portal),
        batch_size=portal.batch_size,
        wait_for=portal.wait_for,
        refusals=lambda: portal.usage().refused,
        write=portal.write,
    )


def table_writer(table: Table) -> SideWriter:
    """Return the mapping table as a side to write. A database has neither a budget nor limits of requests."""
    return SideWriter(
        side=Side.TABLE,
        name="The mapping table",
        transactional=True,
        at_once=1,
        window=TABLE_BATCH,
        read=partial(_read_table, table),
        batch_size=lambda writes: min(len(writes), TABLE_BATCH),
        wait_for=lambda _action: 0.0,
        refusals=lambda: 0,
        write=table.write,
    )


async def read_crm(portal: Portal, order_ids: Sequence[int]) -> dict[int, Reading]:
    """Given order ids, return what the portal shows of each now."""
    there = await portal.read(order_ids)
    found = {order: there.get(order) for order in order_ids}
    return {order: NOT_A_BINDING if isinstance(one, Unreadable) else one for order, one in found.items()}


async def _read_table(table: Table, order_ids: Sequence[int]) -> dict[int, Reading]:
    there = await table.read(order_ids)
    found: dict[int, Reading] = {}
    for order in order_ids:
        value = there.get(order)
        found[order] = None if value is None else NOT_A_BINDING if value.unreadable is not None else value.owner
    return found


FRESH = {Side.TABLE: 1.0, Side.CRM: 5.0}
"""Seconds for which a reading of the source is believed. The table is asked in one statement, and its batches take
seconds of the portal's time; the portal is asked in a request that itself takes seconds, and its rows are soon written.
"""
CRM_ORDERS = 2500
"""Orders of the portal that are read ahead: one request of 50 commands with 50 ids each (portal.md 6)."""
TABLE_ORDERS = 500
"""Rows of the mapping table that are read ahead, in one statement."""


class PlannedWrites:
    """The writes of a stored plan with their numbers in the journal, kept outside memory."""

    def __init__(self) -> None:
        self._sides: dict[Side, SpillList[tuple[int, Change]]] = {side: SpillList() for side in Side}

    def __len__(self) -> int:
        """Return how many there are on both sides."""
        return sum(map(len, self._sides.values()))

    def add(self, writes: Iterable[tuple[int, Change]]) -> None:
        """Take some more, all changes of an order together."""
        writes = list(writes)
        for side, kept in self._sides.items():
            kept.extend(one for one in writes if one[1].side is side)

    def of(self, side: Side) -> Iterator[tuple[int, Change]]:
        """Yield (change id, change) of one side, ascending by order id; may be asked for more than once."""
        return iter(self._sides[side])

    def close(self) -> None:
        """Drop the temporary files."""
        for kept in self._sides.values():
            kept.close()


@dataclass(slots=True)
class PendingWrite:
    """One stored change on its way.

    Args:
        id: The change's number in the journal.
        change: The change.
        run: The run it belongs to.
        sends: How often it was sent, as far as the side may have carried it out.
        refusals: How often the side certainly did not carry it out, for a limit or a lock.
        max_batch: How many writes its next request may hold.
        was_alone: Whether the last request with it that was lost held nothing else.
        earlier: What its order showed when it was read for the first time after it was sent; until then the old owner.
    """

    id: int
    change: Change
    run: int
    sends: int = 0
    refusals: int = 0
    max_batch: int = sys.maxsize
    was_alone: bool = False
    earlier: Reading = field(init=False)

    def __post_init__(self) -> None:
        self.earlier = self.change.before

    @property
    def order_id(self) -> int:
        """The order."""
        return self.change.order_id

    @property
    def write(self) -> Write:
        """The conditional write this change is."""
        return Write(self.change.order_id, self.change.before, self.change.after)


class WriteQueue:
    """The writes of one method on one side: first those of the plan, then those whose requests were lost.

    Only a window of the plan is in memory, and each write of it is taken up once.

    Args:
        action: The method: ADD (which moves as well) or REMOVE.
        planned: The writes, in order of order id.
        window: How many are offered for one batch.
    """

    def __init__(self, action: Action, planned: Iterator[PendingWrite], window: int) -> None:
        self.action = action
        self._planned = planned
        self._window = window
        self._coming: deque[PendingWrite] = deque()
        self._refused: deque[PendingWrite] = deque()
        self._lost: dict[int, deque[PendingWrite]] = {}

    def __bool__(self) -> bool:
        return bool(self._next())

    def take(self, size: Callable[[Sequence[Write]], int], limit: ConcurrencyLimit) -> list[PendingWrite]:
        """Take the writes of the next batch out of the queue, which is not empty.

        Args:
            size: Given writes, says how many of the first go into one batch.
            limit: How many batches may be under way, which share the last writes.
        """
        waiting = self._next()
        most = waiting[0].max_batch
        offered = list(takewhile(lambda one: one.max_batch == most, islice(waiting, self._window)))
        self._fill(self._window * limit.most)
        share = limit.share(len(waiting))
        fitting = max(1, min(most, share, size([one.write for one in offered])))
        return [waiting.popleft() for _ in range(fitting)]

    def upcoming(self, most: int) -> list[PendingWrite]:
        """Return the next writes of the plan, at most so many; they stay in the queue."""
        self._fill(most)
        return list(islice(self._coming, most))

    def refused(self, writes: Sequence[PendingWrite]) -> None:
        """Put writes that the side refused for a limit or a lock in front."""
        self._refused.extend(writes)

    def lost(self, writes: Sequence[PendingWrite]) -> None:
        """Put writes whose requests were lost at the end, larger batches before smaller ones."""
        for one in writes:
            self._lost.setdefault(one.max_batch, deque()).append(one)

    def _next(self) -> deque[PendingWrite]:
        if self._refused:
            return self._refused
        self._fill(self._window)
        if self._coming:
            return self._coming
        self._lost = {most: writes for most, writes in self._lost.items() if writes}
        return self._lost[max(self._lost)] if self._lost else deque()

    def _fill(self, most: int) -> None:
        while len(self._coming) < most and (one := next(self._planned, None)) is not None:
            if one.max_batch < sys.maxsize:
                self.lost([one])  # a request with it was lost by an earlier run
            else:
                self._coming.append(one)


class SourceCheck:
    """Finds the writes of a batch whose source has changed since the plan was made.

    Args:
        link: The link.
        written: The side that is written; the other one is the source.
        both: By order, the changes of orders that the plan writes on both sides.
        observed_at: When the reading began that the plan was made from (monotonic seconds).
    """

    def __init__(self, link: Link, written: Side, both: Mapping[int, Sequence[Change]], observed_at: float) -> None:
        self._link = link
        self._source = written.other
        self._both = both
        self._observed_at = observed_at
        self._shown: dict[int, Reading] = {}
        self._shown_at = observed_at

    async def changed(self, batch: Sequence[PendingWrite], queue: WriteQueue) -> dict[int, Reading]:
        """Given a batch that is about to be sent, return what the source shows of those orders that have changed there.

        Nothing is read for a plan made a moment ago. The next orders of the queue are read in the same request.

        Raises:
            UnavailableError, AuthError: The source cannot be read.
        """
        now, fresh = self._link.clock.monotonic(), FRESH[self._source]
        if now - self._observed_at <= fresh:
            return {}
        orders = [one.order_id for one in batch]
        if now - self._shown_at > fresh or any(order not in self._shown for order in orders):
            ahead = CRM_ORDERS if self._source is Side.CRM else TABLE_ORDERS
            more = [one.order_id for one in queue.upcoming(ahead - len(orders))]
            self._shown = await self._read([*dict.fromkeys(orders + more)])
            self._shown_at = now
        return {
            one.order_id: self._shown[one.order_id]
            for one in batch
            if self._shown[one.order_id] not in self._expected(one.change)
        }

    def _expected(self, change: Change) -> list[Reading]:
        """Given a change, return what its source may show: what it was planned for, or what the plan wrote there."""
        known = change.facts.crm if self._source is Side.CRM else change.facts.table
        written = [one.after for one in self._both.get(change.order_id, ()) if one.side is self._source]
        return [known, *written]

    async def _read(self, orders: Sequence[int]) -> dict[int, Reading]:
        if self._source is Side.CRM:
            return await read_crm(self._link.portal, orders)
        rows = await self._link.table.read(orders)
        return {order: _row(rows.get(order)) for order in orders}


def _row(value: TableValue | None) -> Reading:
    """Given what the table says of an order, return its owner as the snapshot would show it."""
    if value is None or value.deleted:
        return None
    return value.owner if value.unreadable is None and value.selected else NOT_A_BINDING
