"""What the portal calls deals, invoices and their types, kept for a day for people."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

LONG_TEXT = sa.Text().with_variant(mysql.MEDIUMTEXT, "mysql")


def upgrade() -> None:
    """Make the table; on MySQL it may be there already."""
    op.create_table(
        "portal_name",
        sa.Column("link_id", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("owner_type_id", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("owner_id", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("name", LONG_TEXT, nullable=False),
        sa.Column("read_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("link_id", "owner_type_id", "owner_id", name="pk_portal_name"),
        if_not_exists=True,
        sqlite_with_rowid=False,
        mysql_engine="InnoDB",
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_bin",
    )
