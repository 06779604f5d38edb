"""Small files under a lock that processes of one host share: the request bucket, and the turn to refresh a token.

Nothing here may stop a run: where a file cannot be made, read or locked, the process works without it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import tempfile
from pathlib import Path
from typing import NamedTuple

from syncd.core.ports import Clock

_TRIES = 20
_PAUSE = 0.01


class Bucket(NamedTuple):
    """How full the bucket was at a moment (monotonic seconds of this host)."""

    level: float
    at: float


def default_directory() -> Path:
    """Return where this user's processes meet: $XDG_RUNTIME_DIR/syncd, or a directory of the user's own below /tmp."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return Path(runtime) / "syncd" if runtime else Path(tempfile.gettempdir()) / f"syncd-{os.getuid()}"


class LockedFile:
    """A file that is locked while it is read and written; opened on first use, kept open.

    Args:
        directory: Made if absent, for this user only.
        name: What it is about; the file's name is a hash of it.
        suffix: The file's ending.
    """

    def __init__(self, directory: Path, name: str, suffix: str) -> None:
        self._directory = directory
        self._path = directory / (hashlib.sha256(name.encode()).hexdigest()[:16] + suffix)
        self._file: int | None = None
        self._usable = True

    async def lock(self, clock: Clock, *, patience: int = _TRIES) -> bool:
        """Lock the file. Return False where its holder keeps it, or the file cannot be made.

        Args:
            clock: To wait by.
            patience: How often to try, 10 ms apart.
        """
        if not self._usable:
            return False
        if self._file is None:
            self._file = self._open()
            self._usable = self._file is not None
        for attempt in range(patience):
            if self._file is None:
                break
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if attempt < patience - 1:
                    await clock.sleep(_PAUSE)
            else:
                return True
        return False

    def unlock(self) -> None:
        """Give the lock back."""
        if self._file is not None:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file; it is opened anew when it is needed."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _read(self) -> bytes:
        return b"" if self._file is None else os.pread(self._file, 200, 0)

    def _write(self, content: bytes) -> None:
        if self._file is not None:
            os.pwrite(self._file, content, 0)
            os.ftruncate(self._file, len(content))

    def _open(self) -> int | None:
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = self._directory.lstat()
            # Another user may have made this directory below /tmp.
            if status.st_uid != os.getuid() or self._directory.is_symlink():
                return None
            return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError:
            return None


class RateFile(LockedFile):
    """The request bucket of one portal host."""

    def __init__(self, directory: Path, host: str) -> None:
        super().__init__(directory, host, ".rate")

    def load(self) -> Bucket | None:
        """Return the bucket in the file; None where there is none that can be read."""
        try:
            level, at = json.loads(self._read())
            bucket = Bucket(float(level), float(at))
        except (OSError, ValueError, TypeError):
            return None
        return bucket if math.isfinite(bucket.level) and math.isfinite(bucket.at) else None

    def store(self, bucket: Bucket) -> None:
        """Write the bucket. Where the disk is full, the process shares it no more, and goes on."""
        try:
            self._write(json.dumps([round(bucket.level, 6), bucket.at]).encode())
        except OSError:
            self._usable = False
