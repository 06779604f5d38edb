"""The two sides as the applier sees them: read by id, write a batch, say how large a batch may be."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from syncd.core.model import Action, Side, Unreadable
from syncd.core.ports import Portal, Table, Write, WriteResult
from syncd.core.silent_writes import NOT_A_BINDING, Reading

TABLE_BATCH = 500
"""Rows of the mapping table that are written in one transaction: short enough never to hold locks for long."""

CRM_BATCH = 50
"""Writes of the portal that are offered for one batch: it has 50 commands at most (portal.md 6)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SideWriter:
    """One side, as the applier uses it. What it can do is the port's own method where that has the same form.

    Args:
        side: Which side it is.
        name: What the side is called in a sentence.
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


def crm_writer(portal: Portal, at_once: int = 1) -> SideWriter:
    """Return the portal as a side to write.

    Args:
        portal: The portal.
        at_once: How many batches may be under way at once.
    """
    return SideWriter(
        side=Side.CRM,
        name="the portal",
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
        name="the mapping table",
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
