"""While a row of the table may be any order, an absent order waits; what its hold shows meanwhile."""

from __future__ import annotations

import pytest

from syncd.core.diff import Differ
from syncd.core.model import Hold, HoldKind, Side
from tests.unit.core.builders import bindings, hold, policy, rows, stored


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
