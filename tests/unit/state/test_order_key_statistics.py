"""A table of keys that grows in one pass is known to the planner before autovacuum comes by."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from syncd.core.order_keys import KeyRow
from syncd.state import migrate
from syncd.state.store import open_store
from tests.fakes.clock import SetClock

pytestmark = [pytest.mark.anyio, pytest.mark.postgres]


async def test_given_many_keys_learned_at_once_then_a_lookup_takes_the_index_of_the_keys(postgres_url: str) -> None:
    migrate.upgrade(postgres_url)
    clock = SetClock()
    store = open_store(postgres_url, clock=clock)
    lease = await store.acquire(await store.link("shop", "ends"), "host:1", 600.0, clock.now())
    for first in range(1, 12_001, 2_400):
        await store.save_keys(lease, [KeyRow(one, f"WEB-{one:07}", 1.0) for one in range(first, first + 2_400)])
    await store.aclose()

    engine = sa.create_engine(postgres_url)
    with engine.connect() as connection:
        keys = ", ".join(f"'WEB-{one:07}'" for one in range(1, 12_000, 12))
        plan = connection.exec_driver_sql(
            f"EXPLAIN SELECT order_key, order_id FROM order_key WHERE link_id = {lease.link_id}"
            f" AND order_key IN ({keys})"
        )
        shown = "\n".join(row[0] for row in plan)
    engine.dispose()
    assert "ix_order_key_link_id_order_key_order_id" in shown, shown[-200:]
