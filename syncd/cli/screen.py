"""What commands print: blocks of text and tables, rendered for a terminal, for a pipe, or as JSON.

Commands and renderers build blocks, which are values; only `Screen` knows where they go. Everything passes through
`clean`: a mapping table may contain a terminal's control sequences, and an error message a secret.
"""

from __future__ import annotations

import json
import os
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO, TypeAlias

from syncd.obs.redact import escape_controls, escape_in_json, redact

if TYPE_CHECKING:
    from rich.console import RenderableType

DEFAULT_WIDTH = 80
NARROWEST = 40
"""A last column with less room than half of this goes below its row instead of being squeezed."""

_BREAKS = re.compile(r"\s*[\r\n]+\s*")
STYLES = {
    "title": "bold", "command": "bold cyan", "dim": "dim",
    "good": "green", "busy": "", "calm": "", "warn": "yellow", "bad": "bold red",
}  # fmt: skip
"""The look of each part of a text, and of each `syncd.status.health.Tone`."""


@dataclass(frozen=True, slots=True)
class Line:
    """One paragraph, without line breaks. tone is empty or a name of `STYLES`; indent counts spaces."""

    text: str = ""
    tone: str = ""
    indent: int = 0


@dataclass(frozen=True, slots=True)
class TextTable:
    """Rows of cells. Columns may have headings; the last one may be long, and is wrapped.

    Args:
        rows: The cells.
        heads: A heading for each column, or none.
        indent: Spaces before each row.
        tones: A tone for each row, or none.
        toned: The column the tones are for.
        right: The columns whose cells are numbers.
    """

    rows: Sequence[Sequence[str]]
    heads: Sequence[str] = ()
    indent: int = 0
    tones: Sequence[str] = ()
    toned: int = 0
    right: frozenset[int] = frozenset()


Block: TypeAlias = Line | TextTable
GAP = Line()


def clean(text: str) -> str:
    """Given a text, return it on one line, without secrets, and with control characters written out.

    A portal's or a database's text may hold line breaks; they must not begin a line that looks like one of syncd's own.
    """
    one_line = _BREAKS.sub(" ", redact(text))
    return escape_controls(one_line)


def _shown(text: str) -> str:
    """A text as a terminal shows it: cleaned, and with its times in the zone of this host."""
    from syncd.engine.formatting import with_moments

    return with_moments(clean(text))


def plain(blocks: Iterable[Block], width: int | None = None) -> Iterator[str]:
    """Given blocks, yield lines of plain text; wrapped at words where there is a width, else one line a row."""
    for block in blocks:
        if isinstance(block, Line):
            yield from _wrapped(_shown(block.text), width, " " * block.indent, " " * block.indent)
        else:
            yield from _plain_table(block, width)


def _wrapped(text: str, width: int | None, first: str, then: str) -> Iterator[str]:
    if width is None or len(first) + len(text) <= width:
        yield (first + text).rstrip()
    else:
        yield from textwrap.wrap(
            text,
            width,
            initial_indent=first,
            subsequent_indent=then,
            break_long_words=False,
            break_on_hyphens=False,
        )


def _plain_table(table: TextTable, width: int | None) -> Iterator[str]:
    heads = [[*table.heads]] if table.heads else []
    rows = [[_shown(cell) for cell in row] for row in [*heads, *table.rows]]
    if not rows:
        return
    last = max(map(len, rows)) - 1
    widths = [max((len(row[index]) for row in rows if len(row) > index), default=0) for index in range(last)]
    for row in rows:
        cells = [
            cell.rjust(widths[index]) if index in table.right else cell.ljust(widths[index])
            for index, cell in enumerate(row[:last])
        ]
        lead = " " * table.indent + "".join(cell + "  " for cell in cells)
        tail = row[last] if len(row) > last else ""
        if width is not None and len(lead) + len(tail) > width and width - len(lead) < NARROWEST // 2:
            yield lead.rstrip()
            below = " " * (table.indent + 4)
            yield from _wrapped(tail, width, below, below)
        else:
            yield from _wrapped(tail, width, lead, " " * len(lead))


class Screen:
    """Where a command's results go: stdout.

    Args:
        stream: The stream.
        environ: The environment, which says whether colours are wanted.
    """

    def __init__(self, stream: TextIO | None = None, environ: Mapping[str, str] | None = None) -> None:
        self._stream = sys.stdout if stream is None else stream
        environ = os.environ if environ is None else environ
        self.terminal = self._stream.isatty()
        self.colours = self.terminal and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"

    @property
    def width(self) -> int | None:
        """The columns to wrap at; None where the output is not a terminal."""
        if not self.terminal:
            return None
        import shutil

        return max(NARROWEST, shutil.get_terminal_size((DEFAULT_WIDTH, 24)).columns)

    def show(self, blocks: Iterable[Block]) -> None:
        """Print blocks."""
        if self.colours:
            self._show_rich(blocks)
        else:
            for line in plain(blocks, self.width):
                self._stream.write(line + "\n")
        self._stream.flush()

    def lines(self, lines: Iterable[str]) -> None:
        """Print lines for other programs as they come; secrets are masked."""
        for line in lines:
            self._stream.write(redact(line))
        self._stream.flush()

    def json(self, document: Any) -> None:
        """Print a JSON document: in UTF-8, or with escapes where the stream has another encoding."""
        in_utf8 = (self._stream.encoding or "utf-8").lower().replace("-", "") == "utf8"
        encoder = json.JSONEncoder(indent=2, ensure_ascii=not in_utf8)
        for chunk in encoder.iterencode(_masked(document)):
            self._stream.write(escape_in_json(chunk))
        self._stream.write("\n")
        self._stream.flush()

    def _show_rich(self, blocks: Iterable[Block]) -> None:
        from rich.console import Console

        console = Console(file=self._stream, highlight=False, markup=False, emoji=False, width=self.width)
        for block in blocks:
            console.print(_rich(block))


def show_on_stderr(blocks: Iterable[Block]) -> None:
    """Print blocks on stderr: remarks on a result that do not belong to it."""
    Screen(sys.stderr).show(blocks)


def _rich(block: Block) -> RenderableType:
    from rich.padding import Padding
    from rich.table import Table as RichTable
    from rich.text import Text

    if isinstance(block, Line):
        if not block.text:
            return Text(" ")  # a padded nothing would be no line at all
        return Padding(
            Text(_shown(block.text), style=STYLES.get(block.tone, "")), (0, 0, 0, block.indent), expand=False
        )
    made = RichTable(box=None, show_header=bool(block.heads), pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    columns = max((len(row) for row in [block.heads, *block.rows]), default=0)
    for index in range(columns):
        made.add_column(
            block.heads[index] if index < len(block.heads) else "",
            justify="right" if index in block.right else "left",
            no_wrap=index < columns - 1,
            overflow="fold",
        )
    for number, row in enumerate(block.rows):
        tone = block.tones[number] if number < len(block.tones) else ""
        styles = [STYLES.get(tone, "") if index == block.toned else "" for index in range(len(row))]
        made.add_row(*(Text(_shown(cell), style) for cell, style in zip(row, styles, strict=True)))
    return Padding(made, (0, 0, 0, block.indent), expand=False)


class Streamed(list[Any]):
    """A JSON list that is made while it is printed, so that a million changes take no memory.

    Args:
        items: May be iterated once; at least one item.
    """

    def __init__(self, items: Iterable[Any]) -> None:
        super().__init__()
        self._items = items

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)


def _masked(value: Any) -> Any:
    if isinstance(value, Streamed):
        return Streamed(map(_masked, value))
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {key: _masked(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_masked(inner) for inner in value]
    return value
