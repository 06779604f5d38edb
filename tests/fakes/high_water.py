"""The high-water mark in memory."""

from __future__ import annotations

from syncd.core.records import KnownRun


class MemoryMark:
    """See `syncd.core.ports.HighWaterMark`. One object is what one host knows."""

    def __init__(self) -> None:
        self.known: dict[str, KnownRun] = {}

    async def read(self, link: str) -> KnownRun | None:
        return self.known.get(link)

    async def write(self, link: str, known: KnownRun | None) -> None:
        self.known.pop(link, None)
        if known is not None:
            self.known[link] = known
