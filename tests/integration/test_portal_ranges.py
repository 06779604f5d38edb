"""Some ranges of orders are listed together, and each is proved, or lost, by itself."""

from __future__ import annotations

import json

import httpx
import pytest

from syncd.core.order_ranges import OrderRange, OrderRanges
from syncd.errors import IncompleteListing
from syncd.sandbox import SandboxPortal
from tests.fakes.clock import FakeClock
from tests.fakes.portal_client import EVERYTHING, client
from tests.fakes.sandbox_transport import SandboxTransport

pytestmark = pytest.mark.anyio


class Hiding(SandboxTransport):
    """A portal that counts some orders and leaves them out of its pages."""

    def __init__(self, portal: SandboxPortal, hidden: set[int]) -> None:
        super().__init__(portal)
        self._hidden = hidden

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await super().handle_async_request(request)
        said = json.loads(await response.aread())
        answers = said["result"]["result"]
        for answer in answers.values() if isinstance(answers, dict) else answers:
            rows = answer["orderEntity"]
            answer["orderEntity"] = [row for row in rows if int(row["orderId"]) not in self._hidden]
        return httpx.Response(response.status_code, json=said)


async def listed(hidden: set[int]) -> tuple[list[int], set[OrderRange]]:
    """Return the orders that were listed in three ranges, and the ranges that could not be proved."""
    clock = FakeClock()
    portal = SandboxPortal({order: (2, order) for order in range(1, 201)}, orders=range(1, 300), clock=clock)
    orders: list[int] = []
    unproved: set[OrderRange] = set()
    ranges = OrderRanges.parse("1-40,60-99,140-180")
    async with client(Hiding(portal, hidden), clock) as ours:
        async for chunk in ours.listing([], EVERYTHING, lambda *_: None, ranges):
            orders += [row.order_id for row in chunk.rows]
            unproved |= chunk.unproved.keys()
    return orders, unproved


async def test_given_all_ranges_complete_then_all_are_listed() -> None:
    assert await listed(set()) == ([*range(1, 41), *range(60, 100), *range(140, 181)], set())


async def test_given_a_range_that_cannot_be_proved_then_it_is_named_and_the_others_are_listed() -> None:
    assert await listed({70}) == ([*range(1, 41), *range(140, 181)], {OrderRange(60, 99)})


async def test_given_no_range_that_can_be_proved_then_the_listing_ends() -> None:
    with pytest.raises(IncompleteListing):
        await listed({20, 70, 150})
