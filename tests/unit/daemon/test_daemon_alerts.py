from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from daemon_world import NOON, Daemon, LoopClock, Outcome, hold

from syncd.core.model import Side
from syncd.core.records import GuardHit, RunRow
from syncd.daemon.alerts import WAITING, Alerts
from syncd.daemon.couriers import Undelivered
from syncd.daemon.desk import Ending
from syncd.daemon.health import Condition, Health
from syncd.daemon.pulse import Pulse
from syncd.engine.report import Report
from syncd.errors import AuthError, UnavailableError
from tests.fakes.store import MemoryStore

pytestmark = pytest.mark.anyio

DOWN = Outcome("failed", error=UnavailableError("The portal cannot be reached."), seconds=0)


class Postman:
    """Keeps what it is given; refuses the first few if told so."""

    way = "webhook"

    def __init__(self, refusals: int = 0) -> None:
        self.delivered: list[Mapping[str, Any]] = []
        self.tries = 0
        self._refusals = refusals

    async def deliver(self, notice: Mapping[str, Any]) -> None:
        self.tries += 1
        if self.tries <= self._refusals:
            raise Undelivered("it answered 503")
        self.delivered.append(notice)

    def events(self) -> list[str]:
        return [notice["event"] for notice in self.delivered]


class Desk:
    """Alerts at work, with a postman."""

    def __init__(self, clock: LoopClock, postman: Postman) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.postman = postman
        self.alerts = Alerts(clock, lambda way, outcome: self.counts.update([(way, outcome)]), [postman])
        self.task = asyncio.create_task(self.alerts.run())

    async def close(self) -> None:
        self.task.cancel()
        await asyncio.wait({self.task})


@pytest.fixture
async def desk(clock: LoopClock):
    made = Desk(clock, Postman())
    yield made
    await made.close()


def _ending(before: Health, after: Health, *, detail: str = "", holds=(), guards=(), clock: LoopClock) -> Ending:
    row = RunRow(12, "shop", 1, "pass", "applied", started_at=NOON, finished_at=NOON + 1, guards=list(guards))
    return Ending(
        "shop",
        Report(row, holds=list(holds)),
        None,
        Condition(before, NOON - 60, 11),
        Condition(after, NOON, 12, detail),
        Pulse(clock),
        None,
    )


def _refused(removes: int) -> RunRow:
    """A pass that a guard refused."""
    return RunRow(11, "shop", 1, "pass", "refused", guards=[GuardHit("max_removes", Side.CRM, 10, removes)])


class TestHealth:
    @pytest.mark.parametrize(
        ("before", "after", "event"),
        [
            (Health.IN_STEP, Health.FAILING, "health"),
            (Health.IN_STEP, Health.HELD, "health"),
            (Health.IN_STEP, Health.REFUSED, "refused"),
            (Health.IN_STEP, Health.PARKED, "health"),
            (Health.WAITING, Health.REFUSED, "refused"),
            (Health.FAILING, Health.IN_STEP, "recovered"),
            (Health.REFUSED, Health.IN_STEP, "recovered"),
            (Health.FAILING, Health.HELD, "health"),
        ],
    )
    async def test_given_a_change_of_health_then_it_is_told(self, desk: Desk, clock: LoopClock, before, after, event):
        desk.alerts.ended(_ending(before, after, detail="why", clock=clock))
        await clock.sleep(1)
        (notice,) = desk.postman.delivered
        assert (notice["event"], notice["link"], notice["before"], notice["health"]) == (event, "shop", before, after)
        assert notice["text"].startswith("syncd: link shop is ")
        assert notice["text"].count("why") == 1

    @pytest.mark.parametrize("health", [Health.IN_STEP, Health.HELD, Health.FAILING, Health.REFUSED, Health.PARKED])
    async def test_given_the_same_health_again_then_nobody_is_told(self, desk: Desk, clock: LoopClock, health):
        desk.alerts.ended(_ending(health, health, clock=clock))
        await clock.sleep(1)
        assert desk.postman.delivered == []

    async def test_given_a_first_pass_that_is_well_then_nobody_is_told(self, desk: Desk, clock: LoopClock):
        desk.alerts.ended(_ending(Health.WAITING, Health.IN_STEP, clock=clock))
        await clock.sleep(1)
        assert desk.postman.delivered == []

    async def test_given_a_refusal_then_its_numbers_and_the_commands_are_told(self, desk: Desk, clock: LoopClock):
        hit = GuardHit("max_removes", Side.TABLE, 100, 4000)
        desk.alerts.ended(_ending(Health.IN_STEP, Health.REFUSED, guards=[hit], clock=clock))
        await clock.sleep(1)
        notice = desk.postman.delivered[0]
        assert notice["guards"] == [{"name": "max_removes", "side": "table", "limit": 100, "actual": 4000}]
        assert notice["commands"] == ["syncd show 12", "syncd apply 12"]

    async def test_given_a_refused_plan_that_doubles_then_that_is_told_once_and_smaller_changes_are_not(
        self, desk: Desk, clock: LoopClock
    ):
        before = _refused(40)
        desk.alerts.ended(_ending(Health.IN_STEP, Health.REFUSED, guards=before.guards, clock=clock))
        for removes in (40, 79, 80, 80, 120, 60, 120, 159):
            again = _ending(Health.REFUSED, Health.REFUSED, guards=_refused(removes).guards, clock=clock)
            desk.alerts.ended(replace(again, previous=before))
            before = _refused(removes)
        await clock.sleep(1)
        told = [notice["guards"][0]["actual"] for notice in desk.postman.delivered]
        assert (told, desk.postman.events()) == ([40, 80], ["refused", "refused"])
        assert (
            "is still refused by a guard; nothing was written, and the plan has grown."
            in (desk.postman.delivered[1]["text"])
        )

    async def test_given_a_daemon_that_takes_a_refused_link_over_then_it_tells_only_what_has_grown_since(
        self, desk: Desk, clock: LoopClock
    ):
        for removes in (40, 50, 79):
            again = _ending(Health.REFUSED, Health.REFUSED, guards=_refused(removes).guards, clock=clock)
            desk.alerts.ended(replace(again, previous=_refused(40)))
            desk.alerts.forget("shop")
        await clock.sleep(1)
        assert desk.postman.delivered == []

    async def test_given_a_refused_plan_that_shrinks_below_the_limits_then_nobody_is_told(
        self, desk: Desk, clock: LoopClock
    ):
        left = [GuardHit("settling", None, 0, 3)]
        again = _ending(Health.REFUSED, Health.REFUSED, guards=left, clock=clock)
        desk.alerts.ended(replace(again, previous=_refused(40)))
        await clock.sleep(1)
        assert desk.postman.delivered == []

    async def test_given_a_secret_in_a_detail_then_it_is_masked(self, desk: Desk, clock: LoopClock):
        detail = "https://example.bitrix24.com/rest/1/topsecretcode/ refuses"
        desk.alerts.ended(_ending(Health.IN_STEP, Health.FAILING, detail=detail, clock=clock))
        await clock.sleep(1)
        assert "topsecretcode" not in str(desk.postman.delivered)


class TestOldHolds:
    async def test_given_a_hold_when_it_comes_of_age_then_it_is_told_once(self, desk: Desk, clock: LoopClock):
        desk.alerts.ended(_ending(Health.HELD, Health.HELD, holds=[hold(5, NOON), hold(6, NOON + 1800)], clock=clock))
        for _ in range(90):
            await clock.sleep(60)
            desk.alerts.tell_old_holds()
        await clock.sleep(1)
        assert [[one["order_id"] for one in notice["holds"]] for notice in desk.postman.delivered] == [[5], [6]]
        assert desk.postman.delivered[0]["text"] == (
            "syncd: 1 order has been held on link shop for more than 1 h. See `syncd holds shop`."
        )

    async def test_given_the_link_is_another_daemons_now_then_it_tells(self, desk: Desk, clock: LoopClock):
        desk.alerts.ended(_ending(Health.HELD, Health.HELD, holds=[hold(5, NOON)], clock=clock))
        desk.alerts.forget("shop")
        await clock.sleep(7200)
        desk.alerts.tell_old_holds()
        await clock.sleep(1)
        assert desk.postman.delivered == []


class TestOverDaemons:
    """The alerts of runners over a shared store: what was told follows from the runs alone."""

    @staticmethod
    def _watched(daemon: Daemon, desk: Desk) -> Daemon:
        async def ended(ending: Ending) -> None:
            desk.alerts.ended(ending)

        daemon.watcher.ended = ended  # type: ignore[method-assign]
        daemon.watcher.overtaken = desk.alerts.forget  # type: ignore[method-assign]
        return daemon

    async def test_given_an_outage_of_many_passes_then_it_is_told_once_and_so_is_its_end(
        self, daemon: Daemon, desk: Desk, clock: LoopClock
    ):
        self._watched(daemon, desk)
        daemon.passes.outcomes["shop"] += [Outcome(seconds=0), *[DOWN] * 6]
        daemon.add()
        await clock.sleep(7200)
        assert desk.postman.events() == ["health", "recovered"]

    async def test_given_a_restart_within_an_outage_then_it_is_not_told_again(
        self, daemon: Daemon, desk: Desk, clock: LoopClock
    ):
        self._watched(daemon, desk)
        daemon.passes.outcomes["shop"].append(Outcome(seconds=0))
        daemon.passes.always["shop"] = DOWN
        daemon.add()
        await clock.sleep(1800)
        await daemon.kill()
        later = self._watched(Daemon(daemon.store, clock), desk)
        later.passes.outcomes["shop"] += [DOWN] * 2
        later.add()
        await clock.sleep(4 * 3600)
        assert desk.postman.events() == ["health", "recovered"]
        await later.kill()

    async def test_given_a_restart_then_old_holds_are_not_told_again(
        self, daemon: Daemon, desk: Desk, clock: LoopClock
    ):
        self._watched(daemon, desk)
        daemon.passes.always["shop"] = Outcome(holds=2, seconds=0)
        daemon.add()
        await clock.sleep(7200)
        await daemon.kill()
        fresh = Desk(clock, Postman())
        later = self._watched(Daemon(daemon.store, clock), fresh)
        later.passes.always["shop"] = Outcome(holds=2, seconds=0)
        later.add()
        await clock.sleep(7200)
        assert desk.postman.events() == ["health", "holds"]
        assert fresh.postman.events() == []
        await later.kill()
        await fresh.close()

    async def test_given_a_parked_link_tried_again_in_vain_then_it_is_told_once(
        self, store: MemoryStore, clock: LoopClock, desk: Desk
    ):
        daemon = self._watched(Daemon(store, clock), desk)
        daemon.passes.always["shop"] = Outcome("failed", error=AuthError("No right."), seconds=0)
        daemon.add()
        await clock.sleep(6 * 3600)
        assert len(daemon.passes.made) > 4
        assert desk.postman.events() == ["health"]
        await daemon.kill()


class TestDelivery:
    async def test_given_a_courier_that_fails_at_first_then_it_is_tried_again(self, clock: LoopClock):
        desk = Desk(clock, Postman(refusals=2))
        desk.alerts.ended(_ending(Health.IN_STEP, Health.FAILING, clock=clock))
        await clock.sleep(60)
        assert (desk.postman.events(), desk.counts) == (["health"], {("webhook", "delivered"): 1})
        await desk.close()

    async def test_given_a_courier_that_always_fails_then_it_is_given_up_and_counted(self, clock: LoopClock):
        desk = Desk(clock, Postman(refusals=99))
        desk.alerts.ended(_ending(Health.IN_STEP, Health.FAILING, clock=clock))
        await clock.sleep(600)
        assert (desk.postman.tries, desk.counts) == (4, {("webhook", "failed"): 1})
        await desk.close()

    async def test_given_more_than_can_wait_then_the_oldest_are_dropped(self, clock: LoopClock):
        desk = Desk(clock, Postman())
        for _ in range(WAITING + 5):
            desk.alerts.ended(_ending(Health.IN_STEP, Health.FAILING, clock=clock))
        await clock.sleep(1)
        assert desk.counts == {("any", "dropped"): 5, ("webhook", "delivered"): WAITING}
        await desk.close()

    async def test_given_something_under_way_when_drained_then_it_has_been_delivered(
        self, desk: Desk, clock: LoopClock
    ):
        desk.alerts.ended(_ending(Health.IN_STEP, Health.FAILING, clock=clock))
        await desk.alerts.drain()
        assert desk.postman.events() == ["health"]

    async def test_given_no_courier_then_nothing_waits(self, clock: LoopClock):
        alerts = Alerts(clock, lambda _way, _outcome: None)
        alerts.ended(_ending(Health.IN_STEP, Health.FAILING, clock=clock))
        await alerts.drain()
