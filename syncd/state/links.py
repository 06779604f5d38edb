"""Links and their generations."""

from __future__ import annotations

from sqlalchemy import Connection, insert, select, update

from syncd.core.records import Lease, LinkRow
from syncd.errors import UsageError
from syncd.state.rows import clean
from syncd.state.schema import hold, link

_COLUMNS = (
    link.c.id,
    link.c.name,
    link.c.generation,
    link.c.fingerprint,
    link.c.paused,
    link.c.parked,
    link.c.created_at,
)


def find(connection: Connection, name: str) -> LinkRow | None:
    """Return the current generation of a link, or None if it has never been seen."""
    query = select(*_COLUMNS).where(link.c.name == name).order_by(link.c.generation.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    return None if row is None else LinkRow(*row)


def find_or_make(connection: Connection, name: str, fingerprint: str, now: float) -> LinkRow:
    """Return the current generation of a link, made with this fingerprint if there is none."""
    return find(connection, name) or _make(connection, name, 1, fingerprint, now)


def generations(connection: Connection, name: str) -> list[int]:
    """Return the ids of all generations of a link, the current one first."""
    return list(connection.scalars(select(link.c.id).where(link.c.name == name).order_by(link.c.generation.desc())))


def rebase(connection: Connection, lease: Lease, fingerprint: str, now: float) -> LinkRow:
    """Start a new generation of the leased link: not parked, paused if it was; the old one's holds are closed."""
    old = find(connection, lease.link)
    connection.execute(
        update(hold).where(hold.c.link_id == lease.link_id, hold.c.released_at.is_(None)).values(released_at=now)
    )
    row = _make(connection, lease.link, 1 if old is None else old.generation + 1, fingerprint, now)
    if old is not None and old.paused:
        set_paused(connection, lease.link, paused=True)
    return row._replace(paused=old is not None and old.paused)


def set_paused(connection: Connection, name: str, *, paused: bool) -> None:
    """Pause or resume a link.

    Raises:
        UsageError: No run has ever seen the link.
    """
    if not connection.execute(update(link).where(link.c.name == name).values(paused=paused)).rowcount:
        raise UsageError(f"The state database does not know a link {name} yet.", hint=f"Begin with: syncd plan {name}")


def set_parked(connection: Connection, lease: Lease, reason: str) -> None:
    """Park the link of a lease with a reason, or unpark it with an empty one."""
    connection.execute(update(link).where(link.c.id == lease.link_id).values(parked=clean(reason)))


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
    made = find(connection, name)
    assert made is not None
    return made
