"""Changes and holds as a person reads them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from syncd.cli.screen import Block, Line, Table
from syncd.core.model import CONFLICTS, Action, Hold, Outcome, Side
from syncd.core.records import StoredChange
from syncd.engine import words

FIRST = 10
"""How many changes of each kind, and how many holds, are shown before the rest is counted."""

HEADINGS = {Side.CRM: "In the CRM", Side.TABLE: "In the table"}
ACTIONS = {Action.ADD: "add", Action.MOVE: "move", Action.REMOVE: "remove"}
_TONES = {
    Outcome.APPLIED: "good",
    Outcome.ALREADY: "good",
    Outcome.SKIPPED: "warn",
    Outcome.FAILED: "bad",
    Outcome.UNCERTAIN: "bad",
    Outcome.INTENDED: "bad",
}


def changes(all_changes: Sequence[StoredChange], *, first: int | None = FIRST) -> Iterator[Block]:
    """Given a run's changes, yield them grouped by side and action, the first ones of each group shown.

    Args:
        all_changes: The changes; agreements are left out.
        first: How many to show of each group; None shows all.
    """
    for side in Side:
        of_side = [one for one in all_changes if one.change.side is side]
        if not of_side:
            continue
        yield Line(f"{HEADINGS[side]}:", "title")
        for action, name in ACTIONS.items():
            group = [one for one in of_side if one.change.action is action]
            if group:
                yield Line(f"{name} {len(group):,}{_tally(group)}", indent=2)
                yield from _rows(group, first)


def arrow(one: StoredChange) -> str:
    """Given a change, return `before → after`."""
    return f"{words.owner(one.before)} → {words.owner(one.change.after)}"


def _tally(group: Iterable[StoredChange]) -> str:
    """Say what became of a group, where something did."""
    tally: dict[str, int] = {}
    for one in group:
        if one.outcome is not Outcome.PLANNED:
            tally[words.outcome(one.outcome)] = tally.get(words.outcome(one.outcome), 0) + 1
    if not tally:
        return ""
    return ": " + ", ".join(f"{number:,} {name}" for name, number in tally.items())


def _rows(group: Sequence[StoredChange], first: int | None) -> Iterator[Block]:
    # What went wrong is never among the uncounted.
    ordered = sorted(group, key=lambda one: one.outcome in {Outcome.PLANNED, Outcome.APPLIED, Outcome.ALREADY})
    shown = ordered if first is None else ordered[:first]
    rows, tones = [], []
    for one in shown:
        said = words.REASONS[one.change.reason]
        if one.outcome not in {Outcome.PLANNED, Outcome.APPLIED}:
            said = one.error or words.outcome(one.outcome)
            if one.error and not said.startswith(words.outcome(one.outcome)):
                said = f"{words.outcome(one.outcome)}: {said}"
        rows.append([f"order {one.change.order_id}", arrow(one), said])
        tones.append(_TONES.get(one.outcome, "") if one.outcome is not Outcome.APPLIED else "")
    yield Table(rows, indent=4, tones=tones, toned=2)
    if len(shown) < len(group):
        yield Line(f"… and {len(group) - len(shown):,} more", "dim", indent=4)


def holds(all_holds: Sequence[Hold], *, first: int | None = FIRST) -> Iterator[Block]:
    """Given holds, yield them with what each side says."""
    if not all_holds:
        return
    yield Line(f"Held {len(all_holds):,}, written on neither side:", "title")
    shown = all_holds if first is None else all_holds[:first]
    yield Table(
        [[f"order {words.order(one.order_id)}", one.kind.value, _about(one)] for one in shown],
        indent=2,
        tones=["warn"] * len(shown),
        toned=1,
    )
    if len(shown) < len(all_holds):
        yield Line(f"… and {len(all_holds) - len(shown):,} more", "dim", indent=2)


def _about(hold: Hold) -> str:
    """The sides' values where they are the point, and the hold's own sentence where it says more than its kind."""
    if hold.kind in CONFLICTS:
        return words.says(hold.facts)
    return hold.detail if hold.facts.unreadable is not None else f"{words.says(hold.facts)}. {hold.detail}"
