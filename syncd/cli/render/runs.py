"""Runs as a person reads them: one with its changes, its holds and the next command, and lists of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from syncd.cli.screen import GAP, Block, Line, TextTable
from syncd.core.model import CONFLICTS, Action, Hold, Outcome, Side
from syncd.core.records import NAMELESS, PortalNames, RunRow, StoredChange
from syncd.engine import formatting
from syncd.engine.covering import NAMED
from syncd.engine.report import LEFTOVERS, TO_MAKE, Report
from syncd.status.health import tone_of_outcome, tone_of_run

FIRST = 10
"""How many changes of each kind, and how many holds, are shown before the rest is counted."""
HEADINGS = {Side.CRM: "In the CRM", Side.TABLE: "In the table"}
ACTIONS = {Action.ADD: "add", Action.MOVE: "move", Action.REMOVE: "remove"}


def report(report: Report, *, first: int | None = FIRST, names: PortalNames = NAMELESS) -> Iterator[Block]:
    """Given a report, yield everything an operator needs to know of the run, but for the error that ended it.

    Args:
        report: The report.
        first: How many changes of each kind and how many holds to show; None shows all.
        names: The titles that are known.
    """
    row = report.row
    yield Line(_headline(row), "title")
    if row.counts.in_step or (report.error is None and not row.points_elsewhere):
        yield Line(_summary(report))
    yield from changes(report.changes, report.tally, first=first, names=names)
    yield from _held(report, first, names)
    yield from conclusion(report)


def conclusion(report: Report) -> Iterator[Block]:
    """Given a report, yield its result: why it was refused or ended early, and the next command."""
    row = report.row
    yield from _refusal(row)
    if report.error is None and row.error and row.state != "refused":
        yield Line(f"It ended early: {row.error}", "bad")
    yield from _verdict(report)


def _headline(row: RunRow) -> str:
    first = ", first sync" if row.first_sync else ""
    part = ""
    if row.covers is not None:
        orders = formatting.short_ranges(row.covers)
        part = f", only orders {orders}" if row.part == NAMED else f", only {row.part}: orders {orders}"
    return f"{formatting.run_kind(row, 'run ')}: link {row.link}, run {row.id}{first}{part}"


def _summary(report: Report) -> str:
    counts = report.row.counts
    sides = [
        f"{done.total:,} in {name}"
        for name, done in (("the CRM", counts.crm), ("the table", counts.table))
        if done.total
    ]
    sentence = f"{formatting.count(counts.in_step, 'order')} in step"
    if sides:
        planned = report.row.state in {"planned", "refused"} or (report.row.state == "failed" and not written(report))
        sentence += f"; {'to write' if planned else 'changes'}: {formatting.listed(sides)}"
    if report.holds:
        sentence += f"; {len(report.holds):,} held"
    return sentence + "."


def _refusal(row: RunRow) -> Iterator[Block]:
    if row.state != "refused":
        return
    yield Line("Refused, nothing was written:", "bad")
    for why in formatting.refusals(row):
        yield Line(f"- {why}", indent=2)


def _verdict(report: Report) -> Iterator[Block]:
    command = next_command(report)
    if report.error is None or report.changes:
        yield GAP
    if command:
        if report.row.state == "refused" and (text := formatting.remedy(report.row)):
            yield Line(text)
        yield Line(_invitation(report))
        yield Line(command, "command", indent=2)
    else:
        yield Line(_ending(report), "good" if report.exit_code == 0 else "")


def _invitation(report: Report) -> str:
    """Given a report with a next command, return the sentence before it."""
    row = report.row
    if row.state == "refused":
        if row.points_elsewhere:
            return "If the link is meant to point there now:"
        plan = "it" if row.plan == row.id else f"the plan that waits (syncd show {row.plan})"
        return f"Look at {plan}, and if it is what you want:"
    if row.kind in {"plan", "undo"} and report.outcomes.keys() & TO_MAKE:
        return "Nothing was written. To carry it out:"
    if row.kind == "rename":
        return "The portal has the agreed bindings; they stay agreed, and neither side was touched. Next:"
    if row.kind == "rebase":
        return "The link starts with nothing agreed; neither side was touched. Next:"
    return _done(report)


def _ending(report: Report) -> str:
    """Given a report without a next command, return its last sentence."""
    row = report.row
    if report.error is not None or row.state in {"failed", "incomplete"}:
        return "The audit lists what was written." if written(report) else "Nothing was written."
    if row.state == "running":
        return "It is still running, or was interrupted; the next pass finishes what it left."
    if row.spent_by is not None:
        return f"Applied by run {row.spent_by}."
    return "Nothing to do." if row.kind in {"plan", "undo"} else _done(report)


def _done(report: Report) -> str:
    came_to = report.outcomes
    number = came_to[Outcome.APPLIED] + came_to[Outcome.ALREADY]
    left = sum(came_to[outcome] for outcome in LEFTOVERS)
    waiting = came_to[Outcome.WAITING]
    if waiting and not left and not report.holds:
        return _waiting(report, number)
    wrote = "no change applied" if left else "nothing to write"
    if number:
        wrote = f"{formatting.count(number, 'change')} applied"
    compared, others = _compared(report.row)
    if not left and not report.holds:
        return f"{compared}; {wrote}."
    # Of these, nobody knows: the answer was lost, or the run was interrupted.
    uncertain = came_to[Outcome.UNCERTAIN] + came_to[Outcome.INTENDED]
    rest = [f"{formatting.count(left - uncertain, 'change')} not carried out"] if left > uncertain else []
    if uncertain:
        rest.append(f"{formatting.count(uncertain, 'change')} uncertain")
    if waiting:
        rest.append(formatting.count(waiting, "remove waits", "removes wait"))
    if report.holds:
        rest.append(f"{formatting.count(len(report.holds), 'order')} held")
    again = f" The next pass looks at {'it' if left + waiting == 1 else 'them'} again."
    return f"{wrote[:1].upper()}{wrote[1:]}; {formatting.listed(rest)}{others}." + (
        " To decide the held ones:" if report.holds else again
    )


def _compared(row: RunRow) -> tuple[str, str]:
    """Return what is in step after a run that left nothing, and beside what it left. A plan says nothing of others."""
    if row.kind == "apply":
        return "The plan is carried out", ""
    if row.covers is not None:
        return "These orders are in step", "; the others of these orders are in step"
    return "Both sides are in step", "; everything else is in step"


def _waiting(report: Report, applied: int) -> str:
    waiting = report.outcomes[Outcome.WAITING]
    wrote = f"{formatting.count(applied, 'change')} applied" if applied else "Nothing was written"
    return (
        f"{wrote}; {formatting.count(waiting, 'remove waits', 'removes wait')} until a later pass finds "
        f"{'the same order' if waiting == 1 else 'the same orders'} absent."
    )


def next_command(report: Report) -> str:
    """Given a report, return the next command to type, or an empty text if none is needed."""
    row = report.row
    if report.error is not None or row.state in {"failed", "incomplete", "running"} or row.spent_by is not None:
        return ""
    if row.state == "refused":
        return f"syncd rebase {row.link}" if row.points_elsewhere else f"syncd apply {row.plan}"
    if row.kind in {"plan", "undo"} and report.outcomes.keys() & TO_MAKE:
        return f"syncd apply {row.id}"
    if row.kind in {"rebase", "rename"}:
        return f"syncd plan {row.link}"
    return f"syncd holds {row.link}" if report.holds else ""


def written(report: Report) -> bool:
    """Given a report, return whether the run wrote anything, or may have."""
    return bool(report.outcomes.keys() - {Outcome.PLANNED, Outcome.WAITING, Outcome.SKIPPED})


def changes(
    all_changes: Sequence[StoredChange],
    numbers: Mapping[tuple[Side, Action, Outcome], int],
    *,
    first: int | None = FIRST,
    names: PortalNames = NAMELESS,
) -> Iterator[Block]:
    """Given a run's changes, yield them grouped by side and action, the first ones of each group shown.

    Args:
        all_changes: The changes, or the first thousands of them; agreements are left out.
        numbers: How many there are of each side, action and outcome.
        first: How many to show of each group; None shows all.
        names: The titles that are known.
    """
    for side in Side:
        if not any(of is side for of, _, _ in numbers):
            continue
        yield Line(f"{HEADINGS[side]}:", "title")
        for action, name in ACTIONS.items():
            tally = {outcome: number for (*of, outcome), number in numbers.items() if of == [side, action]}
            if tally:
                group = [one for one in all_changes if one.change.side is side and one.change.action is action]
                yield Line(f"{name} {sum(tally.values()):,}{_tally(tally)}", indent=2)
                yield from _rows(group, sum(tally.values()), first, names)


def arrow(one: StoredChange, names: PortalNames = NAMELESS) -> str:
    """Given a change, return `before → after`, with the titles that are known."""
    return f"{formatting.titled(one.before, names)} → {formatting.titled(one.change.after, names)}"


def _tally(outcomes: Mapping[Outcome, int]) -> str:
    """Say what became of a group, where something did."""
    tally: dict[str, int] = {}
    for outcome, number in outcomes.items():
        if outcome is not Outcome.PLANNED:
            tally[formatting.outcome(outcome)] = tally.get(formatting.outcome(outcome), 0) + number
    if not tally:
        return ""
    return ": " + ", ".join(f"{number:,} {name}" for name, number in tally.items())


def _rows(group: Sequence[StoredChange], number: int, first: int | None, names: PortalNames) -> Iterator[Block]:
    # Failures come first, so that the cut never hides them.
    ordered = sorted(group, key=lambda one: one.outcome in {Outcome.PLANNED, Outcome.APPLIED, Outcome.ALREADY})
    shown = ordered if first is None else ordered[:first]
    rows, tones = [], []
    for one in shown:
        said, tone = formatting.REASONS[one.change.reason], ""
        if one.outcome not in {Outcome.PLANNED, Outcome.APPLIED}:
            tone = tone_of_outcome(one.outcome)
            said = one.error or formatting.outcome(one.outcome)
            if one.error and not said.startswith(formatting.outcome(one.outcome)):
                said = f"{formatting.outcome(one.outcome)}: {said}"
        rows.append([f"order {one.change.order_id}", arrow(one), f"{said}{_titles(one, names)}"])
        tones.append(tone)
    yield TextTable(rows, indent=4, tones=tones, toned=2)
    if len(shown) < number:
        yield Line(f"… and {number - len(shown):,} more", "dim", indent=4)


def _titles(one: StoredChange, names: PortalNames) -> str:
    """Say what people call the owners of a change, where that is known of one of them.

    The titles are in the last column, which is wrapped: they may be long.
    """
    owners = [one.before, one.change.after]
    if not any(names.titles.get(owner) for owner in owners if owner is not None):
        return ""
    return "; " + " → ".join(
        (names.titles.get(owner, "") if owner is not None else "") or formatting.owner(owner, names) for owner in owners
    )


def _held(report: Report, first: int | None, names: PortalNames) -> Iterator[Block]:
    """Yield the orders a run holds, with what each side says."""
    all_holds, keys = report.holds, report.keys
    if not all_holds:
        return
    yield Line(f"Held {len(all_holds):,}, written on neither side:", "title")
    shown = all_holds if first is None else all_holds[:first]
    yield TextTable(
        [[_order(one, keys), one.kind.value, _about(one, names)] for one in shown],
        indent=2,
        tones=["warn"] * len(shown),
        toned=1,
    )
    if len(shown) < len(all_holds):
        yield Line(f"… and {len(all_holds) - len(shown):,} more", "dim", indent=2)


def _order(hold: Hold, keys: Mapping[int, str]) -> str:
    return f"order {formatting.order(hold.order_id, keys.get(hold.order_id, ''))}"


def _about(hold: Hold, names: PortalNames) -> str:
    """The sides' values where they are the point, and the hold's own sentence where it says more than its kind."""
    if hold.kind in CONFLICTS:
        return formatting.facts_text(hold.facts, names)
    return (
        hold.detail
        if hold.facts.unreadable is not None
        else f"{formatting.facts_text(hold.facts, names)}. {hold.detail}"
    )


def runs(rows: Sequence[RunRow], now: float) -> Iterator[Block]:
    """Given runs, newest first, yield one line for each."""
    if not rows:
        yield Line("There are no runs yet.")
        return
    yield TextTable(
        [
            [
                str(row.id),
                row.link,
                formatting.run_kind(row).lower(),
                row.state + (f", by {row.spent_by}" if row.spent_by is not None else ""),
                formatting.moment(row.started_at)[5:],
                formatting.span((row.finished_at or now) - row.started_at),
                what(row),
            ]
            for row in rows
        ],
        heads=["run", "link", "kind", "state", "began", "took", "what"],
        tones=[tone_of_run(row) for row in rows],
        toned=3,
        right=frozenset({0}),
    )


def what(row: RunRow) -> str:
    """Given a run, return its result in a few words."""
    parts = [
        f"{name} {done.total:,}" for name, done in (("CRM", row.counts.crm), ("table", row.counts.table)) if done.total
    ]
    if row.counts.holds:
        parts.append(f"held {row.counts.holds:,}")
    if row.state == "refused":
        parts.append("refused by " + formatting.listed(list(dict.fromkeys(hit.name for hit in row.guards))))
    elif row.error:
        parts.append(row.error)
    part = f" (only {row.part})" if row.part else ""
    return f"{', '.join(parts) or 'nothing to do'}{part}"
