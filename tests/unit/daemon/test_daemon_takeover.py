"""Several daemons that look after the same links."""

from __future__ import annotations

import asyncio

import pytest

from syncd.status.health import Health
from tests.fakes.store import MemoryStore
from tests.unit.daemon.virtual_daemon import Daemon, LoopClock, Outcome, kill_hard, slot_times

pytestmark = pytest.mark.anyio

REFUSED = Outcome("refused", guards=("max_removes",), seconds=0)
SLOTS = slot_times("shop", "5m", 7200)


class TestSeveralDaemons:
    async def test_given_two_daemons_then_no_slot_is_served_twice(self, store: MemoryStore, clock: LoopClock) -> None:
        daemons = [Daemon(store, clock, f"host:{number}") for number in (1, 2)]
        names = [f"link{number}" for number in range(10)]
        for daemon in daemons:
            for name in names:
                daemon.passes.always[name] = Outcome(seconds=0.3)
                daemon.add(name)
        await clock.sleep(3600)
        for name in names:
            times = sorted(daemons[0].passes.times(name) + daemons[1].passes.times(name))
            assert len(times) == 1 + len([at for at in slot_times(name, "5m", 3600) if at > 2])
        shares = [len(daemon.passes.made) for daemon in daemons]
        assert min(shares) > sum(shares) / 5
        for daemon in daemons:
            await daemon.kill()

    async def test_given_a_daemon_killed_in_a_pass_then_another_takes_the_link_over_within_seconds(
        self, store: MemoryStore, clock: LoopClock
    ) -> None:
        dying, other = Daemon(store, clock, "host:1"), Daemon(store, clock, "host:2")
        dying.passes.always["shop"] = Outcome(seconds=100)
        dying.add()
        await clock.sleep(1)
        other.add()
        await clock.sleep(20)
        assert other.runners["shop"].standby
        await kill_hard(dying, "host:1")
        await clock.sleep(5)
        assert 20 <= other.passes.times()[0] <= 26
        await other.kill()

    async def test_given_a_pass_at_work_elsewhere_when_it_ends_well_then_standby_ends_without_another(
        self, store: MemoryStore, clock: LoopClock
    ) -> None:
        working, other = Daemon(store, clock, "host:1"), Daemon(store, clock, "host:2")
        working.passes.always["shop"] = Outcome(seconds=50)
        working.add()
        await clock.sleep(1)
        other.add()
        await clock.sleep(60)
        assert (other.passes.made, other.runners["shop"].standby) == ([], False)
        assert other.runners["shop"].condition.health is Health.IN_STEP
        await asyncio.gather(working.kill(), other.kill())

    async def test_given_a_trigger_taken_by_a_standby_daemon_then_it_is_served_when_the_lease_is_free(
        self, store: MemoryStore, clock: LoopClock
    ) -> None:
        working, other = Daemon(store, clock, "host:1"), Daemon(store, clock, "host:2")
        working.passes.outcomes["shop"].append(Outcome(seconds=50))
        working.add()
        await clock.sleep(1)
        other.add(start=False)
        await other.trigger()
        await clock.sleep(60)
        assert [origin for _, _, origin in other.passes.made] == ["trigger"]
        await asyncio.gather(working.kill(), other.kill())

    async def test_given_two_daemons_when_one_parks_a_link_then_the_other_rests_too(
        self, store: MemoryStore, clock: LoopClock
    ) -> None:
        one, other = Daemon(store, clock, "host:1"), Daemon(store, clock, "host:2")
        other.add(start=False)
        one.passes.always["shop"] = REFUSED
        one.add()
        await clock.sleep(800)
        assert other.passes.made == []
        assert set(other.watcher.skips) == {("shop", "parked")}
        await asyncio.gather(one.kill(), other.kill())

    async def test_given_another_daemon_made_a_pass_then_the_observer_of_this_one_learns_of_it(
        self, store: MemoryStore, clock: LoopClock
    ) -> None:
        one, other = Daemon(store, clock, "host:1"), Daemon(store, clock, "host:2")
        other.add()
        await clock.sleep(5)
        one.add(start=False)
        await one.trigger()
        await clock.sleep(SLOTS[1])
        assert other.watcher.overtakings[0] == "shop"
        await asyncio.gather(one.kill(), other.kill())
