"""`syncd holds` offers what `syncd resolve` takes, for every kind of hold."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product

import pytest

from syncd.cli.render.orders import holds
from syncd.cli.screen import plain
from syncd.core.diff import resolvable
from syncd.core.model import Direction, Hold, HoldKind, Owner, Policy, Side
from syncd.core.records import PortalNames, StoredHold
from syncd.status.needs import advice, consequence, undecidable
from tests.unit.core.builders import DUPLICATE, INVALID, facts, hold, policy, stored

NOW = 1_800_000_000.0
_OFFER = re.compile(r"syncd resolve shop (-?\d+) --keep (\S+)")
_FACTS = ["".join(letters) for letters in product("-Xo", "-Yo", "-Z")]


def _offered(held: Sequence[StoredHold], by: Policy) -> tuple[int, list[str]]:
    """Return the order whose command is shown, and the sides that the command offers."""
    shown = "\n".join(plain(holds({"shop": held}, {"shop": by}, NOW)))
    found = _OFFER.search(shown)
    return (int(found[1]), found[2].split("|")) if found else (0, [])


def _holds_of(kind: HoldKind) -> Iterator[Hold]:
    for letters, seen, order in product(_FACTS, ("", "XY-", "X--"), (5, 0, -2)):
        one = hold(letters, kind, order=order, seen=seen)
        yield one
        yield replace(one, facts=facts(letters, DUPLICATE if kind is HoldKind.DUPLICATE_ROWS else INVALID))


@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("kind", HoldKind)
def test_given_a_hold_of_any_kind_then_each_side_is_offered_that_resolve_takes_and_no_other(
    kind: HoldKind, direction: Direction
) -> None:
    by = policy(direction)
    for one in _holds_of(kind):
        taken = [side.value for side in Side if not undecidable(one, side, by)]
        assert _offered([stored(one)], by) == ((one.order_id, taken) if taken else (0, [])), one
        assert ("Or keep what the CRM says." not in advice(one, by)) or "crm" in taken, one


def test_given_an_order_that_the_filter_leaves_out_then_no_side_of_it_is_offered() -> None:
    deselected = hold("X-X", HoldKind.OUT_OF_SCOPE)
    assert resolvable(deselected, Side.CRM, policy())
    shown = "\n".join(plain(holds({"shop": [stored(deselected)]}, {"shop": policy()}, NOW)))
    assert "--keep" not in shown
    assert "must be fixed at their source" in shown


def test_given_holds_of_which_one_can_be_decided_then_its_command_is_shown() -> None:
    deselected = hold("X-X", HoldKind.OUT_OF_SCOPE, order=4)
    half = hold("oXX", HoldKind.OUT_OF_SCOPE, order=5)
    conflict = hold("XYZ", order=6)
    assert _offered([stored(deselected), stored(half)], policy()) == (5, ["table"])
    assert _offered([stored(deselected), stored(half), stored(conflict)], policy()) == (6, ["crm", "table"])
    assert _offered([stored(deselected), stored(conflict, "crm")], policy()) == (0, [])


@pytest.mark.parametrize(("letters", "side"), [("o-X", "the CRM"), ("-oX", "the table")])
def test_given_an_order_that_can_be_let_go_then_that_is_advised(letters: str, side: str) -> None:
    text = f"Or let it go: keep what {side} says, and nothing is written."
    assert text in advice(hold(letters, HoldKind.OUT_OF_SCOPE), policy())
    assert "let it go" not in advice(hold("oXX", HoldKind.OUT_OF_SCOPE), policy())
    unreadable = replace(hold(letters, HoldKind.OUT_OF_SCOPE), facts=facts(letters, INVALID))
    assert "let it go" not in advice(unreadable, policy())


@pytest.mark.parametrize(
    ("letters", "decision", "said"),
    [
        ("XYZ", "crm", "both sides will have deal 11"),
        ("XYZ", "table", "both sides will have deal 12 (Desks)"),
        ("-YX", "crm", "will be unbound on both sides"),
        ("o-X", "crm", "stays with type 128: 11, and is no longer this link's"),
        ("oYX", "table", "both sides will have deal 12 (Desks)"),
        ("XYZ", "retry", "will be looked at as if for the first time"),
    ],
)
def test_given_a_decision_then_it_is_said_what_becomes_of_the_order(letters: str, decision: str, said: str) -> None:
    names = PortalNames({Owner(2, 12): "Desks"})
    one = hold(letters, HoldKind.OUT_OF_SCOPE if "o" in letters else HoldKind.EDIT_EDIT)
    assert consequence(one, decision, policy(), names) == said


def test_given_an_owner_that_is_missing_then_the_crm_is_advised_only_where_the_table_is_written() -> None:
    missing = hold("-X-", HoldKind.OWNER_MISSING)
    assert advice(missing, policy()) == "Correct the owner in the table. Or keep what the CRM says."
    assert advice(missing, policy(Direction.TABLE_TO_CRM)) == "Correct the owner in the table."
