"""Complete readings, and second looks before a plan is a plan."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from syncd.engine.link import Tenure
from syncd.errors import IncompleteListing
from tests.simulation.switch import Line, Name, Played, Together, rule, specification
from tests.unit.engine import test_engine_holds as on_holds
from tests.unit.engine import test_engine_second_looks as on_second_looks
from tests.unit.engine.switches.of_decisions import nothing

OBSERVE, VERIFY, RUN = "syncd.engine.observe", "syncd.engine.verify", "syncd.engine.run"


async def half_a_listing_will_do(_held: Tenure, parts: AsyncIterator[Any]) -> AsyncIterator[Any]:
    try:
        async for part in parts:
            yield part
    except IncompleteListing:
        return


SWITCHES = [
    rule(
        "A listing that is not proved complete ends the run.",
        Name("syncd.engine.link:Tenure.through", half_a_listing_will_do),
        "listing-is-incomplete",
    ),
    # ------------------------------------------------------------------ what seems gone
    rule(
        "No row is removed before its order was asked for in the CRM.",
        Name(f"{VERIFY}:_removals_from_table", nothing),
        "listing-leaves-out-an-order",
    ),
    rule(
        "A listing that left out a bound order ends the run.",
        Line(f"{VERIFY}:_removals_from_table", "if owner == change.facts.agreed:", "if False:"),
        "listing-leaves-out-an-order",
    ),
    rule(
        "An order that is bound again keeps its row.",
        Line(f"{VERIFY}:_removals_from_table", "draft.wait(change,", "str("),
        "an-order-bound-again-keeps-its-row",
    ),
    rule(
        "No order is unbound before its row was looked for, whatever `where` selects.",
        Name(f"{VERIFY}:_removals_from_crm", nothing),
        "deselected-row-is-no-removal",
    ),
    rule(
        "An order whose row is back is not unbound.",
        Line(
            f"{VERIFY}:_removals_from_crm",
            "if value is not None and not unlike_absent(draft, change, value):",
            "if False:",
        ),
        "a-row-that-comes-back-is-no-removal",
    ),
    rule(
        "No row is written beside one that `where` does not select.",
        Name(f"{VERIFY}:_additions_to_table", nothing),
        "deselected-row-is-not-written-beside",
    ),
    rule(
        "A row that `where` does not select is held, not taken for absent.",
        Line(f"{VERIFY}:unlike_absent", "elif not value.selected:", "elif False:"),
        "deselected-row-is-no-removal",
    ),
    rule(
        "A row that became unreadable is held, not taken for absent.",
        Line(f"{VERIFY}:unlike_absent", "if value.unreadable is not None:", "if False:"),
        specification(
            on_second_looks.test_given_a_row_that_becomes_unreadable_after_the_snapshot_then_the_order_is_held
        ),
    ),
    rule(
        "An order that is held, or waits, is not written at all.",
        Line(f"{VERIFY}:Draft.settle", "if change.order_id not in out", "if True"),
        "owner-missing-is-held",
    ),
    # ---------------------------------------------------------------------------- owners
    rule(
        "No order is bound to an owner that does not exist.",
        Line(f"{VERIFY}:verify", "if link.verify_owners:", "if False:"),
        "owner-missing-is-held",
    ),
    rule(
        "Owners are not asked for where the link says so.",
        Line(f"{VERIFY}:verify", "if link.verify_owners:", "if True:"),
        specification(on_holds.test_given_a_link_that_does_not_verify_owners_then_none_is_asked_for),
    ),
    rule(
        "An owner that is missing makes a hold.",
        Line(f"{VERIFY}:_owners", "if change.after in missing:", "if False:"),
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
        Name(f"{VERIFY}:_failures", nothing),
        "refused-order-waits-and-stops-nobody",
    ),
    rule(
        "A clock that was set back makes no order wait longer.",
        Name(f"{VERIFY}:LONGEST_PAUSE", 10.0**9),
        "a-clock-set-back-makes-no-order-wait-longer",
    ),
    rule(
        "An order that a person decided does not wait.",
        Line(f"{VERIFY}:_failures", " and change.order_id not in decided", ""),
        "a-decision-stays-open-until-it-is-carried-out",
    ),
    rule(
        "An approved plan waits for no order that failed.",
        Line("syncd.engine.reconcile:apply", "approved=True", "approved=False"),
        "an-approved-plan-does-not-wait-for-an-order-that-failed",
    ),
    rule(
        "A write that somebody undoes again and again is held.",
        Name(f"{VERIFY}:_flapping", nothing),
        "flapping-is-held",
    ),
    rule("Three times is again and again.", Name(f"{VERIFY}:FLAPPING_AFTER", 10), "flapping-is-held"),
    rule(
        "What is days apart is not flapping.",
        Name(f"{VERIFY}:FLAPPING_WITHIN", 10.0**9),
        "writes-a-day-apart-are-no-flapping",
    ),
    rule(
        "A flapping order that a person decided is written.",
        Line(f"{VERIFY}:_flapping", " - decided", ""),
        specification(on_holds.test_given_a_flapping_order_when_nobody_undoes_it_any_more_then_a_person_decides_once),
    ),
    # ---------------------------------------------------------------- what is remembered
    rule(
        "Each order is looked at once, however the sides are cut (and no end is agreed that was not asked for).",
        Together(
            Line(f"{OBSERVE}:_Segments.feed", "if upto is not None:", "if False:"),
            Line(f"{RUN}:Run.record_observation", "await self._confirmed(pairs, draft)", "pairs"),
        ),
        Played("edits-on-both-sides", singly=True),
    ),
    rule(
        "A hold shows what stands there now.",
        Line(f"{RUN}:Run.record_observation", "or before.hold.facts != hold.facts", "or False"),
        "a-hold-shows-what-stands-there-now",
    ),
    rule(
        "A decision that nothing is left to do for ends its hold.",
        Line(f"{OBSERVE}:_Segments.feed", " and order_id in decided:", ":"),
        "a-decision-that-needs-no-write-ends-the-hold",
    ),
    # ------------------------------------------------------------------- what is agreed
    rule(
        "Only what both sides had at one moment is agreed.",
        Line(f"{RUN}:Run.record_observation", "await self._confirmed(pairs, draft)", "pairs"),
        "agreed-only-where-both-had-it",
    ),
    rule(
        "An end on both sides is agreed only if the CRM says so when asked.",
        Line(f"{RUN}:Run._confirmed", "if change.order_id in bound or", "if"),
        specification(
            on_second_looks.test_given_an_order_missing_from_both_sides_that_is_bound_after_all_then_its_end_is_not_agreed
        ),
    ),
    rule(
        "An end on both sides is agreed only if no row is left that `where` does not select.",
        Line(f"{RUN}:Run._confirmed", "unlike_absent(draft, change, value)", "False"),
        "deselected-row-and-unbound-order",
    ),
]
