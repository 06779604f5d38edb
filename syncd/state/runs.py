"""Runs: one row for each pass, stored plan, application and undo."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from syncd.core.model import Counts
from syncd.core.records import Lease, RunRow
from syncd.state import links
from syncd.state.rows import clean, counts_of, counts_text, guards_of, guards_text
from syncd.state.schema import link as link_table
from syncd.state.schema import run as runs

_ROWS = select(runs, link_table.c.name).join(link_table, link_table.c.id == runs.c.link_id)


def start(connection: Connection, lease: Lease, *, kind: str, origin: str, now: float, source: int | None) -> int:
    """Open a run and return its number."""
    inserted = connection.execute(
        insert(runs).values(
            link_id=lease.link_id,
            kind=kind,
            state="running",
            origin=origin,
            source=source,
            started_at=now,
            digest="",
            first_sync=False,
            counts=counts_text(Counts()),
            guards=guards_text([]),
            error="",
            requests=0,
            calls=0,
            seconds=0.0,
            operating=0.0,
        )
    )
    key = inserted.inserted_primary_key
    assert key is not None
    return int(key[0])


def finish(connection: Connection, lease: Lease, row: RunRow) -> None:
    """Write a run's final state and numbers. `spent_by` is only ever added: a spent plan stays spent."""
    connection.execute(
        update(runs)
        .where(runs.c.id == row.id, runs.c.link_id == lease.link_id)
        .values(
            state=row.state,
            source=row.source,
            finished_at=row.finished_at,
            digest=row.digest,
            first_sync=row.first_sync,
            counts=counts_text(row.counts),
            guards=guards_text(row.guards),
            error=clean(row.error),
            requests=row.requests,
            calls=row.calls,
            seconds=row.seconds,
            operating=row.operating,
            spent_by=func.coalesce(runs.c.spent_by, row.spent_by),
        )
    )


def spend(connection: Connection, lease: Lease, run: int, by: int) -> bool:
    """Mark a stored plan, and the passes that found it still refused, as applied; False when it was already."""
    spent = connection.execute(
        update(runs)
        .where(runs.c.id == run, runs.c.link_id == lease.link_id, runs.c.spent_by.is_(None))
        .values(spent_by=by)
    )
    if spent.rowcount != 1:
        return False
    connection.execute(
        update(runs)
        .where(runs.c.link_id == lease.link_id, runs.c.source == run, runs.c.kind == "pass")
        .values(spent_by=by)
    )
    return True


def find(connection: Connection, run: int) -> RunRow | None:
    """Return a run, or None."""
    row = connection.execute(_ROWS.where(runs.c.id == run)).one_or_none()
    return None if row is None else _run_of(row)


def latest(connection: Connection, link: str | None, limit: int, before: int | None) -> list[RunRow]:
    """Return at most `limit` runs below `before`, newest first: of one link over all generations, or of all links."""
    query = _ROWS.order_by(runs.c.id.desc())
    if before is not None:
        query = query.where(runs.c.id < before)
    if link is None:
        return [_run_of(row) for row in connection.execute(query.limit(limit))]
    # One generation after the other, each through its index: every run of a generation is newer than those of the one
    # before, since a lease stands between them.
    found: list[RunRow] = []
    for link_id in links.generations(connection, link):
        if len(found) < limit:
            rows = connection.execute(query.where(runs.c.link_id == link_id).limit(limit - len(found)))
            found += [_run_of(row) for row in rows]
    return found


def completed(connection: Connection, link_id: int) -> bool:
    """Return whether a pass or an application of this generation has come to its end: with leftovers, but uncut."""
    query = select(runs.c.id).where(
        runs.c.link_id == link_id,
        runs.c.kind.in_(["pass", "apply"]),
        runs.c.state.in_(["applied", "partial"]),
        runs.c.error == "",
    )
    return connection.execute(query.limit(1)).first() is not None


def _run_of(row: Row[Any]) -> RunRow:
    values = row._mapping  # noqa: SLF001 - SQLAlchemy's public access to a row by name
    return RunRow(
        id=values["id"],
        link=values["name"],
        link_id=values["link_id"],
        kind=values["kind"],
        state=values["state"],
        origin=values["origin"],
        source=values["source"],
        started_at=values["started_at"],
        finished_at=values["finished_at"],
        digest=values["digest"],
        first_sync=values["first_sync"],
        counts=counts_of(values["counts"]),
        guards=guards_of(values["guards"]),
        error=values["error"],
        requests=values["requests"],
        calls=values["calls"],
        seconds=values["seconds"],
        spent_by=values["spent_by"],
        operating=values["operating"],
    )
