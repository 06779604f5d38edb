"""After a crash: what became of the writes that were in the journal, but whose outcome was never recorded.

An intent whose target is in place is done. For all others the life of a request is waited for, from now on and whatever
the clocks say: they may have been set, and another host's may be wrong. An order that still shows its old owner then is
planned anew; anything else is held as `uncertain`. Writes of the mapping table are compare-and-set inside a database
transaction that died with its connection, so there is nothing to wait for.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from syncd.core.model import Hold, MaybeOwner, Outcome, Reason, Side
from syncd.core.records import BindingUpdate, ChangeOutcome, StoredChange, StoredHold
from syncd.engine import holding
from syncd.engine.link import Link, Tenure
from syncd.engine.sides import CrmWriter, SideWriter, TableWriter, Unlike

log = structlog.get_logger("syncd.engine")

CHUNK = 500

FOUND_IN_PLACE = "found in place after an interruption"
NOT_WRITTEN = "interrupted before it was written; planned anew"
"""What the audit says of a write whose outcome a crash had kept from it."""


async def recover(link: Link, held: Tenure, run: int) -> None:
    """Decide every open intent of the link, and close runs that a crash left open.

    Args:
        link: The link.
        held: Its lease.
        run: The run that recovers; holds it opens carry its number.

    Raises:
        UnavailableError, AuthError: A side cannot be read; the intents stay open.
    """
    intents = await link.store.open_intents(held.row.id)
    if intents:
        log.warning("recovering interrupted writes", intents=len(intents))
    healer = _Healer(link, held, run)
    for writer in (TableWriter(link.table), CrmWriter(link.portal)):
        mine = [intent for intent in intents if intent.change.side is writer.side]
        undecided = await healer.decide(writer, mine, final=not writer.reads_before)
        if undecided:
            await _outlive(link, held)
            await healer.decide(writer, undecided, final=True)
    for row in await link.store.runs(link.name, 20):
        if row.state == "running" and row.id != run:
            row.state, row.error, row.finished_at = "failed", "interrupted", link.clock.now()
            await link.store.finish_run(held.lease, row)


async def give_up(link: Link, held: Tenure, run: int) -> None:
    """Close every open intent of the link before a rebase, once no request that carried one can be alive any more.

    Their ends may not be there any more, so nothing is read; the ends to come begin with nothing of theirs under way.

    Args:
        link: The link.
        held: Its lease.
        run: The run that rebases.
    """
    intents = await link.store.open_intents(held.row.id)
    if any(intent.change.side is Side.CRM for intent in intents):
        await _outlive(link, held)
    outcomes = [ChangeOutcome(intent.id, Outcome.UNCERTAIN, "the link was rebased") for intent in intents]
    if outcomes:
        await link.store.record(held.lease, run, outcomes, now=link.clock.now())


async def _outlive(link: Link, held: Tenure) -> None:
    log.info("waiting until interrupted requests can no longer be alive", seconds=round(link.request_life, 1))
    link.progress("settle", 0, None)
    await held.wait(link.request_life)


class _Healer:
    """Finds out what became of intents.

    Args:
        link: The link.
        held: Its lease.
        run: The run that recovers.
    """

    def __init__(self, link: Link, held: Tenure, run: int) -> None:
        self._link = link
        self._held = held
        self._run = run
        self._strange: dict[int, MaybeOwner | Unlike] = {}
        """By intent: what stood there while its request might be alive, where that was neither the old nor the new."""

    async def decide(
        self, writer: SideWriter, intents: Sequence[StoredChange], *, final: bool
    ) -> Sequence[StoredChange]:
        """Record what can be told now; return the intents whose request may still be alive.

        Args:
            writer: The side.
            intents: The intents of that side.
            final: No request can be alive any more.
        """
        undecided: list[StoredChange] = []
        for start in range(0, len(intents), CHUNK):
            chunk = intents[start : start + CHUNK]
            await self._held.prove()
            there = await writer.read([intent.change.order_id for intent in chunk])
            outcomes: list[ChangeOutcome] = []
            holds: list[StoredHold] = []
            for intent in chunk:
                found = there[intent.change.order_id]
                if final or found == intent.change.after:
                    outcome, hold = self._told(intent, found)
                    outcomes.append(outcome)
                    holds += [] if hold is None else [StoredHold(hold, sticky=True, run=self._run)]
                    continue
                undecided.append(intent)
                if found != intent.change.before:
                    self._strange[intent.id] = found
            if outcomes:
                now = self._link.clock.now()
                await self._link.store.record(self._held.lease, self._run, outcomes, now=now, holds=holds)
        return undecided

    def _told(self, intent: StoredChange, found: MaybeOwner | Unlike) -> tuple[ChangeOutcome, Hold | None]:
        """Given an intent and what stands there now, return what became of it, and the hold it leaves."""
        change = intent.change
        if found == change.after:
            return self._arrived(intent, self._strange.get(intent.id, change.before))
        if found == change.before:
            return ChangeOutcome(intent.id, Outcome.SKIPPED, NOT_WRITTEN), None
        why = f"Run {intent.run} was interrupted while it wrote this order"
        hold = holding.uncertain(change, found, why=why, now=self._link.clock.now())
        return ChangeOutcome(intent.id, Outcome.UNCERTAIN, "interrupted, and something else stands there now"), hold

    def _arrived(self, intent: StoredChange, before: MaybeOwner | Unlike) -> tuple[ChangeOutcome, Hold | None]:
        """Given an intent whose target is in place, and what stood there before, return its outcome and its hold."""
        change, now = intent.change, self._link.clock.now()
        crm = change.after if change.side is Side.CRM else change.facts.crm
        # A decision may write both sides; until both are known to be written, the agreed state stays.
        both = change.reason in {Reason.RESOLVED_CRM, Reason.RESOLVED_TABLE}
        update = BindingUpdate(change.order_id, crm, change.facts.agreed if both else change.agreed_after)
        if before != change.before and not isinstance(before, Unlike):
            hold = holding.overwritten(change, before, run=intent.run, now=now, agreed=update.agreed)
            return ChangeOutcome(
                intent.id, Outcome.APPLIED, FOUND_IN_PLACE, before, found_known=True, update=update
            ), hold
        if change.hold_after is None:
            return ChangeOutcome(intent.id, Outcome.APPLIED, FOUND_IN_PLACE, update=update), None
        left = change.facts.on(change.side, change.after)
        hold = holding.undone(change, change.hold_after, left, run=intent.run, now=now)
        return ChangeOutcome(intent.id, Outcome.APPLIED, FOUND_IN_PLACE, update=update), hold
