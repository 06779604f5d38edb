"""A link knows which portal its agreed state is about, so that one that is renamed keeps it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns that are missing: an upgrade that MySQL was killed in is run again."""
    known = {found["name"] for found in sa.inspect(op.get_bind()).get_columns("link")}
    for added in (sa.Column("portal", sa.String(300)), sa.Column("member_id", sa.String(190))):
        if added.name not in known:
            op.add_column("link", added)
