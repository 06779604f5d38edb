"""The state database: links, bindings, runs, changes, holds, attempts, leases, tokens, requests, budgets.

MySQL commits after each statement, so an upgrade killed in the middle leaves part of the tables there: every step is
made only where it is missing.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SERIAL = sa.BigInteger().with_variant(sa.Integer, "sqlite")
LONG_TEXT = sa.Text().with_variant(mysql.MEDIUMTEXT, "mysql")
MYSQL = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}


def upgrade() -> None:
    """Make the tables."""
    table(
        "link",
        sa.Column("id", SERIAL, autoincrement=True, nullable=False),
        sa.Column("name", sa.String(190), nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("fingerprint", LONG_TEXT, nullable=False),
        sa.Column("paused", sa.Boolean, nullable=False),
        sa.Column("parked", LONG_TEXT, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_link"),
        sa.UniqueConstraint("name", "generation", name="uq_link_name_generation"),
        sqlite_autoincrement=True,
    )
    table(
        "binding",
        sa.Column("link_id", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("order_id", sa.BigInteger, autoincrement=False, nullable=False),
        *owners("crm", "agreed"),
        sa.PrimaryKeyConstraint("link_id", "order_id", name="pk_binding"),
        sqlite_with_rowid=False,
    )
    table(
        "run",
        sa.Column("id", SERIAL, autoincrement=True, nullable=False),
        sa.Column("link_id", SERIAL, autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("origin", sa.String(16), nullable=False),
        sa.Column("source", sa.BigInteger),
        sa.Column("started_at", sa.Double, nullable=False),
        sa.Column("finished_at", sa.Double),
        sa.Column("digest", sa.String(190), nullable=False),
        sa.Column("first_sync", sa.Boolean, nullable=False),
        sa.Column("counts", LONG_TEXT, nullable=False),
        sa.Column("guards", LONG_TEXT, nullable=False),
        sa.Column("error", LONG_TEXT, nullable=False),
        sa.Column("requests", sa.BigInteger, nullable=False),
        sa.Column("calls", sa.BigInteger, nullable=False),
        sa.Column("seconds", sa.Double, nullable=False),
        sa.Column("spent_by", sa.BigInteger),
        sa.Column("operating", sa.Double, server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_run"),
        sa.ForeignKeyConstraint(["link_id"], ["link.id"], name="fk_run_link_id"),
        sqlite_autoincrement=True,
    )
    index("run", "link_id", "id")
    table(
        "change",
        sa.Column("id", SERIAL, autoincrement=True, nullable=False),
        sa.Column("run_id", sa.BigInteger, nullable=False),
        sa.Column("link_id", sa.BigInteger, nullable=False),
        sa.Column("order_id", sa.BigInteger, nullable=False),
        sa.Column("side", sa.String(8)),
        sa.Column("action", sa.String(8), nullable=False),
        *owners("before", "after"),
        sa.Column("reason", sa.String(32), nullable=False),
        *owners("crm", "table", "agreed"),
        sa.Column("unreadable_kind", sa.String(16)),
        sa.Column("unreadable_detail", LONG_TEXT),
        *owners("agreed_after"),
        sa.Column("hold_after", sa.String(16)),
        sa.Column("outcome", sa.String(12), nullable=False),
        sa.Column("error", LONG_TEXT, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        *owners("found"),
        sa.Column("found_known", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_change"),
        sqlite_autoincrement=True,
    )
    index("change", "link_id", "order_id", "id")
    index("change", "run_id", "side", "id")
    index("change", "link_id", "outcome", "id", name="ix_change_intended", where="outcome = 'intended'")
    index("change", "link_id", "action", "at", name="ix_change_removed", where="action = 'remove'")
    table(
        "hold",
        sa.Column("id", SERIAL, autoincrement=True, nullable=False),
        sa.Column("link_id", SERIAL, autoincrement=False, nullable=False),
        sa.Column("order_id", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        *owners("crm", "table", "agreed"),
        sa.Column("unreadable_kind", sa.String(16)),
        sa.Column("unreadable_detail", LONG_TEXT),
        sa.Column("seen", sa.Boolean, nullable=False),
        *owners("seen_crm", "seen_table", "seen_agreed"),
        sa.Column("detail", LONG_TEXT, nullable=False),
        sa.Column("since", sa.Double, nullable=False),
        sa.Column("sticky", sa.Boolean, nullable=False),
        sa.Column("decision", sa.String(8), nullable=False),
        sa.Column("decided_at", sa.Double),
        sa.Column("run_id", sa.BigInteger, nullable=False),
        sa.Column("released_at", sa.Double),
        sa.PrimaryKeyConstraint("id", name="pk_hold"),
        sa.ForeignKeyConstraint(["link_id"], ["link.id"], name="fk_hold_link_id"),
        sqlite_autoincrement=True,
    )
    index("hold", "link_id", "order_id", "id")
    index("hold", "run_id")
    index("hold", "link_id", "released_at", "order_id", name="ix_hold_open", where="released_at IS NULL")
    table(
        "attempt",
        sa.Column("link_id", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("order_id", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("next_at", sa.Double, nullable=False),
        sa.Column("error", LONG_TEXT, nullable=False),
        sa.PrimaryKeyConstraint("link_id", "order_id", name="pk_attempt"),
    )
    table(
        "lease",
        sa.Column("link", sa.String(190), nullable=False),
        sa.Column("holder", sa.String(190), nullable=False),
        sa.Column("fence", sa.BigInteger, nullable=False),
        sa.Column("acquired_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
        sa.Column("lock_scope", sa.String(190), nullable=False),
        sa.PrimaryKeyConstraint("link", name="pk_lease"),
    )
    table(
        "token",
        sa.Column("portal", sa.String(190), nullable=False),
        sa.Column("body", LONG_TEXT, nullable=False),
        sa.PrimaryKeyConstraint("portal", name="pk_token"),
    )
    table(
        "request",
        sa.Column("id", SERIAL, autoincrement=True, nullable=False),
        sa.Column("link", sa.String(190), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("asked_by", sa.String(190), nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("served_at", sa.Double),
        sa.PrimaryKeyConstraint("id", name="pk_request"),
        sqlite_autoincrement=True,
    )
    index("request", "link", "served_at")
    table(
        "budget",
        sa.Column("portal", sa.String(190), nullable=False),
        sa.Column("method", sa.String(64), nullable=False),
        sa.Column("used", sa.Double, nullable=False),
        sa.Column("reset_at", sa.Double, nullable=False),
        sa.Column("read_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("portal", "method", name="pk_budget"),
    )


def owners(*names: str) -> list[sa.Column[Any]]:
    """Two columns for each owner; both null is "unbound"."""
    return [sa.Column(f"{name}_{part}", sa.BigInteger) for name in names for part in ("type", "id")]


def table(name: str, *elements: sa.schema.SchemaItem, **options: Any) -> None:
    """Make a table that is not there yet."""
    op.create_table(name, *elements, if_not_exists=True, **MYSQL, **options)


def index(of: str, *columns: str, name: str | None = None, where: str | None = None) -> None:
    """Make an index that is not there yet; MySQL has no partial ones and indexes all rows."""
    name = name or f"ix_{of}_{'_'.join(columns)}"
    if name in {found["name"] for found in sa.inspect(op.get_bind()).get_indexes(of)}:
        return
    condition = None if where is None else sa.text(where)
    op.create_index(name, of, list(columns), sqlite_where=condition, postgresql_where=condition)
