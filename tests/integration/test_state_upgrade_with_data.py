"""A state database of before keys and passes over some orders, with holds and plans in it, is upgraded and goes on."""

from __future__ import annotations

from typing import Any

import pytest

from syncd.core.order_ranges import OrderRanges
from syncd.engine import reconcile as engine
from syncd.engine.covering import Portion
from syncd.state.migrate import upgrade
from syncd.state.store import open_store
from tests.databases import execute
from tests.simulation.world import World
from tests.unit.engine.given import both, deal, policy

pytestmark = pytest.mark.anyio

OLDER = (
    "DROP TABLE order_key",
    "DROP TABLE portal_name",
    "ALTER TABLE link DROP COLUMN coverage",
    "ALTER TABLE run DROP COLUMN covers",
    "ALTER TABLE run DROP COLUMN part",
    "ALTER TABLE request DROP COLUMN orders",
    "UPDATE run SET counts = REPLACE(counts, ',\"whole\":null', '')",
    "UPDATE syncd_version SET version_num = '0008'",
)
"""Makes a schema of today the one of revision 0008."""


async def test_given_holds_and_a_stored_plan_of_an_older_schema_when_upgraded_then_they_are_as_they_were(
    database_url: str,
) -> None:
    upgrade(database_url)
    world: Any = World(policy=policy())

    async def while_open(work: Any) -> Any:
        world.store = open_store(database_url, clock=world.clock)
        try:
            return await work()
        finally:
            await world.store.aclose()

    async def before() -> int:
        for order in range(1, 31):
            world.edit_crm(order, (2, 100 + order))
            world.edit_table(order, (2, 100 + order))
        await world.reconcile()
        world.edit_crm(3, (2, 1))
        world.edit_table(3, (2, 2))
        await world.reconcile()
        await world.store.post_request("shop", "trigger", "somebody", world.clock.now())
        world.edit_table(5, (2, 905))
        return (await engine.plan(world.link())).row.id

    plan = await while_open(before)
    execute(database_url, *OLDER)
    upgrade(database_url)

    async def afterwards() -> None:
        assert await world.held() == {3: "edit-edit"}
        assert [one.orders for one in await world.store.open_requests(["shop"])] == [None]
        row = await world.store.find_link("shop")
        assert (row.coverage, (await world.store.run(plan)).covers) == (None, None)
        applied = await engine.apply(world.link(), plan)
        assert (applied.exit_code, both(world, 5)) == (3, (deal(905),) * 2)
        world.edit_table(7, (2, 907))
        part = await engine.reconcile(world.link(), portion=Portion(orders=OrderRanges.parse("7")))
        assert (part.row.state, both(world, 7)) == ("applied", (deal(907),) * 2)
        assert await world.held() == {3: "edit-edit"}
        whole = await engine.reconcile(world.link(), origin="recent", portion=Portion(recent=True))
        assert whole.row.covers is None, "nothing is known yet of when each part was covered"

    await while_open(afterwards)
