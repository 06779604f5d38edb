"""Whether the agreed state can be trusted: it belongs to this portal, and is as recent as what is noted outside it.

A portal that is renamed keeps its bindings, so its agreed state goes on. Three things show that it is the same one: its
old address redirects to the new one, its lasting id (`member_id`, known of applications only) is the same
(portal.md 8.4, 14), or, where a person says so, its bindings are the agreed ones.

A state database that was restored from a backup knows less of a link than was noted outside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import structlog

from syncd.core import guards
from syncd.core.model import Owner
from syncd.core.records import GuardHit, KnownRun, RunRow
from syncd.engine.link import HeldLease, Link

log = structlog.get_logger("syncd.engine")

MOST_PERCENT: Final = 10
"""Of the agreed bindings, so many may be gone or different: people went on working since the last pass."""

MOST_OF_FEW: Final = 2
"""As many may be in any case: with a handful of bindings, percentages say nothing."""

_SEGMENT: Final = 5000


class Comparison(NamedTuple):
    """How the bindings at the new address compare with the agreed ones."""

    agreed: int
    different: int
    missing: int

    @property
    def is_alike(self) -> bool:
        """Whether it looks like the same portal."""
        most = max(MOST_OF_FEW, self.agreed * MOST_PERCENT / 100)
        return self.agreed > 0 and self.different + self.missing <= min(most, self.agreed - 1)


async def is_known_portal(link: Link, lease: HeldLease) -> bool:
    """Given a link whose ends are as they were, return whether the portal at that address is the known one.

    What was not known of it yet is kept for later.
    """
    row = lease.row
    if not link.portal_address:
        return True
    member_id = await link.portal.member_id()
    if member_id and row.member_id and member_id != row.member_id:
        return False
    if (row.portal, row.member_id) != (link.portal_address, member_id or row.member_id):
        await keep(link, lease, member_id or row.member_id)
    return True


async def was_renamed(link: Link, lease: HeldLease) -> bool:
    """Given a link whose portal has another address now, return whether it proves by itself to be the same portal.

    If it does, its agreed state is the new address's from now on.
    """
    row = lease.row
    if not row.portal or list(link.changed_ends(row.fingerprint)) != ["portal"]:
        return False
    member_id = await link.portal.member_id()
    if member_id and row.member_id:
        is_same = member_id == row.member_id
    else:
        is_same = await link.portal.is_target_of(row.portal)
    if is_same:
        log.warning("portal renamed", before=row.portal, after=link.portal_address)
        await keep(link, lease, member_id or row.member_id)
    return is_same


async def keep(link: Link, lease: HeldLease, member_id: str) -> None:
    """Note that the agreed state of the link is about the portal at its present address."""
    proved = await lease.prove()
    lease.row = await link.store.keep_portal(proved, link.fingerprint, link.portal_address, member_id)


async def compare(link: Link, lease: HeldLease) -> Comparison:
    """List the portal, and compare its bindings with the agreed ones.

    Raises:
        IncompleteListing, UnavailableError, AuthError: The portal cannot be listed.
    """
    agreed = different = missing = after = 0

    async def look(there: dict[int, Owner | None], upto: int | None) -> None:
        nonlocal agreed, different, missing
        for row in await link.store.bindings(lease.row.id, after, upto):
            if row.agreed_type is None or row.agreed_id is None:
                continue
            agreed += 1
            if row.order_id not in there:
                missing += 1
            elif there[row.order_id] != (row.agreed_type, row.agreed_id):
                different += 1

    pending: dict[int, Owner | None] = {}
    async for listed in lease.iterate(link.portal.listing([], link.policy.scope, link.progress)):
        pending |= dict.fromkeys(listed.unreadable)
        pending |= {row.order_id: row.owner for row in listed.rows}
        if listed.rows and len(pending) >= _SEGMENT:
            upto = listed.rows[-1].order_id
            await look(pending, upto)
            pending, after = {}, upto
    await look(pending, None)
    return Comparison(agreed, different, missing)


@dataclass(slots=True)
class StateAge:
    """The state database of one run, held against the link's high-water mark.

    Args:
        link: The link.
        row: The run.
        is_older: The state knows less than was noted, and no person has approved of that.
        noted: This run is noted outside: it has changed the state, or is about to.
    """

    link: Link
    row: RunRow
    is_older: bool = False
    noted: bool = False

    async def check(self) -> list[GuardHit]:
        """Return the guard of a state database that knows less of this link than was noted outside it."""
        known = await self.link.high_water.read(self.link.name)
        if known is None or self.noted:
            return []
        # A restored state counts its runs up anew: a run with the number of the one that was noted is not that one.
        row = await self.link.store.run(known.run) if known.run != self.row.id else None
        ours = row if row is not None and row.link == self.link.name else None
        hits = guards.state_older(known, await self.link.store.identity(), ours)
        self.is_older = bool(hits)
        return hits

    async def note(self) -> None:
        """Note outside the state database that this run changes it."""
        state = await self.link.store.identity()
        await self.link.high_water.write(
            self.link.name, KnownRun(state, self.row.id, self.row.started_at, self.row.finished_at)
        )
        self.noted = True

    async def note_once(self) -> None:
        """Note the run before it changes the state, unless the state is older and no person has approved of that."""
        if not self.noted and not self.is_older:
            await self.note()

    async def trust(self) -> None:
        """Take an older state for good: the plan writes nothing, so both sides are as it knows them, or held.

        Not while absences wait: they are removes that the older state asks for.
        """
        if self.is_older and not self.row.counts.waiting:
            await self.link.high_water.write(self.link.name, None)
            self.is_older = False
