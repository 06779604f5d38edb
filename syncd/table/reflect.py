"""Finding the configured table and columns in the database, and telling everything that does not fit at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine.interfaces import ReflectedColumn

from syncd.config.model import TableSettings
from syncd.table.columns import Columns, IdColumn
from syncd.table.dialect import Dialect
from syncd.table.faults import Fault, diagnose
from syncd.table.marks import Mark, Marked, mark_for

_SHOWN_COLUMNS = 20


def split_name(name: str) -> tuple[str | None, str]:
    """Given `table` or `schema.table` from the configuration, return schema and table."""
    schema, _, table = name.rpartition(".")
    return schema or None, table


class Reflection:
    """One look at the table in the database.

    Args:
        connection: Reads the database's own description of the table.
        settings: The link's table settings.
        dialect: How to speak to this database.
        key: The configuration key of the settings, such as `links.shop.table`.
    """

    def __init__(self, connection: sa.Connection, settings: TableSettings, dialect: Dialect, key: str) -> None:
        self.problems: list[str] = []
        self._settings, self._dialect, self._key = settings, dialect, key
        self._schema, self._name = split_name(settings.name)
        self._found = self._reflected(connection)
        self._used: set[str] = set()
        if lack := dialect.lacks(connection, self._schema, self._name):
            self._complain("name", f"the table {settings.name} {lack}")

    def _reflected(self, connection: sa.Connection) -> dict[str, ReflectedColumn]:
        inspector = sa.inspect(connection)
        try:
            found = inspector.get_columns(self._name, schema=self._schema)
        except sa.exc.NoSuchTableError:
            found = []
        except sa.exc.DBAPIError as error:
            if diagnose(error) is not Fault.NO_TABLE:
                raise
            found = []  # SQLite says so of a schema it does not know
        if not found:
            self._complain("name", f'the database has no table "{self._settings.name}"{self._others(inspector)}')
            return {}
        if self._dialect.kind == "sqlite":
            _mark_rowid(found, inspector.get_pk_constraint(self._name, schema=self._schema)["constrained_columns"])
        return {column["name"]: column for column in found}

    def _others(self, inspector: sa.Inspector) -> str:
        try:
            names = inspector.get_table_names(schema=self._schema)
        except sa.exc.DBAPIError:
            return ""
        return f"; it has {_listed(names, like=self._name)}" if names else "; it has no tables at all there"

    def _complain(self, at: str, sentence: str) -> None:
        self.problems.append(f"{self._key}.{at}: {sentence}")

    # ------------------------------------------------------------------- result

    def columns(self, *, writable: bool) -> Columns | None:
        """Return the resolved columns, or None when there are problems.

        Args:
            writable: Whether syncd may write to this table; columns it cannot fill are a problem only then.
        """
        if not self._found:
            return None
        configured = self._settings.columns
        order_id = self._id_column("columns.order_id", configured["order_id"])
        kind = configured["owner_type_id"]
        owner_type = kind if isinstance(kind, int) else self._id_column("columns.owner_type_id", kind)
        owner_id = self._id_column("columns.owner_id", configured["owner_id"])
        deleted, touched = self._marked("deleted"), self._marked("touched")
        extra = tuple(
            (column, self._dialect.cell(value))
            for name, value in self._settings.extra.items()
            if (column := self._column(f"extra.{name}", name)) is not None
        )
        if deleted is not None and deleted.mark in {Mark.TIME, Mark.ZONED_TIME, Mark.DAY} and not deleted.nullable:
            self._complain("deleted", f'the column "{deleted.column.name}" is NOT NULL, so every row would be deleted')
        if writable:
            self._check_filled()
        if self.problems or order_id is None or owner_type is None or owner_id is None:
            return None
        everything = [order_id, owner_type, owner_id, deleted, touched]
        named = [part.column for part in everything if isinstance(part, IdColumn | Marked)]
        table = sa.table(self._name, *named, *(column for column, _ in extra), schema=self._schema)
        return Columns(table, order_id, owner_type, owner_id, self._where(), deleted, touched, extra)

    def _where(self) -> sa.ColumnElement[Any] | None:
        # On lines of its own: a comment at its end must not swallow the bracket. A literal column and not a text, in
        # which colons would be parameters.
        where = self._settings.where
        return sa.literal_column(f"(\n{where}\n)") if where else None

    def _column(self, at: str, name: str) -> sa.ColumnClause[Any] | None:
        found = name if name in self._found else None
        if found is None and self._dialect.folds_case:
            found = next((other for other in self._found if other.lower() == name.lower()), None)
        if found is None:
            names = _listed(self._found, like=name)
            self._complain(at, f'the table {self._settings.name} has no column "{name}"; it has {names}')
            return None
        self._used.add(found)
        return sa.column(found)

    def _id_column(self, at: str, name: str | int) -> IdColumn | None:
        column = self._column(at, str(name))
        if column is None:
            return None
        reflected = _plain(self._found[column.name]["type"])
        writes = self._dialect.id_cell(reflected)
        if writes is None:
            kind = self._type_name(column.name)
            self._complain(at, f'the column "{column.name}" is of type {kind}; ids are whole numbers, or text')
            return None
        return IdColumn(column, not isinstance(reflected, sa.Integer | sa.Numeric), writes)

    def _marked(self, at: str) -> Marked | None:
        name: str | None = getattr(self._settings, at)
        column = self._column(at, name) if name else None
        if column is None:
            return None
        reflected = self._found[column.name]
        mark = mark_for(column, _plain(reflected["type"]), sqlite=self._dialect.kind == "sqlite")
        if mark is None or (at == "touched" and mark is Mark.YES):
            kinds = "a time, a number or a text of 19 characters" + (" or a boolean" if at == "deleted" else "")
            self._complain(at, f'the column "{name}" is of type {self._type_name(column.name)}; it must be {kinds}')
            return None
        if at == "touched" and mark is Mark.ONE:
            mark = Mark.SECONDS
        return Marked(column, mark, bool(reflected["nullable"]))

    def _type_name(self, name: str) -> str:
        return str(self._found[name]["type"].compile(dialect=self._dialect.engine.dialect))

    def _check_filled(self) -> None:
        for name, column in self._found.items():
            if name not in self._used and not column["nullable"] and not _fills_itself(column):
                self._complain(
                    "extra", f'the column "{name}" is NOT NULL and has no default: give a value for rows syncd inserts'
                )


def _fills_itself(column: Mapping[str, Any]) -> bool:
    own = column.get("default") is not None or column.get("computed") or column.get("identity")
    return bool(own) or column.get("autoincrement") is True


def _mark_rowid(columns: list[ReflectedColumn], key: list[str]) -> None:
    """An INTEGER PRIMARY KEY of SQLite is the row's number, which fills itself."""
    for column in columns:
        if key == [column["name"]] and str(column["type"]).upper() == "INTEGER":
            column["autoincrement"] = True


def _plain(reflected: sa.types.TypeEngine[Any]) -> sa.types.TypeEngine[Any]:
    return reflected.data_type if isinstance(reflected, postgresql.DOMAIN) else reflected


def _listed(names: Collection[str], *, like: str) -> str:
    """Given names, return them in words, those most like what was looked for first."""
    close = get_close_matches(like, names, n=3)
    ordered = [*close, *(name for name in sorted(names) if name not in close)]
    more = f" and {len(ordered) - _SHOWN_COLUMNS} more" if len(ordered) > _SHOWN_COLUMNS else ""
    return ", ".join(ordered[:_SHOWN_COLUMNS]) + more
