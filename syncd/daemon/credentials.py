"""Secrets on the disk: whether they are still what the configuration was read with.

A running daemon reads its configuration on SIGHUP only. But a link that is parked because its credentials are refused
waits for new ones, and those come as a file: a webhook that was made anew, a secret that Kubernetes has replaced. While
such a link waits, the files are looked at every few seconds, and the configuration is read again once one differs.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import structlog

from syncd.config.load import Loaded
from syncd.config.values import Source
from syncd.core.ports import Clock

log = structlog.get_logger("syncd.daemon")

EVERY: Final = 5.0
"""Seconds between two looks at the files."""
_LARGEST: Final = 1024 * 1024
"""Bytes of a file that are looked at; no secret is that long."""

Prints = Mapping[Path, bytes]


class SecretFiles:
    """The files that the secrets of a configuration came from: those of `_file` keys and of the credentials directory.

    Args:
        loaded: The configuration, just read.
        environ: The environment it was read in.
    """

    def __init__(self, loaded: Loaded, environ: Mapping[str, str]) -> None:
        self._named = [Path(origin.name) for origin in loaded.origins.values() if origin.source is Source.SECRET_FILE]
        self._directory = environ.get("CREDENTIALS_DIRECTORY")
        self._prints = self._look()

    def changed(self) -> list[Path]:
        """Return the files that came, went or changed since this was asked last."""
        before, self._prints = self._prints, self._look()
        return sorted(path for path in before | self._prints if before.get(path) != self._prints.get(path))

    def _look(self) -> dict[Path, bytes]:
        return {path: found for path in self._files() if (found := _print_of(path)) is not None}

    def _files(self) -> list[Path]:
        if not self._directory:
            return self._named
        try:
            return [*self._named, *Path(self._directory).iterdir()]
        except OSError:
            return self._named


def _print_of(path: Path) -> bytes | None:
    """Given a file, return what tells one content from another; None where it cannot be read."""
    try:
        with path.open("rb") as opened:
            return hashlib.sha256(opened.read(_LARGEST)).digest()
    except OSError:
        return None


async def watch(
    files: Callable[[], SecretFiles], wanted: Callable[[], bool], changed: Callable[[], None], clock: Clock
) -> None:
    """Look at the files, for ever.

    Args:
        files: Those of the configuration in force.
        wanted: Whether anybody waits for other credentials.
        changed: Called when a file differs.
        clock: Time.
    """
    while True:
        await clock.sleep(EVERY)
        if wanted():
            found = await asyncio.to_thread(files().changed)
            if found:
                log.info("credentials changed", files=[str(path) for path in found])
                changed()
