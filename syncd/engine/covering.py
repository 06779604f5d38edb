"""Which orders a pass covers, and whether a side is empty, as far as a pass over some orders can tell.

A pass covers everything, or one slice, the newest, and those that somebody named. It does to some orders what a pass
over all would do, and leaves the others alone (sync-rules.md). Where nothing is known yet of when each part was covered
last, or no first sync has come through, a scheduled pass covers all.

A side that shows none of a range's agreed orders looks like half a list, or a table that was emptied. Of a few orders
alone, however many, that says little: they may really be gone, such as those that wait for a second look. Then some
others are asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import ceil

from syncd.core.guards import SMALL
from syncd.core.model import Side
from syncd.core.order_ranges import LARGEST_ID, Coverage, OrderRanges
from syncd.core.records import SLICE, LinkRow, RunRow
from syncd.engine.link import Link
from syncd.engine.observe import Observation, RangeCounts
from syncd.errors import UsageError

DAY = 86400.0
NAMED = "named orders"
"""What `part` says of orders that somebody named."""


ASKED_FOR = 50
"""How many agreed orders elsewhere are asked for: one page."""


@dataclass(frozen=True, slots=True)
class Portion:
    """What a pass is asked to cover.

    Args:
        slice: The next slice of the rotation.
        recent: The newest orders, those written in the last day, and those that wait for a second look, a retry or a
            decision.
        orders: Orders that somebody named or hinted at.
        called: What `part` says of these orders.
    """

    slice: bool = False
    recent: bool = False
    orders: OrderRanges = field(default_factory=OrderRanges)
    called: str = NAMED


def portion_of(orders: OrderRanges | None) -> Portion | None:
    """Return what a pass over these orders covers; None is all orders."""
    return None if orders is None else Portion(orders=orders)


@dataclass(slots=True)
class Covering:
    """What a pass covers, and how fresh the link is before it.

    Args:
        covers: The orders; None is all of them.
        part: The same in words; empty for all.
        coverage: When each part was covered last, in the slices of this rotation; None before the first whole pass.
        recent_from: The smallest id of the newest orders; 0 where the pass is not asked to cover them.
        unsettled: Orders covered besides, each because it was written in the last day, waits or is held.
        outside: None of the orders is in the link's range: there is nothing to do.
    """

    covers: OrderRanges | None = None
    part: str = ""
    coverage: Coverage | None = None
    recent_from: int = 0
    unsettled: OrderRanges = field(default_factory=OrderRanges)
    outside: bool = False

    def after(self, row: RunRow, scope: OrderRanges, *, done: bool) -> Coverage | None:
        """Return how fresh each part is after the pass.

        Args:
            row: Its run; `covers` has only what was proved complete.
            scope: The orders of the link.
            done: Whether the pass succeeded. One that failed or was refused only counts as a try.
        """
        reached = None if row.covers is None else row.covers | scope.complement()
        if self.coverage is None:
            return Coverage.whole(row.started_at, row.id) if reached is None and done else None
        if not done:
            return self.coverage.attempted(reached, row.started_at)
        coverage = self.coverage.covered(reached, row.started_at, row.id)
        if not self.recent_from or not (reached is None or reached.holds(self.recent_from, LARGEST_ID)):
            return coverage
        return Coverage(coverage.slices, self.recent_from, row.started_at, row.id)


async def covering(link: Link, row: LinkRow, portion: Portion | None) -> Covering:
    """Given a link, its row and what is asked for (None: everything), return what a pass covers."""
    coverage = None if row.coverage is None else row.coverage.known_at(link.clock.now())
    if portion is None or (coverage is None and (portion.slice or portion.recent)):
        return Covering(coverage=coverage)  # nothing has ever been covered as a whole
    if portion.slice and link.slices == 1:
        return Covering(coverage=coverage)
    covers, parts = portion.orders, []
    if portion.slice and coverage is not None:
        coverage = await _cut(link, row.id, coverage)
        covers |= OrderRanges.of([coverage.orders_of(coverage.next)])
        parts.append(f"{SLICE}{coverage.next + 1} of {len(coverage.slices)}")
    recent_from, unsettled = 0, OrderRanges()
    if portion.recent and link.recent_orders:
        recent_from = await link.store.newest_order(row.id, link.recent_orders) or 1
        unsettled = OrderRanges.of_orders(await _unsettled(link, row.id)) - covers
        covers |= OrderRanges.of([(recent_from, LARGEST_ID)]) | unsettled
        parts.append(f"the newest {link.recent_orders:,}")
    if portion.orders:
        parts.append(portion.called)
    scope = link.policy.scope.orders
    inside = covers & scope
    if inside == scope:
        return Covering(coverage=coverage, recent_from=recent_from)
    return Covering(inside or covers, ", ".join(parts), coverage, recent_from, unsettled, outside=not inside)


def require_inside(link: Link, portion: Portion | None) -> None:
    """Require that what a person asks for is in the link's range at all, before a run is opened for it.

    Raises:
        UsageError: None of the named orders is.
    """
    named = portion is not None and not (portion.slice or portion.recent)
    if named and portion is not None and not portion.orders & link.policy.scope.orders:
        raise UsageError(f"None of these orders is in the range of link {link.name} (`orders`); nothing was done.")


async def _cut(link: Link, link_id: int, coverage: Coverage) -> Coverage:
    """Return the coverage in slices of about equal size. They are cut anew at the beginning of each rotation."""
    if coverage.next and len(coverage.slices) == link.slices:
        return coverage
    size = ceil(await link.store.agreed_count(link_id) / link.slices)
    bounds = await link.store.boundaries(link_id, size) if size else []
    return coverage.cut(bounds[: link.slices - 1])


async def _unsettled(link: Link, link_id: int) -> Iterable[int]:
    """Return the `Covering.unsettled` orders, at most as many as the pass covers of the newest."""
    held = [stored.hold.order_id for stored in await link.store.holds(link_id) if stored.hold.order_id > 0]
    refused = await link.store.attempts(link_id)
    active = await link.store.active_orders(link_id, link.clock.now() - DAY, link.recent_orders)
    return list(dict.fromkeys([*active, *refused, *held]))[: link.recent_orders]


async def empty_sides(link: Link, link_id: int, seen: Observation, singles: OrderRanges) -> set[Side]:
    """Given what a pass over some orders read, return the sides that are to be taken for empty.

    Args:
        link: The link.
        link_id: Its row.
        seen: What was read.
        singles: Orders that were covered each for its own sake, though some may be neighbours.

    Raises:
        UnavailableError: A side cannot be read.
    """
    counts = seen.counts
    whole = RangeCounts(counts.agreed, counts.crm_rows, counts.table_rows)
    ranges = [counts for piece, counts in seen.ranges.items() if not singles.holds(*piece)]
    ranges.append(whole._replace(agreed=sum(one.agreed for one in ranges)))
    empty: set[Side] = set()
    for side in Side:
        if any(one.agreed >= SMALL and one.shows_none(side) for one in ranges) or (
            whole.shows_none(side) and not await _shows_any(link, link_id, side, seen)
        ):
            empty.add(side)
    return empty


async def _shows_any(link: Link, link_id: int, side: Side, seen: Observation) -> bool:
    """Return whether a side shows any of some agreed orders that were not read: those after, or else the first."""
    covers = seen.covers
    assert covers is not None
    rows = await link.store.bindings(link_id, covers.ranges[-1].last, None, ASKED_FOR)
    rows += await link.store.bindings(link_id, 0, None, ASKED_FOR)
    orders = [row.order_id for row in rows if row.agreed_id is not None and row.order_id not in covers][:ASKED_FOR]
    if not orders:
        return False
    return bool(await (link.portal.read(orders) if side is Side.CRM else link.table.read(orders)))
