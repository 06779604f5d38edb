"""Sentences for the errors that pydantic finds. They never repeat a value, since it may be a secret."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from syncd.config import keys
from syncd.config.fields import SecretMissing, TableProblem
from syncd.config.sources import Values, did_you_mean

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
    """Return a sentence with its key for each of pydantic's errors."""
    return [_sentence(detail, values) for detail in error.errors(include_url=False)]


def missing_secrets(error: ValidationError, values: Values) -> list[str]:
    """Return the sentences of those errors that are missing secrets."""
    return [_sentence(detail, values) for detail in error.errors(include_url=False) if _is_missing_secret(detail)]


def _is_missing_secret(detail: ErrorDetails) -> bool:
    return isinstance(detail.get("ctx", {}).get("error"), SecretMissing)


def _sentence(detail: ErrorDetails, values: Values) -> str:
    path = tuple(str(part) for part in detail["loc"])
    context: dict[str, Any] = detail.get("ctx", {})
    kind = detail["type"]
    if isinstance(context.get("error"), TableProblem):
        path = path[:-1]
    if path[-1] == "[key]":
        return _bad_name(path[:-1])
    if kind == "extra_forbidden":
        return f"{keys.dotted(path)}: unknown key{_where_instead(path)}{values.origin_note(path)}"
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
    return f"{keys.dotted(path)}: {text}{values.origin_note(path)}"


def _bad_name(path: keys.Path) -> str:
    *table, name = path
    if table == ["links"]:
        return f"links.{name}: a link's name is made of letters, digits, _ and -"
    return f"{keys.dotted(table)}: has a key that is not a name"


def _choice(expected: str, given: object) -> str:
    """Return the sentence with the choices. The value is compared with them, but not repeated."""
    words = expected.replace("'", "")
    near = did_you_mean(given, words.replace(" or ", ", ").split(", ")) if isinstance(given, str) else ""
    return f"must be {words}{near}"


def _length(context: dict[str, Any], kind: str) -> str:
    wanted = context["min_length"] if kind == "too_short" else context["max_length"]
    return f"must have at {'least' if kind == 'too_short' else 'most'} {wanted} item{'s' * (wanted != 1)}"


def _where_instead(path: keys.Path) -> str:
    near = did_you_mean(path[-1], keys.known_keys(path[:-1]))
    if near and not keys.tables_with(path[-1]):
        return near
    link = path[1] if path[0] == "links" and len(path) > 1 else "NAME"
    nearest_first = sorted(keys.tables_with(path[-1]), key=lambda home: home[:1] != path[:1])
    homes = [keys.dotted([link if part == "*" else part for part in home]) for home in nearest_first]
    return f"; it belongs in [{'] or ['.join(homes)}]" if homes and all(homes) else near
