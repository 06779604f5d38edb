"""A link's runs as plots over time, and its newest ones as a row of small bars. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import Any, Final, NamedTuple

from syncd.core.ports import OPERATING_LIMIT
from syncd.engine import formatting
from syncd.state.page_queries import Point
from syncd.status.health import Tone, tone_of_state

POINTS: Final = 120
"""Points of a plot at most: more cannot be distinguished on a phone, and make bars too thin to see."""
RUNS: Final = 3000
"""Runs read for the plots of one link at most."""

Value = float | None


class Range(StrEnum):
    """How far back the plots go."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"

    @property
    def seconds(self) -> int:
        """Its length."""
        return {Range.DAY: 86_400, Range.WEEK: 7 * 86_400, Range.MONTH: 30 * 86_400}[self]


class PlotLine(NamedTuple):
    """One line of a plot: its name, what it takes of a run, and how several runs become one point."""

    label: str
    value: Callable[[Point], Value]
    together: Callable[[Iterable[float]], float] = max


class Plot(NamedTuple):
    """One plot.

    Args:
        key: Its name in the page.
        title: Its heading.
        unit: What its values are: s, or empty for a number.
        shape: line, steps or bars.
        limit: A value that is not to be reached, drawn as a line; None where there is none.
        lines: What is drawn.
    """

    key: str
    title: str
    unit: str
    shape: str
    limit: float | None
    lines: tuple[PlotLine, ...]


def _seen(take: Callable[[Point], float]) -> Callable[[Point], Value]:
    """Only passes and plans that read both sides to the end know what was out of step."""
    return lambda run: take(run) if run.kind in {"pass", "plan"} and run.state not in _BLIND else None


def _done(take: Callable[[Point], float]) -> Callable[[Point], Value]:
    return lambda run: take(run) if run.state in _WROTE else None


_BLIND: Final = frozenset({"running", "failed", "incomplete"})
_WROTE: Final = frozenset({"applied", "partial"})

PLOTS: Final = (
    Plot(
        "drift", "Differences found per pass", "", "steps", None,
        (
            PlotLine("to write in the CRM", _seen(lambda run: run.counts.crm.total)),
            PlotLine("to write in the table", _seen(lambda run: run.counts.table.total)),
            PlotLine("held", _seen(lambda run: run.counts.holds)),
        ),
    ),
    Plot(
        "changes", "Changes made, by side", "", "bars", None,
        (
            PlotLine("in the CRM", _done(lambda run: run.counts.crm.total), sum),
            PlotLine("in the table", _done(lambda run: run.counts.table.total), sum),
        ),
    ),
    Plot(
        "duration", "Duration of a run", "s", "line", None,
        (PlotLine("seconds", lambda run: None if run.finished_at is None else run.finished_at - run.started_at),),
    ),
    Plot(
        "requests", "Requests to the portal, a run", "", "line", None,
        (PlotLine("requests", lambda run: None if run.finished_at is None else run.requests),),
    ),
    Plot(
        "budget", "Operating budget used", "s", "line", float(OPERATING_LIMIT),
        (PlotLine("busiest method", lambda run: None if run.finished_at is None else run.operating),),
    ),
)  # fmt: skip


def drawn(points: Sequence[Point], span: Range, now: float) -> dict[str, Any]:
    """Given runs, oldest first, and how far back to go, return what the browser draws.

    Args:
        points: The runs.
        span: How far back.
        now: Seconds since the epoch.

    Returns:
        `from`, `to` and `times` in seconds since the epoch, `each`, the seconds a point covers (0: each run is
        one), and `plots`: for each its words and its values, as many as there are times, null where nothing is known.
    """
    buckets, each = _buckets(points, span)
    return {
        "from": round(now - span.seconds),
        "to": round(now),
        "each": each,
        "times": [round(bucket[-1].started_at) for bucket in buckets],
        "plots": {
            plot.key: {
                "unit": plot.unit,
                "shape": plot.shape,
                "limit": plot.limit,
                "lines": [
                    {"label": line.label, "values": [_together(line, bucket) for bucket in buckets]}
                    for line in plot.lines
                ],
            }
            for plot in PLOTS
        },
    }


def caption(plot: Plot, points: Sequence[Point]) -> str:
    """Given a plot and its runs, return what it shows, in words: the newest and the highest value of each line."""
    phrases = []
    for line in plot.lines:
        known = [value for point in points if (value := line.value(point)) is not None]
        if known:
            phrases.append(f"{line.label}: {_shown(known[-1], plot)} last, {_shown(max(known), plot)} at most")
    return "; ".join(phrases) or "nothing yet"


def _shown(value: float, plot: Plot) -> str:
    return f"{value:,.1f} s" if plot.unit else f"{value:,.0f}"


def _buckets(points: Sequence[Point], span: Range) -> tuple[list[Sequence[Point]], int]:
    if len(points) <= POINTS:
        return [(point,) for point in points], 0
    each = span.seconds // POINTS
    found: dict[int, list[Point]] = {}
    for point in points:
        found.setdefault(int(point.started_at) // each, []).append(point)
    return list(found.values()), each


def _together(line: PlotLine, bucket: Sequence[Point]) -> Value:
    known = [value for point in bucket if (value := line.value(point)) is not None]
    return round(line.together(known), 2) if known else None


TALL: Final = 20
"""Height of the row."""
LOW: Final = 5
"""Height of a bar of a run that changed nothing."""
_FULL: Final = 4.0
"""A bar of 10,000 changes is full height."""


class SparklineBar(NamedTuple):
    """One bar: its place from the left (counted from 0), its height, its tone, and its meaning."""

    place: int
    height: int
    tone: Tone
    title: str


def sparkline(points: Sequence[Point]) -> list[SparklineBar]:
    """Given runs, oldest first, return a bar for each."""
    return [_bar(place, point) for place, point in enumerate(points)]


def sparkline_text(bars: Sequence[SparklineBar]) -> str:
    """Given bars, return what they show, for those who do not see them."""
    states = Counter(bar.title.rpartition(": ")[2].partition(",")[0] for bar in bars)
    return f"Newest {formatting.count(len(bars), 'run')}: " + formatting.listed(
        [f"{number} {state}" for state, number in states.most_common()]
    )


def _bar(place: int, point: Point) -> SparklineBar:
    changed = point.counts.crm.total + point.counts.table.total
    height = LOW + round((TALL - LOW) * min(1.0, math.log10(changed + 1) / _FULL))
    tone = tone_of_state(point.state)
    tone = Tone.WARN if tone is Tone.GOOD and point.counts.holds else tone
    number = formatting.count(changed, "change") if changed else "nothing to change"
    held = f", {point.counts.holds:,} held" if point.counts.holds else ""
    return SparklineBar(place, height, tone, f"Run {point.id}: {point.state}, {number}{held}")
