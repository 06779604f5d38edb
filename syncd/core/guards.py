"""Rules that refuse a whole plan before its first write, on each side, with their numbers.

Percentages are of the agreed bindings in scope, from `SMALL` of them on; below that, at most `SMALL_REMOVES` removes,
and adds and moves are free (design.md section 5). There is no switch that turns the guards off: a refused plan is
stored, and naming its run is the approval.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from syncd.core.model import Counts, Side
from syncd.core.records import GuardHit
from syncd.core.refusals import SETTLING

SMALL = 20
SMALL_REMOVES = 2


@dataclass(frozen=True, slots=True)
class GuardLimits:
    """How much one plan may do on a side. The percentages are of the agreed bindings in scope."""

    max_removes: int = 100
    max_removes_percent: float = 10
    max_moves_percent: float = 30
    max_adds_percent: float = 50
    max_removes_per_day: int = 500


def evaluate(
    counts: Counts, limits: GuardLimits, removed_today: Mapping[Side, int], *, first_sync: bool = False
) -> list[GuardHit]:
    """Given a plan and its surroundings, return the guards that refuse it.

    Args:
        counts: The plan's counts.
        limits: The link's limits.
        removed_today: The removes of the last 24 hours, by side.
        first_sync: The link has not come through its first sync yet, which `first_sync` governs instead of the adds.
    """
    hits = [hit for side in Side for hit in _side(side, counts, limits, removed_today.get(side, 0))]
    return [hit for hit in hits if not (first_sync and hit.name == "max_adds_percent")]


def _side(side: Side, counts: Counts, limits: GuardLimits, removed_today: int) -> list[GuardHit]:
    hits: list[GuardHit] = []
    rows = counts.crm_rows if side is Side.CRM else counts.table_rows
    if counts.agreed and not rows:
        hits.append(GuardHit("empty_side", side, 1, 0))
    done = counts.of(side)
    if done.remove > limits.max_removes:
        hits.append(GuardHit("max_removes", side, limits.max_removes, done.remove))
    if counts.agreed >= SMALL:
        for name, limit, actual in (
            ("max_removes_percent", limits.max_removes_percent, done.remove),
            ("max_moves_percent", limits.max_moves_percent, done.move),
            ("max_adds_percent", limits.max_adds_percent, done.add),
        ):
            if actual * 100 > limit * counts.agreed:
                hits.append(GuardHit(name, side, limit, _percent(actual, counts.agreed)))
    elif done.remove > SMALL_REMOVES:
        hits.append(GuardHit("max_removes_small", side, SMALL_REMOVES, done.remove))
    if done.remove and removed_today + done.remove > limits.max_removes_per_day:
        hits.append(GuardHit("max_removes_per_day", side, limits.max_removes_per_day, removed_today + done.remove))
    return hits


def _percent(part: int, whole: int) -> float:
    """Given a part of a whole, return it in percent, rounded up to a tenth: a refused number is above its limit."""
    return -(-part * 1000 // whole) / 10


def first_sync(counts: Counts, *, ask: bool) -> list[GuardHit]:
    """Given a plan on a link with nothing agreed, return the refusal that asks a person, if it would write at all."""
    writes = counts.crm.total + counts.table.total
    return [GuardHit("first_sync", None, 0, writes)] if ask and writes else []


def sentence(hit: GuardHit, counts: Counts) -> str:
    """Given a guard that refused, return the sentence an operator reads."""
    limit, actual = (f"{number:.12g}" for number in (hit.limit, hit.actual))
    side = "the CRM" if hit.side is Side.CRM else "the table"
    if hit.name == "empty_side":
        agreed = _count(f"{counts.agreed}", "binding is", "bindings are")
        return f"{side} reads as empty, while {agreed} agreed"
    if hit.side is None:
        return _of_both_sides(hit.name, actual)
    removes = _count(actual, "remove", "removes")
    if hit.name == "max_removes_small":
        return (
            f"{removes} in {side}; with fewer than {SMALL} agreed bindings ({counts.agreed}) "
            f"at most {SMALL_REMOVES} are free"
        )
    if hit.name == "max_removes_per_day":
        return f"{removes} in {side} within 24 hours, this plan included; the limit is {limit}"
    if hit.name == "max_removes":
        return f"{removes} in {side}; the limit is {limit} a run"
    what = hit.name.removeprefix("max_").removesuffix("_percent")
    return f"{actual} % of the {counts.agreed} agreed bindings are {what} in {side}; the limit is {limit} %"


def _of_both_sides(name: str, actual: str) -> str:
    """Given a guard that looks at a plan as a whole, and its number, return the sentence an operator reads."""
    if name == SETTLING:
        left = _count(actual, "move or remove is", "moves and removes are")
        return f"{left} left of the plan that was refused; if the next look finds as many, it goes on"
    return f"this is the first sync of the link, and it would write {_count(actual, 'change', 'changes')}"


def _count(number: str, one: str, many: str) -> str:
    return f"{number} {one if number == '1' else many}"
