"""Applying costs in proportion to the plan, and keeps a window of it in memory: nothing walks the rest of the queue."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Iterator, Sequence
from functools import partialmethod
from typing import Any

import pytest

from syncd.core.model import Action, Change, Facts, Owner, Reason, Side
from syncd.core.pacing import ConcurrencyLimit
from syncd.core.ports import Write, WriteResult
from syncd.core.records import Attempt
from syncd.engine import reconcile as engine
from syncd.engine.link import hold_lease
from syncd.engine.outcomes import UNANSWERED, on_both_sides
from syncd.engine.write_queue import PendingWrite, PlannedWrites, WriteQueue
from syncd.spill import SpillList
from tests.fakes.link import FREE
from tests.simulation.world import World
from tests.unit.engine.given import in_step

pytestmark = pytest.mark.anyio

WINDOW = 50


def pending(many: int, pulled: list[int]) -> Iterator[PendingWrite]:
    for number in range(1, many + 1):
        pulled.append(number)
        owner = Owner(2, number)
        facts = Facts(None, owner, None)
        yield PendingWrite(
            number, Change(number, Side.CRM, Action.ADD, None, owner, Reason.TABLE_CHANGED, facts, owner), 1
        )


def drain(many: int, at_once: int) -> tuple[list[int], list[int]]:
    """Take so many writes out of a queue; return how many were offered for each batch, and were in memory before it."""
    pulled: list[int] = []
    offered: list[int] = []
    in_memory: list[int] = []
    queue = WriteQueue(Action.ADD, pending(many, pulled), WINDOW)
    limit = ConcurrencyLimit(at_once)
    taken = 0

    def size(writes: Sequence[Write]) -> int:
        offered.append(len(writes))
        in_memory.append(len(pulled) - taken)
        return 15

    while queue:
        taken += len(queue.take(size, limit))
    assert taken == many
    return offered, in_memory


def test_given_a_long_queue_then_each_write_is_offered_a_few_times_and_only_a_window_is_in_memory() -> None:
    for at_once in (1, 2):
        offered, in_memory = drain(20_000, at_once)
        assert max(in_memory) <= WINDOW * at_once
        assert sum(offered) <= 20_000 * (WINDOW / 15 + 1)


def test_given_writes_that_come_back_then_refused_ones_are_next_and_lost_ones_last_the_larger_batches_first() -> None:
    queue = WriteQueue(Action.ADD, pending(6, []), 2)
    limit = ConcurrencyLimit(1)
    (first, second), (third,) = queue.take(len, limit), queue.take(lambda _: 1, limit)
    first.max_batch, second.max_batch = 1, 2
    queue.lost([first, second])
    queue.refused([third])
    order = []
    while queue:
        order.append([write.id for write in queue.take(len, limit)])
    assert order == [[3], [4, 5], [6], [2], [1]]


@pytest.mark.parametrize("side", ["table", "crm"])
async def test_given_a_plan_of_many_writes_then_few_of_them_are_in_memory_at_any_time(side: str) -> None:
    world = World()
    for order in range(10, 4010):
        (world.edit_crm if side == "table" else world.edit_table)(order, (2, 500 + order))
    port: Any = world.table if side == "table" else world.portal
    write = port.write
    alive: list[int] = []
    most: list[int] = []

    async def counting(batch: Sequence[Write], *more: Any) -> Any:
        if len(most) % 4 == 0:
            gc.collect(0)
            alive.append(sum(type(one) is PendingWrite for one in gc.get_objects()))
        most.append(len(batch))
        return await write(batch, *more)

    port.write = counting
    assert (await world.reconcile()).exit_code == 0
    assert sum(most) == 4000
    assert max(alive) <= 2 * 500 + 4 * max(most)


class Planned(PlannedWrites):
    """A plan of so many writes of the table, and a few of the portal."""

    def __init__(self, rows: int, *orders: int) -> None:
        super().__init__()
        self.rows = rows
        self.orders = orders
        self.read = 0

    def __len__(self) -> int:
        return self.rows + len(self.orders)

    def of(self, side: Side) -> Iterator[tuple[int, Change]]:
        for order in range(1, self.rows + 1) if side is Side.TABLE else self.orders:
            self.read += side is Side.TABLE
            facts = Facts(None, None, None)
            yield order, Change(order, side, Action.ADD, None, Owner(2, 1), Reason.UNDO, facts, None)


def test_given_a_plan_then_the_orders_it_writes_on_both_sides_are_found_without_reading_all_of_it() -> None:
    planned = Planned(10_000, 3, 70, 20_000)
    assert [*on_both_sides(planned)] == [3, 70]
    planned = Planned(10_000, 3, 70)
    assert [*on_both_sides(planned)] == [3, 70]
    assert planned.read == 70


@pytest.mark.parametrize("act", [engine.reconcile, engine.plan])
async def test_given_a_plan_too_long_for_memory_then_its_temporary_files_are_closed_when_the_run_ends(
    act: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await in_step(60, limits=FREE)
    for order in range(1, 21):
        (world.edit_crm if order % 2 else world.edit_table)(order, (2, 500 + order))
    files: list[Any] = []
    make = tempfile.TemporaryFile

    def opened(**options: Any) -> Any:
        files.append(make(**options))
        return files[-1]

    monkeypatch.setattr("tempfile.TemporaryFile", opened)
    monkeypatch.setattr(SpillList, "__init__", partialmethod(SpillList.__init__, chunk=2))
    report = await act(world.link())

    assert len(report.changes) == 20
    assert files
    assert all(file.closed for file in files)


async def test_given_rows_to_move_and_to_remove_then_one_transaction_does_both() -> None:
    world = await in_step({5: 10, 6: 11})
    world.edit_crm(5, (2, 11))
    world.edit_crm(6, None)  # it frees the owner that order 5 takes
    batches: list[list[int]] = []
    write = world.table.write

    async def note_and_write(batch: Sequence[Write]) -> list[WriteResult]:
        batches.append([one.order_id for one in batch])
        return await write(batch)

    world.table.write = note_and_write  # type: ignore[method-assign]
    assert (await world.reconcile()).exit_code == 0

    assert batches == [[5, 6]]


async def test_given_orders_whose_requests_were_lost_by_an_earlier_run_then_each_of_them_is_sent_alone() -> None:
    world = await in_step(60, limits=FREE)
    async with hold_lease(world.link()) as lease:
        failed = [Attempt(order, 1, 0.0, UNANSWERED) for order in (5, 6)]
        await world.store.record(lease.current, 1, [], now=0.0, attempts=failed)
    for order in range(5, 9):
        world.edit_table(order, (2, 200 + order))

    batches: list[list[int]] = []
    world.portal.before_write = lambda batch: batches.append([one.order_id for one in batch])

    assert (await world.reconcile()).exit_code == 0

    assert batches == [[7, 8], [5], [6]]
