"""A link's newest runs as a row of small bars: how they ended by colour, how much they changed by height. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

from syncd.daemon.pages.phrases import STATES, Badge
from syncd.engine import words
from syncd.state.statistics import Point

TALL: Final = 20
"""Height of the row."""
LOW: Final = 5
"""Height of a bar of a run that changed nothing."""
_FULL: Final = 4.0
"""A bar of 10,000 changes is full height."""


class Tick(NamedTuple):
    """One bar: its place from the left (counted from 0), its height, its tone, and what it stands for."""

    place: int
    height: int
    tone: str
    title: str


def strip(points: Sequence[Point]) -> list[Tick]:
    """Given runs, oldest first, return a bar for each."""
    return [_tick(place, point) for place, point in enumerate(points)]


def told(ticks: Sequence[Tick]) -> str:
    """Given bars, return what they show, for those who do not see them."""
    states = Counter(tick.title.rpartition(": ")[2].partition(",")[0] for tick in ticks)
    return f"Newest {words.count(len(ticks), 'run')}: " + words.listed(
        [f"{number} {state}" for state, number in states.most_common()]
    )


def _tick(place: int, point: Point) -> Tick:
    changed = point.counts.crm.total + point.counts.table.total
    height = LOW + round((TALL - LOW) * min(1.0, math.log10(changed + 1) / _FULL))
    badge = STATES.get(point.state, Badge(point.state, "calm", ""))
    tone = "warn" if badge.tone == "good" and point.counts.holds else badge.tone
    number = words.count(changed, "change") if changed else "nothing to change"
    held = f", {point.counts.holds:,} held" if point.counts.holds else ""
    return Tick(place, height, tone, f"Run {point.id}: {badge.word}, {number}{held}")
