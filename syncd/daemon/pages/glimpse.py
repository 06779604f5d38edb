"""How the links are now, looked at once for all who watch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from syncd.daemon.status import LinkStatus, Process
from syncd.state.statistics import Point, Statistics
from syncd.wiring import Workplace

FRESH: Final = 2.0
"""Seconds for which one look serves everybody."""
SHARE: Final = 20.0
"""A look that took a second serves for twenty: watching may cost a twentieth of the state database's time, whatever
the number of links, holds and people."""
RECENT: Final = 30
"""How many runs of each link are shown as a strip."""


class Watched(Protocol):
    """What the status page asks of the daemon (`syncd.daemon.views.Views`)."""

    @property
    def workplace(self) -> Workplace:
        """The settings in force, the clock and the state database."""
        ...

    @property
    def process(self) -> Callable[[], Process]:
        """Returns what the daemon says of itself now."""
        ...

    async def links(self) -> list[LinkStatus]:
        """Return how each link is now."""
        ...


@dataclass(frozen=True, slots=True)
class Look:
    """The links at one moment.

    Args:
        at: When, in seconds since the epoch.
        process: The daemon itself.
        links: How each link of the configuration is, by name.
        recent: The newest runs of each, oldest first.
    """

    at: float
    process: Process
    links: Mapping[str, LinkStatus]
    recent: Mapping[str, Sequence[Point]]

    def at_work(self, link: str) -> bool:
        """Given a link's name, return whether anybody works on it."""
        return link in self.links and self.links[link].lease is not None


class Glimpse:
    """Looks, and remembers for a moment what was seen.

    Args:
        watched: The daemon.
        statistics: For the newest runs.
    """

    def __init__(self, watched: Watched, statistics: Statistics) -> None:
        self._watched = watched
        self._statistics = statistics
        self._clock = watched.workplace.clock
        self._look: Look | None = None
        self._good_until = 0.0
        self._taking: asyncio.Task[Look] | None = None

    async def look(self) -> Look:
        """Return how the links are, as of a moment ago at most.

        Raises:
            StateUnavailable: The state database is out of reach.
        """
        if self._look is not None and self._clock.monotonic() < self._good_until:
            return self._look
        if self._taking is None:
            self._taking = asyncio.create_task(self._take())
            self._taking.add_done_callback(self._taken)
        # Who loses patience leaves alone: the look goes on, and is there for whoever asks next.
        return await asyncio.shield(self._taking)

    def _taken(self, task: asyncio.Task[Look]) -> None:
        self._taking = None
        if not task.cancelled():
            task.exception()  # told to those who waited; where all have left, nobody is to complain

    async def _take(self) -> Look:
        began = self._clock.monotonic()
        links = {status.name: status for status in await self._watched.links()}
        recent = {name: await self._statistics.series(name, 0.0, RECENT) for name in links}
        self._look = Look(self._clock.now(), self._watched.process(), links, recent)
        ended = self._clock.monotonic()
        self._good_until = ended + max(FRESH, SHARE * (ended - began))
        return self._look
