"""The portal's request limit: requests wait here instead of being refused there.

The portal counts requests of one source address in a leaky bucket. Each request adds 1, a fixed number drains a second,
and a request that would overflow it is refused with 503 (portal.md 9.1). This bucket counts requests as they are sent,
for all links of the process, and through a small locked file for all processes of this user on this host. Processes
also take turns with such a file when they refresh a token.

No file may stop a run: if one cannot be made, read or locked, the process works without it.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import math
import os
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple, TypeAlias

from syncd.config.model import PortalPlan
from syncd.core.ports import Clock

_TRIES = 20
_PAUSE = 0.01


class Bucket(NamedTuple):
    """How full the bucket was, and when (monotonic seconds of this host)."""

    level: float
    at: float


def default_directory() -> Path:
    """Return the directory that this user's processes share: $XDG_RUNTIME_DIR/syncd, or their own below /tmp."""
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
        """Lock the file. Return False if another process keeps the lock, or the file cannot be made.

        Args:
            clock: For the pauses between tries.
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
        """Release the lock."""
        if self._file is not None:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file; it is opened again when it is needed."""
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
        """Return the bucket in the file; None if the file holds none that can be read."""
        try:
            level, at = json.loads(self._read())
            bucket = Bucket(float(level), float(at))
        except (OSError, ValueError, TypeError):
            return None
        return bucket if math.isfinite(bucket.level) and math.isfinite(bucket.at) else None

    def store(self, bucket: Bucket) -> None:
        """Write the bucket. If the disk is full, the process continues without sharing its bucket."""
        try:
            self._write(json.dumps([round(bucket.level, 6), bucket.at]).encode())
        except OSError:
            self._usable = False


# ------------------------------------------------------------------ the limiter


class RateLimits(NamedTuple):
    """A bucket's size in requests, and how many drain a second."""

    burst: float
    rate: float


_Step: TypeAlias = Callable[[Bucket, RateLimits], tuple[Bucket, float]]
_LARGEST = 250.0
"""No portal's bucket is larger."""
_LIMITS = {PortalPlan.STANDARD: RateLimits(50, 2), PortalPlan.ENTERPRISE: RateLimits(250, 5)}


def limits_of(plan: PortalPlan, share: float) -> RateLimits | None:
    """Given the portal's plan and the part of its limit to use, return the limits; None on a box, which has none."""
    whole = _LIMITS.get(plan)
    return None if whole is None else RateLimits(max(1.0, whole.burst * share), whole.rate * share)


class Limiter:
    """One bucket for one portal host.

    Args:
        clock: Time; its monotonic seconds are the same for all processes of the host.
        limits: The bucket; None limits nothing.
        shared: The file that shares it between processes; None keeps it to this one.
    """

    def __init__(self, clock: Clock, limits: RateLimits | None, shared: RateFile | None = None) -> None:
        self._clock = clock
        self._limits = limits
        self._shared = shared
        self._bucket = Bucket(0.0, clock.monotonic())
        self._turn = asyncio.Lock()

    def narrow(self, limits: RateLimits | None) -> None:
        """Keep to the smaller of the present limits and those of another link of this host."""
        if limits is not None:
            own = self._limits or limits
            self._limits = RateLimits(min(own.burst, limits.burst), min(own.rate, limits.rate))

    def free(self) -> float:
        """Return how many requests could be sent at once now; infinite without limits."""
        if self._limits is None:
            return float("inf")
        return max(0.0, self._limits.burst - self._now(self._bucket).level)

    async def take(self, sleep: Callable[[float], Awaitable[None]] | None = None) -> float:
        """Wait for the right to send one request, in order of asking.

        Args:
            sleep: How to wait, for a caller that reports long waits.

        Returns:
            The seconds waited.
        """
        if self._limits is None:
            return 0.0
        began = self._clock.monotonic()
        async with self._turn:
            while True:
                wait = await self._change(self._add)
                if wait <= 0:
                    break
                await (sleep or self._clock.sleep)(wait)
        return self._clock.monotonic() - began

    async def refused(self) -> None:
        """Note that the portal answered 503: its bucket is full, perhaps with others' requests, so ours is too."""
        if self._limits is not None:
            await self._change(self._fill)

    def close(self) -> None:
        """Close the shared file."""
        if self._shared is not None:
            self._shared.close()

    def _add(self, bucket: Bucket, limits: RateLimits) -> tuple[Bucket, float]:
        """Add one request if there is room; otherwise return the seconds until there is."""
        over = bucket.level + 1 - limits.burst
        if over > 1e-9:
            return bucket, max(over / limits.rate, 0.001)
        return Bucket(bucket.level + 1, bucket.at), 0.0

    def _fill(self, bucket: Bucket, limits: RateLimits) -> tuple[Bucket, float]:
        return Bucket(max(bucket.level, limits.burst), bucket.at), 0.0

    def _now(self, bucket: Bucket) -> Bucket:
        """Given a bucket, return it as it is now. One with a later time (the host was restarted) keeps its level."""
        assert self._limits is not None
        now = self._clock.monotonic()
        drained = max(0.0, now - bucket.at) * self._limits.rate
        # The cap keeps a spoilt file from stopping this process. It is not our own burst: another process may have a
        # larger share.
        return Bucket(min(max(0.0, bucket.level - drained), _LARGEST), now)

    async def _change(self, step: _Step) -> float:
        assert self._limits is not None
        bucket = self._bucket
        if self._shared is not None and await self._shared.lock(self._clock):
            try:
                # The file has what other processes sent; without it, this process's own count is used.
                bucket = self._shared.load() or bucket
                self._bucket, wait = step(self._now(bucket), self._limits)
                self._shared.store(self._bucket)
            finally:
                self._shared.unlock()
            return wait
        self._bucket, wait = step(self._now(bucket), self._limits)
        return wait
