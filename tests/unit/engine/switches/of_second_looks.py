"""Complete readings, and second looks before a plan is a plan."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from syncd.engine.link import HeldLease
from syncd.engine.observe import _ends_with_its_write, _Segments
from syncd.engine.run import Run
from syncd.errors import IncompleteListing
from tests.simulation.switch import Name, Played, Silent, Together, rule, specification
from tests.unit.engine import test_engine_absence as on_absence
from tests.unit.engine import test_engine_holds as on_holds
from tests.unit.engine import test_engine_refused_plans as on_refused
from tests.unit.engine import test_engine_second_looks as on_second_looks
from tests.unit.engine.switches.of_decisions import all_of_them, nothing

OBSERVE, VERIFY, RUN = "syncd.engine.observe", "syncd.engine.verify", "syncd.engine.run"
LOOK = "syncd.engine.second_look"

compare, ends, look, verified = _Segments._compare, _ends_with_its_write, Run.second_look, Run.verified


async def just_now(*_: object) -> int:
    """Say that the newest run of all wrote."""
    return 10**6


async def nothing_of_it(*_: object) -> None:
    """Do nothing."""


def compare_without_going_on(segments: _Segments, *args: Any) -> None:
    after = segments._after
    compare(segments, *args)
    segments._after = after


async def half_a_listing_will_do(_held: HeldLease, parts: AsyncIterator[Any]) -> AsyncIterator[Any]:
    try:
        async for part in parts:
            yield part
    except IncompleteListing:
        return


async def look_and_note(run: Run, draft: Any, **_how: bool) -> Any:
    return await look(run, draft, noting=True)


def verify_as_if_nobody_approved(run: Run, seen: Any, changes: Any, **_how: bool) -> Any:
    return verified(run, seen, changes)


async def none_waits(*_: object) -> dict[int, float]:
    return {}


async def nothing_there(*_: object) -> dict[int, Any]:
    return {}


SWITCHES = [
    rule(
        "A listing that is not proved complete ends the run.",
        Name("syncd.engine.link:HeldLease.iterate", half_a_listing_will_do),
        "listing-is-incomplete",
    ),
    # ------------------------------------------------------------------ what seems gone
    rule(
        "No row is removed before its order was asked for in the CRM.",
        Name(f"{VERIFY}:_removals_from_table", nothing),
        "listing-leaves-out-an-order",
    ),
    rule(
        "No order is unbound before its row was looked for, whatever `where` selects.",
        Name(f"{VERIFY}:_removals_from_crm", nothing),
        "deselected-row-is-no-removal",
    ),
    rule(
        "No row is written beside one that `where` does not select.",
        Name(f"{VERIFY}:_additions_to_table", nothing),
        "deselected-row-is-not-written-beside",
    ),
    rule(
        "A row that `where` does not select, or that became unreadable, is held, not taken for absent.",
        Silent(f"{VERIFY}:hold_if_present"),
        "deselected-row-is-no-removal",
        specification(
            on_second_looks.test_given_a_row_that_becomes_unreadable_after_the_snapshot_then_the_order_is_held
        ),
    ),
    # ---------------------------------------------------------------------------- absences
    rule(
        "A second look is worth something only a while later.",
        Name(f"{LOOK}:SECOND_LOOK_AFTER", 0.0),
        "many-absences-wait-for-a-second-look-on-either-side",
    ),
    rule(
        "A refused plan's absences are looked at as well.",
        Name(f"{LOOK}:SecondLook.keep", nothing),
        specification(
            on_refused.test_given_a_refused_plan_that_was_looked_at_twice_then_what_is_allowed_of_it_later_does_not_wait
        ),
    ),
    rule(
        "What a person decided does not wait.",
        Name("syncd.core.model:DECIDED", frozenset()),
        specification(on_absence.test_given_decided_removes_then_they_do_not_wait),
    ),
    rule(
        "A row that goes with a write of syncd's, in a table that hides what a write does, is no removal.",
        Name(f"{VERIFY}:_hold_own_effects", nothing_of_it),
        "a-row-that-goes-with-a-write-of-syncd-is-held",
    ),
    rule(
        "A row that goes after a reading that followed syncd's last write is a removal.",
        Name(f"{VERIFY}:_last_run_that_wrote", just_now),
        "a-row-that-goes-after-a-quiet-pass-is-a-removal",
    ),
    rule(
        "A mere plan notes no absences.",
        Name("syncd.engine.run:Run.second_look", look_and_note),
        specification(on_absence.test_given_a_plan_then_it_shows_what_waits_and_its_application_does_it_at_once),
    ),
    rule(
        "While a row has no readable order id, no absent order is gone.",
        Name("syncd.core.diff:Differ._may_be_there", lambda _differ, _order, _facts: False),
        "rows-without-an-order-are-perhaps-any-order",
    ),
    # ---------------------------------------------------------------------------- owners
    rule(
        "An owner that is missing makes a hold.",
        Silent(f"{VERIFY}:_owners"),
        "owner-missing-is-held",
    ),
    rule(
        "Owners that orders are bound to bear witness whether owners can be seen.",
        Name(f"{OBSERVE}:_remember_witnesses", lambda *_args: None),
        specification(on_holds.test_given_owners_that_orders_are_bound_to_now_then_they_bear_witness),
    ),
    # ------------------------------------------------------------- failures and flapping
    rule(
        "An order that was refused waits before it is tried again.",
        Name(f"{VERIFY}:_pauses", lambda *_args: None),
        "refused-order-waits-and-stops-nobody",
    ),
    rule(
        "A clock that was set back makes no order wait longer.",
        Name("syncd.core.pacing:LONGEST_PAUSE", 10.0**9),
        "a-clock-set-back-makes-no-order-wait-longer",
    ),
    rule(
        "An approved plan waits for no order that failed.",
        Name("syncd.engine.run:Run.verified", verify_as_if_nobody_approved),
        "an-approved-plan-does-not-wait-for-an-order-that-failed",
    ),
    rule(
        "A write that somebody undoes again and again is held.",
        Name(f"{VERIFY}:_compare_with_history", nothing),
        "flapping-is-held",
    ),
    rule("Three times is again and again.", Name(f"{VERIFY}:FLAPPING_AFTER", 10), "flapping-is-held"),
    rule(
        "What is days apart is not flapping.",
        Name(f"{VERIFY}:FLAPPING_WITHIN", 10.0**9),
        "writes-a-day-apart-are-no-flapping",
    ),
    # ---------------------------------------------------------------- what is remembered
    rule(
        "Each order is looked at once, however the sides are cut (and no end is agreed that was not asked for).",
        Together(
            Name(f"{OBSERVE}:_Segments._compare", compare_without_going_on),
            Name("syncd.engine.observation_record:_confirmed", all_of_them),
        ),
        Played("edits-on-both-sides", singly=True),
    ),
    rule(
        "A decision that nothing is left to do for ends its hold.",
        Name(f"{OBSERVE}:_ends_with_its_write", lambda stored, _changed: ends(stored, {stored.hold.order_id})),
        "a-decision-that-needs-no-write-ends-the-hold",
    ),
    # ------------------------------------------------------------------- what is agreed
    rule(
        "Many removes wait for a second look.",
        Name(f"{LOOK}:SecondLook.judge", none_waits),
        "many-absences-wait-for-a-second-look-on-either-side",
    ),
    rule(
        "What was looked at twice is removed.",
        Name(f"{LOOK}:SecondLook._note", nothing),
        "many-absences-wait-for-a-second-look-on-either-side",
    ),
    rule(
        "Where some are back, the others wait anew.",
        Name(f"{LOOK}:SecondLook._coming_back", lambda _look, _still: set()),
        specification(
            on_absence.test_given_a_table_that_is_loaded_row_by_row_then_nothing_is_removed_however_many_passes_see_it
        ),
    ),
    rule(
        "A clock that was set back makes no remove wait longer.",
        Name(f"{LOOK}:_not_later", lambda noted, _now: noted),
        specification(on_absence.test_given_a_clock_that_was_set_back_then_the_second_look_comes_all_the_same),
    ),
    rule(
        "A hold shows what stands there now.",
        Name("syncd.engine.observation_record:_is_another", lambda hold, before: hold.kind is not before.kind),
        "a-hold-shows-what-stands-there-now",
    ),
    rule(
        "Only what both sides had at one moment is agreed.",
        Name("syncd.engine.observation_record:_confirmed", all_of_them),
        "agreed-only-where-both-had-it",
    ),
    rule(
        "An end on both sides is agreed only if the CRM says so when asked.",
        Name("tests.fakes.portal:FakePortal.read", nothing_there),
        specification(
            on_second_looks.test_given_an_order_missing_from_both_sides_that_is_bound_after_all_then_its_end_is_not_agreed
        ),
    ),
    rule(
        "An end on both sides is agreed only if no row is left that `where` does not select.",
        Name("syncd.engine.observation_record:hold_if_present", lambda _draft, _change, _value: False),
        "deselected-row-and-unbound-order",
    ),
]
