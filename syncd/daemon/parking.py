"""Parking: a link whose passes cannot come to anything rests until a person or a changed fact decides.

A link is parked when a guard refused its plan, when the portal or a database refuses the credentials or a right, and
when the vendor blocked the webhook. The reason is kept in the state database, so that every daemon rests, over
restarts too. What ends it: a trigger, SIGUSR1, an applied plan, a decided hold, a rebase, a changed configuration or
credential, the start of a daemon; or a look, which is made now and then (`looks`), finds nothing wrong any more.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from syncd.core.records import LinkRow, RunRow
from syncd.daemon.desk import Desk
from syncd.daemon.health import Parking, parked_as

log = structlog.get_logger("syncd.daemon")


class ParkingPlace:
    """Where one link is parked.

    Args:
        name: The link.
        desk: What the daemon works with.
    """

    def __init__(self, name: str, desk: Desk) -> None:
        self._name = name
        self._desk = desk
        self._decided: frozenset[int] = frozenset()

    async def facts_changed(self, link: LinkRow, runs: Sequence[RunRow], last: RunRow | None) -> bool:
        """Given a parked link and its newest runs, return whether somebody did something about it since.

        It looks at the state database only: neither side is asked.
        """
        since = last.id if last is not None else 0
        if any(row.id > since and row.kind in {"apply", "rebase"} and row.state != "failed" for row in runs):
            return True
        if parked_as(link.parked) is not Parking.REFUSED:
            return False
        return not await self._decisions(link) <= self._decided

    async def keep(self, parking: Parking | None, detail: str) -> None:
        """Record that the link is parked, or with None that it no longer is.

        Raises:
            LeaseHeld: Another process works on the link; what it finds will be recorded instead.
            StateUnavailable: The state database is out of reach.
        """
        link = await self._desk.store.find_link(self._name)
        if link is None:
            return
        if parking is Parking.REFUSED:
            self._decided = await self._decisions(link)
        reason = f"{parking}: {detail}" if parking is not None else ""
        if reason == link.parked:
            return
        async with self._desk.briefly(link) as lease:
            await self._desk.store.set_parked(lease, reason)
        if not reason:
            log.info("link unparked", was=link.parked)
        elif not link.parked or parked_as(link.parked) is not parking:
            log.warning("link parked", reason=reason)

    async def _decisions(self, link: LinkRow) -> frozenset[int]:
        return frozenset(one.hold.order_id for one in await self._desk.store.holds(link.id) if one.decision)
