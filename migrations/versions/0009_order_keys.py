"""The shop's own keys of orders, for mapping tables that hold them instead of order ids."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table and its index; on MySQL either may be there already."""
    op.create_table(
        "order_key",
        sa.Column("link_id", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("order_id", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("order_key", sa.String(255), nullable=False),
        sa.Column("checked_at", sa.Double, nullable=False),
        sa.Column("misses", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("link_id", "order_id", name="pk_order_key"),
        if_not_exists=True,
        sqlite_with_rowid=False,
        mysql_engine="InnoDB",
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_bin",
    )
    name = "ix_order_key_link_id_order_key_order_id"
    if name not in {found["name"] for found in sa.inspect(op.get_bind()).get_indexes("order_key")}:
        op.create_index(name, "order_key", ["link_id", "order_key", "order_id"])
