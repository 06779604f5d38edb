"""The world in the mirror: the CRM as the table and the table as the CRM, for the planner's symmetry."""

from __future__ import annotations

from dataclasses import replace

from syncd.core.model import Change, Direction, Facts, Hold, HoldKind, OnConflict, Policy, Reason
from syncd.core.records import StoredHold
from tests.property.worlds import Order

MIRRORED_DIRECTION = {
    Direction.TWO_WAY: Direction.TWO_WAY,
    Direction.CRM_TO_TABLE: Direction.TABLE_TO_CRM,
    Direction.TABLE_TO_CRM: Direction.CRM_TO_TABLE,
}
MIRRORED_CONFLICT = {
    OnConflict.HOLD: OnConflict.HOLD,
    OnConflict.CRM: OnConflict.TABLE,
    OnConflict.TABLE: OnConflict.CRM,
}
MIRRORED_REASON = {
    one: Reason(other)
    for pair in (
        ("table-changed", "crm-changed"),
        ("table-drifted", "crm-drifted"),
        ("conflict-crm-wins", "conflict-table-wins"),
        ("resolved-crm", "resolved-table"),
        ("both-equal", "both-equal"),
    )
    for one, other in (pair, pair[::-1])
}
MIRRORED_DECISION = {"crm": "table", "table": "crm", "": "", "retry": "retry"}


def mirrored_policy(policy: Policy) -> Policy:
    return Policy(MIRRORED_DIRECTION[policy.direction], MIRRORED_CONFLICT[policy.on_conflict], policy.scope)


def mirrored_kind(kind: HoldKind) -> HoldKind:
    return {HoldKind.EDIT_REMOVE: HoldKind.REMOVE_EDIT, HoldKind.REMOVE_EDIT: HoldKind.EDIT_REMOVE}.get(kind, kind)


def mirrored_facts(facts: Facts) -> Facts:
    return facts._replace(crm=facts.table, table=facts.crm)


def mirrored_hold(hold: Hold) -> Hold:
    seen = None if hold.seen is None else mirrored_facts(hold.seen)
    return replace(hold, kind=mirrored_kind(hold.kind), facts=mirrored_facts(hold.facts), seen=seen)


def mirrored_order(order: Order) -> Order:
    hold = order.hold
    if hold is not None:
        hold = StoredHold(mirrored_hold(hold.hold), hold.sticky, MIRRORED_DECISION[hold.decision], hold.run)
    return replace(order, crm=order.table, table=order.crm, hold=hold)


def mirrored_change(change: Change) -> Change:
    return replace(
        change,
        side=None if change.side is None else change.side.other,
        reason=MIRRORED_REASON[change.reason],
        facts=mirrored_facts(change.facts),
    )
