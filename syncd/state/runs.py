"""Runs: one row for each pass, stored plan, application and undo."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, delete, exists, func, insert, or_, select, update

from syncd.core.model import Counts, Outcome, Side, SideCounts
from syncd.core.order_ranges import OrderRanges
from syncd.core.records import LastDay, Lease, RunRow
from syncd.state import journal, links
from syncd.state.orders import newest_absences
from syncd.state.rows import PARAMETERS, clean, counts_of, counts_text, guards_of, guards_text
from syncd.state.schema import change, hold, portal_name, request
from syncd.state.schema import link as link_table
from syncd.state.schema import run as run_table

LOOKED_THROUGH = 500
"""How many runs are read at most, by queries that search recent runs."""
LONGEST = 500
"""Characters of a run's ranges that are kept once its plan can no longer be applied."""
KEEP_RUNS = 1000
"""How many of a link's newest runs `prune` keeps whatever their age."""

_DAY = 86_400.0
_ROWS = select(run_table, link_table.c.name).join(link_table, link_table.c.id == run_table.c.link_id)


def start_run(  # noqa: PLR0917 - the protocol's
    connection: Connection, lease: Lease, kind: str, origin: str, now: float, source: int | None = None
) -> int:
    inserted = connection.execute(
        insert(run_table).values(
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


def finish_run(connection: Connection, lease: Lease, row: RunRow) -> None:
    connection.execute(
        update(run_table)
        .where(run_table.c.id == row.id, run_table.c.link_id == lease.link_id)
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
            conditional=row.conditional,
            spent_by=func.coalesce(run_table.c.spent_by, row.spent_by),
            covers=_covers_text(row),
            part=row.part or None,
        )
    )


def spend(connection: Connection, lease: Lease, run: int, by: int) -> bool:
    spent = connection.execute(
        update(run_table)
        .where(run_table.c.id == run, run_table.c.link_id == lease.link_id, run_table.c.spent_by.is_(None))
        .values(spent_by=by)
    )
    if spent.rowcount != 1:
        return False
    connection.execute(
        update(run_table)
        .where(run_table.c.link_id == lease.link_id, run_table.c.source == run, run_table.c.kind == "pass")
        .values(spent_by=by)
    )
    return True


def run(connection: Connection, run: int) -> RunRow | None:
    row = connection.execute(_ROWS.where(run_table.c.id == run)).one_or_none()
    return None if row is None else _run_of(row)


def runs(connection: Connection, link: str | None, limit: int, before: int | None = None) -> list[RunRow]:
    query = _ROWS.order_by(run_table.c.id.desc())
    if before is not None:
        query = query.where(run_table.c.id < before)
    if link is None:
        return [_run_of(row) for row in connection.execute(query.limit(limit))]
    # Each generation through its index: all runs of a generation are newer than those of the one before, since both
    # need the link's lease.
    found: list[RunRow] = []
    for link_id in links.generations(connection, link):
        if len(found) < limit:
            rows = connection.execute(query.where(run_table.c.link_id == link_id).limit(limit - len(found)))
            found += [_run_of(row) for row in rows]
    return found


def completed(connection: Connection, link_id: int) -> bool:
    query = select(run_table.c.id).where(
        run_table.c.link_id == link_id,
        run_table.c.kind.in_(["pass", "apply"]),
        run_table.c.state.in_(["applied", "partial"]),
        run_table.c.error == "",
        run_table.c.covers.is_(None),
    )
    return connection.execute(query.limit(1)).first() is not None


def last_day(connection: Connection, link_id: int, since: float, in_parts_since: float) -> LastDay:
    moved, removed = journal.replaced_since(connection, link_id, since)
    in_parts = _in_parts(connection, link_id, in_parts_since)
    reverted = _reverted(connection, link_id, since)
    return LastDay(_agreed_before(connection, link_id, since), moved, removed, in_parts, reverted)


def _agreed_before(connection: Connection, link_id: int, since: float) -> int | None:
    """Return how many bindings were agreed before the first run since then that came to a plan; None without one."""
    query = select(run_table.c.counts, run_table.c.covers).where(
        run_table.c.link_id == link_id, run_table.c.started_at >= since, run_table.c.digest != ""
    )
    # A pass over only some orders counts the whole link only when it has something to write.
    for text, covers in connection.execute(
        query.order_by(run_table.c.started_at, run_table.c.id).limit(LOOKED_THROUGH)
    ):
        counts = counts_of(text)
        if covers is None or counts.whole is not None:
            return counts.agreed_of_link
    return None


def _in_parts(connection: Connection, link_id: int, since: float) -> dict[Side, SideCounts]:
    """Return what passes over only some orders have written since then, by side."""
    parts = select(run_table.c.id, run_table.c.counts).where(
        run_table.c.link_id == link_id,
        run_table.c.started_at >= since,
        run_table.c.covers.is_not(None),
        run_table.c.kind == "pass",
        run_table.c.digest != "",
    )
    found: dict[Side, SideCounts] = {}
    for run, text in connection.execute(parts).all():
        counts = counts_of(text)
        for side in Side:
            if not counts.of(side).total:
                continue
            query = (
                select(change.c.action, func.count().label("number"))
                .where(change.c.run_id == run, change.c.side == side.value, change.c.outcome == Outcome.APPLIED.value)
                .group_by(change.c.action)
            )
            written = SideCounts(**{str(row.action): int(row.number) for row in connection.execute(query)})
            found[side] = found.get(side, SideCounts()).plus(written)
    return found


def _reverted(connection: Connection, link_id: int, since: float) -> dict[Side, set[int]]:
    """Return the orders on which passes since then have put back what syncd had replaced, by the side written.

    A pass counts its planned reverts; only the writes of passes that have any are compared.
    """
    generations = links.all_generations(connection, link_id)
    passes = select(run_table.c.id, run_table.c.counts).where(
        run_table.c.link_id.in_(generations),
        run_table.c.started_at >= since,
        run_table.c.kind == "pass",
        run_table.c.digest != "",
    )
    found: dict[Side, set[int]] = {}
    for run, text in connection.execute(passes).all():
        counts = counts_of(text)
        for side in Side:
            if counts.of(side).reverts:
                found.setdefault(side, set()).update(journal.reverted_by(connection, generations, run, side))
    return found


def active_orders(connection: Connection, link_id: int, since: float, limit: int) -> list[int]:
    absent = newest_absences(connection, link_id, limit)
    return list(dict.fromkeys([*absent, *_written_orders(connection, link_id, since, limit)]))[:limit]


def _written_orders(connection: Connection, link_id: int, since: float, limit: int) -> list[int]:
    """Return the orders that runs since then have written, newest first, at most `limit`."""
    recent = select(run_table.c.id, run_table.c.counts).where(
        run_table.c.link_id == link_id, run_table.c.started_at >= since, run_table.c.digest != ""
    )
    orders: dict[int, None] = {}
    for run, text in connection.execute(recent.order_by(run_table.c.id.desc()).limit(LOOKED_THROUGH)).all():
        counts = counts_of(text)
        for side in Side:
            if counts.of(side).total and len(orders) < limit:
                query = select(change.c.order_id).where(change.c.run_id == run, change.c.side == side.value)
                orders.update(dict.fromkeys(connection.scalars(query.order_by(change.c.id.desc()).limit(limit))))
    return list(orders)[:limit]


def drop_run(connection: Connection, lease: Lease, run: int) -> None:
    connection.execute(delete(run_table).where(run_table.c.id == run, run_table.c.link_id == lease.link_id))


def prune(connection: Connection, lease: Lease, now: float, keep_days: float) -> int:
    """Delete the leased link's passes that did nothing, are older than `keep_days` and not among its newest runs.

    At most `PARAMETERS` at a time. Old requests of the link are deleted too, and day-old names of owners of all links,
    since a link that nobody views any more must not keep its names. Changes, holds and decisions are never deleted.

    Returns:
        How many passes were deleted.
    """
    old = now - keep_days * _DAY
    connection.execute(delete(portal_name).where(portal_name.c.read_at < now - _DAY))
    connection.execute(delete(request).where(request.c.link == lease.link, request.c.served_at < old))
    newest = select(run_table.c.id).where(run_table.c.link_id == lease.link_id).order_by(run_table.c.id.desc())
    oldest_kept = connection.scalar(newest.offset(KEEP_RUNS - 1).limit(1))
    if oldest_kept is None:
        return 0
    query = (
        select(run_table.c.id)
        .where(
            run_table.c.link_id == lease.link_id,
            run_table.c.id < oldest_kept,
            run_table.c.kind == "pass",
            or_(run_table.c.state == "applied", run_table.c.source.is_not(None)),
            run_table.c.finished_at < old,
            ~exists().where(change.c.run_id == run_table.c.id),
            ~exists().where(hold.c.run_id == run_table.c.id),
        )
        .order_by(run_table.c.id)
        .limit(PARAMETERS)
    )
    idle = list(connection.scalars(query))
    if idle:
        connection.execute(delete(run_table).where(run_table.c.id.in_(idle)))
    return len(idle)


def _covers_of(text: str | None) -> OrderRanges | None:
    """Given what was kept of the orders that a run covers, return them; earlier versions kept none as an empty text."""
    if text is None:
        return None
    return OrderRanges.parse(text) if text else OrderRanges()


def _covers_text(row: RunRow) -> str | None:
    if row.covers is None:
        return None
    text = str(row.covers)
    return text if row.state in {"planned", "refused"} or len(text) <= LONGEST else str(row.covers.hull())


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
        conditional=values["conditional"],
        covers=_covers_of(values["covers"]),
        part=values["part"] or "",
    )
