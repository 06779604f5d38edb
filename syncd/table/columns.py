"""The mapping table as configured and as found: its columns, and what its cells and rows mean.

Other programs write the table, so `'5'`, `5`, `Decimal(5)`, `b'5'` and `5.0` are the same id, whatever the column's
type. So are `' 5'`, `'+5'`, `'005'` and `'5.0'`: CHAR columns pad, imports keep zeros, spreadsheets add decimals.
Anything else is not an id. A row with it is reported, and never counts as absent.

Keys of the shop's own are compared exactly: 'a-1' and 'A-1' are two keys, whatever the column's collation. A number is
the key that its digits are. The table does not know which order has which key; that is in `OrderKeyColumn.keys`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from math import isfinite
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import sqlalchemy as sa

from syncd.core.model import HoldKind, MaybeOwner, Owner, Unreadable
from syncd.core.order_keys import LONGEST_KEY
from syncd.core.order_ranges import LARGEST_ID
from syncd.db.backend import Backend
from syncd.table.marks import EncodedColumn, SoftDelete

_EXACT_FLOAT = 2.0**53
_DIGITS = re.compile(r"[ \t\r\n]*\+?0*([1-9][0-9]{0,18})(?:\.0*)?[ \t\r\n]*", re.ASCII)
LONGEST_CELL = LONGEST_KEY
"""The most characters of a cell that holds an id or a key. One more is read, which shows that a cell is longer."""
_SHOWN = 60
_SHOWN_ROWS = 5

NO_KEYS: Mapping[int, str] = MappingProxyType({})


def parse_id(value: object) -> int | None:
    """Given a cell's value as the driver returns it, return its id: 1 to `LARGEST_ID`, or None if it is not one."""
    if type(value) is int:
        return value if 0 < value <= LARGEST_ID else None
    if isinstance(value, str):
        match = _DIGITS.fullmatch(value) if len(value) <= LONGEST_CELL else None
        return parse_id(int(match[1])) if match else None
    if isinstance(value, bytes | bytearray | memoryview):
        return parse_id(bytes(value).decode("ascii", errors="replace"))
    if isinstance(value, Decimal):
        # The bounds come first: int() of Decimal("1e999999") is slow, and a NaN compares with nothing.
        return parse_id(int(value)) if value.is_finite() and 0 < value <= LARGEST_ID and value == int(value) else None
    if isinstance(value, float):
        return int(value) if 0 < value <= _EXACT_FLOAT and value.is_integer() else None
    return None


def display_cell(value: object) -> str:
    """Given a cell's value, return it as a sentence can show it: short, on one line."""
    if value is None:
        return "null"
    if isinstance(value, str | bytes) and len(value) > LONGEST_CELL:
        return f"longer than {LONGEST_CELL} characters ({display_cell(value[:LONGEST_CELL])})"
    text = repr(value) if isinstance(value, str | bytes | float) else str(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def key_text(cell: object) -> str | None:
    """Given a cell's value as the driver returns it, return its key; None if it holds none.

    An order's key in the portal is never empty or longer than `LONGEST_KEY`, and has no zero byte.
    """
    if isinstance(cell, bytes | bytearray | memoryview):
        try:
            cell = bytes(cell).decode()
        except UnicodeDecodeError:
            return None
    if isinstance(cell, str):
        return cell if 0 < len(cell) <= LONGEST_KEY and "\0" not in cell else None
    if isinstance(cell, Decimal | float):
        # The bounds come first: int() of Decimal("1e999999") is slow, and a NaN compares with nothing.
        whole = isfinite(cell) and 0 <= cell <= LARGEST_ID and cell == int(cell)
        return str(int(cell)) if whole else None
    return str(cell) if type(cell) is int else None


class IdColumn(NamedTuple):
    """A column that holds an id.

    Args:
        column: The column.
        textual: Whether one id may be written in several ways in it.
        writes: What syncd writes into it: int, str or bytes.
        width: The number of digits that syncd pads texts to with zeros, or None.
        odd: Whether the last reading found texts that are written in another way than syncd does; True until then.
        fractions: Whether it may hold numbers that are not whole, such as 5.5.
    """

    column: sa.ColumnClause[Any]
    textual: bool
    writes: type[int | str | bytes]
    width: int | None = None
    odd: bool = True
    fractions: bool = False

    def cell(self, value: int) -> int | str | bytes:
        """Given an id, return what is written into the column."""
        if self.writes is int:
            return value
        text = str(value).zfill(self.width or 0)
        return text if self.writes is str else text.encode()

    def id_of(self, cell: object) -> int | None:
        """Given a cell, return its id; None where it holds none."""
        return parse_id(cell)

    def unfit(self, order_id: int) -> str:
        """Given an id, return why it does not fit the column: it always fits."""
        del order_id
        return ""


@dataclass(frozen=True, slots=True)
class OrderKeyColumn:
    """A column of keys.

    Args:
        column: The column.
        writes: What syncd writes into it: int, str or bytes.
        pads: Whether the database fills its texts up with spaces.
        loose: Whether a cell may hold any type, whatever the column's.
        keys: The keys of the orders that are to be read or written.
        orders: The same, by key.
    """

    odd: ClassVar[bool] = False
    """A key is written in one way only."""

    column: sa.ColumnClause[Any]
    writes: type[int | str | bytes]
    pads: bool = False
    loose: bool = False
    keys: Mapping[int, str] = field(default_factory=dict)
    orders: Mapping[str, int] = field(default_factory=dict)

    @property
    def textual(self) -> bool:
        """Whether the column is one of texts or bytes."""
        return self.writes is not int

    def knowing(self, keys: Mapping[int, str]) -> OrderKeyColumn:
        """Given the keys of some orders, no key twice, return the column with them, to find these orders."""
        return replace(self, keys=keys, orders={key: order for order, key in keys.items()})

    def key_of(self, cell: object) -> str | None:
        """Given a cell, return its key; None where it holds none."""
        key = key_text(cell)
        return key.rstrip(" ") or None if key is not None and self.pads else key

    def keys_of(self, cells: Sequence[Any]) -> list[str | None]:
        """Given the cells of many rows, return their keys; None where a cell holds none."""
        plain = not self.pads and set(map(type, cells)) == {str} and all(cells)
        if plain and max(map(len, cells)) <= LONGEST_KEY and "\0" not in "".join(cells):
            return list(cells)
        return list(map(self.key_of, cells))

    def id_of(self, cell: object) -> int | None:
        """Given a cell, return the order that has its key, if it is one of those that are known."""
        key = self.key_of(cell)
        return None if key is None else self.orders.get(key)

    def cell(self, value: int) -> int | str | bytes:
        """Given an order, return what is written into the column."""
        key = self.keys[value]
        if self.writes is int:
            return int(key)
        return key if self.writes is str else key.encode()

    def unfit(self, order_id: int) -> str:
        """Given an order, return why its key does not fit the column, as the end of a sentence; empty if it fits."""
        if self._fits(order_id):
            return ""
        return f'the column "{self.column.name}" holds whole numbers, and the order\'s key is {self.keys[order_id]!r}'

    def search(self, order_ids: Iterable[int]) -> Iterator[object]:
        """Given orders, yield the cells that their rows may have."""
        for order_id in order_ids:
            if self._fits(order_id):
                yield self.cell(order_id)
            if self.loose and _is_whole(self.keys[order_id]):
                yield int(self.keys[order_id])

    def _fits(self, order_id: int) -> bool:
        return self.writes is not int or _is_whole(self.keys[order_id])


def _is_whole(key: str) -> bool:
    """Return whether a key is a whole number of at most 18 digits, written as a column of numbers shows it."""
    return key.isascii() and key.isdecimal() and len(key) < 19 and str(int(key)) == key


@dataclass(frozen=True)
class Columns:
    """The mapping table, resolved.

    Args:
        table: The table, with its schema.
        order_id: The column of the order id, or of the key that the table holds instead.
        owner_type: The column of the owner type, or the type that every row is of.
        owner_id: The column of the owner id.
        rows: The partition: columns, with the values of all rows that syncd looks at and inserts.
        where: The operator's condition, or None.
        deleted: The soft delete mark, or None.
        touched: The columns that get the time of every write.
        extra: SQL expressions for other columns of inserted rows.
        nullable_owner: Whether the column of the owner id may be null.
        is_view: Whether a statement's row count may be wrong, as with a view.
        order_is_unique: Whether the database allows only one row for an order in this partition.
        reaches_other_rows: Whether writing a row may change others, by a trigger or ON CONFLICT REPLACE.
        hides_effects: Whether it may do so without the writing transaction being able to see it.
    """

    table: sa.TableClause
    order_id: IdColumn | OrderKeyColumn
    owner_type: IdColumn | int
    owner_id: IdColumn
    rows: tuple[tuple[sa.ColumnClause[Any], object], ...] = ()
    where: sa.ColumnElement[Any] | None = None
    deleted: SoftDelete | None = None
    touched: tuple[EncodedColumn, ...] = ()
    extra: tuple[tuple[sa.ColumnClause[Any], sa.ColumnElement[Any]], ...] = ()
    nullable_owner: bool = False
    is_view: bool = False
    order_is_unique: bool = False
    reaches_other_rows: bool = False
    hides_effects: bool = False

    def knowing(self, keys: Mapping[int, str]) -> Columns:
        """Given the keys of some orders, no key twice, return the table with them, to find these orders."""
        if isinstance(self.order_id, IdColumn):
            return self
        return replace(self, order_id=self.order_id.knowing(keys))

    def written(self, *, odd: bool) -> Columns:
        """Return the table with a note on whether it holds order ids that are written in another way than syncd's."""
        return replace(self, order_id=self.order_id._replace(odd=odd)) if isinstance(self.order_id, IdColumn) else self

    def read(self, backend: Backend) -> list[sa.ColumnElement[Any]]:
        """Return the cells of a row as the SQL that reads them."""
        length = LONGEST_CELL + 1
        return [backend.cut(each.column, length, textual=each.textual) for each in self.ids]

    @property
    def ids(self) -> list[IdColumn | OrderKeyColumn]:
        """The columns a row is read from: order id, owner type unless it is constant, owner id."""
        kind: list[IdColumn | OrderKeyColumn] = [self.owner_type] if isinstance(self.owner_type, IdColumn) else []
        return [self.order_id, *kind, self.owner_id]

    @property
    def cells(self) -> list[sa.ColumnClause[Any]]:
        """The same, as SQL."""
        return [each.column for each in self.ids]

    def owner(self, owner_type: object, owner_id: object) -> MaybeOwner:
        """Given a row's two cells, return its owner; None if they name none."""
        kind, number = parse_id(owner_type), parse_id(owner_id)
        return None if kind is None or number is None else Owner(kind, number)

    def describe(self, owner_type: object, owner_id: object) -> str:
        """Given a row's two cells, describe the owner that they name, or why they name none."""
        owner = self.owner(owner_type, owner_id)
        if owner is not None:
            return f"owner type {owner.owner_type_id}, owner {owner.owner_id}"
        cells = [owner_type, owner_id][-len(self.cells[1:]) :]
        return ", ".join(
            f"{column.name} is {display_cell(cell)}"
            for column, cell in zip(self.cells[1:], cells, strict=True)
            if parse_id(cell) is None
        )

    def unreadable(self, rows: Iterable[str]) -> Unreadable:
        """Given a description of each row of one order, return why they cannot be read as one binding.

        The same rows give the same text in any sequence, since a hold lasts only while its text stays the same.
        """
        described = sorted(rows)
        if len(described) == 1:
            return Unreadable(HoldKind.INVALID_ROW, f"the row cannot be read: {described[0]}")
        count = len(described)
        more = f"; and {count - _SHOWN_ROWS} more" if count > _SHOWN_ROWS else ""
        return Unreadable(
            HoldKind.DUPLICATE_ROWS, f"{count} rows for one order: {'; '.join(described[:_SHOWN_ROWS])}{more}"
        )

    def describe_without_order(self, order_id: object, owner_type: object, owner_id: object) -> str:
        """Given a row whose order id cannot be read, return it in words."""
        return f"{self.order_id.column.name} is {display_cell(order_id)} ({self.describe(owner_type, owner_id)})"
