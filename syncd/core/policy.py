"""What is to be done about one order: the table of sync-rules.md, "Decisions", total over every combination of facts.

`decide` looks at one order only: its two values, the agreed one, and the link's policy. Everything that needs more than
that (holds that last, failures, guards) is built on top of it in `diff`, `plan` and `guards`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

from syncd.core.model import (
    Action,
    Change,
    Direction,
    Facts,
    Hold,
    HoldKind,
    MaybeOwner,
    OnConflict,
    Policy,
    Reason,
    Side,
)


class NoAction(StrEnum):
    """Decisions that neither write nor hold."""

    IN_STEP = "in-step"
    LEFT_ALONE = "left-alone"


Decision: TypeAlias = Change | Hold | NoAction

SOURCE = {Direction.CRM_TO_TABLE: Side.CRM, Direction.TABLE_TO_CRM: Side.TABLE}
"""The side a one-way link reads from; the other one is its target."""


def why_not_written(side: Side | None, policy: Policy) -> str:
    """Given a side that would be written, return why this link never writes it, as a clause; empty if it may be."""
    if side is None or SOURCE.get(policy.direction) is not side:
        return ""
    return f"this link is {policy.direction.value}: it never writes the {side.value} side"


def action_between(before: MaybeOwner, after: MaybeOwner) -> Action:
    """Given the value before and after a write, return what the write is called."""
    if after is None:
        return Action.REMOVE
    return Action.ADD if before is None else Action.MOVE


def decide(order_id: int, facts: Facts, policy: Policy) -> Decision:
    """Given what is known of one order, return what is to be done about it.

    Args:
        order_id: The order.
        facts: Both sides as read, and the agreed owner.
        policy: Direction, conflict policy and scope of the link.

    Returns:
        A change (a write on one side, or an agreement), a hold, or a `NoAction`.
    """
    if not policy.scope.holds_order(order_id):
        return NoAction.LEFT_ALONE
    if facts.unreadable is not None:
        return Hold(order_id, facts.unreadable.kind, facts, facts.unreadable.detail)
    outside = _outside(facts, policy)
    if outside is not None:
        return _out_of_scope(order_id, facts, policy, outside)
    if facts.crm == facts.table:
        return _equal(order_id, facts)
    if policy.direction is Direction.TWO_WAY:
        return _two_way(order_id, facts, policy)
    return _one_way(order_id, facts, policy)


def make_change(order_id: int, side: Side, facts: Facts, after: MaybeOwner, reason: Reason) -> Change:
    """Given a side and the value it is to have, return the change that writes it."""
    before = facts.crm if side is Side.CRM else facts.table
    return Change(order_id, side, action_between(before, after), before, after, reason, facts, agreed_after=after)


def conflict_kind(facts: Facts) -> HoldKind:
    """Given facts whose sides differ, return the kind of conflict: what the CRM did, then what the table did."""
    if facts.crm is None:
        return HoldKind.REMOVE_EDIT
    if facts.table is None:
        return HoldKind.EDIT_REMOVE
    return HoldKind.CREATE_CREATE if facts.agreed is None else HoldKind.EDIT_EDIT


def _outside(facts: Facts, policy: Policy) -> Side | None:
    if facts.crm is not None and not policy.scope.holds_owner(facts.crm):
        return Side.CRM
    if facts.table is not None and not policy.scope.holds_owner(facts.table):
        return Side.TABLE
    return None


def _out_of_scope(order_id: int, facts: Facts, policy: Policy, side: Side) -> Decision:
    values = (facts.crm, facts.table, facts.agreed)
    if not any(owner is not None and policy.scope.holds_owner(owner) for owner in values):
        return NoAction.LEFT_ALONE
    return Hold(order_id, HoldKind.OUT_OF_SCOPE, facts, _outside_detail(facts, side))


def _outside_detail(facts: Facts, side: Side) -> str:
    owner = facts.crm if side is Side.CRM else facts.table
    assert owner is not None
    where = "in the CRM" if side is Side.CRM else "in the table"
    return (
        f"The order is bound {where} to an object of type {owner.owner_type_id}, which is not among this link's "
        "owner_types; that is neither a removal nor a value to copy."
    )


def _equal(order_id: int, facts: Facts) -> Decision:
    if facts.crm == facts.agreed:
        return NoAction.LEFT_ALONE if facts.crm is None else NoAction.IN_STEP
    return Change(
        order_id, None, Action.AGREE, facts.agreed, facts.crm, Reason.BOTH_EQUAL, facts, agreed_after=facts.crm
    )


def _two_way(order_id: int, facts: Facts, policy: Policy) -> Decision:
    if facts.table == facts.agreed:
        return make_change(order_id, Side.TABLE, facts, facts.crm, Reason.CRM_CHANGED)
    if facts.crm == facts.agreed:
        return make_change(order_id, Side.CRM, facts, facts.table, Reason.TABLE_CHANGED)
    return _conflict(order_id, facts, policy)


def _one_way(order_id: int, facts: Facts, policy: Policy) -> Decision:
    source = SOURCE[policy.direction]
    wanted, there = (facts.crm, facts.table) if source is Side.CRM else (facts.table, facts.crm)
    if facts.agreed is None and wanted is None:
        return NoAction.LEFT_ALONE  # foreign: a binding on the target that was never agreed
    if facts.agreed is None and there is not None:
        return _conflict(order_id, facts, policy)
    if there == facts.agreed:
        reason = Reason.CRM_CHANGED if source is Side.CRM else Reason.TABLE_CHANGED
    else:
        reason = Reason.TABLE_DRIFTED if source is Side.CRM else Reason.CRM_DRIFTED
    return make_change(order_id, source.other, facts, wanted, reason)


def _conflict(order_id: int, facts: Facts, policy: Policy) -> Decision:
    if policy.on_conflict is OnConflict.HOLD:
        kind = conflict_kind(facts)
        return Hold(order_id, kind, facts, _CONFLICT_DETAIL[kind])
    winner = Side(policy.on_conflict.value)
    source = SOURCE.get(policy.direction)
    if source is not None and winner is not source:
        return NoAction.LEFT_ALONE  # a one-way link never writes its source, and its target is to win
    value = facts.crm if winner is Side.CRM else facts.table
    reason = Reason.POLICY_CRM if winner is Side.CRM else Reason.POLICY_TABLE
    return make_change(order_id, winner.other, facts, value, reason)


_CONFLICT_DETAIL = {
    HoldKind.EDIT_EDIT: "Both sides changed the order since they last agreed, each to another owner.",
    HoldKind.EDIT_REMOVE: "The CRM bound the order to another owner while its row was removed from the table.",
    HoldKind.REMOVE_EDIT: "The order was unbound in the CRM while the table gave it another owner.",
    HoldKind.CREATE_CREATE: "Both sides know the order, with different owners, and never agreed on one.",
}
