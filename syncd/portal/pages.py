"""Pages of bindings: decoded and checked, and kept until the whole listing is proved.

A million rows pass through here, so C code does the work: flat lists of numbers, packed into 24 bytes a row.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter, itemgetter, lt
from typing import Any, Final, NamedTuple

from syncd.core.model import HoldKind, Owner, Row, Unreadable
from syncd.core.order_ranges import LARGEST_ID
from syncd.portal.responses import CommandAnswer, as_list, whole
from syncd.spill import WIDTH, RowFile, rows_of

NO_OWNER: Final = Unreadable(HoldKind.INVALID_ROW, "The order's row in the CRM names no owner that can be read.")
"""The owner of an order whose row names none (portal.md 13.46)."""

CHUNK: Final = 1000
"""Rows that are yielded at a time, at least."""

_FIELDS: Final = ("orderId", "ownerTypeId", "ownerId")
_fields = itemgetter(*_FIELDS)


class UnusablePage(Exception):
    """A list's result that cannot be read, or that is not what was asked for."""


@dataclass(frozen=True, slots=True)
class RowPage:
    """The rows of a list's result, end to end: order id, owner type id, owner id, and again.

    Order ids and the numbers of owners are positive and have 63 bits; an owner that cannot be read (null, 0, missing,
    text) is 0 and 0.
    One flat list: an object for each row would take as long as everything else that happens to it here.
    """

    numbers: list[int]

    @classmethod
    def of(cls, owners: Iterable[tuple[int, Owner | Unreadable]]) -> RowPage:
        """Given orders with their owners, ascending, return their page."""
        found = ((order, *(owner if isinstance(owner, Owner) else (0, 0))) for order, owner in owners)
        return cls(list(chain.from_iterable(found)))

    def __len__(self) -> int:
        return len(self.numbers) // WIDTH

    @property
    def order_ids(self) -> list[int]:
        """The rows' order ids, in the portal's order."""
        return self.numbers[::WIDTH]

    def rows(self) -> list[Row]:
        """Return the rows one by one, in the portal's order."""
        return rows_of(self.numbers)

    def beyond(self, order_id: int) -> RowPage:
        """Given an order id, return the rows after it; for a page that ascends."""
        return RowPage(self.numbers[WIDTH * bisect_right(self.order_ids, order_id) :])


def decode_page(result: Any, *, backwards: bool = False) -> RowPage:
    """Given a list's result, return its rows.

    Args:
        result: As decoded from JSON.
        backwards: Last row first.

    Raises:
        UnusablePage: It has another shape, or a row without an order id. What cannot be read is not "no rows".
    """
    page = as_list(result.get("orderEntity")) if isinstance(result, dict) else None
    if page is None:
        raise UnusablePage("a list without orderEntity")
    if backwards:
        page = page[::-1]
    try:
        numbers = list(chain.from_iterable(map(_fields, page)))
    except (KeyError, TypeError):
        numbers = []
    if (
        len(numbers) != WIDTH * len(page)
        or not set(map(type, numbers)) <= {int}
        or (numbers and (min(numbers) <= 0 or max(numbers) > LARGEST_ID))
    ):
        numbers = list(chain.from_iterable(map(_row_by_field, page)))
    return RowPage(numbers)


def usable_result(answer: CommandAnswer | None) -> Any:
    """Given the answer to a command, return its result.

    Raises:
        UnusablePage: There is no answer, or it is an error.
    """
    if answer is None:
        raise UnusablePage("no answer to the command")
    if answer.error is not None:
        raise UnusablePage(str(answer.error))
    return answer.result


def page_of(answer: CommandAnswer | None) -> RowPage:
    """Given the answer to a list command, return its rows.

    Raises:
        UnusablePage: There is no answer, an error, or one of another shape.
    """
    return decode_page(usable_result(answer))


def split(rows: Sequence[Row]) -> tuple[list[Row], dict[int, Unreadable]]:
    """Given rows, return those with an owner, and the orders whose owner cannot be read."""
    if 0 not in map(itemgetter(2), rows):
        return list(rows), {}
    return [row for row in rows if row[2]], {row[0]: NO_OWNER for row in rows if not row[2]}


def ascending(order_ids: Sequence[int]) -> bool:
    """Given order ids, return whether they grow strictly."""
    return all(map(lt, order_ids, order_ids[1:]))


def _row_by_field(row: Any) -> tuple[int, int, int]:
    """Given a row that is not three positive integers at first sight, return it field by field.

    The portal's order id is a unique whole number, and `add` takes none below 1 (portal.md 3 and 3.3). A row
    with another one, written into a box's database, is in no window, since each asks for ids above its bound, nor in a
    window's total. So a row without an order id is an answer that cannot be trusted.
    """
    if not isinstance(row, dict):
        raise UnusablePage("a row that is not an object")
    order_id, owner_type_id, owner_id = (whole(row.get(name)) or 0 for name in _FIELDS)
    if not 0 < order_id <= LARGEST_ID:
        raise UnusablePage("a row without an order id that can be read")
    has_owner = 0 < owner_type_id <= LARGEST_ID and 0 < owner_id <= LARGEST_ID
    return (order_id, owner_type_id, owner_id) if has_owner else (order_id, 0, 0)


class ReadRange(NamedTuple):
    """A range of order ids (after, upto] that was read, with its number of rows and the first one's place."""

    after: int
    upto: int
    rows: int
    first: int


class RowBuffer:
    """The rows of one listing, by the ranges they were read in: packed in a file.

    Yielded rows cannot be taken back, and a page with missing rows has to be read again. So nothing is yielded before
    the proof. Memory holds only a small tuple for each page.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._file = RowFile()
        self._read_ranges: list[ReadRange] = []

    def put(self, after: int, upto: int, page: RowPage) -> None:
        """Keep the rows of the range (after, upto].

        Raises:
            UnavailableError: The folder for temporary files is full or cannot be written.
        """
        first = self._file.append(array("q", page.numbers))
        self._read_ranges.append(ReadRange(after, upto, len(page), first))
        self.rows += len(page)

    def drop(self, after: int, upto: int) -> None:
        """Forget the rows read inside (after, upto]: they are being read again."""
        inside = [one for one in self._read_ranges if after <= one.after and one.upto <= upto]
        self.rows -= sum(one.rows for one in inside)
        gone = set(inside)
        self._read_ranges = [one for one in self._read_ranges if one not in gone]

    def read_ranges(self, after: int = 0, upto: int = LARGEST_ID) -> list[ReadRange]:
        """Return the ranges read inside (after, upto], in order of order id."""
        self._read_ranges.sort()
        return [one for one in self._read_ranges if after <= one.after and one.upto <= upto]

    def gap(self, after: int, upto: int) -> int | None:
        """Return the order id after which the first part of (after, upto] was not read; None if all of it was."""
        for one in self.read_ranges(after, upto):
            if one.after != after:
                return after
            after = one.upto
        return None if after == upto else after

    def chunks(self) -> Iterator[list[Row]]:
        """Yield all rows in order of order id."""
        rows: list[Row] = []
        for first, count in self._stretches():
            rows += self._file.rows(first, count)
            if len(rows) >= CHUNK:
                yield rows
                rows = []
        if rows:
            yield rows

    def _stretches(self) -> Iterator[tuple[int, int]]:
        """Yield where the rows are, in order of order id, as (first, count): ranges that lie end to end in one."""
        first = count = 0
        for one in filter(attrgetter("rows"), self.read_ranges()):
            if one.first != first + count or count >= CHUNK:
                if count:
                    yield first, count
                first, count = one.first, 0
            count += one.rows
        if count:
            yield first, count

    def close(self) -> None:
        """Delete all rows."""
        self._file.close()
        self._read_ranges = []
