"""The configuration of the service: `[state]`, `[daemon]`, `[web]`, `[log]`, `[notify]`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from syncd.config.fields import (
    COMMENTED_OUT,
    DatabasePart,
    Duration,
    FernetKey,
    FileName,
    HostPart,
    Kind,
    KindPart,
    Listen,
    NotEmpty,
    NotifyUrl,
    OptionsPart,
    PassesOrDuration,
    PasswordFilePart,
    PasswordPart,
    PortPart,
    Secret,
    StateUrl,
    Strict,
    UserPart,
    instead_of,
    refuse_both,
)
from syncd.config.schedule import Interval, Schedule, parse_duration
from syncd.config.urls import is_loopback, parse_listen

DEFAULT_STATE = "sqlite:///syncd.db"
"""The default state database: a file beside the configuration."""


class LogLevel(StrEnum):
    """The minimum level of log lines."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """The format of log lines."""

    AUTO = "auto"
    CONSOLE = "console"
    JSON = "json"


class StateSettings(Strict):
    """The state database: what both sides agreed on, the journal and the audit."""

    url: Annotated[
        StateUrl,
        Field(
            description="A SQLAlchemy URL. `sqlite:///syncd.db` is a file in the configuration's folder, "
            "`sqlite:////var/lib/syncd/syncd.db` an absolute path. Use PostgreSQL, MariaDB or "
            "MySQL if several daemons share the work.",
            examples=["sqlite:///syncd.db"],
        ),
    ] = SecretStr(DEFAULT_STATE)
    url_file: Annotated[
        FileName | None,
        COMMENTED_OUT,
        Field(description="A file that holds the URL, instead of `url`.", examples=["credentials/state-url"]),
    ] = None
    kind: KindPart = None
    host: HostPart = None
    port: PortPart = None
    user: UserPart = None
    password: PasswordPart = None
    password_file: PasswordFilePart = None
    database: DatabasePart = None
    options: OptionsPart = Field(default_factory=dict)
    lease_ttl: Annotated[
        Duration,
        COMMENTED_OUT,
        Field(
            description="How long a link stays reserved for a process that no longer responds; at least twice its "
            "portal's `max_request_seconds`. After that, another one takes over."
        ),
    ] = "30s"

    key: Annotated[
        FernetKey | None,
        COMMENTED_OUT,
        Field(
            description="A Fernet key that encrypts OAuth tokens in the state database; keep it in `key_file` or a "
            "credential. `head -c 32 /dev/urandom | base64 | tr +/ -_` makes one. Do not use the one shown here.",
            examples=["MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="],
        ),
    ] = None
    key_file: Annotated[
        FileName | None,
        instead_of("key"),
        COMMENTED_OUT,
        Field(description="A file that holds the key, instead of `key`.", examples=["credentials/state-key"]),
    ] = None

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
            description="How long a pass may take after SIGTERM to finish its batch in flight. systemd's "
            "TimeoutStopSec must be longer."
        ),
    ] = "45s"
    jitter: Annotated[
        Duration | None,
        COMMENTED_OUT,
        Field(
            description="Scheduled passes start up to this much later, at random, so that links do not start together; "
            "with an interval, at most a tenth of it. If left out, passes start exactly on time.",
            examples=["5s"],
        ),
    ] = None
    timezone: Annotated[
        NotEmpty,
        COMMENTED_OUT,
        Field(description="The time zone of cron expressions, by its IANA name, such as Europe/Berlin."),
    ] = "UTC"

    @property
    def shutdown_timeout_seconds(self) -> int:
        """`shutdown_timeout` in seconds."""
        return parse_duration(self.shutdown_timeout)

    def jitter_seconds(self, schedule: Schedule) -> float:
        """Given a link's schedule, return the most seconds that a pass may start late."""
        jitter = parse_duration(self.jitter) if self.jitter else 0
        return min(jitter, schedule.seconds / 10) if isinstance(schedule, Interval) else jitter

    @field_validator("timezone")
    @classmethod
    def _known_timezone(cls, value: str) -> str:
        from zoneinfo import ZoneInfo  # noqa: PLC0415 reads the zone database; only if a zone is given

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
            description="The address to serve them on, host:port. They are read-only. Beyond loopback, set a password "
            "or put a proxy in front, since everyone who reaches the port can read them. If left out, there are no "
            "page and no metrics.",
            examples=["127.0.0.1:9464"],
        ),
    ] = None

    hosts: Annotated[
        tuple[NotEmpty, ...],
        COMMENTED_OUT,
        Field(
            description="Host names that the page is served under, besides localhost, `listen` and IP addresses: those "
            "that a proxy or Prometheus uses.",
            examples=[["syncd.example.com"]],
        ),
    ] = ()
    password: Annotated[
        Secret | None,
        COMMENTED_OUT,
        Field(
            description="The password for basic authentication, with any user name. Health needs none.",
            examples=["SECRET"],
        ),
    ] = None
    password_file: Annotated[
        FileName | None,
        instead_of("password"),
        COMMENTED_OUT,
        Field(description="A file that holds the password, instead of `password`.", examples=["credentials/web"]),
    ] = None
    user_header: Annotated[
        NotEmpty | None,
        COMMENTED_OUT,
        Field(
            description="A header in which a proxy on this host names the signed-in user. Such a request needs no "
            "password; without the header, or from another host, it is refused.",
            examples=["X-Remote-User"],
        ),
    ] = None

    @property
    def is_open(self) -> bool:
        """Whether everyone who reaches the port can read it, also from other hosts."""
        guarded = self.password is not None or self.user_header is not None
        return self.address is not None and not guarded and not is_loopback(f"http://{self.listen}")

    @property
    def address(self) -> tuple[str, int] | None:
        """`listen` as host and port."""
        return None if self.listen is None else parse_listen(self.listen)


class LogSettings(Strict):
    """Log lines, written to stderr."""

    level: Annotated[LogLevel, COMMENTED_OUT, Field(description="The minimum level to log.")] = LogLevel.INFO
    format: Annotated[
        LogFormat,
        COMMENTED_OUT,
        Field(
            description="`auto` is `console` on a terminal, JSON lines with priorities under journald, and JSON "
            "lines with the time elsewhere."
        ),
    ] = LogFormat.AUTO


class LeastSeverity(StrEnum):
    """The minimum severity of notifications."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class NotifySettings(Strict):
    """Notifications: when a link's health changes, a plan is refused, a hold grows old, and when all is well again."""

    webhook: Annotated[
        NotifyUrl | None,
        COMMENTED_OUT,
        Field(description="An address to post JSON to.", examples=["https://alerts.example.com/hooks/CODE"]),
    ] = None
    webhook_file: Annotated[
        FileName | None,
        instead_of("webhook"),
        COMMENTED_OUT,
        Field(description="A file that holds the address, instead of `webhook`.", examples=["credentials/notify"]),
    ] = None
    command: Annotated[
        list[NotEmpty] | None,
        COMMENTED_OUT,
        Kind("list of strings"),
        Field(
            min_length=1,
            description="A program and its arguments, run without a shell. It gets the same JSON on standard input.",
            examples=[["/usr/local/bin/tell-me"]],
        ),
    ] = None
    apprise: Annotated[
        Secret | None,
        COMMENTED_OUT,
        Field(
            description="Apprise URLs, separated by spaces or on lines of their own: e-mail, Telegram, Slack, "
            "Mattermost, Teams and more. Needs the extra `notify`.",
            examples=["tgram://TOKEN/CHAT mailtos://user:password@mail.example.com?to=erp@example.com"],
        ),
    ] = None
    apprise_file: Annotated[
        FileName | None,
        instead_of("apprise"),
        COMMENTED_OUT,
        Field(description="A file that holds these URLs, instead of `apprise`.", examples=["credentials/apprise"]),
    ] = None
    failing_after: Annotated[
        PassesOrDuration,
        COMMENTED_OUT,
        Field(
            description="The number of failed passes in a row, or the time, after which a failing link is notified. A "
            "refused plan or a parked link is notified at once."
        ),
    ] = "5m"
    remind_every: Annotated[
        Duration | None,
        COMMENTED_OUT,
        Field(
            description="How often a notification is repeated while a link is not well. If left out, it is sent once.",
            examples=["1d"],
        ),
    ] = None
    severity: Annotated[
        LeastSeverity,
        COMMENTED_OUT,
        Field(
            description="The minimum severity to notify: `error` is a refused, parked or failing link, `warning` adds "
            "held orders, `info` adds that all is well again."
        ),
    ] = LeastSeverity.INFO
    holds_after: Annotated[Duration, COMMENTED_OUT, Field(description="The age at which an open hold is notified.")] = (
        "1h"
    )

    @property
    def failing_threshold(self) -> tuple[int, float]:
        """`failing_after` as passes in a row and seconds; both must have passed."""
        return (
            (self.failing_after, 0.0)
            if isinstance(self.failing_after, int)
            else (1, parse_duration(self.failing_after))
        )

    @property
    def remind_every_seconds(self) -> float | None:
        """`remind_every` in seconds."""
        return None if self.remind_every is None else parse_duration(self.remind_every)

    @property
    def holds_after_seconds(self) -> int:
        """`holds_after` in seconds."""
        return parse_duration(self.holds_after)
