"""No piece of a secret leaves the process, wherever it was put and however malformed the place.

Two marks stand for a secret's beginning and end: a password with a raw `@` or `/` in it is two halves, and a mask that
hides one of them shows the other.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from syncd.config.load import load
from syncd.errors import SyncdError
from syncd.sandbox import SandboxPortal, SandboxServer
from syncd.wiring import open_app_context
from tests.system.shop import call
from tests.unit.pages.pages_reader import Browser
from tests.unit.pages.shown_daemon import ShownDaemon, web

HEAD, TAIL = "hEaDmArK", "tAiLmArK"
CODE = HEAD + "0123" + TAIL
NOWHERE = "127.0.0.1:9"  # the discard port: nobody listens
PORTAL = "portal.placeholder"  # becomes the address of a sandbox portal, which refuses every code at once

between = st.sampled_from(
    ["", "-", "@", ":", "/", "@@", ":@", "/@", "?", "#", "%", "%4", " ", "\\\\", "é", "[", "]", "&", "="]
)
secret = st.builds(lambda middle: HEAD + middle + TAIL, between)

webhook_urls = st.one_of(
    st.sampled_from(
        [
            f"http://{PORTAL}/rest/1/{CODE}/",
            f"http://{PORTAL}/rest/1/{CODE}",
            f"http://{PORTAL}/rest/{CODE}/",
            f"http://{PORTAL}/rest/1/{CODE}/crm.orderentity.list",
            f"http://{PORTAL}/rest/1/{CODE}/?auth={CODE}",
            f"http://{CODE}@{PORTAL}/rest/1/x/",
            f"http://a:{CODE}@{PORTAL}/rest/1/x/",
            f"https://example.invalid/rest/1/{CODE}/ ",
            f"http://example.invalid/rest/1/{CODE}/",
            f"ftp://example.invalid/rest/1/{CODE}/",
            f"//example.invalid/rest/1/{CODE}/",
            f"rest/1/{CODE}/",
            CODE,
        ]
    ),
    st.builds(lambda text: f"http://{PORTAL}/rest/1/{text}/", secret),
)
database_urls = st.one_of(
    st.builds(lambda text: f"postgresql://erp:{text}@{NOWHERE}/shop", secret),
    st.builds(lambda text: f"mysql+pymysql://erp:{text}@{NOWHERE}/shop", secret),
    st.builds(lambda text: f"postgresql://erp:{text}@/shop?host=127.0.0.1&port=9", secret),
    st.builds(lambda text: f"postgresql://{NOWHERE}/shop?password={text}", secret),
    st.builds(lambda text: f"postgresql://erp@{NOWHERE}/shop?sslpassword={text}", secret),
    st.builds(lambda text: f"mysql+pymysql://erp@{NOWHERE}/shop?passwd={text}", secret),
    st.builds(lambda text: f"postgresql://erp@{NOWHERE}/shop?nonsense={text}", secret),
    st.builds(lambda text: f"nonsense://erp:{text}@{NOWHERE}/shop", secret),
    st.builds(lambda text: f"erp:{text}@{NOWHERE}/shop", secret),
    st.builds(lambda text: f"postgresql://erp@{text}@{NOWHERE}/shop", secret),
    st.builds(lambda text: f"postgresql://erp/{text}@{NOWHERE}/shop", secret),
    st.builds(lambda text: f"mysql://erp:a:{text}@{NOWHERE}/shop", secret),
    st.builds(lambda text: f"postgresql:erp:{text}@{NOWHERE}/shop", secret),
    st.builds(lambda text: f"postgresql://erp:{text}@{NOWHERE}:12x/shop", secret),
    st.builds(lambda text: f"postgresql://[erp:{text}@{NOWHERE}/shop", secret),
    st.builds(lambda text: f"sqlite://erp:{text}@{NOWHERE}/shop", secret),
    secret,
)
web_urls = st.one_of(
    st.sampled_from([f"http://{NOWHERE}/hooks/{CODE}", f"http://a:{CODE}@{NOWHERE}/", f"htp://x/{CODE}", CODE]),
    st.builds(lambda text: f"http://{NOWHERE}/{text}?token={text}", secret),
)

PLACES = {
    "links.shop.portal.webhook": webhook_urls,
    "links.shop.table.url": database_urls,
    "state.url": database_urls,
    "notify.webhook": web_urls,
    "web.password": secret,
    "state.key": secret,
    "links.shop.hook_token": secret.map(lambda text: text * 4),
    "links.shop.ping": web_urls,
}
SOUND = {
    "links.shop.portal.webhook": f"http://{PORTAL}/rest/1/abcdef/",
    "links.shop.table.url": "sqlite:///erp.db",
    "state.url": "sqlite:///syncd.db",
}
COMMANDS = [
    ("config", "show"),
    ("config", "show", "--json"),
    ("check",),
    ("check", "--json"),
    ("status",),
    ("notify", "--test"),
]
PAGES = ["/", "/links/shop", "/links/shop/holds", "/runs", "/runs/1", "/orders?q=1", "/nothing"]
CHILD = "cat; env; tr '\\0' ' ' < /proc/$$/cmdline"
"""What a notification's command is given: its input, its environment, its arguments."""


@st.composite
def plants(draw: st.DrawFn) -> tuple[str, str, str]:
    """A place, what is put there, and by which source."""
    place = draw(st.sampled_from(sorted(PLACES)))
    value = draw(PLACES[place])
    return place, value, draw(st.sampled_from(["file", "environment", "credential", "secret file", "broken file"]))


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@pytest.fixture(scope="module")
def portal() -> Iterator[str]:
    with SandboxServer.in_thread(SandboxPortal({})) as server:
        yield f"127.0.0.1:{server.port}"


def configure(folder: Path, portal: str, place: str, value: str, source: str) -> dict[str, str]:
    """Write a configuration with a secret in one place; return the environment that belongs to it."""
    environ: dict[str, str] = {}
    value = value.replace(PORTAL, portal)
    values = {key: text.replace(PORTAL, portal) for key, text in SOUND.items()}
    values.pop(place, None)
    table, _, key = place.rpartition(".")
    if source in {"file", "broken file"}:
        values[place] = value
    elif source == "environment":
        environ["SYNCD_" + place.upper().replace(".", "__")] = value
    elif source == "credential":
        (folder / "credentials").mkdir()
        (folder / "credentials" / place.replace(".", "__")).write_text(value)
        environ["CREDENTIALS_DIRECTORY"] = str(folder / "credentials")
    else:
        (folder / "a-secret").write_text(value)
        (folder / "a-secret").chmod(0o600)
        values[f"{table}.{key}_file"] = str(folder / "a-secret")
    values |= {"links.shop.table.name": "bindings"}
    lines = [f"{name} = {quoted(text)}" for name, text in values.items()]
    if source == "broken file":
        lines = [line.rstrip('"') if line.startswith(place) else line for line in lines]
    columns = 'links.shop.table.columns = { order_id = "order_id", owner_type_id = 2, owner_id = "deal_id" }'
    script = f"({CHILD}) > {folder / 'child.txt'}"
    child = f'notify.command = ["/bin/sh", "-c", {quoted(script)}]'
    (folder / "syncd.toml").write_text("\n".join([*lines, columns, child]) + "\n")
    (folder / "syncd.toml").chmod(0o600)
    return environ


def everything_that_left(folder: Path, environ: dict[str, str]) -> str:
    """Run the commands; return what they printed and logged, what they left on disk, and what the web would show."""
    config = folder / "syncd.toml"
    metrics = folder / "metrics.prom"
    with pytest.MonkeyPatch.context() as here:
        for name, value in environ.items():
            here.setenv(name, value)
        said = [call("--config", str(config), *words, directory=folder) for words in COMMANDS]
        passed = call("--config", str(config), "reconcile", "--metrics-textfile", str(metrics), directory=folder)
        shown = asyncio.run(every_page(config))
    kept = [
        path.read_bytes().decode(errors="replace")
        for path in (*folder.glob("syncd.db*"), folder / "child.txt", metrics)
        if path.exists()
    ]
    return "\n".join([*(ran.out + ran.err for ran in (*said, passed)), *kept, *shown])


async def every_page(config: Path) -> list[str]:
    """Return the pages of a daemon with this configuration; none where it cannot start."""
    try:
        settings = load(config, os.environ, {}).settings
        async with open_app_context(settings, upgrade=False) as place:
            browser = Browser(web(ShownDaemon(place)))
            try:
                return [(await browser.answer(page)).text for page in PAGES]
            finally:
                await browser.aclose()
    except SyncdError:
        return []


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@given(plant=plants())
@example(plant=("links.shop.table.url", f"postgresql://{NOWHERE}/shop?password={HEAD}@{TAIL}", "file"))
@example(plant=("links.shop.table.url", f"postgresql://erp:{HEAD}@{TAIL}@{NOWHERE}/shop", "file"))
@example(plant=("links.shop.table.url", f"postgresql://erp@{CODE}@{NOWHERE}/shop", "file"))
@example(plant=("links.shop.table.url", f"sqlite://erp:{HEAD}@{TAIL}@{NOWHERE}/shop", "file"))
@settings(max_examples=25)
def test_given_a_secret_in_any_place_then_no_piece_of_it_leaves_the_process(
    portal: str, plant: tuple[str, str, str]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        left = everything_that_left(folder, configure(folder, portal, *plant))

    assert "Traceback" not in left
    for mark in (HEAD, TAIL):
        assert mark.lower() not in left.lower()


def test_given_a_text_that_is_no_secret_then_the_search_finds_it(portal: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environ = configure(folder, portal, "links.shop.table.url", f"sqlite:///{HEAD}.db", "file")

        left = everything_that_left(folder, {**environ, "LANG": TAIL})
    assert HEAD in left
    assert f"LANG={TAIL}" in left
    assert "<h1>" in left
    assert "syncd_runs_total" in left
