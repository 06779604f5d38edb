"""Undoing a run: each order goes back to what the run found, or is not touched."""

from __future__ import annotations

import pytest

from syncd.core.diff import resolve
from syncd.core.model import Action, Change, Direction, HoldKind, OnConflict, Outcome, Reason, Side
from syncd.core.plan import reverse
from syncd.core.policy import decide
from syncd.core.records import StoredChange
from tests.unit.core.builders import OWNERS, facts, hold, policy


def planned(letters: str, *, order: int = 1, direction: Direction = Direction.TWO_WAY) -> Change:
    """Given the letters of C, T and A, return the change that is planned for them."""
    change = decide(order, facts(letters), policy(direction, OnConflict.CRM))
    assert isinstance(change, Change)
    return change


def done(change: Change, outcome: Outcome = Outcome.APPLIED, found: str = "") -> StoredChange:
    """Given a change, return it as the audit keeps it; found is the letter of what was really there."""
    return StoredChange(1, 7, change, outcome, at=5.0, found=OWNERS[found] if found else None, found_known=bool(found))


def test_given_a_copied_binding_then_it_is_removed_again_and_the_order_held() -> None:
    assert list(reverse([done(planned("X--"))])) == [
        Change(
            order_id=1,
            side=Side.TABLE,
            action=Action.REMOVE,
            before=OWNERS["X"],
            after=None,
            reason=Reason.UNDO,
            facts=facts("XXX"),
            agreed_after=None,
            hold_after=HoldKind.EDIT_REMOVE,
        )
    ]


def test_given_a_replaced_owner_then_the_old_one_returns_and_the_order_is_held() -> None:
    assert list(reverse([done(planned("XYX"))])) == [
        Change(
            order_id=1,
            side=Side.CRM,
            action=Action.MOVE,
            before=OWNERS["Y"],
            after=OWNERS["X"],
            reason=Reason.UNDO,
            facts=facts("YYY"),
            agreed_after=OWNERS["X"],
            hold_after=HoldKind.EDIT_EDIT,
        )
    ]


def test_given_a_removed_binding_then_it_is_added_again_and_the_order_held() -> None:
    assert list(reverse([done(planned("-XX"))])) == [
        Change(
            order_id=1,
            side=Side.TABLE,
            action=Action.ADD,
            before=None,
            after=OWNERS["X"],
            reason=Reason.UNDO,
            facts=facts("---"),
            agreed_after=OWNERS["X"],
            hold_after=HoldKind.REMOVE_EDIT,
        )
    ]


@pytest.mark.parametrize("outcome", [one for one in Outcome if one is not Outcome.APPLIED])
def test_what_the_run_did_not_write_is_not_undone(outcome: Outcome) -> None:
    assert list(reverse([done(planned("X--"), outcome)])) == []


def test_an_agreement_wrote_nothing_and_is_not_undone() -> None:
    assert list(reverse([done(planned("XX-"))])) == []


def test_given_that_the_wanted_value_was_there_already_then_there_is_nothing_to_put_back() -> None:
    assert list(reverse([done(planned("X--"), found="X")])) == []


def test_given_that_what_was_expected_was_found_then_the_agreed_state_had_moved() -> None:
    [undone] = reverse([done(planned("XYY"), found="Y")])

    assert (undone.before, undone.after, undone.facts) == (OWNERS["X"], OWNERS["Y"], facts("XXX"))


def test_given_a_value_that_a_race_overwrote_then_that_value_returns() -> None:
    assert list(reverse([done(planned("XYX"), found="Z")])) == [
        Change(
            order_id=1,
            side=Side.CRM,
            action=Action.MOVE,
            before=OWNERS["Y"],
            after=OWNERS["Z"],
            reason=Reason.UNDO,
            facts=facts("YYY"),
            agreed_after=OWNERS["X"],
            hold_after=HoldKind.EDIT_EDIT,
        )
    ]


def test_given_that_nothing_was_found_where_an_owner_was_expected_then_the_order_is_unbound_again() -> None:
    change = done(planned("XYX"))
    emptied = StoredChange(change.id, change.run, change.change, change.outcome, found=None, found_known=True)

    [undone] = reverse([emptied])

    assert (undone.action, undone.after, undone.facts) == (Action.REMOVE, None, facts("YYY"))


def both(found_crm: str = "", found_table: str = "", *, outcomes: tuple[Outcome, Outcome]) -> list[StoredChange]:
    """The two writes of a decided hold: Z was overwritten by Y in the CRM, and a person kept Z."""
    held = hold("ZYX", seen="YYX")
    crm, table = resolve(held, facts("YYX"), Side.CRM, policy())
    return [done(crm, outcomes[0], found_crm), done(table, outcomes[1], found_table)]


def test_given_an_order_written_on_both_sides_then_both_go_back_and_expect_what_both_writes_left() -> None:
    undone = list(reverse(both(outcomes=(Outcome.APPLIED, Outcome.APPLIED))))

    assert [(one.side, one.before, one.after) for one in undone] == [
        (Side.CRM, OWNERS["Z"], OWNERS["Y"]),
        (Side.TABLE, OWNERS["Z"], OWNERS["Y"]),
    ]
    assert {one.facts for one in undone} == {facts("ZZZ")}
    assert {(one.agreed_after, one.hold_after) for one in undone} == {(OWNERS["X"], None)}


def test_given_that_one_of_two_writes_failed_then_the_other_goes_back_and_nothing_had_been_agreed() -> None:
    [undone] = reverse(both(outcomes=(Outcome.FAILED, Outcome.APPLIED)))

    assert (undone.side, undone.before, undone.after) == (Side.TABLE, OWNERS["Z"], OWNERS["Y"])
    assert undone.facts == facts("YZX")


def test_given_that_one_of_two_values_was_there_already_then_only_the_other_goes_back() -> None:
    [undone] = reverse(both(outcomes=(Outcome.ALREADY, Outcome.APPLIED)))

    assert (undone.side, undone.before, undone.after) == (Side.TABLE, OWNERS["Z"], OWNERS["Y"])
    assert undone.facts == facts("ZZZ")
    assert undone.hold_after is HoldKind.EDIT_EDIT


def test_given_several_orders_then_they_are_undone_in_order_of_order_id_wherever_they_stand() -> None:
    changes = [done(planned("X--", order=9)), done(planned("-Y-", order=3)), done(planned("XYY", order=5))]

    undone = list(reverse(changes))

    assert [(one.order_id, one.side, one.action) for one in undone] == [
        (3, Side.CRM, Action.REMOVE),
        (5, Side.TABLE, Action.MOVE),
        (9, Side.TABLE, Action.REMOVE),
    ]


@pytest.mark.parametrize(
    ("letters", "direction"),
    [("X-X", Direction.CRM_TO_TABLE), ("XYX", Direction.CRM_TO_TABLE), ("XYX", Direction.TABLE_TO_CRM)],
)
def test_given_a_one_way_link_then_its_writes_are_undone_alike(letters: str, direction: Direction) -> None:
    change = planned(letters, direction=direction)

    [undone] = reverse([done(change)])

    assert (undone.side, undone.before, undone.after) == (change.side, change.after, change.before)
    assert undone.agreed_after == change.facts.agreed


def test_given_that_the_order_was_undone_then_reversing_the_undo_does_the_change_again() -> None:
    [undone] = reverse([done(planned("XYX"))])

    [again] = reverse([done(undone)])

    assert (again.side, again.before, again.after, again.facts) == (
        Side.CRM, OWNERS["X"], OWNERS["Y"], facts("XYX"),
    )  # fmt: skip
    assert (again.agreed_after, again.hold_after) == (OWNERS["Y"], None)
