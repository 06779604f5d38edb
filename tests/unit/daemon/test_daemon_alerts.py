"""Notifications: what is reported about a link, how often, and what happens when delivery fails."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import replace
from typing import Any

import pytest

from syncd.core.model import Facts, Hold, HoldKind, MaybeOwner, Owner, Side
from syncd.core.records import GuardHit, PortalNames, RunRow
from syncd.daemon.alerts import WAITING, Alerts, Rules
from syncd.daemon.channels import Undelivered
from syncd.daemon.notices import Severity
from syncd.daemon.runner_context import PassProgress, PassResult
from syncd.engine.report import Report
from syncd.errors import AuthError, StateUnavailable, UnavailableError
from syncd.status.health import Health, LinkHealth
from syncd.status.owners import NO_LABELS, Labels
from tests.fakes.store import MemoryStore
from tests.unit.daemon.virtual_daemon import NOON, Daemon, LoopClock, Outcome, hold

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


class AlertsAtWork:
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
async def desk(clock: LoopClock) -> AsyncIterator[AlertsAtWork]:
    made = AlertsAtWork(clock, Postman())
    yield made
    await made.close()


def _ending(
    before: Health, after: Health, *, detail: str = "", holds: Any = (), guards: Any = (), clock: LoopClock
) -> PassResult:
    row = RunRow(12, "shop", 1, "pass", "applied", started_at=NOON, finished_at=NOON + 1, guards=list(guards))
    return PassResult(
        "shop",
        Report(row, holds=list(holds)),
        None,
        LinkHealth(before, NOON - 60, 11),
        LinkHealth(after, NOON, 12, detail),
        PassProgress(clock),
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
            (Health.NEW, Health.REFUSED, "refused"),
            (Health.FAILING, Health.IN_STEP, "recovered"),
            (Health.REFUSED, Health.IN_STEP, "recovered"),
            (Health.FAILING, Health.HELD, "health"),
        ],
    )
    async def test_given_a_change_of_health_then_it_is_told(
        self, desk: AlertsAtWork, clock: LoopClock, before: Health, after: Health, event: str
    ) -> None:
        desk.alerts.ended(_ending(before, after, detail="why", clock=clock))
        await clock.sleep(1)
        (notice,) = desk.postman.delivered
        assert (notice["event"], notice["link"], notice["before"], notice["health"]) == (event, "shop", before, after)
        assert notice["text"].startswith("syncd: link shop is ")
        assert notice["text"].count("Why.") == 1

    @pytest.mark.parametrize("health", [Health.IN_STEP, Health.HELD, Health.FAILING, Health.REFUSED, Health.PARKED])
    async def test_given_the_same_health_again_then_nobody_is_told(
        self, desk: AlertsAtWork, clock: LoopClock, health: Health
    ) -> None:
        desk.alerts.ended(_ending(health, health, clock=clock))
        await clock.sleep(1)
        assert desk.postman.delivered == []

    async def test_given_a_first_pass_that_is_well_then_nobody_is_told(
        self, desk: AlertsAtWork, clock: LoopClock
    ) -> None:
        desk.alerts.ended(_ending(Health.NEW, Health.IN_STEP, clock=clock))
        await clock.sleep(1)
        assert desk.postman.delivered == []

    async def test_given_a_refusal_then_its_numbers_and_the_commands_are_told(
        self, desk: AlertsAtWork, clock: LoopClock
    ) -> None:
        hit = GuardHit("max_removes", Side.TABLE, 100, 4000)
        desk.alerts.ended(_ending(Health.IN_STEP, Health.REFUSED, guards=[hit], clock=clock))
        await clock.sleep(1)
        notice = desk.postman.delivered[0]
        assert notice["guards"] == [{"name": "max_removes", "side": "table", "limit": 100, "actual": 4000}]
        assert notice["commands"] == ["syncd show 12", "syncd apply 12"]

    async def test_given_a_refused_plan_that_doubles_then_that_is_told_once_and_smaller_changes_are_not(
        self, desk: AlertsAtWork, clock: LoopClock
    ) -> None:
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
        self, desk: AlertsAtWork, clock: LoopClock
    ) -> None:
        for removes in (40, 50, 79):
            again = _ending(Health.REFUSED, Health.REFUSED, guards=_refused(removes).guards, clock=clock)
            desk.alerts.ended(replace(again, previous=_refused(40)))
            desk.alerts.forget("shop")
        await clock.sleep(1)
        assert desk.postman.delivered == []

    async def test_given_a_secret_in_a_detail_then_it_is_masked(self, desk: AlertsAtWork, clock: LoopClock) -> None:
        detail = "https://example.bitrix24.com/rest/1/topsecretcode/ refuses"
        desk.alerts.ended(_ending(Health.IN_STEP, Health.FAILING, detail=detail, clock=clock))
        await clock.sleep(1)
        assert "topsecretcode" not in str(desk.postman.delivered)


class TestTitles:
    """Held orders are told with what people call their deals, and with where they are found."""

    @pytest.fixture
    def held(self) -> list[Hold]:
        facts = Facts(Owner(2, 11), Owner(2, 12), Owner(2, 10))
        return [Hold(order, HoldKind.EDIT_EDIT, facts, "Both changed it.", since=NOON) for order in (5, 6, 7, 8)]

    async def test_given_old_holds_then_the_first_are_named_and_each_has_its_titles_and_addresses(
        self, desk: AlertsAtWork, clock: LoopClock, held: list[Hold]
    ) -> None:
        asked = []

        async def labels(link: str, owners: Collection[MaybeOwner]) -> Labels:
            asked.append((link, set(owners)))
            return Labels("https://x.example", PortalNames({Owner(2, 11): "Desks"}))

        desk.alerts._labels = labels
        desk.alerts.ended(_ending(Health.HELD, Health.HELD, holds=held, clock=clock))
        await clock.sleep(3601)
        desk.alerts.notify_due()
        await clock.sleep(1)
        (notice,) = desk.postman.delivered
        assert asked == [("shop", {Owner(2, 10), Owner(2, 11), Owner(2, 12)})]
        assert notice["text"].endswith(
            "Look with `syncd holds shop`. "
            "Order 5: CRM deal 11 (Desks), table deal 12, agreed deal 10. https://x.example/shop/orders/details/5/ "
            "Order 6: CRM deal 11 (Desks), table deal 12, agreed deal 10. https://x.example/shop/orders/details/6/ "
            "Order 7: CRM deal 11 (Desks), table deal 12, agreed deal 10. https://x.example/shop/orders/details/7/"
        )
        assert notice["holds"][3]["titles"] == {"crm": "Desks", "table": None, "agreed": None}
        assert notice["holds"][3]["urls"]["table"] == "https://x.example/crm/deal/details/12/"

    async def test_given_a_link_that_turns_held_then_its_orders_are_named(
        self, desk: AlertsAtWork, clock: LoopClock, held: list[Hold]
    ) -> None:
        async def labels(_link: str, _owners: Collection[MaybeOwner]) -> Labels:
            return NO_LABELS

        desk.alerts._labels = labels
        desk.alerts.ended(_ending(Health.IN_STEP, Health.HELD, holds=held[:1], clock=clock))
        await clock.sleep(1)
        (notice,) = desk.postman.delivered
        assert notice["text"].endswith("Order 5: CRM deal 11, table deal 12, agreed deal 10.")
        assert notice["holds"] == 1

    async def test_given_a_row_whose_key_no_order_has_then_its_own_sentence_is_told(
        self, desk: AlertsAtWork, clock: LoopClock, held: list[Hold]
    ) -> None:
        unknown = replace(held[0], order_id=-77, detail="No order of the portal has the accountNumber 'WEB-9'.")

        async def labels(_link: str, _owners: Collection[MaybeOwner]) -> Labels:
            return Labels("https://x.example", PortalNames({}))

        desk.alerts._labels = labels
        desk.alerts.ended(_ending(Health.IN_STEP, Health.HELD, holds=[unknown], clock=clock))
        await clock.sleep(1)
        (notice,) = desk.postman.delivered
        assert notice["text"].endswith(f"A row whose key matches no order: {unknown.detail}")

    async def test_given_a_state_database_that_is_away_then_the_numbers_are_told(
        self, desk: AlertsAtWork, clock: LoopClock, held: list[Hold]
    ) -> None:
        async def labels(_link: str, _owners: Collection[MaybeOwner]) -> Labels:
            raise StateUnavailable("The state database is away.")

        desk.alerts._labels = labels
        desk.alerts.ended(_ending(Health.IN_STEP, Health.HELD, holds=held[:1], clock=clock))
        await clock.sleep(1)
        assert "CRM deal 11, table deal 12" in desk.postman.delivered[0]["text"]


class TestOldHolds:
    async def test_given_a_hold_when_it_comes_of_age_then_it_is_told_once(
        self, desk: AlertsAtWork, clock: LoopClock
    ) -> None:
        desk.alerts.ended(_ending(Health.HELD, Health.HELD, holds=[hold(5, NOON), hold(6, NOON + 1800)], clock=clock))
        for _ in range(90):
            await clock.sleep(60)
            desk.alerts.notify_due()
        await clock.sleep(1)
        assert [[one["order_id"] for one in notice["holds"]] for notice in desk.postman.delivered] == [[5], [6]]
        assert desk.postman.delivered[0]["text"] == (
            "syncd: 1 order has been held on link shop for more than 1 h. Look with `syncd holds shop`."
        )

    async def test_given_the_link_is_another_daemons_now_then_it_tells(
        self, desk: AlertsAtWork, clock: LoopClock
    ) -> None:
        desk.alerts.ended(_ending(Health.HELD, Health.HELD, holds=[hold(5, NOON)], clock=clock))
        desk.alerts.forget("shop")
        await clock.sleep(7200)
        desk.alerts.notify_due()
        await clock.sleep(1)
        assert desk.postman.delivered == []


class TestFailingAfter:
    """A failure is told once it has lasted; what is shorter is nobody's business."""

    @staticmethod
    async def _watch(daemon: Daemon, desk: AlertsAtWork, rules: Rules) -> None:
        desk.alerts.configure([desk.postman], rules)
        TestOverDaemons._watched(daemon, desk)

    async def test_given_one_failed_pass_then_nobody_is_told_of_it_nor_of_its_end(
        self, daemon: Daemon, desk: AlertsAtWork, clock: LoopClock
    ) -> None:
        await self._watch(daemon, desk, Rules(failing_seconds=300))
        daemon.passes.outcomes["shop"] += [Outcome(seconds=0), DOWN]
        daemon.add()
        await clock.sleep(7200)
        assert desk.postman.events() == []

    async def test_given_a_failure_that_lasts_then_it_is_told_when_it_has_lasted_and_so_is_its_end(
        self, daemon: Daemon, desk: AlertsAtWork, clock: LoopClock
    ) -> None:
        await self._watch(daemon, desk, Rules(failing_seconds=300))
        daemon.passes.outcomes["shop"] += [Outcome(seconds=0), *[DOWN] * 9]
        daemon.add()
        await clock.sleep(4 * 3600)
        assert desk.postman.events() == ["health", "recovered"]
        told = desk.postman.delivered[0]
        assert (told["before"], told["health"], told["severity"]) == ("in-step", "failing", "error")

    async def test_given_a_pause_longer_than_the_limit_then_the_minute_tells(
        self, daemon: Daemon, desk: AlertsAtWork, clock: LoopClock
    ) -> None:
        await self._watch(daemon, desk, Rules(failing_seconds=300))
        desk.alerts.ended(_ending(Health.IN_STEP, Health.FAILING, clock=clock))
        for _ in range(12):
            await clock.sleep(60)
            desk.alerts.notify_due()
        await clock.sleep(1)
        assert desk.postman.events() == ["health"]
        recovered = _ending(Health.FAILING, Health.IN_STEP, clock=clock)
        desk.alerts.ended(replace(recovered, before=LinkHealth(Health.FAILING, NOON)))
        await clock.sleep(1)
        assert desk.postman.events() == ["health", "recovered"]

    async def test_given_a_number_of_passes_then_the_one_that_reaches_it_is_told(
        self, daemon: Daemon, desk: AlertsAtWork, clock: LoopClock
    ) -> None:
        await self._watch(daemon, desk, Rules(failing_passes=3))
        daemon.passes.outcomes["shop"] += [Outcome(seconds=0), DOWN, DOWN, Outcome(seconds=0), *[DOWN] * 4]
        daemon.add()
        await clock.sleep(4 * 3600)
        assert desk.postman.events() == ["health", "recovered"]

    async def test_given_a_restart_before_the_limit_then_it_is_still_told_and_after_it_not_again(
        self, daemon: Daemon, desk: AlertsAtWork, clock: LoopClock
    ) -> None:
        await self._watch(daemon, desk, Rules(failing_passes=3))
        daemon.passes.outcomes["shop"] += [Outcome(seconds=0), DOWN, DOWN, DOWN, DOWN]
        daemon.add()
        while len(daemon.passes.made) < 3:
            await clock.sleep(10)
        await daemon.kill()
        later = Daemon(daemon.store, clock)
        await self._watch(later, desk, Rules(failing_passes=3))
        later.passes.outcomes["shop"] += [DOWN, DOWN]
        later.add()
        await clock.sleep(4 * 3600)
        assert desk.postman.events() == ["health", "recovered"]
        assert desk.postman.delivered[0]["before"] == "in-step"
        await later.kill()

    async def test_given_held_orders_then_a_short_failure_between_does_not_tell_of_them_again(
        self, daemon: Daemon, desk: AlertsAtWork, clock: LoopClock
    ) -> None:
        await self._watch(daemon, desk, Rules(failing_seconds=300, holds_after=1e9))
        daemon.passes.always["shop"] = Outcome(holds=1, seconds=0)
        daemon.passes.outcomes["shop"] += [Outcome(seconds=0), Outcome(holds=1, seconds=0), DOWN]
        daemon.add()
        await clock.sleep(7200)
        assert desk.postman.events() == ["health"]


class TestReminders:
    async def test_given_a_link_that_stays_parked_then_it_is_told_again_at_each_interval(
        self, desk: AlertsAtWork, clock: LoopClock
    ) -> None:
        desk.alerts.configure([desk.postman], Rules(remind_every=3600))
        desk.alerts.ended(_ending(Health.IN_STEP, Health.PARKED, detail="No right.", clock=clock))
        for _ in range(150):
            await clock.sleep(60)
            desk.alerts.notify_due()
        await clock.sleep(1)
        assert desk.postman.events() == ["health", "reminder", "reminder"]
        assert desk.postman.delivered[1]["text"] == (
            "syncd: link shop is still parked: its portal or database refuses access, for 1 h now. No right. "
            "Look with `syncd check shop`."
        )

    async def test_given_a_restart_then_a_reminder_is_neither_lost_nor_told_twice(self, clock: LoopClock) -> None:
        for ended_before, reminders in ((NOON + 3500, 1), (NOON + 3650, 0)):
            desk = AlertsAtWork(clock, Postman())
            desk.alerts.configure([desk.postman], Rules(remind_every=3600))
            clock.jump = NOON + 3700 - clock.now() + clock.jump
            again = _ending(Health.PARKED, Health.PARKED, clock=clock)
            previous = RunRow(11, "shop", 1, "pass", "failed", finished_at=ended_before)
            desk.alerts.ended(replace(again, previous=previous))
            await clock.sleep(1)
            assert desk.postman.events() == ["reminder"] * reminders
            await desk.close()

    async def test_given_a_link_that_is_well_then_nobody_is_reminded(
        self, desk: AlertsAtWork, clock: LoopClock
    ) -> None:
        desk.alerts.configure([desk.postman], Rules(remind_every=3600))
        desk.alerts.ended(_ending(Health.IN_STEP, Health.IN_STEP, clock=clock))
        await clock.sleep(9000)
        desk.alerts.notify_due()
        await clock.sleep(1)
        assert desk.postman.events() == []


class TestSeverity:
    @pytest.mark.parametrize(
        ("least", "told"),
        [
            (Severity.INFO, ["failing", "held", "in-step"]),
            (Severity.WARNING, ["failing", "held"]),
            (Severity.ERROR, ["failing"]),
        ],
    )
    async def test_given_a_least_severity_then_what_matters_less_is_not_told(
        self, desk: AlertsAtWork, clock: LoopClock, least: Severity, told: list[str]
    ) -> None:
        desk.alerts.configure([desk.postman], Rules(severity=least))
        desk.alerts.ended(_ending(Health.IN_STEP, Health.FAILING, clock=clock))
        desk.alerts.ended(_ending(Health.FAILING, Health.HELD, clock=clock))
        desk.alerts.ended(_ending(Health.HELD, Health.IN_STEP, clock=clock))
        await clock.sleep(1)
        assert [notice["health"] for notice in desk.postman.delivered] == told


class TestTexts:
    """Every text in every state, with the commands that work in it."""

    @pytest.mark.parametrize(
        "case",
        [
            ("in-step", "failing", "", ("is failing (it was in step). Why. Look with `syncd show 12`. Then "
             "`syncd check shop`.")),
            ("in-step", "parked", "", ("is parked: its portal or database refuses access (it was in step). Why. Look with "
             "`syncd check shop`.")),
            ("in-step", "refused", "max_removes", ("is refused by a guard; nothing was written (it was in step). Why. "
             "Look with `syncd show 12`. `syncd apply 12` carries it out.")),
            ("in-step", "refused", "fingerprint", ("is refused by a guard; nothing was written (it was in step). Why. "
             "Look with `syncd show 12`. `syncd rebase shop` starts a new agreed state for the new ends, and deletes "
             "nothing.")),
            ("refused", "held", "", ("is in step, except for orders that are held (it was refused by a guard). Why. "
             "Look with `syncd holds shop`.")),
            ("parked", "in-step", "", ("is in step (it was parked: its portal or database refuses access). Why.")),
            ("new", "failing", "", ("is failing (it was waiting for its first pass). Why. Look with `syncd show 12`. "
             "Then `syncd check shop`.")),
        ],
        ids=str,
    )  # fmt: skip
    async def test_given_a_change_then_its_text_names_the_commands_that_work_then(
        self, desk: AlertsAtWork, clock: LoopClock, case: tuple[str, str, str, str]
    ) -> None:
        before, after, guard, text = case
        hits = [GuardHit(guard, None, 0, 1)] if guard else []
        desk.alerts.ended(_ending(Health(before), Health(after), detail="why", guards=hits, clock=clock))
        await clock.sleep(1)
        (notice,) = desk.postman.delivered
        assert notice["text"] == f"syncd: link shop {text}"
        assert notice["commands"] == re.findall("`(syncd [^`]*)`", text)

    async def test_given_a_short_age_then_it_is_told_in_its_own_unit(
        self, desk: AlertsAtWork, clock: LoopClock
    ) -> None:
        desk.alerts.configure([desk.postman], Rules(holds_after=60))
        desk.alerts.ended(_ending(Health.HELD, Health.HELD, holds=[hold(5, NOON - 60)], clock=clock))
        await clock.sleep(1)
        assert "for more than 1 min." in desk.postman.delivered[0]["text"]


class TestOverDaemons:
    """The alerts of runners over a shared store: what was told follows from the runs alone."""

    @staticmethod
    def _watched(daemon: Daemon, desk: AlertsAtWork) -> Daemon:
        async def ended(result: PassResult) -> None:
            desk.alerts.ended(result)

        daemon.watcher.ended = ended  # type: ignore[method-assign]
        daemon.watcher.passed_elsewhere = desk.alerts.forget  # type: ignore[method-assign]
        return daemon

    async def test_given_an_outage_of_many_passes_then_it_is_told_once_and_so_is_its_end(
        self, daemon: Daemon, desk: AlertsAtWork, clock: LoopClock
    ) -> None:
        self._watched(daemon, desk)
        daemon.passes.outcomes["shop"] += [Outcome(seconds=0), *[DOWN] * 6]
        daemon.add()
        await clock.sleep(7200)
        assert desk.postman.events() == ["health", "recovered"]

    async def test_given_a_restart_within_an_outage_then_it_is_not_told_again(
        self, daemon: Daemon, desk: AlertsAtWork, clock: LoopClock
    ) -> None:
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
        self, daemon: Daemon, desk: AlertsAtWork, clock: LoopClock
    ) -> None:
        self._watched(daemon, desk)
        daemon.passes.always["shop"] = Outcome(holds=2, seconds=0)
        daemon.add()
        await clock.sleep(7200)
        await daemon.kill()
        fresh = AlertsAtWork(clock, Postman())
        later = self._watched(Daemon(daemon.store, clock), fresh)
        later.passes.always["shop"] = Outcome(holds=2, seconds=0)
        later.add()
        await clock.sleep(7200)
        assert desk.postman.events() == ["health", "holds"]
        assert fresh.postman.events() == []
        await later.kill()
        await fresh.close()

    async def test_given_a_parked_link_tried_again_in_vain_then_it_is_told_once(
        self, store: MemoryStore, clock: LoopClock, desk: AlertsAtWork
    ) -> None:
        daemon = self._watched(Daemon(store, clock), desk)
        daemon.passes.always["shop"] = Outcome("failed", error=AuthError("No right."), seconds=0)
        daemon.add()
        await clock.sleep(6 * 3600)
        assert len(daemon.passes.made) > 4
        assert desk.postman.events() == ["health"]
        await daemon.kill()


class TestDelivery:
    async def test_given_a_courier_that_fails_at_first_then_it_is_tried_again(self, clock: LoopClock) -> None:
        desk = AlertsAtWork(clock, Postman(refusals=2))
        desk.alerts.ended(_ending(Health.IN_STEP, Health.FAILING, clock=clock))
        await clock.sleep(60)
        assert (desk.postman.events(), desk.counts) == (["health"], {("webhook", "delivered"): 1})
        await desk.close()

    async def test_given_a_courier_with_a_bug_then_the_others_deliver_and_so_does_it_later(
        self, clock: LoopClock
    ) -> None:
        class Broken(Postman):
            async def deliver(self, notice: Mapping[str, Any]) -> None:
                self.tries += 1
                if self.tries == 1:
                    raise RuntimeError("a bug")
                self.delivered.append(notice)

        desk, broken = AlertsAtWork(clock, Postman()), Broken()
        desk.alerts.configure([desk.postman, broken], Rules())
        desk.alerts.ended(_ending(Health.IN_STEP, Health.FAILING, clock=clock))
        await clock.sleep(60)
        assert (desk.postman.events(), broken.events()) == (["health"], ["health"])
        await desk.close()

    async def test_given_a_courier_that_always_fails_then_it_is_given_up_and_counted(self, clock: LoopClock) -> None:
        desk = AlertsAtWork(clock, Postman(refusals=99))
        desk.alerts.ended(_ending(Health.IN_STEP, Health.FAILING, clock=clock))
        await clock.sleep(600)
        assert (desk.postman.tries, desk.counts) == (4, {("webhook", "failed"): 1})
        await desk.close()

    async def test_given_more_than_can_wait_then_the_oldest_are_dropped(self, clock: LoopClock) -> None:
        desk = AlertsAtWork(clock, Postman())
        for _ in range(WAITING + 5):
            desk.alerts.ended(_ending(Health.IN_STEP, Health.FAILING, clock=clock))
        await clock.sleep(1)
        assert desk.counts == {("any", "dropped"): 5, ("webhook", "delivered"): WAITING}
        await desk.close()

    async def test_given_something_under_way_when_drained_then_it_has_been_delivered(
        self, desk: AlertsAtWork, clock: LoopClock
    ) -> None:
        desk.alerts.ended(_ending(Health.IN_STEP, Health.FAILING, clock=clock))
        await desk.alerts.drain()
        assert desk.postman.events() == ["health"]

    async def test_given_no_courier_then_nothing_waits(self, clock: LoopClock) -> None:
        alerts = Alerts(clock, lambda _way, _outcome: None)
        alerts.ended(_ending(Health.IN_STEP, Health.FAILING, clock=clock))
        async with asyncio.timeout(1):
            await alerts.drain()
