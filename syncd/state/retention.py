"""What may be forgotten: passes that found nothing to do, and requests that were served.

The audit of changes and holds is never shortened.
"""

from __future__ import annotations

from sqlalchemy import Connection, delete, exists, or_, select

from syncd.core.records import Lease
from syncd.state.bulk import PARAMETERS
from syncd.state.schema import change, hold, request, run

KEEP_RUNS = 1000
"""The newest runs of a link, which stay whatever their age."""

_DAY = 86_400.0


def prune(connection: Connection, lease: Lease, now: float, keep_days: float) -> int:
    """Delete old passes of the leased link that left no trace elsewhere, some thousand at a time, and old requests.

    Returns:
        How many passes were deleted.
    """
    old = now - keep_days * _DAY
    connection.execute(delete(request).where(request.c.link == lease.link, request.c.served_at < old))
    newest = select(run.c.id).where(run.c.link_id == lease.link_id).order_by(run.c.id.desc())
    oldest_kept = connection.scalar(newest.offset(KEEP_RUNS - 1).limit(1))
    if oldest_kept is None:
        return 0
    query = (
        select(run.c.id)
        .where(
            run.c.link_id == lease.link_id,
            run.c.id < oldest_kept,
            run.c.kind == "pass",
            or_(run.c.state == "applied", run.c.source.is_not(None)),
            run.c.finished_at < old,
            ~exists().where(change.c.run_id == run.c.id),
            ~exists().where(hold.c.run_id == run.c.id),
        )
        .order_by(run.c.id)
        .limit(PARAMETERS)
    )
    idle = list(connection.scalars(query))
    if idle:
        connection.execute(delete(run).where(run.c.id.in_(idle)))
    return len(idle)
