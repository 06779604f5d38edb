"""Finding the configured table and columns in the database, and reporting everything that does not fit at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from difflib import get_close_matches
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import ReflectedColumn

from syncd.config.mapping_columns import KeyColumn
from syncd.config.model import TableSettings
from syncd.db.backend import Backend
from syncd.table.columns import Columns, IdColumn, OrderKeyColumn
from syncd.table.database import TableFault, fault_of
from syncd.table.marks import (
    ColumnEncoding,
    EncodedColumn,
    SoftDelete,
    configured_mark,
    constant,
    encoding_for,
    mark_by_type,
)
from syncd.table.rows import WatchedColumn

T = TypeVar("T")

_SHOWN_COLUMNS = 20
_WATCHABLE = frozenset({ColumnEncoding.TIME, ColumnEncoding.TIME_TEXT, ColumnEncoding.SECONDS, ColumnEncoding.ONE})
_ANSWERS = frozenset({TableFault.NO_TABLE, TableFault.DENIED, TableFault.ROW})
"""Errors by which a database says that it has no such thing, or does not show it. The others end the look."""


def split_name(name: str) -> tuple[str | None, str]:
    """Given `table` or `schema.table` from the configuration, return schema and table."""
    schema, _, table = name.rpartition(".")
    return schema or None, table


class Reflection:
    """One look at the table in the database.

    Args:
        connection: Reads the database's own description of the table.
        settings: The link's table settings.
        backend: The kind of database.
        key: The configuration key of the settings, such as `links.shop.table`.
    """

    def __init__(self, connection: sa.Connection, settings: TableSettings, backend: Backend, key: str) -> None:
        self.problems: list[str] = []
        self._connection, self._settings, self._backend, self._key = connection, settings, backend, key
        self.schema, self.name = split_name(settings.name)
        self.found = self._reflected(connection)
        self._used: set[str] = set()
        if lack := backend.shortcoming(connection, self.schema, self.name):
            self._complain("name", f"the table {settings.name} {lack}")

    def _reflected(self, connection: sa.Connection) -> dict[str, ReflectedColumn]:
        inspector = sa.inspect(connection)
        try:
            found = inspector.get_columns(self.name, schema=self.schema)
        except sa.exc.NoSuchTableError:
            found = []
        except sa.exc.DBAPIError as error:
            if fault_of(error) is not TableFault.NO_TABLE:
                raise
            found = []  # SQLite's error for an unknown schema
        if not found:
            self._complain("name", f'the database has no table "{self._settings.name}"{self._others(inspector)}')
            return {}
        return {column["name"]: column for column in found}

    def _others(self, inspector: sa.Inspector) -> str:
        names = _described(lambda: inspector.get_table_names(schema=self.schema))
        if names is None:
            return ""
        return f"; it has {_listed(names, like=self.name)}" if names else "; it has no tables there"

    def _complain(self, at: str, sentence: str) -> None:
        self.problems.append(f"{self._key}.{at}: {sentence}")

    # ------------------------------------------------------------------- result

    def columns(self, *, writable: bool) -> Columns | None:
        """Return the resolved columns, or None when there are problems.

        Args:
            writable: Whether syncd may write to this table; only then are columns that it cannot fill a problem.
        """
        if not self.found:
            return None
        key, configured = self._settings.key, self._settings.columns
        kind = configured["owner_type_id"]
        order_id = self._order_column(key)
        owner_id = self._id_column("columns.owner_id", str(configured["owner_id"]))
        owner_type = kind if isinstance(kind, int) else self._id_column("columns.owner_type_id", str(kind))
        rows = self._values("rows", self._settings.rows)
        deleted = self._deleted()
        touched = tuple(filter(None, (self._touched(name) for name in self._settings.touched_columns)))
        extra = self._values("extra", self._settings.extra)
        if writable:
            self._check_filled()
            self._check_not_generated({key.setting: order_id, "owner_type_id": owner_type, "owner_id": owner_id})
        if self.problems or order_id is None or owner_type is None or owner_id is None:
            return None
        partition = tuple((column, value) for column, value, _ in rows)
        filled = tuple((column, value) for column, _, value in extra)
        parts = [order_id, owner_id, owner_type, deleted, *touched]
        named = [part.column for part in parts if part is not None and not isinstance(part, int)]
        table = sa.table(self.name, *named, *(column for column, _ in (*partition, *filled)), schema=self.schema)
        fixed = {order_id.column.name, *(column.name for column, _ in partition)}
        fixed |= {column.name for column, value, _ in extra if not isinstance(value, Mapping)}
        at = (self._connection, self.schema, self.name)
        return Columns(
            table,
            order_id,
            owner_type,
            owner_id,
            rows=partition,
            where=self._where(),
            deleted=deleted,
            touched=touched,
            extra=filled,
            nullable_owner=bool(self.found[owner_id.column.name]["nullable"]),
            is_view=self._backend.is_view(*at),
            order_is_unique=any(order_id.column.name in unique <= fixed for unique in self._uniques()),
            reaches_other_rows=self._backend.may_reach_other_rows(*at),
            hides_effects=self._backend.hides_effects(*at),
        )

    def watched(self) -> WatchedColumn | None:
        """Return the column `watch`; None if none is configured, or it has problems.

        It is not part of `columns`, since passes do not need it.
        """
        name = self._settings.watch
        column = self._column("watch", name) if name is not None and self.found else None
        if column is None:
            return None
        encoding = encoding_for(column, self._backend.plain_type(self.found[column.name]["type"]), self._backend)
        if encoding in _WATCHABLE:
            readable = self._backend.readable_times(column) if encoding is ColumnEncoding.TIME else []
            return WatchedColumn(column, readable)
        kind = self._type_name(column.name)
        self._complain(
            "watch",
            f'the column "{column.name}" is of type {kind}; it must be a time, a whole number or a text of 19 '
            "characters, which grows with every write to a row",
        )
        return None

    def has_index(self, column: str) -> bool | None:
        """Return whether an index finds rows by this column, after the partition's columns; None if that is unknown."""
        keys = _described(self._keys)
        indexes = _described(self._indexes)
        if keys is None or indexes is None:
            return None
        fixed = set(self._settings.rows)
        searched = [*keys, *(index.columns for index in indexes)]
        return any(next((name for name in each if name not in fixed), "") == column for each in searched)

    def _where(self) -> sa.ColumnElement[Any] | None:
        # On lines of its own, so that a comment at its end does not swallow the bracket. A literal column, since in a
        # text colons would be parameters.
        where = self._settings.where
        return sa.literal_column(f"(\n{where}\n)") if where else None

    def _column(self, at: str, name: str) -> sa.ColumnClause[Any] | None:
        found = name if name in self.found else None
        if found is None and self._backend.folds_case:
            found = next((other for other in self.found if other.lower() == name.lower()), None)
        if found is None:
            names = _listed(self.found, like=name)
            self._complain(at, f'the table {self._settings.name} has no column "{name}"; it has {names}')
            return None
        self._used.add(found)
        return sa.column(found)

    def _order_column(self, key: KeyColumn) -> IdColumn | OrderKeyColumn | None:
        at = f"columns.{key.setting}"
        if key.field is None:
            return self._id_column(at, key.column, key.width)
        column = self._column(at, key.column)
        if column is None:
            return None
        reflected = self._backend.plain_type(self.found[column.name]["type"])
        loose = isinstance(reflected, sa.types.NullType)
        writes = str if loose else self._backend.id_cell(reflected)
        if writes is None:
            kind = self._type_name(column.name)
            self._complain(at, f'the column "{column.name}" is of type {kind}; keys are texts, or whole numbers')
            return None
        return OrderKeyColumn(column, writes, pads=isinstance(reflected, sa.CHAR), loose=loose)

    def _id_column(self, at: str, name: str, width: int | None = None) -> IdColumn | None:
        column = self._column(at, name)
        if column is None:
            return None
        reflected = self._backend.plain_type(self.found[column.name]["type"])
        writes = self._backend.id_cell(reflected)
        if writes is None:
            kind = self._type_name(column.name)
            self._complain(at, f'the column "{column.name}" is of type {kind}; ids are whole numbers, or text')
            return None
        if width is not None and writes is int:
            self._complain(f"{at}.width", f'the column "{column.name}" holds numbers, which have no zeros before them')
            return None
        textual = not isinstance(reflected, sa.Integer | sa.Numeric)
        fractions = not textual and self._backend.holds_fractions(self.found[column.name], self._primary_key)
        return IdColumn(column, textual, writes, width, fractions=fractions)

    def _values(
        self, at: str, configured: Mapping[str, object]
    ) -> list[tuple[sa.ColumnClause[Any], Any, sa.ColumnElement[Any]]]:
        """Given columns with values, return each column that exists, its value, and the value as SQL."""
        found: list[tuple[sa.ColumnClause[Any], Any, sa.ColumnElement[Any]]] = []
        for name, value in configured.items():
            column = self._column(f"{at}.{name}", name)
            if column is None:
                continue
            if isinstance(value, Mapping):
                # A literal column, since in a text colons would be parameters.
                found.append((column, value, sa.literal_column(f"({value['sql']})")))
            else:
                cell = self._backend.cell(value)
                found.append((column, cell, constant(cell)))
        return found

    def _deleted(self) -> SoftDelete | None:
        mark = self._settings.deletion
        column = self._column("deleted", mark.column) if mark is not None else None
        if mark is None or column is None:
            return None
        if mark.set is not None:
            return configured_mark(column, self._backend.cell(mark.set), self._backend.cell(mark.unset))
        encoded = self._encoded("deleted", column)
        if encoded is None:
            return None
        unset = self._backend.cell(mark.unset) if mark.unset is not None else None
        made = mark_by_type(encoded, self._backend, unset)
        if made is None:
            self._complain(
                "deleted",
                f'the column "{column.name}" is NOT NULL, so every row would be deleted; '
                "give the value of live rows: { column, unset }",
            )
        return made

    def _touched(self, name: str) -> EncodedColumn | None:
        column = self._column("touched", name)
        encoded = self._encoded("touched", column) if column is not None else None
        if encoded is not None and encoded.encoding is ColumnEncoding.ONE:
            return replace(encoded, encoding=ColumnEncoding.SECONDS)
        return encoded

    def _encoded(self, at: str, column: sa.ColumnClause[Any]) -> EncodedColumn | None:
        reflected = self.found[column.name]
        plain = self._backend.plain_type(reflected["type"])
        encoding = encoding_for(column, plain, self._backend)
        if encoding is None or (at == "touched" and encoding is ColumnEncoding.YES):
            kinds = "a time, a number or a text of 19 characters" + (" or a boolean" if at == "deleted" else "")
            more = "; or give its values: { column, set, unset }" if at == "deleted" else ""
            kind = self._type_name(column.name)
            self._complain(at, f'the column "{column.name}" is of type {kind}; it must be {kinds}{more}')
            return None
        return EncodedColumn(column, encoding, bool(reflected["nullable"]), getattr(plain, "fsp", None))

    def _uniques(self) -> list[set[str]]:
        """Return the sets of columns in which the database allows each combination of values once, except nulls."""
        at = (self._connection, self.schema, self.name)
        if own := _described(lambda: self._backend.unique_keys(*at)):
            return own
        keys = _described(self._keys)
        indexes = _described(self._indexes)
        if keys is None or indexes is None:
            return []  # a view has none
        return [set(key) for key in (*keys, *(index.columns for index in indexes if index.is_unique)) if key]

    def repeated_keys(self, columns: Columns) -> list[str]:
        """Return a sentence on each unique key that the second row inserted would repeat, by `rows` and `extra` alone.

        A pass goes on all the same: it may have nothing to insert.
        """
        rows = {column.name for column, _ in columns.rows}
        extra = {column.name for column, value in columns.extra if isinstance(value, sa.BindParameter)}
        sentences = []
        for unique in self._uniques():
            if unique <= rows | extra:
                names = " and ".join(f'"{name}"' for name in sorted(unique))
                same = f"every row that syncd inserts would have the same {names}, which the table allows only once"
                advice = '; give an expression that differs from row to row, as { sql = "…" }'
                sentences.append(f"extra: {same}{advice}" if unique & extra else f"rows: {same}")
        return list(dict.fromkeys(sentences))  # a unique constraint may also be listed as the index under it

    def _keys(self) -> list[list[str]]:
        """Return the columns of the primary key and of each unique constraint."""
        constraints = sa.inspect(self._connection).get_unique_constraints(self.name, self.schema)
        return [self._primary_key, *(each["column_names"] for each in constraints)]

    def _indexes(self) -> list[_Index]:
        """Return the indexes over all rows; an expression in place of a column has no name."""
        return [
            _Index([name or "" for name in each["column_names"]], is_unique=bool(each["unique"]))
            for each in sa.inspect(self._connection).get_indexes(self.name, self.schema)
            if not _is_partial(each)
        ]

    def _type_name(self, name: str) -> str:
        return str(self.found[name]["type"].compile(dialect=self._connection.dialect))

    def _check_filled(self) -> None:
        empty = [
            name
            for name, column in self.found.items()
            if name not in self._used and not column["nullable"] and not self._fills_itself(column)
        ]
        filled = self._backend.filled_columns(self._connection, self.schema, self.name) if empty else set()
        for name in empty:
            if name not in filled:
                self._complain(
                    "extra", f'the column "{name}" is NOT NULL and has no default: give a value for rows syncd inserts'
                )

    def _fills_itself(self, column: ReflectedColumn) -> bool:
        return self._backend.fills_itself(column, self._primary_key)

    @cached_property
    def _primary_key(self) -> list[str]:
        key = _described(lambda: sa.inspect(self._connection).get_pk_constraint(self.name, self.schema))
        return list(key["constrained_columns"]) if key is not None else []  # a view has none

    def _check_not_generated(self, columns: Mapping[str, IdColumn | OrderKeyColumn | int | None]) -> None:
        for key, each in columns.items():
            if isinstance(each, IdColumn | OrderKeyColumn) and _is_generated(self.found[each.column.name]):
                self._complain(
                    f"columns.{key}",
                    f'the column "{each.column.name}" is generated by the database, and takes no value',
                )


class _Index(NamedTuple):
    """The columns of an index, and whether it allows each combination of their values only once."""

    columns: list[str]
    is_unique: bool


def _described(read: Callable[[], T]) -> T | None:
    """Read a part of the database's own description; return None if the database does not have it or does not show it.

    Raises:
        DBAPIError: The database did not answer: the connection was lost, a lock or a statement took too long.
    """
    try:
        return read()
    except (sa.exc.NoSuchTableError, NotImplementedError):
        return None
    except sa.exc.DBAPIError as error:
        if error.connection_invalidated or fault_of(error) not in _ANSWERS:
            raise
        return None


def _is_generated(column: Mapping[str, Any]) -> bool:
    return bool(column.get("computed")) or bool((column.get("identity") or {}).get("always"))


def _is_partial(index: Mapping[str, Any]) -> bool:
    options = index.get("dialect_options", {})
    return any(name.endswith("_where") for name in options) or bool(index.get("expressions"))


def _listed(names: Collection[str], *, like: str) -> str:
    """Given names, list them, those most similar to `like` first."""
    close = get_close_matches(like, names, n=3)
    ordered = [*close, *(name for name in sorted(names) if name not in close)]
    more = f" and {len(ordered) - _SHOWN_COLUMNS} more" if len(ordered) > _SHOWN_COLUMNS else ""
    return ", ".join(ordered[:_SHOWN_COLUMNS]) + more
