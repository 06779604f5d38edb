"""An identity of the state database: what is known of it outside (`state/high_water.py`) belongs to it and no other."""

from __future__ import annotations

import uuid

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table, and its one row; on MySQL either may be there already."""
    op.create_table(
        "identity",
        sa.Column("id", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_identity"),
        if_not_exists=True,
        mysql_engine="InnoDB",
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_bin",
    )
    identity = sa.table("identity", sa.column("id"))
    if op.get_bind().scalar(sa.select(sa.func.count()).select_from(identity)) == 0:
        op.get_bind().execute(sa.insert(identity).values(id=uuid.uuid4().hex))
