"""The types of values that keys hold, with their checks and their names for the reference and the JSON Schema."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, NoReturn

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    SecretStr,
    StringConstraints,
    ValidationInfo,
    WithJsonSchema,
)

from syncd.config.mapping_columns import check_extra, check_scalar
from syncd.config.schedule import Cron, Interval, parse_duration, parse_schedule
from syncd.config.urls import (
    DATABASES,
    check_web_url,
    is_host,
    parse_database_url,
    parse_listen,
    parse_webhook,
    web_origin,
)

SHORTEST_TOKEN = 16
"""The fewest characters of a token that callers identify themselves with; those of the portal have 32."""

LINK_NAME = r"^[A-Za-z0-9_-]+$"


class Strict(BaseModel):
    """Refuses unknown keys, cannot be changed, and never repeats a value in an error, since it may be a secret."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


@dataclass(frozen=True, slots=True)
class Kind:
    """The name of a type of values on the reference page."""

    name: str


@dataclass(frozen=True, slots=True)
class CommentedOut:
    """The example file shows this key commented out."""


COMMENTED_OUT = CommentedOut()


class TableProblem(ValueError):
    """A problem that is reported for the table of a key rather than for the key: something is missing."""


class SecretMissing(TableProblem):
    """A secret of a link is missing. Commands that need neither the portal nor the table continue without it."""


LENIENT = {"secrets": False}
"""The context of a validation that accepts missing secrets."""


def need_secret(info: ValidationInfo, sentence: str) -> None:
    """Raise `SecretMissing`, unless the validation accepts missing secrets."""
    if info.context != LENIENT:
        raise SecretMissing(sentence)


def refuse_both(other: str) -> NoReturn:
    """Raise the problem of a key that is given together with another one for the same value."""
    raise ValueError(f"is given together with {other}; keep one of them")


def instead_of(key: str) -> AfterValidator:
    """Return the check that a key is not given together with another one, which is defined before it."""

    def validate(value: object, info: ValidationInfo) -> object:
        if value is not None and info.data.get(key) is not None:
            refuse_both(key)
        return value

    return AfterValidator(validate)


def _checked(check: Callable[[str], object]) -> AfterValidator:
    def validate(value: str) -> str:
        check(value)
        return value

    return AfterValidator(validate)


def _checked_secret(check: Callable[[str], object]) -> AfterValidator:
    def validate(value: SecretStr) -> SecretStr:
        check(value.get_secret_value())
        return value

    return AfterValidator(validate)


def _long_enough(value: str) -> None:
    if len(value) < SHORTEST_TOKEN or not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError(f"must have at least {SHORTEST_TOKEN} characters, all of them printable ASCII without spaces")


def _not_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")  # noqa: TRY004 pydantic turns only ValueError into a problem
    return value


def _with_unit(value: object) -> object:
    if isinstance(value, int | float):
        raise ValueError('needs a unit: write "30s", "5m", "1h30m" or "1d", in quotes')  # noqa: TRY004 as above
    return value


def _passes_or_duration(value: object) -> int | str:
    text = str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if text.isascii() and text.isdigit() and int(text) > 0:
        return int(text)
    try:
        parse_duration(text)
    except ValueError:
        raise ValueError("must be a number of passes above 0, or a duration such as 30s, 5m or 1h30m") from None
    return text


def _schedule(value: object) -> Interval | Cron:
    if isinstance(value, Interval | Cron):
        return value
    value = _with_unit(value)
    if not isinstance(value, str):
        raise ValueError("must be a string, such as '5m'")  # noqa: TRY004 as above
    return parse_schedule(value)


def _state_url(url: str) -> None:
    parts = parse_database_url(url)
    if parts.dialect not in DATABASES:
        raise ValueError("must be a database of SQLite, PostgreSQL, MySQL or MariaDB")
    if parts.is_memory:
        raise ValueError("must outlive the process: an SQLite database in memory forgets what both sides agreed on")


def _fernet_key(text: str) -> None:
    try:
        length = len(base64.urlsafe_b64decode(text))
    except ValueError:
        length = 0
    if length != 32 or len(text) != 44:
        raise ValueError("must be a Fernet key: 32 random bytes as 44 characters of URL-safe base64")


def _not_empty(text: str) -> None:
    if not text.strip():
        raise ValueError("must not be empty")


def _host(text: str) -> None:
    if not text.strip() or not is_host(text):
        raise ValueError("must be a name, an IP address or the folder of a socket; the port has a key of its own")


def _table_name(name: str) -> None:
    parts = name.split(".")
    if len(parts) > 2 or any(part != part.strip() or not part for part in parts):
        raise ValueError("must be the name of a table, or schema.table")


NotEmpty = Annotated[str, _checked(_not_empty), Kind("string")]
Column = Annotated[str, _checked(_not_empty), Kind("column name")]
HostName = Annotated[str, _checked(_host), Kind("string")]
TableName = Annotated[str, _checked(_table_name), Kind("table name")]
FileName = Annotated[str, _checked(_not_empty), Kind("path of a file")]
SqlCondition = Annotated[str, _checked(_not_empty), Kind("SQL condition")]
Secret = Annotated[SecretStr, _checked_secret(_not_empty), Kind("secret")]
HookToken = Annotated[SecretStr, _checked_secret(_long_enough), Kind("secret")]
FernetKey = Annotated[SecretStr, _checked_secret(_fernet_key), Kind("secret key")]
WebhookUrl = Annotated[SecretStr, _checked_secret(parse_webhook), Kind("secret URL")]
NotifyUrl = Annotated[SecretStr, _checked_secret(check_web_url), Kind("secret URL")]
DatabaseUrl = Annotated[SecretStr, _checked_secret(parse_database_url), Kind("secret SQLAlchemy URL")]
StateUrl = Annotated[SecretStr, _checked_secret(_state_url), Kind("secret SQLAlchemy URL")]
WebOrigin = Annotated[str, AfterValidator(web_origin), Kind("web address")]
Listen = Annotated[str, _checked(parse_listen), Kind("host:port")]
Count = Annotated[int, BeforeValidator(_not_bool), Field(ge=0), Kind("whole number")]
PositiveId = Annotated[int, BeforeValidator(_not_bool), Field(ge=1), Kind("positive whole number")]
Percent = Annotated[float, BeforeValidator(_not_bool), Field(ge=0, le=100), Kind("percent")]
PercentOrMore = Annotated[
    float, BeforeValidator(_not_bool), Field(ge=0, allow_inf_nan=False), Kind("percent, also above 100")
]
Share = Annotated[float, BeforeValidator(_not_bool), Field(gt=0, le=1), Kind("number above 0, at most 1")]
LinkName = Annotated[str, StringConstraints(pattern=LINK_NAME)]
Duration = Annotated[
    str,
    BeforeValidator(_with_unit),
    _checked(parse_duration),
    WithJsonSchema({"type": "string", "pattern": r"^(\d+d)?\s*(\d+h)?\s*(\d+m)?\s*(\d+s)?$"}),
    Kind("duration"),
]
PassesOrDuration = Annotated[
    int | str,
    PlainValidator(_passes_or_duration),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string"}]}),
    Kind("number of passes, or duration"),
]
ScheduleText = Annotated[
    Interval | Cron,
    PlainValidator(_schedule),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string"}),
    Kind("interval or cron expression"),
]


ScalarValue = Annotated[Any, AfterValidator(check_scalar)]
ExtraValue = Annotated[Any, AfterValidator(check_extra)]


PARTS = frozenset({"kind", "host", "port", "user", "password", "password_file", "database", "options"})


class DatabaseKind(StrEnum):
    """The kinds of database that are reached over a network."""

    POSTGRESQL = "postgresql"
    MYSQL = "mysql"
    MARIADB = "mariadb"


KindPart = Annotated[
    DatabaseKind | None,
    COMMENTED_OUT,
    Field(
        description="The kind of a database that is given in parts instead of a URL. If left out: `mysql` with port "
        "3306, else `postgresql`.",
        examples=["postgresql"],
    ),
]
HostPart = Annotated[
    HostName | None,
    COMMENTED_OUT,
    Field(
        description="The server of a database that is given in parts instead of a URL, or the folder (MySQL: the file) "
        "of its socket.",
        examples=["db.example.com"],
    ),
]
PortPart = Annotated[PositiveId | None, COMMENTED_OUT, Field(description="The port.", examples=[5432], le=65535)]
UserPart = Annotated[NotEmpty | None, COMMENTED_OUT, Field(description="The user to sign in as.", examples=["syncd"])]
PasswordPart = Annotated[
    Secret | None,
    COMMENTED_OUT,
    Field(description="The password, not percent-encoded.", examples=["PASSWORD"]),
]
PasswordFilePart = Annotated[
    FileName | None,
    COMMENTED_OUT,
    Field(description="A file that holds the password, instead of `password`.", examples=["credentials/shop-password"]),
]
DatabasePart = Annotated[NotEmpty | None, COMMENTED_OUT, Field(description="The database's name.", examples=["shop"])]
OptionsPart = Annotated[
    dict[NotEmpty, str | int],
    COMMENTED_OUT,
    Kind("table of options"),
    Field(description="The options after the `?` of a URL.", examples=[{"sslmode": "require"}]),
]
