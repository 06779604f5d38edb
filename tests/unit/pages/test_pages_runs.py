"""The runs, and one run with its changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncd.core.model import Counts, HoldKind, Outcome, Reason, Side, SideCounts
from syncd.core.records import GuardHit
from syncd.daemon.pages import runs
from tests.unit.pages.pages_reader import Browser
from tests.unit.pages.shown_daemon import NOON, ShownDaemon, agreement, change, deal, held, open_world, web

pytestmark = pytest.mark.anyio

APPLIED, SKIPPED, FAILED = Outcome.APPLIED, Outcome.SKIPPED, Outcome.FAILED


async def test_a_run_shows_each_change_with_before_after_reason_and_outcome(
    world: ShownDaemon, browser: Browser
) -> None:
    run = await world.run(
        changes=[
            (change(5, None, 2), APPLIED, ""),
            (change(6, 1, 2, side=Side.CRM, reason=Reason.TABLE_CHANGED), FAILED, "ERROR_CORE: no"),
            (change(7, 1, None), SKIPPED, "moved since it was read"),
        ],
        state="partial",
    )
    page = await browser.get(f"/runs/{run}")
    assert page.rows("The changes of run")[1:] == [
        ["5", "the table", "add", "unbound →becomes deal 2", "changed in the CRM", "✓applied"],
        ["6", "the CRM", "move", "deal 1 →becomes deal 2", "changed in the table", "✕failed ERROR_CORE: no"],
        [
            "7",
            "the table",
            "remove",
            "deal 1 →becomes unbound",
            "changed in the CRM",
            "■skipped moved since it was read",
        ],
    ]
    assert page.text_of("tally") == "✓applied 1 ■skipped 1 ✕failed 1"
    assert page.title == f"Run {run} of shop · syncd"
    assert [one["href"] for one in page.all("a") if "/orders/" in one["href"]] == [
        f"/links/shop/orders/{order}" for order in (5, 6, 7)
    ]


async def test_before_is_what_was_really_there_where_that_is_known(world: ShownDaemon, browser: Browser) -> None:
    run = await world.run(
        changes=[(change(5, 1, 2), APPLIED, ""), (change(6, 1, 2), APPLIED, "")], found={5: deal(99), 6: None}
    )
    rows = (await browser.get(f"/runs/{run}")).rows("The changes of run")
    assert [row[3] for row in rows[1:]] == ["deal 99 →becomes deal 2", "unbound →becomes deal 2"]


async def test_agreements_are_no_changes_of_a_run(world: ShownDaemon, browser: Browser) -> None:
    run = await world.run(agreements=[agreement(5)])
    page = await browser.get(f"/runs/{run}")
    assert "It changed nothing." in page.text
    assert not page.has("tally")


async def test_the_numbers_of_a_run_stand_at_its_head(world: ShownDaemon, browser: Browser) -> None:
    counts = Counts(in_step=940, crm=SideCounts(3, 1, 0), table=SideCounts(), crm_rows=944, table_rows=941, holds=2)
    run = await world.run(counts=counts, requests=3, took=75)
    page = await browser.get(f"/runs/{run}")
    facts = page.text_of("facts")
    assert "In step 940 of 944 in the CRM, 941 in the table" in facts
    assert "To the CRM 4 3 added, 1 moved, 0 removed" in facts
    assert "To the table 0 nothing to write" in facts
    assert "Portal 3 requests 30 calls" in facts
    assert "Pass of shop; asked for by schedule; began 0 s ago, took 1 min 15 s" in page.text


async def test_given_a_refused_run_then_each_guard_is_a_sentence_and_the_command_applies_it(
    world: ShownDaemon, browser: Browser
) -> None:
    counts = Counts(agreed=484, crm=SideCounts(remove=144))
    guards = [GuardHit("max_removes", Side.CRM, 100, 144), GuardHit("max_removes_percent", Side.CRM, 10, 29.8)]
    run = await world.run(state="refused", counts=counts, guards=guards)
    page = await browser.get(f"/runs/{run}")
    assert "144 removes in the CRM; the limit is 100 a run." in page.text_of("why")
    assert "29.8 % of the bindings would be removed in the CRM; the limit is 10 %." in page.text_of("why")
    assert page.commands == [f"syncd apply {run}"]
    world.clock.time += 2 * 86_400
    page = await browser.get(f"/runs/{run}")
    assert page.commands == ["syncd plan shop"]


async def test_given_a_look_at_a_refused_plan_then_it_leads_to_the_run_that_holds_it(
    world: ShownDaemon, browser: Browser
) -> None:
    counts = Counts(agreed=484, crm=SideCounts(remove=144))
    guards = [GuardHit("max_removes", Side.CRM, 100, 144)]
    plan = await world.run(state="refused", counts=counts, guards=guards, before=900)
    look = await world.run(state="refused", counts=counts, guards=guards, source=plan)
    page = await browser.get(f"/runs/{look}")
    assert f"It is what run {plan} found, with small differences; that run holds the plan that waits." in page.text_of(
        "why"
    )
    assert page.commands == [f"syncd apply {plan}"]
    assert f"Look at {plan}" in (await browser.get("/runs")).text
    lease = await world.lease()
    await world.store.spend(lease, plan, 99)
    assert (await browser.get(f"/runs/{look}")).commands == []


async def test_given_a_plan_then_the_command_carries_it_out_until_it_was_applied(
    world: ShownDaemon, browser: Browser
) -> None:
    plan = await world.run(kind="plan", state="planned", changes=[(change(5, 1, 2), Outcome.PLANNED, "")])
    page = await browser.get(f"/runs/{plan}")
    assert page.commands == [f"syncd apply {plan}"]
    lease = await world.lease()
    by = await world.store.start_run(lease, "apply", "command", NOON, plan)
    await world.store.spend(lease, plan, by)
    page = await browser.get(f"/runs/{plan}")
    assert page.commands == []
    assert f"This plan was applied by run {by}." in page.text_of("why")
    assert "Application of 1" in (await browser.get("/runs")).text


async def test_given_a_plan_of_nothing_then_there_is_no_command(world: ShownDaemon, browser: Browser) -> None:
    plan = await world.run(kind="plan", state="planned")
    assert (await browser.get(f"/runs/{plan}")).commands == []


async def test_given_a_run_that_ended_early_then_its_error(world: ShownDaemon, browser: Browser) -> None:
    run = await world.run(state="incomplete", error="The listing could not be proved complete.")
    page = await browser.get(f"/runs/{run}")
    assert page.text_of("why") == "It ended early The listing could not be proved complete."


async def test_given_a_sentence_with_a_stored_time_then_the_page_shows_it_as_all_its_times(
    world: ShownDaemon, browser: Browser
) -> None:
    run = await world.run(state="failed", error="Worked on since 2026-01-01T00:00:00+00:00.")
    page = await browser.get(f"/runs/{run}")
    assert "Worked on since 2026-01-01 00:00:00 UTC." in page.text_of("why")


async def test_given_a_run_cut_off_then_it_is_interrupted_and_running_only_while_somebody_is_at_work(
    world: ShownDaemon, browser: Browser
) -> None:
    lease = await world.lease()
    run = await world.store.start_run(lease, "pass", "schedule", NOON)
    assert "▶running" in (await browser.get(f"/runs/{run}")).text
    await world.store.release(lease)
    world.clock.time += 60
    assert "■interrupted" in (await browser.get(f"/runs/{run}")).text


async def test_what_a_run_held_is_listed_with_what_each_side_said(world: ShownDaemon, browser: Browser) -> None:
    run = await world.run(holds=[held(1), held(2, HoldKind.FLAPPING)])
    await world.run(released=[2], before=-60)
    page = await browser.get(f"/runs/{run}")
    assert page.text_of("held-1") == "Order 1: changed on both sides (CRM deal 11, table deal 12, agreed deal 10)"
    assert "written again and again" in page.text_of("held-2")
    assert "released" in page.text_of("held-2")


async def test_a_large_run_is_paged_and_every_change_is_on_exactly_one_page(
    world: ShownDaemon, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "PAGE", 7)
    sides = (Side.CRM, Side.TABLE)
    run = await world.run(changes=[(change(n, 1, 2, side=sides[n % 2]), APPLIED, "") for n in range(1, 24)])
    pages = await browser.pages(f"/runs/{run}")
    assert [row[0] for page in pages for row in page.rows("The changes of run")[1:]] == [str(n) for n in range(1, 24)]


async def test_what_was_not_carried_out_is_found_in_a_large_run_bit_by_bit(
    world: ShownDaemon, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncd.state.page_queries.WINDOW", 5)
    outcomes = {3: FAILED, 17: SKIPPED, 18: FAILED}
    run = await world.run(changes=[(change(n, 1, 2), outcomes.get(n, APPLIED), "") for n in range(1, 24)])
    assert "of the first" in (await browser.get(f"/runs/{run}")).text_of("tally")
    pages = await browser.pages(f"/runs/{run}?show=left")
    with_rows = [page for page in pages if page.all("caption")]
    assert [row[0] for page in with_rows for row in page.rows("The changes of run")[1:]] == ["3", "17", "18"]
    assert len(pages) == 5


async def test_leftovers_of_both_sides_are_paged_in_one_order(
    world: ShownDaemon, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "PAGE", 3)
    sides = (Side.CRM, Side.TABLE)
    run = await world.run(changes=[(change(n, 1, 2, side=sides[n % 2]), FAILED, "") for n in range(1, 9)])
    page = await browser.get(f"/runs/{run}?show=left")
    assert [row[0] for row in page.rows("The changes of run")[1:]] == ["1", "2", "3"]
    page = await browser.get(page.one("a", rel="next")["href"])
    assert [row[0] for row in page.rows("The changes of run")[1:]] == ["4", "5", "6"]


async def test_runs_are_listed_newest_first_of_all_links_or_of_one_page_by_page(
    tmp_path: Path, empty_state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "LISTED", 2)
    async with open_world(tmp_path, empty_state, {"shop": {}, "outlet": {}}) as world:
        browser = Browser(web(world))
        for link in ("shop", "outlet", "shop", "shop"):
            await world.run(link)
        page = await browser.get("/runs")
        assert [row[:2] for row in page.rows("Newest first")[1:]] == [["4 Pass", "shop"], ["3 Pass", "shop"]]
        page = await browser.get(page.one("a", rel="next")["href"])
        assert [row[:2] for row in page.rows("Newest first")[1:]] == [["2 Pass", "outlet"], ["1 Pass", "shop"]]
        assert not page.all("a", rel="next")
        page = await browser.get("/runs?link=shop")
        page = await browser.get(page.one("a", rel="next")["href"])
        assert [row[0] for row in page.rows("Newest first")[1:]] == ["1 Pass"]
        await browser.get("/runs?link=nobody", 404)
        await browser.aclose()


async def test_the_runs_of_a_link_that_left_the_configuration_can_still_be_read(
    world: ShownDaemon, browser: Browser
) -> None:
    run = await world.run(changes=[(change(5, 1, 2), APPLIED, "")])
    world.context.settings = world.context.settings.model_copy(update={"links": {}})
    page = await browser.get(f"/runs/{run}")
    assert page.rows("The changes of run")[1][0] == "5"
    assert not [one for one in page.all("a") if one["href"].startswith("/links/")]
    assert (await browser.get("/runs?link=shop")).rows("Newest first")[1][0] == f"{run} Pass"


async def test_given_many_links_then_the_page_of_runs_begins_with_runs(tmp_path: Path, empty_state: Path) -> None:
    async with open_world(tmp_path, empty_state, {f"link-{number}": {} for number in range(40)}) as world:
        await world.run("link-7")
        browser = Browser(web(world))
        page = await browser.get("/runs")
        links = [one["href"] for one in page.all("a")]
        assert links.index("/runs/1") <= 5, "before it there is only what every page has"
        assert (await browser.get("/runs?link=link-7")).rows("Newest first")[1][0] == "1 Pass"
        assert (await browser.get("/runs?link=")).rows("Newest first")[1][0] == "1 Pass"
        await browser.aclose()
