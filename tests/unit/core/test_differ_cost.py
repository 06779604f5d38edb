"""What a pass over orders in step costs: nothing for each order, and memory for one segment only."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator

import pytest

from syncd.core.diff import Differ, Segment
from syncd.core.model import Counts, Facts, MaybeOwner, Row
from syncd.core.records import BindingRow
from tests.unit.core.builders import policy

SEGMENT = 5_000


class Watcher(Differ):
    """A differ that keeps the ids of the orders it looked at one by one."""

    def __init__(self) -> None:
        super().__init__(policy(), {})
        self.seen: list[int] = []

    def _one(self, segment: Segment, order_id: int, facts: Facts, listed: MaybeOwner) -> None:
        self.seen.append(order_id)
        super()._one(segment, order_id, facts, listed)


def segments(number: int) -> Iterator[tuple[list[Row], list[Row], list[BindingRow], int]]:
    """Yield segments of orders in step, each made only when it is asked for."""
    for start in range(0, number * SEGMENT, SEGMENT):
        orders = range(start + 1, start + SEGMENT + 1)
        yield (
            [Row(order, 2, order + 7) for order in orders],
            [Row(order, 2, order + 7) for order in orders],
            [BindingRow(order, 2, order + 7, 2, order + 7) for order in orders],
            orders[-1],
        )


def test_given_fifty_thousand_orders_in_step_then_none_is_looked_at() -> None:
    differ = Watcher()

    for crm, table, local, upto in segments(10):
        assert differ.feed(crm, table, local, {}, upto) == Segment()

    assert differ.seen == []
    assert differ.counts == Counts(
        in_step=50_000, agreed=50_000, crm_rows=50_000, table_rows=50_000, crm_in_scope=50_000, table_in_scope=50_000
    )


@pytest.mark.parametrize("source", ["crm", "table", "local"])
def test_given_one_order_that_differs_among_five_thousand_then_it_alone_is_looked_at(source: str) -> None:
    differ = Watcher()
    [(crm, table, local, upto)] = segments(1)
    odd = 1234
    if source == "crm":
        crm[odd - 1] = Row(odd, 2, 1)
    elif source == "table":
        del table[odd - 1]
    else:
        local[odd - 1] = BindingRow(odd, 2, odd + 7, None, None)

    differ.feed(crm, table, local, {}, upto)

    assert differ.seen == [odd]


def test_memory_does_not_grow_with_the_number_of_segments() -> None:
    def peak(number: int) -> int:
        differ = Differ(policy(), {})
        gc.collect()
        tracemalloc.start()
        try:
            for crm, table, local, upto in segments(number):
                differ.feed(crm, table, local, {}, upto)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(10) < 1.3 * peak(2)
