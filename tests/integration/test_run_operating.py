"""A run's row keeps the operating budget that was used when it ended, for the status page to plot."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from syncd.config.model import Settings
from syncd.engine.reconcile import reconcile
from syncd.sandbox import SandboxPortal, SandboxServer
from syncd.sandbox.limits import Latencies, PortalLimits
from syncd.wiring import open_app_context
from tests.fakes.clock import SetClock

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(("limits", "expected"), [(PortalLimits(), 3 * 0.33), (None, 0.0)], ids=["cloud", "box"])
async def test_given_a_pass_that_writes_then_its_row_keeps_what_the_busiest_method_had_used(
    tmp_path: Path, limits: PortalLimits | None, expected: float
) -> None:
    clock = SetClock()
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection, connection:
        connection.execute("CREATE TABLE bindings (order_id INTEGER PRIMARY KEY, deal_id INTEGER)")
        connection.executemany("INSERT INTO bindings VALUES (?, ?)", [(1, 11), (2, 12), (3, 13)])
    portal = SandboxPortal(orders=range(1, 9), limits=limits, latencies=Latencies(add=0.33), clock=clock)
    async with SandboxServer(portal) as server:
        link = {
            "first_sync": "auto",
            "portal": {"webhook": server.webhook_url},
            "table": {
                "url": f"sqlite:///{tmp_path / 'shop.db'}",
                "name": "bindings",
                "columns": {"order_id": "order_id", "owner_type_id": 2, "owner_id": "deal_id"},
            },
        }
        settings = Settings.model_validate(
            {"state": {"url": f"sqlite:///{tmp_path / 'state.db'}"}, "links": {"shop": link}}
        )
        async with open_app_context(settings, clock=clock) as place:
            async with place.link("shop") as opened:
                report = await reconcile(opened)
            row = await place.store.run(report.row.id)
    assert row is not None
    assert row.counts.crm.add == 3
    assert row.operating == pytest.approx(expected, rel=0.1)
