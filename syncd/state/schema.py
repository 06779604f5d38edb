"""The tables of the state database, typed.

Names, indexes and types are what `migrations/` builds; `syncd db check` compares the two. Times are seconds since the
epoch. A pair of columns `x_type`, `x_id` is an owner; both null is "unbound".
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Named,
    String,
    Table,
    Text,
    TypedColumns,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeEngine

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}

REVISION = "0011"
"""The revision of `migrations/` that these tables are."""

metadata = MetaData(naming_convention=NAMING)

# SQLite numbers rows only in a column declared INTEGER; the others need a 64-bit type.
Serial: TypeEngine[int] = BigInteger().with_variant(Integer, "sqlite")
# MySQL's TEXT takes 64 KB and refuses longer values.
LongText: TypeEngine[str] = Text().with_variant(mysql.MEDIUMTEXT, "mysql")
Name = String(190)

# MySQL's default collation would treat "Shop" and "shop" as one link.
OPTIONS: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}


class LinkColumns(TypedColumns):
    """One generation of a link; the highest is the current one. `pause` and `coverage` are JSON."""

    id: Named[int] = Column(Serial, primary_key=True, autoincrement=True)
    name: Named[str] = Column(Name)
    generation: Named[int] = Column(Integer)
    fingerprint: Named[str] = Column(LongText)
    paused: Named[bool] = Column(Boolean)
    parked: Named[str] = Column(LongText)
    created_at: Named[float] = Column(Double)
    portal: Named[str | None] = Column(String(300))
    member_id: Named[str | None] = Column(String(190))
    pause: Named[str | None] = Column(LongText)
    coverage: Named[str | None] = Column(LongText)


link = Table(
    "link", metadata, LinkColumns, UniqueConstraint("name", "generation"), sqlite_autoincrement=True, **OPTIONS
)


class BindingColumns(TypedColumns):
    """One order: the CRM as last completely listed, and the agreed state. A foreign key would slow a million rows."""

    link_id: Named[int] = Column(BigInteger, primary_key=True, autoincrement=False)
    order_id: Named[int] = Column(BigInteger, primary_key=True, autoincrement=False)
    crm_type: Named[int | None] = Column(BigInteger)
    crm_id: Named[int | None] = Column(BigInteger)
    agreed_type: Named[int | None] = Column(BigInteger)
    agreed_id: Named[int | None] = Column(BigInteger)


binding = Table("binding", metadata, BindingColumns, sqlite_with_rowid=False, **OPTIONS)


class AbsenceColumns(TypedColumns):
    """An order missing from a complete reading of a side; its remove on the other side waits for a second look."""

    link_id: Named[int] = Column(BigInteger, primary_key=True, autoincrement=False)
    order_id: Named[int] = Column(BigInteger, primary_key=True, autoincrement=False)
    side: Named[str] = Column(String(8))
    since: Named[float] = Column(Double)


absence = Table("absence", metadata, AbsenceColumns, sqlite_with_rowid=False, **OPTIONS)


class OrderKeyColumns(TypedColumns):
    """The key of an order, for a mapping table that holds keys instead of order ids (`core.order_keys.KeyRow`)."""

    link_id: Named[int] = Column(BigInteger, primary_key=True, autoincrement=False)
    order_id: Named[int] = Column(BigInteger, primary_key=True, autoincrement=False)
    order_key: Named[str] = Column(String(255))
    checked_at: Named[float] = Column(Double)
    misses: Named[int] = Column(Integer)


order_key = Table(
    "order_key",
    metadata,
    OrderKeyColumns,
    # Includes the order, so that a lookup by key reads only the index.
    Index(None, "link_id", "order_key", "order_id"),
    sqlite_with_rowid=False,
    **OPTIONS,
)


class RunColumns(TypedColumns):
    """One pass, stored plan, application or undo; `counts` and `guards` are JSON."""

    id: Named[int] = Column(Serial, primary_key=True, autoincrement=True)
    link_id: Named[int] = Column(Serial, ForeignKey("link.id"))
    kind: Named[str] = Column(String(16))
    state: Named[str] = Column(String(16))
    origin: Named[str] = Column(String(16))
    source: Named[int | None] = Column(BigInteger)
    started_at: Named[float] = Column(Double)
    finished_at: Named[float | None] = Column(Double)
    digest: Named[str] = Column(String(190))
    first_sync: Named[bool] = Column(Boolean)
    counts: Named[str] = Column(LongText)
    guards: Named[str] = Column(LongText)
    error: Named[str] = Column(LongText)
    requests: Named[int] = Column(BigInteger)
    calls: Named[int] = Column(BigInteger)
    seconds: Named[float] = Column(Double)
    spent_by: Named[int | None] = Column(BigInteger)
    operating: Named[float] = Column(Double, server_default=text("0"))
    conditional: Named[bool | None] = Column(Boolean)
    covers: Named[str | None] = Column(LongText)
    part: Named[str | None] = Column(String(64))


run = Table(
    "run",
    metadata,
    RunColumns,
    Index(None, "link_id", "id"),
    Index(None, "link_id", "started_at"),
    sqlite_autoincrement=True,
    **OPTIONS,
)


class ChangeColumns(TypedColumns):
    """Journal and audit in one: what was planned, on which facts, and its outcome."""

    id: Named[int] = Column(Serial, primary_key=True, autoincrement=True)
    run_id: Named[int] = Column(BigInteger)
    link_id: Named[int] = Column(BigInteger)
    order_id: Named[int] = Column(BigInteger)
    side: Named[str | None] = Column(String(8))
    action: Named[str] = Column(String(8))
    before_type: Named[int | None] = Column(BigInteger)
    before_id: Named[int | None] = Column(BigInteger)
    after_type: Named[int | None] = Column(BigInteger)
    after_id: Named[int | None] = Column(BigInteger)
    reason: Named[str] = Column(String(32))
    crm_type: Named[int | None] = Column(BigInteger)
    crm_id: Named[int | None] = Column(BigInteger)
    table_type: Named[int | None] = Column(BigInteger)
    table_id: Named[int | None] = Column(BigInteger)
    agreed_type: Named[int | None] = Column(BigInteger)
    agreed_id: Named[int | None] = Column(BigInteger)
    unreadable_kind: Named[str | None] = Column(String(16))
    unreadable_detail: Named[str | None] = Column(LongText)
    unreadable_side: Named[str | None] = Column(String(8))
    agreed_after_type: Named[int | None] = Column(BigInteger)
    agreed_after_id: Named[int | None] = Column(BigInteger)
    hold_after: Named[str | None] = Column(String(16))
    outcome: Named[str] = Column(String(12))
    error: Named[str] = Column(LongText)
    at: Named[float] = Column(Double)
    found_type: Named[int | None] = Column(BigInteger)
    found_id: Named[int | None] = Column(BigInteger)
    found_known: Named[bool] = Column(Boolean)
    batch: Named[int | None] = Column(BigInteger)
    sends: Named[int] = Column(Integer, server_default=text("0"))


change = Table(
    "change",
    metadata,
    ChangeColumns,
    Index(None, "link_id", "order_id", "id"),
    # By side, so that a page of a run is found without reading its agreements, often a million, which have no side.
    Index(None, "run_id", "side", "id"),
    # For what every pass asks of a million audit rows. MySQL has no partial indexes: there they include all rows, which
    # is correct, only larger.
    Index(
        "ix_change_intended",
        "link_id",
        "outcome",
        "id",
        sqlite_where=text("outcome = 'intended'"),
        postgresql_where=text("outcome = 'intended'"),
    ),
    Index(
        "ix_change_replaced",
        "link_id",
        "action",
        "at",
        sqlite_where=text("action IN ('move', 'remove')"),
        postgresql_where=text("action IN ('move', 'remove')"),
    ),
    sqlite_autoincrement=True,
    **OPTIONS,
)


class HoldColumns(TypedColumns):
    """One hold; open while `released_at` is null. Holds are never deleted.

    The `seen_…` columns are `Hold.seen`, if `seen` is true.
    """

    id: Named[int] = Column(Serial, primary_key=True, autoincrement=True)
    link_id: Named[int] = Column(Serial, ForeignKey("link.id"))
    order_id: Named[int] = Column(BigInteger)
    kind: Named[str] = Column(String(16))
    crm_type: Named[int | None] = Column(BigInteger)
    crm_id: Named[int | None] = Column(BigInteger)
    table_type: Named[int | None] = Column(BigInteger)
    table_id: Named[int | None] = Column(BigInteger)
    agreed_type: Named[int | None] = Column(BigInteger)
    agreed_id: Named[int | None] = Column(BigInteger)
    unreadable_kind: Named[str | None] = Column(String(16))
    unreadable_detail: Named[str | None] = Column(LongText)
    unreadable_side: Named[str | None] = Column(String(8))
    seen: Named[bool] = Column(Boolean)
    seen_crm_type: Named[int | None] = Column(BigInteger)
    seen_crm_id: Named[int | None] = Column(BigInteger)
    seen_table_type: Named[int | None] = Column(BigInteger)
    seen_table_id: Named[int | None] = Column(BigInteger)
    seen_agreed_type: Named[int | None] = Column(BigInteger)
    seen_agreed_id: Named[int | None] = Column(BigInteger)
    detail: Named[str] = Column(LongText)
    since: Named[float] = Column(Double)
    sticky: Named[bool] = Column(Boolean)
    decision: Named[str] = Column(String(8))
    decided_at: Named[float | None] = Column(Double)
    run_id: Named[int] = Column(BigInteger)
    released_at: Named[float | None] = Column(Double)


hold = Table(
    "hold",
    metadata,
    HoldColumns,
    Index(None, "link_id", "order_id", "id"),
    Index(None, "run_id"),
    Index(
        "ix_hold_open",
        "link_id",
        "released_at",
        "order_id",
        sqlite_where=text("released_at IS NULL"),
        postgresql_where=text("released_at IS NULL"),
    ),
    sqlite_autoincrement=True,
    **OPTIONS,
)


class DecisionColumns(TypedColumns):
    """What a person decided; append-only."""

    id: Named[int] = Column(Serial, primary_key=True, autoincrement=True)
    link: Named[str] = Column(Name)
    kind: Named[str] = Column(String(16))
    said: Named[str] = Column(String(190))
    decided_by: Named[str] = Column(String(190))
    at: Named[float] = Column(Double)
    comment: Named[str] = Column(LongText)
    order_id: Named[int | None] = Column(BigInteger)
    run_id: Named[int | None] = Column(BigInteger)


decision = Table(
    "decision",
    metadata,
    DecisionColumns,
    Index(None, "link", "order_id", "id"),
    Index(None, "run_id"),
    sqlite_autoincrement=True,
    **OPTIONS,
)


class AttemptColumns(TypedColumns):
    """How often writes of an order have failed in a row."""

    link_id: Named[int] = Column(BigInteger, primary_key=True, autoincrement=False)
    order_id: Named[int] = Column(BigInteger, primary_key=True, autoincrement=False)
    count: Named[int] = Column(Integer)
    next_at: Named[float] = Column(Double)
    error: Named[str] = Column(LongText)


attempt = Table("attempt", metadata, AttemptColumns, **OPTIONS)


class LeaseColumns(TypedColumns):
    """Who may work on a link, by name. The row stays after release, so that its fence only grows.

    holder is empty after a release. lock_scope is where a lock proves the holder alive (see `leases`); if it is empty,
    only the expiry counts. progress is JSON: how far its holder has got, if it has reported that.
    """

    link: Named[str] = Column(Name, primary_key=True)
    holder: Named[str] = Column(String(190))
    fence: Named[int] = Column(BigInteger)
    acquired_at: Named[float] = Column(Double)
    expires_at: Named[float] = Column(Double)
    lock_scope: Named[str] = Column(String(190))
    progress: Named[str | None] = Column(LongText)


lease = Table("lease", metadata, LeaseColumns, **OPTIONS)


class TokenColumns(TypedColumns):
    """The OAuth pair of a portal, as JSON."""

    portal: Named[str] = Column(Name, primary_key=True)
    body: Named[str] = Column(LongText)


token = Table("token", metadata, TokenColumns, **OPTIONS)


class RequestColumns(TypedColumns):
    """What another process asked of the daemon; open while `served_at` is null, until a pass has served it."""

    id: Named[int] = Column(Serial, primary_key=True, autoincrement=True)
    link: Named[str] = Column(Name)
    kind: Named[str] = Column(String(16))
    asked_by: Named[str] = Column(String(190))
    created_at: Named[float] = Column(Double)
    served_at: Named[float | None] = Column(Double)
    orders: Named[str | None] = Column(LongText)


request = Table(
    "request", metadata, RequestColumns, Index(None, "link", "served_at"), sqlite_autoincrement=True, **OPTIONS
)


class BudgetColumns(TypedColumns):
    """The operating budget that a portal last reported, by method."""

    portal: Named[str] = Column(Name, primary_key=True)
    method: Named[str] = Column(String(64), primary_key=True)
    used: Named[float] = Column(Double)
    reset_at: Named[float] = Column(Double)
    read_at: Named[float] = Column(Double)


budget = Table("budget", metadata, BudgetColumns, **OPTIONS)


class PortalNameColumns(TypedColumns):
    """What the portal calls an owner, or with owner id 0 an owner type; empty if it shows no name."""

    link_id: Named[int] = Column(BigInteger, primary_key=True, autoincrement=False)
    owner_type_id: Named[int] = Column(BigInteger, primary_key=True, autoincrement=False)
    owner_id: Named[int] = Column(BigInteger, primary_key=True, autoincrement=False)
    name: Named[str] = Column(LongText)
    read_at: Named[float] = Column(Double)


portal_name = Table("portal_name", metadata, PortalNameColumns, sqlite_with_rowid=False, **OPTIONS)


class IdentityColumns(TypedColumns):
    """One row, made with the table: the lasting id of this state database, which copies of it share."""

    id: Named[str] = Column(String(32), primary_key=True)


identity = Table("identity", metadata, IdentityColumns, **OPTIONS)
