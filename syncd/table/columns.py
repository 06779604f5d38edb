"""The mapping table as configured and as found: its columns, their types, and every statement syncd sends to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import sqlalchemy as sa

from syncd.core.model import HoldKind, MaybeOwner, Owner, Unreadable
from syncd.table.ids import normal_id, shown
from syncd.table.marks import Marked

_SHOWN_ROWS = 5

IDS: sa.BindParameter[Any] = sa.bindparam("ids", expanding=True)

# Names of parameters; the prefix keeps them apart from the columns' own names, which SQLAlchemy reserves.
WAS = ("syncd_was_0", "syncd_was_1", "syncd_was_2")
"""A row's cells as they were read, in the order of `Columns.cells`."""
IS = ("syncd_is_0", "syncd_is_1", "syncd_is_2")
"""A row's cells as they shall be."""
DELETED, UNDELETED, TOUCHED = "syncd_deleted", "syncd_undeleted", "syncd_touched"
PARAMETERS = frozenset((*WAS, *IS, DELETED, UNDELETED, TOUCHED))


class Statement(NamedTuple):
    """A writing statement, and the names of its parameters."""

    clause: sa.Insert | sa.Update | sa.Delete
    names: frozenset[str]

    @classmethod
    def of(cls, clause: sa.Insert | sa.Update | sa.Delete) -> Statement:
        """Given a clause, return it with the names of its parameters."""
        return cls(clause, frozenset(clause.compile().params) & PARAMETERS)

    def only(self, parameters: Mapping[str, object]) -> dict[str, object]:
        """Given parameters of any statement, return those of this one."""
        return {name: parameters[name] for name in self.names}


class IdColumn(NamedTuple):
    """A column that holds an id.

    textual says whether one id may be written in several ways in it; writes is what syncd writes: int, str or bytes.
    """

    column: sa.ColumnClause[Any]
    textual: bool
    writes: type[int | str | bytes]

    def cell(self, value: int) -> int | str | bytes:
        """Given an id, return what is written into the column."""
        if self.writes is int:
            return value
        return str(value) if self.writes is str else str(value).encode()


@dataclass(frozen=True)
class Columns:
    """The mapping table, resolved.

    Args:
        table: The table, with its schema.
        order_id: The column of the order id.
        owner_type: The column of the owner type, or the type that every row is of.
        owner_id: The column of the owner id.
        where: The operator's condition, or None.
        deleted: The soft delete mark, or None.
        touched: The column that gets the time of every write, or None.
        extra: Values for other columns of inserted rows.
    """

    table: sa.TableClause
    order_id: IdColumn
    owner_type: IdColumn | int
    owner_id: IdColumn
    where: sa.ColumnElement[Any] | None = None
    deleted: Marked | None = None
    touched: Marked | None = None
    extra: tuple[tuple[sa.ColumnClause[Any], object], ...] = ()

    # ------------------------------------------------------------ what a row says

    def owner(self, owner_type: object, owner_id: object) -> MaybeOwner:
        """Given a row's two cells, return its owner; None where they name none."""
        kind, number = normal_id(owner_type), normal_id(owner_id)
        return None if kind is None or number is None else Owner(kind, number)

    def says(self, owner_type: object, owner_id: object) -> str:
        """Given a row's two cells, return in words what it says about its order's owner."""
        owner = self.owner(owner_type, owner_id)
        if owner is not None:
            return f"owner type {owner.owner_type_id}, owner {owner.owner_id}"
        cells = [owner_type, owner_id][-len(self.cells[1:]) :]
        return ", ".join(
            f"{column.name} is {shown(cell)}"
            for column, cell in zip(self.cells[1:], cells, strict=True)
            if normal_id(cell) is None
        )

    def unreadable(self, rows: Iterable[str]) -> Unreadable:
        """Given what each row of one order says, return why they cannot be read as one binding.

        The same rows give the same words, in whatever order they came: holds last as long as the words stay.
        """
        told = sorted(rows)
        if len(told) == 1:
            return Unreadable(HoldKind.INVALID_ROW, f"the row cannot be read: {told[0]}")
        more = f"; and {len(told) - _SHOWN_ROWS} more" if len(told) > _SHOWN_ROWS else ""
        return Unreadable(
            HoldKind.DUPLICATE_ROWS, f"{len(told)} rows for one order: {'; '.join(told[:_SHOWN_ROWS])}{more}"
        )

    def orderless(self, order_id: object, owner_type: object, owner_id: object) -> str:
        """Given a row whose order id cannot be read, return it in words."""
        return f"{self.order_id.column.name} is {shown(order_id)} ({self.says(owner_type, owner_id)})"

    # --------------------------------------------------------------- statements

    @property
    def ids(self) -> list[IdColumn]:
        """The columns a row is read from: order id, owner type unless it is constant, owner id."""
        kind = [self.owner_type] if isinstance(self.owner_type, IdColumn) else []
        return [self.order_id, *kind, self.owner_id]

    @property
    def cells(self) -> list[sa.ColumnClause[Any]]:
        """The same, as SQL."""
        return [each.column for each in self.ids]

    @property
    def _live(self) -> list[sa.ColumnElement[bool]]:
        return [] if self.deleted is None else [self.deleted.is_unset()]

    @property
    def _selected(self) -> list[sa.ColumnElement[Any]]:
        return [] if self.where is None else [self.where]

    @cached_property
    def everything(self) -> sa.Select[Any]:
        """Every row that is syncd's, in order of order id where the database can order numbers.

        Ids kept as text would come in the order of their digits: those are sorted after reading.
        """
        select = sa.select(*self.cells).where(*self._live, *self._selected)
        return select if self.order_id.textual else select.order_by(self.order_id.column)

    @cached_property
    def some(self) -> sa.Select[Any]:
        """The cells of any row, whether it is live, whether `where` selects it; still without a condition on ids."""
        live = sa.case((sa.and_(*self._live), 1), else_=0) if self._live else sa.literal(1)
        selected = sa.case((sa.and_(*self._selected), 1), else_=0) if self._selected else sa.literal(1)
        return sa.select(*self.cells, live, selected)

    @cached_property
    def by_id(self) -> sa.Select[Any]:
        """`some` for the order ids in the parameter `ids`, as cells."""
        return self.some.where(self.order_id.column.in_(IDS))

    def _as_read(self) -> list[sa.ColumnElement[bool]]:
        return [column == sa.bindparam(name) for name, column in zip(WAS, self.cells, strict=False)]

    def _owner(self) -> dict[Any, Any]:
        return {column: sa.bindparam(name) for name, column in list(zip(IS, self.cells, strict=False))[1:]}

    def _touch(self) -> dict[Any, Any]:
        return {} if self.touched is None else {self.touched.column: sa.bindparam(TOUCHED)}

    @cached_property
    def delete(self) -> Statement:
        """Remove the row that was read, softly where there is a mark."""
        condition = [*self._as_read(), *self._live, *self._selected]
        if self.deleted is None:
            return Statement.of(sa.delete(self.table).where(*condition))
        marks = {self.deleted.column: sa.bindparam(DELETED), **self._touch()}
        return Statement.of(sa.update(self.table).where(*condition).values(marks))

    @cached_property
    def move(self) -> Statement:
        """Give the row that was read another owner."""
        condition = [*self._as_read(), *self._live, *self._selected]
        return Statement.of(sa.update(self.table).where(*condition).values(self._owner() | self._touch()))

    @cached_property
    def revive(self) -> Statement:
        """Give an order's softly deleted row an owner, and unset its mark."""
        assert self.deleted is not None
        condition = [self.order_id.column == sa.bindparam(WAS[0]), sa.not_(self.deleted.is_unset())]
        marks = {self.deleted.column: sa.bindparam(UNDELETED), **self._touch()}
        return Statement.of(sa.update(self.table).where(*condition).values(self._owner() | marks))

    @cached_property
    def insert(self) -> Statement:
        """Make a row."""
        cells: dict[Any, Any] = {self.order_id.column: sa.bindparam(IS[0]), **self._owner(), **self._touch()}
        if self.deleted is not None:
            cells[self.deleted.column] = sa.bindparam(UNDELETED)
        # Given as values and not as parameters: they are the same in every row.
        cells |= {column: sa.literal(value, sa.types.NullType()) for column, value in self.extra}
        return Statement.of(sa.insert(self.table).values(cells))

    # --------------------------------------------------------------- parameters

    def parameters(self, order_id: int, owner: MaybeOwner, was: Sequence[object], now: float) -> dict[str, object]:
        """Return the parameters of the writing statements.

        Args:
            order_id: The order.
            owner: The owner wanted; None for a removal.
            was: The cells that were read; empty where there was no row.
            now: Seconds since the epoch.
        """
        values: dict[str, object] = dict(zip(WAS, was, strict=False))
        if owner is not None:
            triple = (order_id, *owner)
            wanted = triple if len(self.ids) == len(triple) else (order_id, owner.owner_id)
            values |= {name: each.cell(number) for name, each, number in zip(IS, self.ids, wanted, strict=False)}
        if self.deleted is not None:
            values |= {DELETED: self.deleted.value(now), UNDELETED: self.deleted.unset}
        if self.touched is not None:
            values[TOUCHED] = self.touched.value(now)
        return values
