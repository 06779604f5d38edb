"""The refused plan that waits, and the passes that look at it."""

from __future__ import annotations

from tests.simulation.switch import Name, Silent, rule, specification
from tests.unit.core import test_core_refused_plans as on_refusals
from tests.unit.engine import test_engine_refused_plans as on_waiting

STORED = "syncd.engine.stored_plans"
REFUSALS = "syncd.core.plan"

SWITCHES = [
    rule(
        "A plan that still stands is not stored again.",
        Name(f"{STORED}:RefusedPlan.stands_for", lambda *_args: False),
        specification(
            on_waiting.test_given_nothing_has_changed_then_a_look_stores_no_plan_again_and_names_the_one_that_waits
        ),
    ),
    rule(
        "A plan whose numbers have changed is stored anew.",
        Name(f"{REFUSALS}:NEARLY", 10),
        specification(on_waiting.test_given_a_plan_that_changed_a_lot_then_it_is_stored_anew),
    ),
    rule(
        "A plan that waits is stored anew before it is too old to be applied.",
        Name(f"{STORED}:FRESH", 10),
        specification(
            on_waiting.test_given_a_plan_that_grows_old_then_it_is_stored_anew_so_that_there_is_always_one_to_apply
        ),
    ),
    rule(
        "A plan that is spent, too old, or no plan is not applied.",
        Silent(f"{STORED}:check_applicable"),
        specification(
            on_waiting.test_given_a_look_then_the_plan_that_waits_is_the_one_to_apply_and_all_of_them_are_spent_by_it
        ),
        "stored-plan-is-applied-once",
        "stored-plan-grows-stale",
        "a-finished-pass-is-no-plan",
    ),
    rule(
        "A pass that failed does not make a refused plan forgotten.",
        Name(f"{STORED}:RECENT", 2),
        specification(on_waiting.test_given_a_failed_look_between_then_the_plan_still_waits),
    ),
    rule(
        "A refusal that is notably worse is news.",
        Name(f"{REFUSALS}:WORSE", 100),
        lambda: on_refusals.test_a_refusal_is_news_once_a_number_has_doubled_or_another_guard_refuses(
            [on_refusals.hit(2000)], True
        ),
    ),
]
