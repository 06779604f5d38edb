"""`syncd demo`: what it plays on, and what happens, each step shown as an operator would see it.

It plays on a sandbox portal behind real HTTP, an SQLite table, and a link between them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from syncd.cli.render.runs import FIRST
from syncd.cli.render.runs import report as render
from syncd.cli.screen import GAP, Block, Line, Screen, TextTable
from syncd.config.model import Settings
from syncd.core.model import Owner
from syncd.core.ports import Cancelled
from syncd.engine import formatting
from syncd.engine import reconcile as engine
from syncd.engine.link import Link
from syncd.engine.report import Report
from syncd.errors import Stopped
from syncd.sandbox import SandboxPortal, SandboxServer
from syncd.status.needs import consequence
from syncd.wiring import AppContext, open_app_context

LINK = "shop"
DEAL = 2

CRM = {order: 10 + order for order in range(1, 11)}
TABLE = {order: 10 + order for order in range(1, 9)} | {11: 21, 12: 22}
NEW = (13, 14)
"""At first both sides share orders 1 to 8, only the CRM knows 9 and 10, only the table 11 and 12; 13
and 14 are unbound."""

CONTESTED = 7


@dataclass(slots=True)
class Stage:
    """Both ends, with what people and programs do to them, and what keeps them in step.

    Args:
        server: The portal.
        file: The order system's database.
        context: The settings and the state database, from which links are made.
    """

    server: SandboxServer
    file: Path
    context: AppContext

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
        row = await self.context.store.find_link(LINK)
        rows = await self.context.store.bindings(row.id, 0, None) if row is not None else []
        return {one.order_id: one.agreed for one in rows if one.agreed is not None}

    def _execute(self, statement: str, values: Iterable[int]) -> None:
        with closing(sqlite3.connect(self.file)) as connection, connection:
            connection.execute(statement, tuple(values))


@asynccontextmanager
async def open_stage(crm: dict[int, int], table: dict[int, int], unbound: Iterable[int]) -> AsyncIterator[Stage]:
    """Set everything up for the time of the block; nothing of it is left afterwards.

    Args:
        crm: What the CRM says at first: order to deal.
        table: What the table says at first.
        unbound: Further orders of the portal.
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
            async with open_app_context(settings, environ={"STATE_DIRECTORY": directory}) as context:
                yield Stage(server, file, context)


class _Edit:
    """One edit of the demonstration, and how it is shown."""

    def __init__(self, side: str, what: str, order: int, before: int | None, after: int | None) -> None:
        self.row = [side, what, f"order {order}", f"{_deal(before)} → {_deal(after)}"]


def _deal(deal: int | None) -> str:
    return formatting.owner(None if deal is None else Owner(2, deal))


class Story:
    """Plays the demonstration, step by step.

    Args:
        screen: Where to.
        stage: What it plays on.
        cancelled: Asks for the end between two steps.
    """

    def __init__(self, screen: Screen, stage: Stage, cancelled: Cancelled) -> None:
        self._screen = screen
        self._stage = stage
        self._cancelled = cancelled
        self._step = 0

    async def play(self) -> bool:
        """Play everything; return whether the end is what it has to be."""
        self._introduce()
        await self._first_sync()
        self._edit()
        held = await self._pass("A pass", "syncd reconcile", engine.reconcile)
        await self._resolve(held)
        await self._pass("A second pass brings the rest into step", "syncd reconcile", engine.reconcile)
        idle = await self._pass("A third pass finds nothing to do", "syncd reconcile", engine.reconcile)
        return await self._verify(held, idle)

    def _introduce(self) -> None:
        url = self._stage.server.url
        self._heading("A portal and a mapping table")
        self._show(
            Line(f"The CRM is a sandbox portal at {url}, spoken to over HTTP as a real one is."),
            Line("The table is order_bindings in an SQLite file. Neither has ever been synchronised."),
        )
        self._sides()

    async def _first_sync(self) -> None:
        self._heading("The first sync asks before it writes", "syncd reconcile")
        report = await self._run(engine.reconcile)
        self._report(report)
        self._heading("Naming the run approves it", f"syncd apply {report.row.id}")
        self._report(await self._run(lambda link: engine.apply(link, report.row.id)))

    def _edit(self) -> None:
        stage = self._stage
        self._heading("Then people and programs go on working, on both sides")
        stage.bind(13, 23)
        stage.bind(2, 102)
        stage.unbind(3)
        stage.insert(14, 24)
        stage.change(5, 105)
        stage.delete(6)
        stage.bind(CONTESTED, 107)
        stage.change(CONTESTED, 207)
        edits = [
            _Edit("CRM", "bound", 13, None, 23),
            _Edit("CRM", "moved", 2, 12, 102),
            _Edit("CRM", "unbound", 3, 13, None),
            _Edit("table", "inserted", 14, None, 24),
            _Edit("table", "changed", 5, 15, 105),
            _Edit("table", "deleted", 6, 16, None),
            _Edit("CRM", "moved", CONTESTED, 17, 107),
            _Edit("table", "changed", CONTESTED, 17, 207),
        ]
        self._show(TextTable([edit.row for edit in edits], indent=5, tones=[""] * 6 + ["warn"] * 2))
        self._show(Line(f"Order {CONTESTED} was changed on both sides, each to another deal."))

    async def _resolve(self, report: Report) -> None:
        self._heading("A person decides the held order", f"syncd resolve {CONTESTED} --keep crm")
        row = await self._stage.context.store.find_link(LINK)
        assert row is not None
        orders = [hold.order_id for hold in report.holds]
        await self._stage.context.store.decide(row.id, orders, "crm", self._stage.context.clock.now())
        policy = self._stage.context.settings.links[LINK].policy()
        for hold in report.holds:
            self._show(Line(f"order {hold.order_id}: {consequence(hold, 'crm', policy)}"))

    async def _pass(self, title: str, command: str, act: Callable[[Link], Awaitable[Report]]) -> Report:
        self._heading(title, command)
        report = await self._run(act)
        self._report(report)
        return report

    async def _verify(self, held: Report, idle: Report) -> bool:
        self._heading("Both sides, read anew")
        crm, table, agreed = self._stage.crm(), self._stage.table(), await self._stage.agreed()
        self._sides()
        equal = crm == table == agreed and idle.exit_code == 0 and not idle.changes
        contested = [hold.order_id for hold in held.holds] == [CONTESTED]
        if equal and contested:
            self._show(
                GAP,
                Line(
                    f"Verified: the CRM, the table and the agreed state are equal, {len(crm)} orders each; "
                    "the last pass wrote nothing.",
                    "good",
                ),
            )
            return True
        self._show(GAP, Line("The two sides are NOT equal. This is a bug; please report it.", "bad"))
        return False

    # ---------------------------------------------------------------------- showing

    async def _run(self, act: Callable[[Link], Awaitable[Report]]) -> Report:
        async with self._stage.context.link(LINK, cancelled=self._cancelled) as link:
            return await act(link)

    def _report(self, report: Report) -> None:
        self._screen.show(_indented(block) for block in render(report, first=FIRST))
        if report.error is not None:
            raise report.error

    def _heading(self, title: str, command: str = "") -> None:
        if self._cancelled.is_set:
            raise Stopped(f"Stopped by {self._cancelled.reason}; the demonstration leaves nothing behind.")
        self._step += 1
        blocks = [Line(f"{self._step}. {title}", "title")]
        if self._step > 1:
            blocks.insert(0, GAP)
        self._show(*blocks)
        if command:
            self._show(Line(f"$ {command}", "command", indent=3))

    def _sides(self) -> None:
        crm, table = self._stage.crm(), self._stage.table()
        orders = sorted({*crm, *table})
        differ = ["" if crm.get(order) == table.get(order) else "warn" for order in orders]
        self._show(
            TextTable(
                [
                    [
                        str(order),
                        formatting.owner(crm.get(order)),
                        formatting.owner(table.get(order)),
                        "" if not tone else "≠",
                    ]
                    for order, tone in zip(orders, differ, strict=True)
                ],
                heads=["order", "CRM", "table", ""],
                indent=3,
                tones=differ,
                toned=3,
                right=frozenset({0}),
            )
        )

    def _show(self, *blocks: Block) -> None:
        self._screen.show(_indented(block) if isinstance(block, Line) and not block.tone else block for block in blocks)


def _indented(block: Block) -> Block:
    if isinstance(block, Line):
        return Line(block.text, block.tone, block.indent + 3)
    return TextTable(block.rows, block.heads, block.indent + 3, block.tones, block.toned, block.right)


async def play(screen: Screen, cancelled: Cancelled) -> bool:
    """Play the demonstration, and return whether it ended as it has to."""
    async with open_stage(CRM, TABLE, NEW) as stage:
        return await Story(screen, stage, cancelled).play()
