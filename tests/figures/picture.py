"""`make picture`: what `syncd demo` shows at a terminal, as the picture that README opens with, and the status page.

python -m tests.figures.picture
"""

from __future__ import annotations

import asyncio
import html
import io
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from syncd.cli.demo import play
from syncd.cli.screen import Screen
from syncd.core.ports import Cancelled
from syncd.obs.logs import configure
from tests.chromium import CHROMIUM
from tests.figures.screenshots import FOLDER, take
from tests.figures.shown_links import make_day
from tests.terminals import Terminal

PICTURE = FOLDER / "demo.svg"
WIDTH = 96
FIRST, LAST = "4. ", "8. "
"""The steps that are shown: from the edits on both sides to both sides in step again."""
_FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
_TEXT = re.compile(r'<text class="demo-r\d+" x="([\d.]+)" y="([\d.]+)" textLength="[\d.]+" [^>]*>(.*?)</text>')


async def demo(stream: io.StringIO) -> list[str]:
    """Play the demo to a stream; return its lines of the steps that are shown."""
    assert await play(Screen(stream, {}), Cancelled())
    lines = [line.rstrip() for line in stream.getvalue().splitlines()]
    plain = [Text.from_ansi(line).plain for line in lines]
    begin, end = (next(i for i, line in enumerate(plain) if line.startswith(step)) for step in (FIRST, LAST))
    return lines[begin : end - 1]


def draw(lines: Sequence[str]) -> str:
    """Given lines with the colours of a terminal, return them as SVG. It loads nothing from elsewhere."""
    console = Console(record=True, file=io.StringIO(), width=WIDTH, force_terminal=True)
    for line in lines:
        console.print(Text.from_ansi(line))
    svg = console.export_svg(title="syncd demo", theme=MONOKAI, unique_id="demo")
    return _FONTS.sub("", svg).replace("Fira Code, monospace", "ui-monospace, Consolas, monospace")


def drawn(svg: str) -> list[str]:
    """Given the picture, return the lines of text in it; blank ones are left out."""
    rows: dict[float, str] = {}
    for x, y, text in _TEXT.findall(svg):
        column = round(float(x) / _CHARACTER)
        rows[float(y)] = rows.get(float(y), "").ljust(column) + html.unescape(text).replace("\xa0", " ")
    return [row.rstrip() for _, row in sorted(rows.items()) if row.strip()]


_CHARACTER = 12.2
"""The width of a character in rich's pictures, in their own units."""


def main() -> None:
    configure("error", "console")
    os.environ |= {"TERM": "xterm-256color", "COLORTERM": "truecolor", "COLUMNS": str(WIDTH)}
    PICTURE.write_text(draw(asyncio.run(demo(Terminal()))), encoding="utf-8")
    with tempfile.TemporaryDirectory(prefix="syncd-day-") as place:
        print(asyncio.run(take(CHROMIUM, FOLDER, asyncio.run(make_day(Path(place))))))


if __name__ == "__main__":
    main()
