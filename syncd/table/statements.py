"""Every statement that syncd sends to the mapping table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import sqlalchemy as sa

from syncd.core.model import MaybeOwner
from syncd.core.order_ranges import LARGEST_ID, FewOrders, OrderRange
from syncd.db.backend import Backend
from syncd.table.columns import Columns, IdColumn, OrderKeyColumn
from syncd.table.marks import constant

IDS: sa.BindParameter[Any] = sa.bindparam("ids", expanding=True)

# Names of parameters; the prefix keeps them apart from the columns' own names, which SQLAlchemy reserves.
BEFORE = ("syncd_was_0", "syncd_was_1", "syncd_was_2")
"""A row's cells as they were read, in the order of `Columns.cells`."""
AFTER = ("syncd_is_0", "syncd_is_1", "syncd_is_2")
"""A row's cells after the write."""
PARKED = "syncd_parked"
"""The owner id that a row has for a moment, while another row takes its owner."""
PARAMETERS = frozenset((*BEFORE, *AFTER, PARKED))


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


class Statements:
    """The statements for one table. All of them are limited to the partition that `rows` names.

    Args:
        columns: The table.
        backend: Its kind of database.
    """

    def __init__(self, columns: Columns, backend: Backend) -> None:
        self._columns = columns
        self._backend = backend

    @property
    def _partition(self) -> list[sa.ColumnElement[bool]]:
        return [column == constant(value) for column, value in self._columns.rows]

    @property
    def _live(self) -> list[sa.ColumnElement[bool]]:
        return [] if self._columns.deleted is None else [self._columns.deleted.is_live]

    @property
    def _selected(self) -> list[sa.ColumnElement[Any]]:
        return [] if self._columns.where is None else [self._columns.where]

    # ------------------------------------------------------------------ reading

    @property
    def conditions(self) -> Iterator[tuple[str, sa.Select[Any]]]:
        """Each setting that makes a condition, with a statement that shows whether the database accepts it."""
        columns = self._columns
        for column, value in columns.rows:
            yield f"rows.{column.name}", self._no_rows(column == constant(value))
        if columns.deleted is not None:
            yield "deleted", self._no_rows(columns.deleted.is_live)
        if columns.where is not None:
            yield "where", self._no_rows(columns.where)

    def _no_rows(self, *conditions: sa.ColumnElement[Any]) -> sa.Select[Any]:
        return sa.select(sa.literal_column("1")).select_from(self._columns.table).where(*conditions).limit(0)

    @cached_property
    def select_all(self) -> sa.Select[Any]:
        """Every row that is syncd's, sorted by order id if the database can do that.

        Ids kept as text may have to be sorted after reading, since a database sorts them by their digits. The shop's
        own keys do not sort as order ids do.
        """
        columns = self._columns
        select = sa.select(*columns.read(self._backend)).where(*self._partition, *self._live, *self._selected)
        if isinstance(columns.order_id, OrderKeyColumn):
            return select
        order_id = columns.order_id.column
        return select.order_by(*self._backend.id_order(order_id) if columns.order_id.textual else (order_id,))

    def select_piece(self, piece: OrderRange | FewOrders) -> sa.Select[Any]:
        """The rows of `select_all` that have one of these order ids, for a column of numbers.

        Numbers between them, such as 5.5, are in `selects_orderless`.
        """
        order_id = self._columns.order_id.column
        if isinstance(piece, FewOrders):
            forms = [form for one in piece.orders for form in self._backend.usual_cells(one, numeric=True)]
            return self.select_all.where(order_id.in_(forms))
        bounds = order_id >= piece.first, order_id <= piece.last
        return self.select_all.where(*bounds, *(sa.not_(one) for one in self._fractions))

    @property
    def _fractions(self) -> list[sa.ColumnElement[bool]]:
        """The condition that the order id is a fraction, if the column can hold fractions."""
        order_id = self._columns.order_id
        may_be = isinstance(order_id, IdColumn) and order_id.fractions
        return [self._backend.is_fraction(order_id.column)] if may_be else []

    @property
    def selects_orderless(self) -> list[sa.Select[Any]]:
        """The rows of `select_all` whose cell is not an order id, for a column of numbers with an index.

        One select for each reason: for all of them together, SQLite would read all rows. For fractions it does, since
        no index finds them: a tenth of a second for a million rows.
        """
        order_id = self._columns.order_id.column
        whole = [sa.not_(one) for one in self._fractions]
        return [
            self.select_all.where(order_id.is_(None)),
            *(self.select_all.where(one, *whole) for one in (order_id < 1, order_id > LARGEST_ID)),
            *(self.select_all.where(one).order_by(None) for one in self._fractions),
        ]

    @cached_property
    def select_rows(self) -> sa.Select[Any]:
        """The cells of a row, whether it is live, and whether `where` selects it; without a condition on ids."""
        cells = self._columns.read(self._backend)
        return sa.select(*cells, _flag(self._live), _flag(self._selected)).where(*self._partition)

    @cached_property
    def select_by_id(self) -> sa.Select[Any]:
        """`select_rows` for the order ids in the parameter `ids`, as cells."""
        return self.select_rows.where(self._columns.order_id.column.in_(IDS))

    @cached_property
    def select_any_form(self) -> sa.Select[Any]:
        """`select_rows` for the order ids in the parameter `ids`, in any form; it reads the whole column."""
        return self.select_rows.where(self._backend.matches_form(self._columns.order_id.column, IDS))

    @cached_property
    def count_rows(self) -> sa.Select[Any]:
        """How many rows there are, and how many of them are live."""
        live = sa.func.sum(_flag(self._live))
        counted: list[sa.ColumnElement[Any]] = [sa.func.count(), live]
        return sa.select(*counted).select_from(self._columns.table).where(*self._partition)

    @cached_property
    def select_padded(self) -> sa.Select[Any]:
        """Some order ids that begin with a zero, as text."""
        text = sa.cast(self._columns.order_id.column, sa.String(64))
        return sa.select(text).where(*self._partition, text.like("0%")).limit(20)

    def select_shorter(self, length: int) -> sa.Select[Any]:
        """An order id that begins with no zero and has fewer characters than `length`."""
        text = sa.cast(self._columns.order_id.column, sa.String(64))
        shorter = sa.func.length(sa.func.trim(text)) < length
        return sa.select(text).where(*self._partition, sa.not_(text.like("0%")), shorter).limit(1)

    # ------------------------------------------------------------------ writing

    def _as_read(self) -> list[sa.ColumnElement[bool]]:
        cells = list(zip(BEFORE, self._columns.cells, strict=False))[1:]
        return [self._same_order(), *(column == sa.bindparam(name) for name, column in cells), *self._partition]

    def _same_order(self) -> sa.ColumnElement[bool]:
        order_id = self._columns.order_id
        cell: sa.BindParameter[Any] = sa.bindparam(BEFORE[0])
        if isinstance(order_id, OrderKeyColumn) and order_id.writes is str:
            return self._backend.equals_exactly(order_id.column, cell)
        return order_id.column == cell

    def _owner(self) -> dict[Any, Any]:
        return {column: sa.bindparam(name) for name, column in list(zip(AFTER, self._columns.cells, strict=False))[1:]}

    def _touch(self) -> dict[Any, Any]:
        return {each.column: each.set_value(self._backend) for each in self._columns.touched}

    @cached_property
    def delete(self) -> Statement:
        """Remove the row that was read; softly if there is a mark."""
        condition = [*self._as_read(), *self._live, *self._selected]
        deleted = self._columns.deleted
        if deleted is None:
            return Statement.of(sa.delete(self._columns.table).where(*condition))
        marks = {deleted.column: deleted.set, **self._touch()}
        return Statement.of(sa.update(self._columns.table).where(*condition).values(marks))

    @cached_property
    def move(self) -> Statement:
        """Give the row that was read another owner."""
        condition = [*self._as_read(), *self._live, *self._selected]
        return Statement.of(sa.update(self._columns.table).where(*condition).values(self._owner() | self._touch()))

    @cached_property
    def park(self) -> Statement:
        """Give the row that was read an owner id that is nobody's, for a moment."""
        condition = [*self._as_read(), *self._live, *self._selected]
        parked: dict[Any, Any] = {self._columns.owner_id.column: sa.bindparam(PARKED)}
        return Statement.of(sa.update(self._columns.table).where(*condition).values(parked))

    @cached_property
    def unpark(self) -> Statement:
        """Give the row that was parked its new owner."""
        columns = self._columns
        condition = [
            self._same_order(),
            columns.owner_id.column.is_not_distinct_from(sa.bindparam(PARKED)),
            *self._partition,
            *self._live,
        ]
        return Statement.of(sa.update(columns.table).where(*condition).values(self._owner() | self._touch()))

    @cached_property
    def revive(self) -> Statement:
        """Give an order's softly deleted row an owner, and unset its mark."""
        deleted = self._columns.deleted
        assert deleted is not None
        condition = [self._same_order(), *self._partition, sa.not_(deleted.is_live)]
        marks = {deleted.column: deleted.unset, **self._touch()}
        return Statement.of(sa.update(self._columns.table).where(*condition).values(self._owner() | marks))

    @cached_property
    def insert(self) -> Statement:
        """Insert a row."""
        columns = self._columns
        cells: dict[Any, Any] = {columns.order_id.column: sa.bindparam(AFTER[0]), **self._owner(), **self._touch()}
        if columns.deleted is not None:
            cells[columns.deleted.column] = columns.deleted.unset
        cells |= {column: constant(value) for column, value in columns.rows}
        cells |= dict(columns.extra)
        return Statement.of(sa.insert(columns.table).values(cells))

    def parameters(self, order_id: int, owner: MaybeOwner, before: Sequence[object]) -> dict[str, object]:
        """Return the parameters of the writing statements.

        Args:
            order_id: The order.
            owner: The owner wanted; None for a removal.
            before: The cells that were read; empty where there was no row.
        """
        values: dict[str, object] = dict(zip(BEFORE, before, strict=False))
        if owner is not None:
            ids = self._columns.ids
            triple = (order_id, *owner)
            wanted = triple if len(ids) == len(triple) else (order_id, owner.owner_id)
            values |= {name: each.cell(number) for name, each, number in zip(AFTER, ids, wanted, strict=False)}
        return values


def _flag(conditions: list[sa.ColumnElement[Any]]) -> sa.ColumnElement[int]:
    return sa.case((sa.and_(*conditions), 1), else_=0) if conditions else sa.literal_column("1", sa.Integer)
