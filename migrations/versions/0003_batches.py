"""The journal knows which writes were sent in one request, and how often each was about to be sent."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns that are missing: an upgrade that MySQL was killed in is run again."""
    column("change", sa.Column("batch", sa.BigInteger))
    column("change", sa.Column("sends", sa.Integer, server_default=sa.text("0"), nullable=False))


def column(table: str, added: sa.Column[object]) -> None:
    """Add a column that is not there yet."""
    if added.name not in {found["name"] for found in sa.inspect(op.get_bind()).get_columns(table)}:
        op.add_column(table, added)
