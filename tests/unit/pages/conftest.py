"""Fixtures of the status page's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.pages.pages_reader import Browser
from tests.unit.pages.shown_daemon import ShownDaemon, make_template, open_world, web


@pytest.fixture(scope="session")
def empty_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_template(tmp_path_factory.mktemp("state"))


@pytest.fixture
async def world(tmp_path: Path, empty_state: Path) -> AsyncIterator[ShownDaemon]:
    """One link, shop, with no past."""
    async with open_world(tmp_path, empty_state) as made:
        yield made


@pytest.fixture
async def browser(world: ShownDaemon) -> AsyncIterator[Browser]:
    made = Browser(web(world))
    yield made
    await made.aclose()
