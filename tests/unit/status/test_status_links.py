"""How a link is, derived from the state database, the same for everybody who triggers."""

from __future__ import annotations

from typing import Any

import pytest

from syncd.config.model import Settings
from syncd.core.model import Counts, Facts, Hold, HoldKind, Owner, Side, SideCounts
from syncd.core.order_ranges import Coverage, OrderRanges
from syncd.core.records import BindingUpdate, GuardHit, Pause, RunRow, StoredHold
from syncd.engine.report import iso
from syncd.status.fire_times import LATE_AFTER, FireTimes, retry_pause
from syncd.status.health import Health
from syncd.status.links import DEEP, RECENT, LinkStatus, link_json, link_statuses
from syncd.status.needs import freshness, needs_of
from tests.fakes.clock import SetClock
from tests.fakes.settings import settings
from tests.fakes.store import MemoryStore

pytestmark = pytest.mark.anyio

NOON = 1_800_000_000.0


TIMES = FireTimes("shop", settings().links["shop"].schedule)  # type: ignore[arg-type]


class Shop:
    """One link whose past is written run by run."""

    def __init__(self) -> None:
        self.clock = SetClock(NOON)
        self.store = MemoryStore(self.clock)
        self.settings = settings()

    async def run(self, state: str = "applied", *, kind: str = "pass", error: str = "", **row: Any) -> int:
        lease = await self.store.acquire(await self.store.link("shop", "ends"), "host:1", 60, self.clock.now())
        number = await self.store.start_run(lease, kind, "schedule", self.clock.now())
        began = self.clock.now()
        self.clock.time += 2
        ended = RunRow(number, "shop", lease.link_id, kind, state, started_at=began, finished_at=self.clock.now())
        ended.error = error
        for name, value in row.items():
            setattr(ended, name, value)
        await self.store.finish_run(lease, ended)
        await self.store.release(lease)
        return number

    async def park(self, reason: str) -> None:
        lease = await self.store.acquire(await self.store.link("shop", "ends"), "host:1", 60, self.clock.now())
        await self.store.set_parked(lease, reason)
        await self.store.release(lease)

    async def hold(self, order: int) -> None:
        lease = await self.store.acquire(await self.store.link("shop", "ends"), "host:1", 60, self.clock.now())
        hold = Hold(order, HoldKind.EDIT_EDIT, Facts(None, None, None), "…", since=self.clock.now())
        opened = [StoredHold(hold, sticky=False)]
        await self.store.set_holds(lease, 1, opened=opened, released=[], now=self.clock.now())
        await self.store.release(lease)

    async def see_unreadable_rows(self, waiting: int) -> None:
        lease = await self.store.acquire(await self.store.link("shop", "ends"), "host:1", 60, self.clock.now())
        hold = Hold(0, HoldKind.INVALID_ROW, Facts(None, None, None), "…", since=self.clock.now())
        await self.store.set_holds(lease, 1, opened=[StoredHold(hold, sticky=False)], released=[], now=self.clock.now())
        await self.store.release(lease)
        await self.run(counts=Counts(waiting=waiting))

    async def look(self) -> LinkStatus:
        (found,) = await link_statuses(self.settings, self.store, self.clock.now())
        return found

    async def said(self) -> str:
        return " ".join(f"{need.sentence} {need.command}" for need in needs_of(await self.look(), self.clock.now()))


@pytest.fixture
def shop() -> Shop:
    return Shop()


DOWN = "The portal cannot be reached."


async def test_given_a_good_pass_a_failed_one_and_a_plan_then_the_plan_says_nothing_of_the_links_health(
    shop: Shop,
) -> None:
    await shop.run()
    await shop.run("failed", error=DOWN)
    await shop.run("planned", kind="plan")
    assert (await shop.look()).health is Health.FAILING


async def test_given_an_interval_then_the_next_pass_is_at_the_daemons_own_fire_time(shop: Shop) -> None:
    await shop.run()
    assert (await shop.look()).next_run == TIMES.after(NOON)


async def test_given_a_failed_pass_then_the_next_one_is_after_the_daemons_own_pause(shop: Shop) -> None:
    await shop.run("failed", error=DOWN)
    await shop.run("failed", error=DOWN)
    ended = shop.clock.now()
    status = await shop.look()
    assert status.failures == 2
    assert status.next_run == ended + retry_pause("shop", 2, TIMES, ended)
    assert 60 <= status.next_run - ended <= 66


async def test_given_a_daemon_that_died_then_the_link_is_late_once_a_pass_is_overdue_for_long_enough(
    shop: Shop,
) -> None:
    await shop.run()
    due = TIMES.after(NOON)
    assert due is not None
    shop.clock.time = due + LATE_AFTER
    assert (await shop.look()).health is Health.IN_STEP
    shop.clock.time = due + LATE_AFTER + 1
    status = await shop.look()
    assert (status.health, status.condition.health, status.overdue) == (Health.LATE, Health.IN_STEP, due)
    assert not status.is_well
    assert "No pass has been made since" in await shop.said()
    assert link_json(status)["overdue_since"] is not None


async def test_given_a_failing_a_parked_or_a_refused_link_that_nobody_looks_after_then_it_is_late_too(
    shop: Shop,
) -> None:
    await shop.run("failed", error=DOWN)
    shop.clock.time += 600
    assert (await shop.look()).health is Health.LATE
    await shop.run("failed", error="No right.")
    await shop.park("auth: No right.")
    assert (await shop.look()).health is Health.PARKED
    shop.clock.time += 1000
    assert (await shop.look()).health is Health.LATE
    await shop.run("refused", error="too much", guards=[GuardHit("max_removes", None, 1, 2)])
    await shop.park("refused: too much")
    shop.clock.time += 2000
    assert ((await shop.look()).health, (await shop.look()).condition.health) == (Health.LATE, Health.REFUSED)


async def test_given_a_pass_longer_than_its_interval_then_it_made_nothing_late(shop: Shop) -> None:
    await shop.run(finished_at=NOON + 3600)
    shop.clock.time = NOON + 3600 + LATE_AFTER - 1
    assert (await shop.look()).health is Health.IN_STEP


@pytest.mark.parametrize("jitter", [None, "10m"])
async def test_given_a_jitter_then_a_pass_may_begin_as_much_later(shop: Shop, jitter: str | None) -> None:
    daemon = {} if jitter is None else {"jitter": jitter}
    shop.settings = Settings.model_validate(
        {"daemon": daemon, "links": {"shop": settings(schedule="0 * * * *").links["shop"]}}
    )
    await shop.run()
    shop.clock.time = NOON + 3600 + 400
    assert ((await shop.look()).health is Health.LATE) is (jitter is None)


async def test_given_no_schedule_then_nobody_is_late(shop: Shop) -> None:
    shop.settings = settings(schedule=None)
    await shop.run()
    shop.clock.time += 30 * 86400
    status = await shop.look()
    assert (status.health, status.next_run) == (Health.IN_STEP, None)


async def test_given_a_pause_with_an_end_then_the_first_fire_time_after_it_is_the_next_pass(shop: Shop) -> None:
    await shop.run()
    pause = Pause("anna@ops", NOON, NOON + 7200, "reload")
    await shop.store.set_paused("shop", paused=True, pause=pause)
    shop.clock.time = NOON + 7100
    status = await shop.look()
    assert (status.health, status.is_well, status.next_run) == (Health.PAUSED, True, TIMES.after(NOON + 7200))
    assert link_json(status)["pause"]["comment"] == "reload"
    shop.clock.time = NOON + 7300
    status = await shop.look()
    assert (status.health, status.paused, link_json(status)["pause"]) == (Health.IN_STEP, False, None)


async def test_given_a_pause_without_an_end_then_no_pass_is_expected_and_after_it_none_is_overdue(shop: Shop) -> None:
    await shop.run()
    await shop.store.set_paused("shop", paused=True, pause=Pause("anna@ops", NOON))
    shop.clock.time += 7200
    assert (await shop.look()).next_run is None
    await shop.store.set_paused("shop", paused=False, pause=Pause("anna@ops", NOON, until=shop.clock.now()))
    status = await shop.look()
    assert (status.health, status.next_run) == (Health.IN_STEP, TIMES.after(shop.clock.now()))


async def test_given_a_failed_pass_then_the_numbers_of_the_last_one_that_read_both_sides_stay(shop: Shop) -> None:
    await shop.run(counts=Counts(in_step=940, crm_rows=941))
    for _ in range(RECENT + 1):
        await shop.run("failed", error=DOWN)
    status = await shop.look()
    assert status.last_read is not None
    assert (status.health, link_json(status)["in_step"], status.failures) == (Health.FAILING, 940, RECENT + 1)


async def test_given_more_alike_passes_than_a_look_reads_then_it_looks_further_back_for_since_when(shop: Shop) -> None:
    await shop.run("failed", error=DOWN)
    await shop.run()
    since = shop.clock.now()
    for _ in range(RECENT + 5):
        await shop.run()
    assert (await shop.look()).condition.since == since
    assert DEEP > RECENT


async def test_given_a_lease_then_the_link_works_and_is_well_only_if_it_was_before(shop: Shop) -> None:
    await shop.run()
    await shop.store.acquire(await shop.store.link("shop", "ends"), "other:9", 60, shop.clock.now())
    assert ((await shop.look()).health, (await shop.look()).is_well) == (Health.WORKING, True)
    shop.clock.time += 61
    await shop.run("failed", error=DOWN)
    await shop.store.acquire(await shop.store.link("shop", "ends"), "other:9", 60, shop.clock.now())
    assert ((await shop.look()).health, (await shop.look()).is_well) == (Health.WORKING, False)


async def test_given_a_run_without_a_lease_then_it_is_interrupted_but_not_in_its_first_seconds(shop: Shop) -> None:
    await shop.run()
    lease = await shop.store.acquire(await shop.store.link("shop", "ends"), "host:1", 60, shop.clock.now())
    number = await shop.store.start_run(lease, "pass", "schedule", shop.clock.now())
    await shop.store.release(lease)
    assert not (await shop.look()).interrupted
    shop.clock.time += 11
    assert (await shop.look()).interrupted
    assert f"Run {number} was interrupted" in await shop.said()
    assert (await shop.look()).health is Health.IN_STEP


async def test_given_a_link_that_points_elsewhere_then_rebase_is_named_and_apply_is_not(shop: Shop) -> None:
    hits = [GuardHit("fingerprint", None, 0, 1)]
    await shop.run("refused", error="The table is another one now.", guards=hits)
    said = await shop.said()
    assert "syncd rebase shop" in said
    assert "apply" not in said


async def test_given_a_refused_plan_and_a_pass_under_way_or_cut_off_then_the_refused_plan_is_still_the_one_that_is_told(
    shop: Shop,
) -> None:
    hits, counts = [GuardHit("max_removes", Side.CRM, 1, 2)], Counts(crm=SideCounts(remove=2))
    refused = await shop.run("refused", error="too much", guards=hits, counts=counts)
    told = await shop.said()
    assert f"Run {refused} wrote nothing" in told
    assert f"syncd apply {refused}" in told

    await shop.run("failed", error="Stopped by SIGTERM.")
    assert await shop.said() == told

    lease = await shop.store.acquire(await shop.store.link("shop", "ends"), "host:1", 60, shop.clock.now())
    await shop.store.start_run(lease, "pass", "schedule", shop.clock.now())
    assert (await shop.look()).health is Health.WORKING
    assert await shop.said() == told


async def test_given_a_plan_that_waits_then_the_command_that_applies_it_until_it_is_too_old(shop: Shop) -> None:
    await shop.run()
    number = await shop.run("planned", kind="plan", counts=Counts(crm=SideCounts(add=3)))
    assert f"syncd apply {number}" in await shop.said()
    shop.clock.time += 86401
    assert "apply" not in await shop.said()


async def test_given_holds_then_they_are_counted_by_kind(shop: Shop) -> None:
    await shop.run(counts=Counts(holds=2))
    await shop.hold(5)
    await shop.hold(6)
    status = await shop.look()
    assert (status.health, status.is_well) == (Health.HELD, False)
    assert "2 orders are held: changed on both sides (2). syncd holds shop" in await shop.said()


async def test_given_a_link_that_is_well_then_it_needs_nobody(shop: Shop) -> None:
    await shop.run()
    assert await shop.said() == ""


@pytest.mark.parametrize("conditional", [True, False])
async def test_given_a_run_that_found_out_about_conditions_then_the_status_says_so_until_another_does(
    conditional: bool,
) -> None:
    shop = Shop()
    await shop.run(conditional=conditional)
    await shop.run()

    assert link_json(await shop.look())["portal"]["conditional"] is conditional
    assert ("carry no conditions" in await shop.said()) is not conditional


async def test_given_no_run_that_wrote_then_nothing_is_said_of_conditions() -> None:
    shop = Shop()
    await shop.run()

    assert link_json(await shop.look())["portal"]["conditional"] is None
    assert "conditions" not in await shop.said()


async def test_given_absences_that_wait_for_unreadable_rows_then_they_are_shown_with_since_when() -> None:
    shop = Shop()
    await shop.run()
    since = shop.clock.now()
    await shop.see_unreadable_rows(waiting=8)
    shop.clock.time += 300
    await shop.run(counts=Counts(waiting=7))
    link = await shop.look()
    assert (link.waiting, link.waiting_since) == (7, since)
    form = link_json(link)
    assert (form["waiting"], form["waiting_since"]) == (7, iso(since))


# ------------------------------------------------------------------ parts of a link


async def cover(shop: Shop, coverage: Coverage) -> None:
    lease = await shop.store.acquire(await shop.store.link("shop", "ends"), "host:1", 60, shop.clock.now())
    await shop.store.set_coverage(lease, coverage)
    await shop.store.release(lease)


async def test_given_slices_and_the_newest_then_it_is_told_how_fresh_each_part_is() -> None:
    shop = Shop()
    shop.settings = settings(slices=3, recent={"orders": 2000})
    await shop.run()
    now = shop.clock.now()
    slices = Coverage.whole(now - 2280).cut([10, 20]).covered(OrderRanges.parse("1-20"), now - 1000)
    await cover(shop, Coverage(slices.slices, 5, now - 12))

    status = (await link_statuses(shop.settings, shop.store, now))[0]

    assert freshness(status, now) == "newest 2,000: 12 s ago; all: within 38 min; slice 3 of 3 is next"
    told = link_json(status)["freshness"]
    assert (told["slices"], told["next_slice"], told["recent_orders"]) == (3, 3, 2000)
    assert told["all_covered_since"] == "2027-01-15T07:22:02+00:00"
    assert told["recent_covered_at"] == "2027-01-15T07:59:50+00:00"


async def test_given_a_link_that_is_covered_as_a_whole_then_nothing_is_told_of_parts() -> None:
    shop = Shop()
    await shop.run()
    await cover(shop, Coverage.whole(shop.clock.now()))

    assert freshness((await link_statuses(shop.settings, shop.store, shop.clock.now()))[0], shop.clock.now()) == ""


async def test_given_a_slice_that_is_never_covered_then_the_link_is_late_although_others_are() -> None:
    shop = Shop()
    shop.settings = settings(slices=3)
    await cover(shop, Coverage.whole(shop.clock.now()).cut([10, 20]))
    for _ in range(8):
        await shop.run(covers=OrderRanges.parse("1-10"), part="slice 1 of 3")
        status = (await link_statuses(shop.settings, shop.store, shop.clock.now()))[0]
        shop.clock.time += 298
        if status.health is Health.LATE:
            break
    now = shop.clock.now()
    status = (await link_statuses(shop.settings, shop.store, now))[0]

    assert status.health is Health.LATE
    assert now - status.all_fresh_at == pytest.approx(2400, abs=10)
    assert "their slice could not be covered" in needs_of(status, now)[0].sentence


async def test_given_passes_over_parts_then_the_agreed_orders_are_those_in_step() -> None:
    shop = Shop()
    lease = await shop.store.acquire(await shop.store.link("shop", "ends"), "host:1", 60, shop.clock.now())
    await shop.store.observed(lease, [BindingUpdate(one, Owner(2, 9), Owner(2, 9)) for one in range(1, 8)])
    await shop.store.release(lease)
    await shop.run(covers=OrderRanges.parse("1-2"), part="slice 1 of 3", counts=Counts(in_step=2))

    assert (await link_statuses(shop.settings, shop.store, shop.clock.now()))[0].in_step == 7


async def test_given_a_refused_plan_and_passes_over_other_orders_then_the_link_is_refused_until_they_are_covered() -> (
    None
):
    shop = Shop()
    refused: dict[str, Any] = {"guards": [GuardHit("max_removes", Side.CRM, 1, 2)], "covers": OrderRanges.parse("5-9")}
    await shop.run("refused", error="too many", **refused)
    for text, health in (("1-4,20-", Health.REFUSED), ("7", Health.REFUSED), ("4-9", Health.IN_STEP)):
        await shop.run(covers=OrderRanges.parse(text), part="named orders")
        assert (await link_statuses(shop.settings, shop.store, shop.clock.now()))[0].condition.health is health
