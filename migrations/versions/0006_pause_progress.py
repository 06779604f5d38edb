"""By whom, why and until when a link is paused; how far the holder of a lease has got.

MySQL commits after each statement: every step is made only where it is missing.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

LONG_TEXT = sa.Text().with_variant(mysql.MEDIUMTEXT, "mysql")


def upgrade() -> None:
    """Add the columns."""
    column("link", sa.Column("pause", LONG_TEXT, nullable=True))
    column("lease", sa.Column("progress", LONG_TEXT, nullable=True))


def column(of: str, made: sa.Column[str]) -> None:
    """Add a column that is not there yet."""
    if made.name not in {found["name"] for found in sa.inspect(op.get_bind()).get_columns(of)}:
        op.add_column(of, made)
