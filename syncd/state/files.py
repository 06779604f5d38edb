"""The files of an SQLite state database: the database and the files beside it, all with the same owner.

A command that root runs must not leave files that the service's user cannot open.
"""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import suppress
from pathlib import Path
from pwd import getpwuid

from syncd.errors import StateUnavailable


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
