"""The holds: what each side says, and the command that decides."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from syncd.core.model import Facts, HoldKind, Owner, Unreadable
from syncd.core.records import Decision
from syncd.daemon.pages import orders
from syncd.status.owners import Titles
from tests.unit.pages.pages_reader import Browser
from tests.unit.pages.shown_daemon import NOON, ShownDaemon, deal, held, open_world, web

pytestmark = pytest.mark.anyio


async def test_a_hold_shows_what_each_side_says_why_and_the_commands_that_decide(
    world: ShownDaemon, browser: Browser
) -> None:
    await world.run(holds=[held(77, detail="Both sides changed it.")], before=3600)
    page = await browser.get("/holds")
    told = page.text_of("hold-shop-77")
    assert told.startswith("Order 77 changed on both sides edit-edit · held for 59 min · run 1 · in the portal")
    assert "CRM deal 11 its orders Table deal 12 its orders Agreed deal 10 its orders Both sides changed it." in told
    assert page.commands == [
        "syncd resolve shop 77 --keep crm",
        "syncd resolve shop 77 --keep table",
        "syncd resolve shop 77 --retry",
    ]
    assert "both sides will have deal 11" in told
    assert "both sides will have deal 12" in told


async def test_given_titles_then_they_stand_beside_the_deals_and_everything_is_a_way_into_the_portal(
    world: ShownDaemon, browser: Browser
) -> None:
    await world.run(holds=[held(77)])
    row = await world.link_row()
    await world.store.keep_names(row.id, {Owner(2, 11): "Desks for Elm Bakery", Owner(2, 0): "Сделка"}, NOON, 0)
    page = await browser.get("/holds")
    told = page.text_of("hold-shop-77")
    assert "CRM Сделка 11 Desks for Elm Bakery its orders" in told
    assert "both sides will have Сделка 11 (Desks for Elm Bakery)" in told
    portal = "https://shop.bitrix24.com"
    assert {one["href"] for one in page.all("a", class_="portal")} == {
        f"{portal}/shop/orders/details/77/",
        *(f"{portal}/crm/deal/details/{number}/" for number in (10, 11, 12)),
    }


async def test_given_a_portal_that_is_away_then_the_page_waits_for_nothing(
    world: ShownDaemon, browser: Browser
) -> None:
    await world.run(holds=[held(77)])
    asked = []

    @asynccontextmanager
    async def never(link: str) -> AsyncIterator[Any]:
        asked.append(link)
        await asyncio.Event().wait()
        yield

    place = world.context
    world.known_titles = Titles(lambda: place.settings, place.store, place.clock, never)
    for _ in range(3):
        assert "deal 11" in (await browser.get("/holds")).text_of("hold-shop-77")
    await world.known_titles.aclose()
    assert asked == ["shop"]


async def test_given_a_decision_then_who_made_it_when_and_why(world: ShownDaemon, browser: Browser) -> None:
    await world.run(holds=[held(77, decision="table")], before=3600)
    note = Decision("shop", "resolve", "table", "anna@ops", NOON - 600, "12 has the invoice", order_id=77)
    await world.store.note(note)
    said = (await browser.get("/holds")).text_of("hold-shop-77")
    assert "Decided: keep what the table says by anna@ops 10 min ago: 12 has the invoice. The next" in said
    history = (await browser.get("/links/shop/orders/77")).text_of("history")
    assert "Decided: keep what the table says by anna@ops 10 min ago: 12 has the invoice" in history


async def test_given_a_side_that_is_unbound_then_keeping_it_says_so(world: ShownDaemon, browser: Browser) -> None:
    facts = Facts(None, deal(12), deal(10))
    await world.run(holds=[held(77, HoldKind.REMOVE_EDIT, facts=facts)])
    page = await browser.get("/holds")
    assert page.all("bdi", class_="does")[0].text == "will be unbound on both sides"


async def test_given_an_order_that_can_be_let_go_then_keeping_it_says_so(world: ShownDaemon, browser: Browser) -> None:
    await world.run(holds=[held(77, HoldKind.OUT_OF_SCOPE, facts=Facts(Owner(31, 5), None, deal(10)))])
    page = await browser.get("/holds")
    assert page.commands[0] == "syncd resolve shop 77 --keep crm"
    assert page.all("bdi", class_="does")[0].text == "stays with smart invoice 5, and is no longer this link's"


async def test_a_decision_that_cannot_be_carried_out_is_not_proposed(tmp_path: Path, empty_state: Path) -> None:
    links = {"shop": {}, "oneway": {"direction": "crm-to-table"}}
    async with open_world(tmp_path, empty_state, links) as world:
        unreadable = Facts(deal(11), None, deal(10), Unreadable(HoldKind.INVALID_ROW, "deal_id is null"))
        outside = Facts(Owner(31, 5), deal(12), deal(12))
        kinds = [
            held(1, HoldKind.INVALID_ROW, facts=unreadable),
            held(2, HoldKind.OUT_OF_SCOPE, facts=outside),
        ]
        await world.run(holds=kinds)
        await world.run("oneway", holds=[held(3)])
        browser = Browser(web(world))
        page = await browser.get("/holds")
        assert page.commands == [
            "syncd resolve shop 1 --retry",
            "syncd resolve shop 2 --keep table",
            "syncd resolve shop 2 --retry",
            "syncd resolve oneway 3 --keep crm",
            "syncd resolve oneway 3 --retry",
        ]
        assert "Table unreadable" in page.text_of("hold-shop-1")
        assert "Correct the row in the table." in page.text_of("hold-shop-1")
        await browser.aclose()


async def test_given_a_decision_then_it_is_shown_in_place_of_the_commands(world: ShownDaemon, browser: Browser) -> None:
    await world.run(holds=[held(77)])
    row = await world.link_row()
    await world.store.decide(row.id, [77], "table", world.clock.now())
    page = await browser.get("/holds")
    assert "Decided: keep what the table says. The next pass carries it out." in page.text_of("hold-shop-77")
    assert page.commands == []


async def test_rows_without_a_readable_order_are_shown_but_cannot_be_decided(
    world: ShownDaemon, browser: Browser
) -> None:
    await world.run(holds=[held(0, HoldKind.INVALID_ROW, detail="3 rows have no order id.")])
    page = await browser.get("/holds")
    assert page.text_of("hold-shop-0").startswith("Rows without a readable order")
    assert "3 rows have no order id." in page.text_of("hold-shop-0")
    assert page.commands == []


async def test_a_row_whose_key_no_order_has_is_shown_on_each_page_but_cannot_be_decided(
    world: ShownDaemon, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown = [held(number, HoldKind.ORDER_MISSING, detail=f"No order has key {number}.") for number in (-9, -5, -2)]
    await world.run(holds=unknown)
    monkeypatch.setattr(orders, "HOLDS_ON_A_PAGE", 2)
    page = await browser.get("/holds?link=shop")
    assert page.text_of("hold-shop--9").startswith("A row whose key matches no order")
    assert "No order has key -9." in page.text_of("hold-shop--9")
    assert page.commands == []
    more = await browser.get("/holds?link=shop&after=-5")
    assert more.text_of("hold-shop--2").startswith("A row whose key matches no order")
    assert (await browser.get("/links/shop")).text.count("A row whose key matches no order") == 3
    await browser.get("/holds?link=shop&after=-x", status=400)


async def test_given_no_holds_then_the_page_says_so(browser: Browser) -> None:
    assert "No order is held." in (await browser.get("/holds")).text


async def test_the_holds_of_a_link_can_be_narrowed_to_a_kind_and_are_paged(
    world: ShownDaemon, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orders, "HOLDS_ON_A_PAGE", 3)
    flapping = [held(order, HoldKind.FLAPPING) for order in (2, 4, 6, 8)]
    await world.run(holds=[held(1), held(3), *flapping])
    page = await browser.get("/links/shop/holds")
    assert [one["href"] for one in page.all("a") if "kind=" in one["href"]] == [
        "/links/shop/holds?kind=flapping",
        "/links/shop/holds?kind=edit-edit",
    ]
    pages = await browser.pages("/links/shop/holds?kind=flapping")
    assert [one["id"] for page in pages for one in page.all("article", class_="hold")] == [
        f"hold-shop-{order}" for order in (2, 4, 6, 8)
    ]
    page = await browser.get("/links/shop/holds?kind=uncertain")
    assert "None of this kind." in page.text


async def test_the_page_of_all_links_shows_the_first_of_each(
    tmp_path: Path, empty_state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orders, "HOLDS_OF_EACH_LINK", 2)
    async with open_world(tmp_path, empty_state, {"shop": {}, "outlet": {}, "calm": {}}) as world:
        await world.run("shop", holds=[held(order) for order in (1, 2, 3)])
        await world.run("outlet", holds=[held(5)])
        browser = Browser(web(world))
        page = await browser.get("/holds")
        assert [one["id"] for one in page.all("article", class_="hold")] == [
            "hold-shop-1",
            "hold-shop-2",
            "hold-outlet-5",
        ]
        assert page.one("a", rel="next")["href"] == "/links/shop/holds?after=2"
        assert not page.has("holds-calm")
        await browser.aclose()
