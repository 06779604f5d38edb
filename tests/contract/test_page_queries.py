"""What the status page asks of the past is answered alike by every database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from syncd.core.model import Counts, HoldKind, Outcome, Owner, Side, SideCounts
from syncd.core.records import Decision, GuardHit
from syncd.portal.hosts import Hosts
from syncd.state import migrate
from syncd.state.page_queries import OutcomeCounts, Point
from syncd.state.store import open_store
from syncd.wiring import AppContext
from tests.fakes.clock import SetClock
from tests.unit.pages.shown_daemon import NOON, ShownDaemon, agreement, change, held, settings

pytestmark = pytest.mark.anyio

APPLIED, FAILED, SKIPPED, PLANNED = Outcome.APPLIED, Outcome.FAILED, Outcome.SKIPPED, Outcome.PLANNED


@pytest.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncIterator[ShownDaemon]:
    migrate.upgrade(database_url)
    clock = SetClock(NOON)
    store = open_store(database_url, clock=clock)
    yield ShownDaemon(AppContext(settings(tmp_path, {"shop": {}}), clock, store, "host:1", Hosts(clock)))
    await store.aclose()


async def test_given_a_past_then_its_numbers(world: ShownDaemon) -> None:
    counts = Counts(in_step=940, crm=SideCounts(1, 2, 3), holds=2)
    first = await world.run(counts=counts, requests=7, operating=33.5, took=4.0, before=7200)
    refused = await world.run(state="refused", guards=[GuardHit("max_removes", Side.CRM, 1, 2)], before=3600)
    await world.run("other", before=1800)
    last = await world.run(before=600)
    assert (await world.store.series("shop", 0, 10))[0] == Point(
        first, "pass", "applied", NOON - 7200, NOON - 7196, counts, 7, 33.5
    )
    assert [one.id for one in await world.store.series("shop", 0, 10)] == [first, refused, last]
    assert [one.id for one in await world.store.series("shop", NOON - 3600, 10)] == [refused, last]
    assert [one.id for one in await world.store.series("shop", 0, 2)] == [refused, last]
    assert await world.store.series("nobody", 0, 10) == []
    assert await world.store.runs_in_state("shop", "refused", among=10, limit=5) == [refused]
    assert await world.store.runs_in_state("shop", "refused", among=1, limit=5) == []
    assert await world.store.runs_in_state("shop", "applied", among=10, limit=1) == [last]
    assert await world.store.run_starts({first, last}) == {first: NOON - 7200, last: NOON - 600}
    assert await world.store.run_starts(()) == {}


async def test_given_looks_at_a_refused_plan_then_only_the_run_that_holds_it_is_listed(world: ShownDaemon) -> None:
    refused = await world.run(state="refused", before=3600)
    await world.run(state="refused", source=refused, before=1800)
    assert await world.store.runs_in_state("shop", "refused", among=10, limit=5) == [refused]
    applied = await world.run(kind="apply", source=refused, before=600)
    assert await world.store.runs_in_state("shop", "applied", among=10, limit=5) == [applied]


async def test_given_a_rebased_link_then_its_older_generations_belong_to_it(world: ShownDaemon) -> None:
    first = await world.run(changes=[(change(7, 1, 2), APPLIED, "")], before=7200)
    lease = await world.lease()
    await world.store.rebase(lease, "other ends", NOON - 3600)
    await world.store.release(lease)
    second = await world.run(changes=[(change(7, 2, 3), APPLIED, "")], before=600)
    assert [one.id for one in await world.store.series("shop", 0, 10)] == [first, second]
    assert [one.id for one in await world.store.series("shop", 0, 1)] == [second]
    assert [one.run for one in await world.store.history("shop", 7)] == [first, second]
    assert await world.store.runs_in_state("shop", "applied", among=10, limit=5) == [second, first]


async def test_given_a_run_then_what_its_changes_came_to(world: ShownDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = {3: FAILED, 4: SKIPPED, 8: FAILED}
    sides = (Side.CRM, Side.TABLE)
    changes = [(change(n, 1, 2, side=sides[n % 2]), outcomes.get(n, APPLIED), "") for n in range(1, 11)]
    run = await world.run(changes=changes, agreements=[agreement(99)])
    await world.run(changes=[(change(3, 2, 1), FAILED, "")])
    assert await world.store.outcome_counts(run) == OutcomeCounts({APPLIED: 7, FAILED: 2, SKIPPED: 1}, whole=True)
    everything, none_left = await world.store.changes_with(run, {FAILED, SKIPPED}, 0, 10)
    assert ([one.change.order_id for one in everything], none_left) == ([3, 4, 8], None)
    some, upto = await world.store.changes_with(run, {FAILED, SKIPPED}, 0, 2)
    assert ([one.change.order_id for one in some], upto) == ([3, 4], some[-1].id)
    monkeypatch.setattr("syncd.state.page_queries.WINDOW", 2)
    assert await world.store.outcome_counts(run) == OutcomeCounts({APPLIED: 2, FAILED: 1, SKIPPED: 1}, whole=False)
    seen: list[int] = []
    upto = 0
    while upto is not None:
        some, upto = await world.store.changes_with(run, {FAILED, SKIPPED}, upto, 10)
        seen += [one.change.order_id for one in some]
    assert seen == [3, 4, 8]


async def test_given_a_run_then_the_holds_that_it_opened_with_their_release(world: ShownDaemon) -> None:
    first = await world.run(holds=[held(0), held(2, HoldKind.FLAPPING), held(4), held(6)])
    second = await world.run(holds=[held(5)], released=[4])
    of_first = await world.store.holds_of_run(first, 3)
    assert [(one.hold.order_id, released) for one, released in of_first] == [(0, None), (2, None), (4, NOON + 2)]
    assert [one.hold.order_id for one, _ in await world.store.holds_of_run(second, 10)] == [5]


async def test_given_an_owner_then_the_orders_that_are_bound_to_it_or_agreed_to_be(world: ShownDaemon) -> None:
    await world.run(changes=[(change(5, None, 11), APPLIED, ""), (change(6, None, 11), APPLIED, "")])
    await world.run(changes=[(change(7, None, 12), APPLIED, "")], agreements=[agreement(8, 11)])
    row = await world.link_row()
    assert [one.order_id for one in await world.store.bindings_of_owner(row.id, Owner(2, 11), 10)] == [5, 6, 8]
    assert [one.order_id for one in await world.store.bindings_of_owner(row.id, Owner(2, 11), 2)] == [5, 6]
    assert await world.store.bindings_of_owner(row.id, Owner(31, 11), 10) == []


async def test_given_decisions_then_the_last_one_of_each_order(world: ShownDaemon) -> None:
    first = Decision("shop", "resolve", "crm", "anna@ops", NOON, order_id=5)
    last = first._replace(said="table", by="ben@ops", at=NOON + 60, comment="asked sales")
    for one in (first, last, first._replace(order_id=6), first._replace(link="other", order_id=7)):
        await world.store.note(one)
    assert await world.store.last_decisions("shop", [5, 7, 8]) == {5: last}


async def test_given_names_then_they_are_kept_by_link_until_they_are_old(world: ShownDaemon) -> None:
    deal, kind = Owner(2, 77), Owner(2, 0)
    await world.store.keep_names(1, {deal: "Tische für Müller 🪑", kind: "Сделка"}, NOON, 0)
    await world.store.keep_names(2, {deal: "another portal's"}, NOON, 0)
    await world.store.keep_names(1, {deal: "renamed", Owner(2, 78): ""}, NOON + 60, NOON - 1)
    assert await world.store.names(1, [deal, kind, Owner(2, 78), Owner(2, 79)], NOON) == {
        deal: "renamed",
        kind: "Сделка",
        Owner(2, 78): "",
    }
    assert await world.store.names(1, [deal, kind], NOON + 60) == {deal: "renamed"}
    await world.store.keep_names(1, {}, NOON + 90, NOON + 61)
    assert await world.store.names(1, [deal, kind], 0) == {}
    assert await world.store.names(2, [deal], 0) == {deal: "another portal's"}
