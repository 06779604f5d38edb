"""An uncertain order is held for as long as it matters what became of the write whose answer was lost."""

from __future__ import annotations

import pytest

from syncd.core.diff import Differ, Segment, in_doubt
from syncd.core.model import HoldKind, OnConflict, Policy, Side
from syncd.core.records import StoredHold
from tests.unit.core.builders import INVALID, OWNERS, bindings, facts, hold, policy, rows, stored


def doubted(
    then: str,
    now: str,
    *,
    seen: str = "",
    on_conflict: OnConflict = OnConflict.HOLD,
    kind: HoldKind = HoldKind.UNCERTAIN,
) -> bool:
    return in_doubt(hold(then, kind, seen=seen or then), facts(now), policy(on_conflict=on_conflict))


@pytest.mark.parametrize(
    "now",
    ["oYX", "-YX", "XYX", "Z-X", "ZXX", "YZX", "Y-X", "-XX", "oZX"],
)
def test_given_two_stories_that_lead_to_different_ends_then_the_order_stays_held(now: str) -> None:
    """`ZYX`: X was agreed, the table says Y, and Z stands in the CRM where Y was written, or was not."""
    assert doubted("ZYX", now)


@pytest.mark.parametrize("now", ["YYX", "--X", "ooX", "XXX", "ZZX"])
def test_given_sides_that_are_equal_then_nothing_is_in_doubt(now: str) -> None:
    assert not doubted("ZYX", now)


def test_given_equal_sides_but_rows_that_cannot_be_read_then_it_is_still_in_doubt() -> None:
    assert in_doubt(hold("ZYX", HoldKind.UNCERTAIN, seen="ZYX"), facts("--X", INVALID), policy())


def test_given_another_agreed_state_then_the_stories_are_over() -> None:
    assert not doubted("ZYX", "oYY")


def test_given_a_write_that_was_refused_then_there_is_but_one_story() -> None:
    assert not in_doubt(hold("ZYX", HoldKind.UNCERTAIN), facts("-YX"), policy())


def test_given_an_order_that_was_never_agreed_and_is_unbound_now_then_it_is_in_doubt() -> None:
    assert doubted("-Y-", "ZY-", on_conflict=OnConflict.TABLE)


def test_given_a_hold_of_another_kind_then_nothing_is_uncertain() -> None:
    assert not doubted("ZYX", "-YX", kind=HoldKind.EDIT_EDIT)


@pytest.mark.parametrize(
    ("on_conflict", "now", "still"),
    [
        (OnConflict.TABLE, "Z-X", False),
        (OnConflict.TABLE, "-YX", True),
        (OnConflict.CRM, "-YX", False),
        (OnConflict.CRM, "Z-X", True),
    ],
)
def test_given_a_side_that_wins_then_it_is_over_once_both_stories_lead_to_the_same_write(
    on_conflict: OnConflict, now: str, still: bool
) -> None:
    assert doubted("ZYX", now, on_conflict=on_conflict) is still


def test_given_an_uncertain_order_that_moved_again_then_its_first_facts_tell_the_stories() -> None:
    assert doubted("-YX", "Z-X", seen="ZYX", on_conflict=OnConflict.CRM)
    assert not doubted("-YX", "Z-X", seen="XXX", on_conflict=OnConflict.CRM)


def fed(letters: str, uncertain: StoredHold, by: Policy | None = None) -> Segment:
    crm, table, agreed = tuple(letters)
    differ = Differ(by or policy(), {1: uncertain})
    return differ.feed(rows({1: crm}), rows({1: table}), bindings({1: (crm, agreed)}), {}, None)


def test_given_an_uncertain_order_that_moved_then_it_is_held_as_it_is_today_and_what_was_decided_is_void() -> None:
    uncertain = stored(hold("ZYX", HoldKind.UNCERTAIN, seen="ZYX"), "crm", sticky=True)

    segment = fed("-YX", uncertain)

    assert segment.holds == [(hold("-YX", HoldKind.UNCERTAIN, seen="ZYX"), uncertain)]
    assert not segment.changes


def test_given_an_uncertain_order_that_moves_twice_then_it_remembers_how_it_began() -> None:
    segment = fed("oYX", stored(hold("-YX", HoldKind.UNCERTAIN, seen="ZYX"), sticky=True))

    assert [one.seen for one, _ in segment.holds] == [facts("ZYX")]


def test_given_an_uncertain_order_shown_as_it_is_today_then_it_can_be_decided() -> None:
    segment = fed("-YX", stored(hold("-YX", HoldKind.UNCERTAIN, seen="ZYX"), "table", sticky=True))

    assert [(one.side, one.after) for one in segment.changes] == [(Side.CRM, OWNERS["Y"])]


def test_given_both_stories_lead_to_the_same_write_then_it_is_made() -> None:
    segment = fed(
        "-YX", stored(hold("ZYX", HoldKind.UNCERTAIN, seen="ZYX"), sticky=True), policy(on_conflict=OnConflict.CRM)
    )

    assert [(one.side, one.after) for one in segment.changes] == [(Side.TABLE, None)]
    assert segment.released == [1]
