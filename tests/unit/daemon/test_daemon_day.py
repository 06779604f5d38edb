"""Twenty-four hours of a daemon in virtual time: the real scheduler, runners and engine over portals and tables in memory.

Ten links, outside edits on both sides, faults of portals and tables, a refused plan that a person applies and one whose
cause is mended without a word to the daemon, a pause, rights that are lost and come back, a block by the vendor, and a
restart. Afterwards every slot of every link must be accounted for: served, passed over for a reason that was told, or
made up for after the restart.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import time_machine

from syncd.config.model import Settings
from syncd.core.guards import GuardLimits
from syncd.core.model import Direction, OnConflict, Owner, Policy, Scope
from syncd.engine import reconcile as engine
from syncd.engine.link import Link
from syncd.errors import UnavailableError
from syncd.status.fire_times import FireTimes
from tests.fakes.link import make_link
from tests.fakes.portal import FakePortal, Surprise
from tests.fakes.store import MemoryStore
from tests.fakes.table import FakeTable
from tests.unit.daemon.daemon_day import Day, handles, standing
from tests.unit.daemon.virtual_daemon import HOUR, NOON, LoopClock, cancel, until

pytestmark = pytest.mark.anyio

DAY = 24 * HOUR
SCHEDULES = {
    **{f"shop{number}": "10m" for number in range(5)},
    **{f"store{number}": "15m" for number in range(3)},
    "slow": "1h",
    "office": "*/20 8-18 * * *",
}
POLICY = Policy(Direction.TWO_WAY, OnConflict.CRM, Scope(frozenset({2})))
ORDERS = range(1, 31)


class Works:
    """The ends of all links, and the context that opens them (`syncd.wiring.AppContext`, as far as passes need it)."""

    def __init__(self, store: MemoryStore, clock: LoopClock) -> None:
        self.portals = {name: FakePortal({order: Owner(2, order) for order in ORDERS}) for name in SCHEDULES}
        self.tables = {name: FakeTable({order: Owner(2, order) for order in ORDERS}) for name in SCHEDULES}
        self.store = store
        self.clock = clock

    def calm(self) -> None:
        """No fault waits to happen any more."""
        for portal in self.portals.values():
            portal.script.clear()
            portal.listings.clear()

    @asynccontextmanager
    async def link(self, name: str, **more: Any) -> AsyncIterator[Link]:
        yield make_link(
            self.portals[name],
            self.tables[name],
            self.store,
            self.clock,
            name=name,
            fingerprint=name,
            policy=POLICY,
            limits=GuardLimits(
                max_removes_percent=20,
                max_moves_percent=50,
                max_adds_percent=100,
                max_removes_percent_per_day=100,
                max_moves_percent_per_day=100,
                second_look_above=2,
            ),
            lease_ttl=120,
            **more,
        )


async def _weather(works: Works, chance: random.Random, clock: LoopClock) -> None:
    """Outside writers and faults, every few minutes, for ever."""
    while True:
        await clock.sleep(chance.uniform(60, 600))
        name = chance.choice([name for name in SCHEDULES if name not in {"slow", "office", "store0", "store2"}])
        portal, table, order = works.portals[name], works.tables[name], chance.choice(ORDERS)
        match chance.randrange(9):
            case 0 | 1:
                portal.bind(order, Owner(2, chance.randrange(1, 99)))
            case 2 | 3:
                table.put(order, 2, chance.randrange(1, 99))
            case 4:
                portal.unbind(order)
            case 5:
                portal.script.append(chance.choice([Surprise.LOST_AFTER, Surprise.LOST_BEFORE, Surprise.NOT_SENT]))
            case 6:
                portal.listings.append(chance.choice([Surprise.INCOMPLETE, Surprise.UNAVAILABLE]))
            case 7:
                table.fail("snapshot", UnavailableError("The mapping table's database is out of reach."))
            case _:
                table.lose(applied=chance.random() < 0.5)


async def test_given_a_day_of_faults_edits_and_people_then_every_slot_is_accounted_for_and_nothing_grows(
    store: MemoryStore, clock: LoopClock, travelling: time_machine.Traveller
) -> None:
    works = Works(store, clock)
    day = Day(works, clock)
    day.start(_settings())
    weather = asyncio.create_task(_weather(works, random.Random(20261121), clock))
    people = asyncio.create_task(_people(works, clock))
    await until(11, clock)
    await day.stop()
    await until(11.4, clock)  # a restart that takes its time
    second = Day(works, clock)
    second.start(_settings())
    await until(13, clock)
    before, open_then = standing(), handles()
    await until(23, clock)
    await cancel(weather)
    works.calm()
    await until(24, clock)

    assert people.done()
    await people
    # What is left of each link's last pass may differ; hundreds of passes were made.
    grown = {name: number for name, number in (standing() - before).items() if number > 2 * len(SCHEDULES)}
    assert (grown, handles()) == ({}, open_then)
    assert (day.crashes, second.crashes, day.troubles, second.troubles) == ([], [], [], [])
    assert second.vitals.faults() == []
    await second.stop()
    skips = day.skips + second.skips
    assert await _unexplained(store, skips, down=(NOON + 11 * HOUR, NOON + 11.4 * HOUR)) == []
    assert {"parked", "paused"} <= {why for _, _, why in skips} <= {"parked", "paused", "pausing after a failure"}
    for name in SCHEDULES:
        assert works.portals[name].bindings == works.tables[name].bindings, name
    for name in SCHEDULES:  # what is told is always news: it begins where the last notice of the link ended
        told = [notice for notice in day.notices + second.notices if notice["link"] == name]
        assert all(notice["health"] != notice["before"] for notice in told)
        assert all(one["health"] == two["before"] for one, two in itertools.pairwise(told)), name
    assert [notice["health"] for notice in day.notices if notice["link"] == "store0"] == ["refused", "in-step"]
    assert works.portals["store2"].written == []  # nothing of what was being put back was ever removed
    for name, health in (("store2", "refused"), ("shop0", "parked"), ("shop1", "parked")):
        notices = [notice for notice in second.notices if notice["link"] == name]
        assert health in {notice["health"] for notice in notices}, name
        assert notices[-1]["health"] in {"in-step", "held"}, name


async def _people(works: Works, clock: LoopClock) -> None:
    """What people do that day."""
    store = works.store
    await until(3, clock)  # somebody empties most of a table; a person looks at the refused plan and applies it
    works.tables["store0"].stored = works.tables["store0"].stored[:5]
    await until(4.5, clock)
    refused = next(run for run in await store.runs("store0", 20) if run.state == "refused")
    async with works.link("store0") as link:
        assert (await engine.apply(link, refused.plan)).exit_code in {0, 3}
    await until(5, clock)
    await store.set_paused("slow", paused=True)
    await until(6, clock)  # a webhook loses its right, and gets it back
    works.portals["store1"].read_right = False
    await until(9.2, clock)
    works.portals["store1"].read_right = True
    await store.post_request("store1", "trigger", "a person", clock.now())
    await until(10, clock)
    await store.set_paused("slow", paused=False)
    await until(14, clock)  # from here on nobody tells the daemon anything
    works.portals["shop0"].read_right = False
    works.portals["shop1"].listings.extend([Surprise.BLOCKED] * 50)
    lost = works.tables["store2"].stored[5:]
    works.tables["store2"].stored = works.tables["store2"].stored[:5]
    await until(15.1, clock)
    works.tables["store2"].stored += lost[:-5]  # somebody puts rows back, slowly
    await until(15.25, clock)
    works.tables["store2"].stored += lost[-5:-3]
    await until(15.4, clock)
    works.tables["store2"].stored += lost[-3:]
    await until(16.5, clock)
    works.portals["shop0"].read_right = True
    works.portals["shop1"].listings.clear()


async def _unexplained(
    store: MemoryStore, skips: list[tuple[str, float, str]], down: tuple[float, float]
) -> list[tuple[str, float]]:
    """Return the slots (link and hour) that nobody served, passed over for a reason, or made up for."""
    began, ended = down
    found = []
    for name, link in _settings().links.items():
        assert link.schedule is not None
        slots = FireTimes(name, link.schedule)
        passes_made = [run for run in await store.runs(name, 10_000) if run.kind == "pass"]
        at = slots.after(NOON)
        while at is not None and at < NOON + DAY - 1:
            following = slots.after(at)
            assert following is not None
            served = any(at <= run.started_at < following for run in passes_made)
            passed_over = any(link_ == name and at <= when < at + 60 for link_, when, _why in skips)
            away = began - 1 <= at <= ended
            made_up = away and any(ended <= run.started_at < ended + 60 for run in passes_made)
            if not (served or passed_over or made_up):
                found.append((name, (at - NOON) / HOUR))
            at = following
    return found


def _settings() -> Settings:
    return Settings.model_validate(
        {
            "links": {
                name: {
                    "schedule": schedule,
                    "portal": {"webhook": f"https://{name}.bitrix24.com/rest/1/secretcode/"},
                    "table": {
                        "url": "sqlite:////nowhere.db",
                        "name": name,
                        "columns": {"order_id": "a", "owner_type_id": 2, "owner_id": "b"},
                    },
                }
                for name, schedule in SCHEDULES.items()
            }
        }
    )
