"""Decisions about one order: conflicts, scope, direction, what cannot be read, and what holds and people decide."""

from __future__ import annotations

from typing import Any

from syncd.core.model import Change, Facts, Reason, Side
from syncd.core.order_ranges import LARGEST_ID, OrderRanges
from syncd.core.policy import NoAction, make_change
from syncd.engine.observation_record import _released
from syncd.engine.observe import Observation
from syncd.engine.plan_draft import PlanDraft
from tests.simulation.switch import Name, Silent, Together, rule

POLICY, DIFF, MODEL, OBSERVE, VERIFY = (
    "syncd.core.policy",
    "syncd.core.diff",
    "syncd.core.model",
    "syncd.engine.observe",
    "syncd.engine.verify",
)


def the_crm_wins(order_id: int, facts: Facts, _policy: Any) -> Change:
    return make_change(order_id, Side.TABLE, facts, facts.crm, Reason.POLICY_CRM)


def left_alone(*_args: Any) -> NoAction:
    return NoAction.LEFT_ALONE


async def nothing(*_args: Any) -> None:
    """In the place of a step that is left out."""


async def all_of_them(_link: Any, _lease: Any, pairs: Any, _draft: Any) -> Any:
    """Every end is agreed, though it was not asked for."""
    return pairs


def whatever_has_moved(seen: Observation, draft: PlanDraft, _moved: object) -> list[int]:
    return _released(seen, draft, ())


SWITCHES = [
    # ------------------------------------------------------------------- conflicts
    rule(
        "What both sides changed is held.",
        Name(f"{POLICY}:_conflict", the_crm_wins),
        "conflict-is-held",
        "first-sync-copies-and-holds",
        "one-way-and-never-agreed-is-a-conflict",
    ),
    # ----------------------------------------------------------------------- scope
    rule(
        "An order bound out of scope is held, neither removed nor copied.",
        Name(f"{POLICY}:_out_of_scope", left_alone),
        "out-of-scope-is-no-removal",
    ),
    rule(
        "An order that left the scope and is gone from the other side can be let go.",
        Name(f"{DIFF}:lets_go", lambda *_: False),
        "an-order-that-left-the-scope-is-let-go",
    ),
    rule(
        "Orders outside the range are neither read nor written.",
        Together(
            Name(f"{MODEL}:Scope.holds_order", lambda _scope, _order: True),
            Name(f"{MODEL}:Scope.orders", OrderRanges.of([(1, LARGEST_ID)])),
        ),
        "an-order-outside-the-range-is-left-alone",
    ),
    rule(
        "What is agreed on an order that left the range is not forgotten (nor is an end agreed that was not asked for).",
        Together(
            Name(f"{MODEL}:Scope.holds_order", lambda _scope, _order: True),
            Name("syncd.engine.observation_record:_confirmed", all_of_them),
        ),
        "an-order-that-left-the-range-is-remembered",
    ),
    # ------------------------------------------------------------------- direction
    # ----------------------------------------------------------- what cannot be read
    rule(
        "What cannot be read is not absent.",
        Silent(f"{POLICY}:decide"),
        "an-unreadable-row-of-a-new-order-is-held",
    ),
    rule(
        "Orders whose rows cannot be read are looked at.",
        Name(f"{OBSERVE}:_Segments._take_unreadable", lambda _segments, _upto: {}),
        "an-unreadable-row-of-a-new-order-is-held",
    ),
    rule(
        "Rows without a readable order are held as one.",
        Silent(f"{OBSERVE}:_hold_orderless"),
        "an-unreadable-row-of-a-new-order-is-held",
    ),
    # ----------------------------------------------------------- holds and decisions
    rule(
        "An order is certain again only once what both stories lead to is there.",
        Name(f"{OBSERVE}:_ends_with_its_write", lambda _stored, _changed: False),
        "uncertain-order-is-certain-once-its-write-is-there",
    ),
    rule(
        "A decision is open until it is carried out.",
        Name(f"{OBSERVE}:_ends_with_its_write", lambda _stored, _changed: False),
        "a-decision-stays-open-until-it-is-carried-out",
    ),
    rule(
        "A decision that failed is still open.",
        Name("syncd.engine.outcomes:OutcomeRecorder.carried_out", property(lambda recorder: recorder._decided)),
        "a-decision-stays-open-until-it-is-carried-out",
    ),
    rule(
        "What was not agreed after all ends no hold.",
        Name("syncd.engine.observation_record:_released", whatever_has_moved),
        "uncertain-order-that-moves-while-it-is-agreed-stays-held",
    ),
]
