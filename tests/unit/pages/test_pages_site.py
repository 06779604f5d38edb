"""What holds for the whole site: its policy, its errors, its files, its colours."""

from __future__ import annotations

import asyncio
import re
from importlib import resources

import pytest

from syncd.daemon.pages.site import assets
from syncd.errors import StateUnavailable
from tests.unit.pages.pages_reader import Browser
from tests.unit.pages.shown_daemon import ShownDaemon

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_nothing_but_reading_is_answered(browser: Browser, method: str) -> None:
    for path in ("/", "/runs/1", "/orders?q=77", "/links/shop/holds"):
        assert (await browser.answer(path, method)).status_code == 405


async def test_the_policy_allows_neither_inline_code_nor_anything_from_elsewhere(browser: Browser) -> None:
    answer = await browser.answer("/")
    policy = dict(part.strip().partition(" ")[::2] for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == policy["form-action"] == "'self'"
    assert policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/runs/999", 404, "There is no run 999."),
        ("/runs/x", 404, "x is not the number of a run."),
        ("/runs/99999999999999999999", 404, "is not the number of a run"),
        ("/links/nobody", 404, "The configuration has no link nobody."),
        ("/links/nobody/series.json", 404, "The configuration has no link nobody."),
        ("/links/nobody/holds", 404, "The configuration has no link nobody."),
        ("/links/nobody/orders/5", 404, "The configuration has no link nobody."),
        ("/links/shop/orders/-5", 404, "-5 is not the number of an order."),
        ("/links/shop?range=decade", 400, "range must be one of: day, week, month."),
        ("/runs/1?after=-1", 400, "after must be a whole number."),
        ("/runs/1?show=secrets", 400, "show must be one of: all, left."),
        ("/links/shop/holds?kind=<b>", 400, "kind must be one of"),
        ("/links/%3Cscript%3E", 404, "The configuration has no link <script>."),
    ],
)
async def test_what_cannot_be_shown_is_a_page_that_says_why(
    world: ShownDaemon, browser: Browser, path: str, status: int, says: str
) -> None:
    await world.run()
    page = await browser.get(path, status)
    assert says in page.text_of("main")
    assert page.one("body")["data-refresh"] == "0"


async def test_given_a_state_database_out_of_reach_then_the_page_says_so_without_its_words(
    world: ShownDaemon, browser: Browser
) -> None:
    world.broken = StateUnavailable("The state database /var/lib/x.db is damaged.")
    page = await browser.get("/", 503)
    assert "The state database does not answer" in page.text
    assert "/var/lib" not in page.text
    assert page.one("body")["data-refresh"] == "5"
    world.broken = None
    await browser.get("/")


async def test_given_a_state_database_that_hangs_then_the_page_says_so_in_time(
    world: ShownDaemon, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncd.daemon.pages.site.PATIENCE", 0.01)

    async def hang() -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(world, "links", hang)
    assert "has not answered for 0.01 seconds" in (await browser.get("/", 503)).text


class TestAssets:
    async def test_every_file_the_pages_name_is_served_and_may_be_kept_for_ever(self, browser: Browser) -> None:
        page = await browser.get("/links/shop")
        named = [one["src"] for one in page.all("script")] + [one["href"] for one in page.elements if one.tag == "link"]
        assert len(named) == 6
        for path in named:
            answer = await browser.answer(path)
            assert answer.status_code == 200
            assert "immutable" in answer.headers["cache-control"]

    async def test_an_outdated_mark_is_served_but_not_kept(self, browser: Browser) -> None:
        answer = await browser.answer("/static/page.js?v=old")
        assert answer.headers["cache-control"] == "no-cache"
        assert answer.headers["content-type"] == "text/javascript; charset=utf-8"

    @pytest.mark.parametrize("name", ["nothing.js", "..%2Fweb.py", "%2e%2e/web.py", "__init__.py", ""])
    async def test_nothing_else_is_served(self, browser: Browser, name: str) -> None:
        assert (await browser.answer(f"/static/{name}")).status_code == 404

    def test_the_vendored_library_comes_with_its_licence_and_is_small(self) -> None:
        found = assets()
        assert b"MIT License" in found["uPlot.LICENSE.txt"].body
        assert len(found["uPlot.iife.min.js"].body) < 60_000

    def test_nothing_is_loaded_from_elsewhere(self) -> None:
        for name in ("page.css", "page.js", "plots.js"):
            assert not re.search(rb"https?:|url\(|@import|//[a-z]", assets()[name].body), name

    def test_the_scripts_make_no_markup_out_of_text(self) -> None:
        for name in ("page.js", "plots.js"):
            assert not re.search(rb"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|Function\(",
                                 assets()[name].body)  # fmt: skip


class TestColours:
    """WCAG 2.2 AA: text at least 4.5 to 1, marks at least 3 to 1, light and dark."""

    GROUNDS = ("--ground", "--panel")
    TEXTS = ("--ink", "--quiet", "--accent")
    TONES = ("good", "warn", "bad", "busy", "calm")

    @pytest.fixture(params=["light", "dark"])
    def tokens(self, request: pytest.FixtureRequest) -> dict[str, str]:
        css = resources.files("syncd.daemon").joinpath("static/page.css").read_text()
        light, dark = re.findall(r":root \{(.*?)\}", css, re.DOTALL)[:2]
        found = dict(re.findall(r"(--[\w-]+): (#[0-9a-f]{6})", light))
        return found if request.param == "light" else found | dict(re.findall(r"(--[\w-]+): (#[0-9a-f]{6})", dark))

    def test_text_on_every_ground(self, tokens: dict[str, str]) -> None:
        for ground in (*self.GROUNDS, "--calm-ground"):
            for text in self.TEXTS:
                assert contrast(tokens[text], tokens[ground]) >= 4.5, (text, ground)

    def test_badges(self, tokens: dict[str, str]) -> None:
        for tone in self.TONES:
            assert contrast(tokens[f"--{tone}"], tokens[f"--{tone}-ground"]) >= 4.5, tone
            assert contrast(tokens[f"--{tone}"], tokens["--panel"]) >= 4.5, tone

    def test_marks_and_lines_of_plots(self, tokens: dict[str, str]) -> None:
        for name in (*[f"--{tone}-mark" for tone in self.TONES], "--plot-1", "--plot-2", "--plot-3"):
            assert contrast(tokens[name], tokens["--panel"]) >= 3, name


def contrast(one: str, other: str) -> float:
    """The contrast of two colours by WCAG."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)
