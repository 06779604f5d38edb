"""Decisions about one order: conflicts, scope, direction, what cannot be read, and what holds and people decide."""

from __future__ import annotations

from typing import Any

from syncd.core.model import Change, Facts, Reason, Side
from syncd.core.policy import write
from tests.simulation.switch import Line, Name, Together, rule, specification
from tests.unit.engine import test_engine_holds as on_holds

POLICY, DIFF, MODEL, OBSERVE, VERIFY = (
    "syncd.core.policy",
    "syncd.core.diff",
    "syncd.core.model",
    "syncd.engine.observe",
    "syncd.engine.verify",
)


def the_crm_wins(order_id: int, facts: Facts, _policy: Any) -> Change:
    return write(order_id, Side.TABLE, facts, facts.crm, Reason.POLICY_CRM)


async def nothing(*_args: Any) -> None:
    """In the place of a step that is left out."""


SWITCHES = [
    # ------------------------------------------------------------------- conflicts
    rule(
        "What both sides changed is held.",
        Name(f"{POLICY}:_conflict", the_crm_wins),
        "conflict-is-held",
        "first-sync-copies-and-holds",
        "one-way-and-never-agreed-is-a-conflict",
    ),
    rule(
        "A conflict is won by the side that is to win.",
        Line(f"{POLICY}:_conflict", "if policy.on_conflict is OnConflict.HOLD:", "if True:"),
        "conflict-won-by-the-crm",
        "conflict-won-by-the-table",
    ),
    rule(
        "The kind of a conflict says what each side did.",
        Line(f"{POLICY}:conflict_kind", "if facts.crm is None:", "if False:"),
        "conflict-is-held",
    ),
    rule(
        "What both sides changed alike is agreed.",
        Line(f"{POLICY}:_equal", "if facts.crm == facts.agreed:", "if True:"),
        "both-sides-changed-alike",
    ),
    rule(
        "What only the CRM changed goes to the table.",
        Line(f"{POLICY}:_two_way", "if facts.table == facts.agreed:", "if False:"),
        "edits-on-both-sides",
    ),
    rule(
        "What only the table changed goes to the CRM.",
        Line(f"{POLICY}:_two_way", "if facts.crm == facts.agreed:", "if False:"),
        "edits-on-both-sides",
    ),
    # ----------------------------------------------------------------------- scope
    rule(
        "An order bound out of scope is held, neither removed nor copied.",
        Line(f"{POLICY}:decide", "if outside is not None:", "if False:"),
        "out-of-scope-is-no-removal",
    ),
    rule(
        "An order that nobody knows in scope is left alone.",
        Line(f"{POLICY}:_out_of_scope", "if not any(", "if False and any("),
        "out-of-scope-is-no-removal",
    ),
    rule(
        "Orders outside the range are neither read nor written.",
        Line(f"{MODEL}:Scope.holds_order", "return (", "return True or ("),
        "an-order-outside-the-range-is-left-alone",
    ),
    rule(
        "What is agreed on an order that left the range is not forgotten (nor is an end agreed that was not asked for).",
        Together(
            Line(f"{POLICY}:decide", "if not policy.scope.holds_order(order_id):", "if False:"),
            Line("syncd.engine.run:Run.record_observation", "await self._confirmed(pairs, draft)", "pairs"),
        ),
        "an-order-that-left-the-range-is-remembered",
    ),
    # ------------------------------------------------------------------- direction
    rule(
        "A one-way link never writes its source.",
        Line(f"{POLICY}:decide", "if policy.direction is Direction.TWO_WAY:", "if True:"),
        "one-way-to-the-table",
        "one-way-to-the-crm",
    ),
    rule(
        "A binding on the target that was never agreed is foreign.",
        Line(f"{POLICY}:_one_way", "if facts.agreed is None and wanted is None:", "if False:"),
        "one-way-to-the-table",
        "one-way-to-the-crm",
    ),
    rule(
        "A one-way link does not overwrite what it never agreed on.",
        Line(f"{POLICY}:_one_way", "if facts.agreed is None and there is not None:", "if False:"),
        "one-way-and-never-agreed-is-a-conflict",
    ),
    rule(
        "A target that is to win a conflict is left alone.",
        Line(f"{POLICY}:_conflict", "if source is not None and winner is not source:", "if False:"),
        "a-target-that-is-to-win-is-left-alone",
    ),
    rule(
        "No decision writes the source of a one-way link (it is asked before, and once more where it is written).",
        Together(
            Line(f"{DIFF}:resolvable", "if source is not None and", "if False and"),
            Line(f"{DIFF}:resolve", "if there != value and side is not source:", "if there != value:"),
        ),
        "a-one-way-source-is-never-written-by-a-decision",
    ),
    # ----------------------------------------------------------- what cannot be read
    rule(
        "What cannot be read is not absent.",
        Line(f"{POLICY}:decide", "if facts.unreadable is not None:", "if False:"),
        "an-unreadable-row-of-a-new-order-is-held",
    ),
    rule(
        "Orders whose rows cannot be read are looked at.",
        Line(f"{OBSERVE}:_Segments._take_unreadable", "return taken", "return {}"),
        "an-unreadable-row-of-a-new-order-is-held",
    ),
    rule(
        "Rows without a readable order are held as one.",
        Line(f"{OBSERVE}:_orderless", "if snapshot.orderless:", "if False:"),
        "an-unreadable-row-of-a-new-order-is-held",
    ),
    # ----------------------------------------------------------- holds and decisions
    rule(
        "What an event held stays held.",
        Line(f"{DIFF}:Differ._decisions", "stored.hold.still(facts)", "False"),
        "race-stays-held",
        "undo-puts-back-and-holds",
    ),
    rule(
        "A hold is over once its facts change.",
        Line(f"{MODEL}:Hold.still", "return facts == (", "return True or ("),
        "an-undone-order-is-synced-again-once-it-moves",
    ),
    rule(
        "An uncertain order is held while it matters what became of the write.",
        Line(f"{DIFF}:Differ._decisions", "in_doubt(stored.hold, facts, self._policy)", "False"),
        "uncertain-order-is-no-news-when-unbound",
        "uncertain-order-is-not-won-by-policy",
    ),
    rule(
        "An order is certain again only once what both stories lead to is there.",
        Line(f"{OBSERVE}:_Segments.feed", "if (lost or stored.decision", "if (False or stored.decision"),
        "uncertain-order-is-certain-once-its-write-is-there",
    ),
    rule(
        "What was not agreed after all ends no hold.",
        Line("syncd.engine.run:Run.record_observation", " and order not in moved", ""),
        "uncertain-order-that-moves-while-it-is-agreed-stays-held",
    ),
    rule(
        "An uncertain order whose sides are equal is agreed.",
        Line(f"{DIFF}:in_doubt", "if facts.crm == facts.table and facts.unreadable is None:", "if False:"),
        "uncertain-order-is-free-once-both-sides-agree",
    ),
    rule(
        "A derived hold is over once the diff no longer makes it.",
        Line(f"{DIFF}:Differ._one", "segment.released.append(order_id)", "pass"),
        "a-conflict-ends-when-a-side-gives-way",
    ),
    rule(
        "What a person decided is carried out.",
        Line(f"{DIFF}:Differ._decisions", "if keep is not None and", "if False and"),
        "conflict-is-held-until-decided",
    ),
    rule(
        "A person may say: try again.",
        Line(f"{DIFF}:Differ._decisions", ' and stored.decision != "retry"', ""),
        specification(on_holds.test_given_a_missing_order_when_a_person_says_retry_then_it_is_tried_once_more),
    ),
    rule(
        "A decision is open until it is carried out.",
        Line(f"{OBSERVE}:_Segments.feed", "or stored.decision in", "or False and stored.decision in"),
        "a-decision-stays-open-until-it-is-carried-out",
    ),
    rule(
        "A decision that failed is still open.",
        Line("syncd.engine.run:Run.apply", "carried_out = decided - undone", "carried_out = decided"),
        "a-decision-stays-open-until-it-is-carried-out",
    ),
    rule(
        "No decision leaves the scope.",
        Line(f"{DIFF}:resolvable", "if value is not None and not policy.scope.holds_owner(value):", "if False:"),
        "a-decision-does-not-leave-the-scope",
    ),
    rule(
        "No decision is carried out on rows that cannot be read (asked before, and by the second look at the table).",
        Together(
            Line(
                f"{DIFF}:resolvable", "if hold.facts.unreadable is not None or now.unreadable is not None:", "if False:"
            ),
            Name(f"{VERIFY}:_removals_from_crm", nothing),
        ),
        "a-decision-waits-until-the-rows-can-be-read",
    ),
    rule(
        "A hold that an event made outlasts a decision that cannot be carried out.",
        Line(f"{VERIFY}:verify", "draft.sticky |= {", "_ = {"),
        "a-decision-that-cannot-be-carried-out-keeps-the-hold",
    ),
]
