"""Links for tests: one way to make one, whatever its ends are."""

from __future__ import annotations

from itertools import count
from typing import Any

from syncd.core.guards import GuardLimits
from syncd.core.model import Direction, OnConflict, Owner, Policy, Scope
from syncd.core.ports import Clock
from syncd.core.store import Store
from syncd.engine import reconcile as engine
from syncd.engine.link import Link
from tests.fakes.portal import FakePortal
from tests.fakes.table import FakeTable

FREE = GuardLimits(**dict.fromkeys(GuardLimits.__dataclass_fields__, 10**6))
"""Guards that refuse nothing: most tests are about something else."""
DEALS = Scope(frozenset({2}))


def make_link(portal: Any, table: Any, store: Any, clock: Clock, **options: Any) -> Link:
    """Make a two-way link of deals that holds conflicts, refuses nothing, and makes its first sync unasked.

    Args:
        portal: The CRM's side.
        table: The table's side.
        store: The state database.
        clock: The clock.
        options: More of `Link`, or something else in place of the above.
    """
    plain: dict[str, Any] = {
        "name": "shop",
        "fingerprint": "ends",
        "policy": Policy(Direction.TWO_WAY, OnConflict.HOLD, DEALS),
        "limits": FREE,
        "holder": "host:1",
        "ask_first_sync": False,
    }
    return Link(portal=portal, table=table, store=store, clock=clock, **(plain | options))


class SecondLink:
    """Another link, between sides in memory, whose state is in the same database: neither may see the other's."""

    def __init__(self, clock: Clock) -> None:
        self.crm, self.table = FakePortal(), FakeTable()
        self._clock = clock
        self._owners = count(1)

    async def live(self, order: int, store: Store) -> str:
        """Somebody binds an order of it, and it has a pass; return what is wrong with it then, if anything."""
        self.crm.bind(order, Owner(2, next(self._owners)))
        return await self.reconcile(store)

    async def reconcile(self, store: Store) -> str:
        """Have a pass; return what is wrong after it, if anything."""
        link = make_link(self.crm, self.table, store, self._clock, name="mart", fingerprint="mart", holder="mart:1")
        report = await engine.reconcile(link)
        held = {hold.order_id for hold in report.holds}  # in conflict where the state was lost
        apart = {order for order, _ in self.crm.bindings.items() ^ self.table.bindings.items()}
        if report.row.state == "applied" and apart - held:
            return f"the other link rests at crm {self.crm.bindings}, table {self.table.bindings}"
        return ""
