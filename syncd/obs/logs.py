"""Logging: one configuration for syncd and all libraries, with secrets masked, in a format that fits the stream.

An event is a verb phrase with key-values. `run_id` and `link` come from context variables, so code inside
`structlog.contextvars.bound_contextvars(link=…)` does not repeat them. Import this module lazily: structlog takes time.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from syncd.obs.redact import MASK, SECRET_NAMES, escape_in_json, redact

WARNINGS_ONLY = ("httpx", "httpcore", "hpack", "urllib3", "alembic", "apscheduler", "sqlalchemy", "asyncio", "uvicorn")
"""Libraries that log warnings only, at any level: httpx logs whole URLs at INFO, with the webhook's code, and
others do the same at DEBUG (peers.md)."""
ERRORS_ONLY = ("psycopg",)
"""Libraries that log errors only. psycopg's warnings about broken connections ("error ignored terminating …") repeat
errors that it also raises, and that syncd reports."""

# What syslog(3) calls these levels; journald reads them off the start of a line.
_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "exception": 3, "critical": 2}
_DEEPEST = 8


class LogStyle(StrEnum):
    """The formats of log lines, after `auto` is resolved."""

    CONSOLE = "console"
    JOURNAL = "journal"
    JSON = "json"


def configure(
    level: str = "info", fmt: str = "auto", *, stream: TextIO | None = None, environ: Mapping[str, str] | None = None
) -> LogStyle:
    """Send all log lines of this process to one stream. A later call, as at a reload, replaces the configuration.

    Args:
        level: The minimum level of syncd's own lines: debug, info, warning or error. That of libraries is warning at
            least, that of some is error.
        fmt: auto, console or json; auto is console on a terminal, JSON lines with priorities for journald, and JSON
            lines with the time elsewhere.
        stream: stderr by default.
        environ: The environment, which describes the stream; `os.environ` by default.

    Returns:
        The format of the lines.
    """
    stream = sys.stderr if stream is None else stream
    environ = os.environ if environ is None else environ
    style = _style(fmt, stream, environ)
    handler = _Handler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                structlog.contextvars.merge_contextvars,
                structlog.stdlib.add_logger_name,
                structlog.stdlib.add_log_level,
            ],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                # A text from here on, so that it can be masked; rich's tracebacks would also show local variables.
                structlog.processors.format_exc_info,
                redact_event,
                *_rendering(style, colours=_wants_colours(stream, environ)),
            ],
        )
    )
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    own = logging.getLevelNamesMapping()[level.upper()]
    others = max(own, logging.WARNING)
    root.setLevel(others)
    logging.getLogger("syncd").setLevel(own)
    for name in WARNINGS_ONLY:
        logging.getLogger(name).setLevel(others)
    for name in ERRORS_ONLY:
        logging.getLogger(name).setLevel(logging.ERROR)
    # Its pool logs a traceback for each connection lost in use, although the statement raises an error as well.
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)
    logging.captureWarnings(capture=True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.add_log_level,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,  # or loggers already used would keep an earlier set-up
    )
    return style


def redact_event(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Mask the secrets in all values of an event, at any depth, including the text of exceptions."""
    return {key: MASK if key in SECRET_NAMES and value else _redacted(value, 0) for key, value in event.items()}


class _Handler(logging.StreamHandler[TextIO]):
    """A class of our own, so that a second `configure` replaces only this handler."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 logging's name
        """Report a lost line without its text: the report of `logging` would print it unmasked."""
        kind = sys.exc_info()[0]
        with contextlib.suppress(OSError, ValueError):  # the stream itself may be gone
            self.stream.write(f"a log line of {record.name} was lost: {kind.__name__ if kind else 'unknown'}\n")


def _style(fmt: str, stream: TextIO, environ: Mapping[str, str]) -> LogStyle:
    if fmt != "auto":
        return LogStyle(fmt)
    if stream.isatty():
        return LogStyle.CONSOLE
    return LogStyle.JOURNAL if _is_journal(stream, environ) else LogStyle.JSON


def _is_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether the stream is the socket systemd connected to the journal: `$JOURNAL_STREAM` is its device:inode."""
    try:
        status = os.fstat(stream.fileno())
    except OSError:  # a stream in memory
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _wants_colours(stream: TextIO, environ: Mapping[str, str]) -> bool:
    if environ.get("NO_COLOR"):
        return False
    if environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and environ.get("TERM") != "dumb"


def _rendering(style: LogStyle, *, colours: bool) -> list[Processor]:
    if style is LogStyle.CONSOLE:
        return [
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            structlog.dev.ConsoleRenderer(
                colors=colours,
                force_colors=colours,
                sort_keys=False,
            ),
        ]
    render = structlog.processors.JSONRenderer(serializer=_to_json)
    if style is LogStyle.JOURNAL:  # journald has its own clock
        return [_heading_first, _WithPriority(render)]
    return [structlog.processors.TimeStamper(fmt="iso", utc=True), _heading_first, render]


def _to_json(event: EventDict, **options: Any) -> str:
    return escape_in_json(json.dumps(event, ensure_ascii=False, **options))


def _heading_first(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Order the fields of a line: time, level, event, link, run, then the others."""
    heading = {key: event[key] for key in ("timestamp", "level", "event", "link", "run_id") if key in event}
    return heading | {key: value for key, value in event.items() if key not in heading}


class _WithPriority:
    """Prefixes lines with `<N>`, which journald removes and stores as the priority (sd-daemon(3))."""

    def __init__(self, render: structlog.processors.JSONRenderer) -> None:
        self._render = render

    def __call__(self, logger: WrappedLogger, name: str, event: EventDict) -> str:
        line = self._render(logger, name, event)
        return f"<{_PRIORITIES.get(str(event.get('level')), 6)}>{line if isinstance(line, str) else line.decode()}"


def _redacted(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return redact(str(value))
    if depth < _DEEPEST:
        if isinstance(value, Mapping):
            return {
                str(key): MASK if key in SECRET_NAMES and inner else _redacted(inner, depth + 1)
                for key, inner in value.items()
            }
        if isinstance(value, list | tuple | set | frozenset):
            return [_redacted(inner, depth + 1) for inner in value]
    return redact(str(value))
