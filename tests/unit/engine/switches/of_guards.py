"""Guards: each refuses a whole plan, on each side."""

from __future__ import annotations

from typing import Any

from syncd.core.model import Counts, Side
from syncd.core.records import GuardHit
from syncd.engine.reconcile import reconcile
from syncd.engine.state_check import StateAge
from tests.simulation.switch import Guard, Name, Silent, rule, specification
from tests.unit.engine import test_engine_guards as on_guards
from tests.unit.engine import test_engine_same_portal as on_portal
from tests.unit.engine import test_engine_state_age as on_age
from tests.unit.engine import test_engine_state_left as on_left
from tests.unit.engine.switches.of_decisions import nothing

GUARDS, RUN, ENGINE = "syncd.core.guards", "syncd.engine.run", "syncd.engine.reconcile"
STATE = "syncd.engine.state_check"

ON_EITHER_SIDE = {
    "max_removes": "many-removes-are-refused-on-either-side",
    "max_removes_percent": "removes-of-a-large-part-are-refused-on-either-side",
    "max_removes_small": "a-few-removes-of-a-small-link-are-free-and-more-are-refused",
    "max_removes_per_day": "removes-of-a-day-are-counted-on-either-side",
    "max_removes_percent_per_day": "removes-of-a-large-part-within-a-day-are-refused-on-either-side",
    "max_removes_small_per_day": "removes-of-a-small-link-are-counted-for-a-day-on-either-side",
    "max_moves": "many-moves-are-refused-on-either-side",
    "max_moves_percent": "moves-of-a-large-part-are-refused-on-either-side",
    "max_moves_small": "a-few-moves-of-a-small-link-are-free-and-more-are-refused",
    "max_moves_percent_per_day": "moves-of-a-large-part-within-a-day-are-refused-on-either-side",
    "max_moves_small_per_day": "moves-of-a-small-link-are-counted-for-a-day-on-either-side",
    "max_adds_small": "many-adds-to-a-small-link-are-refused-on-either-side",
    "max_reverts": "a-restored-side-is-refused",
    "max_adds_percent": "adds-of-a-large-part-are-refused-on-either-side",
}


LEFT_FOR = {
    "link": (on_left.another_name, on_left.first_name),
    "state database": (on_left.another_state, on_left.first_state),
}
"""How the ends of a link are synced by another one for a while, and then as before."""

trust = StateAge.trust


async def trust_while_removes_wait(age: StateAge) -> None:
    counts, age.row.counts = age.row.counts, Counts()
    await trust(age)
    age.row.counts = counts


async def yes(*_args: object) -> bool:
    return True


async def one(*_args: object) -> int:
    return 1


def no_hits(*_args: Any, **_more: Any) -> list[GuardHit]:
    return []


SWITCHES = [
    *(
        rule(f"{name} refuses what is too much for the {side.value} side.", Guard(name, side), caught_by)
        for name, caught_by in ON_EITHER_SIDE.items()
        for side in Side
    ),
    rule("A table that reads as empty is refused.", Guard("empty_side", Side.TABLE), "empty-table-is-refused"),
    rule("A portal that reads as empty is refused.", Guard("empty_side", Side.CRM), "empty-portal-is-refused"),
    rule(
        "A state database that knows less than was noted outside it writes nothing.",
        Name(f"{GUARDS}:state_older", no_hits),
        specification(on_age.test_given_an_older_state_then_it_stays_refused_however_many_runs_are_counted_up_again),
    ),
    *(
        rule(
            f"An agreed state whose ends another {what} went on with writes nothing.",
            Name(f"{STATE}:_begun_since", lambda *_: True),
            specification(
                on_left.test_given_ends_that_another_one_synced_then_the_old_state_overwrites_no_edit, *ways, reconcile
            ),
        )
        for what, ways in LEFT_FOR.items()
    ),
    rule(
        "An agreed state that was begun after the other one's last run is not older.",
        Name(f"{STATE}:_begun_since", lambda *_: False),
        specification(
            on_left.test_given_a_second_host_that_saw_the_former_state_only_then_the_new_one_is_not_refused_there
        ),
    ),
    rule(
        "A link that has agreed on nothing is not older than another one.",
        Name("tests.fakes.store:MemoryStore.agreed_count", one),
        specification(
            on_left.test_given_a_state_with_nothing_agreed_then_its_first_sync_is_not_refused, *LEFT_FOR["link"]
        ),
    ),
    rule(
        "A plan that was made before the state was older approves of nothing.",
        Name(f"{ENGINE}:_approves_of_state", lambda stored, _older: stored.covers is None),
        specification(
            on_left.test_given_a_plan_from_before_then_applying_it_says_nothing_about_the_state, *LEFT_FOR["link"]
        ),
    ),
    rule(
        "Two databases may round one moment differently.",
        Name(f"{GUARDS}:SAME_MOMENT", -1.0),
        specification(on_age.test_given_the_state_the_mark_was_made_with_then_nothing_is_refused),
    ),
    rule(
        "A first sync that would write asks a person.",
        Name(f"{GUARDS}:first_sync", no_hits),
        "first-sync-asks",
    ),
    rule(
        "A first sync that was cut off goes on as one.",
        Name("tests.fakes.store:MemoryStore.completed", yes),
        "a-first-sync-that-was-cut-off-goes-on-as-one",
    ),
    rule(
        "A link on which nothing is agreed is at its first sync.",
        Name("syncd.core.model:Counts.agreed_of_link", property(lambda _counts: 1)),
        "a-link-that-agreed-on-nothing-asks-still",
    ),
    rule(
        "Below twenty bindings, percentages do not hold.",
        Name(f"{GUARDS}:SMALL", 1),
        "a-small-link-may-grow-by-twenty-orders-a-run",
    ),
    rule(
        "Below twenty bindings, two moves are free.",
        Name(f"{GUARDS}:SMALL_MOVES", 1),
        "a-few-moves-of-a-small-link-are-free-and-more-are-refused",
    ),
    rule(
        "Below twenty bindings, twenty adds are free.",
        Name(f"{GUARDS}:SMALL_ADDS", 1),
        "a-small-link-may-grow-by-twenty-orders-a-run",
    ),
    rule(
        "Below twenty bindings, five removes a day are free.",
        Name(f"{GUARDS}:SMALL_REMOVES_PER_DAY", 3),
        "removes-of-a-small-link-are-counted-for-a-day-on-either-side",
    ),
    rule(
        "Below twenty bindings, five moves a day are free.",
        Name(f"{GUARDS}:SMALL_MOVES_PER_DAY", 3),
        "moves-of-a-small-link-are-counted-for-a-day-on-either-side",
    ),
    rule(
        "In a large link, one percent of the bindings may be put back.",
        Name(f"{GUARDS}:REVERTS_PERCENT", 0),
        specification(on_guards.test_given_a_large_link_then_one_percent_of_it_may_be_put_back),
    ),
    rule(
        "What syncd replaced counts as put back only for a week.",
        Name("syncd.engine.verify:REVERTS_WITHIN", 10.0**9),
        "a-restored-side-is-refused",
    ),
    rule(
        "It is a week before the order was covered last: a refused restore stays refused.",
        Name("syncd.core.order_ranges:Coverage.at_of", lambda _coverage, _order: 10.0**12),
        "a-restored-side-is-refused",
    ),
    rule(
        "What was replaced before a rebase is no flapping.",
        Name("syncd.core.records:Written.before_rebase", False),
        "the-same-write-to-other-ends-is-no-flapping",
    ),
    rule(
        "Below twenty bindings, two removes are free.",
        Name(f"{GUARDS}:SMALL_REMOVES", 1),
        "a-few-removes-of-a-small-link-are-free-and-more-are-refused",
    ),
    rule(
        "Removes are counted for a day, not for ever.",
        Name(f"{RUN}:DAY", 10.0**9),
        "removes-of-a-day-are-counted-on-either-side",
    ),
    rule(
        "A link whose ends are others than those it agreed on is refused.",
        Name(f"{RUN}:Run.fingerprint_matches", yes),
        "other-ends-are-not-touched",
    ),
    rule(
        "A portal whose bindings are not the agreed ones is not taken for the same one.",
        Name("syncd.engine.state_check:Comparison.is_alike", property(lambda _compared: True)),
        specification(
            on_portal.test_given_another_portals_bindings_when_a_person_says_it_is_the_same_then_nothing_changes, 30
        ),
    ),
    rule(
        "Where nothing can be compared, or more than the portal changed, nothing is renamed.",
        Silent(f"{ENGINE}:rename"),
        specification(on_portal.test_given_nothing_agreed_then_a_plain_rebase_is_named),
    ),
    rule(
        "A tenth of the agreed bindings may be gone from a portal that was renamed.",
        Name("syncd.engine.state_check:MOST_PERCENT", 100),
        specification(on_portal.test_given_bindings_that_are_gone_then_a_tenth_of_them_may_be, 4, 4),
    ),
    rule(
        "Where a portal was renamed, only few bindings may be gone whatever the percentage.",
        Name("syncd.engine.state_check:MOST_OF_FEW", 10),
        specification(on_portal.test_given_bindings_that_are_gone_then_a_tenth_of_them_may_be, 4, 4),
    ),
    rule(
        "A refused plan is not written.",
        Name(f"{GUARDS}:evaluate", no_hits),
        "guard-refuses-until-it-is-applied",
    ),
    rule(
        "A plan made by command is refused just as a pass is.",
        Name(f"{RUN}:Run.report_refused", lambda _run, _plan: None),
        specification(on_guards.test_given_a_plan_command_then_it_is_refused_just_as_a_pass_is),
    ),
    rule(
        "An older state is not taken for good while removes wait that it asks for.",
        Name("syncd.engine.state_check:StateAge.trust", trust_while_removes_wait),
        specification(on_age.test_given_an_older_state_and_absences_that_wait_then_it_is_not_taken_for_good),
    ),
    rule(
        "An undo that is applied approves of no older state.",
        Name("syncd.engine.state_check:StateAge.note_once", StateAge.note),
        specification(on_age.test_given_an_older_state_then_applying_an_undo_says_nothing_about_the_other_orders),
    ),
    rule(
        "An older state whose plan writes nothing is taken for good.",
        Name("syncd.engine.state_check:StateAge.trust", nothing),
        specification(on_age.test_given_an_older_state_and_both_sides_alike_then_it_is_taken_for_good),
    ),
]
