"""Cutting a range of order ids into windows, each to be read as one page. Pure arithmetic.

Order ids are unique, so a window of 50 ids never needs a second page. Wider ones are cut so that few overflow.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import ceil, sqrt
from typing import Final, NamedTuple, TypeVar

from syncd.portal.commands import MAX_COMMANDS, OPEN, PAGE

SPREAD: Final = 1.4
"""Standard deviations kept free in a window when ids have gaps. More of them make more windows, fewer make more windows
overflow; the number of calls hardly changes around this value."""

UNEVEN: Final = 3.0
"""A range is uneven where the ids near an end are this many times denser or thinner than its average."""

MOST_CELLS: Final = MAX_COMMANDS - 2
LEAST_CELLS: Final = 8
ROWS_A_CELL: Final = 2000
"""An uneven range is cut into windows that are counted, to find out where its ids are: one for so many rows, within
these limits. More windows find out sooner, but more of them are empty."""

LEAST_COMMANDS: Final = 12
"""Commands that a batch has at least, where requests are to spare."""

T = TypeVar("T")


class Window(NamedTuple):
    """Order ids (after, upto] to be read as one page; `counted` asks for their number, too."""

    after: int
    upto: int
    counted: bool = False
    tries: int = 0


def density(order_ids: Sequence[int]) -> float:
    """Given the ascending order ids of a page, return how many there are for each id of their span, up to 1."""
    if len(order_ids) < 2:
        return 1.0
    return (len(order_ids) - 1) / (order_ids[-1] - order_ids[0])


def width(part: float) -> int:
    """Given the part of ids that is bound (0 to 1], return how many ids a window should span.

    With ids bound at random, the rows of a window scatter around their mean m by sqrt(m * (1 - part)); the widest
    window is taken with m + SPREAD * sqrt(m * (1 - part)) <= 50. Where all ids are bound that is 50 exactly.
    """
    slack = SPREAD * sqrt(max(0.0, 1 - part))
    root = (sqrt(slack * slack + 4 * PAGE) - slack) / 2
    return max(PAGE, int(root * root / part))


def cut(after: int, upto: int, rows: int, near: Sequence[float] = ()) -> list[Window]:
    """Given a range and the number of rows expected in it, return windows that cover it exactly.

    Args:
        after: Its lower bound, excluded.
        upto: Its upper bound, included; may be `OPEN`.
        rows: The rows expected in it.
        near: Densities seen at its ends, the lower one first. Where they are far from the average, only a few windows
            are cut, to be counted.
    """
    if after >= upto:
        return []
    span = upto - after
    if span <= PAGE or rows <= 0:
        return [Window(after, upto)]
    if upto == OPEN:
        # How far the ids go is unknown: guess from the density, and leave the rest open.
        reach = after + ceil(rows / min(near, default=1.0))
        return [*cut(after, reach, rows), Window(reach, OPEN, counted=True)]
    part = min(1.0, rows / span)
    uneven = any(one > UNEVEN * part or one * UNEVEN < part for one in near)
    # A few rows are read faster than counted.
    if not uneven or rows <= 10 * PAGE:
        return _even(after, upto, ceil(span / width(part)), counted=False)
    # As far as the rows would go at the density near the lower end, then the rest in cells.
    reach = min(upto, after + ceil(rows / near[0])) if near[0] > UNEVEN * part else after
    head = [Window(after, reach, counted=True)] if reach > after else []
    cells = min(MOST_CELLS, max(LEAST_CELLS, rows // ROWS_A_CELL))
    return head + _even(reach, upto, cells, counted=True)


def between(after: int, upto: int, bounds: Sequence[int]) -> list[Window]:
    """Given a range and order ids known inside it, return the windows between them, up to the range's end."""
    inside = [after, *(bound for bound in bounds if after < bound < upto), upto]
    return [Window(low, high) for low, high in pairwise(inside)]


def batches(calls: Sequence[T], lanes: int) -> list[Sequence[T]]:
    """Given calls and how many requests may be under way at once, return the calls of each batch, never more than 50.

    A portal carries out a batch's commands one after another, so there are as many batches as lanes, but with
    `LEAST_COMMANDS` in each: smaller ones would cost requests and gain nothing.
    """
    if not calls:
        return []
    number = max(ceil(len(calls) / MAX_COMMANDS), min(ceil(len(calls) / LEAST_COMMANDS), lanes))
    edges = [index * len(calls) // number for index in range(number + 1)]
    return [calls[low:high] for low, high in pairwise(edges)]


def _even(after: int, upto: int, pieces: int, *, counted: bool) -> list[Window]:
    step = max(PAGE, ceil((upto - after) / pieces))
    return [Window(low, min(low + step, upto), counted) for low in range(after, upto, step)]
