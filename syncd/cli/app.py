"""What every command works with: the global options, the configuration, and the way to run something."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from syncd.cli.screen import Screen

if TYPE_CHECKING:
    from syncd.config.load import Loaded
    from syncd.core.ports import Cancelled
    from syncd.wiring import Workplace


@dataclass
class App:
    """One invocation of the program.

    Args:
        config: `--config`.
        log_level, log_format: `--log-level` and `--log-format`; None where not given.
    """

    config: Path | None = None
    log_level: str | None = None
    log_format: str | None = None
    screen: Screen = field(default_factory=Screen)
    _loaded: Loaded | None = None

    @property
    def debug(self) -> bool:
        """Whether a bug's traceback is wanted."""
        if self.log_level is None and self._loaded is not None:
            return self._loaded.settings.log.level.value == "debug"
        return self.log_level == "debug"

    def load(self, *, daemon: bool = False) -> Loaded:
        """Read the configuration, once; from then on its secrets are masked everywhere, and logs are set up.

        Args:
            daemon: Log as configured. A command that a person watches logs only errors on a terminal, since it shows
                everything else itself.

        Raises:
            ConfigError: With every problem found.
        """
        if self._loaded is None:
            from syncd.config.load import load
            from syncd.config.masking import secret_values
            from syncd.obs.redact import remember

            flags = {"log.level": self.log_level, "log.format": self.log_format}
            self._loaded = load(self.config, os.environ, flags)
            for secret in secret_values(self._loaded.settings):
                remember(secret)
            from syncd.config.values import DEFAULT

            log = self._loaded.settings.log
            chosen = self._loaded.origin("log.level") != DEFAULT
            self._log(log.level.value if chosen or daemon else None, log.format.value)
        return self._loaded

    def log(self, level: str | None = None) -> None:
        """Set up logs for a command that needs no configuration; `level` is its own default."""
        self._log(self.log_level or level, self.log_format or "auto")

    def _log(self, level: str | None, look: str) -> None:
        from syncd.obs.logs import configure

        configure(level or ("error" if sys.stderr.isatty() else "info"), look)

    def perform(
        self,
        work: Callable[[Workplace, Cancelled], Awaitable[int]],
        *,
        upgrade: bool = True,
    ) -> int:
        """Load the configuration, open the workplace, do the work under the signals, and return its exit code.

        Args:
            work: What to do; takes the workplace and the flag the first signal sets.
            upgrade: Make or upgrade the state database first.
        """
        settings = self.load().settings
        from syncd.cli import stopping
        from syncd.wiring import open_workplace

        async def whole(cancelled: Cancelled) -> int:
            async with open_workplace(settings, upgrade=upgrade) as place:
                return await work(place, cancelled)

        return stopping.run(whole)
