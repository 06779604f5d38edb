"""`$result[key][path]` in batch commands (portal.md 6.3).

A path that does not exist is not an error: resolution stops at the first missing step and takes the value reached so
far. Inside a longer text only a number or a string is inserted; any other value leaves the text as it is. Conditional
writes depend on this (6.6), so there is a switch for portals on which they do not work.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from syncd.sandbox.php import JsonValue, PhpArray, array_key, to_php, to_text

_STEP = re.compile(r"\[([^\]]+)\]")
_EXPONENT = re.compile(r"^([0-9.]+)[eE]")


class References(StrEnum):
    """Where references are resolved. Real portals do it everywhere; the other values simulate portals that differ."""

    EVERYWHERE = "everywhere"
    WHOLE_VALUES = "whole-values"
    """Not inside a longer text."""
    NO_EXPONENTS = "no-exponents"
    """Everywhere, but without the exponents of numbers, as in PHP before 7.1."""


def resolve(params: PhpArray, parts: Mapping[str, PhpArray], where: References = References.EVERYWHERE) -> PhpArray:
    """Return a command's parameters with references replaced by results of the batch so far."""
    pattern = re.compile(r"\$(" + "|".join(re.escape(name) for name in parts) + r")(\S*)", re.IGNORECASE)
    return {_key(key, pattern): _value(value, pattern, parts, where) for key, value in params.items()}


def _key(key: int | str, pattern: re.Pattern[str]) -> int | str:
    # The portal does not resolve references in keys: the whole key becomes empty.
    return "" if isinstance(key, str) and pattern.fullmatch(key) else key


def _value(value: Any, pattern: re.Pattern[str], parts: Mapping[str, PhpArray], where: References) -> Any:
    if isinstance(value, dict):
        return {_key(key, pattern): _value(item, pattern, parts, where) for key, item in value.items()}
    if not isinstance(value, str) or "$" not in value:
        return value
    for match in pattern.finditer(value):
        found = _walk(parts.get(match[1]), _STEP.findall(match[2]))
        if match[0] == value:
            return to_php(found)
        if where is not References.WHOLE_VALUES and _is_scalar(found):
            value = value.replace(match[0], to_text(found))
    return _EXPONENT.sub(r"\1 ", value) if where is References.NO_EXPONENTS else value


def _is_scalar(found: Any) -> bool:
    return isinstance(found, str | int | float) and not isinstance(found, bool)


def _walk(reached: Any, path: list[str]) -> Any:
    for step in path:
        if isinstance(reached, JsonValue):
            reached = reached.value()
        following = _child(reached, array_key(step))
        if following is None:
            break
        reached = following
    return reached


def _child(parent: Any, key: int | str) -> Any:
    if isinstance(parent, dict):
        return parent.get(key)
    if isinstance(parent, list) and isinstance(key, int) and 0 <= key < len(parent):
        return parent[key]
    return None
