"""Reading both sides and the local database, segment by segment, into a draft of the plan.

The mapping table is read first, in one snapshot that goes to a spool; then the portal is listed, and each chunk of its
rows is compared with the same range of the two others. What the listing yields is only believed once it has proved
itself complete, so nothing is written here but to temporary files.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from syncd.core.diff import Differ
from syncd.core.model import Change, Counts, Facts, Hold, HoldKind, Owner, Row, Unreadable
from syncd.core.ports import Snapshot
from syncd.core.records import BindingUpdate, StoredHold
from syncd.engine.link import Link, Tenure
from syncd.engine.spool import Spool

SEGMENT = 5000
"""Rows that are compared at a time."""

WITNESSES = 3
"""How many owners a type that orders are bound to now are remembered, to find out whether owners can be seen at all."""


@dataclass(slots=True)
class Observation:
    """What a complete reading of both sides came to.

    Args:
        changes: The writes the diff asks for, ascending by order id.
        agreements: Orders that both sides share already.
        observed: Orders whose CRM value is not the one last listed.
        holds: The orders to hold, each with the open hold it continues.
        released: Orders whose open hold is over, because the facts changed.
        decided: Orders whose open hold a person decided, or that a lost answer left open: released once their changes
            are carried out.
        open_holds: All holds that were open before.
        witnesses: Some owners that orders are bound to now.
        facts: What was found of the watched orders.
    """

    open_holds: dict[int, StoredHold]
    counts: Counts = field(default_factory=Counts)
    changes: list[Change] = field(default_factory=list)
    agreements: Spool[tuple[Change, BindingUpdate]] = field(default_factory=Spool)
    observed: Spool[BindingUpdate] = field(default_factory=Spool)
    holds: dict[int, Hold] = field(default_factory=dict)
    released: list[int] = field(default_factory=list)
    decided: set[int] = field(default_factory=set)
    witnesses: dict[int, list[Owner]] = field(default_factory=dict)
    facts: Mapping[int, Facts] = field(default_factory=dict)

    def close(self) -> None:
        """Drop the temporary files."""
        self.agreements.close()
        self.observed.close()


async def observe(link: Link, held: Tenure, *, watched: Collection[int] = ()) -> Observation:
    """Read everything and compare it.

    Args:
        link: The link.
        held: Its lease.
        watched: Orders whose facts are wanted whatever the diff says of them.

    Raises:
        IncompleteListing: The portal's listing could not be proved complete.
        UnavailableError, AuthError, ConfigError: A side cannot be read.
    """
    open_holds = {stored.hold.order_id: stored for stored in await link.store.holds(held.row.id)}
    boundaries = await link.store.boundaries(held.row.id, 50)
    result = Observation(open_holds)
    differ = Differ(link.policy, open_holds, watched)
    try:
        async with link.table.snapshot(link.progress) as snapshot:
            _orderless(snapshot, result)
            reader = _Segments(link, held, snapshot, differ, result)
            pending: list[Row] = []
            async for rows in held.through(link.portal.listing(boundaries, link.policy.scope, link.progress)):
                _remember_witnesses(rows, result)
                pending += rows
                if len(pending) >= SEGMENT:
                    await reader.feed(pending, pending[-1][0])
                    pending = []
            await reader.feed(pending, None)
    except BaseException:
        result.close()
        raise
    result.counts = differ.counts
    result.facts = differ.facts
    return result


class _Segments:
    """Feeds the differ: for each range of order ids, the rows of all three sources."""

    def __init__(self, link: Link, held: Tenure, snapshot: Snapshot, differ: Differ, result: Observation) -> None:
        self._link = link
        self._held = held
        self._snapshot = snapshot
        self._differ = differ
        self._result = result
        self._unreadable = sorted(snapshot.unreadable)
        self._next_unreadable = 0
        self._after = 0

    async def feed(self, crm: list[Row], upto: int | None) -> None:
        await self._held.prove()
        bindings = await self._link.store.bindings(self._held.row.id, self._after, upto)
        segment = self._differ.feed(crm, self._snapshot.take(upto), bindings, self._take_unreadable(upto), upto)
        result = self._result
        result.changes += segment.changes
        result.agreements.extend(segment.agreements)
        result.observed.extend(segment.observed)
        for hold, _stored in segment.holds:
            result.holds[hold.order_id] = hold
        decided = {change.order_id for change in segment.changes}
        for order_id in segment.released:
            stored = result.open_holds[order_id]
            # Where an answer was lost, the order is certain again only once what both stories lead to is there.
            lost = stored.hold.kind is HoldKind.UNCERTAIN and stored.hold.seen is not None
            if (lost or stored.decision in {"crm", "table"}) and order_id in decided:
                result.decided.add(order_id)
            else:
                result.released.append(order_id)
        if upto is not None:
            self._after = upto

    def _take_unreadable(self, upto: int | None) -> dict[int, Unreadable]:
        taken: dict[int, Unreadable] = {}
        ids = self._unreadable
        while self._next_unreadable < len(ids) and (upto is None or ids[self._next_unreadable] <= upto):
            order_id = ids[self._next_unreadable]
            taken[order_id] = self._snapshot.unreadable[order_id]
            self._next_unreadable += 1
        return taken


def _orderless(snapshot: Snapshot, result: Observation) -> None:
    """Rows whose order id cannot be read have no order to hold: one hold, of order 0, speaks for all of them."""
    if snapshot.orderless:
        shown = "; ".join(snapshot.orderless[:5])
        detail = f"Rows whose order id cannot be read, and which are therefore nobody's: {shown}"
        facts = Facts(None, None, None, Unreadable(HoldKind.INVALID_ROW, detail))
        result.holds[0] = Hold(0, HoldKind.INVALID_ROW, facts, detail)
    elif 0 in result.open_holds:
        result.released.append(0)


def _remember_witnesses(rows: list[Row], result: Observation) -> None:
    if rows:
        row = rows[len(rows) // 2]
        known = result.witnesses.setdefault(row[1], [])
        owner = Owner(row[1], row[2])
        if len(known) < WITNESSES and owner not in known:
            known.append(owner)
