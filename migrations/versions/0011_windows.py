"""Passes over some of the orders: what a run covers, when each part of a link was covered, requests about orders."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

LONG_TEXT = sa.Text().with_variant(mysql.MEDIUMTEXT, "mysql")


def upgrade() -> None:
    """Add the columns; on MySQL, where no transaction holds all of it, some may be there already."""
    for table, column in (
        ("link", sa.Column("coverage", LONG_TEXT)),
        ("run", sa.Column("covers", LONG_TEXT)),
        ("run", sa.Column("part", sa.String(64))),
        ("request", sa.Column("orders", LONG_TEXT)),
    ):
        if column.name not in {found["name"] for found in sa.inspect(op.get_bind()).get_columns(table)}:
            op.add_column(table, column)
