"""Everything that is wrong with a link's mapping table: its shape, `where`, rights and keys, and a trial write.

The trial finds out what can be written: it moves, removes and adds an order in a transaction that is rolled back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import sqlalchemy as sa
from sqlalchemy import exc

from syncd.config.mapping_columns import KEY_FIELDS
from syncd.config.model import TableSettings
from syncd.core.model import Owner
from syncd.core.ports import TableCheck, Write
from syncd.db.registry import code_and_words
from syncd.errors import AuthError
from syncd.table.columns import Columns, OrderKeyColumn, display_cell, parse_id
from syncd.table.database import (
    GRANTS,
    TableDatabase,
    TableFault,
    fault_of,
    is_about_a_row,
    is_of_settings,
    is_unwritable,
    rows_hidden,
)
from syncd.table.reflect import Reflection
from syncd.table.row_writer import RowWriter, TransactionEnded, UnexpectedEffect, savepoint
from syncd.table.rows import active_rows, padded_cells
from syncd.table.statements import Statements

SAMPLE = 100
"""Rows that are read."""
SHOWN_KEYS = 3

_MADE_UP = 32_749
"""The order and owner of a trial write if the table has no usable row; the number fits a small integer."""
_DEAL = 2


@dataclass
class _Findings:
    """What was found so far; `denied` says for each problem whether it is only a missing right."""

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    denied: list[bool] = field(default_factory=list)

    def problem(self, text: str, *, denied: bool = False) -> None:
        self.problems.append(text)
        self.denied.append(denied)


def check_table(settings: TableSettings, home: TableDatabase, *, key: str, writable: bool) -> TableCheck:
    """Return every problem and every warning, each a sentence that begins with its configuration key.

    Args:
        settings: The link's table settings.
        home: The database the table is in.
        key: The configuration key of the settings, such as `links.shop.table`.
        writable: Whether syncd may write to this table.

    Raises:
        DBAPIError: The database cannot be read.
        AuthError: The only problems are missing rights, or row level security hides rows.
    """
    found = _Findings()
    with home.reading() as connection:
        reflection = Reflection(connection, settings, home.backend, key)
        columns = reflection.columns(writable=writable)
        watched = reflection.watched()
        repeated = reflection.repeated_keys(columns) if columns is not None else []
        indexed = watched is None or reflection.has_index(watched.column.name)
        exposure = home.backend.exposure(connection)
        hidden = reflection.found and home.backend.hides_rows(connection, reflection.schema, reflection.name)
    for problem in reflection.problems:
        found.problem(problem)
    if exposure:
        found.warnings.append(f"{key}.url: {exposure}")
    if hidden and home.refuses_hidden_rows:
        raise rows_hidden(settings.database_identity, key)
    if hidden:
        found.warnings.append(
            f"{key}.row_security: policies may hide rows from this user; what they show counts as all"
        )
    if watched is not None and columns is not None and not columns.is_view and indexed is False:
        found.warnings.append(
            f'{key}.watch: no index begins with the column "{watched.column.name}", so the daemon reads the whole '
            "table each time it asks what has changed; make one"
        )
    if columns is None:
        return TableCheck(found.problems, found.warnings, [])
    order_at = f"{key}.columns.{settings.key.setting}"
    sample, keys = _Readings(home, columns, key, order_at, found).sample()
    if writable and not found.problems:
        # What cannot be read cannot be written either; the database would only report the same again.
        if not columns.order_is_unique and not columns.is_view:
            found.warnings.append(
                f"{order_at}: the table has no unique index on {_what(columns)} {_beside(columns)}, so two programs "
                "that add an order at the same moment could make two rows of it"
            )
        for sentence in repeated:
            found.problem(f"{key}.{sentence}")
        _Trial(home, columns, key, found).run()
    if found.problems and all(found.denied):
        raise AuthError(f"{'; '.join(found.problems)}.", hint=GRANTS)
    return TableCheck(found.problems, found.warnings, sample, keys)


def _what(columns: Columns) -> str:
    return "the order's key" if isinstance(columns.order_id, OrderKeyColumn) else "the order id"


def _beside(columns: Columns) -> str:
    return "and the columns of `rows` alone" if columns.rows else "alone"


def refused_settings(home: TableDatabase, columns: Columns, key: str) -> list[str]:
    """Return the settings that the database refuses in a condition, each as a sentence that begins with its key.

    Args:
        home: The database the table is in.
        columns: The table.
        key: The configuration key of the settings, such as `links.shop.table`.

    Raises:
        DBAPIError: The database cannot be read.
    """
    problems: list[str] = []
    for setting, trial in Statements(columns, home.backend).conditions:
        try:
            with home.reading() as connection:
                connection.execute(trial)
        except exc.DBAPIError as error:
            if not is_of_settings(error):
                raise
            problems.append(f"{key}.{setting}: is not accepted by the database: {code_and_words(error)[1]}")
    return problems


class _Readings:
    """Checks that read some rows.

    Args:
        home: The database the table is in.
        columns: The table.
        key: The configuration key of the settings.
        order_at: The configuration key of the column of the order.
        found: Takes what is found.
    """

    def __init__(self, home: TableDatabase, columns: Columns, key: str, order_at: str, found: _Findings) -> None:
        self._home = home
        self._columns = columns
        self._statements = Statements(columns, home.backend)
        self._key = key
        self._order_at = order_at
        self._found = found

    def sample(self) -> tuple[list[int], list[str]]:
        """Return some order ids, or some of the shop's own keys if the table holds those."""
        plain = sa.select(*self._columns.cells).limit(0)
        if not self._accepted("name", "may not be read", plain):
            return [], []
        if refused := refused_settings(self._home, self._columns, self._key):
            for problem in refused:
                self._found.problem(problem)
            return [], []
        if not self._accepted("name", "may not be read", self._statements.select_all.limit(0)):
            return [], []
        with self._home.reading() as connection:
            rows = connection.execute(self._statements.select_all.order_by(None).limit(SAMPLE)).all()
            total, live = connection.execute(self._statements.count_rows).one()
            padded = padded_cells(connection, self._columns, self._home.backend)
        order = self._columns.order_id
        column = order.column.name
        orders: list[int] = []
        keys: list[str] = []
        if isinstance(order, OrderKeyColumn):
            keys = [key for row in rows if (key := order.key_of(row[0])) is not None]
        else:
            orders = [order_id for row in rows if (order_id := parse_id(row[0])) is not None]
        if rows and not orders and not keys:
            shown = ", ".join(display_cell(row[0]) for row in rows[:SHOWN_KEYS])
            has, instead = "a key", ""
            if not isinstance(order, OrderKeyColumn):
                has, instead = "an order id", f"; if these are keys of the shop's own, name it {', '.join(KEY_FIELDS)}"
            seen = f"none of the {len(rows)} rows that were read has {has}"
            self._found.problem(f'{self._order_at}: {seen} in "{column}"; it holds {shown}{instead}')
        if total and not live:
            self._found.warnings.append(
                f"{self._key}.deleted: all of the {total:,} rows count as deleted; if they are live, give the values "
                "of the mark: { column, set, unset }"
            )
        if padded:
            self._found.problem(
                f'{self._order_at}: the codes in "{column}" are padded with zeros, such as '
                f"{display_cell(padded[0])}; give their width: {{ column, width }}"
            )
        return orders, keys

    def _accepted(self, at: str, what: str, trial: sa.Select[tuple[object, ...]]) -> bool:
        try:
            with self._home.reading() as connection:
                connection.execute(trial)
        except exc.DBAPIError as error:
            if fault_of(error) in {TableFault.GONE, TableFault.LOCKED, TableFault.AGAIN}:
                raise
            denied = fault_of(error) is TableFault.DENIED
            self._found.problem(f"{self._key}.{at}: {what}: {code_and_words(error)[1]}", denied=denied)
            return False
        return True


class _Trial:
    """Writes that are rolled back: an order of the table, or a made-up one, is moved, removed and added."""

    def __init__(self, home: TableDatabase, columns: Columns, key: str, found: _Findings) -> None:
        self._home = home
        self._columns = columns
        self._key = key
        self._found = found

    def run(self) -> None:
        try:
            with self._home.writing() as connection:
                if not self._home.backend.takes_writes(connection):
                    self._found.problem(f"{self._key}.url: the database is read-only")
                    return
                self._try(connection)
                connection.rollback()
        except TransactionEnded as ended:
            text = code_and_words(ended.error)[1]
            self._found.warnings.append(f"{self._key}.name: writing could not be tried: {text}")
        except exc.DBAPIError as error:
            if not is_unwritable(error):
                raise
            self._found.problem(f"{self._key}.url: the database takes no writes: {code_and_words(error)[1]}")

    def _try(self, connection: sa.Connection) -> None:
        sample = connection.execute(
            Statements(self._columns, self._home.backend).select_all.order_by(None).limit(SAMPLE)
        )
        cells = [row[0] for row in sample.all()]
        columns = self._numbered(cells)
        rows = RowWriter(connection, self._home.backend, columns, self._key)
        order_id, owner = self._example(columns, cells, rows)
        if owner is not None:
            self._step(connection, "update", lambda: self._carry_out(rows, Write(order_id, owner, owner)))
            if self._step(connection, "delete", lambda: self._carry_out(rows, Write(order_id, owner, None))):
                self._step(connection, "insert", lambda: self._carry_out(rows, Write(order_id, None, owner)))
            return
        kind = self._columns.owner_type if isinstance(self._columns.owner_type, int) else _DEAL
        first, second = Owner(kind, _MADE_UP), Owner(kind, _MADE_UP - 1)
        if self._step(connection, "insert", lambda: self._carry_out(rows, Write(_MADE_UP, None, first))):
            self._step(connection, "update", lambda: self._carry_out(rows, Write(_MADE_UP, first, second)))
            self._step(connection, "delete", lambda: self._carry_out(rows, Write(_MADE_UP, second, None)))
            return
        # Without a row the statements change none, but they show whether the rights for them exist.
        statements = Statements(columns, self._home.backend)
        parameters = statements.parameters(_MADE_UP, first, [each.cell(_MADE_UP) for each in columns.ids])
        for what, statement in (("update", statements.move), ("delete", statements.delete)):
            self._step(connection, what, partial(connection.execute, statement.clause, statement.only(parameters)))

    def _numbered(self, cells: Sequence[object]) -> Columns:
        """Return the table with orders for the keys in these cells, and for a made-up one, so that it can find them."""
        order = self._columns.order_id
        if not isinstance(order, OrderKeyColumn):
            return self._columns
        keys = {key for cell in cells if (key := order.key_of(cell)) is not None} - {str(_MADE_UP)}
        return self._columns.knowing({_MADE_UP: str(_MADE_UP), **dict(enumerate(sorted(keys), 1))})

    def _example(self, columns: Columns, cells: Sequence[object], rows: RowWriter) -> tuple[int, Owner | None]:
        """Return an order with one readable row, and its owner; None as the owner if there is no such order."""
        for cell in cells:
            order_id = columns.order_id.id_of(cell)
            if order_id is None:
                continue
            # As for a move: a read for an add may wait for locks.
            asked = Write(order_id, Owner(_DEAL, _MADE_UP), None)
            active = active_rows(rows.fetch([asked]).get(order_id, []))
            if len(active) == 1 and active[0].owner is not None:
                return order_id, active[0].owner
        return _MADE_UP, None

    def _carry_out(self, rows: RowWriter, write: Write) -> None:
        there = rows.fetch([write])
        rows.carry_out([(write,)], there)
        rows.prove([write], there)

    def _step(self, connection: sa.Connection, what: str, step: Callable[[], object]) -> bool:
        """Try one write; return whether the database accepted it."""
        at = f"{self._key}.name: may not be written ({what})"
        try:
            with savepoint(connection):
                step()
        except UnexpectedEffect as effect:
            self._found.problem(f"{at}: {effect.text}")
        except exc.DBAPIError as error:
            fault = fault_of(error)
            if is_unwritable(error) or fault in {TableFault.GONE, TableFault.AGAIN}:
                raise
            text = code_and_words(error)[1]
            if fault is TableFault.LOCKED or is_about_a_row(error):
                self._found.warnings.append(f"{self._key}.name: writing could not be tried ({what}): {text}")
            else:
                self._found.problem(f"{at}: {text}", denied=fault is TableFault.DENIED)
        else:
            return True
        return False
