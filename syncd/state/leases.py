"""The lease of a link: a row with an expiry and a fencing number, and a lock that ends with its holder.

Who takes the lease raises its fence by one; every later transaction of the previous holder finds that out (`prove`) and
writes nothing. The row is taken over when it is free, when it has expired, or when its holder is proved dead by a lock.

The lock is taken and given back only while the row is locked. So nobody ever has it without the row, not even whoever
is turned away: a lease that was taken without its lock could not be told from a dead one's before it expires.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import NamedTuple

import structlog
from sqlalchemy import Connection, RowMapping, insert, select, update

from syncd.core.records import Lease, LeaseRow, LinkRow
from syncd.errors import LeaseHeld, LeaseLost
from syncd.state import links
from syncd.state.database import Database
from syncd.state.locks import Locks
from syncd.state.rows import NAME_LIMIT, clean
from syncd.state.schema import lease as leases

log = structlog.get_logger(__name__)


def prove(connection: Connection, lease: Lease) -> None:
    """Prove, for the rest of this transaction, that the lease is still ours: nobody can take it over before it ends.

    Raises:
        LeaseLost: It is not.
    """
    query = select(leases.c.fence).where(
        leases.c.link == lease.link, leases.c.fence == lease.fence, leases.c.holder == lease.holder
    )
    if connection.scalar(query.with_for_update()) is None:
        raise LeaseLost(
            f"The lease of link {lease.link} ended or was taken over by another process. Nothing more was written.",
            hint=f"See who has it with: syncd status {lease.link}",
        )


def held(connection: Connection) -> list[LeaseRow]:
    """Return the leases somebody has, by link name, expired ones too."""
    columns = (leases.c.link, leases.c.holder, leases.c.fence, leases.c.acquired_at, leases.c.expires_at)
    rows = connection.execute(select(*columns).where(leases.c.holder != "").order_by(leases.c.link))
    return [LeaseRow(*row) for row in rows]


class _Taken(NamedTuple):
    """A lease that was taken, and whose it was: `previous` is empty where its holder had given it back."""

    lease: Lease
    previous: str
    expired: bool
    holder_dead: bool


class Keeper:
    """Takes, prolongs and gives back the leases of one process. Blocking; call it in a worker thread.

    Args:
        database: The state database.
        locks: The locks that fit it.
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
        with self._alone(link.name):
            self._locks.open()
            try:
                taken = self._database.write(
                    self._take_row, link, clean(holder, NAME_LIMIT), now=now, expires_at=now + ttl
                )
            except BaseException:
                if link.name not in self._fences:
                    self._locks.drop(link.name)
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

    def renew(self, lease: Lease, ttl: float, now: float) -> Lease:
        """Prolong a lease to `ttl` seconds from now, and get its lock (again) if that was lost with a connection.

        Raises:
            LeaseLost: It is no longer ours.
        """
        with self._alone(lease.link):
            self._locks.open()
            try:
                self._database.write(self._prolong_row, lease, expires_at=now + ttl)
            except LeaseLost:
                self._let_go(lease)
                raise
        return lease._replace(expires_at=now + ttl)

    def release(self, lease: Lease) -> None:
        """Give a lease back; one that is no longer ours is left alone."""
        with self._alone(lease.link):
            try:
                self._database.write(self._free_row, lease)
            finally:
                self._let_go(lease)

    def close(self) -> None:
        """Give all locks back; rows not released are then free for whoever gets the lock."""
        self._locks.close()

    def _alone(self, link: str) -> threading.Lock:
        # Lock and row change together: another thread that saw only one of them changed would take us for dead.
        return self._mutexes.setdefault(link, threading.Lock())

    def _let_go(self, lease: Lease) -> None:
        # A newer lease of this process on the same link keeps the lock.
        if self._fences.get(lease.link) == lease.fence:
            del self._fences[lease.link]
            self._locks.drop(lease.link)

    def _take_row(self, connection: Connection, link: LinkRow, holder: str, *, now: float, expires_at: float) -> _Taken:
        row = _lock_row(connection, link.name)
        _check_current(connection, link)
        expired = row["expires_at"] <= now
        provable = self._fences.get(link.name) != row["fence"] and self._locks.proves(row["lock_scope"])
        if row["holder"] and not expired and not (provable and self._locks.take(link.name)):
            raise LeaseHeld(
                f"Link {link.name} is being worked on by {row['holder']} since {_moment(row['acquired_at'])}; "
                f"its lease runs until {_moment(row['expires_at'])}. Nothing was done.",
                hint="Try again later, or see what it does with: syncd status",
            )
        has_lock = self._locks.take(link.name)
        fence = row["fence"] + 1
        connection.execute(
            update(leases)
            .where(leases.c.link == link.name)
            .values(
                holder=holder,
                fence=fence,
                acquired_at=now,
                expires_at=expires_at,
                lock_scope=self._locks.scope if has_lock else "",
            )
        )
        lease = Lease(link.id, link.name, holder, fence, expires_at)
        return _Taken(lease, row["holder"], expired=expired, holder_dead=has_lock and provable)

    def _prolong_row(self, connection: Connection, lease: Lease, *, expires_at: float) -> None:
        prove(connection, lease)
        has_lock = self._fences.get(lease.link) == lease.fence and self._locks.take(lease.link)
        scope = self._locks.scope if has_lock else ""
        connection.execute(
            update(leases).where(leases.c.link == lease.link).values(expires_at=expires_at, lock_scope=scope)
        )

    def _free_row(self, connection: Connection, lease: Lease) -> None:
        connection.execute(
            update(leases)
            .where(leases.c.link == lease.link, leases.c.fence == lease.fence, leases.c.holder == lease.holder)
            .values(holder="", lock_scope="")
        )
        # Before this is committed: whoever waits for the row then finds both free.
        self._let_go(lease)


def _lock_row(connection: Connection, link: str) -> RowMapping:
    query = select(leases).where(leases.c.link == link).with_for_update()
    row = connection.execute(query).mappings().one_or_none()
    if row is not None:
        return row
    # Should two processes do this at once, the second fails and is tried again (`Database.write`).
    connection.execute(
        insert(leases).values(link=link, holder="", fence=0, acquired_at=0.0, expires_at=0.0, lock_scope="")
    )
    return connection.execute(query).mappings().one()


def _check_current(connection: Connection, link: LinkRow) -> None:
    if links.generations(connection, link.name)[:1] != [link.id]:
        raise LeaseHeld(
            f"Link {link.name} was rebased by another process a moment ago. Nothing was done.",
            hint="Start again: the next run reads the new generation.",
        )


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(sep=" ", timespec="seconds")
