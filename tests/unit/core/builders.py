"""Short names for the core's tests: owners as letters, and the values built from them.

`X`, `Y` and `Z` are owners in scope, `o` and `p` owners of a type outside it, `-` is unbound.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from syncd.core.model import (
    Direction,
    Facts,
    Hold,
    HoldKind,
    MaybeOwner,
    OnConflict,
    Owner,
    Policy,
    Row,
    Scope,
    Unreadable,
)
from syncd.core.records import BindingRow, StoredHold

OWNERS: Mapping[str, MaybeOwner] = {
    "-": None,
    "X": Owner(2, 11),
    "Y": Owner(2, 12),
    "Z": Owner(31, 11),
    "o": Owner(128, 11),
    "p": Owner(128, 12),
}
LETTERS = {owner: letter for letter, owner in OWNERS.items()}

SCOPE = Scope(frozenset({2, 31}), first_order=1, last_order=1000)

INVALID = Unreadable(HoldKind.INVALID_ROW, "owner_id is NULL.")
DUPLICATE = Unreadable(HoldKind.DUPLICATE_ROWS, "There are 2 rows.")


def policy(
    direction: Direction = Direction.TWO_WAY, on_conflict: OnConflict = OnConflict.HOLD, scope: Scope = SCOPE
) -> Policy:
    return Policy(direction, on_conflict, scope)


def facts(letters: str, unreadable: Unreadable | None = None) -> Facts:
    """Given the letters of C, T and A ("XYX"; blanks do not count), return the facts."""
    crm, table, agreed = (OWNERS[letter] for letter in letters.replace(" ", ""))
    return Facts(crm, table, agreed, unreadable)


def rows(values: Mapping[int, str]) -> list[Row]:
    """Given letters by order id, return the rows of a side, ascending; unbound orders have none."""
    return [Row(order, *owner) for order, letter in sorted(values.items()) if (owner := OWNERS[letter]) is not None]


def bindings(values: Mapping[int, Sequence[str]]) -> list[BindingRow]:
    """Given the letters of (CRM as last listed, agreed) by order id, return the local database's rows, ascending."""
    return [
        BindingRow(order, *(OWNERS[listed] or (None, None)), *(OWNERS[agreed] or (None, None)))
        for order, (listed, agreed) in sorted(values.items())
        if (listed, agreed) != ("-", "-")
    ]


def hold(
    letters: str, kind: HoldKind = HoldKind.EDIT_EDIT, *, order: int = 1, seen: str = "", detail: str = "Because."
) -> Hold:
    return Hold(order, kind, facts(letters), detail, since=5.0, seen=facts(seen) if seen else None)


def stored(one: Hold, decision: str = "", *, sticky: bool = False) -> StoredHold:
    return StoredHold(one, sticky=sticky, decision=decision, run=3)
