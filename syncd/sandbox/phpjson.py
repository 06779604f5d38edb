r"""PHP's JSON: what `json_decode(…, true)` makes of a body, and what `Bitrix\Main\Web\Json::encode` writes.

An empty PHP array is `[]` even where an object is documented, an array with the keys 0..n-1 is a list, anything else an
object (bitrix24-rest.md 2, 6.4); text escapes `< > & ' "` and leaves UTF-8 alone (1.5).
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from syncd.sandbox.php import PhpArray, array_key

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


class Rendered(ABC):
    """A value that knows its own JSON, so that a page of rows need not be built and walked to be sent."""

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
    if isinstance(value, Rendered):
        return to_php(value.value())
    return value


def encode(value: Any) -> str:
    """Given a value made of PHP arrays, lists, scalars and `Rendered`, return its JSON text."""
    writer = _WRITERS.get(type(value))
    if writer is not None:
        return writer(value)
    if isinstance(value, Rendered):
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
