"""Locks that end with their holder: what tells a dead process from a slow one.

A lease row expires; until then nobody can say from the row alone whether its holder still lives. A lock held by the
process itself can: the kernel (SQLite: `flock` on a file beside the database) or the server (PostgreSQL, MariaDB and
MySQL: a session's advisory lock) frees it the moment the process is gone. Who gets the lock therefore knows that the
holder named in the row is dead, if the row says that it had the lock. The row, with its fencing number, still decides.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import threading
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from sqlalchemy import Connection, TextClause, exc, text

from syncd.errors import StateUnavailable
from syncd.state.database import Database, Purpose
from syncd.state.faults import explained


class Locks(Protocol):
    """The locks one process holds, by link name."""

    scope: str
    """Where these locks are seen by everybody; goes into the lease row."""

    def proves(self, scope: str) -> bool:
        """Given the scope a lease row was taken under, whether getting the lock proves that row's holder dead."""
        ...

    def open(self) -> None:
        """Get ready, so that `take` need not: it is called while a row of the database is locked."""
        ...

    def take(self, link: str) -> bool:
        """Try to get the lock without waiting; True if it is ours now, also when it was before and still is."""
        ...

    def drop(self, link: str) -> None:
        """Give the lock back, if it is ours."""
        ...

    def close(self) -> None:
        """Give all locks back."""
        ...


class FileLocks:
    """Locks for an SQLite state: a file for each link beside the database; it stays, only the lock on it counts.

    Args:
        database: The SQLite file.
    """

    def __init__(self, database: Path) -> None:
        self.scope = _this_machine()
        self._database = database
        self._files: dict[str, int] = {}

    def proves(self, scope: str) -> bool:
        """See `Locks`: a lock is seen by the same kernel, or by the same host started anew."""
        return not set(scope.split()).isdisjoint(self.scope.split())

    def open(self) -> None:
        """See `Locks`; files are opened at once."""

    def take(self, link: str) -> bool:
        """See `Locks`."""
        if link in self._files:
            return True
        descriptor = take_file(self._database.with_name(f"{self._database.name}.{quote(link, safe='')}.lock"))
        if descriptor is None:
            return False
        self._files[link] = descriptor
        return True

    def drop(self, link: str) -> None:
        """See `Locks`."""
        descriptor = self._files.pop(link, None)
        if descriptor is not None:
            os.close(descriptor)

    def close(self) -> None:
        """See `Locks`."""
        for link in list(self._files):
            self.drop(link)


def take_file(path: Path, *, wait: bool = False) -> int | None:
    """Given the path of a lock file, return a descriptor that holds its lock, or None if another has it.

    Raises:
        StateUnavailable: The file cannot be made, opened or locked.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError:
            os.close(descriptor)
            raise
    except OSError as error:
        raise StateUnavailable(
            f"The lock file {path} cannot be used: {error.strerror}. Nothing was written.",
            hint="Give the user of syncd write access to the folder of the state database.",
        ) from None
    return descriptor


def _this_machine() -> str:
    # Containers of one host have different names and one boot id; a host that was started anew has its name.
    boot_id = ""
    with contextlib.suppress(OSError):
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{platform.node()} {boot_id}".strip()


class ServerLocks:
    """Locks for a state on a server: all of a process in one session of their own, outside any pool.

    A session that was lost took its locks with it; `take` notices that by asking the server, and opens a new one.

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
        postgres = database.dialect == "postgresql"
        self._who = text("SELECT pg_backend_pid()" if postgres else "SELECT CONNECTION_ID()")
        self._take = text("SELECT pg_try_advisory_lock(:key)" if postgres else "SELECT GET_LOCK(:key, 0)")
        self._drop = text("SELECT pg_advisory_unlock(:key)" if postgres else "SELECT RELEASE_LOCK(:key)")

    def proves(self, scope: str) -> bool:
        """See `Locks`."""
        return scope == self.scope

    def open(self) -> None:
        """See `Locks`."""
        with self._mutex:
            self._revive()

    def take(self, link: str) -> bool:
        """See `Locks`."""
        with self._mutex:
            self._revive()
            if link in self._names:
                return True
            if not self._session_says(self._take, link):
                return False
            self._names.add(link)
            return True

    def drop(self, link: str) -> None:
        """See `Locks`."""
        with self._mutex:
            if self._alive() and link in self._names:
                self._names.discard(link)
                self._session_says(self._drop, link)

    def close(self) -> None:
        """See `Locks`."""
        with self._mutex:
            self._forget()

    def _revive(self) -> None:
        if self._alive():
            return
        with explained(self._database.where):
            self._session = self._database.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            self._session_id = self._session.scalar(self._who)

    def _alive(self) -> bool:
        # A different id under the same connection is a pooler in between (PgBouncer by transaction): no lock is ours.
        if self._session is None:
            return False
        try:
            if self._session.scalar(self._who) == self._session_id:
                return True
        except exc.DBAPIError:
            pass
        self._forget()
        return False

    def _forget(self) -> None:
        self._names.clear()
        session, self._session = self._session, None
        if session is not None:
            with contextlib.suppress(exc.SQLAlchemyError):
                session.invalidate()
            session.close()

    def _session_says(self, statement: TextClause, link: str) -> bool:
        assert self._session is not None
        with explained(self._database.where):
            return bool(self._session.scalar(statement, {"key": self._key(link)}))

    def _key(self, link: str) -> int | str:
        # PostgreSQL's keys are numbers of 64 bits within a database; MySQL's are names of 64 characters over all.
        digest = hashlib.sha256(f"syncd lease {self._database.url.database} {link}".encode())
        if self._database.dialect == "postgresql":
            return int.from_bytes(digest.digest()[:8], signed=True)
        return f"syncd {digest.hexdigest()[:48]}"


def open_locks(database: Database) -> Locks:
    """Given the state database, return the locks that fit its kind."""
    if database.path is not None:
        return FileLocks(database.path)
    return ServerLocks(Database(database.url, Purpose.LOCKS))
