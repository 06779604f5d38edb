"""What `check` found, as a person reads it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from syncd.cli.checking import Finding
from syncd.cli.screen import GAP, Block, Line, Table
from syncd.engine import words


def findings(found: Sequence[Finding]) -> Iterator[Block]:
    """Given findings, yield one line for each, problems with their hints, and a verdict."""
    rows, tones = [], []
    for one in found:
        rows.append(["ok" if one.code == 0 else "PROBLEM", one.subject, one.text])
        tones.append("good" if one.code == 0 else "bad")
        if one.hint:
            rows.append(["", "", f"Hint: {one.hint}"])
            tones.append("")
    yield Table(rows, tones=tones, toned=0)
    yield GAP
    wrong = sum(one.code != 0 for one in found)
    yield Line(words.count(wrong, "problem") + " found." if wrong else "All is well.", "bad" if wrong else "good")
