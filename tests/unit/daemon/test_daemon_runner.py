from __future__ import annotations

import asyncio
import itertools
from collections.abc import MutableMapping
from typing import Any

import pytest
from daemon_world import NOON, Daemon, LoopClock, Outcome, rounded, slot_times

from syncd.core.records import LinkRow
from syncd.daemon.health import Health
from syncd.daemon.verdict import Ask
from syncd.errors import AuthError, PortalBlocked, StateUnavailable, UnavailableError
from tests.fakes.store import MemoryStore

pytestmark = pytest.mark.anyio

DOWN = Outcome("failed", error=UnavailableError("The portal cannot be reached."), seconds=0)
REFUSED = Outcome("refused", guards=("max_removes",), seconds=0)
FORBIDDEN = Outcome("failed", error=AuthError("The portal refuses the webhook."), seconds=0)
BLOCKED = Outcome("failed", error=PortalBlocked("OVERLOAD_LIMIT."), seconds=0)
SLOTS = slot_times("shop", "5m", 7200)


class TestSchedule:
    async def test_given_a_link_never_run_when_the_daemon_starts_then_its_pass_is_made_at_once(self, daemon: Daemon):
        daemon.add()
        await daemon.clock.sleep(1)
        assert rounded(daemon.passes.times()) == [0]

    async def test_given_an_interval_then_one_pass_is_made_at_each_slot(self, daemon: Daemon):
        daemon.add()
        await daemon.clock.sleep(SLOTS[3] + 1)
        assert rounded(daemon.passes.times()) == [0, *rounded(SLOTS[:4])]

    async def test_given_a_cron_expression_then_passes_are_made_when_it_says(self, daemon: Daemon):
        daemon.add(schedule="30 * * * *")
        await daemon.clock.sleep(3 * 3600)
        assert [int((NOON + at) // 60 % 60) for at in daemon.passes.times()[1:]] == [30, 30, 30]

    async def test_given_no_schedule_then_no_pass_is_made_unasked(self, daemon: Daemon):
        daemon.add(schedule=None)
        await daemon.clock.sleep(86400)
        assert daemon.passes.tried == 0

    async def test_given_a_slot_missed_while_no_daemon_was_up_when_one_starts_then_one_pass_makes_up_for_it(
        self, daemon: Daemon
    ):
        daemon.add()
        await daemon.clock.sleep(10)
        await daemon.kill()
        await daemon.clock.sleep(SLOTS[3] + 20)
        later = Daemon(daemon.store, daemon.clock)
        later.add()
        await daemon.clock.sleep(5)
        assert rounded(later.passes.times()) == [round(SLOTS[3] + 30)]
        await later.kill()

    async def test_given_no_slot_missed_when_a_daemon_starts_then_it_waits_for_the_next(self, daemon: Daemon):
        daemon.add()
        await daemon.clock.sleep(10)
        await daemon.kill()
        later = Daemon(daemon.store, daemon.clock)
        later.add()
        await daemon.clock.sleep(SLOTS[0] - 15)
        assert later.passes.made == []
        await later.kill()

    async def test_given_slots_that_come_during_a_long_pass_then_one_pass_follows_it(self, daemon: Daemon):
        daemon.passes.outcomes["shop"].append(Outcome(seconds=SLOTS[2] + 100))
        daemon.add()
        await daemon.clock.sleep(SLOTS[3] - 10)
        assert rounded(daemon.passes.times()) == [0, round(SLOTS[2] + 100)]

    async def test_given_several_links_then_their_passes_are_made_side_by_side(self, daemon: Daemon):
        for name in "abcd":
            daemon.passes.always[name] = Outcome(seconds=60)
            daemon.add(name, "1h")
        await daemon.clock.sleep(5)
        assert sorted(name for name, _, _ in daemon.passes.made) == list("abcd")

    async def test_given_more_links_than_places_then_the_others_wait_their_turn(
        self, store: MemoryStore, clock: LoopClock
    ):
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
    async def test_given_a_trigger_then_a_pass_is_made_at_once(self, daemon: Daemon):
        daemon.add()
        await daemon.clock.sleep(100)
        await daemon.trigger()
        await daemon.clock.sleep(1)
        assert daemon.passes.made[-1] == ("shop", NOON + 100, "trigger")

    async def test_given_three_triggers_at_once_then_one_pass_serves_them(self, daemon: Daemon):
        daemon.add()
        await daemon.clock.sleep(100)
        for _ in range(3):
            await daemon.trigger()
        await daemon.clock.sleep(10)
        assert rounded(daemon.passes.times()) == [0, 100]

    async def test_given_a_trigger_during_a_pass_then_another_pass_follows(self, daemon: Daemon):
        daemon.passes.outcomes["shop"].append(Outcome(seconds=60))
        daemon.add()
        await daemon.clock.sleep(30)
        await daemon.trigger()
        await daemon.clock.sleep(60)
        assert rounded(daemon.passes.times()) == [0, 60]

    async def test_given_a_paused_link_then_slots_pass_and_a_trigger_is_still_served(self, daemon: Daemon):
        daemon.add()
        await daemon.clock.sleep(5)
        await daemon.store.set_paused("shop", paused=True)
        await daemon.clock.sleep(SLOTS[1])
        assert daemon.watcher.skips == [("shop", "paused")] * 2
        await daemon.trigger()
        await daemon.clock.sleep(1)
        assert len(daemon.passes.made) == 2

    async def test_given_a_paused_link_when_it_is_resumed_then_the_next_slot_is_served(self, daemon: Daemon):
        daemon.add()
        await daemon.clock.sleep(5)
        await daemon.store.set_paused("shop", paused=True)
        await daemon.clock.sleep(SLOTS[1])
        await daemon.store.set_paused("shop", paused=False)
        await daemon.clock.sleep(SLOTS[2] - SLOTS[1])
        assert rounded(daemon.passes.times()) == [0, round(SLOTS[2])]


class TestTriggers:
    """A request outlives whoever noticed it, until a pass that began with it there has come to its end."""

    async def ask(self, store: MemoryStore, clock: LoopClock) -> None:
        await store.post_request("shop", "trigger", "anna@host", clock.now())

    async def test_given_a_daemon_killed_in_the_pass_it_made_for_a_trigger_then_another_makes_it(
        self, store: MemoryStore, clock: LoopClock
    ):
        dying, other = Daemon(store, clock, "host:1"), Daemon(store, clock, "host:2")
        dying.passes.always["shop"] = Outcome(seconds=100)
        dying.add(schedule=None)
        dying.listen()
        await self.ask(store, clock)
        await clock.sleep(20)
        assert len(dying.passes.made) == 1
        await _kill_hard(dying, "host:1")
        other.add(schedule=None)
        other.listen()
        await clock.sleep(60)
        assert [origin for _, _, origin in other.passes.made] == ["trigger"]
        await other.kill()

    async def test_given_a_daemon_that_ended_before_its_pass_began_then_the_next_one_makes_it(
        self, store: MemoryStore, clock: LoopClock
    ):
        ending, later = Daemon(store, clock, "host:1", places=0), Daemon(store, clock, "host:2")
        ending.add(schedule=None)
        ending.listen()
        await self.ask(store, clock)
        await clock.sleep(20)
        await ending.kill()
        assert ending.passes.made == []
        later.add(schedule=None)
        later.listen()
        await clock.sleep(5)
        assert len(later.passes.made) == 1
        await later.kill()

    async def test_given_a_pass_stopped_by_a_signal_then_the_next_daemon_makes_it(self, daemon: Daemon):
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
    ):
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

    async def test_given_a_failure_that_opens_no_run_then_the_trigger_is_served_after_the_pause(self, daemon: Daemon):
        daemon.passes.outcomes["shop"].append(Outcome(before_run=StateUnavailable("The state database is locked.")))
        daemon.add(schedule=None)
        await daemon.trigger()
        await daemon.clock.sleep(60)
        assert [origin for _, _, origin in daemon.passes.made] == ["trigger"]

    async def test_given_a_failed_pass_then_its_trigger_is_served_all_the_same(self, daemon: Daemon):
        daemon.passes.always["shop"] = DOWN
        daemon.add(schedule=None)
        daemon.listen()
        await daemon.trigger()
        await daemon.clock.sleep(7200)
        assert len(daemon.passes.made) == 1
        assert await daemon.store.open_requests(["shop"]) == []

    async def test_given_a_scheduled_pass_that_begins_after_a_trigger_then_it_serves_it(self, daemon: Daemon):
        daemon.add()
        await daemon.clock.sleep(SLOTS[0] - 1)
        await self.ask(daemon.store, daemon.clock)
        await daemon.clock.sleep(5)
        daemon.listen()
        await daemon.clock.sleep(60)
        assert rounded(daemon.passes.times()) == [0, round(SLOTS[0])]


class TestFailures:
    async def test_given_failures_then_passes_are_tried_again_after_growing_pauses(self, daemon: Daemon):
        daemon.passes.always["shop"] = DOWN
        daemon.add("shop", "1d")
        await daemon.clock.sleep(1000)
        gaps = [round(b - a) for a, b in zip(daemon.passes.times(), daemon.passes.times()[1:], strict=False)]
        assert [30 <= gaps[0] <= 33, 60 <= gaps[1] <= 66, 120 <= gaps[2] <= 132, 240 <= gaps[3] <= 264] == [True] * 4

    async def test_given_failures_then_slots_within_a_pause_are_passed_over_and_say_why(self, daemon: Daemon):
        daemon.passes.always["shop"] = DOWN
        daemon.add("shop", "1m")
        await daemon.clock.sleep(3600)
        assert ("shop", "pausing after a failure") in daemon.watcher.skips
        assert len(daemon.passes.made) < 10

    async def test_given_a_pause_then_it_is_never_longer_than_an_hour_and_a_tenth(self, daemon: Daemon):
        daemon.passes.always["shop"] = DOWN
        daemon.add("shop", "5m")
        await daemon.clock.sleep(2 * 86400)
        times = daemon.passes.times()
        assert max(b - a for a, b in itertools.pairwise(times)) <= 3961

    async def test_given_a_recovery_then_the_schedule_is_kept_again(self, daemon: Daemon):
        daemon.passes.outcomes["shop"] += [DOWN, DOWN]
        daemon.add()
        await daemon.clock.sleep(SLOTS[2] + 1)
        assert rounded(daemon.passes.times())[-2:] == rounded(SLOTS[1:3])
        assert daemon.watcher.healths()[:3] == ["failing", "failing", "in-step"]

    async def test_given_a_failure_that_opens_no_run_then_it_is_tried_again_too(self, daemon: Daemon):
        daemon.passes.outcomes["shop"].append(Outcome(before_run=StateUnavailable("The state database is locked.")))
        daemon.add("shop", "1d")
        await daemon.clock.sleep(60)
        assert daemon.watcher.healths() == ["failing", "in-step"]

    async def test_given_the_state_database_is_away_then_slots_do_not_lengthen_the_pause(self, clock: LoopClock):
        store = AwayStore(clock)
        daemon = Daemon(store, clock)
        daemon.add("shop", "1m")
        await clock.sleep(10)
        store.away = True
        await clock.sleep(1800)
        assert set(daemon.watcher.skips) == {("shop", "pausing after a failure")}
        assert len(daemon.watcher.endings) < 10
        await daemon.kill()

    async def test_given_the_state_database_comes_back_then_the_pass_is_made_again_at_once(self, clock: LoopClock):
        store = AwayStore(clock)
        daemon = Daemon(store, clock)
        for name in ("shop", "other"):
            daemon.add(name, "5m")
        await clock.sleep(10)
        store.away = True
        daemon.runners["shop"].ask(Ask.SIGNAL)
        await clock.sleep(5)
        store.away = False
        for runner in daemon.runners.values():
            runner.state_back()
        await clock.sleep(5)
        assert daemon.watcher.healths() == ["in-step", "in-step", "failing", "in-step"]
        assert rounded(daemon.passes.times("shop")) == [0, 15]
        assert rounded(daemon.passes.times("other")) == [0]
        await daemon.kill()

    async def test_given_a_bug_in_a_pass_then_the_link_is_failing_and_the_others_go_on(self, daemon: Daemon):
        daemon.passes.always["shop"] = Outcome(raises=ZeroDivisionError("oops"))
        daemon.add("shop")
        daemon.add("other")
        await daemon.clock.sleep(3600)
        assert daemon.runners["shop"].condition.health is Health.FAILING
        assert "ZeroDivisionError" in daemon.runners["shop"].condition.detail
        assert len(daemon.passes.times("other")) > 10

    async def test_given_a_trigger_within_a_pause_then_a_pass_is_made_at_once(self, daemon: Daemon):
        daemon.passes.outcomes["shop"] += [DOWN] * 5
        daemon.add()
        await daemon.clock.sleep(600)
        made = len(daemon.passes.made)
        await daemon.trigger()
        await daemon.clock.sleep(1)
        assert len(daemon.passes.made) == made + 1


class TestParking:
    async def test_given_a_refused_plan_then_the_link_is_parked_and_says_why(self, daemon: Daemon):
        daemon.passes.always["shop"] = REFUSED
        runner = daemon.add()
        await daemon.clock.sleep(SLOTS[0] + 1)
        assert rounded(daemon.passes.times()) == [0]
        assert (runner.condition.health, daemon.watcher.skips) == (Health.REFUSED, [("shop", "parked")])
        assert await _parked(daemon) == "refused: too much"

    @pytest.mark.parametrize(
        ("schedule", "minutes"), [("1m", 15), ("5m", 15), ("10m", 20), ("15m", 15), ("1h", 60), ("*/15 * * * *", 15)]
    )
    async def test_given_a_refused_plan_then_it_is_looked_at_again_at_slots_a_quarter_of_an_hour_apart_at_least(
        self, daemon: Daemon, schedule: str, minutes: int
    ):
        daemon.passes.always["shop"] = REFUSED
        daemon.add(schedule=schedule)
        await daemon.clock.sleep(4 * 3600)
        times = daemon.passes.times()[1:]
        assert {round((b - a) / 60) for a, b in itertools.pairwise(times)} == {minutes}
        assert len(times) >= 3

    async def test_given_a_look_that_finds_nothing_wrong_then_the_link_goes_on_by_itself(self, daemon: Daemon):
        daemon.passes.outcomes["shop"] += [REFUSED, REFUSED]
        runner = daemon.add()
        await daemon.clock.sleep(SLOTS[8] + 1)
        times = rounded(daemon.passes.times())
        assert times[:2] == [0, round(next(slot for slot in SLOTS if slot > 900 - 60))]
        assert times[-2:] == rounded(SLOTS[7:9])
        assert (await _parked(daemon), runner.condition.health) == ("", Health.IN_STEP)

    async def test_given_other_numbers_at_a_look_then_the_reason_says_them(
        self, daemon: Daemon, told: list[MutableMapping[str, Any]]
    ):
        daemon.passes.outcomes["shop"] += [REFUSED, Outcome("refused", guards=("max_removes",), said="far too much")]
        daemon.add()
        await daemon.clock.sleep(1300)
        assert await _parked(daemon) == "refused: far too much"
        assert [event["event"] for event in told].count("link parked") == 1

    async def test_given_a_look_that_fails_then_it_is_made_up_for_after_growing_pauses(self, daemon: Daemon):
        daemon.passes.outcomes["shop"] += [REFUSED, DOWN, DOWN]
        daemon.passes.always["shop"] = REFUSED
        runner = daemon.add(schedule="15m")
        await daemon.clock.sleep(1800)
        times = daemon.passes.times()
        assert [round(b - a) // 30 for a, b in itertools.pairwise(times[1:4])] == [1, 2]
        assert (await _parked(daemon), runner.condition.health) == ("refused: too much", Health.REFUSED)

    async def test_given_a_link_that_points_elsewhere_then_it_is_looked_at_once_a_day(self, daemon: Daemon):
        daemon.passes.always["shop"] = Outcome("refused", guards=("fingerprint",), seconds=0)
        daemon.add()
        await daemon.clock.sleep(86400 - 10)
        assert len(daemon.passes.made) == 1
        await daemon.clock.sleep(400)
        assert len(daemon.passes.made) == 2

    @pytest.mark.parametrize(
        ("outcome", "minutes"),
        [(FORBIDDEN, [5, 10, 20, 40, 60, 60]), (BLOCKED, [60, 120, 240, 360, 360])],
        ids=["forbidden", "blocked"],
    )
    @pytest.mark.parametrize("schedule", ["5m", "1d"])
    async def test_given_a_link_that_is_turned_away_then_it_is_tried_after_growing_pauses_whatever_its_schedule(
        self, daemon: Daemon, outcome: Outcome, minutes: list[int], schedule: str
    ):
        daemon.passes.always["shop"] = outcome
        runner = daemon.add(schedule=schedule)
        await daemon.clock.sleep(60 * sum(minutes) + 60)
        times = daemon.passes.times()
        assert runner.condition.health is Health.PARKED
        # At a slot, or a trifle after its pause: never before it is over.
        assert [int((b - a) / 60) for a, b in itertools.pairwise(times)] == minutes

    async def test_given_rights_that_come_back_then_the_next_try_unparks_the_link(self, daemon: Daemon):
        daemon.passes.outcomes["shop"] += [FORBIDDEN] * 3
        runner = daemon.add(schedule="1h")
        await daemon.clock.sleep(300 + 600 + 1200 + 5)
        assert (await _parked(daemon), runner.condition.health, runner.retry_in()) == ("", Health.IN_STEP, None)
        assert len(daemon.passes.made) == 4

    async def test_given_credentials_refused_before_a_run_is_opened_then_that_is_not_tried_at_every_slot(
        self, daemon: Daemon
    ):
        daemon.passes.always["shop"] = Outcome(before_run=AuthError("The state database refuses the password."))
        daemon.add(schedule="1m")
        await daemon.clock.sleep(3 * 3600)
        assert daemon.passes.tried == 6  # after 0, 5, 15, 35, 75 and 135 minutes

    async def test_given_two_daemons_then_a_link_that_is_turned_away_is_tried_by_one_of_them(
        self, store: MemoryStore, clock: LoopClock
    ):
        daemons = [Daemon(store, clock, f"host:{number}") for number in (1, 2)]
        daemons[0].add()
        for daemon in daemons:
            daemon.passes.always["shop"] = FORBIDDEN
        await clock.sleep(5)
        daemons[1].add(start=False)
        await clock.sleep(4 * 3600)
        times = sorted(at for daemon in daemons for at in daemon.passes.times())
        assert min(b - a for a, b in itertools.pairwise(times)) > 299
        assert len(times) == 7  # after 0, 5, 15, 35, 75, 135 and 195 minutes
        await asyncio.gather(*(daemon.kill() for daemon in daemons))

    async def test_given_a_parked_link_when_triggered_and_well_then_it_is_parked_no_longer(self, daemon: Daemon):
        daemon.passes.outcomes["shop"].append(FORBIDDEN)
        runner = daemon.add()
        await daemon.clock.sleep(60)
        await daemon.trigger()
        await daemon.clock.sleep(5)
        link = await daemon.store.find_link("shop")
        assert (link and link.parked, runner.condition.health) == ("", Health.IN_STEP)

    async def test_given_a_refused_plan_that_was_applied_by_hand_then_the_next_slot_is_served(self, daemon: Daemon):
        daemon.passes.outcomes["shop"].append(REFUSED)
        daemon.add()
        await daemon.clock.sleep(10)
        await _apply_by_hand(daemon)
        await daemon.clock.sleep(SLOTS[0])
        assert rounded(daemon.passes.times()) == [0, round(SLOTS[0])]

    async def test_given_a_refused_plan_when_a_hold_is_decided_then_the_next_slot_is_served(self, daemon: Daemon):
        daemon.passes.outcomes["shop"].append(Outcome("refused", guards=("max_removes",), holds=2, seconds=0))
        daemon.passes.always["shop"] = REFUSED
        daemon.add()
        await daemon.clock.sleep(10)
        link = await daemon.store.find_link("shop")
        assert link is not None
        await daemon.store.decide(link.id, [1], "crm", daemon.clock.now())
        await daemon.clock.sleep(SLOTS[2])
        assert rounded(daemon.passes.times()) == [0, round(SLOTS[0])]

    async def test_given_a_parked_link_when_a_daemon_starts_then_it_is_tried_once(self, daemon: Daemon):
        daemon.passes.always["shop"] = FORBIDDEN
        daemon.add()
        await daemon.clock.sleep(10)
        await daemon.kill()
        later = Daemon(daemon.store, daemon.clock)
        later.passes.always["shop"] = FORBIDDEN
        later.add()
        await daemon.clock.sleep(500)
        assert len(later.passes.made) == 1
        await later.kill()

    async def test_given_a_parked_link_when_its_configuration_changes_then_it_is_tried_at_once(self, daemon: Daemon):
        daemon.passes.outcomes["shop"].append(FORBIDDEN)
        runner = daemon.add()
        await daemon.clock.sleep(60)
        runner.ask(Ask.RELOAD)
        await daemon.clock.sleep(5)
        assert runner.condition.health is Health.IN_STEP


class TestSeveralDaemons:
    async def test_given_two_daemons_then_no_slot_is_served_twice(self, store: MemoryStore, clock: LoopClock):
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
    ):
        dying, other = Daemon(store, clock, "host:1"), Daemon(store, clock, "host:2")
        dying.passes.always["shop"] = Outcome(seconds=100)
        dying.add()
        await clock.sleep(1)
        other.add()
        await clock.sleep(20)
        assert other.runners["shop"].standby
        await _kill_hard(dying, "host:1")
        await clock.sleep(5)
        assert 20 <= other.passes.times()[0] <= 26
        await other.kill()

    async def test_given_a_pass_at_work_elsewhere_when_it_ends_well_then_standby_ends_without_another(
        self, store: MemoryStore, clock: LoopClock
    ):
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
    ):
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
    ):
        one, other = Daemon(store, clock, "host:1"), Daemon(store, clock, "host:2")
        other.add(start=False)
        one.passes.always["shop"] = REFUSED
        one.add()
        await clock.sleep(800)
        assert other.passes.made == []
        assert set(other.watcher.skips) == {("shop", "parked")}
        await asyncio.gather(one.kill(), other.kill())

    async def test_given_another_daemon_made_the_pass_then_this_one_is_told(self, store: MemoryStore, clock: LoopClock):
        one, other = Daemon(store, clock, "host:1"), Daemon(store, clock, "host:2")
        other.add()
        await clock.sleep(5)
        one.add(start=False)
        await one.trigger()
        await clock.sleep(SLOTS[1])
        assert other.watcher.overtakings or one.watcher.overtakings
        await asyncio.gather(one.kill(), other.kill())


class TestStopping:
    async def test_given_a_pass_at_work_when_stopped_then_it_is_asked_to_end_and_no_other_begins(self, daemon: Daemon):
        daemon.passes.outcomes["shop"].append(Outcome(seconds=100))
        runner = daemon.add()
        await daemon.clock.sleep(10)
        runner.stop("SIGTERM")
        await daemon.clock.sleep(2)
        assert daemon.watcher.endings == []
        await daemon.clock.sleep(7200)
        assert len(daemon.passes.made) == 1

    async def test_given_a_stopped_pass_when_a_daemon_starts_then_it_is_made_up_for(self, daemon: Daemon):
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


async def test_given_a_link_in_step_for_days_then_old_passes_are_forgotten_once_a_day(daemon: Daemon):
    daemon.add("shop", "1h")
    await daemon.clock.sleep(3 * 86400 + 7200)
    assert len(daemon.pruned) == 3


async def test_given_the_system_clock_jumps_back_then_the_schedule_goes_on(daemon: Daemon, clock: LoopClock):
    daemon.add("shop", "5m")
    await clock.sleep(400)
    clock.jump = -86400.0
    made = len(daemon.passes.made)
    await clock.sleep(1200)
    assert len(daemon.passes.made) >= made + 3


async def _parked(daemon: Daemon) -> str:
    link = await daemon.store.find_link("shop")
    assert link is not None
    return link.parked


class AwayStore(MemoryStore):
    """A state database that can be out of reach."""

    away = False

    async def find_link(self, name: str) -> LinkRow | None:
        if self.away:
            raise StateUnavailable("The state database is out of reach.")
        return await super().find_link(name)


async def _apply_by_hand(daemon: Daemon) -> None:
    store, now = daemon.store, daemon.clock.now()
    link = await store.find_link("shop")
    assert link is not None
    lease = await store.acquire(link, "person:1", 60, now)
    number = await store.start_run(lease, "apply", "command", now)
    row = await store.run(number)
    assert row is not None
    row.state, row.finished_at = "applied", now
    await store.finish_run(lease, row)
    await store.release(lease)


async def _kill_hard(daemon: Daemon, holder: str) -> None:
    """End a daemon as SIGKILL does: its lease and its run stay as they are, its lock goes."""

    async def keep(_lease: object) -> None:
        return

    daemon.store.release = keep  # type: ignore[method-assign]
    await daemon.kill()
    del daemon.store.release
    daemon.store.bury(holder)
