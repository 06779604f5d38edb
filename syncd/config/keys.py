"""Which keys there are: the settings' classes, walked from outside."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from syncd.config.model import Settings

Path = tuple[str, ...]

# A secret and the key that names a file to read it from.
_SECRETS_WITH_FILE = frozenset({"url", "webhook", "client_secret"})


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
    """Given an annotation, return the class of the table it asks for, if it asks for one with fixed keys."""
    kind = bare(annotation)
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def values_of(annotation: Any) -> Any | None:
    """Given an annotation of a table with free keys, return the annotation of its values; otherwise None."""
    kind = bare(annotation)
    return get_args(kind)[1] if get_origin(kind) is dict else None


def is_collection(annotation: Any) -> bool:
    """Given an annotation, return whether it asks for a list or a table of free keys."""
    return get_origin(bare(annotation)) in {list, tuple, dict}


def annotation_at(path: Sequence[str]) -> Any | None:
    """Given a key's path, return its annotation; None where no such key can be."""
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
    """Given the path of a table with fixed keys, return them; otherwise an empty list."""
    table = table_of(annotation_at(path))
    return list(table.model_fields) if table is not None else []


def twin(path: Path) -> Path | None:
    """Given the path of a secret, return that of the key for its file, and the other way round; None for other keys."""
    *table, key = path
    base = key.removesuffix("_file")
    other = base if base != key else f"{key}_file"
    return (*table, other) if base in _SECRETS_WITH_FILE and other in known_keys(table) else None


def homes_of(key: str) -> list[Path]:
    """Given a key's own name, return the paths of all tables with fixed keys that know it; `*` stands for any link."""
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


def dotted(path: Sequence[object]) -> str:
    """Given a path, return it as people write it: `links.shop.portal`."""
    return ".".join(map(str, path))


def value_at(tree: Mapping[str, Any], path: Sequence[str]) -> Any:
    """Given nested tables and a path, return what stands there, or None."""
    value: Any = tree
    for part in path:
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return value


def _without_none(annotation: Any) -> list[Any]:
    return [one for one in get_args(annotation) if one is not type(None)]
