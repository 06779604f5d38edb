"""Twenty-four hours of a daemon in virtual time, with everything real that can grow: what it keeps open and in memory.

Ten links over sandbox portals, SQLite mapping tables and an SQLite state database; programs that edit both sides, a
portal that breaks in every way it knows, a webhook that is revoked and made anew. From the morning on neither open files
nor threads nor memory grow, and nothing that a portal's failure leaves behind is left over in the evening.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
import time_machine

from syncd.config.model import Settings
from syncd.daemon import systemd, triggers
from syncd.portal.hosts import Hosts
from syncd.sandbox import Fault, FaultRule, Faults, SandboxPortal
from syncd.state import migrate
from syncd.state.store import open_store
from syncd.wiring import AppContext
from tests.fakes.sandbox_transport import SandboxTransport
from tests.unit.daemon.daemon_day import Day, handles
from tests.unit.daemon.virtual_daemon import LoopClock, cancel, until

pytestmark = pytest.mark.anyio

NAMES = [f"shop{number}" for number in range(10)]
ORDERS = range(1, 201)
MORNING, EVENING = 6, 24
ROOM = 3 * 1024 * 1024
"""Bytes of memory by which a process may come to have more, for what is only given back now and then."""
BREAKING = (
    FaultRule(Fault.DROP, when="before"),
    FaultRule(Fault.DROP, when="after", method="crm.orderentity.*"),
    FaultRule(Fault.ZOMBIE, seconds=20, method="crm.orderentity.add"),
    FaultRule(Fault.STATUS, status=503, code="QUERY_LIMIT_EXCEEDED"),
    FaultRule(Fault.STATUS, status=500, body="html"),
    FaultRule(Fault.TRUNCATE),
    FaultRule(Fault.HTML),
    FaultRule(Fault.SHORT, times=None),
    FaultRule(Fault.LOSE_KEY, times=3),
    FaultRule(Fault.STATUS, status=500, times=60),
)


class Doors(httpx.AsyncBaseTransport):
    """The way to ten portals, by their hosts' names."""

    def __init__(self, portals: dict[str, SandboxPortal]) -> None:
        self._behind = {f"{name}.bitrix24.com": SandboxTransport(portal) for name, portal in portals.items()}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self._behind[request.url.host].handle_async_request(request)


class Ground:
    """Portals, tables and the context of a daemon over them."""

    def __init__(self, directory: Path, clock: LoopClock) -> None:
        self._directory = directory
        self.portals = {name: SandboxPortal(orders=ORDERS, clock=clock) for name in NAMES}
        for name, portal in self.portals.items():
            with closing(sqlite3.connect(self._file(name))) as table, table:
                table.execute("CREATE TABLE bindings (order_id INTEGER PRIMARY KEY, deal_id INTEGER)")
                table.executemany("INSERT INTO bindings VALUES (?, ?)", [(order, order) for order in ORDERS])
            for order in ORDERS:
                portal.bind(order, 2, order)
        url = f"sqlite:///{directory / 'state.db'}"
        migrate.upgrade(url)
        hosts = Hosts(clock, runtime_dir=directory / "run", transport=Doors(self.portals))
        self.place = AppContext(self.settings(), clock, open_store(url, clock=clock), "host:1", hosts)

    def settings(self) -> Settings:
        links = {
            name: {
                "schedule": "1h",
                "on_conflict": "crm",
                "first_sync": "auto",
                "portal": {"webhook": f"https://{name}.bitrix24.com{portal.webhook_path}", "plan": "box"},
                "table": {
                    "url": f"sqlite:///{self._file(name)}",
                    "name": "bindings",
                    "columns": {"order_id": "order_id", "owner_type_id": 2, "owner_id": "deal_id"},
                },
            }
            for name, portal in self.portals.items()
        }
        return Settings.model_validate({"links": links})

    def edit(self, name: str, chance: random.Random) -> None:
        """Somebody edits an order on one side."""
        order, deal = chance.choice(ORDERS), chance.randrange(1, 999)
        match chance.randrange(4):
            case 0:
                self.portals[name].bind(order, 2, deal)
            case 1:
                self.portals[name].unbind(order)
            case 2:
                self._sql(name, "INSERT OR REPLACE INTO bindings VALUES (?, ?)", order, deal)
            case _:
                self._sql(name, "DELETE FROM bindings WHERE order_id = ?", order)

    def differences(self) -> list[str]:
        """Return the links whose two sides are not the same."""
        return [name for name in NAMES if self._table(name) != self._crm(name)]

    def _crm(self, name: str) -> dict[int, int]:
        return {order: deal for order, (_type, deal) in self.portals[name].bindings.items()}

    def _table(self, name: str) -> dict[int, int]:
        with closing(sqlite3.connect(self._file(name))) as table:
            return dict(table.execute("SELECT order_id, deal_id FROM bindings").fetchall())

    def _sql(self, name: str, statement: str, *values: int) -> None:
        with closing(sqlite3.connect(self._file(name))) as table, table:
            table.execute(statement, values)

    def _file(self, name: str) -> Path:
        return self._directory / f"{name}.db"


@pytest.fixture
async def ground(tmp_path: Path, clock: LoopClock) -> AsyncIterator[Ground]:
    made = Ground(tmp_path, clock)
    yield made
    await made.place.store.aclose()


def _resident() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def _weather(ground: Ground, chance: random.Random, clock: LoopClock) -> None:
    while True:
        await clock.sleep(chance.uniform(60, 600))
        name = chance.choice(NAMES)
        ground.edit(name, chance)
        if chance.random() < 0.4:
            ground.portals[chance.choice(NAMES)].faults = Faults([chance.choice(BREAKING)], seed=chance.randrange(99))


async def _revoke(ground: Ground, clock: LoopClock) -> None:
    """A webhook is revoked for two hours of the morning, and again of the afternoon."""
    for hour in (3, 15):
        await until(hour, clock)
        right, ground.portals["shop9"].code = ground.portals["shop9"].code, "another"
        await until(hour + 2, clock)
        ground.portals["shop9"].code = right


class Measure(NamedTuple):
    """What a process has open and in memory while no pass is at work: files, threads, bytes."""

    files: int
    threads: int
    memory: int


async def _measured(day: Day, clock: LoopClock) -> Measure:
    while list(day.fleet.passes()):
        await clock.sleep(1)
    return Measure(handles(), threading.active_count(), _resident())


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="open files and memory are read from /proc")
async def test_given_a_day_of_real_files_faults_and_edits_then_neither_handles_nor_threads_nor_memory_grow(
    ground: Ground, clock: LoopClock, travelling: time_machine.Traveller, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is done every second of a day that lasts some seconds would be most of the work.
    monkeypatch.setattr(triggers, "EVERY", 60)
    monkeypatch.setattr(systemd, "TICK", 20)
    day = Day(ground.place, clock)
    day.start(ground.settings())
    others = [
        asyncio.create_task(_weather(ground, random.Random(20261121), clock)),
        asyncio.create_task(_revoke(ground, clock)),
    ]
    measures = []
    for hour in range(MORNING, EVENING, 2):
        await until(hour, clock)
        measures.append(await _measured(day, clock))
    await cancel(*others)
    for portal in ground.portals.values():
        portal.faults = Faults()
    await until(EVENING + 2, clock)
    measures.append(await _measured(day, clock))

    early, late = measures[: len(measures) // 2], measures[len(measures) // 2 :]
    assert max(one.files for one in late) <= max(one.files for one in early)
    assert max(one.threads for one in late) <= max(one.threads for one in early)
    assert late[-1].memory - early[0].memory < ROOM
    assert (day.crashes, day.troubles, day.vitals.faults(), ground.differences()) == ([], [], [], [])
    runs = {name: await ground.place.store.runs(name, 1000) for name in NAMES}
    assert all(len(made) >= EVENING for made in runs.values())
    states = {run.state for made in runs.values() for run in made}
    assert {"applied", "failed", "incomplete"} <= states
    turned_away = [
        notice["health"] for notice in day.notices if notice["link"] == "shop9" and "parked" in notice.values()
    ]
    assert turned_away.count("parked") == 2
    await day.stop()
