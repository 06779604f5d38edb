"""Absences that wait for a second look, unreadable rows of either side, and what the guards ask of the last day.

MySQL commits after each statement: every step is made only where it is missing.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

MYSQL = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}


def upgrade() -> None:
    """Add a table, two columns and two indexes."""
    op.create_table(
        "absence",
        sa.Column("link_id", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("order_id", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("side", sa.String(8), nullable=False),
        sa.Column("since", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("link_id", "order_id", name="pk_absence"),
        if_not_exists=True,
        sqlite_with_rowid=False,
        **MYSQL,
    )
    column("change", sa.Column("unreadable_side", sa.String(8)))
    column("hold", sa.Column("unreadable_side", sa.String(8)))
    index("run", "ix_run_link_id_started_at", "link_id", "started_at")
    replaces = sa.text("action IN ('move', 'remove')")
    index("change", "ix_change_replaced", "link_id", "action", "at", where=replaces)
    if "ix_change_removed" in indexes("change"):
        op.drop_index("ix_change_removed", "change")


def column(table: str, added: sa.Column[str]) -> None:
    """Add a column that is not there yet."""
    if added.name not in {found["name"] for found in sa.inspect(op.get_bind()).get_columns(table)}:
        op.add_column(table, added)


def index(table: str, name: str, *columns: str, where: sa.TextClause | None = None) -> None:
    """Make an index that is not there yet; MySQL has no partial ones and indexes all rows."""
    if name not in indexes(table):
        op.create_index(name, table, list(columns), sqlite_where=where, postgresql_where=where)


def indexes(table: str) -> set[str | None]:
    """Return the names of a table's indexes."""
    return {found["name"] for found in sa.inspect(op.get_bind()).get_indexes(table)}
