"""Failure counts: how often writes of an order have failed in a row, and when the next may be tried."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, delete, insert, select

from syncd.core.records import Attempt
from syncd.state.bulk import PARAMETERS, chunks
from syncd.state.rows import clean
from syncd.state.schema import attempt


def store(connection: Connection, link_id: int, failures: Sequence[Attempt]) -> None:
    """Write failure counts; a count of 0 clears the order's."""
    latest = {failure.order_id: failure for failure in failures}
    for some in chunks(latest, PARAMETERS):
        connection.execute(delete(attempt).where(attempt.c.link_id == link_id, attempt.c.order_id.in_(some)))
    rows = [
        {"link_id": link_id, "order_id": order_id, "count": count, "next_at": next_at, "error": clean(error)}
        for order_id, count, next_at, error in latest.values()
        if count
    ]
    if rows:
        connection.execute(insert(attempt), rows)


def of_link(connection: Connection, link_id: int) -> dict[int, Attempt]:
    """Return the failure counts of a link by order."""
    columns = (attempt.c.order_id, attempt.c.count, attempt.c.next_at, attempt.c.error)
    rows = connection.execute(select(*columns).where(attempt.c.link_id == link_id).order_by(attempt.c.order_id))
    return {row.order_id: Attempt(*row) for row in rows}
