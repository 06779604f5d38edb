"""Field names and filter prefixes, as the portal converts and parses them.

Upper-case keys are mangled, unknown ones are dropped without a word: the list then is wider than asked
(bitrix24-rest.md 4.1 to 4.3).
"""

from __future__ import annotations

import re
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

ORDER_ID, OWNER_ID, OWNER_TYPE_ID = "ORDER_ID", "OWNER_ID", "OWNER_TYPE_ID"
COLUMNS = (ORDER_ID, OWNER_ID, OWNER_TYPE_ID)
"""The table's columns in the order the portal externalises them (naturally sorted)."""

CAMEL = {ORDER_ID: "orderId", OWNER_ID: "ownerId", OWNER_TYPE_ID: "ownerTypeId"}

_UPPER_AFTER_ANY = re.compile(r"(.)([A-Z])")
_FIRST_PARSER = (">=", ">", "<=", "<", "@", "=%", "%=", "%", "?", "*=", "*%", "*", "=")


class Op(StrEnum):
    """What a filter key does to an integer column."""

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
    """A filter key: its column and operation; op None is a key the first parser lets pass and the ORM does not know."""

    name: str
    column: str
    op: Op | None


@lru_cache(maxsize=1024)
def upper_snake(name: str) -> str:
    """Given a name as sent, return the portal's conversion: `orderId` and `order_id` fit, `ORDER_ID` is mangled."""
    return _UPPER_AFTER_ANY.sub(r"\1_\2", name).upper()


@lru_cache(maxsize=1024)
def column_of(name: str) -> str | None:
    """Given a name as sent, return its column; None is unknown."""
    converted = upper_snake(name)
    return converted if converted in CAMEL else None


@lru_cache(maxsize=1024)
def filter_key(name: str) -> FilterKey | None:
    """Given a filter key as sent, return what it means; None is a key that is dropped."""
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
