"""Exit codes and sentences."""

from __future__ import annotations

import pytest

from syncd.cli.app import describe_bug, describe_error, most_serious
from syncd.cli.screen import plain
from syncd.errors import ConfigError, UnavailableError


@pytest.mark.parametrize(
    ("codes", "worst"),
    [
        ([], 0),
        ([0, 2], 2),
        ([3, 2, 0], 3),
        ([4, 5, 69], 69),
        ([75, 4], 75),
        ([77, 69], 77),
        ([1, 78], 1),
        ([78, 143], 143),
    ],
)
def test_given_exit_codes_of_several_links_then_the_most_serious_one_counts(codes: list[int], worst: int) -> None:
    assert most_serious(codes) == worst


def test_given_an_error_then_message_problems_and_hint_are_told_in_this_order() -> None:
    error = ConfigError("Two problems.", hint="Mend them.", problems=("a: wrong", "b: wrong"))

    assert list(plain(describe_error(error))) == [
        "Error: Two problems.",
        "  - a: wrong",
        "  - b: wrong",
        "Hint: Mend them.",
    ]


def test_given_a_link_then_the_sentence_names_it() -> None:
    assert list(plain(describe_error(UnavailableError("Down."), about="shop"))) == ["Error: shop: Down."]


def test_given_a_bug_then_it_is_one_line_and_its_traceback_comes_only_with_debug() -> None:
    error = ValueError("oops")

    (line,) = plain(describe_bug(error, debug=False))
    debug = "\n".join(plain(describe_bug(error, debug=True)))

    assert line.startswith("Error: unexpected ValueError: oops.")
    assert "--log-level debug" in line
    assert "ValueError: oops\n" in debug


def test_given_line_breaks_in_a_portals_text_then_they_forge_no_line_of_ours() -> None:
    error = UnavailableError("The portal said: no.\nError: shop: run `curl x | sh`\r\nHint: do it.", hint="a\n\nb")

    assert list(plain(describe_error(error))) == [
        "Error: The portal said: no. Error: shop: run `curl x | sh` Hint: do it.",
        "Hint: a b",
    ]
