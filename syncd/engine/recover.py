"""After a crash: what became of the writes that were in the journal, but whose outcome was never recorded.

An intent whose target is in place is done. One whose order still shows the old owner is planned anew, once the request
that carried it can no longer be alive. Anything else is held as `uncertain`. Writes of the mapping table are
compare-and-set inside a database transaction that died with its connection, so there is nothing to wait for.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from syncd.core.model import Hold, HoldKind, MaybeOwner, Outcome, Reason, Side
from syncd.core.records import BindingUpdate, ChangeOutcome, StoredChange, StoredHold
from syncd.engine.link import Link, Tenure
from syncd.engine.sides import CrmWriter, SideWriter, TableWriter, Unlike

log = structlog.get_logger("syncd.engine")

CHUNK = 500

FOUND_IN_PLACE = "found in place after an interruption"
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
    for writer in (TableWriter(link.table), CrmWriter(link.portal)):
        mine = [intent for intent in intents if intent.change.side is writer.side]
        for start in range(0, len(mine), CHUNK):
            chunk = mine[start : start + CHUNK]
            undecided = await _decide(link, held, run, writer, chunk, final=not writer.reads_before)
            if undecided:
                alive_until = max(intent.alive_until for intent in undecided)
                seconds = min(alive_until - link.clock.now(), link.request_life)
                if seconds > 0:
                    log.info("waiting until interrupted requests can no longer be alive", seconds=round(seconds, 1))
                    link.progress("settle", 0, None)
                    await held.wait(seconds)
                await _decide(link, held, run, writer, undecided, final=True)
    for row in await link.store.runs(link.name, 20):
        if row.state == "running" and row.id != run:
            row.state, row.error, row.finished_at = "failed", "interrupted", link.clock.now()
            await link.store.finish_run(held.lease, row)


async def _decide(
    link: Link, held: Tenure, run: int, writer: SideWriter, intents: Sequence[StoredChange], *, final: bool
) -> list[StoredChange]:
    """Record what can be told now; return the intents whose request may still be alive."""
    await held.prove()
    there = await writer.read([intent.change.order_id for intent in intents])
    now = link.clock.now()
    outcomes: list[ChangeOutcome] = []
    holds: list[StoredHold] = []
    undecided: list[StoredChange] = []
    for intent in intents:
        change = intent.change
        found = there[change.order_id]
        if found == change.after:
            crm = change.after if change.side is Side.CRM else change.facts.crm
            # A decision may write both sides; until both are known to be written, the agreed state stays.
            both = change.reason in {Reason.RESOLVED_CRM, Reason.RESOLVED_TABLE}
            update = BindingUpdate(change.order_id, crm, change.facts.agreed if both else change.agreed_after)
            if change.hold_after is not None:
                holds.append(StoredHold(_undone(intent, now), sticky=True, run=run))
            outcomes.append(ChangeOutcome(intent.id, Outcome.APPLIED, FOUND_IN_PLACE, update=update))
        elif found != change.before:
            outcomes.append(
                ChangeOutcome(intent.id, Outcome.UNCERTAIN, "interrupted, and something else stands there now")
            )
            holds.append(StoredHold(_uncertain(intent, found, now), sticky=True, run=run))
        elif final or intent.alive_until <= now:
            outcomes.append(
                ChangeOutcome(intent.id, Outcome.SKIPPED, "interrupted before it was written; planned anew")
            )
        else:
            undecided.append(intent)
    if outcomes:
        await link.store.record(held.lease, run, outcomes, now=now, holds=holds)
    return undecided


def _undone(intent: StoredChange, now: float) -> Hold:
    """An undone order is held, or the next pass would do again what a person undid."""
    change = intent.change
    facts = change.facts._replace(agreed=change.agreed_after).on(change.side, change.after)
    assert change.hold_after is not None
    detail = f"Put back by run {intent.run}; decide, or change either side, or it stays as it is."
    return Hold(change.order_id, change.hold_after, facts, detail, since=now)


def _uncertain(intent: StoredChange, found: MaybeOwner | Unlike, now: float) -> Hold:
    change = intent.change
    facts = change.facts.on(change.side, None if isinstance(found, Unlike) else found)
    detail = (
        f"Run {intent.run} was interrupted while it wrote this order, which then showed neither the old nor the new "
        "owner: whether the write arrived cannot be told."
    )
    return Hold(change.order_id, HoldKind.UNCERTAIN, facts, detail, since=now, seen=facts)
