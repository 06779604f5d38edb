"""The high-water mark in memory."""

from __future__ import annotations

from syncd.core.records import KnownRun


class MemoryMark:
    """See `syncd.core.ports.HighWaterMark`. One object is what one host knows.

    Args:
        where: The address of the state database, as the marks of ends name it.
    """

    def __init__(self, where: str = "memory") -> None:
        self.where = where
        self.known: dict[str, KnownRun] = {}
        self.ends: dict[str, KnownRun] = {}

    async def read(self, link: str) -> KnownRun | None:
        return self.known.get(link)

    async def read_ends(self, fingerprint: str) -> KnownRun | None:
        return self.ends.get(fingerprint)

    async def write(self, link: str, known: KnownRun | None) -> None:
        self.known.pop(link, None)
        if known is not None:
            self.known[link] = known

    async def write_ends(self, fingerprint: str, known: KnownRun | None) -> None:
        self.ends.pop(fingerprint, None)
        if known is not None:
            self.ends[fingerprint] = known if known.where else known._replace(where=self.where)

    def beside(self, where: str) -> MemoryMark:
        """Return the marks of another state database on this host: it has links of its own, and the same ends."""
        other = MemoryMark(where)
        other.ends = self.ends
        return other
