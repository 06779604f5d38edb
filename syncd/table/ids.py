"""What counts as an id in somebody else's table, whatever the column's type.

`'5'`, `5`, `Decimal(5)`, `b'5'` and `5.0` are the same id (sync-rules.md, property 13); so are `' 5'`, `'+5'`, `'005'`
and `'5.0'`, since a CHAR column pads, an import keeps zeros, and a spreadsheet adds decimals. Whatever else a cell may
hold is no id, and a row with it is told, never taken for absent.
"""

from __future__ import annotations

import re
from decimal import Decimal

MAX_ID = 2**63 - 1
"""The largest id syncd handles: that of a signed 64-bit column."""

_EXACT_FLOAT = 2.0**53
_DIGITS = re.compile(r"[ \t\r\n]*\+?0*([1-9][0-9]{0,18})(?:\.0*)?[ \t\r\n]*", re.ASCII)
_SHOWN = 60


def normal_id(value: object) -> int | None:
    """Given a cell's value as the driver returns it, return the id it holds: 1 to `MAX_ID`, or None if it is no id."""
    if type(value) is int:
        return value if 0 < value <= MAX_ID else None
    if isinstance(value, str):
        match = _DIGITS.fullmatch(value)
        return normal_id(int(match[1])) if match else None
    if isinstance(value, bytes | bytearray | memoryview):
        return normal_id(bytes(value).decode("ascii", errors="replace"))
    if isinstance(value, Decimal):
        # The bounds come first: int() of Decimal("1e999999") would take its time, and a NaN compares with nothing.
        return normal_id(int(value)) if value.is_finite() and 0 < value <= MAX_ID and value == int(value) else None
    if isinstance(value, float):
        return int(value) if 0 < value <= _EXACT_FLOAT and value.is_integer() else None
    return None


def shown(value: object) -> str:
    """Given a cell's value, return it as a sentence about the cell may show it: short, on one line."""
    if value is None:
        return "null"
    text = repr(value) if isinstance(value, str | bytes | float) else str(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
