r"""PHP's values: query strings, casts, truthiness, `json_decode(…, true)` and `Bitrix\Main\Web\Json::encode`.

A PHP array is a `dict` here, whatever it looks like in JSON: in insertion order, with decimal string keys as integers,
as in PHP. An empty array is encoded as `[]` even where an object is documented, one with the keys 0..n-1 as a list, any
other as an object; text escapes `< > & ' "` and leaves UTF-8 alone. Source: portal.md 1.3, 1.5, 2, 6.4, and PHP's
`main/php_variables.c`.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeAlias
from urllib.parse import unquote

PhpArray: TypeAlias = dict[int | str, Any]

MAX_INPUT_VARS = 1000
"""PHP's default. Form bodies, query strings and each sub-query of a batch are silently cut there."""

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
    """Decode percent-encoded text. Bytes that are not UTF-8 become surrogates."""
    if "+" in text:
        text = text.replace("+", " ")
    if "%" in text:
        return unquote(text, "utf-8", "surrogateescape")
    return text


@lru_cache(maxsize=8192)
def variable_path(raw: str) -> tuple[int | str | None, ...]:
    """Given a variable's percent-encoded name, return the keys it addresses. None appends; () is ignored.

    `a.b` becomes `a_b`, `filter[>orderId]` becomes `("filter", ">orderId")`, `a[b` becomes `a_b`, text after a closing
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
    """Given a query string or form body, return PHP's array of it, without the pairs beyond `max_input_vars`."""
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


_ESCAPES = (
    ('\\"', "\\u0022"),
    ("/", "\\/"),
    ("<", "\\u003C"),
    (">", "\\u003E"),
    ("&", "\\u0026"),
    ("'", "\\u0027"),
    ("\u2028", "\\u2028"),
    ("\u2029", "\\u2029"),
)


class JsonValue(ABC):
    """A value that renders its own JSON, which is faster than encoding a page of rows as plain values."""

    __slots__ = ()

    @abstractmethod
    def json(self) -> str:
        """Return the JSON text."""

    @abstractmethod
    def value(self) -> Any:
        """Return the value as PHP would hold it, for `$result` references."""


def decode_array(body: bytes) -> PhpArray:
    """Given a request body, return the array in it; anything else, broken JSON included, is an empty array."""
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_refuse, parse_int=_integer)
    except (ValueError, RecursionError):
        return {}
    value = to_php(value)
    return value if isinstance(value, dict) else {}


def _refuse(name: str) -> Any:
    raise ValueError(name)


def _integer(digits: str) -> int | float:
    number = int(digits) if len(digits) <= 20 else None
    return number if number is not None and -(2**63) <= number < 2**63 else float(digits)


def to_php(value: Any) -> Any:
    """Given decoded JSON, return it with every list and object as a PHP array."""
    if isinstance(value, dict):
        return {array_key(key) if isinstance(key, str) else key: to_php(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return {index: to_php(item) for index, item in enumerate(value)}
    if isinstance(value, JsonValue):
        return to_php(value.value())
    return value


def encode(value: Any) -> str:
    """Given a value made of PHP arrays, lists, scalars and `JsonValue`, return its JSON text."""
    writer = _WRITERS.get(type(value))
    if writer is not None:
        return writer(value)
    if isinstance(value, JsonValue):
        return value.json()
    raise TypeError(f"{type(value).__name__} has no JSON here")


def _array(array: PhpArray) -> str:
    if not array:
        return "[]"
    if is_list(array):
        return "[" + ",".join([encode(item) for item in array.values()]) + "]"
    return "{" + ",".join([_key(str(key)) + encode(item) for key, item in array.items()]) + "}"


def is_list(array: PhpArray) -> bool:
    """Given an array, return whether its keys are 0..n-1 in order."""
    return all(type(key) is int and key == index for index, key in enumerate(array))


def _text(text: str) -> str:
    if text.isalnum():
        return f'"{text}"'
    body = json.dumps(text, ensure_ascii=False)[1:-1]
    for plain, escaped in _ESCAPES:
        if plain in body:
            body = body.replace(plain, escaped)
    return f'"{body}"'


@lru_cache(maxsize=4096)
def _key(key: str) -> str:
    return _text(key) + ":"


def _list(items: list[Any]) -> str:
    return "[" + ",".join([encode(item) for item in items]) + "]"


def _float(number: float) -> str:
    return str(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)


_WRITERS: dict[type, Callable[[Any], str]] = {
    str: _text,
    int: str,
    dict: _array,
    list: _list,
    float: _float,
    bool: lambda flag: "true" if flag else "false",
    type(None): lambda _none: "null",
}
