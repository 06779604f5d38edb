"""The settings as typed values. The example file, the reference page and the JSON Schema are made from these classes.

A secret `X` has a second key `X_file` that names a file with the secret. `syncd.config.load` reads that file, so that
loaded settings hold the secret itself. The fingerprint of a link is made from its settings.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator

from syncd.config.fields import (
    COMMENTED_OUT,
    Count,
    Duration,
    FileName,
    HookToken,
    Kind,
    LinkName,
    NotifyUrl,
    Percent,
    PercentOrMore,
    PositiveId,
    ScheduleText,
    Strict,
    instead_of,
)
from syncd.config.portal_and_table import OAuthSettings, PortalPlan, PortalSettings, TableSettings
from syncd.config.schedule import parse_duration
from syncd.config.service_settings import (
    DaemonSettings,
    LogFormat,
    LogLevel,
    LogSettings,
    NotifySettings,
    StateSettings,
    WebSettings,
)
from syncd.core.guards import GuardLimits
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


LIMITS = GuardLimits()


class GuardSettings(Strict):
    """Limits of a plan. A plan above one of them is refused and stored; `syncd apply RUN` applies it anyway.

    Percentages are of the bindings agreed 24 hours ago, or of the rows of the written side if these are more. Below 20
    of them, the limits are 2 removes, 2 moves and 20 adds a run, and 5 removes and 5 moves a day.
    """

    max_removes: Annotated[Count, Field(description="Removes on a side in one run.")] = LIMITS.max_removes
    max_removes_percent: Annotated[Percent, Field(description="Removes on a side in one run, in percent.")] = (
        LIMITS.max_removes_percent
    )
    max_moves: Annotated[Count, Field(description="Moves (an order gets another owner) on a side in one run.")] = (
        LIMITS.max_moves
    )
    max_moves_percent: Annotated[Percent, Field(description="Moves on a side in one run, in percent.")] = (
        LIMITS.max_moves_percent
    )
    max_adds_percent: Annotated[
        PercentOrMore,
        Field(description="Adds on a side in one run, in percent; not on the first sync, which `first_sync` governs."),
    ] = LIMITS.max_adds_percent
    second_look_above: Annotated[
        Count,
        Field(
            description="If one run would make more removes than this on a side, they wait until a second complete "
            "reading, at least 60 seconds later, finds the same orders absent."
        ),
    ] = LIMITS.second_look_above
    max_removes_per_day: Annotated[Count, Field(description="Removes on a side within 24 hours, over all passes.")] = (
        LIMITS.max_removes_per_day
    )
    max_removes_percent_per_day: Annotated[
        Percent, Field(description="Removes on a side within 24 hours, over all passes, in percent.")
    ] = LIMITS.max_removes_percent_per_day
    max_moves_percent_per_day: Annotated[
        Percent, Field(description="Moves on a side within 24 hours, over all passes, in percent.")
    ] = LIMITS.max_moves_percent_per_day
    max_reverts: Annotated[
        Count,
        Field(
            description="Orders on a side that get back, within 24 hours and over all passes, what syncd itself "
            "replaced on the other side in the week before both sides were last compared, which is what a restored "
            "backup looks like. An order counts once. More are refused where they are above 1 % of the agreed bindings "
            "as well."
        ),
    ] = LIMITS.max_reverts

    def limits(self) -> GuardLimits:
        """Return the limits as the engine takes them."""
        return GuardLimits(**self.model_dump())


class RecentSettings(Strict):
    """Passes over the newest orders, between those of the schedule. They need a `schedule`.

    They also cover orders that were written in the last day, and those that wait for a second look, a retry or a
    decision. The schedule covers all other orders.
    """

    orders: Annotated[
        PositiveId,
        Kind("positive whole number"),
        COMMENTED_OUT,
        Field(le=100_000, description="How many of the newest orders, by order id, each of these passes covers."),
    ] = 2000
    every: Annotated[Duration, COMMENTED_OUT, Field(description="The time between two of them; at least 5s.")] = "20s"

    @property
    def every_seconds(self) -> int:
        """`every` in seconds."""
        return parse_duration(self.every)

    @field_validator("every")
    @classmethod
    def _not_too_often(cls, value: str) -> str:
        if parse_duration(value) < SHORTEST_RECENT:
            raise ValueError(f"must be at least {SHORTEST_RECENT}s")
        return value


SHORTEST_RECENT = 5
"""The fewest seconds between two passes over the newest orders: the vendor blocks webhooks that poll all the time."""


class LinkSettings(Strict):
    """One portal and one mapping table that are kept in step. NAME consists of letters, digits, `_` and `-`."""

    direction: Annotated[
        Direction,
        Field(description="Which sides syncd may write. A one-way link undoes changes that others make on its target."),
    ] = Direction.TWO_WAY
    on_conflict: Annotated[
        OnConflict,
        Field(
            description="What happens to an order that was changed on both sides: `hold` leaves the decision to a "
            "person, `crm` or `table` is the side that wins."
        ),
    ] = OnConflict.HOLD
    first_sync: Annotated[
        FirstSync,
        Field(
            description="`ask` stores the first plan until you approve it with `syncd apply`; `auto` lets the first "
            "pass write."
        ),
    ] = FirstSync.ASK
    schedule: Annotated[
        ScheduleText | None,
        Field(
            description="When the daemon makes a pass: an interval such as 30s, 5m, 1h30m or 1d, or a cron "
            "expression of five fields. If left out, only `syncd reconcile` and `syncd trigger` make passes.",
            examples=["5m"],
        ),
    ] = None
    slices: Annotated[
        PositiveId,
        Kind("positive whole number"),
        COMMENTED_OUT,
        Field(
            le=1000,
            description="The number of slices of the link's orders. Each scheduled pass covers the next slice, so that "
            "all orders are covered every `slices` x `schedule`. For large portals.",
        ),
    ] = 1
    owner_types: Annotated[
        list[PositiveId],
        Kind("list of positive whole numbers"),
        Field(
            min_length=1,
            description="Scope: the owner types to synchronise (2 deal, 31 smart invoice, from 128 dynamic "
            "types). Bindings to other types are left alone.",
            examples=[[2]],
        ),
    ] = Field(default_factory=lambda: [2])
    orders: Annotated[
        tuple[PositiveId, PositiveId] | None,
        COMMENTED_OUT,
        Kind("list of two positive whole numbers"),
        Field(description="Scope: the first and the last order id to synchronise.", examples=[[1, 999999]]),
    ] = None
    verify_owners: Annotated[
        bool,
        COMMENTED_OUT,
        Field(description="Ask the portal whether an owner exists before binding an order to it."),
    ] = True
    titles: Annotated[
        bool,
        COMMENTED_OUT,
        Field(
            description="Show the titles of deals and invoices. syncd asks the portal for those that the page, the "
            "terminal or a notification shows, and keeps them in the state database for a day."
        ),
    ] = True
    plan_ttl: Annotated[Duration, COMMENTED_OUT, Field(description="How long a stored plan can be applied.")] = "24h"
    ping: Annotated[
        NotifyUrl | None,
        COMMENTED_OUT,
        Field(
            description="An address that receives each pass's start, success and failure, in the forms of "
            "healthchecks.io and Uptime Kuma (`…/api/push/…`): the service alerts when the calls stop.",
            examples=["https://hc-ping.com/UUID"],
        ),
    ] = None
    hook_token: Annotated[
        HookToken | None,
        COMMENTED_OUT,
        Field(
            description="Accepts hints that orders have changed, by `POST /hooks/NAME` at `web.listen`: the token of "
            "the portal's outgoing webhook, or the bearer token of another program; at least 16 characters.",
            examples=["0123456789abcdef0123456789abcdef"],
        ),
    ] = None
    hook_token_file: Annotated[
        FileName | None,
        instead_of("hook_token"),
        COMMENTED_OUT,
        Field(description="A file that holds the token, instead of `hook_token`.", examples=["credentials/shop-hook"]),
    ] = None
    recent: Annotated[
        RecentSettings | None, Field(description="Passes over the newest orders, between those of the schedule.")
    ] = None
    portal: PortalSettings
    table: TableSettings
    guards: GuardSettings = Field(default_factory=GuardSettings)

    @property
    def plan_ttl_seconds(self) -> int:
        """`plan_ttl` in seconds."""
        return parse_duration(self.plan_ttl)

    def scope(self) -> Scope:
        """Return the bindings that the link synchronises."""
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

    @field_validator("recent")
    @classmethod
    def _beside_a_schedule(cls, value: RecentSettings | None, info: ValidationInfo) -> RecentSettings | None:
        if value is not None and info.data.get("schedule", "") is None:
            raise ValueError("needs a schedule, which covers all other orders")
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
                continue  # in a file that was not read
            ends = (link.portal.address, link.table.database_identity, link.table.name)
            if ends in seen:
                raise ValueError(
                    f"{seen[ends]} and {name} connect the same portal and the same table; a table has one link"
                )
            seen[ends] = name
        return value


# -------------------------------------------- a link's fingerprint

_DIGITS = 8
"""Hex digits of each part. So an old fingerprint shows which parts of a link have changed since, without addresses."""


def fingerprint_parts(link: LinkSettings) -> dict[str, str]:
    """Given a link, return the parts of its fingerprint by name, readable and without secrets.

    They are the ends and the scope of the agreed state (sync-rules.md, "Writing"). The user, the driver, and the choice
    of webhook or OAuth are not among them.
    """
    first, last = link.orders or ("", "")
    return {
        "portal": link.portal.address,
        "database": link.table.database_identity,
        "table": link.table.name,
        "columns": _columns(link),
        "where": _selection(link),
        "deleted": _deleted(link),
        "owner_types": ", ".join(map(str, sorted(set(link.owner_types)))),
        "orders": f"{first}-{last}",
    }


def fingerprint(link: LinkSettings) -> str:
    """Given a link, return its fingerprint: 64 hex digits, the same for the same ends and scope."""
    return "".join(hashlib.sha256(part.encode()).hexdigest()[:_DIGITS] for part in fingerprint_parts(link).values())


def changed_parts(stored: str, link: LinkSettings) -> tuple[str, ...]:
    """Given a fingerprint stored earlier and a link, return the names of the parts that differ now."""
    current = fingerprint(link)
    return tuple(
        name
        for number, name in enumerate(fingerprint_parts(link))
        if stored[number * _DIGITS : (number + 1) * _DIGITS] != current[number * _DIGITS : (number + 1) * _DIGITS]
    )


def _columns(link: LinkSettings) -> str:
    # The width of a code changes how it is written, not which order it means.
    codes = {key: one["column"] for key, one in link.table.columns.items() if isinstance(one, dict)}
    return ", ".join(f"{key}={column!r}" for key, column in sorted((link.table.columns | codes).items()))


def _selection(link: LinkSettings) -> str:
    """Return the partition of `rows` and `where`. Without `rows` it is `where` alone, as in older fingerprints."""
    partition = [f"{name} = {value!r}" for name, value in sorted(link.table.rows.items())]
    where = (link.table.where or "").strip()
    return " and ".join([*partition, *([where] if where else [])])


def _deleted(link: LinkSettings) -> str:
    mark = link.table.deletion
    if mark is None:
        return ""
    return mark.column if mark.unset is None else f"{mark.column}: set={mark.set!r}, unset={mark.unset!r}"
