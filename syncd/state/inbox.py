"""What other processes asked of the daemon."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, insert, select, update

from syncd.core.records import Lease, Request
from syncd.state.rows import NAME_LIMIT, clean
from syncd.state.schema import request


def post(connection: Connection, link: str, kind: str, by: str, now: float) -> int:
    """Leave a request; return its number."""
    inserted = connection.execute(
        insert(request).values(link=link, kind=kind, asked_by=clean(by, NAME_LIMIT), created_at=now)
    )
    key = inserted.inserted_primary_key
    assert key is not None
    return int(key[0])


def still_open(connection: Connection, links: Sequence[str]) -> list[Request]:
    """Return the open requests of these links, oldest first."""
    columns = (request.c.id, request.c.link, request.c.kind, request.c.asked_by, request.c.created_at)
    query = select(*columns).where(request.c.link.in_(links), request.c.served_at.is_(None)).order_by(request.c.id)
    return [Request(*row) for row in connection.execute(query)]


def close(connection: Connection, lease: Lease, requests: Sequence[int], now: float) -> None:
    """Close requests of the leased link; one that is closed already keeps its time."""
    mine = request.c.id.in_(requests) & (request.c.link == lease.link)
    connection.execute(update(request).where(mine, request.c.served_at.is_(None)).values(served_at=now))
