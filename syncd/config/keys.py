"""The keys of the configuration and their types, read from the settings' classes."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from syncd.config.model import Settings

Path = tuple[str, ...]


def bare(annotation: Any) -> Any:
    """Given a field's annotation, return it without `Annotated` and without `| None`."""
    while True:
        origin = get_origin(annotation)
        if origin is Annotated:
            annotation = get_args(annotation)[0]
        elif origin in {Union, types.UnionType} and len(some := _without_none(annotation)) == 1:
            annotation = some[0]
        else:
            return annotation


def table_of(annotation: Any) -> type[BaseModel] | None:
    """Given an annotation of a table with fixed keys, return its class; otherwise None."""
    kind = bare(annotation)
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def values_of(annotation: Any) -> Any | None:
    """Given an annotation of a table with free keys, return the annotation of its values; otherwise None."""
    kind = bare(annotation)
    return get_args(kind)[1] if get_origin(kind) is dict else None


def is_collection(annotation: Any) -> bool:
    """Return whether an annotation is a list or a table with free keys."""
    return get_origin(bare(annotation)) in {list, tuple, dict}


def may_be_collection(annotation: Any) -> bool:
    """Return whether an annotation accepts a list or a table with free keys as well as a plain value."""
    return get_origin(bare(annotation)) in {Union, types.UnionType} and any(
        map(is_collection, _without_none(bare(annotation)))
    )


def annotation_at(path: Sequence[str]) -> Any | None:
    """Given the path of a key, return its annotation; None if there is no such key."""
    annotation: Any = Settings
    for part in path:
        table = table_of(annotation)
        if table is not None and part in table.model_fields:
            annotation = table.model_fields[part].annotation
        else:
            annotation = None if table is not None else values_of(annotation)
        if annotation is None:
            return None
    return annotation


def known_keys(path: Sequence[str]) -> list[str]:
    """Given the path of a table with fixed keys, return these keys; otherwise an empty list."""
    table = table_of(annotation_at(path))
    return list(table.model_fields) if table is not None else []


def counterpart(path: Path) -> Path | None:
    """Given the path of a secret, return that of its `_file` key, and vice versa; None for other keys."""
    *table, key = path
    other = key.removesuffix("_file") if key.endswith("_file") else f"{key}_file"
    return (*table, other) if {key, other} <= set(known_keys(table)) else None


def tables_with(key: str) -> list[Path]:
    """Given the name of a key, return the paths of all tables that have it; `*` is any link."""
    homes: list[Path] = []
    waiting: list[tuple[Path, Any]] = [((), Settings)]
    while waiting:
        path, annotation = waiting.pop(0)
        table, values = table_of(annotation), values_of(annotation)
        if table is not None:
            if key in table.model_fields:
                homes.append(path)
            waiting += [((*path, name), field.annotation) for name, field in table.model_fields.items()]
        elif values is not None:
            waiting.append(((*path, "*"), values))
    return homes


def plain_keys(links: Sequence[str]) -> Iterator[Path]:
    """Given the names of the links, yield the path of every key that is not a table."""
    waiting: list[tuple[Path, Any]] = [((), Settings)]
    while waiting:
        path, annotation = waiting.pop(0)
        table = table_of(annotation)
        if table is not None:
            waiting += [((*path, name), field.annotation) for name, field in table.model_fields.items()]
        elif path == ("links",):
            waiting += [((*path, name), values_of(annotation)) for name in links]
        else:
            yield path


def dotted(path: Sequence[object]) -> str:
    """Join a path with dots: `links.shop.portal`."""
    return ".".join(map(str, path))


def value_at(tree: Mapping[str, Any], path: Sequence[str]) -> Any:
    """Return the value at a path in nested tables, or None."""
    value: Any = tree
    for part in path:
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return value


def _without_none(annotation: Any) -> list[Any]:
    return [one for one in get_args(annotation) if one is not type(None)]
