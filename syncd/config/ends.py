"""The tables of the configuration that name a link's two ends: the portal and the mapping table."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator

from syncd.config.endpoints import database_identity, web_host
from syncd.config.fields import (
    COMMENTED_OUT,
    AboutTable,
    Column,
    DatabaseUrl,
    ExtraValue,
    FileName,
    Kind,
    NotEmpty,
    Secret,
    Share,
    SqlCondition,
    Strict,
    TableName,
    WebhookUrl,
    WebOrigin,
    refuse_both,
)

_ID_COLUMNS = ("order_id", "owner_id")
_COLUMN_KEYS = ("order_id", "owner_type_id", "owner_id")


class PortalPlan(StrEnum):
    """The request limits of the portal: standard 50 at once and 2/s, enterprise 250 and 5/s, box none."""

    STANDARD = "standard"
    ENTERPRISE = "enterprise"
    BOX = "box"


class OAuthSettings(Strict):
    """An application's credentials instead of a webhook; `syncd auth` gets the token pair."""

    portal: Annotated[
        WebOrigin, COMMENTED_OUT, Field(description="The portal's address.", examples=["https://example.bitrix24.com"])
    ]
    client_id: Annotated[
        NotEmpty,
        COMMENTED_OUT,
        Field(description="The application's id.", examples=["local.65f0c0d2a1b3c4.12345678"]),
    ]
    client_secret: Annotated[
        Secret | None, COMMENTED_OUT, Field(description="The application's secret.", examples=["SECRET"])
    ] = None
    client_secret_file: Annotated[
        FileName | None,
        COMMENTED_OUT,
        Field(
            validate_default=True,
            description="A file that holds the secret, instead of `client_secret`.",
            examples=["credentials/client-secret"],
        ),
    ] = None
    server: Annotated[
        WebOrigin,
        COMMENTED_OUT,
        Field(
            description="The authorisation server to begin with; https://oauth.bitrix24.tech for portals of the "
            "regions ru, am, az, ge, kz, kg, uz and by. Later the portal itself says which one it is."
        ),
    ] = "https://oauth.bitrix.info"

    @field_validator("client_secret_file")
    @classmethod
    def _one_secret(cls, value: str | None, info: ValidationInfo) -> str | None:
        if "client_secret" in info.data:
            if value is not None and info.data["client_secret"] is not None:
                refuse_both("client_secret")
            if value is None and info.data["client_secret"] is None:
                raise AboutTable("needs client_secret or client_secret_file")
        return value


class PortalSettings(Strict):
    """The Bitrix24 portal."""

    webhook: Annotated[
        WebhookUrl | None,
        Field(
            description="The URL of an inbound webhook with the scope `crm`, made by an administrator of the portal or "
            "of its online store. It is a password: better kept in a file of its own or a credential.",
            examples=["https://example.bitrix24.com/rest/1/CODE/"],
        ),
    ] = None
    webhook_file: Annotated[
        FileName | None,
        COMMENTED_OUT,
        Field(description="A file that holds the URL, instead of `webhook`.", examples=["credentials/shop-webhook"]),
    ] = None
    oauth: Annotated[
        OAuthSettings | None, Field(validate_default=True, description="An application instead of a webhook.")
    ] = None
    plan: Annotated[
        PortalPlan,
        Field(
            description="The request limits: `standard` 50 at once and 2 a second, `enterprise` 250 and 5, `box` none."
        ),
    ] = PortalPlan.STANDARD
    rate_share: Annotated[
        Share,
        COMMENTED_OUT,
        Field(description="The part of the limit to use; other programs on this host share it."),
    ] = 0.8
    max_request_seconds: Annotated[
        float,
        COMMENTED_OUT,
        Kind("seconds"),
        Field(gt=0, le=3600, description="How long a request may take; the cloud itself ends one at 60 seconds."),
    ] = 60.0

    @property
    def address(self) -> str:
        """The host in lower case, with the port where it is not the scheme's own; the same for both ways in."""
        if self.oauth is not None:
            return web_host(self.oauth.portal)
        if self.webhook is None:
            raise ValueError("webhook_file has not been read; loaded settings hold the webhook itself")
        return web_host(self.webhook.get_secret_value())

    @field_validator("webhook_file")
    @classmethod
    def _one_webhook(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("webhook") is not None:
            refuse_both("webhook")
        return value

    @field_validator("oauth")
    @classmethod
    def _one_way_in(cls, value: OAuthSettings | None, info: ValidationInfo) -> OAuthSettings | None:
        if {"webhook", "webhook_file"} <= info.data.keys():
            hooked = info.data["webhook"] is not None or info.data["webhook_file"] is not None
            if value is not None and hooked:
                refuse_both("a webhook")
            if value is None and not hooked:
                raise AboutTable("needs a webhook (or webhook_file), or the table oauth")
        return value


class TableSettings(Strict):
    """The mapping table of the order system."""

    url: Annotated[
        DatabaseUrl | None,
        Field(
            description="Any SQLAlchemy URL. It usually holds a password: better kept in a file of its own or a "
            "credential.",
            examples=["postgresql://syncd:PASSWORD@db.example.com/shop"],
        ),
    ] = None
    url_file: Annotated[
        FileName | None,
        COMMENTED_OUT,
        Field(
            validate_default=True,
            description="A file that holds the URL, instead of `url`.",
            examples=["credentials/shop-database"],
        ),
    ] = None
    name: Annotated[TableName, Field(description="The table, or schema.table.", examples=["crm.order_bindings"])]
    columns: Annotated[
        dict[str, str | int],
        Kind("table of column names"),
        Field(
            description="The columns that hold `order_id`, `owner_type_id` and `owner_id`. `owner_type_id` may "
            "be a number instead: then every row is of that type (2 deal, 31 smart invoice, from "
            "128 dynamic types).",
            examples=[{"order_id": "order_id", "owner_type_id": 2, "owner_id": "deal_id"}],
        ),
    ]
    where: Annotated[
        SqlCondition | None,
        COMMENTED_OUT,
        Field(
            description="Only rows that meet this SQL condition are syncd's; the others are left alone.",
            examples=["channel = 'web'"],
        ),
    ] = None
    deleted: Annotated[
        Column | None,
        COMMENTED_OUT,
        Field(
            description="Soft delete: a row with a value in this column counts as unbound, and syncd sets it "
            "instead of deleting the row.",
            examples=["deleted_at"],
        ),
    ] = None
    touched: Annotated[
        Column | None,
        COMMENTED_OUT,
        Field(description="A column that gets the time of every write of syncd.", examples=["updated_at"]),
    ] = None
    extra: Annotated[
        dict[Column, ExtraValue],
        COMMENTED_OUT,
        Kind("table of column values"),
        Field(description="Values for other columns of the rows syncd inserts.", examples=[{"source": "bitrix24"}]),
    ] = Field(default_factory=dict)

    @property
    def database(self) -> str:
        """Which database this is, free of credentials, driver and options."""
        if self.url is None:
            raise ValueError("url_file has not been read; loaded settings hold the URL itself")
        return database_identity(self.url.get_secret_value())

    @field_validator("url_file")
    @classmethod
    def _one_url(cls, value: str | None, info: ValidationInfo) -> str | None:
        if "url" in info.data:
            if value is not None and info.data["url"] is not None:
                refuse_both("url")
            if value is None and info.data["url"] is None:
                raise AboutTable("needs url or url_file")
        return value

    @field_validator("columns", mode="before")
    @classmethod
    def _exactly_the_columns(cls, value: object) -> object:
        if not isinstance(value, dict):
            raise ValueError("must name three columns: " + ", ".join(_COLUMN_KEYS))  # noqa: TRY004 a problem, not a bug
        problems = [f"{key} is missing" for key in _COLUMN_KEYS if key not in value]
        problems += [f"{key} is not a column syncd knows" for key in value if key not in _COLUMN_KEYS]
        for key in _ID_COLUMNS:
            if key in value and not _is_name(value[key]):
                problems.append(f"{key} must be the name of a column")
        kind = value.get("owner_type_id", "")
        if "owner_type_id" in value and not _is_name(kind) and not (type(kind) is int and kind > 0):
            problems.append("owner_type_id must be the name of a column or a positive whole number")
        names = [name for name in value.values() if isinstance(name, str)]
        if len(set(names)) < len(names):
            problems.append("each must be a column of its own")
        if problems:
            raise ValueError("; ".join(problems))
        return value

    @field_validator("deleted", "touched", "extra")
    @classmethod
    def _other_columns(cls, value: object, info: ValidationInfo) -> object:
        taken = {name: f"columns.{key}" for key, name in info.data.get("columns", {}).items()}
        taken |= {info.data[key]: key for key in ("deleted", "touched") if info.data.get(key)}
        for name in value if isinstance(value, dict) else [value]:
            if name in taken:
                raise ValueError(f"names the same column as {taken[name]}")
        return value


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())
