"""${message}"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    """One way only: syncd refuses a newer schema, and goes back by restoring the backup."""
    ${upgrades if upgrades else "pass"}
