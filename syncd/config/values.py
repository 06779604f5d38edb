"""Values on their way into the settings: raw, nested as in the file, each knowing where it came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from syncd.config import keys


class Source(StrEnum):
    """Where a value can come from."""

    FLAG = "flag"
    ENVIRONMENT = "environment"
    CREDENTIAL = "credential"
    FILE = "file"
    SECRET_FILE = "secret file"  # noqa: S105 the name of a source, not a secret
    DEFAULT = "default"


class Origin(NamedTuple):
    """Where a value came from: the source, and the flag, variable, credential or file by name."""

    source: Source
    name: str = ""

    def __str__(self) -> str:
        return f"{self.source} {self.name}" if self.name else str(self.source)


DEFAULT = Origin(Source.DEFAULT)


@dataclass(slots=True)
class Values:
    """The values of all sources, the higher ones put over the lower ones.

    Args:
        tree: Nested tables, as the settings are validated from.
        origins: Where each value that is no table came from.
        problems: What is wrong with the sources themselves: sentences, each with its key.
    """

    tree: dict[str, Any] = field(default_factory=dict)
    origins: dict[keys.Path, Origin] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def put(self, path: keys.Path, value: Any, origin: Origin) -> None:
        """Put a value over what lower sources say.

        A secret also displaces a lower source's file for that secret, and a file a lower source's secret, so that each
        source may choose either form. Both in one source stay, to be refused.
        """
        if isinstance(value, dict) and value:
            if origin.source is not Source.FILE:
                self.remove(path)
            for key, inner in value.items():
                self.put((*path, key), inner, origin)
            return
        twin = keys.twin(path)
        if twin is not None and self.origins.get(twin, origin).source is not origin.source:
            self.remove(twin)
        self.remove(path)
        table = self.tree
        for part in path[:-1]:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                return  # a lower source has a plain value where a table belongs; that is its own problem
        table[path[-1]] = value
        self.origins[path] = origin

    def remove(self, path: keys.Path) -> None:
        """Forget a value, or a whole table."""
        table = keys.value_at(self.tree, path[:-1])
        if isinstance(table, dict):
            table.pop(path[-1], None)
        for known in [known for known in self.origins if known[: len(path)] == path]:
            del self.origins[known]

    def blame(self, path: keys.Path) -> str:
        """Given the path of a value or of something in it, return ` (environment SYNCD_X)` or the like.

        What stands in the configuration file needs no such remark, and gets an empty text.
        """
        for length in range(len(path), 0, -1):
            origin = self.origins.get(path[:length])
            if origin is not None and origin.source is not Source.FILE:
                return f" ({origin})"
        return ""
