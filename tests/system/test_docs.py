"""The documentation: what it shows is run, what it configures is valid, and where it points is there."""

from __future__ import annotations

from pathlib import Path

from tests.system.docs_runner import ROOT, Reader

TUTORIAL = ROOT / "docs/tutorial/first-link.md"


def test_given_a_clean_machine_when_the_tutorial_is_typed_word_for_word_then_everything_is_as_it_says(
    tmp_path: Path,
) -> None:
    with Reader(tmp_path) as reader:
        assert reader.play(TUTORIAL) >= 30
