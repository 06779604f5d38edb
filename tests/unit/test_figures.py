"""`make figures`: what it counts in a package, and that it follows a call through tasks."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from tests.figures.__main__ import BEFORE
from tests.figures.counting import class_names_used_twice, count
from tests.figures.page import page
from tests.figures.passing import Way
from tests.figures.picture import draw, drawn
from tests.figures.walking import Walk

MODULES = {
    "__init__.py": '"""A shop."""\n',
    "order.py": '"""Orders.\n\nTwo lines more.\n"""\n\nimport json\nfrom shop import (\n    deal,\n)\n\n# why\nclass Page:\n    """One."""\n',
    "deal.py": "class Page:\n    size = 50\n\n    def turn(self):\n        return 1\n",
}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    for name, text in MODULES.items():
        (folder / name).write_text(text)
    return folder


def test_given_a_package_then_its_lines_modules_and_names_are_counted(package: Path) -> None:
    assert count(package) == {
        "files": 3,
        "lines": 19,
        "code lines": 5,
        "import lines": 4,
        "docstring lines": 6,
        "median module, lines": 5,
        "longest module, lines": 13,
        "longest function, lines": 2,
        "modules with one importer": 1,
        "lines in modules with one importer": 5,
        "class names used twice": 1,
    }
    assert class_names_used_twice(package) == ["Page"]


@pytest.mark.anyio
async def test_given_a_call_through_tasks_then_the_whole_way_to_the_request_is_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(asyncio.BaseEventLoop, "create_task", asyncio.BaseEventLoop.create_task)
    monkeypatch.setattr(httpx.AsyncClient, "send", httpx.AsyncClient.send)
    walk = Walk(Path(__file__).parent)
    walk.watch()
    portal = httpx.MockTransport(lambda _: httpx.Response(200))

    async def ask(body: str) -> None:
        async with httpx.AsyncClient(transport=portal) as client:
            await client.post("http://portal.test/batch", content=body)

    async def begin() -> None:
        await ask("crm.orderentity.list")
        await asyncio.create_task(ask("crm.orderentity.add"))

    await asyncio.create_task(begin())

    ways = {what: [function for _, function in steps[-2:]] for what, steps in walk.stacks.items()}
    assert ways == {"request": ["begin", "ask"], "write": ["begin", "ask"]}


def test_given_figures_then_the_page_shows_them_beside_those_of_before(package: Path) -> None:
    figures = count(package)
    way = Way(2, 1, ("cli/main.py:main", "cli/main.py:post"))

    shown = page({"files": 231}, figures, packages={"shop": figures}, twice=["Page"], walked={"write": way})

    assert "| files | 231 | 3 |" in shown
    assert "| import lines | not measured | 4 (21.1%) |" in shown
    assert "cli/main.py:main\ncli/main.py:post" in shown
    assert "Class names used twice: `Page`." in shown
    assert BEFORE.is_file()


def test_given_lines_then_the_picture_of_them_loads_nothing_from_elsewhere() -> None:
    svg = draw(["1. A pass", "   \x1b[1;36m$ syncd reconcile\x1b[0m"])

    assert drawn(svg) == ["1. A pass", "   $ syncd reconcile"]
    assert "url(http" not in svg
