"""Who decided what, when, on which host and why."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

SERIAL = sa.BigInteger().with_variant(sa.Integer, "sqlite")
LONG_TEXT = sa.Text().with_variant(mysql.MEDIUMTEXT, "mysql")


def upgrade() -> None:
    """Make the table and its index; on MySQL either may be there already."""
    op.create_table(
        "decision",
        sa.Column("id", SERIAL, autoincrement=True, nullable=False),
        sa.Column("link", sa.String(190), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("said", sa.String(190), nullable=False),
        sa.Column("decided_by", sa.String(190), nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("comment", LONG_TEXT, nullable=False),
        sa.Column("order_id", sa.BigInteger),
        sa.Column("run_id", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="pk_decision"),
        if_not_exists=True,
        sqlite_autoincrement=True,
        mysql_engine="InnoDB",
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_bin",
    )
    for name, columns in (
        ("ix_decision_link_order_id_id", ["link", "order_id", "id"]),
        ("ix_decision_run_id", ["run_id"]),
    ):
        if name not in {found["name"] for found in sa.inspect(op.get_bind()).get_indexes("decision")}:
            op.create_index(name, "decision", columns)
