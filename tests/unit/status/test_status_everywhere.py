"""`syncd status --json` and `/status.json` say the same of a link in every health, and so do page, metrics and check."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from syncd.config.load import load
from syncd.core.model import Counts, Facts, Hold, HoldKind
from syncd.core.records import GuardHit, Lease, Pause, Reached, RunRow, StoredHold
from syncd.core.store import Store
from syncd.daemon.alerts import Alerts
from syncd.daemon.lifecycle import Process
from syncd.daemon.meters import MetricsObserver
from syncd.daemon.pages import routes
from syncd.daemon.runner_context import PassLimiter, RunnerContext, pass_runner
from syncd.daemon.schedule import LinkScheduler
from syncd.daemon.supervisor import Supervisor
from syncd.daemon.systemd import Liveness
from syncd.daemon.triggers import RequestPoller
from syncd.daemon.web import WebViews
from syncd.obs.metrics import Metrics
from syncd.state import migrate
from syncd.state.store import open_store
from syncd.status.health import Health
from syncd.status.owners import Titles
from syncd.wiring import AppContext, open_app_context
from tests.fakes.clock import SetClock
from tests.loaded_python import LoadedPython
from tests.system.shop import environment

pytestmark = pytest.mark.anyio

NOW = 1_800_000_000.0
CONFIG = """
[state]
url = "sqlite:///{folder}/state.db"
[links.shop]
schedule = "5m"
portal.webhook = "https://example.bitrix24.com/rest/1/topsecretcode/"
[links.shop.table]
url = "sqlite:///{folder}/table.db"
name = "bindings"
columns = {{ order_id = "order_id", owner_type_id = 2, owner_id = "deal_id" }}
"""


class Past:
    """Writes the past of one link into a real state database, counted back from `NOW`."""

    def __init__(self, context: AppContext) -> None:
        self.store: Store = context.store
        self.url = context.settings.state.url.get_secret_value()
        self.now = NOW

    async def lease(self) -> Lease:
        return await self.store.acquire(await self.store.link("shop", "ends"), "host:1", 600, self.now)

    async def run(self, state: str = "applied", *, ago: float = 3.0, error: str = "", **more: Any) -> Lease:
        lease = await self.lease()
        number = await self.store.start_run(lease, "pass", "schedule", self.now - ago)
        row = RunRow(number, "shop", lease.link_id, "pass", state, "schedule", started_at=self.now - ago)
        row.finished_at, row.error, row.counts = self.now - ago + 1, error, Counts(in_step=940, crm_rows=940)
        for name, value in more.items():
            setattr(row, name, value)
        await self.store.finish_run(lease, row)
        return lease

    async def new(self) -> None:
        return

    async def in_step(self) -> None:
        await self.store.release(await self.run())

    async def working(self) -> None:
        lease = await self.run()
        await self.store.renew(lease, 600, self.now, Reached("apply", 45, 100))

    async def held(self) -> None:
        lease = await self.run(counts=Counts(in_step=939, holds=1))
        hold = Hold(5, HoldKind.EDIT_EDIT, Facts(None, None, None), "Both changed it.", since=self.now - 60)
        await self.store.set_holds(lease, 1, opened=[StoredHold(hold, sticky=False)], released=[], now=self.now)
        await self.store.release(lease)

    async def refused(self) -> None:
        lease = await self.run("refused", error="too much", guards=[GuardHit("max_removes", None, 1, 2)])
        await self.store.set_parked(lease, "refused: too much")
        await self.store.release(lease)

    async def parked(self) -> None:
        lease = await self.run("failed", error="No right.")
        await self.store.set_parked(lease, "auth: No right.")
        await self.store.release(lease)

    async def failing(self) -> None:
        await self.store.release(await self.run(ago=60))
        await self.store.release(await self.run("failed", error="down", counts=Counts()))

    async def late(self) -> None:
        long_ago = open_store(self.url, clock=SetClock(self.now - 86400))
        await long_ago.link("shop", "ends")
        await long_ago.aclose()
        await self.store.release(await self.run(ago=7200))

    async def paused(self) -> None:
        await self.store.release(await self.run())
        pause = Pause("anna@ops", self.now - 60, self.now + 3600, "reload")
        await self.store.set_paused("shop", paused=True, pause=pause)


PASTS: dict[Health, Callable[[Past], Awaitable[None]]] = {
    Health.NEW: Past.new,
    Health.IN_STEP: Past.in_step,
    Health.WORKING: Past.working,
    Health.HELD: Past.held,
    Health.REFUSED: Past.refused,
    Health.PARKED: Past.parked,
    Health.FAILING: Past.failing,
    Health.LATE: Past.late,
    Health.PAUSED: Past.paused,
}
WELL = {Health.IN_STEP, Health.WORKING, Health.PAUSED}


@pytest.fixture(scope="module")
def empty_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("state") / "state.db"
    migrate.upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture
async def context(tmp_path: Path, empty_state: Path) -> AsyncIterator[AppContext]:
    shutil.copy(empty_state, tmp_path / "state.db")
    config = tmp_path / "syncd.toml"
    config.write_text(CONFIG.format(folder=tmp_path))
    async with open_app_context(load(config, {}, {}).settings, clock=SetClock(NOW)) as opened:
        yield opened


def served(context: AppContext) -> Any:
    """What a daemon over this state database serves."""
    clock, store, metrics = context.clock, context.store, Metrics(process=False)
    meters = MetricsObserver(metrics, Alerts(clock, lambda _way, _outcome: None), store, clock)
    runner_context = RunnerContext(
        store, clock, "host:1", pass_runner(context), PassLimiter(16), meters, prune=store.prune
    )
    scheduler = LinkScheduler(clock, lambda _link: None, lambda _link, _kind: None)
    supervisor = Supervisor(runner_context, scheduler, lambda _error: None)
    process = Process("host:1", "running", clock.now(), "syncd.toml", clock.now())
    views = WebViews(
        context=context,
        titles=Titles(lambda: context.settings, store, clock, context.portal),
        supervisor=supervisor,
        meters=meters,
        liveness=Liveness(clock, scheduler, supervisor.passes, metrics.lag.set),
        poller=RequestPoller(store, clock, lambda: (), lambda _link, _who: None),
        process=lambda: process,
    )
    return views.application(routes(views))


COMMANDS = (["status", "--json"], ["status"], ["status", "--check"])
TYPE = f"""
import sys
from syncd.cli.main import main
from syncd.obs.clock import SystemClock
SystemClock.now = lambda _clock: {NOW}
for words in {COMMANDS}:
    print(chr(0), main(sys.argv[1:] + words), chr(0))
"""
"""A terminal whose clock stands where the daemon's does: a link at work has its next pass at the first fire time from now
on, and one may come while a slow process starts."""


async def typed(folder: Path) -> list[tuple[int, str]]:
    """What each of `COMMANDS` prints in a process of its own at `NOW`, and its exit code."""
    flags = ["--config", str(folder / "syncd.toml"), "--log-level", "error"]
    with LoadedPython(["-c", TYPE, *flags], env=environment(), stdout=subprocess.PIPE) as done:
        out, _ = await asyncio.to_thread(done.communicate, timeout=60)
    parts = out.split(chr(0))
    return [(int(code), text) for text, code in zip(parts[0::2], parts[1::2], strict=False)]


def test_every_health_has_a_past() -> None:
    assert set(PASTS) == set(Health)


@pytest.mark.parametrize("health", Health)
async def test_given_a_health_then_terminal_web_page_metrics_and_check_agree(
    health: Health, context: AppContext, tmp_path: Path
) -> None:
    await PASTS[health](Past(context))
    transport = httpx.ASGITransport(app=served(context))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as web:
        document = (await web.get("/status.json")).json()
        page = (await web.get("/")).text
        metrics = (await web.get("/metrics")).text
    (code, told), (_, shown), (checked, line) = await typed(tmp_path)
    assert document["links"][0]["health"] == health.value
    assert json.loads(told) == document["links"]
    assert f"</span>{health.words}</span>" in page
    assert f'syncd_link_health{{health="{health.value}",link="shop"}} 1.0' in metrics
    assert f" {health.words} " in shown
    assert (code, checked) == (0, 0 if health in WELL else 3)
    assert line.strip().startswith(f"shop: {health.words};")
    assert line.strip().count("\n") == 0


async def test_given_a_failed_pass_then_metrics_show_the_last_known_numbers(context: AppContext) -> None:
    await PASTS[Health.FAILING](Past(context))
    transport = httpx.ASGITransport(app=served(context))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as web:
        metrics = (await web.get("/metrics")).text
    assert 'syncd_in_step_bindings{link="shop"} 940.0' in metrics
