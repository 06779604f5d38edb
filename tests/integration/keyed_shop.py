"""A link whose mapping table holds a key of the shop's own: the real client and table, a sandbox portal, virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from pydantic import SecretStr

from syncd.config.model import TableSettings
from syncd.core.guards import GuardLimits
from syncd.core.model import Direction, HoldKind, OnConflict, Owner, Policy, Scope
from syncd.core.order_ranges import OrderRanges
from syncd.engine import reconcile as engine
from syncd.engine.covering import Portion
from syncd.engine.learned_keys import LearnedKeys
from syncd.engine.link import Link
from syncd.engine.report import Report
from syncd.portal.client import BitrixPortal
from syncd.sandbox import SandboxPortal
from syncd.table.keyed import open_table
from tests.fakes.clock import FakeClock
from tests.fakes.link import DEALS, make_link
from tests.fakes.portal_client import client
from tests.fakes.store import MemoryStore

LOOKUP = "sale.order.list"
SETTING = {"accountNumber": "order_number", "xmlId": "order_xml_id", "id1c": "order_1c_id"}


def deal(number: int) -> Owner:
    return Owner(2, number)


@dataclass
class KeyedShop:
    """Orders 1 to 99 of a portal, and a table that names them by their keys.

    Args:
        url: An empty database for the table.
        holds: Which key it holds; None makes a table of order ids.
        kind: The type of the column.
        options: More of the table's settings.
    """

    url: str
    holds: str | None = "accountNumber"
    kind: str = "VARCHAR(60)"
    options: dict[str, Any] = field(default_factory=dict)
    direction: Direction = Direction.TWO_WAY
    scope: Scope = DEALS
    limits: GuardLimits = field(default_factory=GuardLimits)

    def __post_init__(self) -> None:
        self.clock = FakeClock()
        self.crm = SandboxPortal(orders=range(1, 100), clock=self.clock)
        self.store: Any = MemoryStore(self.clock)
        self.engine = sa.create_engine(self.url)
        self.execute(f"CREATE TABLE bindings (number {self.kind}, deal_id INTEGER)")
        self._portal: BitrixPortal | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[KeyedShop]:
        try:
            async with client(self.crm, self.clock, conditional=None) as self._portal:
                yield self
        finally:
            self.engine.dispose()

    # ---------------------------------------------------------------- the people

    def execute(self, statement: str, *values: Any) -> None:
        with self.engine.begin() as connection:
            connection.execute(sa.text(statement), dict(zip("abc", values, strict=False)))

    def put(self, key: Any, number: int) -> None:
        self.drop(key)
        self.execute("INSERT INTO bindings (number, deal_id) VALUES (:a, :b)", key, number)

    def drop(self, key: Any) -> None:
        self.execute("DELETE FROM bindings WHERE number = :a", key)

    def rename(self, key: str, new: str) -> None:
        self.execute("UPDATE bindings SET number = :b WHERE number = :a", key, new)

    def bind(self, order: int, number: int) -> None:
        self.crm.bind(order, 2, number)

    def give_key(self, order: int, key: str) -> None:
        self.crm.set_order_key(self.holds or "accountNumber", order, key)

    @property
    def rows(self) -> list[tuple[Any, Any]]:
        with self.engine.connect() as connection:
            return sorted(tuple(row) for row in connection.execute(sa.text("SELECT number, deal_id FROM bindings")))

    @property
    def bound(self) -> dict[int, int]:
        return {order: owner for order, (_kind, owner) in self.crm.bindings.items()}

    # ---------------------------------------------------------------------- syncd

    def link(self) -> Link:
        assert self._portal is not None
        key = "order_id" if self.holds is None else SETTING[self.holds]
        settings = TableSettings(
            url=SecretStr(self.url),
            name="bindings",
            columns={key: "number", "owner_type_id": 2, "owner_id": "deal_id"},
            **self.options,
        )
        kind = settings.key.field
        keys = None if kind is None else LearnedKeys(kind, self._portal, self.store, self.clock)
        return make_link(
            self._portal,
            open_table(settings, scope=self.scope, clock=self.clock, link="shop", keys=keys),
            self.store,
            self.clock,
            policy=Policy(self.direction, OnConflict.HOLD, self.scope),
            limits=self.limits,
            order_keys=keys,
        )

    async def reconcile(self, minutes: float = 0, orders: str = "") -> Report:
        self.clock.advance(60 * minutes)
        link = self.link()
        try:
            portion = Portion(orders=OrderRanges.parse(orders)) if orders else None
            return await engine.reconcile(link, portion=portion)
        finally:
            await link.table.aclose()

    async def in_step(self, orders: dict[int, int]) -> None:
        """Agree on these orders, each bound to the deal of that number."""
        for order, number in orders.items():
            self.bind(order, number)
        report = await self.reconcile()
        assert (report.exit_code, report.holds) == (0, [])
        self.crm.stats.calls.clear()

    @property
    def lookups(self) -> int:
        """How many calls have asked for keys since the orders were in step."""
        return self.crm.stats.calls[LOOKUP]


def held(report: Report) -> dict[int, HoldKind]:
    return {hold.order_id: hold.kind for hold in report.holds}
