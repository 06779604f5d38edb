"""What `check` found: one thing it looked at, and all of them as a person reads them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from syncd.cli.screen import GAP, Block, Line, TextTable
from syncd.engine import formatting
from syncd.errors import ConfigError, SyncdError


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Args:
        subject: What: `state database`, `shop: portal`.
        text: What was found, as a sentence.
        code: The exit code it leads to; 0 where nothing is wrong.
        hint: What to do about it.
        warning: Whether it is worth knowing although nothing is wrong.
    """

    subject: str
    text: str
    code: int = 0
    hint: str = ""
    warning: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "subject": self.subject,
            "ok": self.code == 0,
            "warning": self.warning,
            "text": self.text,
            "hint": self.hint or None,
            "exit_code": self.code,
        }


def findings_of(subject: str, error: SyncdError) -> Iterator[Finding]:
    """One error may bring several problems; its hint belongs to each of them."""
    problems = error.problems if isinstance(error, ConfigError) and error.problems else (error.message,)
    for problem in problems:
        yield Finding(subject, problem, error.exit_code, error.hint)


async def guarded(subject: str, look: Callable[[], Awaitable[list[Finding]]]) -> list[Finding]:
    """Return what was found, or the error that ended the check as a finding."""
    try:
        return await look()
    except SyncdError as error:
        return list(findings_of(subject, error))


def findings(found: Sequence[Finding]) -> Iterator[Block]:
    """Given findings, yield one line for each, problems with their hints, and a verdict.

    Problems in a row that share a hint have it once, behind the last of them.
    """
    rows, tones = [], []
    for one, following in zip_longest(found, found[1:]):
        label, tone = ("PROBLEM", "bad") if one.code else ("warning", "warn") if one.warning else ("ok", "good")
        rows.append([label, one.subject, one.text])
        tones.append(tone)
        if one.hint and (following is None or following.hint != one.hint):
            rows.append(["", "", f"Hint: {one.hint}"])
            tones.append("")
    yield TextTable(rows, tones=tones, toned=0)
    yield GAP
    wrong = sum(one.code != 0 for one in found)
    warnings = sum(one.warning for one in found)
    verdict = formatting.count(wrong, "problem") + " found" if wrong else "All is well"
    worth_knowing = f"; {formatting.count(warnings, 'warning')}" if warnings else ""
    yield Line(f"{verdict}{worth_knowing}.", "bad" if wrong else "good")
