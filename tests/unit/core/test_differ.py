"""What a segment comes to: changes, agreements, observations, holds, and the numbers of the plan."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from syncd.core.diff import Differ, Segment
from syncd.core.model import (
    Action,
    Change,
    Counts,
    Direction,
    Facts,
    Hold,
    HoldKind,
    OnConflict,
    Policy,
    Reason,
    Scope,
    Side,
    Unreadable,
)
from syncd.core.policy import decide
from syncd.core.records import BindingUpdate, StoredHold
from tests.unit.core.builders import DUPLICATE, INVALID, OWNERS, bindings, facts, hold, policy, rows, stored


@dataclass
class Sources:
    """Letters by order id for each source; `local` holds (CRM as last listed, agreed)."""

    crm: dict[int, str] = field(default_factory=dict)
    table: dict[int, str] = field(default_factory=dict)
    local: dict[int, tuple[str, str]] = field(default_factory=dict)
    unreadable: dict[int, Unreadable] = field(default_factory=dict)

    def feed(self, *holds: StoredHold, by: Policy | None = None, asked: tuple[int, ...] = ()) -> tuple[Segment, Differ]:
        differ = Differ(by or policy(), {one.hold.order_id: one for one in holds})
        segment = differ.feed(
            rows(self.crm), rows(self.table), bindings(self.local), self.unreadable, None, asked=asked
        )
        return segment, differ


def one(letters: str, listed: str | None = None, unreadable: Unreadable | None = None, order: int = 1) -> Sources:
    """Given C, T and A of one order, return the world that has only that; the CRM was last listed as it is."""
    crm, table, agreed = tuple(letters)
    local = {order: (crm if listed is None else listed, agreed)}
    return Sources({order: crm}, {order: table}, local, {order: unreadable} if unreadable else {})


def read(differ: Differ) -> Counts:
    """The counts, but for the bindings in scope."""
    return replace(differ.counts, crm_in_scope=0, table_in_scope=0)


def test_given_bindings_in_and_out_of_scope_then_those_in_scope_are_counted_on_each_side() -> None:
    world = Sources(
        {1: "X", 2: "Y", 3: "o", 4: "X", 2000: "X"},
        {1: "X", 3: "X", 4: "p", 5: "Z", 6: "Z", 2000: "X"},
        {1: ("X", "X")},
    )

    _, differ = world.feed()

    assert (differ.counts.crm_in_scope, differ.counts.table_in_scope) == (3, 4)


def test_given_orders_in_step_then_the_segment_is_empty_and_they_are_counted() -> None:
    world = Sources({1: "X", 2: "Y"}, {1: "X", 2: "Y"}, {1: ("X", "X"), 2: ("Y", "Y")})

    segment, differ = world.feed()

    assert segment == Segment()
    assert read(differ) == Counts(in_step=2, agreed=2, crm_rows=2, table_rows=2)


def test_given_that_only_the_listing_is_new_then_it_is_observed_and_the_order_is_in_step() -> None:
    segment, differ = one("XXX", listed="Y").feed()

    assert segment == Segment(observed=[BindingUpdate(1, OWNERS["X"], OWNERS["X"])])
    assert read(differ) == Counts(in_step=1, agreed=1, crm_rows=1, table_rows=1)


def test_given_several_orders_in_step_that_had_to_be_looked_at_then_each_is_counted() -> None:
    local = {1: ("Y", "X"), 2: ("Y", "X"), 3: ("X", "X"), 4: ("Y", "X")}
    world = Sources(dict.fromkeys(local, "X"), dict.fromkeys(local, "X"), local)

    segment, differ = world.feed()

    assert [update.order_id for update in segment.observed] == [1, 2, 4]
    assert read(differ) == Counts(in_step=4, agreed=4, crm_rows=4, table_rows=4)


def test_given_a_change_then_it_is_planned_and_the_crm_is_observed_while_the_agreed_state_stays() -> None:
    segment, differ = one("XYY", listed="Y").feed()

    assert segment == Segment(
        changes=[decide(1, facts("XYY"), policy())],  # type: ignore[list-item]
        observed=[BindingUpdate(1, OWNERS["X"], OWNERS["Y"])],
    )
    assert read(differ) == Counts(agreed=1, crm_rows=1, table_rows=1)


def test_given_a_change_on_the_table_then_nothing_new_is_observed() -> None:
    segment, _differ = one("XYX").feed()

    assert [change.side for change in segment.changes] == [Side.CRM]
    assert segment.observed == []


def test_given_equal_sides_then_one_update_carries_both_the_listing_and_the_agreement() -> None:
    segment, differ = one("XXY", listed="Y").feed()

    assert segment == Segment(
        agreements=[(decide(1, facts("XXY"), policy()), BindingUpdate(1, OWNERS["X"], OWNERS["X"]))]  # type: ignore[list-item]
    )
    assert read(differ) == Counts(in_step=1, agreed=1, crm_rows=1, table_rows=1)


def test_given_an_order_gone_from_both_sides_then_that_is_agreed_and_not_counted_in_step() -> None:
    segment, differ = one("--X", listed="X").feed()

    assert [update for _change, update in segment.agreements] == [BindingUpdate(1, None, None)]
    assert segment.observed == []
    assert read(differ) == Counts(agreed=1)


def test_given_an_order_nobody_knows_any_more_then_its_last_listing_is_forgotten() -> None:
    segment, differ = one("---", listed="X").feed()

    assert segment == Segment(observed=[BindingUpdate(1, None, None)])
    assert read(differ) == Counts()


def test_given_a_conflict_then_the_order_is_held_and_the_crm_observed() -> None:
    segment, differ = one("XYZ", listed="Z").feed()

    assert segment == Segment(
        holds=[(decide(1, facts("XYZ"), policy()), None)],  # type: ignore[list-item]
        observed=[BindingUpdate(1, OWNERS["X"], OWNERS["Z"])],
    )
    assert read(differ) == Counts(agreed=1, crm_rows=1, table_rows=1)


@pytest.mark.parametrize("unreadable", [INVALID, DUPLICATE], ids=["invalid", "duplicate"])
def test_given_unreadable_rows_then_the_order_is_held_and_they_count_as_a_row(unreadable: Unreadable) -> None:
    segment, differ = one("X-X", unreadable=unreadable).feed()

    assert [(one.kind, one.detail) for one, _stored in segment.holds] == [(unreadable.kind, unreadable.detail)]
    assert segment.changes == []
    assert read(differ) == Counts(agreed=1, crm_rows=1, table_rows=1)


def test_given_an_order_out_of_scope_on_one_side_only_then_it_is_left_alone_and_not_counted() -> None:
    segment, differ = Sources({1: "o"}, {2: "p"}, {1: ("o", "-")}).feed()

    assert segment == Segment()
    assert read(differ) == Counts(crm_rows=1, table_rows=1)


def test_given_orders_of_every_sort_then_each_is_counted_once() -> None:
    world = Sources(
        crm={1: "X", 2: "X", 3: "X", 4: "X", 5: "o", 6: "X", 7: "X", 10: "X"},
        table={1: "X", 2: "X", 3: "Y", 4: "X", 7: "Y", 8: "X"},
        local={1: ("X", "X"), 2: ("Y", "X"), 3: ("X", "Y"), 4: ("X", "-"), 6: ("X", "X"), 8: ("X", "X"), 9: ("X", "X"), 10: ("X", "X")},
        unreadable={10: INVALID, 11: DUPLICATE},
    )  # fmt: skip

    segment, differ = world.feed()

    assert [change.order_id for change in segment.changes] == [3, 6, 8]
    assert [change.order_id for change, _update in segment.agreements] == [4, 9]
    assert [held.order_id for held, _stored in segment.holds] == [7, 10, 11]
    assert [update.order_id for update in segment.observed] == [2, 5, 7, 8]
    assert read(differ) == Counts(in_step=3, agreed=7, crm_rows=8, table_rows=8)


def test_given_an_order_outside_the_range_then_nothing_is_observed_of_it() -> None:
    narrow = policy(scope=Scope(frozenset({2, 31}), 10, 20))

    segment, _differ = Sources({9: "X"}, {21: "Y"}, {9: ("Y", "-")}).feed(by=narrow)

    assert segment == Segment()


# ------------------------------------------------------------------------------------- segments


def test_counts_add_up_over_segments() -> None:
    differ = Differ(policy(), {})

    for order in (1, 2, 3):
        differ.feed(rows({order: "X"}), rows({order: "X"}), bindings({order: ("X", "X")}), {}, order)
    last = differ.feed([], rows({9: "X"}), [], {8: INVALID}, None)

    assert [change.order_id for change in last.changes] == [9]
    assert read(differ) == Counts(in_step=3, agreed=3, crm_rows=3, table_rows=5)


def test_held_orders_are_looked_up_in_their_own_segment_once() -> None:
    holds = {order: stored(hold("XYZ", order=order)) for order in (0, 5, 10, 30)}
    differ = Differ(policy(), holds)

    taken = {upto: differ.feed([], [], [], {}, upto).released for upto in (4, 5, 10, 29, None)}

    assert taken == {4: [], 5: [5], 10: [10], 29: [], None: [30]}


def test_after_the_last_segment_nothing_is_looked_up_again() -> None:
    differ = Differ(policy(), {5: stored(hold("XYZ", order=5))})
    differ.feed([], [], [], {}, None)

    assert differ.feed([], [], [], {}, None) == Segment()


def test_given_a_held_order_that_is_gone_everywhere_then_it_is_released_by_the_segment_it_belongs_to() -> None:
    differ = Differ(policy(), {order: stored(hold("XYZ", order=order)) for order in (5, 6, 50)})

    released = [differ.feed([], [], [], {}, upto).released for upto in (5, 20, None)]

    assert released == [[5], [6], [50]]


def test_facts_of_orders_that_were_asked_for_are_kept_whatever_is_decided() -> None:
    world = Sources({1: "X", 2: "X", 3: "X"}, {1: "X", 2: "Y"}, {1: ("X", "X"), 2: ("X", "X")}, {3: INVALID})

    segment, _differ = world.feed(asked=(1, 2, 3, 4))

    assert segment.facts == {1: facts("XXX"), 2: facts("XYX"), 3: facts("X--", INVALID), 4: facts("---")}


def test_facts_of_other_orders_are_not_kept() -> None:
    segment, _differ = one("XYX").feed(stored(hold("XYX"), sticky=True), asked=(2,))

    assert segment.facts == {2: facts("---")}


def test_asking_for_an_order_changes_neither_decisions_nor_numbers() -> None:
    world = Sources({1: "X", 2: "X"}, {1: "X", 2: "Y"}, {1: ("X", "X"), 2: ("X", "X")})
    plain, plain_differ = world.feed()

    asked, differ = world.feed(asked=(1, 2, 3))

    assert replace(asked, facts={}) == plain
    assert differ.counts == plain_differ.counts


# ------------------------------------------------------------------------------------- open holds


def test_given_a_conflict_that_is_held_already_then_the_hold_goes_on_with_the_stored_one() -> None:
    before = stored(hold("XYZ"))

    segment, _differ = one("XYZ").feed(before)

    assert segment.holds == [(decide(1, facts("XYZ"), policy()), before)]
    assert segment.released == []


def test_given_a_conflict_with_other_values_then_the_new_hold_follows_the_stored_one() -> None:
    before = stored(hold("XYZ"), "crm")

    segment, _differ = one("ZYX").feed(before)

    assert segment.holds == [(decide(1, facts("ZYX"), policy()), before)]


@pytest.mark.parametrize("sticky", [False, True])
@pytest.mark.parametrize("decision", ["", "crm", "table", "retry"])
def test_given_other_facts_then_a_hold_is_released_whatever_was_decided(decision: str, sticky: bool) -> None:
    segment, _differ = one("XYX").feed(stored(hold("XYZ"), decision, sticky=sticky))

    assert segment.released == [1]
    assert segment.changes == [decide(1, facts("XYX"), policy())]


def test_given_other_facts_that_are_in_step_then_the_hold_is_released_and_the_order_counted() -> None:
    segment, differ = one("XXX").feed(stored(hold("XYZ"), sticky=True))

    assert segment == Segment(released=[1])
    assert read(differ) == Counts(in_step=1, agreed=1, crm_rows=1, table_rows=1)


def test_given_unchanged_facts_then_a_sticky_hold_stays_as_it_is() -> None:
    before = stored(hold("XYY", HoldKind.FLAPPING), sticky=True)

    segment, differ = one("XYY", listed="Y").feed(before)

    assert segment == Segment(holds=[(before.hold, before)], observed=[BindingUpdate(1, OWNERS["X"], OWNERS["Y"])])
    assert read(differ) == Counts(agreed=1, crm_rows=1, table_rows=1)


def test_given_unchanged_facts_then_a_hold_that_is_not_sticky_is_decided_anew() -> None:
    segment, _differ = one("XYY").feed(stored(hold("XYY", HoldKind.OWNER_MISSING)))

    assert segment.changes == [decide(1, facts("XYY"), policy())]
    assert segment.released == [1]


def test_given_a_retry_then_a_sticky_hold_is_released_and_the_order_decided_anew() -> None:
    segment, _differ = one("XYY").feed(stored(hold("XYY", HoldKind.UNCERTAIN), "retry", sticky=True))

    assert segment.changes == [decide(1, facts("XYY"), policy())]
    assert segment.released == [1]
    assert segment.holds == []


def test_given_a_retry_of_a_conflict_then_it_is_held_again() -> None:
    before = stored(hold("XYZ"), "retry")

    segment, _differ = one("XYZ").feed(before)

    assert segment.holds == [(decide(1, facts("XYZ"), policy()), before)]
    assert segment.released == []


def test_given_a_lost_value_that_is_shown_then_the_hold_lasts_while_what_replaced_it_is_there() -> None:
    before = stored(hold("ZYX", seen="YYX"), sticky=True)

    assert one("YYX").feed(before)[0].holds == [(before.hold, before)]
    assert one("ZYX").feed(before)[0].released == []
    assert one("ZYX").feed(before)[0].holds == [(decide(1, facts("ZYX"), policy()), before)]


@pytest.mark.parametrize(("decision", "side", "reason"), [
    ("crm", Side.TABLE, Reason.RESOLVED_CRM), ("table", Side.CRM, Reason.RESOLVED_TABLE),
])  # fmt: skip
@pytest.mark.parametrize("sticky", [False, True])
def test_given_a_decision_then_it_is_carried_out_and_the_hold_released(
    decision: str, side: Side, reason: Reason, sticky: bool
) -> None:
    segment, differ = one("XYZ").feed(stored(hold("XYZ"), decision, sticky=sticky))

    assert [(change.side, change.reason) for change in segment.changes] == [(side, reason)]
    assert segment.released == [1]
    assert segment.holds == []
    assert read(differ) == Counts(agreed=1, crm_rows=1, table_rows=1)


def test_given_a_decision_for_what_replaced_a_lost_value_then_both_sides_agree_on_it() -> None:
    segment, differ = one("YYX", listed="Z").feed(stored(hold("ZYX", seen="YYX"), "table", sticky=True))

    assert [(change.action, update) for change, update in segment.agreements] == [
        (Action.AGREE, BindingUpdate(1, OWNERS["Y"], OWNERS["Y"]))
    ]
    assert segment.observed == []
    assert segment.released == [1]
    assert read(differ) == Counts(in_step=1, agreed=1, crm_rows=1, table_rows=1)


def test_given_a_decision_for_what_everything_says_already_then_the_order_is_in_step() -> None:
    segment, differ = one("XXX").feed(stored(hold("XZX", seen="XXX"), "crm", sticky=True))

    assert segment == Segment(released=[1])
    assert read(differ) == Counts(in_step=1, agreed=1, crm_rows=1, table_rows=1)


def test_given_a_decision_the_link_may_no_longer_carry_out_then_a_sticky_hold_stays() -> None:
    before = stored(hold("XYZ", HoldKind.UNCERTAIN), "table", sticky=True)

    segment, _differ = one("XYZ").feed(before, by=policy(Direction.CRM_TO_TABLE))

    assert segment == Segment(holds=[(before.hold, before)])


def test_given_a_decision_the_link_may_no_longer_carry_out_then_the_order_is_decided_anew() -> None:
    segment, _differ = one("XYZ").feed(stored(hold("XYZ"), "table"), by=policy(Direction.CRM_TO_TABLE))

    assert segment.changes == [decide(1, facts("XYZ"), policy(Direction.CRM_TO_TABLE))]
    assert segment.agreements == []


def test_given_a_decision_on_unreadable_rows_then_they_stay_held() -> None:
    broken = Hold(1, HoldKind.DUPLICATE_ROWS, facts("X-X", DUPLICATE), DUPLICATE.detail)

    segment, _differ = one("X-X", unreadable=DUPLICATE).feed(stored(broken, "crm"))

    assert [held for held, _stored in segment.holds] == [broken]
    assert segment.changes == []


def test_given_another_conflict_policy_then_a_held_conflict_is_decided_by_it() -> None:
    by = policy(on_conflict=OnConflict.TABLE)

    segment, _differ = one("XYZ").feed(stored(hold("XYZ")), by=by)

    assert segment.changes == [decide(1, facts("XYZ"), by)]
    assert segment.released == [1]


def test_a_hold_of_one_order_says_nothing_about_another() -> None:
    world = Sources({1: "X", 2: "X"}, {1: "Y", 2: "Y"}, {1: ("X", "Y"), 2: ("X", "Y")})

    segment, _differ = world.feed(stored(hold("XYY", HoldKind.FLAPPING), sticky=True))

    assert [change.order_id for change in segment.changes] == [2]
    assert [held.order_id for held, _stored in segment.holds] == [1]
    assert isinstance(segment.changes[0], Change)
    assert segment.changes[0].facts == Facts(OWNERS["X"], OWNERS["Y"], OWNERS["Y"])
