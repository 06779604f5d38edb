"""Sets of order ids as ranges: what a pass covers, and what a person names as `5125,5200-5300`.

Order ids are positive and never change, so a set of ranges stays what it is while bindings come and go.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Final, NamedTuple

LARGEST: Final = 2**63 - 1
"""The largest order id; a range up to it is open."""

NARROW: Final = 20
"""Ids in the widest range that is read id by id instead of listed (`OrderRanges.pieces`)."""

FEW: Final = 500
"""Most order ids that are read together."""

_PART = re.compile(r"([1-9][0-9]{0,18})(-?)([1-9][0-9]{0,18})?", re.ASCII)


def parse_order_id(text: str) -> int | None:
    """Parse an order id as a person or a portal writes it; None for any other text, however long."""
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= len(str(LARGEST)) else 0
    return number if 0 < number <= LARGEST else None


class OrderRange(NamedTuple):
    """Order ids from first to last, both included."""

    first: int
    last: int = LARGEST

    @property
    def span(self) -> int:
        """How many ids the range holds."""
        return self.last - self.first + 1

    def __str__(self) -> str:
        """Return the range as a person writes it: `5`, `5-9`, `5-`."""
        if self.last == LARGEST:
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
            low, high = max(1, first), min(last, LARGEST)
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
            last = first if not match or not match[2] else int(match[3] or LARGEST)
            if not 0 < first <= last <= LARGEST:
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
        edges = [0, *(edge for one in self.ranges for edge in (one.first - 1, one.last)), LARGEST]
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
