"""What other processes, on whatever host, asked of the daemons through the state database."""

from __future__ import annotations

from collections.abc import Callable, Collection

import structlog

from syncd.core.ports import Clock
from syncd.core.store import Store
from syncd.daemon.verdict import Ask
from syncd.errors import SyncdError

log = structlog.get_logger("syncd.daemon")

EVERY = 1.0
"""Seconds between two looks."""
LONGEST = 30.0
"""Seconds between two looks at a state database that is out of reach."""


class Inbox:
    """Looks for requests and hands them on, each once.

    Every daemon sees every request, until a pass that began with it there has come to its end (`passes`). So whichever
    daemon dies, another one, or the same one started again, serves it.

    Args:
        store: The state database.
        clock: Time and chance.
        links: The links of this daemon.
        ask: Told a link and who asks.
        back: Told that the state database can be reached again.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        links: Callable[[], Collection[str]],
        ask: Callable[[str, Ask], None],
        back: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._links = links
        self._ask = ask
        self._back = back
        self._handed_on: set[int] = set()
        self.unreachable = ""
        """Why the state database could not be reached at the last look; empty if it could."""

    async def run(self) -> None:
        """Look, for ever."""
        pause = EVERY
        while True:
            try:
                await self.look()
            except SyncdError as error:
                if not self.unreachable:
                    log.warning("state database out of reach", error=error.message)
                self.unreachable = error.message
                pause = min(LONGEST, 2 * pause)
            else:
                if self.unreachable:
                    log.info("state database back")
                    self._back()
                self.unreachable = ""
                pause = EVERY
            await self._clock.sleep(pause * (0.9 + 0.2 * self._clock.random()))

    async def look(self) -> None:
        """Hand on what has been asked since the last look."""
        found = await self._store.open_requests(list(self._links()))
        for request in found:
            if request.id not in self._handed_on:
                log.info("pass asked for", link=request.link, by=request.by)
                self._ask(request.link, Ask.TRIGGER)
        self._handed_on = {request.id for request in found}
