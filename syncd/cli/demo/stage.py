"""What the demonstration plays on: a sandbox portal behind real HTTP, an SQLite table, and a link between them."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from syncd.config.model import Settings
from syncd.core.model import Owner
from syncd.sandbox import SandboxPortal, SandboxServer
from syncd.wiring import Workplace, open_workplace

LINK = "shop"
DEAL = 2


@dataclass(slots=True)
class Stage:
    """Both ends, with what people and programs do to them, and the workplace that keeps them in step.

    Args:
        server: The portal.
        file: The order system's database.
        place: The workplace.
    """

    server: SandboxServer
    file: Path
    place: Workplace

    # ------------------------------------------------------------ what people do in the CRM

    def bind(self, order: int, deal: int) -> None:
        """Bind an order to a deal in the CRM, or move it there."""
        self.server.portal.bind(order, DEAL, deal)

    def unbind(self, order: int) -> None:
        """Take an order's binding away in the CRM."""
        self.server.portal.unbind(order)

    # ------------------------------------------------------- what programs do in the table

    def insert(self, order: int, deal: int) -> None:
        """Insert a row into the table."""
        self._execute("INSERT INTO order_bindings (order_id, deal_id) VALUES (?, ?)", (order, deal))

    def change(self, order: int, deal: int) -> None:
        """Change a row of the table."""
        self._execute("UPDATE order_bindings SET deal_id = ? WHERE order_id = ?", (deal, order))

    def delete(self, order: int) -> None:
        """Delete a row of the table."""
        self._execute("DELETE FROM order_bindings WHERE order_id = ?", (order,))

    # ------------------------------------------------------------------------ what is there

    def crm(self) -> dict[int, Owner]:
        """Return what the CRM says, order by order."""
        return {order: Owner(*owner) for order, owner in self.server.portal.bindings.items()}

    def table(self) -> dict[int, Owner]:
        """Return what the table says, order by order."""
        with closing(sqlite3.connect(self.file)) as connection:
            rows = connection.execute("SELECT order_id, deal_id FROM order_bindings").fetchall()
        return {order: Owner(DEAL, deal) for order, deal in rows}

    async def agreed(self) -> dict[int, Owner]:
        """Return what both sides agreed on, as the state database has it."""
        row = await self.place.store.find_link(LINK)
        rows = await self.place.store.bindings(row.id, 0, None) if row is not None else []
        return {
            one.order_id: Owner(one.agreed_type, one.agreed_id)
            for one in rows
            if one.agreed_type is not None and one.agreed_id is not None
        }

    def _execute(self, statement: str, values: Iterable[int]) -> None:
        with closing(sqlite3.connect(self.file)) as connection, connection:
            connection.execute(statement, tuple(values))


@asynccontextmanager
async def open_stage(crm: dict[int, int], table: dict[int, int], unbound: Iterable[int]) -> AsyncIterator[Stage]:
    """Set everything up for the time of the block; nothing of it is left afterwards.

    Args:
        crm: What the CRM says at first: order to deal.
        table: What the table says at first.
        unbound: Orders the portal knows besides.
    """
    with TemporaryDirectory(prefix="syncd-demo-") as directory:
        file = Path(directory, "shop.db")
        with closing(sqlite3.connect(file)) as connection, connection:
            connection.execute("CREATE TABLE order_bindings (order_id INTEGER PRIMARY KEY, deal_id INTEGER NOT NULL)")
            connection.executemany("INSERT INTO order_bindings VALUES (?, ?)", table.items())
        portal = SandboxPortal({order: (DEAL, deal) for order, deal in crm.items()}, orders=[*table, *unbound])
        async with SandboxServer(portal) as server:
            settings = Settings.model_validate(
                {
                    "state": {"url": f"sqlite:///{Path(directory, 'syncd.db')}"},
                    "links": {
                        LINK: {
                            "portal": {"webhook": server.webhook_url},
                            "table": {
                                "url": f"sqlite:///{file}",
                                "name": "order_bindings",
                                "columns": {"order_id": "order_id", "owner_type_id": DEAL, "owner_id": "deal_id"},
                            },
                        }
                    },
                }
            )
            async with open_workplace(settings) as place:
                yield Stage(server, file, place)
