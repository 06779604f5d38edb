"""Links and their generations, and what other processes ask the daemon to do with them."""

from __future__ import annotations

import json
from collections.abc import Sequence

from sqlalchemy import Connection, insert, select, update

from syncd.core.order_ranges import Coverage, OrderRanges
from syncd.core.records import Lease, LinkRow, Pause, Request
from syncd.errors import UsageError
from syncd.state.rows import NAME_LIMIT, clean
from syncd.state.schema import hold, link, request
from syncd.state.schema import identity as identity_table

_COLUMNS = (
    link.c.id,
    link.c.name,
    link.c.generation,
    link.c.fingerprint,
    link.c.paused,
    link.c.parked,
    link.c.created_at,
    link.c.portal,
    link.c.member_id,
    link.c.pause,
    link.c.coverage,
)


def find_link(connection: Connection, name: str) -> LinkRow | None:
    query = select(*_COLUMNS).where(link.c.name == name).order_by(link.c.generation.desc()).limit(1)
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        return None
    kept = {"portal": row["portal"] or "", "member_id": row["member_id"] or "", "pause": _pause_of(row["pause"])}
    coverage = None if row["coverage"] is None else Coverage.read(row["coverage"])
    return LinkRow(**{**row, **kept, "coverage": coverage})


def find_or_make(connection: Connection, name: str, fingerprint: str, now: float) -> LinkRow:
    """Return the current generation of a link, made with this fingerprint if there is none; see `Store.link`."""
    return find_link(connection, name) or _make(connection, name, 1, fingerprint, now)


def identity(connection: Connection) -> str:
    found: str | None = connection.scalar(select(identity_table.c.id))
    assert found is not None  # the migration that made the table made its row
    return found


def generations(connection: Connection, name: str) -> list[int]:
    """Return the ids of all generations of a link, the current one first."""
    return list(connection.scalars(select(link.c.id).where(link.c.name == name).order_by(link.c.generation.desc())))


def all_generations(connection: Connection, link_id: int) -> list[int]:
    """Given one generation of a link, return the ids of all of them."""
    name = select(link.c.name).where(link.c.id == link_id).scalar_subquery()
    return list(connection.scalars(select(link.c.id).where(link.c.name == name)))


def rebase(connection: Connection, lease: Lease, fingerprint: str, now: float) -> LinkRow:
    old = find_link(connection, lease.link)
    connection.execute(
        update(hold).where(hold.c.link_id == lease.link_id, hold.c.released_at.is_(None)).values(released_at=now)
    )
    row = _make(connection, lease.link, 1 if old is None else old.generation + 1, fingerprint, now)
    if old is not None and old.paused:
        set_paused(connection, lease.link, paused=True, pause=old.pause)
        return row._replace(paused=True, pause=old.pause)
    return row


def keep_portal(connection: Connection, lease: Lease, fingerprint: str, portal: str, member_id: str) -> LinkRow:
    values = {"fingerprint": fingerprint, "portal": clean(portal), "member_id": clean(member_id)}
    connection.execute(update(link).where(link.c.id == lease.link_id).values(values))
    row = find_link(connection, lease.link)
    assert row is not None
    return row


def set_paused(connection: Connection, name: str, *, paused: bool, pause: Pause = Pause()) -> None:  # noqa: B008 - a constant
    kept = json.dumps(pause._replace(by=clean(pause.by), comment=clean(pause.comment))._asdict())
    if not connection.execute(update(link).where(link.c.name == name).values(paused=paused, pause=kept)).rowcount:
        raise UsageError(f"The state database does not know a link {name} yet.", hint=f"Begin with: syncd plan {name}")


def set_coverage(connection: Connection, lease: Lease, coverage: Coverage) -> None:
    connection.execute(update(link).where(link.c.id == lease.link_id).values(coverage=coverage.text()))


def set_parked(connection: Connection, lease: Lease, reason: str) -> None:
    connection.execute(update(link).where(link.c.id == lease.link_id).values(parked=clean(reason)))


def _pause_of(kept: str | None) -> Pause:
    return Pause() if kept is None else Pause(**json.loads(kept))


def _make(connection: Connection, name: str, generation: int, fingerprint: str, now: float) -> LinkRow:
    row = {
        "name": name,
        "generation": generation,
        "fingerprint": fingerprint,
        "paused": False,
        "parked": "",
        "created_at": now,
    }
    connection.execute(insert(link).values(row))
    made = find_link(connection, name)
    assert made is not None
    return made


# ------------------------------------------------------------------- requests


def post_request(  # noqa: PLR0917 - the protocol's
    connection: Connection, link: str, kind: str, by: str, now: float, orders: OrderRanges | None = None
) -> int:
    about = None if orders is None else str(orders)
    inserted = connection.execute(
        insert(request).values(link=link, kind=kind, asked_by=clean(by, NAME_LIMIT), created_at=now, orders=about)
    )
    key = inserted.inserted_primary_key
    assert key is not None
    return int(key[0])


def open_requests(connection: Connection, links: Sequence[str]) -> list[Request]:
    columns = (request.c.id, request.c.link, request.c.kind, request.c.asked_by, request.c.created_at, request.c.orders)
    query = select(*columns).where(request.c.link.in_(links), request.c.served_at.is_(None)).order_by(request.c.id)
    return [
        Request(*row[:-1], orders=None if row[-1] is None else OrderRanges.parse(row[-1]))
        for row in connection.execute(query)
    ]


def close_requests(connection: Connection, lease: Lease, requests: Sequence[int], now: float) -> None:
    # A request that is closed already keeps its time.
    mine = request.c.id.in_(requests) & (request.c.link == lease.link)
    connection.execute(update(request).where(mine, request.c.served_at.is_(None)).values(served_at=now))
