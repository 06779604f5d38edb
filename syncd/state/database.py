"""One state database: how it is opened, its transactions, which read or write, and the files of an SQLite one.

The files (the database and those beside it) all have the same owner: a command that root runs must not leave files that
the service's user cannot open.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum, auto
from functools import partial
from pathlib import Path
from pwd import getpwuid
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import URL, Connection, exc

from syncd.db import registry
from syncd.db.backend import Limits
from syncd.errors import StateUnavailable
from syncd.state.faults import is_retryable, is_unreachable, translated_errors

P = ParamSpec("P")
T = TypeVar("T")

LOCK_SECONDS = 10.0
"""How long a statement waits for another session's lock."""

STATEMENT_SECONDS = 120
"""How long a server may take for one statement."""

THREADS = 4
"""How many transactions of one process a server runs at once. SQLite has one writer."""

ATTEMPTS = 4
"""How often a transaction is tried if the server ends it to break a deadlock."""

RECONNECT_SECONDS = 5.0
"""How long to wait for a server that went away in a transaction: a restart takes less."""

RECONNECT_PAUSE = 0.25
"""Seconds between two tries to reach the server again."""

LIMITS = Limits(lock=LOCK_SECONDS, statement=STATEMENT_SECONDS)

KEY = "[state] url"


def read_url(url: str) -> URL:
    """Given the URL of a state database, return it with the driver syncd uses.

    Raises:
        ConfigError: It is not a URL, names another kind of database, or an SQLite database without a file.
    """
    return registry.read_url(url, KEY)[1]


def file_of(url: URL) -> Path | None:
    """Given a URL, return the file of its database, or None for a server.

    Symbolic links are followed: the lock files are beside the database itself, the same for each of its names.
    """
    return Path(url.database or "").resolve() if registry.backend_of(url).is_file else None


def _place(url: URL) -> str:
    """Given the URL of a server's database, return it without user, password and options."""
    bare = URL.create(url.get_backend_name(), host=url.host, port=url.port, database=url.database)
    return bare.render_as_string()


class Purpose(Enum):
    """What a database is opened for.

    WORK: short transactions over pooled connections, with time limits. LOCKS: one session, open as long as its locks
    are held. UPGRADE: a missing file is made, and statements have no time limit.
    """

    WORK = auto()
    LOCKS = auto()
    UPGRADE = auto()


class Database:
    """The engine of one state database.

    Args:
        url: From `read_url`.
        purpose: What it is opened for.

    Raises:
        ConfigError: The driver of this kind of database is not installed.
    """

    def __init__(self, url: URL, purpose: Purpose = Purpose.WORK) -> None:
        self.url = url
        self.path = file_of(url)
        self.where = str(self.path) if self.path else _place(url)
        self.backend = registry.backend_of(url)
        self.engine = self.backend.state_engine(
            url if self.path is None else url.set(database=str(self.path)),
            KEY,
            None if purpose is Purpose.UPGRADE else LIMITS,
            transactions=THREADS if purpose is Purpose.WORK else 0,
            opening=partial(_opening, self.path, purpose),
        )

    @contextmanager
    def transaction(self, *, writes: bool) -> Iterator[Connection]:
        """Open a transaction, committed when the block ends without an error. Use it inside `translated_errors`."""
        options = self.backend.writing_options if writes else {}
        with (
            self.engine.connect().execution_options(**options) as connection,
            connection.begin(),
        ):
            yield connection

    def read(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work` in a transaction that only reads, and again if the connection was lost."""
        return self._run(lambda connection: work(connection, *args, **kwargs), writes=False)

    def write(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work` in a transaction that writes, and again if the server has certainly not committed it.

        It has not if it ended the transaction to break a deadlock, or if the connection was lost before the commit was
        sent. `work` proves its lease within the transaction, so a second try under a lost lease fails.
        """
        return self._run(lambda connection: work(connection, *args, **kwargs), writes=True)

    def _run(self, work: Callable[[Connection], T], *, writes: bool) -> T:
        left, lost_until = ATTEMPTS, 0.0
        with translated_errors(self.where):
            while True:
                left -= 1
                asked_to_commit = False
                try:
                    with self.transaction(writes=writes) as connection:
                        result = work(connection)
                        asked_to_commit = writes
                except exc.DBAPIError as error:
                    if error.connection_invalidated and not asked_to_commit and not lost_until:
                        lost_until = time.monotonic() + RECONNECT_SECONDS
                    if time.monotonic() < lost_until and not asked_to_commit and is_unreachable(error):
                        time.sleep(RECONNECT_PAUSE)
                    elif not (left > 0 and writes and is_retryable(error)):
                        raise
                else:
                    return result

    @property
    def is_pooled(self) -> bool:
        """Whether a pooler gives each transaction another session. Connects."""
        with self.engine.connect() as connection:
            return self.backend.is_pooled(connection)

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


@contextmanager
def _opening(path: Path | None, purpose: Purpose) -> Iterator[None]:
    """Around each opening of a file: check that it exists, or make it for an upgrade; name a read-only disk."""
    if path is not None:
        _check_file(path, purpose)
    try:
        yield
    except Exception:
        if path is not None:
            _check_disk(path)
        raise


def _check_file(path: Path, purpose: Purpose) -> None:
    """Check that the file exists; make it for an upgrade."""
    try:
        if path.exists():
            return
        if not path.parent.is_dir():
            raise StateUnavailable(
                f"The state database {path} cannot be made: the folder {path.parent} does not exist.",
                hint="Create the folder, or change [state] url.",
            )
        if purpose is not Purpose.UPGRADE:
            raise StateUnavailable(f"The state database {path} does not exist.", hint="Make it with: syncd db upgrade")
        make_private(path, beside=path.parent)  # it will contain tokens
    except OSError as error:
        raise StateUnavailable(
            f"The state database {path} cannot be made or read: {error.strerror}.",
            hint="Give the user of syncd read and write access to the folder.",
        ) from None


def _check_disk(path: Path) -> None:
    """Check that the disk of a file is writable; the driver only says that it cannot open the file."""
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        raise StateUnavailable(
            f"The state database {path} is on a disk that is mounted read-only. Nothing was written.",
            hint="The system's log says why (often a failing disk). Mount it for writing again.",
        )


# ----------------------------------------------------------- files of SQLite


def make_private(path: Path, *, beside: Path) -> None:
    """Make an empty file that only its owner may open, whatever the umask. An existing file is left as it is.

    Args:
        path: The file.
        beside: The file or folder whose owner it gets if root makes it.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        hand_over(descriptor, beside)
    finally:
        os.close(descriptor)


def hand_over(descriptor: int, beside: Path) -> None:
    """If root runs this, give an open, empty file to the owner of another file.

    Only an empty file with a single name: in another user's folder, a name may lead to any file of the system.
    """
    if os.geteuid() != 0:
        return
    owner = (beside if beside.exists() else beside.parent).stat()
    made = os.fstat(descriptor)
    if made.st_uid != owner.st_uid and stat.S_ISREG(made.st_mode) and made.st_nlink == 1 and not made.st_size:
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def take_lock(path: Path, *, beside: Path, wait: bool = False) -> int | None:
    """Given the path of a lock file, return a descriptor that holds its lock, or None if another has it.

    Args:
        path: The file; made if it is missing, and never deleted.
        beside: The file or folder whose owner it gets if root makes it; for a missing file its folder's owner.
        wait: Wait for the lock.

    Raises:
        StateUnavailable: The file cannot be made, opened or locked.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            hand_over(descriptor, beside)
            fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError:
            os.close(descriptor)
            raise
    except OSError as error:
        raise StateUnavailable(
            f"The lock file {path} cannot be used: {error.strerror}. Nothing was written.", hint=_what_to_do(path)
        ) from None
    return descriptor


def _what_to_do(path: Path) -> str:
    with suppress(OSError, KeyError):
        owner = path.lstat().st_uid
        if owner != os.geteuid():
            return (
                f"The file belongs to {getpwuid(owner).pw_name}, who ran a command of syncd here. "
                f"Delete it while nothing of syncd runs, or: chown {getpwuid(os.geteuid()).pw_name} {path}"
            )
    return "Give the user of syncd write access to the folder of the state database."
