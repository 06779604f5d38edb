"""The table of sync-rules.md, "Decisions", as text, and `decide` held against it for every combination of facts."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from inline_snapshot import snapshot

from syncd.core.model import (
    Action,
    Change,
    Direction,
    Facts,
    Hold,
    HoldKind,
    MaybeOwner,
    OnConflict,
    Policy,
    Scope,
    Side,
)
from syncd.core.policy import Decision, NoAction, action_between, decide
from tests.unit.core.builders import DUPLICATE, INVALID, LETTERS, OWNERS, SCOPE, facts, policy

# C, T and A up to renaming: all fifteen ways in which three values can be absent, the same or different.
# `table=C` writes the CRM's value to the table, `crm=T` the other way round; what follows is the reason.
DECISIONS = """
C T A | two-way                | crm-to-table           | table-to-crm
- - - | left-alone             | left-alone             | left-alone
X X X | in-step                | in-step                | in-step
X X - | agree                  | agree                  | agree
X X Y | agree                  | agree                  | agree
- - X | agree                  | agree                  | agree
X - - | table=C crm-changed    | table=C crm-changed    | left-alone
- X - | crm=T table-changed    | left-alone             | crm=T table-changed
X Y - | conflict create-create | conflict create-create | conflict create-create
X Y Y | table=C crm-changed    | table=C crm-changed    | crm=T crm-drifted
- X X | table=C crm-changed    | table=C crm-changed    | crm=T crm-drifted
X Y X | crm=T table-changed    | table=C table-drifted  | crm=T table-changed
X - X | crm=T table-changed    | table=C table-drifted  | crm=T table-changed
X Y Z | conflict edit-edit     | table=C table-drifted  | crm=T crm-drifted
X - Y | conflict edit-remove   | table=C table-drifted  | crm=T crm-drifted
- X Y | conflict remove-edit   | table=C table-drifted  | crm=T crm-drifted
"""

# What a conflict comes to. A one-way link whose target is to win has nothing it may write.
CONFLICTS = """
on_conflict | two-way                     | crm-to-table              | table-to-crm
hold        | hold                        | hold                      | hold
crm         | table=C conflict-crm-wins   | table=C conflict-crm-wins | left-alone
table       | crm=T conflict-table-wins   | left-alone                | crm=T conflict-table-wins
"""

# An owner of a type outside `owner_types` (out) on a side; `in` is in scope, `any` includes nothing at all.
# Where no line fits, the order is nobody's: left alone.
OUT_OF_SCOPE = """
C   T   A   | every direction
out any in  | held
any out in  | held
out in  any | held
in  out any | held
"""

ORDER = 77
EVERY_POLICY = [policy(direction, on_conflict) for direction in Direction for on_conflict in OnConflict]
EVERY_FACTS = [Facts(crm, table, agreed) for crm, table, agreed in itertools.product(OWNERS.values(), repeat=3)]


def _lines(text: str) -> Iterator[list[str]]:
    """Yield the cells of each line of a table after its head."""
    for line in text.strip().splitlines()[1:]:
        yield [cell.strip() for cell in line.split("|")]


def _pattern(of: Facts) -> str:
    """Given facts, return their line's key: the values renamed in the order in which they are first met."""
    names: dict[MaybeOwner, str] = {None: "-"}
    for value in of[:3]:
        names.setdefault(value, "XYZ"[len(names) - 1])
    return " ".join(names[value] for value in of[:3])


def _renamed(key: str) -> str:
    return _pattern(facts(key))


TABLE = {_renamed(key): dict(zip(Direction, cells, strict=True)) for key, *cells in _lines(DECISIONS)}
CONFLICT = {OnConflict(key): dict(zip(Direction, cells, strict=True)) for key, *cells in _lines(CONFLICTS)}
SCOPES = [key.split() for key, _cell in _lines(OUT_OF_SCOPE)]


def _expected(of: Facts, by: Policy) -> str:
    """Given readable facts of an order in range, return the specified outcome as a cell's text."""
    kinds = ["any" if owner is None else "in" if by.scope.holds_owner(owner) else "out" for owner in of[:3]]
    if "out" in kinds[:2]:
        fits = any(all(want in ("any", kind) for want, kind in zip(line, kinds, strict=True)) for line in SCOPES)
        return "hold out-of-scope" if fits else "left-alone"
    cell = TABLE[_pattern(of)][by.direction]
    if not cell.startswith("conflict"):
        return cell
    outcome = CONFLICT[by.on_conflict][by.direction]
    return cell.replace("conflict", outcome) if outcome == "hold" else outcome


def _described(decision: Decision, of: Facts) -> str:
    """Given a decision, return it as a cell's text, after proving that each of its fields follows from that text."""
    if isinstance(decision, NoAction):
        return decision.value
    assert decision.order_id == ORDER
    assert decision.facts == of
    if isinstance(decision, Hold):
        assert decision.detail
        assert (decision.since, decision.seen) == (0.0, None)
        return f"hold {decision.kind.value}"
    assert decision.agreed_after == decision.after
    assert decision.hold_after is None
    if decision.action is Action.AGREE:
        assert (decision.side, decision.reason) == (None, "both-equal")
        assert (decision.before, decision.after) == (of.agreed, of.crm)
        return "agree"
    assert decision.side is not None
    there, wanted = (of.crm, of.table) if decision.side is Side.CRM else (of.table, of.crm)
    assert (decision.before, decision.after) == (there, wanted)
    assert decision.action is (Action.REMOVE if wanted is None else Action.ADD if there is None else Action.MOVE)
    return f"{decision.side.value}={'T' if decision.side is Side.CRM else 'C'} {decision.reason.value}"


def _case(of: Facts) -> str:
    return "".join(LETTERS[value] for value in of[:3])


def test_the_specification_names_every_pattern_once() -> None:
    assert len(TABLE) == len(list(_lines(DECISIONS))) == 15
    in_scope = [f for f in EVERY_FACTS if not any(LETTERS[value] in "op" for value in f[:3])]
    assert {_pattern(one) for one in in_scope} == TABLE.keys()


@pytest.mark.parametrize("by", EVERY_POLICY, ids=lambda by: f"{by.direction.value}/{by.on_conflict.value}")
def test_given_any_facts_then_the_decision_is_the_one_specified(by: Policy) -> None:
    decided = {_case(of): _described(decide(ORDER, of, by), of) for of in EVERY_FACTS}

    assert decided == {_case(of): _expected(of, by) for of in EVERY_FACTS}


@pytest.mark.parametrize("unreadable", [INVALID, DUPLICATE], ids=["invalid", "duplicate"])
@pytest.mark.parametrize("by", EVERY_POLICY, ids=lambda by: f"{by.direction.value}/{by.on_conflict.value}")
def test_given_unreadable_rows_then_the_order_is_held_whatever_else_is_known(by: Policy, unreadable: Any) -> None:
    for readable in EVERY_FACTS:
        of = readable._replace(unreadable=unreadable)
        assert decide(ORDER, of, by) == Hold(ORDER, unreadable.kind, of, unreadable.detail)


@pytest.mark.parametrize("unreadable", [None, INVALID, DUPLICATE], ids=["readable", "invalid", "duplicate"])
@pytest.mark.parametrize("by", EVERY_POLICY, ids=lambda by: f"{by.direction.value}/{by.on_conflict.value}")
def test_given_an_order_outside_the_range_then_it_is_left_alone_whatever_is_known(by: Policy, unreadable: Any) -> None:
    for readable in EVERY_FACTS:
        of = readable._replace(unreadable=unreadable)
        assert decide(1001, of, by) is NoAction.LEFT_ALONE
        assert decide(0, of, by) is NoAction.LEFT_ALONE


def test_given_the_ends_of_the_range_then_both_are_in_scope() -> None:
    by = policy(scope=Scope(SCOPE.owner_types, first_order=10, last_order=20))

    decided = {order: isinstance(decide(order, facts("X--"), by), Change) for order in (9, 10, 20, 21)}

    assert decided == {9: False, 10: True, 20: True, 21: False}


@pytest.mark.parametrize(
    ("before", "after", "action"),
    [("-", "X", Action.ADD), ("X", "Y", Action.MOVE), ("X", "-", Action.REMOVE), ("-", "-", Action.REMOVE)],
)
def test_what_a_write_is_called_follows_from_before_and_after(before: str, after: str, action: Action) -> None:
    assert action_between(OWNERS[before], OWNERS[after]) is action


def test_an_out_of_scope_hold_says_where_and_which_type() -> None:
    details = {letters: decide(ORDER, facts(letters), policy()) for letters in ("oXX", "XpX", "opX")}

    assert {letters: one.detail for letters, one in details.items() if isinstance(one, Hold)} == snapshot(
        {
            "oXX": "The order is bound in the CRM to an object of type 128, which is not among this link's owner_types; that is neither a removal nor a value to copy.",
            "XpX": "The order is bound in the table to an object of type 128, which is not among this link's owner_types; that is neither a removal nor a value to copy.",
            "opX": "The order is bound in the CRM to an object of type 128, which is not among this link's owner_types; that is neither a removal nor a value to copy.",
        }
    )


def test_a_conflict_says_what_each_side_did() -> None:
    held = [decide(ORDER, facts(letters), policy()) for letters in ("XYZ", "X-Z", "-YZ", "XY-")]

    assert {one.kind: one.detail for one in held if isinstance(one, Hold)} == snapshot(
        {
            HoldKind.EDIT_EDIT: "Both sides changed the order since they last agreed, each to another owner.",
            HoldKind.EDIT_REMOVE: "The CRM bound the order to another owner while its row was removed from the table.",
            HoldKind.REMOVE_EDIT: "The order was unbound in the CRM while the table gave it another owner.",
            HoldKind.CREATE_CREATE: "Both sides know the order, with different owners, and never agreed on one.",
        }
    )
