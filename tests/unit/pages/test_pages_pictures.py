"""The pictures of the status page in the docs show the pages of today."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest

from tests.chromium import CHROMIUM
from tests.figures.screenshots import FOLDER, NO_BROWSER, SHOTS, sources, take, text_in
from tests.figures.shown_links import make_day, shown_links

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[3]
_SHOWN = re.compile(r"screenshots/([\w-]+)\.(?:png|svg)\)")


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state database that the pages show; it is made once, in some ten seconds."""
    return asyncio.run(make_day(tmp_path_factory.mktemp("day")))


async def test_given_the_pages_of_today_then_the_pictures_were_made_of_them(tmp_path: Path, day: Path) -> None:
    old = {}
    async with shown_links(tmp_path, day) as world:
        for shot in SHOTS:
            then = json.loads(text_in((FOLDER / f"{shot.name}.png").read_bytes()))
            now = await sources(shot, world)
            if changed := sorted(name for name in then | now if then.get(name) != now.get(name)):
                old[shot.name] = changed
    assert not old, f"The page has changed since its pictures were made. Run `make picture`, and look at them: {old}"


def test_given_the_folder_then_each_picture_in_it_is_made_by_a_command_and_shown_by_a_document() -> None:
    there = {file.stem for file in FOLDER.iterdir()}
    assert there == {"demo", *(shot.name for shot in SHOTS)}
    documents = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    assert there == {name for file in documents for name in _SHOWN.findall(file.read_text(encoding="utf-8"))}


async def test_given_no_browser_then_it_is_said_that_no_picture_was_made(tmp_path: Path) -> None:
    assert await take(None, tmp_path, tmp_path / "no-day") == NO_BROWSER
    assert not list(tmp_path.iterdir())


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
async def test_given_a_browser_then_a_picture_is_made_that_says_what_it_was_made_of(tmp_path: Path, day: Path) -> None:
    assert "overview-light" in await take(CHROMIUM, tmp_path, day, SHOTS[:1])
    (made,) = tmp_path.iterdir()
    assert made.name == "overview-light.png"
    assert {"page", "page.css", "page.js"} <= set(json.loads(text_in(made.read_bytes())))
