"""Pages stay fast however long the audit has grown: proved by how the database goes about it, not by a stopwatch."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from syncd.core.model import Counts
from syncd.state.rows import counts_text
from tests.unit.pages.pages_reader import Browser
from tests.unit.pages.shown_daemon import NOON, ShownDaemon, open_world

pytestmark = pytest.mark.anyio

CHANGES = 200_000
RUNS = 5_000
HOLDS = 3_000
STEP = 1000
"""Instructions of SQLite's machine between two calls of its progress handler."""


@pytest.fixture(scope="module")
def grown_state(tmp_path_factory: pytest.TempPathFactory, empty_state: Path) -> Path:
    """A state database with a past: one run of 100,000 changes, one of 100,000 agreements, thousands of small ones."""
    path = tmp_path_factory.mktemp("grown") / "state.db"
    path.write_bytes(empty_state.read_bytes())
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {})"
    counts = counts_text(Counts(in_step=100_000))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "INSERT INTO link (id, name, generation, fingerprint, paused, parked, created_at) VALUES (1, 'shop', 1, 'ends', 0, '', 0)"
        )
        connection.execute(
            f"{numbers.format(RUNS)} INSERT INTO run (id, link_id, kind, state, origin, started_at, finished_at, digest,"
            " first_sync, counts, guards, error, requests, calls, seconds, operating) SELECT i, 1, 'pass', 'applied',"
            " 'schedule', ? - (? - i) * 300.0, ? - (? - i) * 300.0 + 2, '', 0, ?, '[]', '', 2, 100, 1.0, 5.0 FROM n",
            (NOON, RUNS, NOON, RUNS, counts),
        )
        connection.execute(
            f"{numbers.format(CHANGES)} INSERT INTO change (run_id, link_id, order_id, side, action, before_type,"
            " before_id, after_type, after_id, reason, outcome, error, at, found_known) SELECT"
            " CASE WHEN i <= 100000 THEN 1 ELSE 2 END, 1, i % 50000, CASE WHEN i <= 100000 THEN 'table' END,"
            " CASE WHEN i <= 100000 THEN 'move' ELSE 'agree' END, 2, i, 2, i + 1, 'crm-changed',"
            " CASE WHEN i % 9999 = 0 THEN 'failed' ELSE 'applied' END, '', ? - ? + i, 0 FROM n",
            (NOON, CHANGES),
        )
        connection.execute(
            f"{numbers.format(HOLDS)} INSERT INTO hold (link_id, order_id, kind, seen, detail, since, sticky, decision,"
            " run_id, released_at) SELECT 1, i, 'edit-edit', 0, 'Both sides changed it.', ?, 0, '', 3,"
            " CASE WHEN i % 2 THEN ? END FROM n",
            (NOON, NOON),
        )
        connection.execute(f"{numbers.format(CHANGES // 2)} INSERT INTO binding SELECT 1, i, 2, i + 1, 2, i + 1 FROM n")
    return path


@pytest.fixture
async def world(tmp_path: Path, grown_state: Path) -> AsyncIterator[ShownDaemon]:
    async with open_world(tmp_path, grown_state) as made:
        yield made


@dataclass
class Watch:
    """What the database was asked and how hard it worked."""

    statements: list[tuple[str, Any]] = field(default_factory=list)
    steps: int = 0


@contextmanager
def watched(world: ShownDaemon) -> Iterator[Watch]:
    """Watch the statements of the block, and count the thousands of instructions they take."""
    engine = world.store._database.engine
    watch = Watch()

    def count() -> int:
        watch.steps += 1
        return 0

    def before(connection: Any, _cursor: Any, statement: str, parameters: Any, *_more: Any) -> None:
        connection.connection.dbapi_connection.set_progress_handler(count, STEP)
        if statement.startswith("SELECT"):
            watch.statements.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", before)
    try:
        yield watch
    finally:
        event.remove(engine, "before_cursor_execute", before)


WORK = {
    "/runs": 10,
    "/runs?before=2500": 10,
    "/runs/1": 250,
    "/runs/1?after=90000": 250,
    "/runs/1?show=left": 500,
    "/runs/1?show=left&after=60000": 500,
    "/runs/2": 10,
    "/runs/3": 10,
    "/links/shop": 100,
    "/links/shop?range=month": 200,
    "/links/shop/series.json?range=month": 100,
    "/links/shop/holds": 10,
    "/links/shop/holds?after=1500": 10,
    "/links/shop/orders/49999": 10,
    "/holds": 10,
    "/orders?q=1234567": 10,
}
"""How many thousand instructions of SQLite's machine a page may take. One column of all changes takes 800, and ten times
that where there are ten times as many; none of these grows."""


@pytest.mark.parametrize("path", WORK)
async def test_no_page_reads_through_a_table(world: ShownDaemon, browser: Browser, tmp_path: Path, path: str) -> None:
    await browser.get("/")  # the look at the links, which all pages share
    with watched(world) as watch:
        await browser.answer(path)
    assert watch.statements
    with closing(sqlite3.connect(tmp_path / "state.db")) as connection:
        for statement, parameters in watch.statements:
            plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()
            for *_, step in plan:
                for table in ("change", "hold", "binding"):
                    assert not step.startswith(f"SCAN {table}") or "sqlite_" in step, f"{statement}\n{step}"
    assert watch.steps <= WORK[path]


async def test_the_measure_is_not_blind(world: ShownDaemon) -> None:
    with watched(world) as watch:
        await world.store._read(lambda connection: connection.exec_driver_sql("SELECT max(error) FROM change").all())
    assert watch.steps > 700


async def test_what_a_large_run_left_behind_is_found(browser: Browser) -> None:
    page = await browser.get("/runs/1?show=left")
    assert [row[0] for row in page.rows("The changes of run")[1:]] == ["9999", "19998"]
    assert "first 20,000 a side" in page.text_of("tally")
    page = await browser.get(page.one("a", rel="next")["href"])
    assert [row[0] for row in page.rows("The changes of run")[1:]] == ["29997", "39996"]


async def test_a_run_of_a_hundred_thousand_agreements_says_it_changed_nothing(browser: Browser) -> None:
    assert "It changed nothing." in (await browser.get("/runs/2")).text
