"""What reaches the terminal: clean, in columns, and whole."""

from __future__ import annotations

import io
import json

import pytest

from syncd.cli.screen import Line, Screen, TextTable, clean, plain
from tests.terminals import Terminal


def test_given_control_characters_then_they_are_written_out() -> None:
    assert clean("a\x1b[31mred\x07 b\u202ec\u2028d") == r"a\x1b[31mred\x07 b\u202ec\u2028d"


def test_given_a_webhook_then_its_code_is_masked() -> None:
    assert clean("https://x.bitrix24.com/rest/1/abcdef123/") == "https://x.bitrix24.com/rest/1/***/"


def test_given_no_width_then_a_long_line_stays_one_line() -> None:
    assert list(plain([Line("word " * 40, indent=2)])) == ["  " + ("word " * 40).rstrip()]


def test_given_a_width_then_a_line_is_wrapped_at_words_and_keeps_its_indent() -> None:
    lines = list(plain([Line("one two three four", indent=2)], width=12))

    assert lines == ["  one two", "  three four"]


def test_given_rows_then_columns_are_aligned_and_numbers_stand_to_the_right() -> None:
    table = TextTable([["1", "a", "x"], ["20", "bb", "y"]], heads=["n", "name", "rest"], right=frozenset({0}))

    assert list(plain([table])) == [" n  name  rest", " 1  a     x", "20  bb    y"]


def test_given_a_long_last_cell_then_it_hangs_below_its_column() -> None:
    lines = list(plain([TextTable([["key", "one two three four five six"]])], width=27))

    assert lines == ["key  one two three four", "     five six"]


def test_given_a_last_cell_with_too_little_room_then_it_goes_below_its_row() -> None:
    lines = list(plain([TextTable([["a" * 30, "one two three four"]])], width=40))

    assert lines == ["a" * 30, "    one two three four"]


def test_given_a_cell_with_line_breaks_then_its_row_stays_a_row() -> None:
    assert list(plain([TextTable([["a", "b\nc"]])])) == ["a  b c"]


def test_given_json_then_it_is_masked_and_readable() -> None:
    stream = io.StringIO()

    Screen(stream).json([{"error": "POST https://x/rest/1/abcdef123/ failed", "naïve": None}])

    assert json.loads(stream.getvalue()) == [{"error": "POST https://x/rest/1/***/ failed", "naïve": None}]
    assert "naïve" in stream.getvalue()


@pytest.mark.parametrize("environ", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_given_a_terminal_that_wants_no_colour_then_there_is_none(environ: dict[str, str]) -> None:
    stream = Terminal()

    Screen(stream, environ).show([Line("well", "good")])

    assert stream.getvalue() == "well\n"


def test_given_a_terminal_then_tones_are_colours_and_markup_is_text() -> None:
    stream = Terminal()

    Screen(stream, {"TERM": "xterm"}).show([Line("[red]well", "good"), TextTable([["x", "[b]y"]], tones=["bad"])])

    assert "\x1b[32m[red]well" in stream.getvalue()
    assert "[b]y" in stream.getvalue()


def test_given_a_terminal_then_an_empty_line_is_a_line() -> None:
    stream = Terminal()

    Screen(stream, {"TERM": "xterm"}).show([Line("one"), Line(), Line("two")])

    assert [line.strip() for line in stream.getvalue().splitlines()] == ["one", "", "two"]


def test_given_json_with_what_a_terminal_would_obey_then_it_is_escaped_and_reads_the_same() -> None:
    stream = io.StringIO()
    text = "a\x1b[31m\x9b31m\u202eb\u2028ü"

    Screen(stream).json([text])

    assert json.loads(stream.getvalue()) == [text]
    assert not set("\x1b\x9b\u202e\u2028") & set(stream.getvalue())
