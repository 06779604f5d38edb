"""Rows that a database walks over without returning them cost time: offset paging gets dearer the further it gets."""

from __future__ import annotations

import json

import pytest

from syncd.sandbox import Latencies, SandboxPortal
from tests.fakes.clock import SetClock

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("start", "walked"),
    [(-1, 0), (0, 1000), (500, 1500), (950, 1950), (1000, 1000)],
)
async def test_given_a_price_for_rows_walked_over_then_offset_and_count_pay_it(start: int, walked: int) -> None:
    clock = SetClock()
    portal = SandboxPortal(((order, 2, 1) for order in range(1, 1001)), latencies=Latencies(scan=1.0), clock=clock)
    began = clock.now()

    body = json.dumps({"start": start, "order": {"orderId": "asc"}}).encode()
    await portal.respond(
        "POST", f"{portal.webhook_path}crm.orderentity.list", "", {"Content-Type": "application/json"}, body
    )

    assert clock.now() - began == pytest.approx(walked / 1000)
