"""A page of bindings, decoded and checked, at the speed of C: a million of them pass through here."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from operator import itemgetter, lt
from typing import Any

from syncd.core.model import Row
from syncd.portal.envelope import whole

_fields = itemgetter("orderId", "ownerTypeId", "ownerId")


class UnusablePage(Exception):
    """A list's result that cannot be read, or that is not what was asked for."""


def decode_page(result: Any) -> Sequence[tuple[int, int, int]]:
    """Given a list's result, return its rows as (order id, owner type id, owner id), all positive.

    Raises:
        UnusablePage: It has another shape. What cannot be read is not "no rows".
    """
    page = result.get("orderEntity") if isinstance(result, dict) else None
    if isinstance(page, dict):
        page = list(page.values())
    if not isinstance(page, list):
        raise UnusablePage("a list without orderEntity")
    try:
        rows = list(map(_fields, page))
    except (KeyError, TypeError):
        raise UnusablePage("a row without orderId, ownerTypeId and ownerId") from None
    if not set(map(type, chain.from_iterable(rows))) <= {int}:
        rows = [_whole(row) for row in rows]
    if rows and min(map(min, rows)) <= 0:
        raise UnusablePage("a row with an id that is not positive")
    return rows


def ascending(order_ids: Sequence[int]) -> bool:
    """Given order ids, return whether they grow strictly."""
    return all(map(lt, order_ids, order_ids[1:]))


def pack(rows: Iterable[tuple[int, int, int]]) -> bytes:
    """Given rows, return them as 24 bytes each.

    Raises:
        UnusablePage: An id is beyond 63 bits.
    """
    try:
        return array("q", chain.from_iterable(rows)).tobytes()
    except OverflowError:
        raise UnusablePage("a row with an id beyond 63 bits") from None


def unpack(packed: bytes) -> list[Row]:
    """Given packed rows, return them."""
    numbers = array("q")
    numbers.frombytes(packed)
    one: Iterator[int] = iter(numbers)
    return list(map(Row._make, zip(one, one, one, strict=True)))


def _whole(row: tuple[Any, ...]) -> tuple[int, int, int]:
    order_id, owner_type_id, owner_id = map(whole, row)
    if order_id is None or owner_type_id is None or owner_id is None:
        raise UnusablePage("a row with an id that is not a whole number")
    return order_id, owner_type_id, owner_id
