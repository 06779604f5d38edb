"""Reading the configuration again: which changes take effect at once, and which need a restart."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import reduce
from typing import Any

from syncd.config.load import Loaded, load
from syncd.config.masking import secret_values
from syncd.config.model import Settings
from syncd.config.values import Source
from syncd.obs.redact import remember

RESTART = ("state.url", "web.listen")
"""Keys a running daemon cannot take up: it has opened what they name."""


def read_again(loaded: Loaded) -> Loaded:
    """Given the configuration in force, read it again from where it came from, flags included.

    Raises:
        ConfigError: With every problem; the one in force stays.
    """
    again = load(loaded.path, os.environ, _flags(loaded))
    for secret in secret_values(again.settings):
        remember(secret)
    return again


def needs_restart(old: Settings, new: Settings) -> list[str]:
    """Given the settings in force and new ones, return the changed keys that only a restart takes up."""
    return [key for key in RESTART if _value(old, key) != _value(new, key)]


def _flags(loaded: Loaded) -> Mapping[str, Any]:
    return {key: _value(loaded.settings, key) for key, origin in loaded.origins.items() if origin.source is Source.FLAG}


def _value(settings: Settings, key: str) -> Any:
    return reduce(getattr, key.split("."), settings)
