"""The overview: every link with its health at a glance, and what needs a person."""

from __future__ import annotations

import asyncio
import gc
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from syncd.core.model import Counts, HoldKind, Outcome, Owner, Side, SideCounts
from syncd.core.records import BindingUpdate, GuardHit, Pause, Reached
from syncd.daemon.pages.links import SHOWN
from syncd.errors import StateUnavailable
from syncd.portal.factory import budget_key
from syncd.status.links import LinkStatus
from tests.unit.pages.pages_reader import Browser
from tests.unit.pages.shown_daemon import NOON, ShownDaemon, change, held, open_world, web

pytestmark = pytest.mark.anyio

REFUSING = GuardHit("max_removes", Side.CRM, 100, 4000)
REMOVES = Counts(in_step=900, agreed=5000, crm=SideCounts(remove=4000))


async def _row(browser: Browser, link: str = "shop") -> dict[str, str]:
    rows = (await browser.get("/")).rows("Every link")
    (cells,) = [cells for cells in rows[1:] if cells[0].split()[0] == link]
    return dict(zip(rows[0], cells, strict=True))


async def test_given_a_link_in_step_then_its_row_says_so_and_since_when(world: ShownDaemon, browser: Browser) -> None:
    await world.run(before=7200)
    await world.run(before=240)
    row = await _row(browser)
    assert row["Health"] == "✓in step for 1 h 59 min"
    assert row["In step"] == "940 0 agreed"
    assert row["Last pass"] == "4 min ago CRM 0 · table 0"
    page = await browser.get("/")
    assert page.text_of("summary") == "1 link: 1 in step."
    assert page.title == "All well · syncd"
    assert not page.has("needs")


async def test_given_a_link_without_a_pass_then_it_waits_and_the_first_plan_is_proposed_where_no_schedule_makes_one(
    tmp_path: Path, empty_state: Path
) -> None:
    async with open_world(tmp_path, empty_state, {"shop": {}, "byhand": {"schedule": None}}) as world:
        browser = Browser(web(world))
        page = await browser.get("/")
        assert (await _row(browser))["Health"] == "○new"
        assert (await _row(browser, "byhand"))["Next pass"] == "on command"
        assert not page.has("needs-shop")
        assert page.text_of("needs-byhand").startswith("byhand ○new No pass has been made yet.")
        assert page.commands == ["syncd plan byhand"]
        await browser.aclose()


async def test_given_a_refused_pass_then_its_numbers_and_the_command_that_applies_it(
    world: ShownDaemon, browser: Browser
) -> None:
    run = await world.run(state="refused", counts=REMOVES, guards=[REFUSING], before=60)
    page = await browser.get("/")
    assert (await _row(browser))["Health"] == "▲refused for 58 s"
    assert f"Run {run} wrote nothing: 4,000 removes in the CRM; the limit is 100 a run." in page.text_of("needs-shop")
    assert "If that is a mistake, correct the table; the next pass compares anew." in page.text_of("needs-shop")
    assert page.commands == [f"syncd show {run}", f"syncd apply {run}"]
    assert page.title == "1 needs attention · syncd"


async def test_given_looks_at_a_refused_plan_then_the_run_that_holds_it_and_when_the_next_look_is(
    world: ShownDaemon, browser: Browser
) -> None:
    run = await world.run(state="refused", counts=REMOVES, guards=[REFUSING], before=1000)
    await world.run(state="refused", counts=REMOVES, guards=[REFUSING], source=run, before=60)
    lease = await world.lease()
    await world.store.set_parked(lease, "refused: 4,000 removes in the CRM")
    await world.store.release(lease)
    page = await browser.get("/")
    assert page.commands == [f"syncd show {run}", f"syncd apply {run}"]
    assert re.search(r"Scheduled passes are suspended; the next check is in 1\d min\.", page.text_of("needs-shop"))


async def test_given_a_refused_plan_too_old_to_be_applied_then_a_new_one_is_proposed(
    world: ShownDaemon, browser: Browser
) -> None:
    run = await world.run(state="refused", counts=REMOVES, guards=[REFUSING], before=25 * 3600)
    page = await browser.get("/")
    assert "That plan is too old to be applied." in page.text_of("needs-shop")
    assert page.commands == ["syncd reconcile shop", f"syncd show {run}", "syncd plan shop"]


async def test_given_a_link_that_points_elsewhere_then_rebase_is_the_command(
    world: ShownDaemon, browser: Browser
) -> None:
    guards = [GuardHit("fingerprint", None, 0, 1)]
    await world.run(state="refused", guards=guards, error="The table is another one now.")
    page = await browser.get("/")
    assert "The table is another one now." in page.text_of("needs-shop")
    assert "syncd rebase shop" in page.commands


async def test_given_a_failing_link_then_the_error_and_how_often(world: ShownDaemon, browser: Browser) -> None:
    await world.run(state="failed", error="The portal cannot be reached.", before=100)
    await world.run(state="failed", error="The portal cannot be reached.", before=92)
    run = await world.run(state="failed", error="The portal cannot be reached.", before=90)
    page = await browser.get("/")
    assert (await _row(browser))["Health"] == "✕failing for 1 min"
    assert re.match(r"in (3\d|4\d) s", (await _row(browser))["Next pass"])
    told = page.text_of("needs-shop")
    assert "The portal cannot be reached." in told
    assert "Failed 3 times in a row." in told
    assert page.commands == [f"syncd show {run}", "syncd check shop"]


async def test_given_a_parked_link_then_the_reason_without_its_code_word(world: ShownDaemon, browser: Browser) -> None:
    await world.run(state="failed", error="The portal refuses the webhook.", before=90)
    lease = await world.lease()
    await world.store.set_parked(lease, "auth: The portal refuses the webhook.")
    await world.store.release(lease)
    page = await browser.get("/")
    assert (await _row(browser))["Health"].startswith("Pparked")
    assert page.text_of("needs-shop").count("The portal refuses the webhook.") == 1
    assert "auth:" not in page.text
    assert page.commands == ["syncd check shop"]


async def test_given_held_orders_then_how_many_of_what_kind(world: ShownDaemon, browser: Browser) -> None:
    held_orders = [held(1), held(2), held(3, HoldKind.INVALID_ROW)]
    await world.run(holds=held_orders)
    page = await browser.get("/")
    row = await _row(browser)
    assert (row["Health"].split()[0], row["Held"]) == ("■held", "3")
    assert "3 orders are held: changed on both sides (2); a row that cannot be read." in page.text_of("needs-shop")
    assert page.commands == ["syncd holds shop"]


async def test_given_changes_left_behind_then_the_run_that_left_them(world: ShownDaemon, browser: Browser) -> None:
    run = await world.run(state="partial", changes=[(change(5, 1, 2), Outcome.SKIPPED, "moved since")])
    page = await browser.get("/")
    assert (await _row(browser))["Health"].startswith("■held")
    assert "left changes behind" in page.text_of("needs-shop")
    assert page.commands == [f"syncd show {run}"]


async def test_given_a_paused_link_then_its_lasting_health_stays_visible(world: ShownDaemon, browser: Browser) -> None:
    await world.run(before=60)
    await world.store.set_paused("shop", paused=True)
    page = await browser.get("/")
    assert (await _row(browser))["Health"] == "‖paused in step at the last pass"
    assert page.commands == ["syncd resume shop"]


async def test_given_a_pass_at_work_here_then_its_progress(world: ShownDaemon, browser: Browser) -> None:
    await world.run(before=60)
    lease = await world.lease()
    await world.store.renew(lease, 600.0, NOON, Reached("listing the portal", 4500, 10000))
    assert (await _row(browser))["Health"] == "▶working reading the CRM 4,500 of 10,000 by host:1"


async def test_given_another_daemon_at_work_then_the_link_works_and_it_is_named(
    world: ShownDaemon, browser: Browser
) -> None:
    await world.run(before=60)
    await world.lease(holder="other-host:7")
    assert (await _row(browser))["Health"] == "▶working at work: other-host:7"


async def test_given_a_run_that_has_just_begun_then_it_is_not_called_interrupted_until_its_lease_should_be_seen(
    world: ShownDaemon, browser: Browser
) -> None:
    lease = await world.lease()
    await world.store.start_run(lease, "pass", "schedule", NOON)
    await world.store.release(lease)
    world.clock.time += 5
    assert "interrupted" not in (await browser.get("/runs")).text
    world.clock.time += 10
    assert "interrupted" in (await browser.get("/runs")).text


async def test_given_a_failed_pass_then_the_numbers_of_the_last_one_that_read_both_sides_stay(
    world: ShownDaemon, browser: Browser
) -> None:
    await world.run(before=120)
    await world.run(state="failed", error="The portal cannot be reached.", counts=Counts(), before=60)
    assert (await _row(browser))["In step"].startswith("940 ")


async def test_given_nobody_who_looks_after_a_link_then_it_is_late_and_says_since_when(
    world: ShownDaemon, browser: Browser
) -> None:
    await world.run(before=3 * 3600)
    page = await browser.get("/")
    assert (await _row(browser))["Health"].startswith("!late in step at the last pass")
    assert re.search(r"one is overdue by 2 h 5\d min. Is a daemon running\?", page.text_of("needs-shop"))
    assert page.commands == ["syncd reconcile shop"]
    assert page.text_of("summary") == "1 link: 1 late."


async def test_given_a_pause_then_by_whom_until_when_and_why(world: ShownDaemon, browser: Browser) -> None:
    await world.run(before=60)
    pause = Pause("anna@ops", NOON - 30, NOON + 7200, "the table is being reloaded")
    await world.store.set_paused("shop", paused=True, pause=pause)
    page = await browser.get("/")
    assert (await _row(browser))["Health"].startswith("‖paused")
    told = page.text_of("needs-shop")
    assert "paused by anna@ops on 2027-01-15" in told
    assert ": the table is being reloaded." in told
    assert page.text_of("summary") == "1 link: 1 paused."
    world.clock.time += 7201
    assert not (await _row(browser))["Health"].startswith("‖paused")


async def test_given_a_pass_that_could_not_begin_then_the_page_says_why(world: ShownDaemon, browser: Browser) -> None:
    await world.run(before=60)
    world.said = world.said.but(troubles=(("shop", "The driver is missing."),))
    page = await browser.get("/")
    assert "The newest pass could not start: The driver is missing." in page.text_of("needs-shop")


async def test_given_many_links_then_what_needs_a_person_comes_first_and_the_table_is_filtered_and_sorted(
    tmp_path: Path, empty_state: Path
) -> None:
    names = [f"shop-{number:02}" for number in range(30)]
    async with open_world(tmp_path, empty_state, {name: {} for name in names}) as world:
        browser = Browser(web(world))
        for name in names:
            failing = name >= "shop-10"
            await world.run(name, state="failed" if failing else "applied", error="It is down." if failing else "")
        page = await browser.get("/")
        ids = [one["id"] for one in page.elements if one.get("id")]
        assert ids.index("needs") < ids.index("links")
        assert sum(one.startswith("needs-shop") for one in ids) == SHOWN
        assert page.text_of("more-needs").startswith(f"{20 - SHOWN} more links need attention")

        async def shown(query: str) -> list[str]:
            return [row[0].split()[0] for row in (await browser.get(f"/?{query}")).rows("Every link")[1:]]

        assert await shown("health=in-step") == names[:10]
        assert await shown("sort=health") == [*names[10:], *names[:10]]
        assert await shown("name=-0&health=") == names[:10]
        assert await shown("name=nothing") == []
        assert (await browser.answer("/?sort=colour")).status_code == 400
        await browser.aclose()


async def test_given_few_links_then_there_is_nothing_to_choose(world: ShownDaemon, browser: Browser) -> None:
    assert not (await browser.get("/")).has("choose")


async def test_given_removes_that_wait_then_they_are_counted_and_need_nobody(
    world: ShownDaemon, browser: Browser
) -> None:
    await world.run(before=60)
    lease = await world.lease()
    agreed = [BindingUpdate(order, Owner(2, 7), Owner(2, 7)) for order in (1, 2, 3)]
    await world.store.observed(lease, agreed)
    await world.store.note_absences(lease, Side.TABLE, [1, 2, 3], NOON - 60)
    await world.store.release(lease)
    assert "3 waiting" in (await _row(browser))["Held"]
    page = await browser.get("/links/shop")
    assert "3 removes wait until a later pass finds the same orders absent, the first 1 min ago" in page.text_of(
        "facts"
    )
    assert not page.has("needs-shop")


async def test_given_a_used_budget_then_the_fullest_method_and_its_share(world: ShownDaemon, browser: Browser) -> None:
    portal = world.context.settings.links["shop"].portal
    used = {"crm.orderentity.add": (360.0, NOON + 300, NOON), "batch": (48.0, NOON + 300, NOON)}
    await world.store.set_budget(budget_key(portal), used)
    assert (await _row(browser))["Budget used"] == "75 % 75 %"
    world.clock.time += 600
    assert (await _row(browser))["Budget used"] == "none"


async def test_the_sparkline_shows_how_the_newest_runs_ended_in_colour_and_in_words(
    world: ShownDaemon, browser: Browser
) -> None:
    await world.run(before=900)
    await world.run(changes=[(change(5, 1, 2), Outcome.APPLIED, "")], before=600)
    await world.run(state="refused", counts=REMOVES, guards=[REFUSING], before=300)
    page = await browser.get("/")
    bars = page.all("rect")
    assert [bar["class"] for bar in bars] == ["good", "good", "bad"]
    assert [bar.text for bar in bars] == [
        "Run 1: applied, nothing to change",
        "Run 2: applied, 1 change",
        "Run 3: refused, 4,000 changes",
    ]
    heights = [int(bar["height"]) for bar in bars]
    assert heights[0] < heights[1] < heights[2] <= 20
    assert page.one("svg")["aria-label"] == "Newest 3 runs: 2 applied and 1 refused"


async def test_given_a_configuration_that_could_not_be_read_again_then_the_page_says_so(
    world: ShownDaemon, browser: Browser
) -> None:
    world.said = world.said.but(config_error="links.shop.schedule: not an interval", restart=("web.listen",))
    page = await browser.get("/")
    assert "links.shop.schedule: not an interval" in page.text_of("config-error")
    assert "web.listen" in page.text_of("restart")


async def test_given_no_links_then_the_page_says_how_to_make_one(world: ShownDaemon, browser: Browser) -> None:
    world.context.settings = world.context.settings.model_copy(update={"links": {}})
    page = await browser.get("/")
    assert page.text_of("summary") == "The configuration has no links."
    assert page.commands == ["syncd init"]


async def test_many_who_watch_are_served_by_one_look(world: ShownDaemon, browser: Browser) -> None:
    async with asyncio.TaskGroup() as watching:
        for _ in range(5):
            watching.create_task(browser.get("/"))
    assert world.looks == 1
    world.clock.time += 1.9
    await browser.get("/")
    assert world.looks == 1
    world.clock.time += 0.2
    await browser.get("/")
    assert world.looks == 2


async def test_a_look_that_takes_long_serves_the_longer(
    world: ShownDaemon, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = world.links

    async def slow() -> list[LinkStatus]:
        world.clock.time += 3
        return await quick()

    monkeypatch.setattr(world, "links", slow)
    await browser.get("/")
    world.clock.time += 59
    await browser.get("/")
    assert world.looks == 1
    world.clock.time += 2
    await browser.get("/")
    assert world.looks == 2


async def test_who_loses_patience_does_not_end_the_look_for_the_next(
    world: ShownDaemon, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncd.daemon.pages.site.PATIENCE", 0.01)
    quick, may_end = world.links, asyncio.Event()

    async def slow() -> list[LinkStatus]:
        await may_end.wait()
        return await quick()

    monkeypatch.setattr(world, "links", slow)
    await browser.get("/", 503)
    may_end.set()
    monkeypatch.setattr("syncd.daemon.pages.site.PATIENCE", 5)
    await browser.get("/")
    assert world.looks == 1


async def test_a_look_that_fails_after_all_have_left_troubles_nobody(
    world: ShownDaemon, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncd.daemon.pages.site.PATIENCE", 0.01)
    may_end = asyncio.Event()
    looking: list[asyncio.Task[Any] | None] = []

    async def fails() -> list[LinkStatus]:
        looking.append(asyncio.current_task())
        await may_end.wait()
        raise StateUnavailable("It is locked.")

    monkeypatch.setattr(world, "links", fails)
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
    await browser.get("/", 503)
    may_end.set()
    await asyncio.wait(filter(None, looking), timeout=30)
    looking.clear()
    gc.collect()
    assert complaints == []


async def test_a_look_that_failed_is_not_remembered(world: ShownDaemon, browser: Browser) -> None:
    world.broken = StateUnavailable("It is locked.")
    await browser.get("/", 503)
    world.broken = None
    await browser.get("/")


async def test_given_many_links_that_are_late_for_one_reason_then_they_need_one_look_and_hide_nothing_worse(
    tmp_path: Path, empty_state: Path
) -> None:
    links: dict[str, dict[str, Any]] = {name: {} for name in ("a", "b", "c", "d", "e")}
    async with open_world(tmp_path, empty_state, links) as world:
        for name in links:
            await world.run(name, before=7200)
        await world.run("e", state="failed", error="The portal is away.", before=7000)
        browser = Browser(web(world))
        page = await browser.get("/")
        assert [one["id"] for one in page.all("article")] == ["needs-late", "needs-e"]
        assert page.text_of("needs-late").startswith("4 links !late for 1 h")
        assert "Is a daemon running?" in page.text_of("needs-late")
        assert "systemctl status syncd" in page.text_of("needs-late")
        assert page.commands[0] == "syncd status"
        await browser.aclose()


async def test_given_another_time_zone_then_every_time_of_the_page_is_in_utc_and_says_so(
    world: ShownDaemon, browser: Browser, time_zone: Callable[[str], None]
) -> None:
    time_zone("America/New_York")
    await world.run(before=7200)
    await world.store.set_paused("shop", paused=True, pause=Pause("anna@ops", NOON - 60, NOON + 7200))
    page = await browser.get("/")
    assert "paused by anna@ops on 2027-01-15 07:59:00 UTC, until 2027-01-15 10:00:00 UTC" in page.text_of("needs-shop")
    times = re.findall(r"\d\d:\d\d:\d\d(.{4})", page.text)
    assert set(times) == {" UTC"}
