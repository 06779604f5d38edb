"""Sets of order ids as ranges: what a pass covers, what a person names as `5125,5200-5300`, and how fresh each part is.

Order ids are positive and never change, so a set of ranges stays what it is while bindings come and go.

All order ids are cut into ascending slices without gaps. Scheduled passes cover the slices in rotation; a whole pass
covers all of them. Times are seconds since the epoch, and say when the pass began.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final, NamedTuple

from syncd.core.pacing import SKEW

LARGEST_ID: Final = 2**63 - 1
"""The largest id of an order or an owner: 64 bits, as in every database. A range up to it has no upper bound."""

NARROW: Final = 20
"""Ids in the widest range that is read id by id instead of listed (`OrderRanges.pieces`)."""

FEW: Final = 500
"""Most order ids that are read together."""

_PART = re.compile(r"([1-9][0-9]{0,18})(-?)([1-9][0-9]{0,18})?", re.ASCII)


def parse_order_id(text: str) -> int | None:
    """Parse an order id as a person or a portal writes it; None for any other text, however long."""
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= len(str(LARGEST_ID)) else 0
    return number if 0 < number <= LARGEST_ID else None


class OrderRange(NamedTuple):
    """Order ids from first to last, both included."""

    first: int
    last: int = LARGEST_ID

    @property
    def span(self) -> int:
        """How many ids the range holds."""
        return self.last - self.first + 1

    def __str__(self) -> str:
        """Return the range as a person writes it: `5`, `5-9`, `5-`."""
        if self.last == LARGEST_ID:
            return f"{self.first}-"
        return f"{self.first}" if self.first == self.last else f"{self.first}-{self.last}"


class FewOrders(NamedTuple):
    """Single order ids between the wide ranges of a set, ascending."""

    orders: list[int]

    @property
    def last(self) -> int:
        """The largest id."""
        return self.orders[-1]


@dataclass(frozen=True, slots=True)
class OrderRanges:
    """Disjoint ranges of order ids, ascending, no two of which touch; made by `of`, `of_orders` and `parse`."""

    ranges: tuple[OrderRange, ...] = ()

    @classmethod
    def of(cls, ranges: Iterable[tuple[int, int]]) -> OrderRanges:
        """Return the union of ranges, each (first, last), in any order; empty ranges are left out."""
        joined: list[OrderRange] = []
        for first, last in sorted(ranges):
            low, high = max(1, first), min(last, LARGEST_ID)
            if low > high:
                continue
            if joined and low <= joined[-1].last + 1:
                joined[-1] = OrderRange(joined[-1].first, max(joined[-1].last, high))
            else:
                joined.append(OrderRange(low, high))
        return cls(tuple(joined))

    @classmethod
    def of_orders(cls, orders: Iterable[int]) -> OrderRanges:
        """Return the set of order ids, given in any order."""
        return cls.of((order, order) for order in orders)

    @classmethod
    def parse(cls, text: str) -> OrderRanges:
        """Parse ids and ranges as a person writes them, `5125,5200-5300,9000-`.

        Raises:
            ValueError: A part is neither an id nor a range; the message names it.
        """
        found: list[tuple[int, int]] = []
        for part in map(str.strip, text.split(",")):
            match = _PART.fullmatch(part)
            first = int(match[1]) if match else 0
            last = first if not match or not match[2] else int(match[3] or LARGEST_ID)
            if not 0 < first <= last <= LARGEST_ID:
                raise ValueError(f"{part!r} is neither an order id nor a range such as 5200-5300")
            found.append((first, last))
        return cls.of(found)

    def __str__(self) -> str:
        """Return the set as `parse` reads it."""
        return ",".join(map(str, self.ranges))

    def __bool__(self) -> bool:
        """Return whether there is any id in the set."""
        return bool(self.ranges)

    def __contains__(self, order_id: int) -> bool:
        """Return whether an id is in the set."""
        return self.holds(order_id, order_id)

    def __or__(self, other: OrderRanges) -> OrderRanges:
        """Return the ids of either set."""
        return OrderRanges.of((*self.ranges, *other.ranges))

    def __and__(self, other: OrderRanges) -> OrderRanges:
        """Return the ids of both sets."""
        common = []
        mine, theirs = list(self.ranges), list(other.ranges)
        while mine and theirs:
            common.append((max(mine[0].first, theirs[0].first), min(mine[0].last, theirs[0].last)))
            (mine if mine[0].last < theirs[0].last else theirs).pop(0)
        return OrderRanges.of(common)

    def __sub__(self, other: OrderRanges) -> OrderRanges:
        """Return the ids of this set that are not in the other."""
        return self & other.complement()

    def complement(self) -> OrderRanges:
        """Return all ids that are not in the set."""
        edges = [0, *(edge for one in self.ranges for edge in (one.first - 1, one.last)), LARGEST_ID]
        return OrderRanges.of((low + 1, high) for low, high in zip(edges[::2], edges[1::2], strict=True))

    def holds(self, first: int, last: int) -> bool:
        """Return whether all ids from first to last are in the set."""
        place = bisect_right(self.ranges, first, key=lambda one: one.first)
        return place > 0 and last <= self.ranges[place - 1].last

    def includes(self, other: OrderRanges) -> bool:
        """Return whether every id of the other set is in this one."""
        return all(self.holds(*one) for one in other.ranges)

    def among(self, orders: Collection[int]) -> list[int]:
        """Given order ids, return those in the set, in the order given."""
        return [order for order in orders if order in self]

    def hull(self) -> OrderRanges:
        """Return the one range from the first id to the last."""
        return OrderRanges.of([(self.ranges[0].first, self.ranges[-1].last)] if self.ranges else [])

    def pieces(self) -> Iterator[OrderRange | FewOrders]:
        """Yield the set in ascending pieces: wide ranges, and the single ids between them, at most `FEW` at a time."""
        for narrow, group in groupby(self.ranges, key=lambda one: one.span <= NARROW):
            if not narrow:
                yield from group
                continue
            orders = [order for one in group for order in range(one.first, one.last + 1)]
            for start in range(0, len(orders), FEW):
                yield FewOrders(orders[start : start + FEW])


# ------------------------------------------------ when the parts were compared


class Slice(NamedTuple):
    """The orders after the previous slice, up to an id.

    Args:
        upto: The last of them.
        at: When they were last covered.
        tried: When a pass last tried to cover them.
        run: The run that covered them; 0 where that is not known.
    """

    upto: int
    at: float
    tried: float
    run: int = 0


@dataclass(frozen=True, slots=True)
class Coverage:
    """When the parts of a link were last covered.

    Args:
        slices: All order ids, in slices; never empty, the last one is open.
        recent_from: The newest orders that were covered together last are those from this id on; 0 for none.
        recent_at: When they were.
        recent_run: The run that covered them; 0 where that is not known.
    """

    slices: tuple[Slice, ...]
    recent_from: int = 0
    recent_at: float = 0.0
    recent_run: int = 0

    @classmethod
    def whole(cls, at: float, run: int = 0) -> Coverage:
        """Return the coverage of a link that a run covered as a whole."""
        return cls((Slice(LARGEST_ID, at, at, run),))

    @classmethod
    def read(cls, text: str) -> Coverage:
        """Parse what `text` wrote. Earlier versions kept no runs."""
        kept = json.loads(text)
        runs = kept.get("runs") or [0] * len(kept["slices"])
        slices = tuple(
            Slice(int(upto), at, tried, run) for (upto, at, tried), run in zip(kept["slices"], runs, strict=True)
        )
        return cls(slices, int(kept["recent_from"]), kept["recent_at"], kept.get("recent_run", 0))

    def text(self) -> str:
        """Return it as JSON that earlier versions can read, too."""
        kept = {
            "slices": [(one.upto, one.at, one.tried) for one in self.slices],
            "runs": [one.run for one in self.slices],
            "recent_from": self.recent_from,
            "recent_at": self.recent_at,
            "recent_run": self.recent_run,
        }
        return json.dumps(kept, separators=(",", ":"))

    def known_at(self, now: float) -> Coverage:
        """Return what of it can be true at a time: what a clock noted that was set back since counts as never done.

        Else a slice, and the newest orders, would wait until it is that time again.
        """
        latest = now + SKEW
        slices = tuple(
            one._replace(at=one.at if one.at <= latest else 0.0, tried=one.tried if one.tried <= latest else 0.0)
            for one in self.slices
        )
        return replace(self, slices=slices, recent_at=self.recent_at if self.recent_at <= latest else 0.0)

    @property
    def stalest(self) -> float:
        """When the stalest slice was covered: every other order was covered then or later."""
        return min(one.at for one in self.slices)

    @property
    def next(self) -> int:
        """The index of the slice to cover next: the one whose last try is longest ago."""
        return min(range(len(self.slices)), key=lambda index: self.slices[index].tried)

    def orders_of(self, index: int) -> OrderRange:
        """Return the orders of the slice with this index."""
        return OrderRange(self.slices[index - 1].upto + 1 if index else 1, self.slices[index].upto)

    def cut(self, bounds: Sequence[int]) -> Coverage:
        """Return the same coverage in other slices: one up to each of these ascending ids, and one after the last.

        A new slice is as fresh as the stalest old slice that it overlaps.
        """
        made, after = [], 0
        for upto in (*dict.fromkeys(one for one in bounds if 0 < one < LARGEST_ID), LARGEST_ID):
            old = [one for index, one in enumerate(self.slices) if self._overlaps(index, after, upto)]
            at, tried, run = min(one.at for one in old), min(one.tried for one in old), min(one.run for one in old)
            made.append(Slice(upto, at, tried, run))
            after = upto
        return replace(self, slices=tuple(made))

    def _overlaps(self, index: int, after: int, upto: int) -> bool:
        first, last = self.orders_of(index)
        return first <= upto and last > after

    def covered(self, ranges: OrderRanges | None, at: float, run: int = 0) -> Coverage:
        """Return the coverage after a pass, given what it covered (None: everything), when it began, and its run."""
        orders = OrderRanges.of([(1, LARGEST_ID)]) if ranges is None else ranges
        slices = tuple(
            Slice(one.upto, at, at, run) if orders.holds(*self.orders_of(index)) else one
            for index, one in enumerate(self.slices)
        )
        fresh = replace(self, slices=slices)
        newest = self.recent_from and orders.holds(self.recent_from, LARGEST_ID)
        return replace(fresh, recent_at=at, recent_run=run) if newest else fresh

    def run_of(self, order: int) -> int:
        """Return the newest run known to have covered an order; 0 where none is."""
        (run,) = (one.run for index, one in enumerate(self.slices) if order in OrderRanges((self.orders_of(index),)))
        return max(run, self.recent_run) if 0 < self.recent_from <= order else run

    def at_of(self, order: int) -> float:
        """Return when an order was covered last; 0 where it never was."""
        (at,) = (one.at for index, one in enumerate(self.slices) if order in OrderRanges((self.orders_of(index),)))
        return max(at, self.recent_at) if 0 < self.recent_from <= order else at

    def attempted(self, ranges: OrderRanges | None, at: float) -> Coverage:
        """Return the coverage after a pass that failed to cover these orders: another slice is next."""
        tried = self.covered(ranges, at)
        slices = tuple(old._replace(tried=new.tried) for old, new in zip(self.slices, tried.slices, strict=True))
        return replace(self, slices=slices)
