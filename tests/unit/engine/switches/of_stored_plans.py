"""Stored plans, and undo."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from syncd.core.model import Change, Direction, Facts, Outcome
from syncd.engine.observe import Observation
from syncd.engine.run import Run
from syncd.engine.stored_plans import OnHold, WantedChanges
from tests.simulation.switch import Name, Silent, Together, rule, specification
from tests.unit.engine import test_engine_apply_run as on_apply
from tests.unit.engine import test_engine_rebase as on_rebase
from tests.unit.engine import test_engine_undo as on_undo

ENGINE, STORED, PLAN = "syncd.engine.reconcile", "syncd.engine.stored_plans", "syncd.core.plan"

compare, verified, wanted = WantedChanges.compare, Run.verified, Run.wanted


async def whatever_the_ends(_run: Run) -> bool:
    return True


def verify_all_that_differs(run: Run, seen: Observation, _changes: object, **how: Any) -> Any:
    return verified(run, seen, seen.changes, **how)


def compare_as_if_nothing_were_held(
    wanted: WantedChanges, changes: Iterable[Change], facts: Mapping[int, Facts], _holds: object
) -> None:
    compare(wanted, changes, facts, {})


def skip_what_is_held(run: Run, source: int, choose: Any, _on_hold: OnHold) -> Any:
    return wanted(run, source, choose, OnHold.SKIP)


SWITCHES = [
    rule(
        "A stored plan is spent before it is written.",
        Silent(f"{ENGINE}:apply"),
        specification(on_apply.test_given_a_plan_that_is_spent_while_we_read_then_nothing_is_written),
    ),
    rule(
        "A plan made before a rebase is not applied.",
        Silent(f"{ENGINE}:apply"),
        "stored-plan-of-other-ends",
    ),
    rule(
        "A run of another link is neither applied nor undone.",
        Silent(f"{STORED}:stored_run"),
        specification(on_apply.test_given_a_run_of_another_link_or_none_at_all_then_it_is_a_usage_error),
        specification(on_undo.test_given_a_run_of_another_link_or_none_at_all_when_undone_then_it_is_a_usage_error),
    ),
    rule(
        "A stored plan is not applied to other ends.",
        Name("syncd.engine.run:Run.fingerprint_matches", whatever_the_ends),
        specification(on_rebase.test_given_other_ends_then_apply_and_undo_are_refused_likewise),
    ),
    rule(
        "An order that moved since it was planned is skipped.",
        Name("syncd.engine.stored_plans:moved_since", lambda _change, _facts: ""),
        specification(on_apply.test_given_an_order_that_moved_on_either_side_then_it_is_skipped_and_says_so, "crm"),
        "undo-leaves-what-moved-since",
    ),
    rule(
        "A stored plan or an undo does not write the source of a link that has become one-way.",
        Name("syncd.engine.stored_plans:why_not_written", lambda _side, _policy: ""),
        specification(
            on_undo.test_given_a_link_that_became_one_way_then_neither_an_undo_nor_a_stored_plan_writes_its_source,
            Direction.CRM_TO_TABLE,
            "crm",
            "table",
        ),
    ),
    rule(
        "An order that was held since it was planned is skipped (and, as every held order, not written).",
        Together(
            Name("syncd.engine.stored_plans:WantedChanges.compare", compare_as_if_nothing_were_held),
            Name("syncd.engine.plan_draft:DraftPart.drop_held", lambda _part: None),
        ),
        "an-order-held-since-it-was-planned-is-skipped",
    ),
    rule(
        "Naming an undo decides the orders it puts back.",
        Name("syncd.engine.run:Run.wanted", skip_what_is_held),
        "undo-puts-back-what-was-overwritten",
    ),
    rule(
        "Nothing but the stored plan is written.",
        Name("syncd.engine.run:Run.verified", verify_all_that_differs),
        specification(on_apply.test_given_a_stored_plan_when_nothing_moved_then_it_is_done_and_nothing_else),
    ),
    rule(
        "A stored plan closes no hold of an order it leaves alone.",
        Name("syncd.engine.observe:Observation.leave_holds_of_changed", lambda _seen: None),
        "a-plan-closes-no-hold-of-an-order-it-leaves-alone",
    ),
    # ------------------------------------------------------------------------------ undo
    rule(
        "Undo leaves what was not written.",
        Name(f"{PLAN}:_IN_PLACE", frozenset(Outcome)),
        "what-was-refused-is-not-undone",
    ),
    rule(
        "A run that wrote nothing cannot be undone.",
        Silent(f"{ENGINE}:undo"),
        specification(on_undo.test_given_a_run_that_wrote_nothing_when_undone_then_it_says_so),
    ),
]
