"""Orders by the shop's own keys: which order id belongs to a key, and which key to an order id.

The commonest mapping table holds the shop's order number, not the portal's order id. Everything else in syncd speaks of
order ids, so keys are translated where the table is read and written (`table/keyed.py`), with what the portal says
(`portal/lookups.py`) and what was learned before (`engine/learned_keys.py`, the table `order_key` of the state).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Protocol

from syncd.core.model import HoldKind, MaybeOwner, Owner, Unreadable

LONGEST_KEY = 255
"""Characters of the longest key that an order of the portal can have (portal.md 14)."""


class KeyField(StrEnum):
    """The field of an order that the table's key is, as the portal names it."""

    NUMBER = "accountNumber"
    XML_ID = "xmlId"
    ID_1C = "id1c"


class KeyRow(NamedTuple):
    """What is known of one order's key.

    Args:
        order_id: The order; a negative number stands for a key that no order of the portal has.
        key: Its key; empty where the portal knows the order, and the order has none.
        checked_at: When the portal said so (seconds since the epoch).
        misses: How often in a row the portal was asked in vain: for the order of a key, or for the key of an order.
    """

    order_id: int
    key: str
    checked_at: float
    misses: int = 0


_FORMER = -(2**48)
"""Numbers below this one stand for former keys of orders; those of other unknown keys lie above it."""


def number_of_former(order_id: int) -> int:
    """Given an order, return the number that stands for the key it had before, while no order has that key."""
    return _FORMER - order_id


def order_of_former(number: int) -> int | None:
    """Given the number of an unknown key, return the order that had it before; None where that is not known."""
    return _FORMER - number if number < _FORMER else None


class PortalOrders(Protocol):
    """The orders of a portal by their keys."""

    async def orders_with(self, field: KeyField, keys: Collection[str]) -> dict[str, list[int]]:
        """Given keys, return the ids of the orders that have exactly these keys, ascending; none where there is none.

        Raises:
            UnavailableError: At least one key could not be asked for.
            AuthError, PortalBlocked: As their names say; orders need the scope `sale`.
        """
        ...

    async def keys_of(self, field: KeyField, order_ids: Collection[int]) -> dict[int, str]:
        """Given order ids, return the keys of those orders that exist; an order without a key has an empty one.

        Raises:
            UnavailableError: At least one order could not be asked for.
            AuthError, PortalBlocked: As their names say.
        """
        ...


class KeyOrders(NamedTuple):
    """Which orders have which keys.

    Args:
        single: The order of each key that one order has; a key that none has comes with its number, below zero.
        shared: The orders of each key that several orders have.
    """

    single: dict[str, int]
    shared: dict[str, list[int]]


class UnknownKey(NamedTuple):
    """A key of the table that no order of the portal has.

    Args:
        key: The key.
        owner: The owner that its row names; None where it names none, or where several rows have the key.
        owners: Every owner that a row with the key names: each of these rows may be that of an agreed order.
    """

    key: str
    owner: MaybeOwner
    owners: set[Owner]


@dataclass(slots=True)
class CheckedKeys:
    """What became of orders whose keys were asked for once more, right before something is written about them.

    Args:
        moved: Orders that do not have the key any more that was known: the key they have now, empty for none.
        shared: Orders whose key others have too: that key, and all of its orders.
    """

    moved: dict[int, str] = field(default_factory=dict)
    shared: dict[int, tuple[str, list[int]]] = field(default_factory=dict)


class OrderKeys(Protocol):
    """What the mapping table, and the engine, ask about the keys of a link's orders."""

    @property
    def field(self) -> KeyField:
        """Which key the table holds."""
        ...

    async def known(self, keys: Sequence[str]) -> KeyOrders:
        """Given keys, return the orders of those that need not be asked for. Never calls the portal.

        Keys that no order, or several, had when they were asked for last are due again after growing pauses.
        """
        ...

    async def learn(self, keys: Collection[str]) -> KeyOrders:
        """Given keys, ask the portal for their orders, keep the answers, and return the orders of each key."""
        ...

    async def keys_of(self, order_ids: Collection[int]) -> dict[int, str]:
        """Given order ids, return the keys of the orders that exist; empty for those that have none.

        Only those that are not known are asked for.
        """
        ...

    async def check(self, order_ids: Collection[int]) -> CheckedKeys:
        """Given orders that something is to be written about, ask the portal whether their keys are still theirs.

        What was learned by its key in this run is not asked for again. What turns out to be different is kept.
        """
        ...

    async def forget_but(self, keys: Collection[str]) -> None:
        """Of the keys that no order has, keep only these: the table has no others any more."""
        ...


def shared_key(field: KeyField, key: str, orders: Sequence[int]) -> Unreadable:
    """Given a key that several orders have, return why none of them can be read from its row."""
    shown = ", ".join(map(str, orders[:5])) + (f" and {len(orders) - 5} more" if len(orders) > 5 else "")
    return Unreadable(
        HoldKind.AMBIGUOUS_KEY,
        f"The orders {shown} have the same {field.value} {key!r}, so a row with it may be any of theirs. Give each "
        "order one of its own in the portal; it is asked again with growing pauses.",
    )


def no_key(field: KeyField) -> Unreadable:
    """Return why the table has no row of an order without a key, and can get none."""
    return Unreadable(
        HoldKind.AMBIGUOUS_KEY,
        f"The order has no {field.value} in the portal, so no row of the table can name it. Give it one; the portal is "
        "asked again with growing pauses.",
    )


def unknown_key(field: KeyField, key: str, former: int | None = None) -> Unreadable:
    """Given a key that no order has, and the order that had it before, return why a row with it cannot be read."""
    had = "" if former is None else f"Order {former} had it before, and has another one now. "
    return Unreadable(
        HoldKind.ORDER_MISSING,
        f"No order of the portal has the {field.value} {key!r}; syncd asks again after growing pauses, at least once "
        f"an hour. {had}Until an order has it, syncd unbinds no {'other ' if had else ''}order of the same owner that "
        "has no row: this may be its row.",
    )
