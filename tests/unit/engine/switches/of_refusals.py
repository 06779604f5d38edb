"""The refused plan that waits, and the passes that look at it."""

from __future__ import annotations

from tests.simulation.switch import Line, Name, rule, specification
from tests.unit.core import test_core_refusals as on_refusals
from tests.unit.engine import test_engine_waiting as on_waiting

ENGINE, STORED, WAITING = "syncd.engine.reconcile", "syncd.engine.stored", "syncd.engine.waiting"
REFUSALS = "syncd.core.refusals"

SWITCHES = [
    rule(
        "What is left of a refused plan is not carried out while it grows less.",
        Line(f"{REFUSALS}:settling", "settled = not left or", "settled = True or"),
        specification(on_waiting.test_given_a_cause_that_is_being_mended_then_what_is_left_is_not_carried_out),
    ),
    rule(
        "What stays of a refused plan is carried out at the next look.",
        Line(f"{REFUSALS}:settling", "hit.actual == left", "False"),
        specification(
            on_waiting.test_given_a_part_that_stays_lost_then_it_is_carried_out_at_the_second_look_that_finds_it
        ),
    ),
    rule(
        "Limits that were raised let a refused plan go on.",
        Line(f"{WAITING}:Waiting.settling", "if not await self._is_too_much(link):", "if False:"),
        specification(on_waiting.test_given_limits_that_were_raised_then_the_refused_plan_is_carried_out_at_once),
    ),
    rule(
        "A plan that still stands is not stored again.",
        Line(f"{ENGINE}:reconcile", "if waiting is not None and waiting.stands_for(plan, link):", "if False:"),
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
        Name(f"{WAITING}:FRESH", 10),
        specification(
            on_waiting.test_given_a_plan_that_grows_old_then_it_is_stored_anew_so_that_there_is_always_one_to_apply
        ),
    ),
    rule(
        "Whoever asks for a pass gets a plan of it.",
        Line(f"{ENGINE}:reconcile", "if origin == UNATTENDED else None", "if True else None"),
        specification(on_waiting.test_given_a_person_who_asks_then_the_plan_is_stored_whatever_waits),
    ),
    rule(
        "A pass that only looked has no plan to apply.",
        Line(f"{STORED}:check_applicable", "if stored.plan != stored.id:", "if False:"),
        specification(
            on_waiting.test_given_a_look_then_the_plan_that_waits_is_the_one_to_apply_and_all_of_them_are_spent_by_it
        ),
    ),
    rule(
        "A pass that failed does not make a refused plan forgotten.",
        Name(f"{WAITING}:RECENT", 2),
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
