"""Whether the portal's batches carried the conditions of writes, by run.

MySQL commits after each statement: the column is made only where it is missing.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    if "conditional" not in {found["name"] for found in sa.inspect(op.get_bind()).get_columns("run")}:
        op.add_column("run", sa.Column("conditional", sa.Boolean(), nullable=True))
