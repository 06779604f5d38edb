from __future__ import annotations

import pytest
from daemon_world import NOON, Daemon, LoopClock, Outcome, slot_times

from syncd.config.model import Settings
from syncd.daemon.health import Condition, Health
from syncd.daemon.line import status_line
from syncd.daemon.pulse import Pulse
from syncd.daemon.status import LinkStatus, Live, Process, link_json, look, to_json
from syncd.errors import AuthError
from tests.fakes.store import MemoryStore

pytestmark = pytest.mark.anyio

LINK = {
    "schedule": "5m",
    "portal": {"webhook": "https://example.bitrix24.com/rest/1/topsecretcode/"},
    "table": {
        "url": "sqlite:////tmp/shop.db",
        "name": "bindings",
        "columns": {"order_id": "order_id", "owner_type_id": 2, "owner_id": "deal_id"},
    },
}
SETTINGS = Settings.model_validate({"links": {"shop": LINK}})
PROCESS = Process("host:1", "running", NOON, "/etc/syncd/syncd.toml", NOON)


async def _look(store: MemoryStore, clock: LoopClock, live: Live | None = None) -> LinkStatus:
    (found,) = await look(SETTINGS, store, clock.now(), {"shop": live} if live else None)
    return found


async def test_given_a_link_never_run_then_it_waits(store: MemoryStore, clock: LoopClock):
    status = await _look(store, clock)
    assert (status.health, status.row, status.last) == (Health.WAITING, None, None)
    assert link_json(status)["last_run"] is None


async def test_given_passes_then_health_counts_and_the_last_run_are_shown(daemon: Daemon, clock: LoopClock):
    daemon.passes.always["shop"] = Outcome(holds=2)
    daemon.add()
    await clock.sleep(10)
    shown = link_json(await _look(daemon.store, clock))
    assert (shown["health"], shown["since"]) == ("held", "2027-01-15T08:00:01+00:00")
    assert shown["holds"] == {"open": 2, "oldest": "2027-01-15T08:00:01+00:00", "kinds": {"edit-edit": 2}}
    assert (shown["last_pass"]["run"], shown["last_pass"]["state"]) == (1, "applied")


async def test_given_a_paused_link_then_it_says_so_and_expects_no_run(daemon: Daemon, clock: LoopClock):
    daemon.add()
    await clock.sleep(10)
    await daemon.store.set_paused("shop", paused=True)
    status = await _look(daemon.store, clock, Live(Condition(Health.IN_STEP), next_run=NOON + 300))
    assert (status.health, status.condition.health, status.next_run) == (Health.PAUSED, Health.IN_STEP, None)


async def test_given_a_parked_link_then_it_says_when_it_is_looked_at_next(daemon: Daemon, clock: LoopClock):
    daemon.passes.always["shop"] = Outcome("failed", error=AuthError("No right."), seconds=0)
    daemon.add()
    await clock.sleep(10)
    status = await _look(daemon.store, clock, Live(daemon.runners["shop"].condition, next_run=NOON + 300))
    assert (status.health, status.next_run) == (Health.PARKED, pytest.approx(NOON + 300, abs=1))
    assert status.look_at == status.next_run
    assert link_json(status)["parked"] == "auth: No right."


async def test_given_a_refused_plan_then_its_next_look_is_at_the_slot_a_quarter_of_an_hour_on(
    daemon: Daemon, clock: LoopClock
):
    daemon.passes.always["shop"] = Outcome("refused", guards=("max_removes",))
    daemon.add()
    await clock.sleep(10)
    status = await _look(daemon.store, clock)
    assert status.look_at == status.next_run == NOON + next(at for at in slot_times("shop", "5m", 1800) if at > 840)


async def test_given_looks_at_a_refused_plan_then_the_condition_names_the_run_that_holds_it(
    daemon: Daemon, clock: LoopClock
):
    daemon.passes.always["shop"] = Outcome("refused", guards=("max_removes",), holds_plan=1)
    runner = daemon.add()
    await clock.sleep(3600)
    assert len(daemon.passes.made) > 3
    assert runner.condition.run == (await _look(daemon.store, clock)).condition.run == 1


async def test_given_a_lease_held_elsewhere_then_this_daemon_stands_by(daemon: Daemon, clock: LoopClock):
    daemon.passes.always["shop"] = Outcome(seconds=60)
    daemon.add()
    await clock.sleep(10)
    elsewhere = Live(Condition(Health.IN_STEP))
    assert (await _look(daemon.store, clock, elsewhere)).health is Health.STANDBY
    assert (await _look(daemon.store, clock)).health is Health.WORKING
    shown = link_json(await _look(daemon.store, clock, elsewhere))
    assert (shown["lease"]["holder"], shown["lease"]["fence"]) == ("host:1", 1)


async def test_given_a_pass_at_work_here_then_its_progress_is_shown(store: MemoryStore, clock: LoopClock):
    pulse = Pulse(clock)
    pulse.progress("listing the portal", 4500, 10000)
    shown = link_json(await _look(store, clock, Live(Condition(Health.IN_STEP), working=pulse)))
    assert (shown["health"], shown["working"]["stage"], shown["working"]["done"]) == (
        "working",
        "listing the portal",
        4500,
    )


async def test_given_everything_then_no_secret_is_shown(daemon: Daemon, clock: LoopClock):
    daemon.add()
    await clock.sleep(10)
    shown = to_json(PROCESS, await look(SETTINGS, daemon.store, clock.now()), clock)
    assert "topsecretcode" not in str(shown)
    assert shown["process"] == {"holder": "host:1", "phase": "running", "started_at": "2027-01-15T08:00:00+00:00"}
    assert shown["links"][0]["portal"]["address"] == "example.bitrix24.com"


async def test_given_a_daemon_then_its_line_names_phase_last_run_next_run_and_holds(daemon: Daemon, clock: LoopClock):
    daemon.passes.always["shop"] = Outcome(holds=1)
    runner = daemon.add()
    await clock.sleep(10)
    lives = {"shop": Live(runner.condition, next_run=NOON + 300, last=runner.last)}
    assert status_line(PROCESS, lives) == (
        "running: 1 link, 1 held; last run 1 of shop at 08:00:01 UTC applied; next run at 08:05:00 UTC; 1 order held"
    )


async def test_given_a_pass_at_work_and_a_bad_reload_then_the_line_says_both(clock: LoopClock):
    pulse = Pulse(clock)
    pulse.progress("listing the portal", 4500, 10000)
    lives = {
        "shop": Live(Condition(Health.IN_STEP), working=pulse),
        "other": Live(Condition(Health.FAILING), standby=True),
    }
    process = PROCESS.but(config_error="links.shop.schedule: must be an interval")
    assert status_line(process, lives) == (
        "running: 2 links, 1 in step, 1 standby; at work on shop: listing the portal 4500 of 10000; 0 orders held; "
        "reload failed, old configuration kept: links.shop.schedule: must be an interval"
    )


async def test_given_keys_that_need_a_restart_then_the_line_names_them():
    line = status_line(PROCESS.but(restart=("web.listen",)), {})
    assert line == "running: no links; 0 orders held; restart needed for web.listen"
