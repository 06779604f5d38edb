"""One invocation of the program: what every command works with, how its work is run, and what it ends with."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from syncd.cli.screen import GAP, Block, Line, Screen
from syncd.errors import ConfigError, SyncdError

if TYPE_CHECKING:
    from syncd.config.load import Loaded
    from syncd.core.ports import Cancelled
    from syncd.wiring import AppContext

UNEXPECTED = 1
USAGE = 64
INTERRUPTED = 130

SERIOUS = (1, 78, 77, 69, 75, 4, 5, 3, 2, 0)
"""Exit codes from the most to the least serious: over several links, a command ends with the most serious one."""


@dataclass
class App:
    """One invocation of the program.

    Args:
        config: `--config`.
        log_level, log_format: `--log-level` and `--log-format`; None where not given.
        quiet: `--quiet`.
    """

    config: Path | None = None
    log_level: str | None = None
    log_format: str | None = None
    quiet: bool = False
    screen: Screen = field(default_factory=Screen)
    _loaded: Loaded | None = None

    @property
    def debug(self) -> bool:
        """Whether a bug's traceback is wanted."""
        if self.log_level is None and self._loaded is not None:
            return self._loaded.settings.log.level.value == "debug"
        return self.log_level == "debug"

    def load(self, *, daemon: bool = False, secrets: bool = True) -> Loaded:
        """Read the configuration, once; from then on its secrets are masked everywhere, and logs are set up.

        Root becomes the user of the service that the configuration is for, if there is one.

        Args:
            daemon: Log as configured. A command that a person watches logs only errors on a terminal, since it shows
                everything else itself.
            secrets: Whether the command needs the secrets of the portals and tables, or only the state database.

        Raises:
            ConfigError: With every problem found.
        """
        if self._loaded is None:
            from syncd.config.load import load
            from syncd.config.render import secret_values
            from syncd.config.service_places import become_service_user
            from syncd.config.sources import DEFAULT
            from syncd.obs.redact import register_secret

            level = self.log_level or ("error" if self.quiet else None)
            flags = {"log.level": level, "log.format": self.log_format}
            self._loaded = load(self.config, os.environ, flags, secrets=False)
            for secret in secret_values(self._loaded.settings):
                register_secret(secret)
            become_service_user(self._loaded.path, os.environ)
            log = self._loaded.settings.log
            chosen = self._loaded.origin("log.level") != DEFAULT
            self._log(log.level.value if chosen or daemon else None, log.format.value)
        if secrets:
            self._loaded.require_secrets()
        return self._loaded

    def log(self, level: str | None = None) -> None:
        """Set up logs for a command that needs no configuration; `level` is its own default."""
        self._log(self.log_level or ("error" if self.quiet else level), self.log_format or "auto")

    def say(self, blocks: Iterable[Block]) -> None:
        """Print that something went well; with `--quiet`, print nothing."""
        if not self.quiet:
            self.screen.show(blocks)

    def _log(self, level: str | None, look: str) -> None:
        from syncd.obs.logs import configure

        configure(level or ("error" if sys.stderr.isatty() else "info"), look)

    def perform(
        self,
        work: Callable[[AppContext, Cancelled], Awaitable[int]],
        *,
        upgrade: bool = True,
        anew: bool = False,
        secrets: bool = True,
    ) -> int:
        """Load the configuration, open the state database, do the work under the signals, and return its exit code.

        Args:
            work: What to do; takes what links are made from, and the flag that the first signal sets.
            upgrade: Make or upgrade the state database first.
            anew: Make a new one even if links are known to have worked with one before.
            secrets: See `load`.
        """
        settings = self.load(secrets=secrets).settings
        import asyncio

        from syncd.cli.stopping import Signals
        from syncd.errors import Stopped
        from syncd.wiring import open_app_context

        async def whole() -> int:
            code = Stopped.exit_code
            with Signals() as signals:
                async with open_app_context(settings, upgrade=upgrade, anew=anew) as context:
                    code = await work(context, signals.cancelled)
            return signals.exit_code(code)

        return asyncio.run(whole())


def who() -> str:
    """Return who asks for something: user and host; behind sudo, the person who typed it."""
    import getpass
    import socket

    try:
        user = os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = "somebody"
    return f"{user}@{socket.gethostname()}"


def most_serious(codes: Iterable[int]) -> int:
    """Given the exit codes of several links, return the one to end with; codes of signals come before all others."""
    return min(codes, key=lambda code: SERIOUS.index(code) if code in SERIOUS else -1, default=0)


def describe_error(error: SyncdError, *, about: str = "") -> Iterator[Block]:
    """Given an error, yield what the operator reads: what happened, every problem, and what to do next.

    Args:
        error: The error.
        about: The link it belongs to, where a command works on several.
    """
    yield Line(f"Error: {f'{about}: ' if about else ''}{error.message}", "bad")
    if isinstance(error, ConfigError):
        for problem in error.problems:
            yield Line(f"- {problem}", indent=2)
    if error.hint:
        yield Line(f"Hint: {error.hint}")


def describe_lost_output(reason: str, code: int) -> Iterator[Block]:
    """Given why standard output could not be written and the command's exit code, yield the sentence that says so."""
    work = "The command did its work" if not code else f"The command ended with {code}"
    yield Line(f"Error: standard output could not be written: {reason}. {work}; its output is lost.", "bad")


def describe_bug(error: BaseException, *, debug: bool) -> Iterator[Block]:
    """Given an unexpected error, yield the sentence that says so; with `debug`, where it came from too."""
    if debug:
        import traceback

        for line in "".join(traceback.format_exception(error)).splitlines():
            yield Line(line)
        yield GAP
    where = "" if debug else " `--log-level debug` shows where; please report it."
    yield Line(f"Error: unexpected {type(error).__name__}: {str(error).rstrip('. ')}. This is a bug.{where}", "bad")
