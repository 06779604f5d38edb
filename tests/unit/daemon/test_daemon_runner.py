"""When a link's passes are made: by its schedule, on request, after a failure; and how they end when it stops."""

from __future__ import annotations

import itertools
from collections.abc import MutableMapping
from typing import Any

import pytest

from syncd.core.order_ranges import OrderRanges
from syncd.core.records import LinkRow
from syncd.daemon.triggers import Task, Trigger
from syncd.engine.covering import Portion
from syncd.errors import StateUnavailable, UnavailableError
from syncd.status.health import Health
from tests.fakes.store import MemoryStore
from tests.unit.daemon.virtual_daemon import NOON, OK, Daemon, LoopClock, Outcome, kill_hard, rounded, slot_times

pytestmark = pytest.mark.anyio

DOWN = Outcome("failed", error=UnavailableError("The portal cannot be reached."), seconds=0)
REFUSED = Outcome("refused", guards=("max_removes",), seconds=0)
SLOTS = slot_times("shop", "5m", 7200)


class TestSchedule:
    async def test_given_a_link_never_run_when_the_daemon_starts_then_its_pass_is_made_at_once(
        self, daemon: Daemon
    ) -> None:
        daemon.add()
        await daemon.clock.sleep(1)
        assert rounded(daemon.passes.times()) == [0]

    async def test_given_an_interval_then_one_pass_is_made_at_each_slot(self, daemon: Daemon) -> None:
        daemon.add()
        await daemon.clock.sleep(SLOTS[3] + 1)
        assert rounded(daemon.passes.times()) == [0, *rounded(SLOTS[:4])]

    async def test_given_a_cron_expression_then_passes_are_made_when_it_says(self, daemon: Daemon) -> None:
        daemon.add(schedule="30 * * * *")
        await daemon.clock.sleep(3 * 3600)
        assert [int((NOON + at) // 60 % 60) for at in daemon.passes.times()[1:]] == [30, 30, 30]

    async def test_given_passes_longer_than_the_interval_then_it_is_said_once_until_one_is_not(
        self, daemon: Daemon, told: list[MutableMapping[str, Any]]
    ) -> None:
        daemon.passes.outcomes["shop"].extend([Outcome(seconds=seconds) for seconds in (400, 400, 1, 400)])
        daemon.add()
        await daemon.clock.sleep(3600)
        late = [event for event in told if event["event"] == "schedule cannot be kept"]
        assert [(one["log_level"], one["seconds"], one["every"]) for one in late] == [("warning", 400, 300)] * 2
        assert "syncd check shop" in late[0]["hint"]

    async def test_given_a_first_sync_longer_than_the_interval_then_the_schedule_can_be_kept(
        self, daemon: Daemon, told: list[MutableMapping[str, Any]]
    ) -> None:
        daemon.passes.outcomes["shop"].append(Outcome(seconds=400, first_sync=True))
        daemon.add()
        await daemon.clock.sleep(3600)
        assert "schedule cannot be kept" not in {event["event"] for event in told}

    async def test_given_no_schedule_then_no_pass_is_made_unasked(self, daemon: Daemon) -> None:
        daemon.add(schedule=None)
        await daemon.clock.sleep(86400)
        assert daemon.passes.tried == 0

    async def test_given_a_slot_missed_while_no_daemon_was_up_when_one_starts_then_one_pass_makes_up_for_it(
        self, daemon: Daemon
    ) -> None:
        daemon.add()
        await daemon.clock.sleep(10)
        await daemon.kill()
        await daemon.clock.sleep(SLOTS[3] + 20)
        later = Daemon(daemon.store, daemon.clock)
        later.add()
        await daemon.clock.sleep(5)
        assert rounded(later.passes.times()) == [round(SLOTS[3] + 30)]
        await later.kill()

    async def test_given_no_slot_missed_when_a_daemon_starts_then_it_waits_for_the_next(self, daemon: Daemon) -> None:
        daemon.add()
        await daemon.clock.sleep(10)
        await daemon.kill()
        later = Daemon(daemon.store, daemon.clock)
        later.add()
        await daemon.clock.sleep(SLOTS[0] - 15)
        assert later.passes.made == []
        await later.kill()

    async def test_given_slots_that_come_during_a_long_pass_then_one_pass_follows_it(self, daemon: Daemon) -> None:
        daemon.passes.outcomes["shop"].append(Outcome(seconds=SLOTS[2] + 100))
        daemon.add()
        await daemon.clock.sleep(SLOTS[3] - 10)
        assert rounded(daemon.passes.times()) == [0, round(SLOTS[2] + 100)]

    async def test_given_several_links_then_their_passes_are_made_side_by_side(self, daemon: Daemon) -> None:
        for name in "abcd":
            daemon.passes.always[name] = Outcome(seconds=60)
            daemon.add(name, "1h")
        await daemon.clock.sleep(5)
        assert sorted(name for name, _, _ in daemon.passes.made) == list("abcd")

    async def test_given_more_links_than_places_then_the_others_wait_their_turn(
        self, store: MemoryStore, clock: LoopClock
    ) -> None:
        daemon = Daemon(store, clock, places=2)
        for name in "abc":
            daemon.passes.always[name] = Outcome(seconds=60)
            daemon.add(name, "1h")
        await clock.sleep(30)
        assert len(daemon.passes.made) == 2
        await clock.sleep(60)
        assert len(daemon.passes.made) == 3
        await daemon.kill()


class TestAsking:
    async def test_given_a_trigger_then_a_pass_is_made_at_once(self, daemon: Daemon) -> None:
        daemon.add()
        await daemon.clock.sleep(100)
        await daemon.trigger()
        await daemon.clock.sleep(1)
        assert daemon.passes.made[-1] == ("shop", NOON + 100, "trigger")

    async def test_given_three_triggers_at_once_then_one_pass_serves_them(self, daemon: Daemon) -> None:
        daemon.add()
        await daemon.clock.sleep(100)
        for _ in range(3):
            await daemon.trigger()
        await daemon.clock.sleep(10)
        assert rounded(daemon.passes.times()) == [0, 100]

    async def test_given_a_trigger_during_a_pass_then_another_pass_follows(self, daemon: Daemon) -> None:
        daemon.passes.outcomes["shop"].append(Outcome(seconds=60))
        daemon.add()
        await daemon.clock.sleep(30)
        await daemon.trigger()
        await daemon.clock.sleep(60)
        assert rounded(daemon.passes.times()) == [0, 60]

    async def test_given_a_paused_link_then_slots_pass_and_a_trigger_is_still_served(self, daemon: Daemon) -> None:
        daemon.add()
        await daemon.clock.sleep(5)
        await daemon.store.set_paused("shop", paused=True)
        await daemon.clock.sleep(SLOTS[1])
        assert daemon.watcher.skips == [("shop", "paused")] * 2
        await daemon.trigger()
        await daemon.clock.sleep(1)
        assert len(daemon.passes.made) == 2

    async def test_given_a_paused_link_when_it_is_resumed_then_the_next_slot_is_served(self, daemon: Daemon) -> None:
        daemon.add()
        await daemon.clock.sleep(5)
        await daemon.store.set_paused("shop", paused=True)
        await daemon.clock.sleep(SLOTS[1])
        await daemon.store.set_paused("shop", paused=False)
        await daemon.clock.sleep(SLOTS[2] - SLOTS[1])
        assert rounded(daemon.passes.times()) == [0, round(SLOTS[2])]


class TestTriggers:
    """A request stays open until a pass that began after it has ended, even if the daemon that noticed it dies."""

    async def ask(self, store: MemoryStore, clock: LoopClock) -> None:
        await store.post_request("shop", "trigger", "anna@host", clock.now())

    async def test_given_a_daemon_killed_in_the_pass_it_made_for_a_trigger_then_another_makes_it(
        self, store: MemoryStore, clock: LoopClock
    ) -> None:
        dying, other = Daemon(store, clock, "host:1"), Daemon(store, clock, "host:2")
        dying.passes.always["shop"] = Outcome(seconds=100)
        dying.add(schedule=None)
        dying.listen()
        await self.ask(store, clock)
        await clock.sleep(20)
        assert len(dying.passes.made) == 1
        await kill_hard(dying, "host:1")
        other.add(schedule=None)
        other.listen()
        await clock.sleep(60)
        assert [origin for _, _, origin in other.passes.made] == ["trigger"]
        await other.kill()

    async def test_given_requests_about_orders_then_one_pass_covers_these_and_serves_them(self, daemon: Daemon) -> None:
        daemon.add()
        daemon.listen()
        await daemon.clock.sleep(5)
        for text in ("5", "7-9"):
            await daemon.store.post_request("shop", "trigger", "erp", daemon.clock.now(), OrderRanges.parse(text))
        await daemon.clock.sleep(3)

        assert daemon.passes.tasks[-1] == Task(Portion(orders=OrderRanges.parse("5,7-9")), [1, 2])
        assert await daemon.store.open_requests(["shop"]) == []
        await daemon.clock.sleep(SLOTS[1])
        assert daemon.passes.tasks[-1] == Task(Portion(slice=True), []), "the schedule is not served by it"

    async def test_given_a_request_about_all_orders_beside_then_the_pass_covers_all(self, daemon: Daemon) -> None:
        daemon.add()
        daemon.listen()
        await daemon.clock.sleep(5)
        await daemon.store.post_request("shop", "trigger", "erp", daemon.clock.now(), OrderRanges.parse("5"))
        await daemon.store.post_request("shop", "trigger", "anna", daemon.clock.now())
        await daemon.clock.sleep(3)

        assert daemon.passes.tasks[-1] == Task(None)
        assert await daemon.store.open_requests(["shop"]) == []

    async def test_given_a_refused_plan_when_a_pass_over_other_orders_is_fine_then_the_link_stays_refused(
        self, daemon: Daemon
    ) -> None:
        daemon.passes.outcomes["shop"] += [OK, REFUSED]
        runner = daemon.add()
        daemon.listen()
        await daemon.clock.sleep(5)
        for text in ("5-9", "20"):
            await daemon.store.post_request("shop", "trigger", "erp", daemon.clock.now(), OrderRanges.parse(text))
            await daemon.clock.sleep(5)

        link = await daemon.store.find_link("shop")
        assert link is not None
        assert (runner.condition.health, link.parked.partition(":")[0]) == (Health.REFUSED, "refused")
        await daemon.clock.sleep(1300)
        assert daemon.passes.tasks[-1].portion == Portion(orders=OrderRanges.parse("5-9")), "the look is at the same"
        assert runner.condition.health is Health.IN_STEP

    async def test_given_a_daemon_that_ended_before_its_pass_began_then_the_next_one_makes_it(
        self, store: MemoryStore, clock: LoopClock
    ) -> None:
        result, later = Daemon(store, clock, "host:1", places=0), Daemon(store, clock, "host:2")
        result.add(schedule=None)
        result.listen()
        await self.ask(store, clock)
        await clock.sleep(20)
        await result.kill()
        assert result.passes.made == []
        later.add(schedule=None)
        later.listen()
        await clock.sleep(5)
        assert len(later.passes.made) == 1
        await later.kill()

    async def test_given_a_pass_stopped_by_a_signal_then_the_next_daemon_makes_it(self, daemon: Daemon) -> None:
        daemon.passes.always["shop"] = Outcome(seconds=100)
        runner = daemon.add(schedule=None)
        await daemon.trigger()
        await daemon.clock.sleep(5)
        runner.stop("SIGTERM")
        await daemon.clock.sleep(5)
        later = Daemon(daemon.store, daemon.clock)
        later.add(schedule=None)
        later.listen()
        await daemon.clock.sleep(5)
        assert len(later.passes.made) == 1
        await later.kill()

    @pytest.mark.parametrize("seconds", [0, 1, 30])
    async def test_given_two_daemons_then_a_trigger_makes_one_pass(
        self, store: MemoryStore, clock: LoopClock, seconds: float
    ) -> None:
        daemons = [Daemon(store, clock, f"host:{number}") for number in range(2)]
        for daemon in daemons:
            daemon.passes.always["shop"] = Outcome(seconds=seconds)
            daemon.add(schedule=None)
            daemon.listen()
        await clock.sleep(10)
        await self.ask(store, clock)
        await clock.sleep(3600)
        assert sum(len(daemon.passes.made) for daemon in daemons) == 1
        for daemon in daemons:
            await daemon.kill()

    async def test_given_a_failure_that_opens_no_run_then_the_trigger_is_served_after_the_pause(
        self, daemon: Daemon
    ) -> None:
        daemon.passes.outcomes["shop"].append(Outcome(before_run=StateUnavailable("The state database is locked.")))
        daemon.add(schedule=None)
        await daemon.trigger()
        await daemon.clock.sleep(60)
        assert [origin for _, _, origin in daemon.passes.made] == ["trigger"]

    async def test_given_a_failed_pass_then_its_trigger_is_served_all_the_same(self, daemon: Daemon) -> None:
        daemon.passes.always["shop"] = DOWN
        daemon.add(schedule=None)
        daemon.listen()
        await daemon.trigger()
        await daemon.clock.sleep(7200)
        assert len(daemon.passes.made) == 1
        assert await daemon.store.open_requests(["shop"]) == []

    async def test_given_a_scheduled_pass_that_begins_after_a_trigger_then_it_serves_it(self, daemon: Daemon) -> None:
        daemon.add()
        await daemon.clock.sleep(SLOTS[0] - 1)
        await self.ask(daemon.store, daemon.clock)
        await daemon.clock.sleep(5)
        daemon.listen()
        await daemon.clock.sleep(60)
        assert rounded(daemon.passes.times()) == [0, round(SLOTS[0])]


class TestFailures:
    async def test_given_failures_then_passes_are_tried_again_after_growing_pauses(self, daemon: Daemon) -> None:
        daemon.passes.always["shop"] = DOWN
        daemon.add("shop", "1d")
        await daemon.clock.sleep(1000)
        gaps = [round(b - a) for a, b in zip(daemon.passes.times(), daemon.passes.times()[1:], strict=False)]
        assert [30 <= gaps[0] <= 33, 60 <= gaps[1] <= 66, 120 <= gaps[2] <= 132, 240 <= gaps[3] <= 264] == [True] * 4

    async def test_given_failures_then_slots_within_a_pause_are_passed_over_and_say_why(self, daemon: Daemon) -> None:
        daemon.passes.always["shop"] = DOWN
        daemon.add("shop", "1m")
        await daemon.clock.sleep(3600)
        assert ("shop", "pausing after a failure") in daemon.watcher.skips
        assert len(daemon.passes.made) < 10

    async def test_given_a_pause_then_it_is_never_longer_than_an_hour_and_a_tenth(self, daemon: Daemon) -> None:
        daemon.passes.always["shop"] = DOWN
        daemon.add("shop", "5m")
        await daemon.clock.sleep(2 * 86400)
        times = daemon.passes.times()
        assert max(b - a for a, b in itertools.pairwise(times)) <= 3961

    async def test_given_a_recovery_then_the_schedule_is_kept_again(self, daemon: Daemon) -> None:
        daemon.passes.outcomes["shop"] += [DOWN, DOWN]
        daemon.add()
        await daemon.clock.sleep(SLOTS[2] + 1)
        assert rounded(daemon.passes.times())[-2:] == rounded(SLOTS[1:3])
        assert daemon.watcher.healths()[:3] == ["failing", "failing", "in-step"]

    async def test_given_a_failure_that_opens_no_run_then_it_is_tried_again_too(self, daemon: Daemon) -> None:
        daemon.passes.outcomes["shop"].append(Outcome(before_run=StateUnavailable("The state database is locked.")))
        daemon.add("shop", "1d")
        await daemon.clock.sleep(60)
        assert daemon.watcher.healths() == ["failing", "in-step"]

    async def test_given_the_state_database_is_away_then_slots_do_not_lengthen_the_pause(
        self, clock: LoopClock
    ) -> None:
        store = AwayStore(clock)
        daemon = Daemon(store, clock)
        daemon.add("shop", "1m")
        await clock.sleep(10)
        store.away = True
        await clock.sleep(1800)
        assert set(daemon.watcher.skips) == {("shop", "pausing after a failure")}
        assert len(daemon.watcher.endings) < 10
        await daemon.kill()

    async def test_given_the_state_database_comes_back_then_the_pass_is_made_again_at_once(
        self, clock: LoopClock
    ) -> None:
        store = AwayStore(clock)
        daemon = Daemon(store, clock)
        for name in ("shop", "other"):
            daemon.add(name, "5m")
        await clock.sleep(10)
        store.away = True
        daemon.runners["shop"].ask(Trigger.SIGNAL)
        await clock.sleep(5)
        store.away = False
        for runner in daemon.runners.values():
            runner.state_back()
        await clock.sleep(5)
        assert daemon.watcher.healths() == ["in-step", "in-step", "failing", "in-step"]
        assert rounded(daemon.passes.times("shop")) == [0, 15]
        assert rounded(daemon.passes.times("other")) == [0]
        await daemon.kill()

    async def test_given_a_bug_in_a_pass_then_the_link_is_failing_and_the_others_go_on(self, daemon: Daemon) -> None:
        daemon.passes.always["shop"] = Outcome(raises=ZeroDivisionError("oops"))
        daemon.add("shop")
        daemon.add("other")
        await daemon.clock.sleep(3600)
        assert daemon.runners["shop"].condition.health is Health.FAILING
        assert "ZeroDivisionError" in daemon.runners["shop"].condition.detail
        assert len(daemon.passes.times("other")) > 10

    async def test_given_a_trigger_within_a_pause_then_a_pass_is_made_at_once(self, daemon: Daemon) -> None:
        daemon.passes.outcomes["shop"] += [DOWN] * 5
        daemon.add()
        await daemon.clock.sleep(600)
        made = len(daemon.passes.made)
        await daemon.trigger()
        await daemon.clock.sleep(1)
        assert len(daemon.passes.made) == made + 1


class TestStopping:
    async def test_given_a_pass_at_work_when_stopped_then_it_is_asked_to_end_and_no_other_begins(
        self, daemon: Daemon
    ) -> None:
        daemon.passes.outcomes["shop"].append(Outcome(seconds=100))
        runner = daemon.add()
        await daemon.clock.sleep(10)
        runner.stop("SIGTERM")
        await daemon.clock.sleep(2)
        assert daemon.watcher.endings == []
        await daemon.clock.sleep(7200)
        assert len(daemon.passes.made) == 1

    async def test_given_a_stopped_pass_when_a_daemon_starts_then_it_is_made_up_for(self, daemon: Daemon) -> None:
        daemon.passes.outcomes["shop"].append(Outcome(seconds=100))
        runner = daemon.add()
        await daemon.clock.sleep(10)
        runner.stop("SIGTERM")
        await daemon.clock.sleep(2)
        later = Daemon(daemon.store, daemon.clock)
        later.add()
        await daemon.clock.sleep(3)
        assert len(later.passes.made) == 1
        await later.kill()


async def test_given_a_link_in_step_for_days_then_old_passes_are_forgotten_once_a_day(daemon: Daemon) -> None:
    daemon.add("shop", "1h")
    await daemon.clock.sleep(3 * 86400 + 7200)
    assert len(daemon.pruned) == 3


async def test_given_the_system_clock_jumps_back_then_the_schedule_goes_on(daemon: Daemon, clock: LoopClock) -> None:
    daemon.add("shop", "5m")
    await clock.sleep(400)
    clock.jump = -86400.0
    made = len(daemon.passes.made)
    await clock.sleep(1200)
    assert len(daemon.passes.made) >= made + 3


class AwayStore(MemoryStore):
    """A state database that can be out of reach."""

    away = False

    async def find_link(self, name: str) -> LinkRow | None:
        if self.away:
            raise StateUnavailable("The state database is out of reach.")
        return await super().find_link(name)
