"""Random worlds for the planner: what each source says of each order, cut into segments as a pass would.

A world is everything a plan depends on. `plan_of` feeds it to a `Differ`; `carried_out` is the world after a plan was
applied without any trouble, by a model that knows nothing of the planner.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from hypothesis import strategies as st

from syncd.core.diff import Differ, Segment
from syncd.core.model import (
    Change,
    Counts,
    Direction,
    Facts,
    Hold,
    HoldKind,
    MaybeOwner,
    OnConflict,
    Owner,
    Policy,
    Row,
    Scope,
    Side,
    Unreadable,
)
from syncd.core.records import BindingRow, BindingUpdate, StoredHold

IN_SCOPE = [Owner(2, 1), Owner(2, 2), Owner(31, 1)]
OUT_OF_SCOPE = [Owner(128, 1), Owner(128, 2)]
SCOPE = Scope(frozenset({2, 31}), first_order=1, last_order=40)
LAST_ORDER = 45
"""Some orders lie outside the scope's range."""


@dataclass(frozen=True, slots=True)
class Order:
    """What every source says of one order."""

    crm: MaybeOwner = None
    table: MaybeOwner = None
    agreed: MaybeOwner = None
    listed: MaybeOwner = None
    unreadable: Unreadable | None = None
    hold: StoredHold | None = None

    @property
    def facts(self) -> Facts:
        return Facts(self.crm, self.table, self.agreed, self.unreadable)


World = dict[int, Order]


@dataclass(slots=True)
class Planned:
    """A plan with everything that came with it, over all segments."""

    changes: list[Change] = field(default_factory=list)
    agreements: list[tuple[Change, BindingUpdate]] = field(default_factory=list)
    observed: list[BindingUpdate] = field(default_factory=list)
    holds: list[tuple[Hold, StoredHold | None]] = field(default_factory=list)
    released: list[int] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)

    def take(self, segment: Segment) -> None:
        self.changes += segment.changes
        self.agreements += segment.agreements
        self.observed += segment.observed
        self.holds += segment.holds
        self.released += segment.released

    def of(self, order: int) -> tuple[object, ...]:
        """Return everything the plan says of one order."""
        return (
            [one for one in self.changes if one.order_id == order],
            [one for one in self.agreements if one[0].order_id == order],
            [one for one in self.observed if one.order_id == order],
            [one for one in self.holds if one[0].order_id == order],
            [one for one in self.released if one == order],
        )

    @property
    def held(self) -> set[int]:
        return {hold.order_id for hold, _stored in self.holds}


# ------------------------------------------------------------------------------------------- strategies

owners = st.sampled_from([None, None, *IN_SCOPE, *OUT_OF_SCOPE])
agreed_owners = st.sampled_from([None, *IN_SCOPE])
"""The agreed state is always in scope, owner and order id: the scope is part of the link's fingerprint."""

policies = st.builds(Policy, st.sampled_from(Direction), st.sampled_from(OnConflict), st.just(SCOPE))
two_way = st.builds(Policy, st.just(Direction.TWO_WAY), st.sampled_from(OnConflict), st.just(SCOPE))
unreadables = st.builds(
    Unreadable, st.sampled_from([HoldKind.INVALID_ROW, HoldKind.DUPLICATE_ROWS]), st.sampled_from(["One.", "Other."])
)


@st.composite
def stored_holds(draw: st.DrawFn, order: int, facts: Facts) -> StoredHold:
    """An open hold of the order: mostly of these very facts, with or without a decision."""
    other = Facts(draw(owners), draw(owners), draw(agreed_owners))
    shown = draw(st.sampled_from([facts, facts, other]))
    seen = draw(st.sampled_from([None, None, facts, other]))
    kind = draw(st.sampled_from(HoldKind))
    hold = Hold(order, kind, shown, "Earlier.", since=5.0, seen=seen)
    # That an order is uncertain is an event; no diff finds it out anew.
    sticky = draw(st.booleans()) or kind is HoldKind.UNCERTAIN
    return StoredHold(hold, sticky=sticky, decision=draw(st.sampled_from(["", "crm", "table", "retry"])), run=1)


@st.composite
def orders(draw: st.DrawFn, number: int, *, holds: bool = True) -> Order:
    crm, table = draw(owners), draw(owners)
    agreed = draw(agreed_owners) if SCOPE.holds_order(number) else None
    listed = draw(st.sampled_from([crm, crm, agreed, None, *IN_SCOPE]))
    unreadable = draw(unreadables) if draw(st.integers(0, 5)) == 0 else None
    made = Order(crm, None if unreadable else table, agreed, listed, unreadable)
    if holds and draw(st.integers(0, 2)) == 0:
        made = replace(made, hold=draw(stored_holds(number, made.facts)))
    return made


@st.composite
def worlds(draw: st.DrawFn, *, holds: bool = True) -> World:
    numbers = draw(st.sets(st.integers(1, LAST_ORDER), max_size=12))
    return {number: draw(orders(number, holds=holds)) for number in sorted(numbers)}


cuts = st.sets(st.integers(1, LAST_ORDER + 2), max_size=6).map(sorted)
"""Order ids at which a pass happened to end its segments."""


# ------------------------------------------------------------------------------------------------ plans


def plan_of(world: Mapping[int, Order], policy: Policy, cut: Sequence[int] = ()) -> Planned:
    """Given a world, return its plan, made in segments that end at the order ids of `cut`."""
    differ = Differ(policy, {number: order.hold for number, order in world.items() if order.hold is not None})
    planned = Planned()
    after = 0
    for upto in (*cut, None):
        part = {n: o for n, o in sorted(world.items()) if n > after and (upto is None or n <= upto)}
        planned.take(
            differ.feed(
                _rows((number, order.crm) for number, order in part.items()),
                _rows((number, order.table) for number, order in part.items()),
                [_binding(number, order) for number, order in part.items() if order.listed or order.agreed],
                {number: order.unreadable for number, order in part.items() if order.unreadable is not None},
                upto,
            )
        )
        after = upto or after
    planned.counts = differ.counts
    return planned


def _rows(values: Iterable[tuple[int, MaybeOwner]]) -> list[Row]:
    return [Row(number, *owner) for number, owner in values if owner is not None]


def _binding(number: int, order: Order) -> BindingRow:
    return BindingRow(number, *(order.listed or (None, None)), *(order.agreed or (None, None)))


def carried_out(world: World, planned: Planned, changes: Sequence[Change] | None = None) -> World:
    """Return the world after everything planned was recorded, and its changes were applied in the order given."""
    after = dict(world)
    for update in planned.observed:
        after[update.order_id] = replace(after[update.order_id], listed=update.crm, agreed=update.agreed)
    for _change, update in planned.agreements:
        after[update.order_id] = replace(after[update.order_id], listed=update.crm, agreed=update.agreed)
    for number in planned.released:
        after[number] = replace(after[number], hold=None)
    for hold, stored in planned.holds:
        # An uncertain order stays so whatever others do to it, and its hold goes along.
        same = stored is not None and (stored.hold == hold or hold.kind is stored.hold.kind is HoldKind.UNCERTAIN)
        sticky = stored is not None and stored.sticky and same
        after[hold.order_id] = replace(after[hold.order_id], hold=StoredHold(hold, sticky=sticky))
    for change in planned.changes if changes is None else changes:
        after[change.order_id] = _written(after[change.order_id], change)
    return after


def _written(order: Order, change: Change) -> Order:
    if change.side is Side.CRM:
        assert order.crm == change.before
        return replace(order, crm=change.after, listed=change.after, agreed=change.agreed_after)
    assert order.table == change.before
    return replace(order, table=change.after, agreed=change.agreed_after)
