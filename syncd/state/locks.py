"""The locks of leases: a lock ends with the process that holds it, and so proves its holder dead.

SQLite: `flock` on a file beside the database, which the kernel releases. PostgreSQL, MariaDB and MySQL: an advisory
lock of the session, which the server releases. `state/leases.py` says what follows from a lock.
"""

from __future__ import annotations

import contextlib
import os
import platform
import threading
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from sqlalchemy import Connection, TextClause, exc, text

from syncd.db.server import Server
from syncd.state.database import Database, Purpose, take_lock
from syncd.state.faults import translated_errors


class Locks(Protocol):
    """The locks one process holds, by link name."""

    scope: str
    """Where these locks are visible; stored in the lease row."""

    def proves_death(self, scope: str) -> bool:
        """Given the scope in a lease row, return whether getting the lock proves the row's holder dead."""
        ...

    def open(self) -> None:
        """Connect, so that `acquire` does not: it is called while a row of the database is locked."""
        ...

    def acquire(self, link: str) -> bool:
        """Try to get the lock without waiting. Return whether it is ours now, or still is."""
        ...

    def release(self, link: str) -> None:
        """Release the lock, if it is ours."""
        ...

    def close(self) -> None:
        """Release all locks."""
        ...


class FileLocks:
    """Locks for SQLite: a file for each link, beside the database. The file stays; only the lock on it counts.

    Args:
        database: The SQLite file.
    """

    def __init__(self, database: Path) -> None:
        self.scope = _this_machine()
        self._database = database
        self._files: dict[str, int] = {}

    def proves_death(self, scope: str) -> bool:
        """See `Locks`. A lock is visible to the same kernel, and to the same host after a restart."""
        return not set(scope.split()).isdisjoint(self.scope.split())

    def open(self) -> None:
        """See `Locks`. Opening a file needs no preparation."""

    def acquire(self, link: str) -> bool:
        """See `Locks`."""
        if link in self._files:
            return True
        file = self._database.with_name(f"{self._database.name}.{quote(link, safe='')}.lock")
        descriptor = take_lock(file, beside=self._database)
        if descriptor is None:
            return False
        self._files[link] = descriptor
        return True

    def release(self, link: str) -> None:
        """See `Locks`."""
        descriptor = self._files.pop(link, None)
        if descriptor is not None:
            os.close(descriptor)

    def close(self) -> None:
        """See `Locks`."""
        for link in list(self._files):
            self.release(link)


def _this_machine() -> str:
    # Containers of a host have different names and the same boot id; a restarted host keeps only its name.
    boot_id = ""
    with contextlib.suppress(OSError):
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{platform.node()} {boot_id}".strip()


class ServerLocks:
    """Locks on a server: all locks of a process in one session, outside the connection pool.

    A lost session has lost its locks: `acquire` asks the server, notices that, and opens a new session. Behind a pooler
    there is no session of our own, so no lock is ever taken, and leases end only when they expire.

    Args:
        database: Opened for `Purpose.LOCKS`.
    """

    scope = "server"

    def __init__(self, database: Database) -> None:
        self._database = database
        self._mutex = threading.Lock()
        self._session: Connection | None = None
        self._session_id = 0
        self._names: set[str] = set()
        self._pooled = False
        assert isinstance(database.backend, Server)
        self._server = database.backend
        self._who = text(self._server.session_id)
        self._take = text(self._server.take_lock)
        self._drop = text(self._server.drop_lock)

    def proves_death(self, scope: str) -> bool:
        """See `Locks`."""
        return scope == self.scope

    def open(self) -> None:
        """See `Locks`."""
        with self._mutex:
            self._reconnect()

    def acquire(self, link: str) -> bool:
        """See `Locks`."""
        with self._mutex:
            self._reconnect()
            if self._pooled:
                return False
            if link in self._names:
                return True
            if not self._ask(self._take, link):
                return False
            self._names.add(link)
            return True

    def release(self, link: str) -> None:
        """See `Locks`."""
        with self._mutex:
            if self._alive() and link in self._names:
                self._names.discard(link)
                self._ask(self._drop, link)

    def close(self) -> None:
        """See `Locks`."""
        with self._mutex:
            self._disconnect()

    def _reconnect(self) -> None:
        if self._alive():
            return
        with translated_errors(self._database.where):
            self._session = self._database.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            self._session_id = self._session.scalar(self._who)
            self._pooled = self._server.is_pooled(self._session)

    def _alive(self) -> bool:
        if self._session is None:
            return False
        if self._pooled:
            return True  # not asked: the pooler may have no other session left for us
        try:
            if self._session.scalar(self._who) == self._session_id:
                return True
        except exc.DBAPIError:
            pass
        self._disconnect()
        return False

    def _disconnect(self) -> None:
        self._names.clear()
        session, self._session = self._session, None
        if session is not None:
            with contextlib.suppress(exc.SQLAlchemyError):
                session.invalidate()
            session.close()

    def _ask(self, statement: TextClause, link: str) -> bool:
        assert self._session is not None
        with translated_errors(self._database.where):
            return bool(self._session.scalar(statement, {"key": self._key(link)}))

    def _key(self, link: str) -> int | str:
        return self._server.lock_key(f"syncd lease {self._database.url.database} {link}")


def open_locks(database: Database) -> Locks:
    """Given the state database, return the locks for its kind."""
    if database.path is not None:
        return FileLocks(database.path)
    return ServerLocks(Database(database.url, Purpose.LOCKS))
