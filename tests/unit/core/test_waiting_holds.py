"""While a row of the table may be any order, an absent order waits; what its hold shows meanwhile."""

from __future__ import annotations

import pytest

from syncd.core.diff import Differ
from syncd.core.model import Action, Hold, HoldKind, Side
from tests.unit.core.builders import INVALID, SCOPE, bindings, hold, policy, rows, stored


def waiting(held: Hold) -> Hold:
    """Of an order that is agreed, still bound in the CRM, and absent from a table with a row nobody can read."""
    differ = Differ(policy(), {1: stored(held, sticky=True)})
    differ.unsure.add(Side.TABLE)
    segment = differ.feed(rows({1: "Y"}), [], bindings({1: ("Y", "Y")}), {}, None)
    assert not segment.changes
    return segment.holds[0][0]


def test_given_a_hold_of_what_a_race_overwrote_then_it_goes_on_showing_that() -> None:
    overwrote = hold("ZY-", seen="YYY")

    assert waiting(overwrote) == overwrote


@pytest.mark.parametrize("seen", ["", "ZYX"])
def test_given_a_hold_that_shows_what_both_sides_say_then_it_shows_what_they_say_today(seen: str) -> None:
    kind = HoldKind.UNCERTAIN if seen else HoldKind.EDIT_EDIT

    assert waiting(hold("ZYX", kind, seen=seen)) == hold("Y-Y", kind, seen=seen)


def test_given_an_agreed_order_that_the_table_does_not_show_then_it_waits_and_one_that_is_new_is_added() -> None:
    differ = Differ(policy(), {})
    differ.unsure.add(Side.TABLE)

    segment = differ.feed(rows({1: "Y", 2: "Y"}), [], bindings({1: ("Y", "Y")}), {}, None)

    assert differ.unsure_orders == 1
    assert [(one.order_id, one.side, one.action) for one in segment.changes] == [(2, Side.TABLE, Action.ADD)]


def test_given_rows_of_an_order_that_cannot_be_read_then_they_are_its_rows_and_it_is_held_for_them() -> None:
    differ = Differ(policy(), {})
    differ.unsure.add(Side.TABLE)

    segment = differ.feed(rows({1: "Y"}), [], bindings({1: ("Y", "Y")}), {1: INVALID}, None)

    assert differ.unsure_orders == 0
    assert [one.kind for one, _ in segment.holds] == [HoldKind.INVALID_ROW]


def test_given_an_agreed_order_outside_the_links_range_then_it_waits_for_nothing() -> None:
    outside = (SCOPE.last_order or 0) + 1
    differ = Differ(policy(), {})
    differ.unsure.add(Side.TABLE)

    differ.feed(rows({outside: "Y"}), [], bindings({outside: ("Y", "Y")}), {}, None)

    assert differ.unsure_orders == 0
