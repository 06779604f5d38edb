"""The words of syncd as values.

An order has one binding or none; a binding names an owner. Everything else here says what syncd knows about an order
(`Facts`), what it wants to write (`Change`), and what it will not touch (`Hold`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, TypeAlias

from syncd.core.order_ranges import LARGEST_ID, OrderRange, OrderRanges


class Side(StrEnum):
    """Where a value is: the portal or the mapping table."""

    CRM = "crm"
    TABLE = "table"

    @property
    def other(self) -> Side:
        """The opposite side."""
        return Side.TABLE if self is Side.CRM else Side.CRM


class Owner(NamedTuple):
    """A CRM object an order is bound to. Types: 2 deal, 31 smart invoice, from 128 dynamic types."""

    owner_type_id: int
    owner_id: int


MaybeOwner: TypeAlias = Owner | None


class Row(NamedTuple):
    """One binding as read from a side. Compares equal to a plain tuple, so whole pages compare at C speed."""

    order_id: int
    owner_type_id: int
    owner_id: int

    @property
    def owner(self) -> Owner:
        """The owner this row names."""
        return Owner(self.owner_type_id, self.owner_id)


class Action(StrEnum):
    """What a change does to one order on one side; `AGREE` writes to neither side, only the agreed state moves."""

    ADD = "add"
    MOVE = "move"
    REMOVE = "remove"
    AGREE = "agree"


class Outcome(StrEnum):
    """What became of a change.

    PLANNED is a plan's; WAITING is a remove that waits for its second look; INTENDED stands in the journal before the
    request is sent (reported as `uncertain`).
    """

    PLANNED = "planned"
    WAITING = "waiting"
    INTENDED = "intended"
    APPLIED = "applied"
    ALREADY = "already"
    SKIPPED = "skipped"
    FAILED = "failed"
    UNCERTAIN = "uncertain"


class Reason(StrEnum):
    """Why a change is in a plan."""

    TABLE_CHANGED = "table-changed"
    CRM_CHANGED = "crm-changed"
    TABLE_DRIFTED = "table-drifted"
    CRM_DRIFTED = "crm-drifted"
    POLICY_CRM = "conflict-crm-wins"
    POLICY_TABLE = "conflict-table-wins"
    RESOLVED_CRM = "resolved-crm"
    RESOLVED_TABLE = "resolved-table"
    BOTH_EQUAL = "both-equal"
    UNDO = "undo"


DECIDED = frozenset({Reason.RESOLVED_CRM, Reason.RESOLVED_TABLE, Reason.UNDO})
"""Reasons that a person gave."""


class HoldKind(StrEnum):
    """Why syncd does not touch an order. In `X-Y` kinds the CRM did X and the table did Y since the agreed state."""

    EDIT_EDIT = "edit-edit"
    EDIT_REMOVE = "edit-remove"
    REMOVE_EDIT = "remove-edit"
    CREATE_CREATE = "create-create"
    DUPLICATE_ROWS = "duplicate-rows"
    INVALID_ROW = "invalid-row"
    OUT_OF_SCOPE = "out-of-scope"
    ORDER_MISSING = "order-missing"
    OWNER_MISSING = "owner-missing"
    AMBIGUOUS_KEY = "ambiguous-key"
    REFUSED = "refused"
    UNCERTAIN = "uncertain"
    FLAPPING = "flapping"


CONFLICTS = frozenset({HoldKind.EDIT_EDIT, HoldKind.EDIT_REMOVE, HoldKind.REMOVE_EDIT, HoldKind.CREATE_CREATE})
"""The kinds of hold where each side says something, and the two differ."""

RETRIED = frozenset({HoldKind.ORDER_MISSING, HoldKind.REFUSED})
"""The kinds of hold whose write is tried again with growing pauses: what a side refuses today it may take tomorrow."""


class Direction(StrEnum):
    """Which sides syncd may write."""

    TWO_WAY = "two-way"
    CRM_TO_TABLE = "crm-to-table"
    TABLE_TO_CRM = "table-to-crm"


class OnConflict(StrEnum):
    """Who wins where all three values differ."""

    HOLD = "hold"
    CRM = "crm"
    TABLE = "table"


class Unreadable(NamedTuple):
    """A side says something about this order that cannot be read as a binding: it is not absent.

    kind is INVALID_ROW (null, non-integer or non-positive id), DUPLICATE_ROWS, ORDER_MISSING (no order has the row's
    key) or AMBIGUOUS_KEY; detail is a sentence for the operator.
    """

    kind: HoldKind
    detail: str
    side: Side = Side.TABLE


class Facts(NamedTuple):
    """What is known of one order: each side as read (whatever its scope), and the agreed owner."""

    crm: MaybeOwner
    table: MaybeOwner
    agreed: MaybeOwner
    unreadable: Unreadable | None = None

    def on_side(self, side: Side) -> MaybeOwner:
        """Given a side, return what is there."""
        return self.crm if side is Side.CRM else self.table

    def with_side(self, side: Side | None, value: MaybeOwner) -> Facts:
        """Given a side and a value, return these facts with that value on that side."""
        return self._replace(crm=value) if side is Side.CRM else self._replace(table=value)


@dataclass(frozen=True, slots=True)
class Scope:
    """Which bindings a link looks after. Anything outside is left alone.

    Args:
        owner_types: The owner types in scope; never empty.
        first_order, last_order: The range of order ids, both ends included; None is open.
    """

    owner_types: frozenset[int]
    first_order: int | None = None
    last_order: int | None = None

    @property
    def order_range(self) -> OrderRange:
        """The range of order ids."""
        return OrderRange(self.first_order or 1, LARGEST_ID if self.last_order is None else self.last_order)

    @property
    def orders(self) -> OrderRanges:
        """The same, as a set; empty where its ends are the wrong way round."""
        return OrderRanges.of([self.order_range])

    def holds_owner(self, owner: Owner) -> bool:
        """Given an owner, return whether its type is in scope."""
        return owner.owner_type_id in self.owner_types

    def holds_order(self, order_id: int) -> bool:
        """Given an order id, return whether it lies in the range."""
        return (self.first_order is None or order_id >= self.first_order) and (
            self.last_order is None or order_id <= self.last_order
        )


@dataclass(frozen=True, slots=True)
class Policy:
    """How a link decides: direction, what happens on conflict, and its scope."""

    direction: Direction
    on_conflict: OnConflict
    scope: Scope


@dataclass(frozen=True, slots=True)
class Change:
    """One write on one side (or a mere agreement, `Action.AGREE`, with side None).

    Args:
        order_id: The order.
        side: The side that is written; None for AGREE.
        action: add, move, remove, agree.
        before: The owner expected there now; None is unbound.
        after: The owner wanted; None is unbound.
        reason: Why.
        facts: What was known when it was planned; `apply` compares them with what is there later.
        agreed_after: The agreed owner once this change is done. Equals `after` except in undo plans.
        hold_after: An undo plan asks for a hold on the order once it is done, so that the next pass does not redo it.
    """

    order_id: int
    side: Side | None
    action: Action
    before: MaybeOwner
    after: MaybeOwner
    reason: Reason
    facts: Facts
    agreed_after: MaybeOwner = None
    hold_after: HoldKind | None = None

    @property
    def rests_on_absence(self) -> bool:
        """Whether it removes an order because the other side does not show it, and no person said so."""
        if self.side is None or self.after is not None or self.reason in DECIDED:
            return False
        return self.facts.on_side(self.side.other) is None

    def __reduce__(self) -> tuple[type[Change], tuple[object, ...]]:
        """Pickle four times faster than a slotted dataclass does by itself: a first sync spools a million of these."""
        fields = (self.order_id, self.side, self.action, self.before, self.after, self.reason, self.facts)
        return Change, (*fields, self.agreed_after, self.hold_after)


@dataclass(frozen=True, slots=True)
class Hold:
    """An order syncd will not touch until a person, or a changed fact, decides.

    Args:
        order_id: The order; 0 stands for rows whose order id itself cannot be read, a number below 0 for a key that no
            order of the portal has (`core.order_keys`).
        kind: Why.
        facts: What each side said when the hold was made. A hold whose facts change is released.
        detail: A sentence for the operator.
        since: Seconds since the epoch when the hold was first made; 0 while it is only planned.
        seen: What there was besides the facts shown. A value that a race overwrote is shown in `facts` although it is
            no longer there: the hold lasts while the facts are those seen. Where the answer to a write was lost, the
            order is shown as it is today, and here is what was found then (`diff.in_doubt`).
    """

    order_id: int
    kind: HoldKind
    facts: Facts
    detail: str
    since: float = 0.0
    seen: Facts | None = None

    def is_current(self, facts: Facts) -> bool:
        """Given the facts of today, return whether they are the ones this hold was made for."""
        uncertain = self.kind is HoldKind.UNCERTAIN
        return facts == (self.facts if uncertain or self.seen is None else self.seen)


@dataclass(slots=True)
class SideCounts:
    """How many changes of each action a plan makes on one side.

    reverts: how many of them put back what syncd replaced on the other side not long ago (`core.plan.is_revert`), of
    orders that no pass of the last 24 hours has put back.
    """

    add: int = 0
    move: int = 0
    remove: int = 0
    reverts: int = 0

    def count(self, action: Action) -> None:
        """Count one more change."""
        setattr(self, action.value, getattr(self, action.value) + 1)

    @property
    def total(self) -> int:
        """All changes of the side."""
        return self.add + self.move + self.remove

    def plus(self, other: SideCounts) -> SideCounts:
        """Return the sums of these and other counts."""
        return SideCounts(
            self.add + other.add,
            self.move + other.move,
            self.remove + other.remove,
            self.reverts + other.reverts,
        )


@dataclass(slots=True)
class Counts:
    """The numbers of a plan.

    Args:
        in_step: Orders on which both sides and the agreed state are the same.
        crm, table: The plan's changes on each side.
        holds: Orders that are held.
        waiting: Absent orders whose removes wait: for the second look (they are among the removes of a side), or until
            every row of the side that does not show them can be read.
        agreed: Agreed bindings in scope before the plan.
        crm_rows, table_rows: What was read on each side, of whatever scope.
        crm_in_scope, table_in_scope: The bindings in scope among them.
        whole: Of a pass that covers only some orders, how many bindings of the whole link were agreed before the plan;
            None where it covers all of them, or has nothing to write.
    """

    in_step: int = 0
    crm: SideCounts = field(default_factory=SideCounts)
    table: SideCounts = field(default_factory=SideCounts)
    holds: int = 0
    agreed: int = 0
    crm_rows: int = 0
    table_rows: int = 0
    crm_in_scope: int = 0
    table_in_scope: int = 0
    waiting: int = 0
    whole: int | None = None

    @property
    def agreed_of_link(self) -> int:
        """Agreed bindings of the whole link before the plan."""
        return self.agreed if self.whole is None else self.whole

    def rows(self, side: Side) -> int:
        """Given a side, return how many rows were read there."""
        return self.crm_rows if side is Side.CRM else self.table_rows

    def in_scope(self, side: Side) -> int:
        """Given a side, return how many bindings in scope it has."""
        return self.crm_in_scope if side is Side.CRM else self.table_in_scope

    def of(self, side: Side) -> SideCounts:
        """Given a side, return its counts."""
        return self.crm if side is Side.CRM else self.table
