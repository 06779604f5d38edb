"""The status page in a real browser: headless Chromium, driven by its command line alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from syncd.core.model import Outcome
from syncd.daemon.web_server import HEADERS, WebServer
from syncd.portal.factory import budget_key
from tests.chromium import CHROMIUM, visit
from tests.unit.pages.shown_daemon import ShownDaemon, change, held, make_hostile, make_template, open_world, web

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
]

WATCHING = """
const seen = { violations: [], errors: [], refreshed: 0 };
document.addEventListener("securitypolicyviolation", (event) =>
  seen.violations.push(`${event.effectiveDirective} ${event.blockedURI} ${event.sourceFile}`));
addEventListener("error", (event) => seen.errors.push(String(event.message)));
document.addEventListener("refreshed", () => { seen.refreshed += 1; });
const report = () => {
  seen.title = document.title;
  seen.width = innerWidth;
  seen.content = document.documentElement.scrollWidth;
  seen.ground = getComputedStyle(document.body).backgroundColor;
  seen.plots = document.querySelectorAll(".plot canvas").length;
  seen.stale = document.getElementById("stale")?.hidden === false ? document.getElementById("stale").textContent : "";
  fetch("/seen", { method: "POST", body: JSON.stringify(seen) });
};
setInterval(report, 500);
"""
STAYING = """
addEventListener("DOMContentLoaded", () => {
  const link = document.querySelector("#link-shop a");
  const copy = document.querySelector("button.copy");
  const row = document.getElementById("link-shop");
  link.focus();
  scrollTo(0, 60);
  getSelection().selectAllChildren(document.getElementById("summary"));
  const cells = [...row.cells];
  document.addEventListener("refreshed", () => {
    seen.focused = document.activeElement === link;
    seen.same = document.getElementById("link-shop") === row && [...row.cells].every((one, at) => one === cells[at]);
    seen.scrolled = scrollY;
    seen.selected = getSelection().toString().length > 0;
    seen.row = row.innerText;
    seen.needs = [...document.querySelectorAll("#needs article")].map((one) => one.id);
  });
});
"""


@dataclass
class Served:
    """The pages on a real port, each with a script that watches it."""

    world: ShownDaemon
    port: int = 0
    probe: str = ""
    requests: list[str] = field(default_factory=list)
    on_page: Callable[[int], Awaitable[None]] | None = None
    """Called before each page is answered, with how many were before."""
    pages: int = 0
    seen: dict[str, Any] = field(default_factory=dict)
    """What the browser sent last."""

    def over(self, app: ASGIApp) -> ASGIApp:
        async def served(scope: Scope, receive: Receive, send: Send) -> None:
            path = scope["path"]
            if path == "/probe.js":
                return await _answer(send, WATCHING + self.probe, "text/javascript")
            if path == "/control":
                return await _answer(send, _CONTROL, "text/html")
            if path == "/phone":
                page = scope["query_string"].decode()
                return await _answer(send, f'<iframe width="390" height="800" src="{page}"></iframe>', "text/html", {})
            if path == "/seen":
                self.seen = json.loads((await receive())["body"])
                return await _answer(send, "", "text/plain")
            self.requests.append(path)
            if not path.startswith("/static/") and not path.endswith(".json"):
                self.world.clock.time += 5
                if self.on_page is not None:
                    await self.on_page(self.pages)
                self.pages += 1
            await app(scope, receive, _injecting(send))
            return None

        return served


_TAG = b'<script src="/probe.js"></script>'
_CONTROL = f'<html><head>{_TAG.decode()}<style>p {{ color: red }}</style></head><body id="stale"><p style="top: 0">x</p><script>1</script></body></html>'


def _injecting(send: Send) -> Send:
    start: list[Message] = []

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            start.append(message)
            return
        if start:
            body = message["body"].replace(b"<head>", b"<head>" + _TAG, 1)
            headers = [pair for pair in start[0]["headers"] if pair[0] not in {b"content-length", b"x-frame-options"}]
            headers = [
                (name, value.replace(b"frame-ancestors 'none'", b"frame-ancestors 'self'")) for name, value in headers
            ]
            await send({**start.pop(), "headers": [*headers, (b"content-length", str(len(body)).encode())]})
            message = {**message, "body": body}
        await send(message)

    return sending


async def _answer(send: Send, body: str, media_type: str, more: Mapping[str, str] = HEADERS) -> None:
    headers = [(b"content-type", media_type.encode()), (b"content-length", str(len(body.encode())).encode())]
    headers += [(name.lower().encode(), value.encode()) for name, value in more.items()]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body.encode()})


@asynccontextmanager
async def serving(world: ShownDaemon) -> AsyncIterator[Served]:
    served = Served(world)
    server = WebServer(served.over(web(world)), ("127.0.0.1", 0))
    served.port = server.port
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.run())
        await server.started()
        try:
            yield served
        finally:
            server.stop()


@dataclass
class Shown:
    """What a page has become: its document, what its watcher sent last, and what the browser logged."""

    dom: str
    seen: dict[str, Any]
    log: str


class Chromium:
    """Opens pages, each with a profile of its own."""

    def __init__(self, served: Served, directory: Path) -> None:
        self._served = served
        self._directory = directory
        self._opened = 0

    async def open(self, path: str, *flags: str, seconds: int = 3, size: str = "1280,900") -> Shown:
        """Open a page, let `seconds` of the page's time pass, and return what it has become."""
        assert CHROMIUM is not None
        self._opened += 1
        self._served.seen = {}
        address, profile = f"http://127.0.0.1:{self._served.port}{path}", self._directory / f"profile-{self._opened}"
        dom, log = await visit(CHROMIUM, address, profile, "--dump-dom", *flags, seconds=seconds, size=size)
        assert self._served.seen, log
        return Shown(dom, self._served.seen, log)


@pytest.fixture(scope="module")
def empty_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_template(tmp_path_factory.mktemp("state"))


@pytest.fixture
async def served(tmp_path: Path, empty_state: Path) -> AsyncIterator[Served]:
    async with (
        open_world(tmp_path, empty_state, {"shop": {}, "parked": {}}) as world,
        serving(world) as made,
    ):
        yield made


@pytest.fixture
def chromium(served: Served, tmp_path: Path) -> Chromium:
    return Chromium(served, tmp_path)


def _calm(shown: Shown) -> dict[str, Any]:
    """What was seen, with no complaint of the browser about it."""
    seen = shown.seen
    assert seen["violations"] == []
    assert seen["errors"] == []
    assert "Content Security Policy" not in shown.log
    return seen


async def test_the_plots_are_drawn_and_the_policy_is_never_touched(served: Served, chromium: Chromium) -> None:
    for minutes in range(60, 0, -5):
        await served.world.run(changes=[(change(5, 1, 2), Outcome.APPLIED, "")], before=60 * minutes)
    shown = await chromium.open("/links/shop")
    assert _calm(shown)["plots"] == 5
    assert shown.dom.count('class="u-legend') == 5
    assert 'class="js"' in shown.dom


async def test_the_watch_over_the_policy_is_not_blind(chromium: Chromium) -> None:
    shown = await chromium.open("/control")
    broken = {violation.split()[0] for violation in shown.seen["violations"]}
    assert {"style-src-elem", "style-src-attr", "script-src-elem"} <= broken
    assert "Content Security Policy" in shown.log


async def test_a_page_renews_itself_and_keeps_focus_scroll_and_selection(served: Served, chromium: Chromium) -> None:
    await served.world.run(holds=[held(order) for order in range(1, 4)])
    served.probe = STAYING

    async def go_on(before: int) -> None:
        if before == 1:
            await served.world.run(holds=[held(4)])
            await served.world.run("parked", state="failed", error="The portal refuses the webhook.")

    served.on_page = go_on
    seen = _calm(await chromium.open("/", seconds=9, size="800,400"))
    assert seen["refreshed"] >= 1
    assert seen["focused"]
    assert seen["same"]
    assert seen["scrolled"] == 60
    assert seen["selected"]
    assert "\t4\t" in seen["row"].replace("\n", "\t")
    assert seen["needs"] == ["needs-parked", "needs-shop"]


async def test_given_a_state_database_that_went_away_then_the_page_says_that_it_is_old(
    served: Served, chromium: Chromium
) -> None:
    await served.world.run()

    async def break_down(before: int) -> None:
        if before == 1:
            from syncd.errors import StateUnavailable

            served.world.broken = StateUnavailable("It is damaged.")

    served.on_page = break_down
    shown = await chromium.open("/", seconds=40)
    assert "does not answer. What you see is as of" in shown.seen["stale"]
    assert 'id="link-shop"' in shown.dom


async def test_hostile_texts_do_nothing_in_a_browser(served: Served, chromium: Chromium) -> None:
    await make_hostile(served.world)
    for path in ("/", "/links/shop/orders/77", "/holds", "/runs/1"):
        seen = _calm(await chromium.open(path))
        assert seen["title"].endswith(" · syncd")


async def test_a_phone_shows_every_page_without_scrolling_sideways(served: Served, chromium: Chromium) -> None:
    await make_hostile(served.world)
    portal, now = served.world.context.settings.links["shop"].portal, served.world.clock.now()
    await served.world.store.set_budget(budget_key(portal), {"crm.orderentity.deletebyfilter": (360, now + 9e9, now)})
    for path in ("/", "/links/shop", "/links/shop/orders/77", "/holds", "/runs", "/runs/1"):
        # A window is never narrower than 500 pixels; a frame is.
        seen = _calm(await chromium.open(f"/phone?{path}"))
        assert seen["width"] == 390
        assert seen["content"] <= 390, path


async def test_dark_is_dark(served: Served, chromium: Chromium) -> None:
    light = _calm(await chromium.open("/"))["ground"]
    dark = _calm(await chromium.open("/", "--blink-settings=preferredColorScheme=0"))["ground"]
    assert (light, dark) == ("rgb(246, 246, 244)", "rgb(20, 22, 26)")
