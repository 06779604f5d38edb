"""What a list call asks for: `select`, `filter`, `order` and `start` turned into a value (bitrix24-rest.md 4 and 5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from syncd.sandbox.answers import ARGUMENT, Refusal, Version
from syncd.sandbox.names import COLUMNS, OWNER_ID, Op, column_of, filter_key
from syncd.sandbox.php import PhpArray, to_int, to_text

PAGE_SIZE = 50
DEFAULT_ORDER = ((OWNER_ID, False),)
"""Not unique: rows of one owner have no promised order (bitrix24-rest.md 4.5)."""


class Condition(NamedTuple):
    """One condition on a column; several are ANDed. Only the (in)equalities take more than one value."""

    column: str
    op: Op
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ListQuery:
    """A list call: columns to answer, conditions, order (column, descending), and the page."""

    columns: tuple[str, ...] = COLUMNS
    conditions: tuple[Condition, ...] = ()
    order: tuple[tuple[str, bool], ...] = DEFAULT_ORDER
    offset: int = 0
    counted: bool = True


def array_argument(params: PhpArray, name: str) -> PhpArray:
    """Given parameters, return the array called `name`, empty when absent.

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
    """Given the parameters of a list call, return the query.

    Raises:
        Refusal: `select`, `filter` or `order` is no array, a prefix is unknown to the ORM, or a direction is wrong.
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
    """Given `start`, return (offset, whether a total is wanted): rounded down to whole pages, -1 is not counted."""
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
    """Given a filter value, return the integers the portal compares with; never empty (bitrix24-rest.md 4.4)."""
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
