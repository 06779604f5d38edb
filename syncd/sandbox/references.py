"""`$result[key][path]` in batch commands (bitrix24-rest.md 6.3).

A path that does not exist is no error: the walk stops at the first missing step and the value reached so far is used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from syncd.sandbox.php import PhpArray, array_key
from syncd.sandbox.phpjson import Rendered, to_php

_STEP = re.compile(r"\[([^\]]+)\]")


def resolve(params: PhpArray, parts: Mapping[str, PhpArray]) -> PhpArray:
    """Given a command's parameters and what the batch has produced so far, return them with references replaced."""
    pattern = re.compile(r"\$(" + "|".join(re.escape(name) for name in parts) + r")(\S*)", re.IGNORECASE)
    return {_key(key, pattern): _value(value, pattern, parts) for key, value in params.items()}


def _key(key: int | str, pattern: re.Pattern[str]) -> int | str:
    # A reference used as a key is broken by the portal: the whole key becomes empty.
    return "" if isinstance(key, str) and pattern.fullmatch(key) else key


def _value(value: Any, pattern: re.Pattern[str], parts: Mapping[str, PhpArray]) -> Any:
    if isinstance(value, dict):
        return {_key(key, pattern): _value(item, pattern, parts) for key, item in value.items()}
    if not isinstance(value, str) or "$" not in value:
        return value
    for match in pattern.finditer(value):
        found = _walk(parts.get(match[1]), _STEP.findall(match[2]))
        if match[0] == value:
            return to_php(found)
        if isinstance(found, str | int | float) and not isinstance(found, bool):
            value = value.replace(match[0], str(found))
    return value


def _walk(reached: Any, path: list[str]) -> Any:
    for step in path:
        if isinstance(reached, Rendered):
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
