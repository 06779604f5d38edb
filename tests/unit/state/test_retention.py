"""Which runs are forgotten."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from syncd.core.model import Action, Change, Facts, Hold, HoldKind, Owner, Reason, Side
from syncd.core.records import Lease, RunRow, StoredHold
from syncd.state import runs
from syncd.state.migrate import upgrade
from syncd.state.schema import request
from syncd.state.store import SqlStore, open_store
from tests.fakes.clock import SetClock

pytestmark = pytest.mark.anyio

NOW = 1_800_000_000.0
DAY = 86_400.0


@pytest.fixture(autouse=True)
def keep_two_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "KEEP_RUNS", 2)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqlStore]:
    url = f"sqlite:///{tmp_path / 'state.db'}"
    upgrade(url)
    opened = open_store(url, clock=SetClock(NOW))
    yield opened
    await opened.aclose()


@pytest.fixture
async def lease(store: SqlStore) -> Lease:
    return await store.acquire(await store.link("shop", "ends"), "mine", 60.0, NOW)


async def run(
    store: SqlStore,
    lease: Lease,
    *,
    kind: str = "pass",
    state: str = "applied",
    days: float = 100,
    source: int | None = None,
) -> int:
    number = await store.start_run(lease, kind, "schedule", NOW - days * DAY)
    row = RunRow(number, "shop", lease.link_id, kind, state, source=source, finished_at=NOW - days * DAY)
    await store.finish_run(lease, row)
    return number


async def left(store: SqlStore) -> list[int]:
    return [row.id for row in await store.runs("shop", 100)][::-1]


async def test_old_passes_that_did_nothing_are_forgotten_but_for_the_newest(store: SqlStore, lease: Lease) -> None:
    runs = [await run(store, lease) for _ in range(5)]
    assert await store.prune(lease, NOW, 30) == 3
    assert await left(store) == runs[3:]
    assert await store.prune(lease, NOW, 30) == 0


async def test_few_runs_are_all_kept(store: SqlStore, lease: Lease) -> None:
    runs = [await run(store, lease)]
    assert await store.prune(lease, NOW, 30) == 0
    assert await left(store) == runs


async def test_what_is_young_refused_planned_or_running_is_kept(store: SqlStore, lease: Lease) -> None:
    kept = [
        await run(store, lease, days=10),
        await run(store, lease, state="refused"),
        await run(store, lease, kind="plan", state="planned"),
        await run(store, lease, kind="apply"),
        await store.start_run(lease, "pass", "schedule", NOW - 100 * DAY),
    ]
    newest = [await run(store, lease) for _ in range(2)]
    assert await store.prune(lease, NOW, 30) == 0
    assert await left(store) == [*kept, *newest]


async def test_looks_at_a_refused_plan_are_forgotten_and_the_plan_is_kept(store: SqlStore, lease: Lease) -> None:
    refused = await run(store, lease, state="refused")
    for _ in range(3):
        await run(store, lease, state="refused", source=refused)
    newest = [await run(store, lease) for _ in range(2)]
    assert await store.prune(lease, NOW, 30) == 3
    assert await left(store) == [refused, *newest]


async def test_a_pass_with_a_change_or_a_hold_is_kept(store: SqlStore, lease: Lease) -> None:
    wrote, held = [await run(store, lease) for _ in range(2)]
    facts = Facts(None, Owner(2, 1), None)
    await store.save_plan(
        lease, wrote, [Change(1, Side.CRM, Action.ADD, None, Owner(2, 1), Reason.TABLE_CHANGED, facts)]
    )
    hold = StoredHold(Hold(2, HoldKind.EDIT_EDIT, facts, "differ"), sticky=False)
    await store.set_holds(lease, held, opened=[hold], released=[], now=NOW)
    newest = [await run(store, lease) for _ in range(2)]
    assert await store.prune(lease, NOW, 30) == 0
    assert await left(store) == [wrote, held, *newest]


async def test_requests_served_long_ago_are_forgotten(store: SqlStore, lease: Lease) -> None:
    for days in (100, 10):
        asked = await store.post_request("shop", "trigger", "cli", NOW - days * DAY)
        await store.close_requests(lease, [asked], NOW - days * DAY)
    await store.post_request("shop", "trigger", "cli", NOW - 100 * DAY)
    await store.prune(lease, NOW, 30)
    stored = store._database.read(lambda connection: connection.execute(sa.select(request.c.served_at)).scalars().all())
    assert set(stored) == {NOW - 10 * DAY, None}


async def test_runs_of_other_links_are_kept(store: SqlStore, lease: Lease) -> None:
    other = await store.acquire(await store.link("outlet", "ends"), "mine", 60.0, NOW)
    for _ in range(4):
        await run(store, other)
    assert await store.prune(lease, NOW, 30) == 0


async def test_names_of_owners_are_forgotten_after_a_day_whatever_link_they_are_of(
    store: SqlStore, lease: Lease
) -> None:
    old, new = Owner(2, 1), Owner(2, 2)
    for link_id in (lease.link_id, lease.link_id + 1):
        await store.keep_names(link_id, {old: "Desks"}, NOW - DAY - 1, 0)
        await store.keep_names(link_id, {new: "Lamps"}, NOW - DAY + 1, 0)
    await store.prune(lease, NOW, 90)
    for link_id in (lease.link_id, lease.link_id + 1):
        assert await store.names(link_id, [old, new], 0) == {new: "Lamps"}
