"""The lease of a link: a row with an expiry and a fencing number, and a lock that ends with its holder.

Taking the lease raises its fence by one. Every later transaction of the previous holder notices that (`prove`) and
writes nothing. A process takes the lease if it is free, has expired, or if a lock proves its holder dead.

Until the row expires, it alone does not show whether its holder still runs. The lock does (`state/locks.py`): it is
released when the process ends. If the row says that its holder had the lock, a process that gets the lock knows that
the holder is dead. The row with its fencing number still decides who has the lease.

The lock is taken and released only while the row is locked. So the lock is never held without the row, not even by a
process that fails to get the lease. A lease whose holder has no lock would look like a dead holder's until it expires.
"""

from __future__ import annotations

import json
import threading
from typing import NamedTuple

import structlog
from sqlalchemy import Connection, RowMapping, insert, select, update

from syncd.core.records import Lease, LeaseRow, LinkRow, Reached
from syncd.errors import LeaseHeld, LeaseLost
from syncd.obs.clock import utc_stamp
from syncd.state import links
from syncd.state.database import Database
from syncd.state.locks import Locks
from syncd.state.rows import NAME_LIMIT, clean
from syncd.state.schema import lease as lease_table

log = structlog.get_logger(__name__)


def prove(connection: Connection, lease: Lease) -> None:
    """Check that the lease is ours, and lock its row, so that it stays ours until this transaction ends.

    Raises:
        LeaseLost: It is not.
    """
    query = select(lease_table.c.fence).where(
        lease_table.c.link == lease.link, lease_table.c.fence == lease.fence, lease_table.c.holder == lease.holder
    )
    if connection.scalar(query.with_for_update()) is None:
        raise LeaseLost(
            f"The lease of link {lease.link} ended or was taken over by another process. Nothing more was written.",
            hint=f"The next pass finishes what is left. See who has it with: syncd status {lease.link}",
        )


def leases(connection: Connection) -> list[LeaseRow]:
    at = lease_table.c
    columns = (at.link, at.holder, at.fence, at.acquired_at, at.expires_at, at.progress)
    rows = connection.execute(select(*columns).where(at.holder != "").order_by(at.link))
    return [LeaseRow(*row[:-1], None if row[-1] is None else Reached(**json.loads(row[-1]))) for row in rows]


class _Acquired(NamedTuple):
    """A lease that was taken, and its previous holder; empty if the holder had released it."""

    lease: Lease
    previous: str
    expired: bool
    holder_dead: bool


class LeaseKeeper:
    """Takes, renews and releases the leases of one process. Blocking; call it in a worker thread.

    Args:
        database: The state database.
        locks: Its locks.
    """

    def __init__(self, database: Database, locks: Locks) -> None:
        self._database = database
        self._locks = locks
        self._fences: dict[str, int] = {}
        self._mutexes: dict[str, threading.Lock] = {}

    def acquire(self, link: LinkRow, holder: str, ttl: float, now: float) -> Lease:
        """Take the lease of a link for `ttl` seconds.

        Raises:
            LeaseHeld: Another holder has it, or the link was rebased since `link` was read.
        """
        with self._one_at_a_time(link.name):
            self._locks.open()
            try:
                taken = self._database.write(
                    self._take_row, link, clean(holder, NAME_LIMIT), now=now, expires_at=now + ttl
                )
            except BaseException:
                if link.name not in self._fences:
                    self._locks.release(link.name)
                raise
            self._fences[link.name] = taken.lease.fence
        if taken.previous:
            log.warning(
                "took over lease",
                link=link.name,
                previous=taken.previous,
                expired=taken.expired,
                holder_dead=taken.holder_dead,
            )
        return taken.lease

    def renew(self, lease: Lease, ttl: float, now: float, reached: Reached | None = None) -> Lease:
        """Renew a lease to `ttl` seconds from now, and take its lock again if a lost connection released it.

        `reached` is stored with the lease, for people who watch.

        Raises:
            LeaseLost: It is no longer ours.
        """
        with self._one_at_a_time(lease.link):
            self._locks.open()
            try:
                self._database.write(self._renew_row, lease, expires_at=now + ttl, reached=reached)
            except LeaseLost:
                self._drop_lock(lease)
                raise
        return lease._replace(expires_at=now + ttl)

    def release(self, lease: Lease) -> None:
        """Release a lease. A lease that is no longer ours is left alone."""
        with self._one_at_a_time(lease.link):
            try:
                self._database.write(self._free_row, lease)
            finally:
                self._drop_lock(lease)

    def close(self) -> None:
        """Release all locks. Leases not released are then free for the process that takes the lock."""
        self._locks.close()

    def _one_at_a_time(self, link: str) -> threading.Lock:
        # Lock and row change together: a thread that saw only one of them changed would think the holder dead.
        return self._mutexes.setdefault(link, threading.Lock())

    def _drop_lock(self, lease: Lease) -> None:
        # A newer lease of this process on the same link needs the lock.
        if self._fences.get(lease.link) == lease.fence:
            del self._fences[lease.link]
            self._locks.release(lease.link)

    def _take_row(
        self, connection: Connection, link: LinkRow, holder: str, *, now: float, expires_at: float
    ) -> _Acquired:
        row = _lock_row(connection, link.name)
        _check_current(connection, link)
        expired = row["expires_at"] <= now
        provable = self._fences.get(link.name) != row["fence"] and self._locks.proves_death(row["lock_scope"])
        if row["holder"] and not expired and not (provable and self._locks.acquire(link.name)):
            raise LeaseHeld(
                f"Link {link.name} is being worked on by {row['holder']} since {utc_stamp(row['acquired_at'])}; "
                f"its lease runs until {utc_stamp(row['expires_at'])}. Nothing was done.",
                hint="Try again later. To see what it does: syncd status",
            )
        has_lock = self._locks.acquire(link.name)
        fence = row["fence"] + 1
        connection.execute(
            update(lease_table)
            .where(lease_table.c.link == link.name)
            .values(
                holder=holder,
                fence=fence,
                acquired_at=now,
                expires_at=expires_at,
                lock_scope=self._locks.scope if has_lock else "",
                progress=None,
            )
        )
        lease = Lease(link.id, link.name, holder, fence, expires_at)
        return _Acquired(lease, row["holder"], expired=expired, holder_dead=has_lock and provable)

    def _renew_row(self, connection: Connection, lease: Lease, *, expires_at: float, reached: Reached | None) -> None:
        prove(connection, lease)
        has_lock = self._fences.get(lease.link) == lease.fence and self._locks.acquire(lease.link)
        scope = self._locks.scope if has_lock else ""
        values = {"expires_at": expires_at, "lock_scope": scope}
        if reached is not None:
            values["progress"] = json.dumps(reached._replace(stage=clean(reached.stage))._asdict())
        connection.execute(update(lease_table).where(lease_table.c.link == lease.link).values(values))

    def _free_row(self, connection: Connection, lease: Lease) -> None:
        connection.execute(
            update(lease_table)
            .where(
                lease_table.c.link == lease.link,
                lease_table.c.fence == lease.fence,
                lease_table.c.holder == lease.holder,
            )
            .values(holder="", lock_scope="")
        )
        # Before the commit, so that a process waiting for the row then finds both free.
        self._drop_lock(lease)


def _lock_row(connection: Connection, link: str) -> RowMapping:
    query = select(lease_table).where(lease_table.c.link == link).with_for_update()
    row = connection.execute(query).mappings().one_or_none()
    if row is not None:
        return row
    # If two processes do this at once, the second one fails and tries again (`Database.write`).
    connection.execute(
        insert(lease_table).values(link=link, holder="", fence=0, acquired_at=0.0, expires_at=0.0, lock_scope="")
    )
    return connection.execute(query).mappings().one()


def _check_current(connection: Connection, link: LinkRow) -> None:
    if links.generations(connection, link.name)[:1] != [link.id]:
        raise LeaseHeld(
            f"Link {link.name} was rebased by another process a moment ago. Nothing was done.",
            hint="Start again: the next run reads the new generation.",
        )
