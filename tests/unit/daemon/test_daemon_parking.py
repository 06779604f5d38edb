"""A link that is parked: what parks it, when it is looked at again, and what ends it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import MutableMapping
from typing import Any

import pytest

from syncd.daemon.triggers import Trigger
from syncd.errors import AuthError, PortalBlocked, UnavailableError
from syncd.status.health import Health
from tests.fakes.store import MemoryStore
from tests.unit.daemon.virtual_daemon import Daemon, LoopClock, Outcome, rounded, slot_times

pytestmark = pytest.mark.anyio

DOWN = Outcome("failed", error=UnavailableError("The portal cannot be reached."), seconds=0)
REFUSED = Outcome("refused", guards=("max_removes",), seconds=0)
FORBIDDEN = Outcome("failed", error=AuthError("The portal refuses the webhook."), seconds=0)
BLOCKED = Outcome("failed", error=PortalBlocked("OVERLOAD_LIMIT."), seconds=0)
SLOTS = slot_times("shop", "5m", 7200)


class TestParking:
    async def test_given_a_refused_plan_then_the_link_is_parked_and_says_why(self, daemon: Daemon) -> None:
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
    ) -> None:
        daemon.passes.always["shop"] = REFUSED
        daemon.add(schedule=schedule)
        await daemon.clock.sleep(4 * 3600)
        times = daemon.passes.times()[1:]
        assert {round((b - a) / 60) for a, b in itertools.pairwise(times)} == {minutes}
        assert len(times) >= 3

    async def test_given_a_look_that_finds_nothing_wrong_then_the_link_goes_on_by_itself(self, daemon: Daemon) -> None:
        daemon.passes.outcomes["shop"] += [REFUSED, REFUSED]
        runner = daemon.add()
        await daemon.clock.sleep(SLOTS[8] + 1)
        times = rounded(daemon.passes.times())
        assert times[:2] == [0, round(next(slot for slot in SLOTS if slot > 900 - 60))]
        assert times[-2:] == rounded(SLOTS[7:9])
        assert (await _parked(daemon), runner.condition.health) == ("", Health.IN_STEP)

    async def test_given_other_numbers_at_a_look_then_the_reason_says_them(
        self, daemon: Daemon, told: list[MutableMapping[str, Any]]
    ) -> None:
        daemon.passes.outcomes["shop"] += [REFUSED, Outcome("refused", guards=("max_removes",), said="far too much")]
        daemon.add()
        await daemon.clock.sleep(1300)
        assert await _parked(daemon) == "refused: far too much"
        assert [event["event"] for event in told].count("link parked") == 1

    async def test_given_a_look_that_fails_then_it_is_made_up_for_after_growing_pauses(self, daemon: Daemon) -> None:
        daemon.passes.outcomes["shop"] += [REFUSED, DOWN, DOWN]
        daemon.passes.always["shop"] = REFUSED
        runner = daemon.add(schedule="15m")
        await daemon.clock.sleep(1800)
        times = daemon.passes.times()
        assert [round(b - a) // 30 for a, b in itertools.pairwise(times[1:4])] == [1, 2]
        assert (await _parked(daemon), runner.condition.health) == ("refused: too much", Health.REFUSED)

    async def test_given_a_link_that_points_elsewhere_then_it_is_looked_at_once_a_day(self, daemon: Daemon) -> None:
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
    ) -> None:
        daemon.passes.always["shop"] = outcome
        runner = daemon.add(schedule=schedule)
        await daemon.clock.sleep(60 * sum(minutes) + 60)
        times = daemon.passes.times()
        assert runner.condition.health is Health.PARKED
        # At a slot, or a trifle after its pause: never before it is over.
        assert [int((b - a) / 60) for a, b in itertools.pairwise(times)] == minutes

    async def test_given_rights_that_come_back_then_the_next_try_unparks_the_link(self, daemon: Daemon) -> None:
        daemon.passes.outcomes["shop"] += [FORBIDDEN] * 3
        runner = daemon.add(schedule="1h")
        await daemon.clock.sleep(300 + 600 + 1200 + 5)
        assert (await _parked(daemon), runner.condition.health, runner.retry_in()) == ("", Health.IN_STEP, None)
        assert len(daemon.passes.made) == 4

    async def test_given_credentials_refused_before_a_run_is_opened_then_that_is_not_tried_at_every_slot(
        self, daemon: Daemon
    ) -> None:
        daemon.passes.always["shop"] = Outcome(before_run=AuthError("The state database refuses the password."))
        daemon.add(schedule="1m")
        await daemon.clock.sleep(3 * 3600)
        assert daemon.passes.tried == 6  # after 0, 5, 15, 35, 75 and 135 minutes

    async def test_given_two_daemons_then_a_link_that_is_turned_away_is_tried_by_one_of_them(
        self, store: MemoryStore, clock: LoopClock
    ) -> None:
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

    async def test_given_a_parked_link_when_triggered_and_well_then_it_is_parked_no_longer(
        self, daemon: Daemon
    ) -> None:
        daemon.passes.outcomes["shop"].append(FORBIDDEN)
        runner = daemon.add()
        await daemon.clock.sleep(60)
        await daemon.trigger()
        await daemon.clock.sleep(5)
        link = await daemon.store.find_link("shop")
        assert (link and link.parked, runner.condition.health) == ("", Health.IN_STEP)

    async def test_given_a_refused_plan_that_was_applied_by_hand_then_the_next_slot_is_served(
        self, daemon: Daemon
    ) -> None:
        daemon.passes.outcomes["shop"].append(REFUSED)
        daemon.add()
        await daemon.clock.sleep(10)
        await _apply_by_hand(daemon)
        await daemon.clock.sleep(SLOTS[0])
        assert rounded(daemon.passes.times()) == [0, round(SLOTS[0])]

    async def test_given_a_refused_plan_when_a_hold_is_decided_then_the_next_slot_is_served(
        self, daemon: Daemon
    ) -> None:
        daemon.passes.outcomes["shop"].append(Outcome("refused", guards=("max_removes",), holds=2, seconds=0))
        daemon.passes.always["shop"] = REFUSED
        daemon.add()
        await daemon.clock.sleep(10)
        link = await daemon.store.find_link("shop")
        assert link is not None
        await daemon.store.decide(link.id, [1], "crm", daemon.clock.now())
        await daemon.clock.sleep(SLOTS[2])
        assert rounded(daemon.passes.times()) == [0, round(SLOTS[0])]

    async def test_given_a_parked_link_when_a_daemon_starts_then_it_is_tried_once(self, daemon: Daemon) -> None:
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

    async def test_given_a_parked_link_when_its_configuration_changes_then_it_is_tried_at_once(
        self, daemon: Daemon
    ) -> None:
        daemon.passes.outcomes["shop"].append(FORBIDDEN)
        runner = daemon.add()
        await daemon.clock.sleep(60)
        runner.ask(Trigger.RELOAD)
        await daemon.clock.sleep(5)
        assert runner.condition.health is Health.IN_STEP


async def _parked(daemon: Daemon) -> str:
    link = await daemon.store.find_link("shop")
    assert link is not None
    return link.parked


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
