"""A page of bindings, decoded and checked, at the speed of C: a million of them pass through here."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from operator import itemgetter, lt
from typing import Any, Final

from syncd.core.model import Row
from syncd.portal.envelope import whole

ROW_BYTES: Final = 24
"""Bytes of a packed row: three numbers of 64 bits."""

_FIELDS: Final = ("orderId", "ownerTypeId", "ownerId")
_fields = itemgetter(*_FIELDS)
_WIDTH: Final = len(_FIELDS)
_row = partial(tuple.__new__, Row)


class UnusablePage(Exception):
    """A list's result that cannot be read, or that is not what was asked for."""


@dataclass(frozen=True, slots=True)
class Page:
    """The rows of a list's result, end to end: order id, owner type id, owner id, and again. All are positive.

    One flat list, since an object for each row would cost as much time as all that is done with it here.
    """

    numbers: list[int]

    def __len__(self) -> int:
        return len(self.numbers) // _WIDTH

    @property
    def order_ids(self) -> list[int]:
        """The rows' order ids, in the portal's order."""
        return self.numbers[::_WIDTH]

    def rows(self) -> list[Row]:
        """Return the rows one by one, in the portal's order."""
        return _rows(self.numbers)

    def beyond(self, order_id: int) -> Page:
        """Given an order id, return the rows after it; for a page that ascends."""
        return Page(self.numbers[_WIDTH * bisect_right(self.order_ids, order_id) :])


def decode_page(result: Any, *, backwards: bool = False) -> Page:
    """Given a list's result, return its rows.

    Args:
        result: As decoded from JSON.
        backwards: Last row first.

    Raises:
        UnusablePage: It has another shape. What cannot be read is not "no rows".
    """
    page = result.get("orderEntity") if isinstance(result, dict) else None
    if isinstance(page, dict):
        page = list(page.values())
    if not isinstance(page, list):
        raise UnusablePage("a list without orderEntity")
    if backwards:
        page = page[::-1]
    try:
        numbers = list(chain.from_iterable(map(_fields, page)))
    except (KeyError, TypeError):
        raise UnusablePage("a row without orderId, ownerTypeId and ownerId") from None
    if not set(map(type, numbers)) <= {int}:
        numbers = [_whole(value) for value in numbers]
    if numbers and min(numbers) <= 0:
        raise UnusablePage("a row with an id that is not positive")
    return Page(numbers)


def ascending(order_ids: Sequence[int]) -> bool:
    """Given order ids, return whether they grow strictly."""
    return all(map(lt, order_ids, order_ids[1:]))


def pack(page: Page) -> bytes:
    """Given a page, return its rows as `ROW_BYTES` each.

    Raises:
        UnusablePage: An id is beyond 63 bits.
    """
    try:
        return array("q", page.numbers).tobytes()
    except OverflowError:
        raise UnusablePage("a row with an id beyond 63 bits") from None


def unpack(packed: bytes) -> list[Row]:
    """Given packed rows, return them."""
    return _rows(array("q", packed))


def _rows(numbers: Sequence[int]) -> list[Row]:
    one: Iterator[int] = iter(numbers)
    return list(map(_row, zip(one, one, one, strict=True)))


def _whole(value: Any) -> int:
    number = whole(value)
    if number is None:
        raise UnusablePage("a row with an id that is not a whole number")
    return number
