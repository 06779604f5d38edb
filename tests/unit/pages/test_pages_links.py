"""One link: facts, plots, refusals, holds and runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from syncd.core.model import Counts, Outcome, Side, SideCounts
from syncd.core.order_ranges import Coverage, OrderRanges
from syncd.core.records import GuardHit
from syncd.daemon.pages import links
from syncd.daemon.pages.plots import PLOTS, POINTS, Range, caption, drawn
from syncd.portal.factory import budget_key
from syncd.state.page_queries import Point
from tests.unit.pages.pages_reader import Browser
from tests.unit.pages.shown_daemon import NOON, ShownDaemon, change, held, open_world, web

pytestmark = pytest.mark.anyio

REFUSING = GuardHit("max_removes", Side.CRM, 100, 4000)
REMOVES = Counts(in_step=900, agreed=5000, crm=SideCounts(remove=4000))


def _point(
    number: int, at: float, *, kind: str = "pass", state: str = "applied", crm: int = 0, table: int = 0, held_: int = 0,
    took: float | None = 2.0, requests: int = 3, operating: float = 1.0,
) -> Point:  # fmt: skip
    counts = Counts(crm=SideCounts(add=crm), table=SideCounts(move=table), holds=held_)
    return Point(number, kind, state, at, None if took is None else at + took, counts, requests, operating)


def _line(found: dict[str, object], plot: str, label: str) -> list[float | None]:
    lines = found["plots"][plot]["lines"]  # type: ignore[index]
    values: list[float | None]
    (values,) = [line["values"] for line in lines if line["label"] == label]
    return values


class TestPlots:
    def test_every_plot_the_page_promises_is_there(self) -> None:
        assert [plot.key for plot in PLOTS] == ["drift", "changes", "duration", "requests", "budget"]

    def test_few_runs_are_a_point_each(self) -> None:
        found = drawn([_point(1, NOON - 600, crm=4), _point(2, NOON - 300, table=2, held_=1)], Range.DAY, NOON)
        assert (found["from"], found["to"], found["each"]) == (NOON - 86_400, NOON, 0)
        assert found["times"] == [NOON - 600, NOON - 300]
        assert _line(found, "drift", "to write in the CRM") == [4, 0]
        assert _line(found, "drift", "to write in the table") == [0, 2]
        assert _line(found, "drift", "held") == [0, 1]
        assert _line(found, "changes", "in the CRM") == [4, 0]
        assert _line(found, "duration", "seconds") == [2.0, 2.0]
        assert _line(found, "requests", "requests") == [3, 3]
        assert _line(found, "budget", "busiest method") == [1.0, 1.0]
        assert found["plots"]["budget"]["limit"] == 480

    def test_what_a_run_does_not_know_is_no_value(self) -> None:
        blind = [_point(1, NOON, state="failed"), _point(2, NOON, state="running", took=None)]
        found = drawn([*blind, _point(3, NOON, state="refused", crm=4000)], Range.DAY, NOON)
        assert _line(found, "drift", "to write in the CRM") == [None, None, 4000]
        assert _line(found, "changes", "in the CRM") == [None, None, None]
        assert _line(found, "duration", "seconds") == [2.0, None, 2.0]

    def test_an_applied_plan_counts_as_changes_but_not_again_as_drift(self) -> None:
        found = drawn([_point(1, NOON, kind="apply", crm=7)], Range.DAY, NOON)
        assert _line(found, "drift", "to write in the CRM") == [None]
        assert _line(found, "changes", "in the CRM") == [7]

    def test_many_runs_become_so_many_points_drift_at_its_highest_and_changes_added_up(self) -> None:
        each = 86_400 // POINTS
        began = NOON - NOON % each
        runs = [_point(n, began - each * n + 5 * k, crm=k + 1) for n in range(200, 0, -1) for k in range(3)]
        found = drawn(runs, Range.DAY, NOON)
        assert found["each"] == each
        assert found["times"] == sorted(found["times"])
        assert set(_line(found, "drift", "to write in the CRM")) == {3}
        assert set(_line(found, "changes", "in the CRM")) == {6}

    def test_three_thousand_runs_stay_within_the_points_of_a_plot(self) -> None:
        runs = [_point(n, NOON - 30 * 86_400 + 864 * n) for n in range(3000)]
        assert len(drawn(runs, Range.MONTH, NOON)["times"]) <= POINTS + 1

    def test_given_no_runs_then_no_points(self) -> None:
        found = drawn([], Range.WEEK, NOON)
        assert (found["times"], _line(found, "drift", "held")) == ([], [])

    def test_the_caption_says_the_last_and_the_highest_value(self) -> None:
        runs = [_point(1, NOON - 600, crm=40), _point(2, NOON - 300, crm=3)]
        drift, *_rest, budget = PLOTS
        assert caption(drift, runs).startswith("to write in the CRM: 3 last, 40 at most; to write in the table: 0 last")
        assert caption(budget, runs) == "busiest method: 1.0 s last, 1.0 s at most"
        assert caption(budget, []) == "nothing yet"


async def test_the_values_of_the_plots_are_json_beside_the_page(world: ShownDaemon, browser: Browser) -> None:
    await world.run(before=90_000)
    run = await world.run(changes=[(change(5, 1, 2), Outcome.APPLIED, "")], operating=33.5, took=4, before=600)
    page = await browser.get("/links/shop")
    area = page.by_id("plots")
    answer = await browser.answer(area["data-series"])
    assert answer.headers["content-type"] == "application/json"
    found = json.loads(answer.text)
    assert found["times"] == [NOON - 600]
    assert _line(found, "changes", "in the table") == [1]
    assert _line(found, "budget", "busiest method") == [33.5]
    assert _line(found, "duration", "seconds") == [4.0]
    assert area["data-version"] == f"{run}-{NOON - 596:.0f}"
    assert {one["data-plot"] for one in page.all("div", class_="plot")} == set(found["plots"])
    week = json.loads((await browser.answer("/links/shop/series.json?range=week")).text)
    assert len(week["times"]) == 2


async def test_each_plot_is_told_in_words_too(world: ShownDaemon, browser: Browser) -> None:
    await world.run(changes=[(change(5, 1, 2), Outcome.APPLIED, "")], before=600)
    page = await browser.get("/links/shop")
    assert "Changes made, by side: in the CRM: 0 last, 0 at most; in the table: 1 last" in page.text_of("plot-changes")


async def test_the_facts_of_a_link(world: ShownDaemon, browser: Browser) -> None:
    await world.run(holds=[held(1)], before=240)
    portal = world.context.settings.links["shop"].portal
    await world.store.set_budget(budget_key(portal), {"batch": (120.0, NOON + 300, NOON)})
    page = await browser.get("/links/shop")
    facts = page.text_of("facts")
    assert "In step 940 0 agreed" in facts
    assert "Held 1 the oldest 3 min ago" in facts
    assert "Last pass 4 min ago run 1, applied" in facts
    assert "schedule 5m" in facts
    assert "At work no process" in facts
    assert "Portal shop.bitrix24.com CRM ⇄ table" in facts
    assert "120 of 480" in page.text_of("budget-batch")
    assert page.title == "shop: held · syncd"


async def test_refusals_with_their_numbers_and_the_command_that_applies_each(
    world: ShownDaemon, browser: Browser
) -> None:
    old = await world.run(state="refused", counts=REMOVES, guards=[REFUSING], before=2 * 86_400)
    spent = await world.run(state="refused", counts=REMOVES, guards=[REFUSING], before=7200)
    lease = await world.lease()
    await world.store.spend(lease, spent, 99)
    await world.store.release(lease)
    newest = await world.run(state="refused", counts=REMOVES, guards=[REFUSING], before=600)
    await world.run(before=60)
    page = await browser.get("/links/shop")
    assert [one["id"] for one in page.all("article", class_="refusal")] == [
        f"refusal-{run}" for run in (newest, spent, old)
    ]
    assert "4,000 removes in the CRM; the limit is 100 a run." in page.text_of(f"refusal-{newest}")
    assert f"syncd apply {newest}" in page.text_of(f"refusal-{newest}")
    assert "applied by run 99" in page.text_of(f"refusal-{spent}")
    assert "too old to be applied" in page.text_of(f"refusal-{old}")
    assert page.commands == [f"syncd apply {newest}"]


@pytest.mark.parametrize("looks", [0, 1], ids=["refused just now", "found refused again"])
async def test_given_a_link_that_waits_for_its_refused_plan_then_the_plan_is_named_once(
    looks: int, world: ShownDaemon, browser: Browser
) -> None:
    old = await world.run(state="refused", counts=REMOVES, guards=[REFUSING], before=2 * 86_400)
    newest = await world.run(state="refused", counts=REMOVES, guards=[REFUSING], before=600)
    for _ in range(looks):
        await world.run(state="refused", counts=REMOVES, guards=[REFUSING], source=newest, before=60)
    page = await browser.get("/links/shop")
    assert [one["id"] for one in page.all("article", class_="refusal")] == [f"refusal-{old}"]
    assert page.commands.count(f"syncd apply {newest}") == 1


async def test_open_holds_are_named_and_the_others_counted(
    world: ShownDaemon, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "HELD_SHOWN", 2)
    await world.run(holds=[held(order) for order in (1, 2, 3)])
    page = await browser.get("/links/shop")
    assert page.text_of("held-1").startswith("Order 1: changed on both sides")
    assert not page.has("held-3")
    assert "All 3 held orders" in page.text_of("held")


async def test_the_runs_of_a_link_page_by_page(
    world: ShownDaemon, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "RUNS_ON_A_PAGE", 2)
    for _ in range(3):
        await world.run()
    page = await browser.get("/links/shop")
    assert [row[0] for row in page.rows("The runs of shop")[1:]] == ["3 Pass", "2 Pass"]
    page = await browser.get(page.one("a", rel="next")["href"])
    assert [row[0] for row in page.rows("The runs of shop")[1:]] == ["1 Pass"]
    assert not page.has("plots")


async def test_given_a_link_no_run_has_seen_then_its_page_says_so(browser: Browser) -> None:
    page = await browser.get("/links/shop")
    assert "There are no runs yet." in page.text_of("runs")
    assert "Last pass never" in page.text_of("facts")


async def test_given_passes_over_parts_then_the_page_tells_how_fresh_each_is(tmp_path: Path, empty_state: Path) -> None:
    links_ = {"shop": {"slices": 3, "recent": {"orders": 2000}}, "whole": {}}
    async with open_world(tmp_path, empty_state, links_) as world:
        browser = Browser(web(world))
        for link in links_:
            lease = await world.lease(link)
            slices = Coverage.whole(NOON - 2280).cut([10, 20]).covered(OrderRanges.parse("1-20"), NOON - 1000).slices
            await world.store.set_coverage(lease, Coverage(slices, 5, NOON - 12))
            await world.store.release(lease)
        fresh = "compared last: newest 2,000: 12 s ago; all: within 38 min; slice 3 of 3 is next"
        assert fresh in (await browser.get("/links/shop")).text
        assert "compared last" not in (await browser.get("/links/whole")).text
        await browser.aclose()


async def test_given_a_link_without_a_pass_then_the_page_says_so_and_draws_nothing(
    world: ShownDaemon, browser: Browser
) -> None:
    page = await browser.get("/links/shop")
    assert page.text_of("health") == "no pass has been made yet"
    assert page.all("figure") == []
    await world.run()
    page = await browser.get("/links/shop")
    assert len(page.all("figure")) == len(PLOTS)
