"""Owners, times and numbers as a person reads them."""

from __future__ import annotations

import re

import pytest

from syncd.core.model import (
    Direction,
    Facts,
    Hold,
    HoldKind,
    OnConflict,
    Owner,
    Policy,
    Reason,
    Scope,
    Side,
    Unreadable,
)
from syncd.core.policy import decide
from syncd.core.records import GuardHit, RunRow
from syncd.engine import formatting


@pytest.mark.parametrize(
    ("owner", "text"),
    [(Owner(2, 10), "deal 10"), (Owner(31, 3), "smart invoice 3"), (Owner(177, 5), "type 177: 5"), (None, "unbound")],
)
def test_given_an_owner_then_it_is_called_by_its_kind(owner: Owner | None, text: str) -> None:
    assert formatting.owner(owner) == text


def test_given_every_reason_and_kind_of_hold_then_each_has_its_words() -> None:
    assert set(formatting.REASONS) == set(Reason)
    assert set(formatting.HOLD_KINDS) == set(HoldKind)


def test_given_facts_then_each_side_says_its_value() -> None:
    assert formatting.facts_text(Facts(Owner(2, 1), None, None)) == "CRM deal 1, table unbound, nothing agreed"
    unreadable = Unreadable(HoldKind.INVALID_ROW, "…")
    assert (
        formatting.facts_text(Facts(None, None, Owner(2, 1), unreadable))
        == "CRM unbound, table unreadable, agreed deal 1"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "<1 s"), (59, "59 s"), (60, "1 min"), (7500, "2 h 5 min"), (90061, "1 d 1 h"), (86400, "1 d")],
)
def test_given_a_span_then_its_two_largest_units_are_told(seconds: float, text: str) -> None:
    assert formatting.span(seconds) == text


def test_given_moments_then_past_future_and_never_are_told_apart() -> None:
    assert formatting.ago(0, 100) == "never"
    assert formatting.ago(100, 100.5) == "just now"
    assert formatting.ago(40, 100) == "1 min ago"
    assert formatting.ago(130, 100) == "in 30 s"
    assert formatting.moment(0) == "never"
    assert re.fullmatch(r"2027-01-1\d \d\d:00:00 \S+", formatting.moment(1_800_000_000.0))


def test_given_numbers_and_lists_then_they_read_as_language() -> None:
    assert formatting.count(1, "order") == "1 order"
    assert formatting.count(2000, "order") == "2,000 orders"
    assert formatting.listed(["a"]) == "a"
    assert formatting.listed(["a", "b", "c"]) == "a, b and c"
    assert formatting.order(0) == "unreadable"


def test_given_an_order_out_of_scope_on_one_side_then_the_advice_is_to_change_that_one() -> None:
    policy = Policy(Direction.TWO_WAY, OnConflict.HOLD, Scope(frozenset({2})))
    invoice, deal, other = Owner(31, 9), Owner(2, 5), Owner(2, 6)

    of_the_other_side = [decide(5, Facts(invoice, table, deal), policy) for table in (deal, other, None)]

    assert all(isinstance(one, Hold) and one.kind is HoldKind.OUT_OF_SCOPE for one in of_the_other_side)
    assert "either side" not in formatting.ADVICE[HoldKind.OUT_OF_SCOPE]
    assert not isinstance(decide(5, Facts(other, deal, deal), policy), Hold)


@pytest.mark.parametrize("setting", ["owner_types", "where"])
def test_given_an_order_that_a_setting_leaves_out_then_the_advice_names_the_setting(setting: str) -> None:
    assert setting in formatting.ADVICE[HoldKind.OUT_OF_SCOPE]
    assert "type" not in formatting.HOLD_KINDS[HoldKind.OUT_OF_SCOPE]


@pytest.mark.parametrize(
    ("hits", "remedy"),
    [
        (
            [GuardHit("max_removes", Side.CRM, 100, 150)],
            "If that is a mistake, correct the table; the next pass compares anew.",
        ),
        (
            [GuardHit("max_removes", Side.CRM, 100, 150), GuardHit("empty_side", Side.TABLE, 1, 0)],
            "If that is a mistake, correct the table; the next pass compares anew.",
        ),
        (
            [GuardHit("max_removes", Side.CRM, 100, 150), GuardHit("max_moves", Side.TABLE, 100, 150)],
            "If that is a mistake, correct both sides; the next pass compares anew.",
        ),
        (
            [GuardHit("max_removes", Side.CRM, 100, 150), GuardHit("state_older", None, 0, 7)],
            (
                "If that is a mistake, restore the newest backup of the state database, or correct [state] url or the "
                "link's name."
            ),
        ),
        (
            [GuardHit("fingerprint", None, 0, 1)],
            "If that is a mistake, correct the link's settings; what was agreed is kept.",
        ),
        ([GuardHit("first_sync", None, 0, 300)], ""),
    ],
    ids=["one side", "an empty side", "both sides", "an older state", "other ends", "a first sync"],
)
def test_given_a_refused_run_then_it_is_said_what_to_do_if_it_shows_a_mistake(
    hits: list[GuardHit], remedy: str
) -> None:
    row = RunRow(7, "shop", 1, "pass", "refused", "schedule", None, 1.0, 2.0)
    row.guards = hits
    assert formatting.remedy(row) == remedy
