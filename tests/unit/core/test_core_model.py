"""The small judgements of the shared values."""

from __future__ import annotations

import pickle

import pytest

from syncd.core.model import Action, Change, Counts, Facts, Hold, HoldKind, Owner, Reason, Row, Scope, Side, SideCounts
from syncd.core.ports import Cancelled, Write
from tests.unit.core.builders import DUPLICATE, INVALID, OWNERS, facts, hold


def test_each_side_is_opposite_the_other() -> None:
    assert (Side.CRM.other, Side.TABLE.other) == (Side.TABLE, Side.CRM)


def test_a_row_names_its_owner_and_equals_a_plain_tuple() -> None:
    row = Row(5125, 2, 6933)

    assert row.owner == Owner(owner_type_id=2, owner_id=6933)
    assert row == (5125, 2, 6933)


@pytest.mark.parametrize(
    ("scope", "inside"),
    [
        (Scope(frozenset({2})), [1, 9, 10, 11, 19, 20, 21]),
        (Scope(frozenset({2}), first_order=10), [10, 11, 19, 20, 21]),
        (Scope(frozenset({2}), last_order=20), [1, 9, 10, 11, 19, 20]),
        (Scope(frozenset({2}), first_order=10, last_order=20), [10, 11, 19, 20]),
    ],
    ids=["open", "from", "to", "both"],
)
def test_a_range_includes_both_its_ends(scope: Scope, inside: list[int]) -> None:
    assert [order for order in (1, 9, 10, 11, 19, 20, 21) if scope.holds_order(order)] == inside


def test_an_owner_is_in_scope_by_its_type_alone() -> None:
    scope = Scope(frozenset({2, 31}))

    assert [kind for kind in (1, 2, 3, 31, 128) if scope.holds_owner(Owner(kind, 2))] == [2, 31]


def test_a_hold_lasts_while_the_facts_are_those_it_was_made_for() -> None:
    held = hold("XYZ")

    assert held.is_current(facts("XYZ"))
    assert not any(held.is_current(facts(other)) for other in ("YYZ", "XZZ", "XYX", "---"))


def test_a_hold_of_unreadable_rows_lasts_while_they_are_unreadable_in_the_same_way() -> None:
    held = Hold(5, HoldKind.INVALID_ROW, facts("X-X", INVALID), "")

    assert held.is_current(facts("X-X", INVALID))
    assert not held.is_current(facts("X-X", DUPLICATE))
    assert not held.is_current(facts("X-X"))
    assert not hold("X-X").is_current(facts("X-X", INVALID))
    assert not hold("X-X", seen="X-X").is_current(facts("X-X", DUPLICATE))


def test_a_hold_that_shows_a_lost_value_is_compared_with_what_was_there_instead() -> None:
    held = hold("ZYX", seen="YYX")

    assert held.is_current(facts("YYX"))
    assert not held.is_current(facts("ZYX"))


def test_counts_are_kept_by_side() -> None:
    counts = Counts(crm=SideCounts(1, 2, 4), table=SideCounts(8, 16, 32))

    assert (counts.of(Side.CRM).total, counts.of(Side.TABLE).total) == (7, 56)


def test_the_counts_of_two_runs_are_their_sums() -> None:
    assert SideCounts(1, 2, 4, 8).plus(SideCounts(16, 32, 64, 128)) == SideCounts(17, 34, 68, 136)


@pytest.mark.parametrize(
    ("before", "after", "action"),
    [("-", "X", Action.ADD), ("X", "Y", Action.MOVE), ("X", "-", Action.REMOVE)],
)
def test_a_conditional_write_is_called_after_what_it_does(before: str, after: str, action: Action) -> None:
    assert Write(1, OWNERS[before], OWNERS[after]).action is action


def test_a_stop_is_asked_for_once_and_says_by_whom() -> None:
    cancelled = Cancelled()
    assert (cancelled.is_set, cancelled.reason) == (False, "")

    cancelled.set("SIGTERM")

    assert (cancelled.is_set, cancelled.reason) == (True, "SIGTERM")


def test_given_a_change_when_it_is_pickled_then_every_field_comes_back() -> None:
    change = Change(
        5, Side.CRM, Action.MOVE, Owner(2, 10), Owner(2, 11), Reason.UNDO, Facts(Owner(2, 10), None, Owner(2, 9)),
        agreed_after=Owner(2, 12), hold_after=HoldKind.EDIT_EDIT,
    )  # fmt: skip

    assert pickle.loads(pickle.dumps(change)) == change


def test_given_an_uncertain_hold_then_it_is_made_for_what_it_shows_and_not_for_what_it_saw_first() -> None:
    held = Hold(5, HoldKind.UNCERTAIN, facts("ZYX"), "", seen=facts("YYX"))

    assert held.is_current(facts("ZYX"))
    assert not held.is_current(facts("YYX"))
