"""Reads the configuration as a whole: every source, every check, every problem at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from syncd.config import keys, sources
from syncd.config.model import Settings
from syncd.config.problems import sentences
from syncd.config.values import DEFAULT, Origin, Values
from syncd.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings in force and where they come from.

    Args:
        settings: The settings; secrets named by a `_file` key have been read.
        path: The configuration file.
        origins: Where each value that is not a default came from, by dotted key.
    """

    settings: Settings
    path: Path
    origins: Mapping[str, Origin]

    def origin(self, key: str) -> Origin:
        """Given a dotted key such as `links.shop.schedule`, return where its value came from."""
        return self.origins.get(key, DEFAULT)


def load(
    path: Path | None,
    environ: Mapping[str, str],
    flags: Mapping[str, Any] | None = None,
    *,
    searched: Sequence[Path] = sources.SEARCHED,
) -> Loaded:
    """Read, merge and check the configuration.

    Args:
        path: The file `--config` names; None looks at `$SYNCD_CONFIG` and then in the usual places.
        environ: The environment: `SYNCD_SECTION__KEY`, `SYNCD_CONFIG`, `CREDENTIALS_DIRECTORY`.
        flags: Values given on the command line, by dotted key (`log.level`); None stands for a flag not given.
        searched: The usual places.

    Returns:
        The settings, from flags over environment over credentials over the file over defaults.

    Raises:
        ConfigError: With every problem found, free of any secret.
    """
    file = sources.find_file(path, environ, searched)
    values = Values()
    sources.read_file(file, values)
    sources.read_credentials(environ, values)
    sources.read_environment(environ, values)
    sources.read_flags(flags or {}, values)
    sources.read_secret_files(values, file.parent)
    settings = _validated(values)
    if settings is None or values.problems:
        count = len(values.problems)
        raise ConfigError(
            f"The configuration {file} has {count} problems."
            if count > 1
            else f"The configuration {file} has a problem.",
            hint="syncd config example shows every key and what it means.",
            problems=tuple(values.problems),
        )
    return Loaded(
        settings, file, MappingProxyType({keys.dotted(key): origin for key, origin in values.origins.items()})
    )


def _validated(values: Values) -> Settings | None:
    try:
        return Settings.model_validate(values.tree)
    except ValidationError as error:
        values.problems += sentences(error, values)
        return None
