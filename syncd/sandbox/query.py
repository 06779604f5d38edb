"""The query of a list call: `select`, `filter`, `order` and `start` as the portal parses them (portal.md 4 and 5).

The portal mangles upper-case keys and ignores unknown ones silently, so that the list is longer than asked for
(4.1 to 4.3).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any, NamedTuple

from syncd.sandbox.php import PhpArray, to_int, to_text
from syncd.sandbox.requests import ARGUMENT, Refusal, Version

ORDER_ID, OWNER_ID, OWNER_TYPE_ID = "ORDER_ID", "OWNER_ID", "OWNER_TYPE_ID"
COLUMNS = (ORDER_ID, OWNER_ID, OWNER_TYPE_ID)
"""The columns in the order in which the portal returns them."""

CAMEL = {ORDER_ID: "orderId", OWNER_ID: "ownerId", OWNER_TYPE_ID: "ownerTypeId"}

_UPPER_AFTER_ANY = re.compile(r"(.)([A-Z])")
_FIRST_PARSER = (">=", ">", "<=", "<", "@", "=%", "%=", "%", "?", "*=", "*%", "*", "=")


class Op(StrEnum):
    """The operation of a filter key on an integer column."""

    EQUAL = "="
    NOT_EQUAL = "!="
    GREATER = ">"
    GREATER_EQUAL = ">="
    LESS = "<"
    LESS_EQUAL = "<="
    NOTHING = "*"


_SECOND_PARSER = {
    "!=%": Op.NOT_EQUAL,
    "!%=": Op.NOT_EQUAL,
    "!=": Op.NOT_EQUAL,
    "!%": Op.NOT_EQUAL,
    "!@": Op.NOT_EQUAL,
    "!": Op.NOT_EQUAL,
    ">=": Op.GREATER_EQUAL,
    "<=": Op.LESS_EQUAL,
    "=%": Op.EQUAL,
    "%=": Op.EQUAL,
    "*=": Op.NOTHING,
    "*%": Op.NOTHING,
    "*": Op.NOTHING,
    "?": Op.NOTHING,
    "=": Op.EQUAL,
    "%": Op.EQUAL,
    ">": Op.GREATER,
    "<": Op.LESS,
    "@": Op.EQUAL,
}


class FilterKey(NamedTuple):
    """A filter key: its column and operation. op is None if the first parser accepts a prefix that the ORM refuses."""

    name: str
    column: str
    op: Op | None


@lru_cache(maxsize=1024)
def upper_snake(name: str) -> str:
    """Convert a name as the portal does: `orderId` and `order_id` become `ORDER_ID`; `ORDER_ID` is mangled."""
    return _UPPER_AFTER_ANY.sub(r"\1_\2", name).upper()


@lru_cache(maxsize=1024)
def column_of(name: str) -> str | None:
    """Return the column of a name as sent; None if it is unknown."""
    converted = upper_snake(name)
    return converted if converted in CAMEL else None


@lru_cache(maxsize=1024)
def filter_key(name: str) -> FilterKey | None:
    """Parse a filter key as sent; None if the portal ignores it."""
    converted = upper_snake(name)
    rest = converted.removeprefix("!")
    rest = rest.removeprefix("+")
    for prefix in _FIRST_PARSER:
        if rest.startswith(prefix):
            rest = rest[len(prefix) :]
            break
    if rest not in CAMEL:
        return None
    prefix = converted[: len(converted) - len(rest)]
    return FilterKey(converted, rest, _SECOND_PARSER.get(prefix) if prefix else Op.EQUAL)


PAGE_SIZE = 50
DEFAULT_ORDER = ((OWNER_ID, False),)
"""Not unique: rows of one owner come in any order (portal.md 4.5)."""


class Condition(NamedTuple):
    """A condition on a column; several are ANDed. Only = and != take more than one value."""

    column: str
    op: Op
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ListQuery:
    """A parsed list call: columns to return, conditions, order (column, descending), and the page."""

    columns: tuple[str, ...] = COLUMNS
    conditions: tuple[Condition, ...] = ()
    order: tuple[tuple[str, bool], ...] = DEFAULT_ORDER
    offset: int = 0
    counted: bool = True


def array_argument(params: PhpArray, name: str) -> PhpArray:
    """Return the array parameter `name`, empty if absent.

    Raises:
        Refusal: It is not an array.
    """
    value = params.get(name)
    if value is None:
        return {}
    if type(value) is not dict:
        raise Refusal(
            ARGUMENT,
            f"Invalid value {{{to_text(value)}}} to match with parameter {{{name}}}. Should be value of type array.",
        )
    return value


def read_query(params: PhpArray, version: Version) -> ListQuery:
    """Parse the parameters of a list call.

    Raises:
        Refusal: `select`, `filter` or `order` is not an array, a prefix is unknown to the ORM, or a direction is wrong.
    """
    select = array_argument(params, "select")
    conditions_asked = array_argument(params, "filter")
    order_asked = array_argument(params, "order")
    offset, counted = read_start(params.get("start"))
    return ListQuery(
        columns=_columns(select) if select else COLUMNS,
        conditions=tuple(_conditions(conditions_asked, version)) if conditions_asked else (),
        order=_order(order_asked) if order_asked else DEFAULT_ORDER,
        offset=offset,
        counted=counted,
    )


def read_start(value: Any) -> tuple[int, bool]:
    """Given `start`, return the offset, rounded down to whole pages, and whether the rows are counted: not with -1."""
    start = to_int(value)
    if start > 0:
        return start // PAGE_SIZE * PAGE_SIZE, True
    return 0, start != -1


def _columns(select: PhpArray) -> tuple[str, ...]:
    wanted = {column_of(name) for name in select.values() if isinstance(name, str)}
    if "*" in select.values():
        return COLUMNS
    return tuple(column for column in COLUMNS if column in wanted) or COLUMNS


def _conditions(asked: PhpArray, version: Version) -> list[Condition]:
    conditions = []
    for name, value in asked.items():
        key = filter_key(name) if type(name) is str else None
        if key is None:
            continue
        if key.op is None:
            raise Refusal(
                ARGUMENT,
                f"Unknown field definition `{key.name}` ({key.name}) for \\Bitrix\\Crm\\Binding\\OrderEntity Entity.",
            )
        if key.op is not Op.NOTHING:
            conditions.append(Condition(key.column, key.op, integers(value, version)))
    return conditions


def integers(value: Any, version: Version) -> tuple[int, ...]:
    """Return the integers that the portal compares a filter value with; never empty (portal.md 4.4)."""
    if type(value) is not dict:
        return (to_int(value),)
    if version is Version.OLD:
        return (1 if value else 0,)
    return tuple(sorted({number for number in map(to_int, value.values()) if number > 0})) or (1,)


def _order(asked: PhpArray) -> tuple[tuple[str, bool], ...]:
    order = []
    for name, direction in asked.items():
        column = column_of(name) if type(name) is str else None
        if column is None:
            continue
        if isinstance(direction, dict):
            raise Refusal(0, "strtoupper(): Argument #1 ($string) must be of type string, array given")
        word = to_text(direction).upper()
        if word not in ("ASC", "DESC"):
            raise Refusal(ARGUMENT, f'Invalid order "{word}"')
        order.append((column, word == "DESC"))
    return tuple(order) or DEFAULT_ORDER
