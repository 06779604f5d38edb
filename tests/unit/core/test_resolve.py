"""What a person's decision on a hold comes to, and when it cannot be carried out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from inline_snapshot import snapshot

from syncd.core.diff import resolvable, resolve
from syncd.core.model import Action, Change, Direction, Hold, HoldKind, Policy, Reason, Side
from syncd.core.policy import NoAction, decide, make_change
from tests.unit.core.builders import INVALID, OWNERS, facts, hold, policy

TO_TABLE = policy(Direction.CRM_TO_TABLE)
TO_CRM = policy(Direction.TABLE_TO_CRM)


def test_given_that_the_crm_is_kept_then_the_table_gets_its_value() -> None:
    assert list(resolve(hold("XYZ"), facts("XYZ"), Side.CRM, policy())) == [
        make_change(1, Side.TABLE, facts("XYZ"), OWNERS["X"], Reason.RESOLVED_CRM)
    ]


def test_given_that_the_table_is_kept_then_the_crm_gets_its_value() -> None:
    assert list(resolve(hold("XYZ"), facts("XYZ"), Side.TABLE, policy())) == [
        make_change(1, Side.CRM, facts("XYZ"), OWNERS["Y"], Reason.RESOLVED_TABLE)
    ]


def test_given_that_an_absent_value_is_kept_then_the_other_side_loses_its_own() -> None:
    [change] = resolve(hold("X-Z"), facts("X-Z"), Side.TABLE, policy())

    assert (change.side, change.action, change.before, change.after) == (Side.CRM, Action.REMOVE, OWNERS["X"], None)


def test_given_that_a_lost_value_is_kept_then_both_sides_get_it() -> None:
    assert list(resolve(hold("ZYX", seen="YYX"), facts("YYX"), Side.CRM, policy())) == [
        make_change(1, Side.CRM, facts("YYX"), OWNERS["Z"], Reason.RESOLVED_CRM),
        make_change(1, Side.TABLE, facts("YYX"), OWNERS["Z"], Reason.RESOLVED_CRM),
    ]


def test_given_that_both_sides_have_the_kept_value_then_they_agree_on_it() -> None:
    assert list(resolve(hold("ZYX", seen="YYX"), facts("YYX"), Side.TABLE, policy())) == [
        Change(
            1,
            None,
            Action.AGREE,
            OWNERS["X"],
            OWNERS["Y"],
            Reason.RESOLVED_TABLE,
            facts("YYX"),
            agreed_after=OWNERS["Y"],
        )
    ]


def test_given_that_everything_has_the_kept_value_then_nothing_is_to_be_done() -> None:
    assert list(resolve(hold("XZX", seen="XXX"), facts("XXX"), Side.CRM, policy())) == []


@pytest.mark.parametrize(
    ("by", "keep", "written"),
    [(TO_TABLE, Side.CRM, [Side.TABLE]), (TO_TABLE, Side.TABLE, []), (TO_CRM, Side.CRM, []), (TO_CRM, Side.TABLE, [Side.CRM])],
    ids=["to-table/crm", "to-table/table", "to-crm/crm", "to-crm/table"],
)  # fmt: skip
def test_given_a_one_way_link_then_its_source_is_never_written_nor_agreed_alone(
    by: Any, keep: Side, written: Any
) -> None:
    assert [change.side for change in resolve(hold("XYZ"), facts("XYZ"), keep, by)] == written
    assert [change.side for change in resolve(hold("XY-"), facts("XY-"), keep, by)] == written


@pytest.mark.parametrize("keep", list(Side), ids=str)
@pytest.mark.parametrize(("letters", "seen"), [("XYZ", ""), ("X-Y", ""), ("-XY", ""), ("XY-", ""), ("ZYX", "YYX")])
def test_a_two_way_link_can_carry_out_either_decision(letters: str, seen: str, keep: Side) -> None:
    assert resolvable(hold(letters, seen=seen), keep, policy()) == ""


@pytest.mark.parametrize(("by", "source"), [(TO_TABLE, Side.CRM), (TO_CRM, Side.TABLE)], ids=["to-table", "to-crm"])
def test_a_one_way_link_can_only_keep_what_its_source_says(by: Any, source: Side) -> None:
    assert resolvable(hold("XY-"), source, by) == ""
    assert resolvable(hold("XY-"), source.other, by) != ""


@pytest.mark.parametrize(
    ("by", "keep", "letters"), [(TO_TABLE, Side.CRM, "ZYX"), (TO_CRM, Side.TABLE, "YZX")], ids=["to-table", "to-crm"]
)
def test_a_one_way_link_cannot_keep_a_value_its_source_has_lost(by: Any, keep: Side, letters: str) -> None:
    held = hold(letters, seen="YYX")

    assert resolvable(held, keep, by) != ""
    assert resolvable(held, keep.other, by) == ""


def test_a_value_out_of_scope_cannot_be_kept_but_can_be_replaced() -> None:
    held = hold("oXX", HoldKind.OUT_OF_SCOPE)

    assert resolvable(held, Side.CRM, policy()) != ""
    assert resolvable(held, Side.TABLE, policy()) == ""
    assert resolvable(hold("XoX"), Side.TABLE, policy()) != ""


@pytest.mark.parametrize(("letters", "keep"), [("o-X", Side.CRM), ("-oX", Side.TABLE)])
@pytest.mark.parametrize("by", [policy(), TO_TABLE, TO_CRM], ids=lambda by: by.direction.value)
def test_an_order_that_left_the_scope_and_is_gone_from_the_other_side_can_be_let_go(
    letters: str, keep: Side, by: Policy
) -> None:
    held = hold(letters, HoldKind.OUT_OF_SCOPE)

    assert resolvable(held, keep, by) == ""
    (change,) = resolve(held, facts(letters), keep, by)
    assert (change.side, change.before, change.after, change.agreed_after) == (None, OWNERS["X"], None, None)
    assert decide(1, facts(letters)._replace(agreed=None), by) is NoAction.LEFT_ALONE


@pytest.mark.parametrize(("letters", "keep"), [("oXX", Side.CRM), ("XoX", Side.TABLE), ("ooX", Side.CRM)])
def test_an_order_that_the_other_side_still_binds_is_not_let_go(letters: str, keep: Side) -> None:
    assert "outside this link's owner_types" in resolvable(hold(letters, HoldKind.OUT_OF_SCOPE), keep, policy())


def test_an_absent_value_can_be_kept() -> None:
    assert resolvable(hold("o-X", HoldKind.OUT_OF_SCOPE), Side.TABLE, policy()) == ""


def test_unreadable_rows_can_only_be_mended() -> None:
    shown = Hold(1, HoldKind.INVALID_ROW, facts("X-X", INVALID), INVALID.detail)
    broken_since = replace(hold("XYX"), seen=facts("X-X", INVALID))
    mended_since = replace(shown, seen=facts("XXX"))

    for held in (shown, broken_since, mended_since):
        assert all(resolvable(held, keep, by) for keep in Side for by in (policy(), TO_TABLE, TO_CRM))


def test_each_decision_that_cannot_be_carried_out_has_its_sentence() -> None:
    assert [
        resolvable(Hold(1, HoldKind.INVALID_ROW, facts("X-X", INVALID), ""), Side.CRM, policy()),
        resolvable(hold("oXX"), Side.CRM, policy()),
        resolvable(hold("XYZ"), Side.TABLE, TO_TABLE),
        resolvable(hold("XYZ"), Side.CRM, TO_CRM),
    ] == snapshot(
        [
            "its rows in the table cannot be read as one binding; correct the rows, and syncd releases the hold",
            "type 128 is outside this link's owner_types",
            "this link is crm-to-table: it never writes the crm side",
            "this link is table-to-crm: it never writes the table side",
        ]
    )


@pytest.mark.parametrize("keep", list(Side), ids=str)
@pytest.mark.parametrize("letters", ["X-X", "X--"])
def test_a_row_that_where_does_not_select_can_only_be_changed_in_the_table(letters: str, keep: Side) -> None:
    assert "that `where` does not select" in resolvable(hold(letters, HoldKind.OUT_OF_SCOPE), keep, policy())


@pytest.mark.parametrize("keep", list(Side))
def test_given_an_order_without_a_key_of_its_own_then_neither_side_can_be_kept(keep: Side) -> None:
    assert "give it one in the portal" in resolvable(hold("X--", HoldKind.AMBIGUOUS_KEY), keep, policy())
