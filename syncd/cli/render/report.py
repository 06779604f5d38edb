"""One run as a person reads it: what it found, what it did, what is left, and the one next command."""

from __future__ import annotations

from collections.abc import Iterator

from syncd.cli.render.changes import FIRST, changes, holds
from syncd.cli.screen import GAP, Block, Line
from syncd.core.model import Outcome
from syncd.core.records import RunRow
from syncd.engine import words
from syncd.engine.report import LEFTOVERS, Report


def report(told: Report, *, first: int | None = FIRST, holds_table: bool = True) -> Iterator[Block]:
    """Given a report, yield everything an operator needs to know of the run, but for the error that ended it.

    Args:
        told: The report.
        first: How many changes of each kind and how many holds to show; None shows all.
        holds_table: Whether the holds are listed, or only counted.
    """
    row = told.row
    yield Line(_headline(row), "title")
    if told.error is None or row.counts.in_step:
        yield Line(_summary(told))
    yield from changes(told.changes, first=first)
    if holds_table:
        yield from holds(told.holds, first=first)
    yield from _refusal(row)
    if told.error is None and row.error and row.state != "refused":
        yield Line(f"It ended early: {row.error}", "bad")
    yield from _verdict(told)


def _headline(row: RunRow) -> str:
    first = ", first sync" if row.first_sync else ""
    return f"{words.run_kind(row, 'run ')}: link {row.link}, run {row.id}{first}"


def _summary(told: Report) -> str:
    counts = told.row.counts
    sides = [
        f"{done.total:,} in {name}"
        for name, done in (("the CRM", counts.crm), ("the table", counts.table))
        if done.total
    ]
    sentence = f"{words.count(counts.in_step, 'order')} in step"
    if sides:
        planned = told.row.state in {"planned", "refused"}
        sentence += f"; {'to write' if planned else 'changes'}: {words.listed(sides)}"
    if told.holds:
        sentence += f"; {len(told.holds):,} held"
    return sentence + "."


def _refusal(row: RunRow) -> Iterator[Block]:
    if row.state != "refused":
        return
    yield Line("Refused, nothing was written:", "bad")
    for why in words.refusals(row):
        yield Line(f"- {why}", indent=2)


def _verdict(told: Report) -> Iterator[Block]:
    command = next_command(told)
    if told.error is None or told.changes:
        yield GAP
    if command:
        yield Line(_invitation(told))
        yield Line(command, "command", indent=2)
    else:
        yield Line(_ending(told), "good" if told.exit_code == 0 else "")


def _invitation(told: Report) -> str:
    """Given a report with a next command, return the sentence before it."""
    row = told.row
    if row.state == "refused":
        if row.points_elsewhere:
            return "If the link is meant to point there now:"
        plan = "it" if row.plan == row.id else f"the plan that waits (syncd show {row.plan})"
        return f"Look at {plan}, and if it is what you want:"
    if row.kind in {"plan", "undo"}:
        return "Nothing was written. To carry it out:"
    if row.kind == "rebase":
        return "The link starts with nothing agreed; neither side was touched. Next:"
    return _done(told)


def _ending(told: Report) -> str:
    """Given a report without a next command, return its last sentence."""
    row = told.row
    if told.error is not None or row.state in {"failed", "incomplete"}:
        return "What was written stands in the audit." if written(told) else "Nothing was written."
    if row.state == "running":
        return "It is under way, or was interrupted; the next pass heals what it left."
    if row.spent_by is not None:
        return f"Applied by run {row.spent_by}."
    return "Nothing to do." if row.kind in {"plan", "undo"} else _done(told)


def _done(told: Report) -> str:
    number = sum(change.outcome in {Outcome.APPLIED, Outcome.ALREADY} for change in told.changes)
    left = sum(change.outcome in LEFTOVERS for change in told.changes)
    wrote = f"{words.count(number, 'change')} applied" if number else "nothing to write"
    if not left and not told.holds:
        return f"Both sides are in step; {wrote}."
    rest = [f"{words.count(left, 'change')} not carried out"] if left else []
    if told.holds:
        rest.append(f"{words.count(len(told.holds), 'order')} held")
    return f"{wrote[:1].upper()}{wrote[1:]}; {words.listed(rest)}; everything else is in step." + (
        " To decide the held ones:" if told.holds else " The next pass looks at them again."
    )


def next_command(told: Report) -> str:
    """Given a report, return the one command to go on with, or nothing where none is needed."""
    row = told.row
    if told.error is not None or row.state in {"failed", "incomplete", "running"} or row.spent_by is not None:
        return ""
    if row.state == "refused":
        return f"syncd rebase {row.link}" if row.points_elsewhere else f"syncd apply {row.plan}"
    if row.kind in {"plan", "undo"} and any(change.outcome is Outcome.PLANNED for change in told.changes):
        return f"syncd apply {row.id}"
    if row.kind == "rebase":
        return f"syncd plan {row.link}"
    return f"syncd holds {row.link}" if told.holds else ""


def written(told: Report) -> bool:
    """Given a report, return whether the run wrote anything, or may have."""
    return any(change.outcome not in {Outcome.PLANNED, Outcome.SKIPPED} for change in told.changes)
