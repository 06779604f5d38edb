"""The plan as a value: its counts, and its digest."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from syncd.core.model import Action, Change, HoldKind, Reason, Side
from syncd.core.plan import digest
from syncd.core.policy import make_change
from tests.unit.core.builders import OWNERS, facts


def change(letters: str, side: Side, *, order: int = 1, reason: Reason = Reason.CRM_CHANGED) -> Change:
    of = facts(letters)
    return make_change(order, side, of, of.table if side is Side.CRM else of.crm, reason)


CHANGES = [
    change("X--", Side.TABLE, order=1),
    change("XYY", Side.TABLE, order=2),
    change("-YY", Side.TABLE, order=3),
    change("-Y-", Side.CRM, order=4),
    change("XYX", Side.CRM, order=5),
]


def test_the_digest_does_not_depend_on_the_order_of_the_changes() -> None:
    assert len({digest(order) for order in itertools.permutations(CHANGES)}) == 1


def test_the_digest_of_no_changes_is_that_of_the_empty_text() -> None:
    assert digest([]) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_the_digest_is_stable_over_releases() -> None:
    assert digest(reversed(CHANGES)) == "ad2eddf521d8c8d675033374b650fa09c9e6a3b65fa17f7406022a52063bfdb8"


ORIGINAL = change("XYY", Side.TABLE)


@pytest.mark.parametrize(
    "other",
    [
        replace(ORIGINAL, order_id=2),
        replace(ORIGINAL, side=Side.CRM),
        replace(ORIGINAL, action=Action.ADD),
        replace(ORIGINAL, before=OWNERS["Z"]),
        replace(ORIGINAL, before=None),
        replace(ORIGINAL, before=OWNERS["Y"]._replace(owner_type_id=31)),  # type: ignore[union-attr]
        replace(ORIGINAL, after=OWNERS["Z"]),
        replace(ORIGINAL, after=None),
    ],
    ids=["order", "side", "action", "before", "no-before", "before-type", "after", "no-after"],
)
def test_the_digest_tells_apart_whatever_would_be_written_differently(other: Change) -> None:
    assert digest([ORIGINAL]) != digest([other])


def test_the_digest_tells_apart_two_changes_from_one() -> None:
    assert len({digest(CHANGES[:number]) for number in range(len(CHANGES) + 1)}) == len(CHANGES) + 1


def test_the_digest_is_of_the_writes_not_of_why_they_are_made() -> None:
    same = replace(
        ORIGINAL,
        reason=Reason.UNDO,
        facts=facts("XYZ"),
        agreed_after=None,
        hold_after=HoldKind.EDIT_EDIT,
    )

    assert digest([ORIGINAL]) == digest([same])
