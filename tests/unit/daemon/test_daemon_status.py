"""The status of a link while a daemon runs it."""

from __future__ import annotations

import pytest

from syncd.core.records import Reached
from syncd.daemon.lifecycle import Process
from syncd.daemon.web import status_json
from syncd.errors import AuthError
from syncd.status.health import Health, LinkHealth
from syncd.status.links import LinkStatus, link_json, link_statuses
from tests.fakes.settings import settings
from tests.fakes.store import MemoryStore
from tests.unit.daemon.virtual_daemon import NOON, Daemon, LoopClock, Outcome, slot_times

pytestmark = pytest.mark.anyio

SHOP = settings()

PROCESS = Process("host:1", "running", NOON, "/etc/syncd/syncd.toml", NOON)


async def _look(store: MemoryStore, clock: LoopClock, known: LinkHealth | None = None) -> LinkStatus:
    (found,) = await link_statuses(SHOP, store, clock.now(), {"shop": known} if known else None)
    return found


async def test_given_a_link_never_run_then_it_is_new(store: MemoryStore, clock: LoopClock) -> None:
    status = await _look(store, clock)
    assert (status.health, status.row, status.last) == (Health.NEW, None, None)
    assert link_json(status)["last_run"] is None


async def test_given_passes_then_health_counts_and_the_last_run_are_shown(daemon: Daemon, clock: LoopClock) -> None:
    daemon.passes.always["shop"] = Outcome(holds=2)
    daemon.add()
    await clock.sleep(10)
    shown = link_json(await _look(daemon.store, clock))
    assert (shown["health"], shown["since"]) == ("held", "2027-01-15T08:00:01+00:00")
    assert shown["holds"] == 2
    assert shown["held"] == {"oldest": "2027-01-15T08:00:01+00:00", "kinds": {"edit-edit": 2}}
    assert (shown["last_pass"]["run"], shown["last_pass"]["state"]) == (1, "applied")


async def test_given_a_paused_link_then_it_says_so_and_expects_no_run(daemon: Daemon, clock: LoopClock) -> None:
    daemon.add()
    await clock.sleep(10)
    await daemon.store.set_paused("shop", paused=True)
    status = await _look(daemon.store, clock)
    assert (status.health, status.condition.health, status.next_run) == (Health.PAUSED, Health.IN_STEP, None)


async def test_given_a_parked_link_then_it_says_when_it_is_looked_at_next(daemon: Daemon, clock: LoopClock) -> None:
    daemon.passes.always["shop"] = Outcome("failed", error=AuthError("No right."), seconds=0)
    daemon.add()
    await clock.sleep(10)
    status = await _look(daemon.store, clock, daemon.runners["shop"].condition)
    assert status.health is Health.PARKED
    assert status.next_run == pytest.approx(NOON + 300, abs=1)
    assert link_json(status)["parked"] == "auth: No right."


async def test_given_a_refused_plan_then_its_next_look_is_at_the_slot_a_quarter_of_an_hour_on(
    daemon: Daemon, clock: LoopClock
) -> None:
    daemon.passes.always["shop"] = Outcome("refused", guards=("max_removes",))
    daemon.add()
    await clock.sleep(10)
    status = await _look(daemon.store, clock)
    assert status.next_run == NOON + next(at for at in slot_times("shop", "5m", 1800) if at > 840)


async def test_given_looks_at_a_refused_plan_then_the_condition_names_the_run_that_holds_it(
    daemon: Daemon, clock: LoopClock
) -> None:
    daemon.passes.always["shop"] = Outcome("refused", guards=("max_removes",), holds_plan=1)
    runner = daemon.add()
    await clock.sleep(3600)
    assert len(daemon.passes.made) > 3
    assert runner.condition.run == (await _look(daemon.store, clock)).condition.run == 1


async def test_given_a_lease_then_the_link_works_and_its_holder_and_progress_are_named(
    daemon: Daemon, clock: LoopClock
) -> None:
    lease = await daemon.store.acquire(await daemon.store.link("shop", "ends"), "other:9", 60, clock.now())
    await daemon.store.renew(lease, 60, clock.now(), Reached("apply", 4500, 10000))
    status = await _look(daemon.store, clock)
    shown = link_json(status)
    assert (shown["health"], shown["lease"]["holder"], shown["lease"]["fence"]) == ("working", "other:9", 1)
    assert shown["lease"]["progress"] == {"stage": "apply", "done": 4500, "expected": 10000}


async def test_given_everything_then_no_secret_is_shown(daemon: Daemon, clock: LoopClock) -> None:
    daemon.add()
    await clock.sleep(10)
    shown = status_json(PROCESS, await link_statuses(SHOP, daemon.store, clock.now()), clock.now())
    assert "topsecretcode" not in str(shown)
    assert shown["process"]["holder"] == "host:1"
    assert shown["links"][0]["portal"]["address"] == "example.bitrix24.com"
