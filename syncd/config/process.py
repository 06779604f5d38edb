"""The tables of the configuration that belong to the process: `[state]`, `[daemon]`, `[web]`, `[log]`, `[notify]`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from syncd.config.endpoints import parse_listen
from syncd.config.fields import (
    COMMENTED_OUT,
    Duration,
    FileName,
    Kind,
    Listen,
    NotEmpty,
    NotifyUrl,
    StateUrl,
    Strict,
    refuse_both,
)
from syncd.config.schedule import Interval, Schedule, parse_duration


class LogLevel(StrEnum):
    """From which importance on lines are logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """How log lines look."""

    AUTO = "auto"
    CONSOLE = "console"
    JSON = "json"


class StateSettings(Strict):
    """The state database: what both sides agreed on, the journal and the audit."""

    url: Annotated[
        StateUrl,
        Field(
            description="A SQLAlchemy URL. `sqlite:///syncd.db` is a file in the current directory, "
            "`sqlite:////var/lib/syncd/syncd.db` an absolute path. PostgreSQL, MariaDB or MySQL "
            "when more than one daemon shares the work.",
            examples=["sqlite:///syncd.db"],
        ),
    ] = SecretStr("sqlite:///syncd.db")
    url_file: Annotated[
        FileName | None,
        COMMENTED_OUT,
        Field(description="A file that holds the URL, instead of `url`.", examples=["credentials/state-url"]),
    ] = None
    lease_ttl: Annotated[
        Duration,
        COMMENTED_OUT,
        Field(
            description="How long a link stays reserved for a process that has gone silent; another one takes "
            "over after that."
        ),
    ] = "30s"

    @property
    def lease_ttl_seconds(self) -> int:
        """`lease_ttl` in seconds."""
        return parse_duration(self.lease_ttl)

    @field_validator("url_file")
    @classmethod
    def _one_url(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and "url" in info.data and info.data["url"] is not cls.model_fields["url"].default:
            refuse_both("url")
        return value


class DaemonSettings(Strict):
    """The daemon, `syncd run`."""

    shutdown_timeout: Annotated[
        Duration,
        COMMENTED_OUT,
        Field(
            description="How long a pass may take to finish its batch in flight after SIGTERM. Keep systemd's "
            "TimeoutStopSec longer than this."
        ),
    ] = "45s"
    jitter: Annotated[
        Duration | None,
        COMMENTED_OUT,
        Field(
            description="Scheduled passes begin up to this much later, at random, so that links do not begin "
            "together; with an interval, at most a tenth of it. Left out: exactly on time.",
            examples=["5s"],
        ),
    ] = None
    timezone: Annotated[
        NotEmpty,
        COMMENTED_OUT,
        Field(description="The time zone cron expressions are read in, by its IANA name, such as Europe/Berlin."),
    ] = "UTC"

    @property
    def shutdown_timeout_seconds(self) -> int:
        """`shutdown_timeout` in seconds."""
        return parse_duration(self.shutdown_timeout)

    def jitter_seconds(self, schedule: Schedule) -> float:
        """Given a link's schedule, return the most seconds a pass may begin late."""
        jitter = parse_duration(self.jitter) if self.jitter else 0
        return min(jitter, schedule.seconds / 10) if isinstance(schedule, Interval) else jitter

    @field_validator("timezone")
    @classmethod
    def _known_timezone(cls, value: str) -> str:
        from zoneinfo import ZoneInfo  # noqa: PLC0415 reads the zone database; only where a zone was written

        try:
            ZoneInfo(value)
        except (ValueError, OSError, KeyError):
            raise ValueError("must be the IANA name of a time zone, such as Europe/Berlin or UTC") from None
        return value


class WebSettings(Strict):
    """The status page, health and metrics of the daemon."""

    listen: Annotated[
        Listen | None,
        Field(
            description="Where the daemon serves them, host:port. They are read-only and without a password: "
            "keep them on loopback or behind a proxy. Left out: no page, no metrics.",
            examples=["127.0.0.1:9464"],
        ),
    ] = None

    @property
    def address(self) -> tuple[str, int] | None:
        """`listen` as host and port."""
        return None if self.listen is None else parse_listen(self.listen)


class LogSettings(Strict):
    """Log lines, written to stderr."""

    level: Annotated[LogLevel, COMMENTED_OUT, Field(description="The least important lines to log.")] = LogLevel.INFO
    format: Annotated[
        LogFormat,
        COMMENTED_OUT,
        Field(
            description="`auto` is `console` on a terminal, JSON lines with priorities under journald, and JSON "
            "lines with the time elsewhere."
        ),
    ] = LogFormat.AUTO


class NotifySettings(Strict):
    """Who is told when a link's health changes, a plan is refused, a hold grows old, and when all is well again."""

    webhook: Annotated[
        NotifyUrl | None,
        COMMENTED_OUT,
        Field(description="An address that gets a JSON POST.", examples=["https://alerts.example.com/hooks/CODE"]),
    ] = None
    webhook_file: Annotated[
        FileName | None,
        COMMENTED_OUT,
        Field(description="A file that holds the address, instead of `webhook`.", examples=["credentials/notify"]),
    ] = None
    command: Annotated[
        list[NotEmpty] | None,
        COMMENTED_OUT,
        Kind("list of strings"),
        Field(
            min_length=1,
            description="A program and its arguments, run without a shell; the same JSON stands on its standard input.",
            examples=[["/usr/local/bin/tell-me"]],
        ),
    ] = None
    holds_after: Annotated[
        Duration, COMMENTED_OUT, Field(description="The age at which an open hold is worth a notification.")
    ] = "1h"

    @property
    def holds_after_seconds(self) -> int:
        """`holds_after` in seconds."""
        return parse_duration(self.holds_after)

    @field_validator("webhook_file")
    @classmethod
    def _one_webhook(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("webhook") is not None:
            refuse_both("webhook")
        return value
