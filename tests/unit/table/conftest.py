"""A laboratory: any table in any database, and syncd's view of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import SecretStr
from sqlalchemy.pool import NullPool

from syncd.config.model import TableSettings
from syncd.core.model import Owner, Row, Scope, Unreadable
from syncd.core.ports import Effect, Write
from syncd.table.keyed import open_table
from syncd.table.sql import SqlTable
from tests.databases import MYSQL, POSTGRES
from tests.fakes.clock import SetClock

NOW = 1_777_863_721.25
"""2026-05-04 03:02:01.25 UTC."""

DEAL_7, DEAL_8, DEAL_9 = Owner(2, 7), Owner(2, 8), Owner(2, 9)
MAPPING = "CREATE TABLE m (order_id BIGINT PRIMARY KEY, deal_id BIGINT NOT NULL)"
"""The plainest mapping table."""


@dataclass
class Lab:
    """One database. Statements are written for all kinds; `{…}` names what differs, see `words`."""

    url: str
    opened: list[SqlTable] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.engine = sa.create_engine(self.url, poolclass=NullPool)
        self.kind = self.engine.dialect.name

    @property
    def words(self) -> dict[str, str]:
        return {
            "time": "TIMESTAMP" if self.kind == "postgresql" else "DATETIME",
            "serial": {
                "sqlite": "INTEGER PRIMARY KEY",
                "postgresql": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
                "mysql": "BIGINT AUTO_INCREMENT PRIMARY KEY",
            }[self.kind],
            "q": "`" if self.kind == "mysql" else '"',
        }

    def run(self, *statements: str) -> None:
        """Run statements as an outside writer, in one transaction."""
        with self.engine.begin() as connection:
            for statement in statements:
                words = self.words.items()
                text = statement
                for name, word in words:
                    text = text.replace("{" + name + "}", word)
                connection.exec_driver_sql(text.replace("%", "%%") if self.kind != "sqlite" else text)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(query)]

    def table(self, name: str = "m", *, url: str = "", writable: bool = True, **settings: Any) -> SqlTable:
        settings.setdefault("columns", {"order_id": "order_id", "owner_type_id": 2, "owner_id": "deal_id"})
        table = open_table(
            TableSettings(url=SecretStr(url or self.url), name=name, **settings),
            scope=Scope(frozenset({2})),
            clock=SetClock(NOW),
            link="shop",
            writable=writable,
        )
        self.opened.append(table)
        return table


async def snapshot(table: SqlTable) -> tuple[list[Row], dict[int, Unreadable], list[str]]:
    """Return readable rows, unreadable orders and rows without an order."""
    async with table.snapshot(lambda *_: None) as taken:
        return taken.take(None), dict(taken.unreadable), list(taken.orderless)


async def effects(table: SqlTable, *writes: Write) -> list[Effect]:
    """Write, and return the effect of each write."""
    return [each.effect for each in await table.write(writes)]


@asynccontextmanager
async def _open_lab(url: str) -> AsyncIterator[Lab]:
    lab = Lab(url)
    try:
        yield lab
    finally:
        for table in lab.opened:
            await table.aclose()
        lab.engine.dispose()


@pytest.fixture
async def lab(database_url: str) -> AsyncIterator[Lab]:
    """A laboratory in each kind of database."""
    async with _open_lab(database_url) as made:
        yield made


@pytest.fixture
async def sqlite(sqlite_url: str) -> AsyncIterator[Lab]:
    async with _open_lab(sqlite_url) as made:
        yield made


@pytest.fixture
async def postgres(postgres_url: str) -> AsyncIterator[Lab]:
    async with _open_lab(postgres_url) as made:
        yield made


@pytest.fixture
async def mysql(mysql_url: str) -> AsyncIterator[Lab]:
    async with _open_lab(mysql_url) as made:
        yield made


@pytest.fixture(params=[POSTGRES, MYSQL])
async def server(request: pytest.FixtureRequest) -> AsyncIterator[Lab]:
    """A laboratory in each kind of database that is a server."""
    async with _open_lab(request.getfixturevalue(request.param)) as made:
        yield made


@pytest.fixture
async def mariadb(mysql: Lab) -> Lab:
    """A laboratory in MariaDB. MySQL lacks what its tests are about."""
    if "MariaDB" not in mysql.rows("SELECT version()")[0][0]:
        pytest.skip("the server is MySQL")
    return mysql


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every few rows be a chunk, so that few rows reach all its edges."""
    monkeypatch.setattr("syncd.table.snapshot.CHUNK", 3)
    monkeypatch.setattr("syncd.table.spool.BLOCK", 2)
    monkeypatch.setattr("syncd.table.spool._FEWEST", 2)
    monkeypatch.setattr("syncd.table.spool.MERGED", 4)
    monkeypatch.setattr("syncd.table.rows.CHUNK", 2)
    monkeypatch.setattr("syncd.table.transaction.CHUNK", 2)
