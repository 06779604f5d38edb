"""Passes over some orders: what they leave alone, and what they may not do between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from syncd.core.model import Side
from syncd.core.order_ranges import OrderRange, OrderRanges
from syncd.engine.observe import Observation
from syncd.engine.run import DAY
from tests.fakes.store import MemoryStore
from tests.simulation.switch import Name, Silent, rule, specification
from tests.unit.engine import test_engine_portions as on_portions
from tests.unit.engine import test_engine_rotation as on_rotation

OBSERVE, RUN, LOOK = "syncd.engine.observe", "syncd.engine.run", "syncd.engine.second_look"
COVERING = "syncd.engine.covering"

restrict, absence_counts = Observation.restrict, MemoryStore.absence_counts


def with_all_holds(seen: Observation, covers: OrderRanges, unproved: Mapping[OrderRange, str]) -> None:
    holds = seen.open_holds
    restrict(seen, covers, unproved)
    seen.open_holds = holds


async def none_elsewhere(_look: object) -> Counter[Side]:
    return Counter()


async def of_all_orders(store: MemoryStore, link_id: int, _ranges: object = None) -> dict[Side, tuple[int, float]]:
    return await absence_counts(store, link_id)


def with_what_was_not_proved(seen: Observation, _covers: object, unproved: Mapping[OrderRange, str]) -> None:
    assert seen.covers is not None
    restrict(seen, seen.covers, unproved)


async def some_are_there(*_args: object) -> bool:
    return True


SWITCHES = [
    rule(
        "A hold of an order that is not covered stays.",
        Name(f"{OBSERVE}:Observation.restrict", with_all_holds),
        specification(
            on_portions.test_given_a_hold_elsewhere_then_it_stays_as_it_is_and_one_that_is_named_is_looked_at
        ),
    ),
    rule(
        "What a range that could not be proved holds is left alone.",
        Name(f"{OBSERVE}:Observation.restrict", with_what_was_not_proved),
        specification(on_portions.test_given_a_range_that_cannot_be_proved_then_it_is_named_and_costs_itself_only),
    ),
    rule(
        "What was written in parts counts with what is planned.",
        Name("syncd.core.guards:_with_parts", lambda planned, _parts: planned),
        specification(
            on_portions.test_given_removes_in_parts_when_a_pass_over_more_follows_then_they_count_in_it, "10,20"
        ),
    ),
    rule(
        "What was written in parts before all orders were covered counts no longer.",
        Name(f"{RUN}:Run._in_parts_since", lambda run: run.link.clock.now() - DAY),
        specification(on_portions.test_given_a_pass_over_all_since_then_what_was_done_in_parts_before_no_longer_counts),
    ),
    rule(
        "A range of which a side shows no agreed order makes the side empty.",
        Name(f"{OBSERVE}:RangeCounts.shows_none", lambda _counts, _side: False),
        specification(
            on_portions.test_given_a_range_whose_agreed_orders_a_side_no_longer_shows_then_the_plan_is_refused,
            Side.TABLE,
        ),
    ),
    rule(
        "Of a few orders that a side does not show, others tell whether it is empty.",
        Name(f"{COVERING}:_shows_any", some_are_there),
        specification(
            on_portions.test_given_a_few_orders_that_are_gone_then_others_tell_whether_the_side_is_empty, Side.CRM
        ),
    ),
    rule(
        "A plan over some orders does not approve of an older state.",
        Name("syncd.engine.reconcile:_approves_of_state", lambda _stored, _older: True),
        specification(on_portions.test_given_an_older_state_then_a_plan_over_some_orders_does_not_approve_of_it),
    ),
    rule(
        "Orders that were named, and of which none is in range, are told.",
        Silent("syncd.engine.covering:require_inside"),
        specification(on_portions.test_given_orders_out_of_the_links_range_then_they_are_left_out_or_refused),
    ),
    rule(
        "What was written within a day is looked after by passes over the newest.",
        Name(f"{COVERING}:DAY", 0),
        specification(
            on_portions.test_given_a_pass_over_the_newest_then_it_covers_these_and_all_that_something_goes_on_with
        ),
    ),
    rule(
        "Absences that wait elsewhere, and removes made in parts, count with those found.",
        Name(f"{LOOK}:SecondLook._elsewhere", none_elsewhere),
        specification(
            on_portions.test_given_a_table_that_is_loaded_anew_when_hints_name_its_orders_one_by_one_then_most_of_them_wait
        ),
    ),
    rule(
        "A reading says nothing of absences that it does not cover.",
        Name("tests.fakes.store:MemoryStore.absence_counts", of_all_orders),
        specification(
            on_portions.test_given_absences_noted_elsewhere_then_a_pass_that_does_not_cover_them_leaves_them_waiting
        ),
    ),
    rule(
        "A clock that was set back makes no slice wait longer.",
        Name("syncd.core.order_ranges:SKEW", 10.0**9),
        specification(
            on_rotation.test_given_a_clock_that_was_set_back_when_rotating_then_no_slice_waits_until_it_is_that_time_again
        ),
    ),
]
