"""The values in force, each with where it came from, secrets masked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel, SecretStr

from syncd.config import keys
from syncd.config.load import Loaded
from syncd.config.masking import MASK, mask_url
from syncd.config.render import toml_value
from syncd.config.schedule import Cron, Interval


class Shown(NamedTuple):
    """One value in force: its dotted key, the value with secrets masked, ready for JSON, and its origin in words."""

    key: str
    value: Any
    origin: str


def effective(loaded: Loaded) -> list[Shown]:
    """Given what was loaded, return every value in force; keys that are left out and have no default are not listed."""
    return [
        Shown(keys.dotted(path), value, str(loaded.origin(keys.dotted(path))))
        for path, value in _values((), loaded.settings)
    ]


def show(loaded: Loaded) -> str:
    """Given what was loaded, return the values in force as lines `key = value  # origin`."""
    shown = effective(loaded)
    lines = [f"{one.key} = {toml_value(one.value)}" for one in shown]
    width = min(max(map(len, lines)), 78)
    return "".join(f"{line:<{width}}  # {one.origin}\n" for line, one in zip(lines, shown, strict=True))


def _values(path: keys.Path, value: Any) -> Iterator[tuple[keys.Path, Any]]:
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _values((*path, name), getattr(value, name))
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _values((*path, name), inner)
    elif value is not None:
        yield path, _plain(path, value)


def _plain(path: keys.Path, value: Any) -> Any:
    if isinstance(value, SecretStr):
        return mask_url(value.get_secret_value()) if path[-1] in {"url", "webhook"} else MASK
    if isinstance(value, Interval | Cron):
        return str(value)
    if isinstance(value, tuple):
        return list(value)
    return value if isinstance(value, bool | int | float | list) else str(value)
