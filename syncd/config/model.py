"""The settings as typed values. The example file, the reference page and the JSON Schema are made from these classes.

A secret `X` has a twin `X_file` that names a file to read it from; `syncd.config.load` reads it, so that loaded
settings hold the secret itself.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator

from syncd.config.ends import OAuthSettings, PortalPlan, PortalSettings, TableSettings
from syncd.config.fields import (
    COMMENTED_OUT,
    Count,
    Duration,
    Kind,
    LinkName,
    Percent,
    PercentOrMore,
    PositiveId,
    ScheduleText,
    Strict,
)
from syncd.config.process import (
    DaemonSettings,
    LogFormat,
    LogLevel,
    LogSettings,
    NotifySettings,
    StateSettings,
    WebSettings,
)
from syncd.config.schedule import parse_duration
from syncd.core.model import Direction, OnConflict, Policy, Scope

__all__ = [
    "DaemonSettings", "FirstSync", "GuardSettings", "LinkSettings", "LogFormat", "LogLevel", "LogSettings",
    "NotifySettings", "OAuthSettings", "PortalPlan", "PortalSettings", "Settings", "StateSettings", "TableSettings",
    "WebSettings",
]  # fmt: skip


class FirstSync(StrEnum):
    """Whether the first pass of a link may write without a person's `apply`."""

    ASK = "ask"
    AUTO = "auto"


class GuardSettings(Strict):
    """How much one plan may do; a plan beyond that is refused and stored, and `syncd apply RUN` applies it.

    Percentages are of the agreed bindings in scope, from 20 on; below that at most 2 removes, adds and moves free.
    """

    max_removes: Annotated[Count, Field(description="Removes on a side in one run; more are refused.")] = 100
    max_removes_percent: Annotated[Percent, Field(description="Removes on a side in one run, in percent.")] = 10
    max_moves_percent: Annotated[
        Percent, Field(description="Moves (an order gets another owner) on a side in one run, in percent.")
    ] = 30
    max_adds_percent: Annotated[
        PercentOrMore,
        Field(description="Adds on a side in one run, in percent; not on the first sync, which `first_sync` governs."),
    ] = 50
    max_removes_per_day: Annotated[Count, Field(description="Removes on a side within 24 hours, over all runs.")] = 500


class LinkSettings(Strict):
    """One portal and one mapping table that are kept in step. NAME is letters, digits, `_` and `-`."""

    direction: Annotated[
        Direction,
        Field(description="Which sides syncd may write; in the one-way directions drift on the target is undone."),
    ] = Direction.TWO_WAY
    on_conflict: Annotated[
        OnConflict,
        Field(
            description="What happens to an order that was changed on both sides: `hold` leaves it to a person, "
            "`crm` or `table` name the side that wins."
        ),
    ] = OnConflict.HOLD
    first_sync: Annotated[
        FirstSync,
        Field(description="`ask` stores the first plan for `syncd apply`; `auto` lets the first pass write."),
    ] = FirstSync.ASK
    schedule: Annotated[
        ScheduleText | None,
        Field(
            description="When the daemon makes a pass: an interval such as 30s, 5m, 1h30m or 1d, or a cron "
            "expression of five fields. Left out: only by command or trigger.",
            examples=["5m"],
        ),
    ] = None
    owner_types: Annotated[
        list[PositiveId],
        Kind("list of positive whole numbers"),
        Field(
            min_length=1,
            description="Scope: the owner types to look after (2 deal, 31 smart invoice, from 128 dynamic "
            "types); bindings to others are left alone.",
            examples=[[2]],
        ),
    ] = Field(default_factory=lambda: [2])
    orders: Annotated[
        tuple[PositiveId, PositiveId] | None,
        COMMENTED_OUT,
        Kind("list of two positive whole numbers"),
        Field(description="Scope: the first and the last order id to look after.", examples=[[1, 999999]]),
    ] = None
    verify_owners: Annotated[
        bool,
        COMMENTED_OUT,
        Field(description="Ask the portal whether an owner exists before an order is bound to it."),
    ] = True
    plan_ttl: Annotated[Duration, COMMENTED_OUT, Field(description="How long a stored plan may be applied.")] = "24h"
    portal: PortalSettings
    table: TableSettings
    guards: GuardSettings = Field(default_factory=GuardSettings)

    @property
    def plan_ttl_seconds(self) -> int:
        """`plan_ttl` in seconds."""
        return parse_duration(self.plan_ttl)

    def scope(self) -> Scope:
        """Return which bindings the link looks after."""
        first, last = self.orders or (None, None)
        return Scope(frozenset(self.owner_types), first, last)

    def policy(self) -> Policy:
        """Return how the link decides."""
        return Policy(self.direction, self.on_conflict, self.scope())

    @field_validator("orders")
    @classmethod
    def _ascending(cls, value: tuple[int, int] | None) -> tuple[int, int] | None:
        if value is not None and value[0] > value[1]:
            raise ValueError("must begin with the smaller id")
        return value

    @field_validator("table")
    @classmethod
    def _type_in_scope(cls, value: TableSettings, info: ValidationInfo) -> TableSettings:
        constant = value.columns["owner_type_id"]
        if isinstance(constant, int) and constant not in info.data.get("owner_types", [constant]):
            raise ValueError(f"columns.owner_type_id is {constant}, which is not among the link's owner_types")
        return value


class Settings(Strict):
    """The whole configuration."""

    state: StateSettings = Field(default_factory=StateSettings)
    daemon: DaemonSettings = Field(default_factory=DaemonSettings)
    web: WebSettings = Field(default_factory=WebSettings)
    log: LogSettings = Field(default_factory=LogSettings)
    notify: NotifySettings = Field(default_factory=NotifySettings)
    links: dict[LinkName, LinkSettings] = Field(default_factory=dict)

    @field_validator("links")
    @classmethod
    def _ends_of_their_own(cls, value: dict[str, LinkSettings]) -> dict[str, LinkSettings]:
        seen: dict[tuple[str, str, str], str] = {}
        for name, link in value.items():
            if link.table.url is None or (link.portal.webhook is None and link.portal.oauth is None):
                continue  # named by a file that has not been read; nothing can be said of it
            ends = (link.portal.address, link.table.database, link.table.name)
            if ends in seen:
                raise ValueError(
                    f"{seen[ends]} and {name} keep the same portal and the same table; a table has one link"
                )
            seen[ends] = name
        return value
