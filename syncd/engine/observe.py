"""Reading both sides and the local database, segment by segment, into a draft of the plan.

The mapping table is read first, in one snapshot that goes to a spool; then the portal is listed, and each chunk of its
rows is compared with the same range of the two others. What the listing yields is only believed once it has proved
itself complete, so nothing is written here but to temporary files.

A reading may cover only some orders. Then all four sources, the holds among them, are restricted to these, and whatever
lies outside is as if it were not there.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field, replace
from operator import add, itemgetter
from typing import NamedTuple

from syncd.core.diff import Differ
from syncd.core.model import RETRIED, Change, Counts, Direction, Facts, Hold, HoldKind, Owner, Row, Side, Unreadable
from syncd.core.order_keys import order_of_former, unknown_key
from syncd.core.order_ranges import FewOrders, OrderRange, OrderRanges
from syncd.core.pacing import is_waiting
from syncd.core.ports import Listed, Snapshot
from syncd.core.records import BindingRow, BindingUpdate, StoredHold
from syncd.engine.formatting import count
from syncd.engine.link import HeldLease, Link
from syncd.engine.stored_plans import WantedChanges
from syncd.spill import SpillList

PAGE = 50
"""Rows on a page of the portal's listing: order ids known at that distance make one call of each page."""

SEGMENT = 5000
"""Rows that are compared at a time."""

LIMIT = 2 * SEGMENT
"""Rows of the table, or of the local database, that are taken at a time where one segment has more of them."""

WITNESSES = 3
"""How many owners of each type to remember among those that orders are bound to now. They show whether the credentials
can see owners of that type at all."""

UNREAD = "skipped: the order could not be listed; a new plan looks at it again"
"""What is said of a named change whose order is in a range that could not be proved complete."""


class RangeCounts(NamedTuple):
    """What a reading showed of one range: agreed bindings, and rows on each side."""

    agreed: int
    crm: int
    table: int

    @classmethod
    def between(cls, before: Counts, after: Counts) -> RangeCounts:
        """Given the counts before and after a range, return those of the range."""
        return cls(after.agreed - before.agreed, after.crm_rows - before.crm_rows, after.table_rows - before.table_rows)

    def shows_none(self, side: Side) -> bool:
        """Whether a side shows none of the range's orders, although some are agreed."""
        return bool(self.agreed) and not (self.crm if side is Side.CRM else self.table)


NONE_READ = RangeCounts(0, 0, 0)


@dataclass(slots=True)
class Observation:
    """What a complete reading of both sides came to.

    Args:
        changes: The writes the diff asks for, ascending by order id.
        agreements: Orders that both sides share already.
        observed: Orders whose CRM value is not the one last listed.
        holds: The orders to hold, each with the open hold it continues.
        released: Orders whose open hold is over, because the facts changed.
        decided: Orders whose open hold a person decided, that a lost answer left open, or whose refused write is tried
            again: released once their changes are carried out.
        open_holds: All holds that were open before.
        witnesses: Some owners that orders are bound to now.
        covers: The orders that were read and proved complete; None: all of the link's.
        unproved: Ranges that were to be read and could not be proved complete, each with why.
        ranges: What each side showed of each wide range.
        began_at: When the reading began (monotonic seconds).
    """

    open_holds: dict[int, StoredHold]
    counts: Counts = field(default_factory=Counts)
    changes: SpillList[Change] = field(default_factory=SpillList)
    agreements: SpillList[tuple[Change, BindingUpdate]] = field(default_factory=SpillList)
    observed: SpillList[BindingUpdate] = field(default_factory=SpillList)
    holds: dict[int, Hold] = field(default_factory=dict)
    released: list[int] = field(default_factory=list)
    decided: set[int] = field(default_factory=set)
    witnesses: dict[int, list[Owner]] = field(default_factory=dict)
    covers: OrderRanges | None = None
    unproved: Mapping[OrderRange, str] = field(default_factory=dict)
    ranges: dict[OrderRange, RangeCounts] = field(default_factory=dict)
    began_at: float = 0.0

    def restrict(self, covers: OrderRanges, unproved: Mapping[OrderRange, str]) -> None:
        """Given what was proved complete of the orders to read, and what was not, leave the others' holds alone."""
        self.covers, self.unproved = covers, unproved
        self.open_holds = {order: one for order, one in self.open_holds.items() if order <= 0 or order in covers}

    def count_range(self, counts: RangeCounts, piece: OrderRange) -> None:
        """Take in what was found of a wide range, or of a part of it."""
        self.ranges[piece] = RangeCounts(*map(add, self.ranges.get(piece, NONE_READ), counts))

    def leave_holds_of_changed(self) -> None:
        """Leave the holds of the orders open whose changes the diff asks for: those changes are another run's."""
        changed = set(self.released).intersection(change.order_id for change in self.changes)
        self.released = [order for order in self.released if order not in changed]

    def close(self) -> None:
        """Drop the temporary files."""
        self.changes.close()
        self.agreements.close()
        self.observed.close()


async def observe(
    link: Link, lease: HeldLease, wanted: WantedChanges | None = None, covers: OrderRanges | None = None
) -> Observation:
    """Read both sides, all orders or some, and compare them.

    Args:
        link: The link.
        lease: Its lease.
        wanted: Changes that a person named, to be compared with what is found.
        covers: The orders to read, all of them in the link's scope; None reads all.

    Raises:
        IncompleteListing: The portal's listing could not be proved complete.
        UnavailableError, AuthError, ConfigError: A side cannot be read.
    """
    open_holds = {stored.hold.order_id: stored for stored in await link.store.holds(lease.row.id)}
    boundaries = await link.store.boundaries(lease.row.id, PAGE, _wide(covers))
    result = Observation(open_holds, began_at=link.clock.monotonic())
    attempts = await link.store.attempts(lease.row.id)
    now = link.clock.now()
    retried = {
        order
        for order, stored in open_holds.items()
        if stored.hold.kind in RETRIED and not (order in attempts and is_waiting(attempts[order].next_at, now))
    }
    try:
        async with link.table.snapshot(link.progress, covers) as snapshot:
            listing = lease.iterate(link.portal.listing(boundaries, link.policy.scope, link.progress, covers))
            try:  # `anext` with a default ends with a SystemError in CPython 3.11 where there is nothing
                first = await anext(listing)
            except StopAsyncIteration:
                first = Listed([])
            if covers is not None:
                result.restrict(covers - OrderRanges.of(first.unproved), first.unproved)
            reader = _Segments(link, lease, snapshot, result, wanted=wanted, retried=retried)
            await reader.read(_chain(first, listing))
    except BaseException:
        result.close()
        raise
    return result


def _wide(covers: OrderRanges | None) -> list[OrderRange]:
    return [] if covers is None else [one for one in covers.pieces() if isinstance(one, OrderRange)]


async def _chain(first: Listed, rest: AsyncIterator[Listed]) -> AsyncIterator[Listed]:
    """Yield the first chunk, then the rest."""
    yield first
    async for one in rest:
        yield one


class _Segments:
    """Feeds the differ: for each range of order ids, the rows of all three sources."""

    def __init__(
        self,
        link: Link,
        lease: HeldLease,
        snapshot: Snapshot,
        result: Observation,
        *,
        wanted: WantedChanges | None,
        retried: set[int],
    ) -> None:
        self._link = link
        self._lease = lease
        self._snapshot = snapshot
        self._differ = Differ(link.policy, result.open_holds, retried)
        self._result = result
        self._wanted = wanted
        self.crm_unreadable: dict[int, Unreadable] = {}
        covers = result.covers
        self._unreadable = sorted(order for order in snapshot.unreadable if covers is None or order in covers)
        self._next_unreadable = 0
        self._after = 0
        self._pieces = None if covers is None else deque(covers.pieces())

    async def read(self, listing: AsyncIterator[Listed]) -> None:
        """Compare everything that is listed, and what there is beside it."""
        if self._snapshot.orderless:
            self._differ.unsure.add(Side.TABLE)
        self._differ.unsure_owners = _numbers_by_owner(self._snapshot)
        pending: list[Row] = []
        async for listed in listing:
            _remember_witnesses(listed.rows, self._result)
            self.crm_unreadable.update(listed.unreadable)
            pending += listed.rows
            if len(pending) >= SEGMENT:
                pending = await self.advance(pending, pending[-1][0])
        await self.advance(pending, None)
        if self._pieces is not None:
            self._take_wanted(None)  # of a range at the end that could not be proved
        _hold_orderless(self._snapshot, self._differ, self._result)
        _hold_unknown_keys(self._link, self._snapshot, self._result)
        self._result.counts = self._differ.counts

    async def advance(self, crm: list[Row], upto: int | None) -> list[Row]:
        """Compare everything covered up to an order id (None: to the end); return the rows that are left for later.

        Left are only rows of single orders that are compared together, some of which are still to come.
        """
        if self._pieces is None:
            await self.feed(crm, upto)
            return []
        while self._pieces and (upto is None or _begins(self._pieces[0]) <= upto):
            piece = self._pieces[0]
            few = isinstance(piece, FewOrders)
            end = piece.last if few or upto is None else min(piece.last, upto)
            if upto is not None and end > upto:
                return crm
            before = replace(self._differ.counts)
            cut = bisect_right(crm, end, key=itemgetter(0))
            self._snapshot.take(_begins(piece) - 1)  # rows of ranges that could not be proved
            if isinstance(piece, FewOrders):
                await self._lease.prove()
                bindings = await self._link.store.bindings_of(self._lease.row.id, piece.orders)
                asked = set(piece.orders)  # a range that could not be proved may lie between them
                table = [row for row in self._snapshot.take(end) if row[0] in asked]
                self._compare(crm[:cut], table, bindings, end)
            else:
                self._after = max(self._after, piece.first - 1)
                await self.feed(crm[:cut], end)
            crm = crm[cut:]
            if isinstance(piece, OrderRange):
                self._result.count_range(RangeCounts.between(before, self._differ.counts), piece)
            if end < piece.last:
                break
            self._pieces.popleft()
        return crm

    async def feed(self, crm: list[Row], upto: int | None) -> None:
        """Compare everything up to an order id (None: to the end).

        Where a side that is not the portal has far more orders in that range, it is taken in steps: the CRM may be
        empty beside a table of a million rows.
        """
        while True:
            await self._lease.prove()
            bindings = await self._link.store.bindings(self._lease.row.id, self._after, upto, LIMIT)
            step = bindings[-1][0] if len(bindings) == LIMIT else upto
            table = self._snapshot.take(step, LIMIT)
            if len(table) == LIMIT:
                step = table[-1][0]
                bindings = bindings[: bisect_right(bindings, step, key=itemgetter(0))]
            cut = len(crm) if step is None else bisect_right(crm, step, key=itemgetter(0))
            self._compare(crm[:cut], table, bindings, step)
            if step == upto:
                return
            crm = crm[cut:]

    def _compare(self, crm: list[Row], table: list[Row], bindings: list[BindingRow], upto: int | None) -> None:
        wanted = self._take_wanted(upto)
        asked = {change.order_id for change in wanted}
        unreadable = self._take_unreadable(upto)
        odd = unreadable.keys() - self._snapshot.unreadable.keys()
        segment = self._differ.feed(crm, table, bindings, unreadable, upto, asked=asked, odd=odd)
        result = self._result
        result.changes.extend(segment.changes)
        result.agreements.extend(segment.agreements)
        result.observed.extend(segment.observed)
        for hold, _stored in segment.holds:
            result.holds[hold.order_id] = hold
        if self._wanted is not None:
            self._wanted.compare(wanted, segment.facts, result.holds)
        changed = {change.order_id for change in segment.changes}
        for order_id in segment.released:
            if _ends_with_its_write(result.open_holds[order_id], changed):
                result.decided.add(order_id)
            else:
                result.released.append(order_id)
        if upto is not None:
            self._after = upto

    def _take_wanted(self, upto: int | None) -> list[Change]:
        """Take the named changes up to an order id; those of orders that could not be read are left for another run."""
        if self._wanted is None:
            return []
        wanted, covers = self._wanted.take(upto), self._result.covers
        if covers is None:
            return wanted
        self._wanted.moved.extend([(one, UNREAD) for one in wanted if one.order_id not in covers])
        return [one for one in wanted if one.order_id in covers]

    def _take_unreadable(self, upto: int | None) -> dict[int, Unreadable]:
        taken = {one: what for one, what in self.crm_unreadable.items() if upto is None or one <= upto}
        self.crm_unreadable = {one: what for one, what in self.crm_unreadable.items() if one not in taken}
        ids = self._unreadable
        while self._next_unreadable < len(ids) and (upto is None or ids[self._next_unreadable] <= upto):
            order_id = ids[self._next_unreadable]
            taken[order_id] = self._snapshot.unreadable[order_id]
            self._next_unreadable += 1
        return taken


def _ends_with_its_write(stored: StoredHold, changed: Collection[int]) -> bool:
    """Given a hold that is over, and the orders to be changed, return whether it stays until the change is made."""
    # Where an answer was lost, the order is certain again only once what both hypotheses lead to is there.
    lost = stored.hold.kind is HoldKind.UNCERTAIN and stored.hold.seen is not None
    tried_again = stored.hold.kind in RETRIED
    return (lost or tried_again or stored.decision in {"crm", "table"}) and stored.hold.order_id in changed


def _numbers_by_owner(snapshot: Snapshot) -> dict[Owner, set[int]]:
    """Return the numbers of the unknown keys whose rows name an owner, by the owner."""
    found: dict[Owner, set[int]] = {}
    for number, one in snapshot.unknown.items():
        for owner in one.owners:
            found.setdefault(owner, set()).add(number)
    return found


def _begins(piece: OrderRange | FewOrders) -> int:
    return piece.orders[0] if isinstance(piece, FewOrders) else piece.first


def _hold_orderless(snapshot: Snapshot, differ: Differ, result: Observation) -> None:
    """Rows whose order id cannot be read have no order to hold: one hold, of order 0, speaks for all of them.

    Each of them may be any order, so the orders that are absent from the table wait until the rows are corrected.
    """
    differ.counts.waiting = differ.unsure_orders
    if snapshot.orderless and 0 in result.open_holds and result.covers is not None:
        # A reading of some orders says nothing new about it.
        result.holds[0] = result.open_holds[0].hold
    elif snapshot.orderless:
        shown = "; ".join(snapshot.orderless[:5])
        waiting = count(differ.unsure_orders, "agreed order is", "agreed orders are")
        detail = (
            f"The table has rows whose order id cannot be read: {shown}. Each of them may be any order, so no absent "
            f"order is unbound in the CRM until they can be read ({waiting} absent from the table now)."
        )
        facts = Facts(None, None, None, Unreadable(HoldKind.INVALID_ROW, detail))
        result.holds[0] = Hold(0, HoldKind.INVALID_ROW, facts, detail)
    elif 0 in result.open_holds:
        result.released.append(0)


def _hold_unknown_keys(link: Link, snapshot: Snapshot, result: Observation) -> None:
    """A row whose key matches no order is held by itself, by the number that stands for the key until an order has it.

    As with order ids, rows that nothing would be done about are left alone: of owners out of scope, and all of a table
    that is only a target.
    """
    held: set[int] = set()
    for number, (key, owner, _owners) in snapshot.unknown.items():
        foreign = link.policy.direction is Direction.CRM_TO_TABLE
        if foreign or (owner is not None and not link.policy.scope.holds_owner(owner)):
            continue
        assert link.order_keys is not None
        why = unknown_key(link.order_keys.field, key, order_of_former(number))
        result.holds[number] = Hold(number, why.kind, Facts(None, owner, None, why), why.detail)
        held.add(number)
    result.released += [number for number in result.open_holds if number < 0 and number not in held]


def _remember_witnesses(rows: list[Row], result: Observation) -> None:
    if rows:
        row = rows[len(rows) // 2]
        known = result.witnesses.setdefault(row[1], [])
        owner = Owner(row[1], row[2])
        if len(known) < WITNESSES and owner not in known:
            known.append(owner)
