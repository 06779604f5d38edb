"""What pydantic found wrong, as sentences for an operator. They never repeat a text, since it may be a secret."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from syncd.config import keys
from syncd.config.fields import AboutTable
from syncd.config.sources import did_you_mean
from syncd.config.values import Values

_SENTENCES = {
    "missing": "is required",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "is too large",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "string_type": "must be a string",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "greater_than": "must be greater than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be at most {le:g}",
}


def sentences(error: ValidationError, values: Values) -> list[str]:
    """Given pydantic's findings and the values they are about, return a sentence for each, with its key."""
    return [_sentence(detail, values) for detail in error.errors(include_url=False)]


def _sentence(detail: ErrorDetails, values: Values) -> str:
    path = tuple(str(part) for part in detail["loc"])
    context: dict[str, Any] = detail.get("ctx", {})
    kind = detail["type"]
    if isinstance(context.get("error"), AboutTable):
        path = path[:-1]
    if path[-1] == "[key]":
        return _bad_name(path[:-1])
    if kind == "extra_forbidden":
        return f"{keys.dotted(path)}: unknown key{_where_instead(path)}{values.blame(path)}"
    if kind == "value_error":
        text = str(context["error"])
    elif kind == "enum":
        text = _choice(context["expected"], detail["input"])
    elif kind in {"too_short", "too_long"}:
        text = _length(context, kind)
    elif kind in _SENTENCES:
        text = _SENTENCES[kind].format_map(context)
    else:
        text = detail["msg"]
    return f"{keys.dotted(path)}: {text}{values.blame(path)}"


def _bad_name(path: keys.Path) -> str:
    *table, name = path
    if table == ["links"]:
        return f"links.{name}: a link's name is made of letters, digits, _ and -"
    return f"{keys.dotted(table)}: holds a key that is no name"


def _choice(expected: str, given: object) -> str:
    """The words to choose from; what was given is only compared with them, never repeated."""
    words = expected.replace("'", "")
    near = did_you_mean(given, words.replace(" or ", ", ").split(", ")) if isinstance(given, str) else ""
    return f"must be {words}{near}"


def _length(context: dict[str, Any], kind: str) -> str:
    wanted = context["min_length"] if kind == "too_short" else context["max_length"]
    return f"must have at {'least' if kind == 'too_short' else 'most'} {wanted} item{'s' * (wanted != 1)}"


def _where_instead(path: keys.Path) -> str:
    near = did_you_mean(path[-1], keys.known_keys(path[:-1]))
    if near:
        return near
    link = path[1] if path[0] == "links" and len(path) > 1 else "NAME"
    nearest_first = sorted(keys.homes_of(path[-1]), key=lambda home: home[:1] != path[:1])
    homes = [keys.dotted([link if part == "*" else part for part in home]) for home in nearest_first]
    return f"; it belongs in [{'] or ['.join(homes)}]" if homes and all(homes) else ""
