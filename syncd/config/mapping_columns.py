"""The columns of the mapping table in the configuration: the ids, the soft delete mark, values of new rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from syncd.core.order_keys import KeyField

COLUMN_KEYS = ("order_id", "owner_type_id", "owner_id")
KEY_FIELDS = {"order_number": KeyField.NUMBER, "order_xml_id": KeyField.XML_ID, "order_1c_id": KeyField.ID_1C}
"""The settings for keys of the shop that the table may hold instead of the order id."""
ORDER_COLUMNS = ("order_id", *KEY_FIELDS)
_LONGEST_CODE = 64


class KeyColumn(NamedTuple):
    """The column of the order's key.

    Args:
        column: Its name.
        width: The number of digits that codes are padded to with zeros; None for plain numbers.
        setting: The setting that names it, one of `ORDER_COLUMNS`.
    """

    column: str
    width: int | None = None
    setting: str = "order_id"

    @property
    def field(self) -> KeyField | None:
        """The portal's field of the key; None for the order id."""
        return KEY_FIELDS.get(self.setting)


class DeletionMark(NamedTuple):
    """A soft delete mark. set and unset are None if they follow from the column's type."""

    column: str
    set: Any = None
    unset: Any = None


def key_column(columns: Mapping[str, Any]) -> KeyColumn:
    """Given the checked setting `columns`, return the column of the order's key."""
    (setting,) = (key for key in ORDER_COLUMNS if key in columns)
    one = columns[setting]
    if isinstance(one, Mapping):
        return KeyColumn(one["column"], one["width"])
    return KeyColumn(one, setting=setting)


def deletion_mark(deleted: Any) -> DeletionMark | None:
    """Given the checked setting `deleted`, return the mark, or None without one."""
    if deleted is None:
        return None
    return DeletionMark(**deleted) if isinstance(deleted, Mapping) else DeletionMark(deleted)


def check_columns(value: object) -> object:
    """Given the setting `columns`, return it, or raise ValueError with all its problems."""
    if not isinstance(value, Mapping):
        raise ValueError("must name three columns: " + ", ".join(COLUMN_KEYS))  # noqa: TRY004 a problem, not a bug
    orders = [key for key in value if key in ORDER_COLUMNS]
    problems = [] if orders else [f"order_id is missing (or one of {', '.join(KEY_FIELDS)})"]
    if len(orders) > 1:
        problems.append(f"names {' and '.join(orders)}; a row has one key, so name one of them")
    problems += [f"{key} is missing" for key in COLUMN_KEYS[1:] if key not in value]
    problems += [f"{key} is not a column syncd knows" for key in value if key not in (*ORDER_COLUMNS, *COLUMN_KEYS)]
    for key in (*orders, "owner_id"):
        one = value.get(key, "x")
        if key == "order_id" and isinstance(one, Mapping):
            problems += _padded_problems(one)
        elif key in KEY_FIELDS and isinstance(one, Mapping):
            problems.append(f"{key} must be the name of a column; {{ column, width }} is for order_id only")
        elif not is_name(one):
            problems.append(f"{key} must be the name of a column")
    kind = value.get("owner_type_id", "x")
    if not is_name(kind) and not (type(kind) is int and kind > 0):
        problems.append("owner_type_id must be the name of a column or a positive whole number")
    names = [name for name, _ in named_columns(value)]
    if len(set(names)) < len(names):
        problems.append("names the same column twice")
    if problems:
        raise ValueError("; ".join(problems))
    return value


def _padded_problems(one: Mapping[Any, Any]) -> list[str]:
    problems = [f"order_id.{key} is not a key syncd knows" for key in one if key not in {"column", "width"}]
    if not is_name(one.get("column")):
        problems.append("order_id.column must be the name of a column")
    width = one.get("width")
    if type(width) is not int or not 0 < width <= _LONGEST_CODE:
        problems.append(f"order_id.width must be a whole number from 1 to {_LONGEST_CODE}")
    return problems


def named_columns(columns: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Given the setting `columns`, return the name of each column, with the key that names it."""
    named = [(one.get("column") if isinstance(one, Mapping) else one, key) for key, one in columns.items()]
    return [(name, key) for name, key in named if isinstance(name, str)]


def check_deleted(value: object) -> object:
    """Given the setting `deleted`, return it, or raise ValueError."""
    if isinstance(value, Mapping):
        unknown = [key for key in value if key not in DeletionMark._fields]
        if unknown:
            raise ValueError(f"{unknown[0]} is not a key syncd knows; it has column, set and unset")
        if not is_name(value.get("column")):
            raise ValueError("column must be the name of a column")
        if "unset" not in value:
            raise ValueError("needs unset: the value of rows that are not deleted")
        for key in ("set", "unset"):
            check_scalar(value.get(key))
        if value.get("set") == value["unset"]:
            raise ValueError("set and unset must differ")
    elif not is_name(value):
        raise ValueError("must be the name of a column, or { column, set, unset }")
    return value


def check_touched(value: object) -> object:
    """Given the setting `touched`, return it, or raise ValueError."""
    names = value if isinstance(value, list | tuple) and value else [value]
    if not all(map(is_name, names)):
        raise ValueError("must be the name of a column, or a list of them")
    if len(set(names)) < len(names):
        raise ValueError("names a column twice")
    return value


def check_scalar(value: Any) -> Any:
    """Given a value of a column, return it, or raise ValueError if a column cannot hold it."""
    if isinstance(value, Mapping | list):
        raise ValueError("must be a single value, not a list or a table")  # noqa: TRY004 a problem, not a bug
    return value


def check_extra(value: Any) -> Any:
    """Given a value of `extra`, return it, or raise ValueError. `{ sql = "…" }` is an expression of the database."""
    if isinstance(value, Mapping):
        if set(value) != {"sql"} or not is_name(value["sql"]):
            raise ValueError('must be a single value, or { sql = "an SQL expression" }')
        return value
    return check_scalar(value)


def is_name(value: object) -> bool:
    """Return whether this is a text that is not blank."""
    return isinstance(value, str) and bool(value.strip())
