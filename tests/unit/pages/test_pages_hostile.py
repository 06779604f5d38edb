"""Whatever a table or a portal says: it never becomes markup, nothing secret is shown, and nothing is written."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from syncd.core.model import Outcome
from tests.unit.pages.pages_reader import Browser, Page
from tests.unit.pages.shown_daemon import HOSTILE, SECRET, ShownDaemon, change, held, make_hostile, open_world

pytestmark = pytest.mark.anyio

PAGES = (
    "/", "/holds", "/runs", "/runs?link=shop", "/runs/1", "/runs/2", "/runs/1?show=left", "/links/shop",
    "/links/shop?range=week", "/links/shop?before=2", "/links/shop/holds", "/links/shop/holds?kind=invalid-row",
    "/links/shop/orders/77", "/links/shop/orders/78", "/links/parked", "/orders", "/orders?q=77", "/orders?q=nothing", "/orders?q=2:11",
)  # fmt: skip


@pytest.fixture
async def world(tmp_path: Path, empty_state: Path) -> AsyncIterator[ShownDaemon]:
    """Two links whose past says the worst things."""
    async with open_world(tmp_path, empty_state, {"shop": {}, "parked": {}}) as made:
        await make_hostile(made)
        yield made


async def _pages(browser: Browser) -> list[Page]:
    """Every kind of page."""
    found = []
    for path in PAGES:
        answer = await browser.answer(path)
        if answer.status_code == 303:
            answer = await browser.answer(answer.headers["location"])
        assert answer.status_code == 200
        found.append(Page(path, answer))
    return found


async def test_hostile_texts_stay_text_on_every_page(browser: Browser) -> None:
    for page in await _pages(browser):
        _assert_harmless(page)


def _assert_harmless(page: Page) -> None:
    allowed = {"page.js", "plots.js", "uPlot.iife.min.js"}
    assert {urlsplit(one["src"]).path.rpartition("/")[2] for one in page.all("script")} <= allowed
    assert all(not one.text for one in page.all("script"))
    for element in page.elements:
        assert element.tag not in {"style", "iframe", "object", "embed", "base", "img", "b"}
        for name in element.attributes:
            assert not name.startswith("on"), f"{element.tag} {name}"
            assert name not in {"style", "srcdoc", "formaction"}
        for name in {"href", "src"} & element.attributes.keys():
            portals = [f"https://{link}.bitrix24.com/" for link in ("shop", "parked")]
            assert element[name].startswith(("/", "#main", *portals)), element[name]
            assert not element[name].startswith("//")
    assert "pwned" not in page.title
    assert {one["action"] for one in page.all("form")} <= {"/orders", "/runs"}


async def test_hostile_texts_are_shown_as_they_are(browser: Browser) -> None:
    shown = " ".join((await browser.get("/links/shop/orders/77")).text.split())
    for text in HOSTILE[:6]:
        assert " ".join(text.split()) in shown


async def test_texts_from_outside_cannot_turn_the_words_around_them(browser: Browser) -> None:
    page = await browser.get("/links/shop/orders/77")
    shown = [one.text for one in page.all("bdi", class_="outside")]
    assert any("\u202e" in text for text in shown)
    outside = "".join(shown)
    assert page.one("body").text.count("\u202e") == outside.count("\u202e") + page.by_id("foot").text.count("\u202e")


async def test_a_secret_that_slipped_into_a_stored_text_is_masked(world: ShownDaemon, browser: Browser) -> None:
    url = f"https://shop.bitrix24.com/rest/1/{SECRET}/crm.orderentity.list"
    run = await world.run(state="failed", error=f"POST {url} failed", changes=[(change(9, 1, 2), Outcome.FAILED, url)])
    await world.run(holds=[held(9, detail=url)])
    for path in (*PAGES, f"/runs/{run}", "/links/shop/orders/9"):
        assert SECRET not in (await browser.answer(path)).text, path


async def test_every_page_can_be_read_by_a_screen_reader_and_walked_by_keyboard(browser: Browser) -> None:
    for page in await _pages(browser):
        _assert_accessible(page)


def _assert_accessible(page: Page) -> None:
    assert page.one("html")["lang"] == "en"
    assert len(page.all("main")) == len(page.all("h1")) == len(page.all("header")) == len(page.all("footer")) == 1
    assert page.one("a", class_="skip")["href"] == "#main"
    ids = [one["id"] for one in page.elements if one.get("id")]
    assert len(ids) == len(set(ids)), [one for one in ids if ids.count(one) > 1]
    asked = [one["id"] for tag in ("input", "select") for one in page.all(tag)]
    assert [label["for"] for label in page.all("label")] == asked
    for one in page.all("th"):
        assert one.get("scope") in {"col", "row"}
    assert len(page.all("caption")) == len(page.all("table"))
    names = [one["aria-label"] for one in page.all("nav")]
    assert len(names) == len(set(names))
    for one in page.elements:
        for target in (one.get("aria-labelledby") or "").split():
            assert target in ids
    for button in page.all("button"):
        assert button.text.strip() or button.get("aria-label")


async def test_no_request_changes_the_state_database(world: ShownDaemon, browser: Browser, tmp_path: Path) -> None:
    def content() -> list[str]:
        with closing(sqlite3.connect(tmp_path / "state.db")) as connection:
            return list(connection.iterdump())

    before = content()
    for path in PAGES:
        await browser.answer(path)
    assert content() == before
