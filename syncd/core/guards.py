"""Rules that refuse a whole plan before its first write, on each side, with their numbers.

A plan is measured together with what was written in the last 24 hours, so that no number of small plans does what one
large plan may not. Passes over only some orders are parts of one pass over all of them: the limits of a run hold for
all that was written in parts since the order that has waited longest was covered. Percentages are of the bindings that
were agreed 24 hours ago, or of the rows of the side that is written where that is more; below `SMALL` of them, fixed
numbers hold instead (sync-rules.md, "Guards"). There is no switch that turns the guards off: a refused plan is stored,
and naming its run is the approval.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from syncd.core.model import Counts, Side, SideCounts
from syncd.core.records import GuardHit, KnownRun, LastDay, RunRow

STATE_OLDER = "state_older"
"""The guard that refuses a plan made with a state database that knows less than was noted outside it."""

SAME_MOMENT = 0.001
"""Seconds by which two databases may round one moment differently."""

SMALL = 20
"""From so many bindings on, percentages hold."""
SMALL_REMOVES = 2
SMALL_MOVES = 2
SMALL_ADDS = 20
"""What a run may do on a side of fewer bindings than `SMALL`."""
SMALL_REMOVES_PER_DAY = 5
SMALL_MOVES_PER_DAY = 5
"""What all runs of 24 hours may do there."""
REVERTS_PERCENT = 1
"""Reverts are refused only above this part of the agreed bindings as well: in a large link, people undo a few."""


@dataclass(frozen=True, slots=True)
class GuardLimits:
    """How much one plan may do on a side: the keys of `[links.X.guards]`, with their defaults.

    `second_look_above` refuses nothing: so many removes are made without a second look (`engine.second_look`).
    """

    max_removes: int = 100
    max_removes_percent: float = 10
    max_moves: int = 1000
    max_moves_percent: float = 30
    max_adds_percent: float = 50
    max_removes_per_day: int = 500
    max_removes_percent_per_day: float = 15
    max_moves_percent_per_day: float = 35
    max_reverts: int = 5
    second_look_above: int = 2


NOTHING_LATELY = LastDay(None, {}, {})
"""The last day of a link that has done nothing yet."""


def evaluate(
    counts: Counts,
    limits: GuardLimits,
    day: LastDay = NOTHING_LATELY,
    *,
    first_sync: bool = False,
    empty: Collection[Side] = (),
) -> list[GuardHit]:
    """Given a plan and its surroundings, return the guards that refuse it.

    Args:
        counts: The plan's counts.
        limits: The link's limits.
        day: What was written in the last 24 hours, and what was agreed before.
        first_sync: The link has not come through its first sync yet, which `first_sync` governs instead of the adds.
        empty: Sides that show none of the agreed orders of a range. A pass over all orders is itself such a range.
    """
    whole = {side for side in Side if counts.whole is None and counts.agreed and not counts.rows(side)}
    hits = [hit for side in Side for hit in _side(side, counts, limits, day, empty=side in whole.union(empty))]
    return [hit for hit in hits if not (first_sync and hit.name in {"max_adds_percent", "max_adds_small"})]


def _side(side: Side, counts: Counts, limits: GuardLimits, day: LastDay, *, empty: bool) -> Iterator[GuardHit]:
    """Yield the guards that refuse what a plan would write on one side, or would write because that side is empty."""
    there, planned = counts.of(side.other), counts.of(side)
    if empty and (there.move or there.remove):
        yield GuardHit("empty_side", side, 1, 0)
    done = _with_parts(planned, day.in_parts.get(side, SideCounts()))
    yield from _beyond(
        side, ("max_removes", limits.max_removes, done.remove), ("max_moves", limits.max_moves, done.move)
    )
    whole = measure(side, counts, day)
    removed = day.removed.get(side, 0) + planned.remove if planned.remove else 0
    moved = day.moved.get(side, 0) + planned.move if planned.move else 0
    if whole >= SMALL:
        for name, limit, actual in (
            ("max_removes_percent", limits.max_removes_percent, done.remove),
            ("max_moves_percent", limits.max_moves_percent, done.move),
            ("max_adds_percent", limits.max_adds_percent, done.add),
            ("max_removes_percent_per_day", limits.max_removes_percent_per_day, removed),
            ("max_moves_percent_per_day", limits.max_moves_percent_per_day, moved),
        ):
            if actual * 100 > limit * whole:
                yield GuardHit(name, side, limit, _percent(actual, whole))
    else:
        yield from _beyond(
            side,
            ("max_removes_small", SMALL_REMOVES, done.remove),
            ("max_moves_small", SMALL_MOVES, done.move),
            ("max_adds_small", SMALL_ADDS, done.add),
            ("max_removes_small_per_day", SMALL_REMOVES_PER_DAY, removed),
            ("max_moves_small_per_day", SMALL_MOVES_PER_DAY, moved),
        )
    reverts = max(limits.max_reverts, counts.agreed_of_link * REVERTS_PERCENT // 100)
    reverted = planned.reverts and planned.reverts + len(day.reverted.get(side, ()))
    yield from _beyond(
        side, ("max_removes_per_day", limits.max_removes_per_day, removed), ("max_reverts", reverts, reverted)
    )


def _with_parts(planned: SideCounts, parts: SideCounts) -> SideCounts:
    """Given a side's changes, add what was written in parts before: to each kind of change that the plan makes."""
    return SideCounts(
        planned.add and planned.add + parts.add,
        planned.move and planned.move + parts.move,
        planned.remove and planned.remove + parts.remove,
    )


def _beyond(side: Side, *measured: tuple[str, int, int]) -> Iterator[GuardHit]:
    for name, limit, actual in measured:
        if actual > limit:
            yield GuardHit(name, side, limit, actual)


def measure(side: Side, counts: Counts, day: LastDay) -> int:
    """Given a side that is written, return the number of bindings that percentages are of.

    A first sync, a rebase and a lost state have little or nothing agreed: there the rows of the side count. Of orders
    that were not read, the agreed ones are taken to be there.
    """
    unread = counts.agreed_of_link - counts.agreed
    return max(counts.agreed_of_link if day.agreed is None else day.agreed, counts.in_scope(side) + unread)


def _percent(part: int, whole: int) -> float:
    """Given a part of a whole, return it in percent, rounded up to a tenth: a refused number is above its limit."""
    return -(-part * 1000 // whole) / 10


def first_sync(counts: Counts, *, ask: bool) -> list[GuardHit]:
    """Given a plan on a link with nothing agreed, return the refusal that asks a person, if it would write at all."""
    writes = counts.crm.total + counts.table.total
    return [GuardHit("first_sync", None, 0, writes)] if ask and writes else []


def state_older(known: KnownRun | None, state: str, row: RunRow | None) -> list[GuardHit]:
    """Given what is known outside the state database, return the refusal of one that does not know as much.

    Args:
        known: The last run that changed the link's state, as noted outside.
        state: The identity of the state database.
        row: That run as the state database has it.
    """
    if known is None or (known.state == state and row is not None and _is_known(row, known)):
        return []
    return [GuardHit(STATE_OLDER, None, 0, known.run)]


def _is_known(row: RunRow, known: KnownRun) -> bool:
    """Return whether a run is the one that was noted: a restored backup counts runs up anew, and ends an open one."""
    if abs(row.started_at - known.started_at) >= SAME_MOMENT:
        return False
    if known.finished_at is None:
        return True
    return row.finished_at is not None and abs(row.finished_at - known.finished_at) < SAME_MOMENT


_DONE = {"add": "added", "move": "moved", "remove": "removed"}


def sentence(hit: GuardHit, counts: Counts) -> str:
    """Given a guard that refused, return the sentence an operator reads."""
    limit, actual = (f"{number:,.12g}" for number in (hit.limit, hit.actual))
    if hit.side is None:
        return _of_both_sides(hit)
    side = "the CRM" if hit.side is Side.CRM else "the table"
    if hit.name == "empty_side":
        agreed = _count(f"{counts.agreed:,}", "binding is", "bindings are")
        where = "" if counts.whole is None else " in a range of the orders that were read"
        return f"{side} reads as empty{where}, while {agreed} agreed"
    if hit.name == "max_reverts":
        return (
            f"{_count(actual, 'order', 'orders')} in {side} would get back within 24 hours what syncd replaced in the "
            f"week before the last pass, as after a restored backup; the limit is {limit}"
        )
    action, part, small, per_day = _parts(hit.name)
    what = _count(actual, action, f"{action}s")
    when = " within 24 hours, this plan included" if per_day else ""
    if part:
        return f"{actual} % of the bindings would be {_DONE[action]} in {side}{when}; the limit is {limit} %"
    if small:
        return f"{what} in {side}{when}; with fewer than {SMALL} bindings the limit is {limit}"
    return f"{what} in {side}{when}; the limit is {limit}{'' if per_day else ' a run'}"


def _parts(name: str) -> tuple[str, bool, bool, bool]:
    """Given a guard's name, return its action, and whether it is a percentage, for small links, and for a day."""
    action = name.removeprefix("max_").partition("_")[0].removesuffix("s")
    return action, "_percent" in name, "_small" in name, name.endswith("_per_day")


def _of_both_sides(hit: GuardHit) -> str:
    """Given a guard that looks at a plan as a whole, return the sentence an operator reads."""
    if hit.name == STATE_OLDER:
        return (
            f"the state database does not know what run {hit.actual:.12g} of this link changed: it is an older copy, "
            "such as a restored backup, or another database"
        )
    changes = _count(f"{hit.actual:,.12g}", "change", "changes")
    return f"this is the first sync of the link, and it would write {changes}"


def _count(number: str, one: str, many: str) -> str:
    return f"{number} {one if number == '1' else many}"
