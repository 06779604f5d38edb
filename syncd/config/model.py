"""The settings as typed values. The example file, the reference page and the JSON Schema are made from this module."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from syncd.core.model import Direction, OnConflict


class Strict(BaseModel):
    """Unknown keys are errors; values do not change once read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PortalPlan(StrEnum):
    """The request limits of the portal: standard 50 at once and 2/s, enterprise 250 and 5/s, box none."""

    STANDARD = "standard"
    ENTERPRISE = "enterprise"
    BOX = "box"


class StateSettings(Strict):
    """`[state]`: the state database."""

    url: SecretStr = SecretStr("sqlite:///syncd.db")


class WebSettings(Strict):
    """`[web]`: the status page, health and metrics of the daemon."""

    listen: str | None = None


class OAuthSettings(Strict):
    """`[links.X.portal.oauth]`: an application's credentials instead of a webhook."""

    portal: str
    client_id: str
    client_secret: SecretStr | None = None
    client_secret_file: str | None = None


class PortalSettings(Strict):
    """`[links.X.portal]`: the Bitrix24 portal."""

    webhook: SecretStr | None = None
    webhook_file: str | None = None
    plan: PortalPlan = PortalPlan.STANDARD
    oauth: OAuthSettings | None = None
    rate_share: Annotated[float, Field(gt=0, le=1)] = 0.8
    max_request_seconds: Annotated[float, Field(gt=0, le=3600)] = 60.0


class TableSettings(Strict):
    """`[links.X.table]`: the mapping table of the order system."""

    url: SecretStr | None = None
    url_file: str | None = None
    name: str
    columns: dict[str, str | int]
    where: str | None = None
    deleted: str | None = None
    touched: str | None = None
    extra: dict[str, Any] = Field(default_factory=dict)


class GuardSettings(Strict):
    """`[links.X.guards]`: how much one plan may do; a plan beyond that is refused and stored."""

    max_removes: Annotated[int, Field(ge=0)] = 100
    max_removes_percent: Annotated[float, Field(ge=0, le=100)] = 10
    max_moves_percent: Annotated[float, Field(ge=0, le=100)] = 30
    max_adds_percent: Annotated[float, Field(ge=0)] = 50
    max_removes_per_day: Annotated[int, Field(ge=0)] = 500


class LinkSettings(Strict):
    """`[links.X]`: one portal and one mapping table that are kept in step."""

    direction: Direction = Direction.TWO_WAY
    on_conflict: OnConflict = OnConflict.HOLD
    first_sync: str = "ask"
    schedule: str | None = None
    owner_types: list[int] = Field(default_factory=lambda: [2])
    orders: tuple[int, int] | None = None
    verify_owners: bool = True
    plan_ttl: str = "24h"
    portal: PortalSettings
    table: TableSettings
    guards: GuardSettings = Field(default_factory=GuardSettings)


class Settings(Strict):
    """The whole configuration."""

    state: StateSettings = Field(default_factory=StateSettings)
    web: WebSettings = Field(default_factory=WebSettings)
    links: dict[str, LinkSettings] = Field(default_factory=dict)
