"""Finding an order, and its whole history."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncd.core.model import HoldKind, Outcome, Reason, Side
from syncd.core.records import Attempt
from syncd.daemon.pages import orders
from tests.unit.pages.pages_reader import Browser, Page
from tests.unit.pages.shown_daemon import NOON, ShownDaemon, agreement, change, held, open_world, web

pytestmark = pytest.mark.anyio

APPLIED = Outcome.APPLIED


def _events(page: Page) -> list[str]:
    return [one.text.strip().split("\n")[0] for one in page.all("p", class_="what")]


async def test_the_whole_history_of_an_order_newest_first(world: ShownDaemon, browser: Browser) -> None:
    await world.run(agreements=[agreement(77, 10)], before=50_000)
    await world.run(changes=[(change(77, 10, 11), APPLIED, "")], before=40_000)
    moved = change(77, 11, 12, side=Side.CRM, reason=Reason.TABLE_CHANGED)
    await world.run(state="partial", changes=[(moved, Outcome.FAILED, "ERROR_CORE: no")], before=30_000)
    await world.run(holds=[held(77)], before=20_000)
    await world.run(released=[77], before=10_000)
    page = await browser.get("/links/shop/orders/77")
    assert _events(page) == [
        "Released: the facts changed",
        "Held: changed on both sides",
        "Move in the CRM, not carried out ✕failed",
        "Moved in the table ✓applied",
        "Both sides agreed ✓applied",
    ]
    assert "deal 11 →becomes deal 12 changed in the table" in page.text_of("history")
    assert "ERROR_CORE: no" in page.text_of("history")
    assert [one["href"] for one in page.all("a") if one["href"].startswith("/runs/")] == [
        f"/runs/{run}" for run in (4, 3, 2, 1)
    ]


async def test_why_it_is_as_it_is_now(world: ShownDaemon, browser: Browser) -> None:
    run = await world.run(changes=[(change(77, 10, 11), APPLIED, "")], before=7202)
    told = (await browser.get("/links/shop/orders/77")).text_of("why")
    assert f"It has been bound to deal 11 on both sides since run {run}, 2 h ago: changed in the CRM." in told
    assert "Agreed deal 11 its orders CRM, as last listed deal 11 its orders" in told


async def test_given_a_held_order_then_why_and_the_commands_that_decide(world: ShownDaemon, browser: Browser) -> None:
    await world.run(holds=[held(77, detail="Both sides changed it.")], before=3602)
    page = await browser.get("/links/shop/orders/77")
    assert "Held for 1 h (edit-edit): Both sides changed it." in page.text_of("why")
    assert page.commands[0] == "syncd resolve shop 77 --keep crm"


async def test_a_change_that_was_only_planned_is_dated_by_its_run(world: ShownDaemon, browser: Browser) -> None:
    await world.run(kind="plan", state="planned", changes=[(change(77, 10, 11), Outcome.PLANNED, "")], before=600)
    page = await browser.get("/links/shop/orders/77")
    assert _events(page) == ["Planned: move in the table ○planned"]
    assert "10 min ago" in page.text_of("history")


async def test_given_writes_that_keep_failing_then_how_often_and_when_next(
    world: ShownDaemon, browser: Browser
) -> None:
    lease = await world.lease()
    await world.store.record(lease, 1, [], now=NOON, attempts=[Attempt(77, 3, NOON + 600, "ERROR_CORE: no")])
    told = (await browser.get("/links/shop/orders/77")).text_of("main")
    assert "syncd does not know this order" in told
    assert "Writing it failed 3 times in a row; the next try is due in 10 min: ERROR_CORE: no" in told


async def test_a_long_history_is_paged_and_holds_stand_where_they_belong(
    world: ShownDaemon, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orders, "CHANGES_ON_A_PAGE", 4)
    for n in range(10):
        await world.run(changes=[(change(77, n, n + 1), APPLIED, "")], before=10_000 - 1000 * n)
        if n == 3:
            await world.run(holds=[held(77, HoldKind.UNCERTAIN)], before=6500)
            await world.run(released=[77], before=6400)
    pages = await browser.pages("/links/shop/orders/77")
    seen = [one.text for page in pages for one in page.all("span", class_="arrow")]
    assert seen == [f"deal {n} →becomes deal {n + 1}" for n in reversed(range(10))]
    assert [sum(event.startswith(("Held", "Released")) for event in _events(page)) for page in pages] == [0, 2, 0]


async def test_given_an_order_nobody_knows_then_the_page_says_so(browser: Browser) -> None:
    page = await browser.get("/links/shop/orders/123456")
    assert "Nothing was ever written or held for this order." in page.text


class TestSearch:
    @pytest.fixture
    async def found(self, world: ShownDaemon) -> ShownDaemon:
        await world.run(changes=[(change(5125, 10, 11), APPLIED, "")])
        return world

    @pytest.mark.parametrize("typed", ["5125", " 5125 ", "%235125", "5,125", "5 125"])
    async def test_an_order_one_link_knows_is_shown_at_once(
        self, found: ShownDaemon, browser: Browser, typed: str
    ) -> None:
        answer = await browser.answer(f"/orders?q={typed}")
        assert (answer.status_code, answer.headers["location"]) == (303, "/links/shop/orders/5125")

    @pytest.mark.parametrize("typed", ["abc", "-5", "5.5e3x", "99999999999999999999999", "٣", "0x10"])
    async def test_what_is_no_order_id_is_said_to_be_none(
        self, found: ShownDaemon, browser: Browser, typed: str
    ) -> None:
        assert "is neither an order number nor a deal" in (await browser.get(f"/orders?q={typed}")).text

    @pytest.mark.parametrize(
        "typed", ["deal 11", "2:11", "Deal%20%2311", "https://shop.bitrix24.com/crm/deal/details/11/"]
    )
    async def test_a_deal_is_found_with_its_orders(self, found: ShownDaemon, browser: Browser, typed: str) -> None:
        page = await browser.get(f"/orders?q={typed}")
        assert "1 order of deal 11 in shop" in page.text
        assert "/links/shop/orders/5125" in [one["href"] for one in page.all("a")]

    async def test_a_deal_that_has_no_order_is_said_to_have_none(self, found: ShownDaemon, browser: Browser) -> None:
        assert "No link knows an order of deal 12" in (await browser.get("/orders?q=deal 12")).text

    async def test_an_order_nobody_knows_is_said_to_be_unknown(self, found: ShownDaemon, browser: Browser) -> None:
        assert "No link knows order 5126" in (await browser.get("/orders?q=5126")).text

    async def test_the_largest_id_is_looked_for_like_any_other(self, found: ShownDaemon, browser: Browser) -> None:
        assert "No link knows order 9223372036854775807" in (await browser.get("/orders?q=9223372036854775807")).text

    async def test_an_order_several_links_know_is_a_choice(self, tmp_path: Path, empty_state: Path) -> None:
        async with open_world(tmp_path, empty_state, {"shop": {}, "outlet": {}, "calm": {}}) as world:
            await world.run("shop", changes=[(change(7, 10, 11), APPLIED, "")])
            await world.run("outlet", holds=[held(7)])
            browser = Browser(web(world))
            page = await browser.get("/orders?q=7")
            assert [one["href"] for one in page.all("a") if "/orders/" in one["href"]] == [
                "/links/shop/orders/7",
                "/links/outlet/orders/7",
            ]
            await browser.aclose()

    async def test_nothing_typed_asks_for_an_id(self, browser: Browser) -> None:
        assert "Type an order's id above, or a deal" in (await browser.get("/orders")).text
