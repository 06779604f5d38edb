"""The kinds of values a key can hold, each checked where it stands and described for people and for JSON Schema."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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
    WithJsonSchema,
)

from syncd.config.endpoints import check_web_url, check_webhook, parse_database_url, parse_listen, web_origin
from syncd.config.schedule import Cron, Interval, parse_duration, parse_schedule

LINK_NAME = r"^[A-Za-z0-9_-]+$"
_SERVER_DIALECTS = frozenset({"sqlite", "postgresql", "mysql", "mariadb"})


class Strict(BaseModel):
    """Unknown keys are errors; values do not change once read; no input, which may be a secret, stands in an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


@dataclass(frozen=True, slots=True)
class Kind:
    """What the reference page calls this kind of value."""

    name: str


@dataclass(frozen=True, slots=True)
class CommentedOut:
    """The example file shows this key behind a `#`."""


COMMENTED_OUT = CommentedOut()


class AboutTable(ValueError):
    """A problem of the table a key stands in rather than of the key: something is missing."""


def refuse_both(twin: str) -> NoReturn:
    """Raise the problem of a key that is given beside another one that says the same."""
    raise ValueError(f"is given beside {twin}; keep one of them")


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


def _not_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")  # noqa: TRY004 pydantic turns only ValueError into a problem
    return value


def _with_unit(value: object) -> object:
    if isinstance(value, int | float):
        raise ValueError('needs a unit: write "30s", "5m", "1h30m" or "1d", in quotes')  # noqa: TRY004 as above
    return value


def _schedule(value: object) -> Interval | Cron:
    if isinstance(value, Interval | Cron):
        return value
    value = _with_unit(value)
    if not isinstance(value, str):
        raise ValueError("must be a string, such as '5m'")  # noqa: TRY004 as above
    return parse_schedule(value)


def _state_url(url: str) -> None:
    parts = parse_database_url(url)
    if parts.dialect not in _SERVER_DIALECTS:
        raise ValueError("must be a database of SQLite, PostgreSQL, MySQL or MariaDB")
    if parts.is_memory:
        raise ValueError("must outlive the process: an SQLite database in memory forgets what both sides agreed on")


def _not_empty(text: str) -> None:
    if not text.strip():
        raise ValueError("must not be empty")


def _table_name(name: str) -> None:
    parts = name.split(".")
    if len(parts) > 2 or any(part != part.strip() or not part for part in parts):
        raise ValueError("must be the name of a table, or schema.table")


NotEmpty = Annotated[str, _checked(_not_empty), Kind("string")]
Column = Annotated[str, _checked(_not_empty), Kind("column name")]
TableName = Annotated[str, _checked(_table_name), Kind("table name")]
FileName = Annotated[str, _checked(_not_empty), Kind("path of a file")]
SqlCondition = Annotated[str, _checked(_not_empty), Kind("SQL condition")]
Secret = Annotated[SecretStr, _checked_secret(_not_empty), Kind("secret")]
WebhookUrl = Annotated[SecretStr, _checked_secret(check_webhook), Kind("secret URL")]
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
ScheduleText = Annotated[
    Interval | Cron,
    PlainValidator(_schedule),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string"}),
    Kind("interval or cron expression"),
]


def _extra_value(value: Any) -> Any:
    if isinstance(value, dict | list):
        raise ValueError("must be a single value, not a list or a table")  # noqa: TRY004 as above
    return value


ExtraValue = Annotated[Any, AfterValidator(_extra_value)]
