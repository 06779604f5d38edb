"""Whether the agreed state can be trusted: it belongs to this portal, and is as recent as what is noted outside it.

A portal that is renamed keeps its bindings, so its agreed state goes on. Three things show that it is the same one: its
old address redirects to the new one, its lasting id (`member_id`, known of applications only) is the same
(portal.md 8.4, 14), or, where a person says so, its bindings are the agreed ones.

A state database that was restored from a backup knows less of a link than was noted outside it. So does an agreed
state that is taken up again after its ends were synced under another link name, or with another state database.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import structlog

from syncd.core import guards
from syncd.core.model import Counts, Owner
from syncd.core.ports import HighWaterMark
from syncd.core.records import GuardHit, KnownRun, LinkRow, RunRow
from syncd.core.store import Store
from syncd.engine.link import HeldLease, Link
from syncd.obs.clock import utc_stamp

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
    # What was noted of the ends holds for them under their new fingerprint, too.
    known = await link.high_water.read_ends(lease.row.fingerprint)
    if known is not None and await link.high_water.read_ends(link.fingerprint) is None:
        await link.high_water.write_ends(link.fingerprint, known)
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


class OlderState(NamedTuple):
    """The refusal of an agreed state that is older than what was noted outside it, and why it is, as a phrase."""

    hit: GuardHit
    why: str


async def older_state(store: Store, marks: HighWaterMark, row: LinkRow, *, current: int) -> OlderState | None:
    """Return the refusal of an agreed state that is older than what was noted outside it; None if it is not.

    Args:
        store: The state database.
        marks: What was noted outside it.
        row: The link's current generation.
        current: The run that asks, or 0. A restored state counts its runs up anew: a run with the number of the one
            that was noted is not that one.
    """
    of_link, of_ends = await marks.read(row.name), await marks.read_ends(row.fingerprint)
    if of_link is None and of_ends is None:
        return None
    state = await store.identity()
    hits = guards.state_older(of_link, state, _of_link(row, await _noted_run(store, of_link, current)))
    if hits:
        return OlderState(hits[0], guards.sentence(hits[0], Counts()))
    if of_ends is None or of_ends._replace(where="") == of_link:
        return None
    run = await _noted_run(store, of_ends, current)
    hits = guards.state_older(of_ends, state, _of_link(row, run))
    if not hits or _begun_since(of_ends, row) or not await store.agreed_count(row.id):
        return None
    if of_ends.state == state and of_ends.link == row.name:
        return OlderState(hits[0], guards.sentence(hits[0], Counts()))
    is_here = of_ends.state == state and run is not None and run.link == of_ends.link
    return OlderState(hits[0], _taken_up_again(of_ends, row, is_here=is_here))


async def _noted_run(store: Store, known: KnownRun | None, current: int) -> RunRow | None:
    """Return the run that has the number of a noted one, unless that is the current run."""
    return await store.run(known.run) if known is not None and known.run != current else None


def _of_link(row: LinkRow, run: RunRow | None) -> RunRow | None:
    return run if run is not None and run.link == row.name else None


def _begun_since(known: KnownRun, row: LinkRow) -> bool:
    """Return whether all that a link has agreed on is from after a noted run, by the clocks: it cannot be older."""
    return known.finished_at is not None and known.finished_at < row.created_at


def _taken_up_again(known: KnownRun, row: LinkRow, *, is_here: bool) -> str:
    """Return why an agreed state is older than a run on the same ends; `is_here`: that run is in its state database."""
    who, older = f"link {known.link}", f"the agreed state of link {row.name}"
    if not is_here:
        who, older = f"{who} with the state database {known.where}", "the agreed state in this one"
    when = f"run {known.run}, at {utc_stamp(known.started_at)}"
    return f"{who} synced the same portal and table last ({when}), and {older} is older"


@dataclass(slots=True)
class StateAge:
    """The agreed state of one run's link, held against what was noted outside the state database.

    Args:
        link: The link.
        lease: Its lease.
        row: The run.
        is_older: The state knows less than was noted, and no person has approved of that.
        why: Why it is older, as a phrase.
        noted: This run is noted outside: it has changed the state, or is about to.
    """

    link: Link
    lease: HeldLease
    row: RunRow
    is_older: bool = False
    why: str = ""
    noted: bool = False

    async def check(self) -> list[GuardHit]:
        """Return the guard of an agreed state that is older than what was noted outside the state database."""
        if self.noted:
            return []
        older = await older_state(self.link.store, self.link.high_water, self.lease.row, current=self.row.id)
        self.is_older = older is not None
        if older is None:
            return []
        self.why = older.why
        return [older.hit]

    async def note(self) -> None:
        """Note outside the state database that this run changes it."""
        state = await self.link.store.identity()
        await self._write(KnownRun(state, self.row.id, self.row.started_at, self.row.finished_at, self.link.name))
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
            await self._write(None)
            self.is_older = False

    async def _write(self, known: KnownRun | None) -> None:
        await self.link.high_water.write(self.link.name, known)
        await self.link.high_water.write_ends(self.link.fingerprint, known)
