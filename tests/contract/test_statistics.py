"""What the status page asks of the past is answered alike by every database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from syncd.core.model import Counts, HoldKind, Outcome, Side, SideCounts
from syncd.core.records import Attempt, GuardHit
from syncd.portal.hosts import Hosts
from syncd.state import migrate, open_store
from syncd.state.statistics import Point, Statistics, Tally
from syncd.wiring import Workplace
from tests.fakes.clock import SetClock
from tests.unit.pages.pages_world import NOON, World, agreement, change, held, settings

pytestmark = pytest.mark.anyio

APPLIED, FAILED, SKIPPED, PLANNED = Outcome.APPLIED, Outcome.FAILED, Outcome.SKIPPED, Outcome.PLANNED


@pytest.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncIterator[World]:
    migrate.upgrade(database_url)
    clock = SetClock(NOON)
    store = open_store(database_url, clock=clock)
    yield World(Workplace(settings(tmp_path, {"shop": {}}), clock, store, "host:1", Hosts(clock)))
    await store.aclose()


@pytest.fixture
def statistics(world: World) -> Statistics:
    return Statistics(world.store)


async def test_given_a_past_then_its_numbers(world: World, statistics: Statistics):
    counts = Counts(in_step=940, crm=SideCounts(1, 2, 3), holds=2)
    first = await world.run(counts=counts, requests=7, operating=33.5, took=4.0, before=7200)
    refused = await world.run(state="refused", guards=[GuardHit("max_removes", Side.CRM, 1, 2)], before=3600)
    await world.run("other", before=1800)
    last = await world.run(before=600)
    assert (await statistics.series("shop", 0, 10))[0] == Point(
        first, "pass", "applied", NOON - 7200, NOON - 7196, counts, 7, 33.5
    )
    assert [one.id for one in await statistics.series("shop", 0, 10)] == [first, refused, last]
    assert [one.id for one in await statistics.series("shop", NOON - 3600, 10)] == [refused, last]
    assert [one.id for one in await statistics.series("shop", 0, 2)] == [refused, last]
    assert await statistics.series("nobody", 0, 10) == []
    assert await statistics.in_state("shop", "refused", among=10, limit=5) == [refused]
    assert await statistics.in_state("shop", "refused", among=1, limit=5) == []
    assert await statistics.in_state("shop", "applied", among=10, limit=1) == [last]
    assert await statistics.begun({first, last}) == {first: NOON - 7200, last: NOON - 600}
    assert await statistics.begun(()) == {}


async def test_given_looks_at_a_refused_plan_then_only_the_run_that_holds_it_is_told(
    world: World, statistics: Statistics
):
    refused = await world.run(state="refused", before=3600)
    await world.run(state="refused", source=refused, before=1800)
    assert await statistics.in_state("shop", "refused", among=10, limit=5) == [refused]
    applied = await world.run(kind="apply", source=refused, before=600)
    assert await statistics.in_state("shop", "applied", among=10, limit=5) == [applied]


async def test_given_a_rebased_link_then_its_older_generations_belong_to_it(world: World, statistics: Statistics):
    first = await world.run(changes=[(change(7, 1, 2), APPLIED, "")], before=7200)
    lease = await world.lease()
    await world.store.rebase(lease, "other ends", NOON - 3600)
    await world.store.release(lease)
    second = await world.run(changes=[(change(7, 2, 3), APPLIED, "")], before=600)
    assert [one.id for one in await statistics.series("shop", 0, 10)] == [first, second]
    assert [one.id for one in await statistics.series("shop", 0, 1)] == [second]
    assert [one.run for one in await statistics.history("shop", 7, None, 10)] == [second, first]
    assert await statistics.in_state("shop", "applied", among=10, limit=5) == [second, first]


async def test_given_a_run_then_what_its_changes_came_to(
    world: World, statistics: Statistics, monkeypatch: pytest.MonkeyPatch
):
    outcomes = {3: FAILED, 4: SKIPPED, 8: FAILED}
    sides = (Side.CRM, Side.TABLE)
    changes = [(change(n, 1, 2, side=sides[n % 2]), outcomes.get(n, APPLIED), "") for n in range(1, 11)]
    run = await world.run(changes=changes, agreements=[agreement(99)])
    await world.run(changes=[(change(3, 2, 1), FAILED, "")])
    assert await statistics.tally(run) == Tally({APPLIED: 7, FAILED: 2, SKIPPED: 1}, whole=True)
    everything, none_left = await statistics.leftovers(run, {FAILED, SKIPPED}, 0, 10)
    assert ([one.change.order_id for one in everything], none_left) == ([3, 4, 8], None)
    some, upto = await statistics.leftovers(run, {FAILED, SKIPPED}, 0, 2)
    assert ([one.change.order_id for one in some], upto) == ([3, 4], some[-1].id)
    monkeypatch.setattr("syncd.state.statistics.WINDOW", 2)
    assert await statistics.tally(run) == Tally({APPLIED: 2, FAILED: 1, SKIPPED: 1}, whole=False)
    seen: list[int] = []
    upto = 0
    while upto is not None:
        some, upto = await statistics.leftovers(run, {FAILED, SKIPPED}, upto, 10)
        seen += [one.change.order_id for one in some]
    assert seen == [3, 4, 8]


async def test_given_an_order_then_its_history_page_by_page_and_its_failures(world: World, statistics: Statistics):
    for n in range(5):
        await world.run(changes=[(change(7, n, n + 1), APPLIED, ""), (change(8, n, n + 1), PLANNED, "")])
    newest = await statistics.history("shop", 7, None, 3)
    assert [one.change.after.owner_id for one in newest] == [5, 4, 3]
    older = await statistics.history("shop", 7, newest[-1].id, 3)
    assert [one.change.after.owner_id for one in older] == [2, 1]
    row = await world.store.find_link("shop")
    assert await statistics.attempt(row.id, 7) is None
    failure = Attempt(7, 3, NOON + 60, "ERROR_CORE: no")
    await world.store.record(await world.lease(), 1, [], now=NOON, attempts=[failure])
    assert await statistics.attempt(row.id, 7) == failure


async def test_given_holds_then_the_open_ones_by_kind_and_page_and_those_of_a_run(world: World, statistics: Statistics):
    first = await world.run(holds=[held(0), held(2, HoldKind.FLAPPING), held(4), held(6)])
    second = await world.run(holds=[held(5)], released=[4])
    row = await world.store.find_link("shop")

    async def orders(kind: HoldKind | None, after: int, limit: int) -> list[int]:
        return [one.hold.order_id for one in await statistics.open_holds(row.id, kind, after, limit)]

    assert await orders(None, -1, 10) == [0, 2, 5, 6]
    assert await orders(None, 2, 1) == [5]
    assert await orders(HoldKind.FLAPPING, -1, 10) == [2]
    of_first = await statistics.holds_of_run(first, 3)
    assert [(one.hold.order_id, released) for one, released in of_first] == [(0, None), (2, None), (4, NOON + 2)]
    assert [one.hold.order_id for one, _ in await statistics.holds_of_run(second, 10)] == [5]
