"""What `check` found, as a person reads it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest

from syncd.cli.checking import Finding
from syncd.cli.screen import GAP, Block, Line, Table
from syncd.engine import words


def findings(found: Sequence[Finding]) -> Iterator[Block]:
    """Given findings, yield one line for each, problems with their hints, and a verdict.

    Problems in a row that share a hint have it once, behind the last of them.
    """
    rows, tones = [], []
    for one, following in zip_longest(found, found[1:]):
        rows.append(["ok" if one.code == 0 else "PROBLEM", one.subject, one.text])
        tones.append("good" if one.code == 0 else "bad")
        if one.hint and (following is None or following.hint != one.hint):
            rows.append(["", "", f"Hint: {one.hint}"])
            tones.append("")
    yield Table(rows, tones=tones, toned=0)
    yield GAP
    wrong = sum(one.code != 0 for one in found)
    yield Line(words.count(wrong, "problem") + " found." if wrong else "All is well.", "bad" if wrong else "good")
