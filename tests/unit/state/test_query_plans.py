"""What passes and pages ask for is found through an index, however long the audit is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from syncd.core.records import Lease
from syncd.errors import SyncdError
from syncd.state.migrate import upgrade
from syncd.state.store import SqlStore, open_store
from tests.fakes.clock import SetClock

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqlStore]:
    url = f"sqlite:///{tmp_path / 'state.db'}"
    upgrade(url)
    opened = open_store(url, clock=SetClock())
    yield opened
    await opened.aclose()


def explain_into(plans: list[str], store: SqlStore, beginning: str) -> None:
    """Collect the plans of all statements that begin so, but for those on the small tables of links and leases."""

    @event.listens_for(store._database.engine, "before_cursor_execute")
    def explain(*called: Any) -> None:
        _, cursor, statement, parameters, *_ = called
        if statement.startswith(beginning) and "FROM link" not in statement and "FROM lease" not in statement:
            cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans.extend(row[3] for row in cursor.fetchall())


Ask = Callable[[SqlStore, Lease], Awaitable[object]]


@pytest.mark.parametrize(
    ("ask", "index"),
    [
        (lambda store, _: store.changes(5, limit=50), "ix_change_run_id_side_id"),
        (lambda store, _: store.history("shop", 5), "ix_change_link_id_order_id_id"),
        (lambda store, lease: store.written(lease.link_id, [1, 2], 0), "ix_change_link_id_order_id_id"),
        (lambda store, lease: store.open_intents(lease.link_id), "ix_change_intended"),
        (lambda store, lease: store.answered_siblings(lease.link_id), "ix_change_intended"),
        (lambda store, lease: store.last_day(lease.link_id, 5, 5), "ix_change_replaced"),
        (lambda store, lease: store.last_day(lease.link_id, 5, 5), "ix_run_link_id_started_at"),
        (lambda store, lease: store.holds(lease.link_id), "ix_hold_open"),
        (lambda store, _: store.past_holds("shop", 5), "ix_hold_link_id_order_id_id"),
        (lambda store, _: store.runs("shop", 50), "ix_run_link_id_id"),
        (lambda store, _: store.open_requests(["shop"]), "ix_request_link_served_at"),
        (lambda store, lease: store.bindings(lease.link_id, 5, 9), "USING PRIMARY KEY (link_id=? AND order_id>?"),
        (
            lambda store, lease: store.orders_by_key(lease.link_id, ["a"]),
            "COVERING INDEX ix_order_key_link_id_order_key",
        ),
        (lambda store, lease: store.order_keys(lease.link_id, [5]), "USING PRIMARY KEY (link_id=? AND order_id=?"),
        (
            lambda store, lease: store.absence_counts(lease.link_id),
            "SEARCH binding USING PRIMARY KEY (link_id=? AND order_id=?)",
        ),
        (lambda store, lease: store.unknown_keys(lease.link_id), "USING PRIMARY KEY (link_id=? AND order_id<?"),
    ],
    ids=[
        "changes",
        "history",
        "written",
        "intents",
        "answers beside intents",
        "last day's writes",
        "last day's first run",
        "holds",
        "past holds",
        "runs",
        "requests",
        "bindings",
        "orders by key",
        "keys of orders",
        "absences",
        "unknown keys",
    ],
)
async def test_a_question_is_answered_through_its_index(store: SqlStore, ask: Ask, index: str) -> None:
    lease = await store.acquire(await store.link("shop", "ends"), "mine", 60.0, 0.0)
    plans: list[str] = []

    explain_into(plans, store, "SELECT")
    await ask(store, lease)
    assert [plan for plan in plans if index in plan]
    assert not [plan for plan in plans if plan.startswith("SCAN")]


async def test_an_intent_is_written_by_its_id(store: SqlStore) -> None:
    """SQLite without statistics takes the index on a whole link for better than a thousand ids."""
    lease = await store.acquire(await store.link("shop", "ends"), "mine", 60.0, 0.0)
    plans: list[str] = []

    explain_into(plans, store, "UPDATE change")
    with pytest.raises(SyncdError, match="does not know"):
        await store.intend(lease, [1, 2, 3], 0, 1)
    assert plans[0].startswith("SEARCH change USING INTEGER PRIMARY KEY")
