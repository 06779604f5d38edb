"""The three-way diff as a stream: three sources, each ascending by order id, cut into segments of the same id range.

A segment is compared as sets of plain tuples first, at C speed; only orders that differ somewhere, or are held, are
looked at one by one. Nothing here grows with the number of bindings: a segment is forgotten once it is fed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from syncd.core.model import (
    Action,
    Change,
    Counts,
    Facts,
    Hold,
    HoldKind,
    MaybeOwner,
    Owner,
    Policy,
    Reason,
    Row,
    Side,
    Unreadable,
)
from syncd.core.order_keys import number_of_former
from syncd.core.policy import SOURCE, NoAction, decide, make_change, why_not_written
from syncd.core.records import BindingRow, BindingUpdate, StoredHold


def join_segment(
    crm: Sequence[Row],
    table: Sequence[Row],
    bindings: Sequence[BindingRow],
    unreadable: Mapping[int, Unreadable],
    looked_up: Collection[int] = (),
) -> Iterator[tuple[int, Facts, MaybeOwner]]:
    """Join one segment of the three sources, leaving out orders on which all of them agree.

    Args:
        crm: The portal's rows of the segment.
        table: The mapping table's readable rows of the segment.
        bindings: The local database's rows of the segment.
        unreadable: Orders of the segment whose table rows cannot be read.
        looked_up: Orders of the segment that are to be looked at although all may agree.

    Yields:
        (order id, facts, the CRM as last listed), ascending.
    """
    agreed = [(row[0], row[3], row[4]) for row in bindings if row[3] is not None and row[4] is not None]
    listed = [(row[0], row[1], row[2]) for row in bindings if row[1] is not None and row[2] is not None]
    if crm == table == agreed == listed and not unreadable and not looked_up:
        return
    crm_set = set(crm)
    differing = {row[0] for row in crm_set.symmetric_difference(table)}
    differing.update(row[0] for row in crm_set.symmetric_difference(agreed))
    differing.update(row[0] for row in crm_set.symmetric_difference(listed))
    differing.update(unreadable)
    differing.update(looked_up)
    if not differing:
        return
    in_crm, in_table, in_agreed, was_listed = (
        {row[0]: Owner(*row[1:]) for row in rows if row[0] in differing} for rows in (crm, table, agreed, listed)
    )
    for order_id in sorted(differing):
        facts = Facts(in_crm.get(order_id), in_table.get(order_id), in_agreed.get(order_id), unreadable.get(order_id))
        yield order_id, facts, was_listed.get(order_id)


@dataclass(slots=True)
class Segment:
    """What one segment comes to.

    Args:
        changes: Writes to plan.
        agreements: Orders both sides share already, with the binding row that says so.
        observed: Orders whose CRM value is not the one last listed, with their new binding row.
        holds: Orders to hold, with the stored hold they continue, if any.
        released: Orders whose hold is over.
        facts: What was found of the orders that were asked for.
    """

    changes: list[Change] = field(default_factory=list)
    agreements: list[tuple[Change, BindingUpdate]] = field(default_factory=list)
    observed: list[BindingUpdate] = field(default_factory=list)
    holds: list[tuple[Hold, StoredHold | None]] = field(default_factory=list)
    released: list[int] = field(default_factory=list)
    facts: dict[int, Facts] = field(default_factory=dict)


class Differ:
    """Turns segments into changes, agreements and holds, and keeps the counts.

    Args:
        policy: The link's policy.
        open_holds: The open holds by order id.
        retried: Held orders whose write is tried again now, although nothing about them has changed.

    unsure names the sides that have rows whose order id cannot be read. Each such row may be any order, so no order
    counts as gone from such a side; `unsure_orders` counts those that are absent there. `unsure_owners` are those of
    the table's rows whose keys no order has, with the numbers of these keys: such a row may be an agreed order of the
    same owner under another key, so that order does not count as gone from the table. The row of a key that the order
    itself had before is not such a row: the portal has said that the order has another key.
    """

    def __init__(
        self,
        policy: Policy,
        open_holds: Mapping[int, StoredHold],
        retried: Collection[int] = (),
    ) -> None:
        self.unsure: set[Side] = set()
        self.unsure_owners: Mapping[Owner, Collection[int]] = {}
        self.unsure_orders = 0
        self._policy = policy
        self._open = open_holds
        self._retried = frozenset(retried)
        self._looked_up = sorted(open_holds)
        self._next = bisect_right(self._looked_up, 0)  # order 0 stands for rows without an order
        self.counts = Counts()

    def feed(
        self,
        crm: Sequence[Row],
        table: Sequence[Row],
        bindings: Sequence[BindingRow],
        unreadable: Mapping[int, Unreadable],
        upto: int | None,
        *,
        asked: Collection[int] = (),
        odd: Collection[int] = (),
    ) -> Segment:
        """Take the segment of order ids up to `upto` (None: to the end; see `join_segment`) and return what it makes.

        Of the orders asked for, all of this segment, the facts are kept, even where nothing is to be done. Of the
        unreadable orders, the `odd` ones are so in the CRM alone; the others have rows in the table.
        """
        segment = Segment()
        looked_up = self._take_looked_up(upto)
        counts = self.counts
        counts.crm_rows += len(crm)
        counts.table_rows += len(table) + len(unreadable) - len(odd)
        looked_at = 0
        scope = self._policy.scope
        for order_id, facts, listed in join_segment(crm, table, bindings, unreadable, {*looked_up, *asked}):
            if order_id in asked:
                segment.facts[order_id] = facts
            looked_at += facts.crm is not None
            if facts.agreed is not None:
                counts.agreed += 1
            if scope.holds_order(order_id):
                counts.crm_in_scope += facts.crm is not None and scope.holds_owner(facts.crm)
                counts.table_in_scope += facts.table is not None and scope.holds_owner(facts.table)
            self._one(segment, order_id, facts, listed)
        untouched = len(crm) - looked_at
        counts.in_step += untouched
        counts.agreed += untouched
        counts.crm_in_scope += untouched  # what is agreed is in scope
        counts.table_in_scope += untouched
        return segment

    def _take_looked_up(self, upto: int | None) -> list[int]:
        """Return the held orders up to `upto` (None: all) that were not taken before."""
        first = self._next
        self._next = len(self._looked_up) if upto is None else bisect_right(self._looked_up, upto)
        return self._looked_up[first : self._next]

    def _one(self, segment: Segment, order_id: int, facts: Facts, listed: MaybeOwner) -> None:
        observed = facts.crm if self._policy.scope.holds_order(order_id) else listed
        stored = self._open.get(order_id)
        decisions, hold = self._decisions(order_id, facts, stored)
        agreed = facts.agreed
        for decision in decisions:
            if isinstance(decision, Change) and decision.action is Action.AGREE:
                agreed = decision.agreed_after
                segment.agreements.append((decision, BindingUpdate(order_id, observed, agreed)))
                self.counts.in_step += agreed is not None
            elif isinstance(decision, Change):
                segment.changes.append(decision)
            elif decision is NoAction.IN_STEP:
                self.counts.in_step += 1
        if hold is not None:
            segment.holds.append((hold, stored))
        elif stored is not None:
            segment.released.append(order_id)
        if observed != listed and agreed == facts.agreed:
            segment.observed.append(BindingUpdate(order_id, observed, agreed))

    def _decisions(
        self, order_id: int, facts: Facts, stored: StoredHold | None
    ) -> tuple[list[Change | NoAction], Hold | None]:
        if stored is not None and stored.hold.is_current(facts):
            keep = Side(stored.decision) if stored.decision in set(Side) else None
            if keep is not None and not resolvable(stored.hold, keep, self._policy):
                if changes := list(resolve(stored.hold, facts, keep, self._policy)):
                    return [*changes], None
            elif stored.sticky and stored.decision != "retry" and order_id not in self._retried:
                return [], stored.hold
        elif stored is not None and in_doubt(stored.hold, facts, self._policy):
            return [], replace(stored.hold, facts=facts)
        if self._may_be_there(order_id, facts):
            self.unsure_orders += 1
            return [], None if stored is None else _kept(stored.hold, facts)
        decision = decide(order_id, facts, self._policy)
        if isinstance(decision, Hold):
            return [], decision
        return [decision], None

    def _may_be_there(self, order_id: int, facts: Facts) -> bool:
        """Given an order, return whether it was agreed and is absent on a side with unreadable order ids."""
        if facts.agreed is None or facts.unreadable is not None or not self._policy.scope.holds_order(order_id):
            return False
        if facts.table is None and any(
            number != number_of_former(order_id) for number in self.unsure_owners.get(facts.agreed, ())
        ):
            return True
        return any(facts.on_side(side) is None for side in self.unsure)


def _kept(hold: Hold, facts: Facts) -> Hold:
    """Given a hold of an order that waits, return it as of today; a value that a race overwrote it goes on showing."""
    shows_overwritten = hold.seen is not None and hold.kind is not HoldKind.UNCERTAIN
    return hold if shows_overwritten else replace(hold, facts=facts)


def in_doubt(hold: Hold, facts: Facts, policy: Policy) -> bool:
    """Given an order's hold and the facts of today, return whether it still depends on what became of a write.

    An order is uncertain because the answer to a write was lost and something else stood there afterwards. Either the
    write was never executed, or it was, both sides had the value of the other one, and somebody has replaced it since.
    Whatever others do to such an order later, it stays held until both sides are equal, or both hypotheses lead to the
    same write: taking the wrong one would bring back what somebody replaced, or lose what somebody wrote.
    """
    if hold.kind is not HoldKind.UNCERTAIN or hold.seen is None or facts.agreed != hold.seen.agreed:
        return False
    if facts.crm == facts.table and facts.unreadable is None:
        return False
    hypotheses = {decide(hold.order_id, facts._replace(agreed=value), policy) for value in hold.seen[:3]}
    writes = {(one.side, one.after) if isinstance(one, Change) else one for one in hypotheses}
    return len(writes) > 1 or isinstance(writes.pop(), Hold)


def resolve(hold: Hold, facts: Facts, keep: Side, policy: Policy) -> Iterator[Change]:
    """Given a hold a person decided, yield the writes that give both sides the value of the side to keep.

    A one-way link's source is never written, whatever was decided, and nothing is agreed that only one side says. An
    order that is let go (`lets_go`) is written on neither side, and nothing is agreed about it any more.
    `resolvable` says beforehand whether the decision can be carried out.
    """
    value = hold.facts.crm if keep is Side.CRM else hold.facts.table
    reason = Reason.RESOLVED_CRM if keep is Side.CRM else Reason.RESOLVED_TABLE
    if lets_go(hold, keep, policy):
        if facts.agreed is not None:
            yield Change(hold.order_id, None, Action.AGREE, facts.agreed, None, reason, facts)
        return
    source = SOURCE.get(policy.direction)
    for side, there in ((Side.CRM, facts.crm), (Side.TABLE, facts.table)):
        if there != value and side is not source:
            yield make_change(hold.order_id, side, facts, value, reason)
    if facts.crm == facts.table == value != facts.agreed:
        yield Change(hold.order_id, None, Action.AGREE, facts.agreed, value, reason, facts, agreed_after=value)


def lets_go(hold: Hold, keep: Side, policy: Policy) -> bool:
    """Given a hold and a decision, return whether the decision leaves the order to whom it belongs to now.

    It does where the side to keep binds the order out of scope, and the other side no longer knows it: the link that
    agreed on it has nothing to carry on, and to write to either side would be to write an order of somebody else's.
    """
    kept, other = hold.facts.on_side(keep), hold.facts.on_side(keep.other)
    left = kept is not None and not policy.scope.holds_owner(kept)
    return hold.kind is HoldKind.OUT_OF_SCOPE and left and other is None


def _is_deselected(facts: Facts, policy: Policy) -> bool:
    """Given the facts of an order held as out of scope, return whether its row is, rather than an owner's type."""
    return facts.table is None and (facts.crm is None or policy.scope.holds_owner(facts.crm))


def resolvable(hold: Hold, keep: Side, policy: Policy) -> str:
    """Given a hold and a decision, return why it cannot be carried out, as a sentence; empty when it can."""
    now = hold.seen or hold.facts
    if hold.kind is HoldKind.AMBIGUOUS_KEY:
        return "no key of its own names it in the table; give it one in the portal, and syncd releases the hold"
    if hold.facts.unreadable is not None or now.unreadable is not None:
        return "its rows in the table cannot be read as one binding; correct the rows, and syncd releases the hold"
    value = hold.facts.crm if keep is Side.CRM else hold.facts.table
    if value is not None and not policy.scope.holds_owner(value):
        outside = f"type {value.owner_type_id} is outside this link's owner_types"
        return "" if lets_go(hold, keep, policy) else outside
    if hold.kind is HoldKind.OUT_OF_SCOPE and _is_deselected(now, policy):
        return (
            "the table has a row for it that `where` does not select, and syncd writes neither that row nor a second "
            "one; change the row or `where`, and syncd releases the hold"
        )
    source = SOURCE.get(policy.direction)
    return why_not_written(source, policy) if source is not None and now.on_side(source) != value else ""
