"""PHP's reading of a request: query strings, casts, truthiness.

A PHP array, whatever it looks like in JSON, is a `dict` here: insertion-ordered, with decimal string keys turned into
integers, as PHP does. Source: bitrix24-rest.md 1.3 and PHP's `main/php_variables.c`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, TypeAlias
from urllib.parse import unquote

PhpArray: TypeAlias = dict[int | str, Any]

MAX_INPUT_VARS = 1000
"""PHP's default; form bodies, query strings and each batch sub-query are silently cut there."""

_MAX_NESTING = 64
_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1
_INDEX = re.compile(r"(?:0|-?[1-9][0-9]{0,18})\Z")
_NUMBER = re.compile(r"[ \t\n\r\v\f]*([+-]?(?:[0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?)")
_SPACES = " \t\n\r\v\f"
_MANGLED = str.maketrans(" .[", "___")
_HEAD_MANGLED = str.maketrans(" .", "__")


def array_key(text: str) -> int | str:
    """Given a string key, return the key PHP stores: a canonical decimal integer becomes an int."""
    if text[:1] in "-0123456789" and _INDEX.match(text):
        number = int(text)
        if _INT_MIN <= number <= _INT_MAX:
            return number
    return text


def url_decode(text: str) -> str:
    """Given percent-encoded text, return it decoded; bytes that are no UTF-8 survive as surrogates."""
    if "+" in text:
        text = text.replace("+", " ")
    if "%" in text:
        return unquote(text, "utf-8", "surrogateescape")
    return text


@lru_cache(maxsize=8192)
def variable_path(raw: str) -> tuple[int | str | None, ...]:
    """Given a variable's percent-encoded name, return the keys it addresses: None appends, () is no variable.

    `a.b` becomes `a_b`, `filter[>orderId]` becomes `("filter", ">orderId")`, `a[b` becomes `a_b`, text behind a closing
    bracket is ignored.
    """
    name = url_decode(raw)
    name = name.partition("\0")[0].lstrip(" ")
    bracket = name.find("[")
    if bracket < 0:
        return (array_key(name.translate(_HEAD_MANGLED)),) if name else ()
    if bracket == 0:
        return ()
    path: list[int | str | None] = [array_key(name[:bracket].translate(_HEAD_MANGLED))]
    while True:
        if len(path) > _MAX_NESTING:
            return ()
        start = bracket + 1
        look = start + 1 if name[start : start + 1] in _SPACES and start < len(name) else start
        close = name.find("]", look)
        if close < 0:
            return (array_key(name.translate(_MANGLED)),) if len(path) == 1 else tuple(path)
        path.append(None if close == look else array_key(name[start:close]))
        bracket = close + 1
        if name[bracket : bracket + 1] != "[":
            return tuple(path)


def parse_query(text: str, max_input_vars: int = MAX_INPUT_VARS) -> PhpArray:
    """Given a query string or form body, return PHP's array of it; pairs beyond `max_input_vars` are dropped."""
    result: PhpArray = {}
    next_free: dict[int, int] = {}
    count = 0
    for pair in text.split("&"):
        if not pair:
            continue
        count += 1
        if count > max_input_vars:
            break
        name, _, value = pair.partition("=")
        path = variable_path(name)
        if path:
            _assign(result, path, url_decode(value), next_free)
    return result


def _assign(target: PhpArray, path: tuple[int | str | None, ...], value: str, next_free: dict[int, int]) -> None:
    last = len(path) - 1
    for depth, step in enumerate(path):
        key = step
        if key is None:
            key = next_free.get(id(target), 0)
        if type(key) is int and key >= next_free.get(id(target), 0):
            next_free[id(target)] = key + 1
        if depth == last:
            target[key] = value
            return
        child = target.get(key)
        if type(child) is not dict:
            child = target[key] = {}
            next_free.pop(id(child), None)
        target = child


def to_int(value: Any) -> int:
    """Given a PHP value, return `(int)` of it: "12abc" is 12, "" is 0, 5.9 is 5, an array 1 or 0 when empty."""
    if type(value) is int:
        return value
    if isinstance(value, str):
        return _string_to_int(value)
    if isinstance(value, dict | list):
        return 1 if value else 0
    if isinstance(value, float):
        return _float_to_int(value)
    return int(bool(value))


def _string_to_int(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) < 19:
        return int(text)
    match = _NUMBER.match(text)
    if match is None:
        return 0
    if match[2] is None and match[3] is None and not match[1].lstrip("+-").startswith("."):
        return max(_INT_MIN, min(_INT_MAX, _bounded(match[1])))
    return _float_to_int(float(match[1]))


def _bounded(digits: str) -> int:
    # Python refuses to read integers of thousands of digits; PHP saturates long before.
    return int(digits) if len(digits) < 40 else int(digits[:40])


def _float_to_int(number: float) -> int:
    if number != number or number in (float("inf"), float("-inf")):  # noqa: PLR0124  # NaN is what differs from itself
        return 0
    whole = int(number)
    return whole if _INT_MIN <= whole <= _INT_MAX else (whole + 2**63) % 2**64 - 2**63


def to_bool(value: Any) -> bool:
    """Given a PHP value, return its truth: "0" and "" are false, "false" is true."""
    return value != "0" and bool(value)


def to_text(value: Any) -> str:
    """Given a PHP value, return `(string)` of it."""
    if isinstance(value, str):
        return value
    if value is None or value is False:
        return ""
    if value is True:
        return "1"
    if isinstance(value, dict | list):
        return "Array"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)
