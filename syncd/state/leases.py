"""The lease of a link: a row with an expiry and a fencing number, and a lock that ends with its holder.

Who takes the lease raises its fence by one; every later transaction of the previous holder finds that out (`prove`) and
writes nothing. The row is taken over when it is free, when it has expired, or when its holder is proved dead by a lock.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime

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
            has_lock = self._locks.take(link.name)
            try:
                lease = self._database.write(
                    self._take_row,
                    link,
                    clean(holder, NAME_LIMIT),
                    now=now,
                    expires_at=now + ttl,
                    has_lock=has_lock,
                )
            except BaseException:
                if link.name not in self._fences:
                    self._locks.drop(link.name)
                raise
            self._fences[link.name] = lease.fence
            return lease

    def renew(self, lease: Lease, ttl: float, now: float) -> Lease:
        """Prolong a lease to `ttl` seconds from now, and get its lock (again) if that was lost with a connection.

        Raises:
            LeaseLost: It is no longer ours.
        """
        with self._alone(lease.link):
            ours = self._fences.get(lease.link) == lease.fence
            has_lock = ours and (self._locks.holds(lease.link) or self._locks.take(lease.link))
            try:
                self._database.write(self._prolong_row, lease, expires_at=now + ttl, has_lock=has_lock)
            except LeaseLost:
                self._let_go(lease)
                raise
        return lease._replace(expires_at=now + ttl)

    def release(self, lease: Lease) -> None:
        """Give a lease back; one that is no longer ours is left alone."""
        with self._alone(lease.link):
            # The lock first: whoever gets it in between takes the lease over, which is what we are about to allow.
            self._let_go(lease)
            self._database.write(_free_row, lease)

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

    def _take_row(
        self, connection: Connection, link: LinkRow, holder: str, *, now: float, expires_at: float, has_lock: bool
    ) -> Lease:
        row = _lock_row(connection, link.name)
        expired = row["expires_at"] <= now
        own = self._fences.get(link.name) == row["fence"]
        dead = has_lock and not own and self._locks.proves(row["lock_scope"])
        if row["holder"] and not expired and not dead:
            raise LeaseHeld(
                f"Link {link.name} is being worked on by {row['holder']} since {_moment(row['acquired_at'])}; "
                f"its lease runs until {_moment(row['expires_at'])}. Nothing was done.",
                hint="Try again later, or see what it does with: syncd status",
            )
        _check_current(connection, link)
        if row["holder"]:
            log.warning("took over lease", link=link.name, previous=row["holder"], expired=expired, holder_dead=dead)
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
        return Lease(link.id, link.name, holder, fence, expires_at)

    def _prolong_row(self, connection: Connection, lease: Lease, *, expires_at: float, has_lock: bool) -> None:
        prove(connection, lease)
        scope = self._locks.scope if has_lock else ""
        connection.execute(
            update(leases).where(leases.c.link == lease.link).values(expires_at=expires_at, lock_scope=scope)
        )


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


def _free_row(connection: Connection, lease: Lease) -> None:
    connection.execute(
        update(leases)
        .where(leases.c.link == lease.link, leases.c.fence == lease.fence, leases.c.holder == lease.holder)
        .values(holder="", lock_scope="")
    )


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(sep=" ", timespec="seconds")
