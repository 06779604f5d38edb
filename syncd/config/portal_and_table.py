"""The configuration of a link's two ends: the portal and the mapping table."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field, ValidationInfo, field_validator

from syncd.config.fields import (
    COMMENTED_OUT,
    Column,
    DatabasePart,
    DatabaseUrl,
    ExtraValue,
    FileName,
    HostPart,
    Kind,
    KindPart,
    NotEmpty,
    OptionsPart,
    PasswordFilePart,
    PasswordPart,
    PortPart,
    ScalarValue,
    Secret,
    Share,
    SqlCondition,
    Strict,
    TableName,
    UserPart,
    WebhookUrl,
    WebOrigin,
    instead_of,
    need_secret,
    refuse_both,
)
from syncd.config.mapping_columns import (
    KEY_FIELDS,
    DeletionMark,
    KeyColumn,
    check_columns,
    check_deleted,
    check_touched,
    deletion_mark,
    key_column,
    named_columns,
)
from syncd.config.urls import database_identity, web_host


class RowSecurity(StrEnum):
    """What to do if row level security hides rows: refuse, or take the visible rows for the whole table."""

    REFUSE = "refuse"
    AS_IS = "as-is"


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
            description="The first authorisation server; https://oauth.bitrix24.tech for portals of the "
            "regions ru, am, az, ge, kz, kg, uz and by. After that, the portal itself names its server."
        ),
    ] = "https://oauth.bitrix.info"

    @field_validator("client_secret_file")
    @classmethod
    def _one_secret(cls, value: str | None, info: ValidationInfo) -> str | None:
        if "client_secret" in info.data:
            if value is not None and info.data["client_secret"] is not None:
                refuse_both("client_secret")
            if value is None and info.data["client_secret"] is None:
                need_secret(info, "needs client_secret or client_secret_file")
        return value


class PortalSettings(Strict):
    """The Bitrix24 portal."""

    webhook: Annotated[
        WebhookUrl | None,
        Field(
            description="The URL of an inbound webhook with the scope `crm` (and `sale`, if the table holds keys of "
            "the shop), created by an administrator of the portal or of its online store. It is a password: better "
            "keep it in a separate file or a credential.",
            examples=["https://example.bitrix24.com/rest/1/CODE/"],
        ),
    ] = None
    webhook_file: Annotated[
        FileName | None,
        instead_of("webhook"),
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
    writers: Annotated[
        int,
        COMMENTED_OUT,
        Kind("whole number"),
        Field(
            ge=1,
            le=10,
            description="The most batches of writes under way at once. It starts at 2, rises while the portal answers "
            "well, and is halved on errors.",
        ),
    ] = 4
    max_request_seconds: Annotated[
        float,
        COMMENTED_OUT,
        Kind("seconds"),
        Field(gt=0, le=3600, description="How long a request may take. The cloud ends requests at 60 seconds."),
    ] = 60.0

    @property
    def has_address(self) -> bool:
        """Whether the address is known: not if the webhook is missing, which only some commands accept."""
        return self.oauth is not None or self.webhook is not None

    @property
    def address(self) -> str:
        """The host in lower case, with the port unless it is the scheme's default; the same for webhook and OAuth."""
        if self.oauth is not None:
            return web_host(self.oauth.portal)
        if self.webhook is None:
            raise ValueError("webhook_file has not been read; loaded settings hold the webhook itself")
        return web_host(self.webhook.get_secret_value())

    @property
    def origin(self) -> str:
        """The portal's address for display, `https://host[:port]`; empty if the webhook has not been read."""
        if self.oauth is None and self.webhook is None:
            return ""
        url = self.oauth.portal if self.oauth is not None else self.webhook.get_secret_value() if self.webhook else ""
        return f"{url.partition('://')[0].lower()}://{self.address}"

    @field_validator("oauth")
    @classmethod
    def _one_credential(cls, value: OAuthSettings | None, info: ValidationInfo) -> OAuthSettings | None:
        if {"webhook", "webhook_file"} <= info.data.keys():
            hooked = info.data["webhook"] is not None or info.data["webhook_file"] is not None
            if value is not None and hooked:
                refuse_both("a webhook")
            if value is None and not hooked:
                need_secret(info, "needs a webhook (or webhook_file), or the table oauth")
        return value


class TableSettings(Strict):
    """The mapping table of the order system."""

    url: Annotated[
        DatabaseUrl | None,
        Field(
            description="Any SQLAlchemy URL. It usually contains a password: better keep it in a separate file or a "
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
    kind: KindPart = None
    host: HostPart = None
    port: PortPart = None
    user: UserPart = None
    password: PasswordPart = None
    password_file: PasswordFilePart = None
    database: DatabasePart = None
    options: OptionsPart = Field(default_factory=dict)
    name: Annotated[TableName, Field(description="The table, or schema.table.", examples=["crm.order_bindings"])]
    columns: Annotated[
        dict[str, str | int | dict[str, Any]],
        Kind("table of column names"),
        Field(
            description="The columns that hold `order_id`, `owner_type_id` and `owner_id`. `owner_type_id` may "
            "be a number instead: then every row has that type (2 deal, 31 smart invoice, from "
            "128 dynamic types). `order_id` may be `{ column, width }`, if codes are padded with zeros to that many "
            "digits. A table that holds a key of the shop has the column `order_number` (the portal's "
            "accountNumber), `order_xml_id` (xmlId) or `order_1c_id` (id1c) instead of `order_id`; this needs the "
            "scope `sale`.",
            examples=[{"order_id": "order_id", "owner_type_id": 2, "owner_id": "deal_id"}],
        ),
    ]
    rows: Annotated[
        dict[Column, ScalarValue],
        COMMENTED_OUT,
        Kind("table of column values"),
        Field(
            description="A partition: syncd reads and writes only rows with these values, and gives them to rows it "
            "inserts. So several portals can share a table, even with the same order ids.",
            examples=[{"branch": "north"}],
        ),
    ] = Field(default_factory=dict)
    where: Annotated[
        SqlCondition | None,
        COMMENTED_OUT,
        Field(
            description="syncd reads and writes only rows that meet this SQL condition. An order that has other rows "
            "only is held, instead of getting a second row; compare `rows`.",
            examples=["channel = 'web'"],
        ),
    ] = None
    deleted: Annotated[
        Column | dict[str, Any] | None,
        COMMENTED_OUT,
        Kind("column name, or a table of `column`, `set`, `unset`"),
        Field(
            description="Soft delete: a row with a value in this column counts as unbound, and syncd sets the column "
            "instead of deleting the row. Null, false, 0, an empty text and, on MySQL and MariaDB, a zero date do not "
            "count as values. `{ column, unset }` adds another one, such as a day in the year 9999; "
            "`{ column, set, unset }` names both, such as `false` and `true` for a column `is_active`.",
            examples=["deleted_at"],
        ),
    ] = None
    touched: Annotated[
        Column | list[Column] | None,
        COMMENTED_OUT,
        Kind("column name, or a list of them"),
        Field(
            description="A column, or several, that every write of syncd sets to the database's current time, in the "
            "time zone of the database session.",
            examples=["updated_at"],
        ),
    ] = None
    watch: Annotated[
        Column | None,
        COMMENTED_OUT,
        Field(
            description="A column that gets a larger value with every write to a row, such as the time of its last "
            "change. Every few seconds the daemon reads which rows have changed, and synchronises their orders soon. "
            "The column should be the first one of an index. Not for tables that hold keys of the shop.",
            examples=["updated_at"],
        ),
    ] = None
    extra: Annotated[
        dict[Column, ExtraValue],
        COMMENTED_OUT,
        Kind("table of column values"),
        Field(
            description='Values for other columns of rows that syncd inserts; `{ sql = "gen_random_uuid()" }` is '
            "an expression that the database evaluates for each row.",
            examples=[{"source": "bitrix24", "id": {"sql": "gen_random_uuid()"}}],
        ),
    ] = Field(default_factory=dict)
    row_security: Annotated[
        RowSecurity,
        COMMENTED_OUT,
        Field(
            description="What to do if PostgreSQL's row level security hides rows from syncd. `refuse` ends the run, "
            "since a hidden row looks like a removed one; `as-is` takes the visible rows for the whole table."
        ),
    ] = RowSecurity.REFUSE

    @property
    def key(self) -> KeyColumn:
        """The column of the order's key."""
        return key_column(self.columns)

    @property
    def deletion(self) -> DeletionMark | None:
        """The soft delete mark, if there is one."""
        return deletion_mark(self.deleted)

    @property
    def touched_columns(self) -> tuple[str, ...]:
        """The columns that every write sets to the current time."""
        return (self.touched,) if isinstance(self.touched, str) else tuple(self.touched or ())

    @property
    def database_identity(self) -> str:
        """The identity of the database, without credentials, driver and options."""
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
                need_secret(info, "needs url or url_file, or the database in parts: host, database")
        return value

    @field_validator("columns", mode="before")
    @classmethod
    def _exactly_the_columns(cls, value: object) -> object:
        return check_columns(value)

    @field_validator("deleted", mode="before")
    @classmethod
    def _one_mark(cls, value: object) -> object:
        return value if value is None else check_deleted(value)

    @field_validator("touched", mode="before")
    @classmethod
    def _some_columns(cls, value: object) -> object:
        return value if value is None else check_touched(value)

    @field_validator("watch")
    @classmethod
    def _tells_order_ids(cls, value: str | None, info: ValidationInfo) -> str | None:
        keys = [key for key in info.data.get("columns", {}) if key in KEY_FIELDS]
        if value is not None and keys:
            raise ValueError(
                f"works with order ids only, and the table holds {keys[0]}; remove it, and use `recent` or hints for "
                "quick changes"
            )
        return value

    @field_validator("rows", "deleted", "touched", "extra")
    @classmethod
    def _other_columns(cls, value: object, info: ValidationInfo) -> object:
        taken = {name: f"columns.{key}" for name, key in named_columns(info.data.get("columns", {}))}
        for key in ("rows", "deleted", "touched"):
            taken |= dict.fromkeys(_names(key, info.data.get(key)), key) if key != info.field_name else {}
        for name in _names(info.field_name, value):
            if name in taken:
                raise ValueError(f"names the same column as {taken[name]}")
        return value


def _names(key: str | None, value: Any) -> list[str]:
    """Given a key of the table and its value, return the columns it names."""
    if not value:
        return []
    if key == "deleted":
        return [value["column"] if isinstance(value, dict) else value]
    return [value] if isinstance(value, str) else list(value)
