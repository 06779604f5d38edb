"""Second looks before a plan is a plan: at what seems gone, at owners that may not exist, at orders that keep failing.

Each step takes changes out of the draft, and puts a hold or a waiting change in their place where that is due.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from syncd.core.model import RETRIED, Change, HoldKind, Outcome, Owner, Side, Unreadable
from syncd.core.order_keys import shared_key
from syncd.core.pacing import is_waiting
from syncd.core.plan import REVERTS_WITHIN, is_revert
from syncd.core.ports import TableValue
from syncd.core.records import Attempt, Written
from syncd.engine.formatting import count
from syncd.engine.link import HeldLease, Link
from syncd.engine.observe import Observation
from syncd.engine.plan_draft import DraftPart, Holds, PlanDraft
from syncd.spill import SpillList

FLAPPING_AFTER = 3
FLAPPING_WITHIN = 86400.0
"""The same write of an order, made this often within this many seconds, is not made again: somebody undoes it."""

LEFT_OUT = (
    "The portal's list leaves this order out, although the portal shows it when it is asked for by id. It is not taken "
    "for unbound; look at the order in Bitrix24, and at the rights of the webhook's owner."
)
"""What is said of an order that only the list does not know."""

PAGE = 100
"""Runs that are looked through at a time for the last one that wrote."""

PERHAPS_WRITTEN = frozenset({Outcome.APPLIED, Outcome.UNCERTAIN, Outcome.INTENDED})

OWN_EFFECT = (
    "The table no longer has a row for this order, and syncd has written to the table since it last read that row. A "
    "trigger or rule of the table may have removed the row, so the order was not unbound in the CRM."
)
"""What is said of an order that went missing after a write to a table that hides what a write does."""


async def verify(
    link: Link,
    lease: HeldLease,
    seen: Observation,
    changes: SpillList[Change],
    *,
    reverted: Mapping[Side, Collection[int]] | None = None,
    approved: bool = False,
) -> PlanDraft:
    """Given what was observed, return the plan's draft after all second looks.

    Args:
        link: The link.
        lease: Its lease.
        seen: The observation.
        changes: What is to be made: what the diff asks for, or a stored plan.
        reverted: The orders, by side, of which passes have lately put back what syncd had replaced: they are counted.
        approved: A person named this plan: pauses after failures and the check for flapping do not hinder it.
    """
    draft = PlanDraft(dict(seen.holds))
    draft.sticky |= {order for order, stored in seen.open_holds.items() if stored.sticky and order in draft.holds}
    decided = {order for order, stored in seen.open_holds.items() if stored.decision}
    # The pause of an order that was held for its refusals is over by now, or something about it has changed.
    retried = {order for order, stored in seen.open_holds.items() if stored.hold.kind in RETRIED}
    suspect = not approved and link.table.hides_effects
    attempts = {} if approved else await link.store.attempts(lease.row.id)
    for chunk in changes.chunks():
        await lease.prove()
        part = DraftPart(changes=chunk)
        await _stale_keys(link, part)
        await _removals_from_table(link, lease, part)
        await _removals_from_crm(link, part)
        if suspect:
            await _hold_own_effects(link, lease, part)
        await _additions_to_table(link, part)
        if link.verify_owners:
            await _owners(link, lease, part, seen)
        if not approved:
            _pauses(part, attempts, decided | retried, link.clock.now())
            await _compare_with_history(link, lease, part, decided, reverted or {})
        part.drop_held()
        draft.add(part)
    return draft


async def _stale_keys(link: Link, draft: DraftPart) -> None:
    """An order whose key has become another one's is left to the next run, which reads the table with what is known."""
    if link.order_keys is None:
        return
    field = link.order_keys.field
    checked = await link.order_keys.check([change.order_id for change in draft.changes])
    for change in draft.changes:
        if change.order_id in checked.moved:
            now = repr(checked.moved[change.order_id]) if checked.moved[change.order_id] else "none of its own"
            draft.skip(change, f"skipped: the order's {field} is now {now}; the next run looks again")
        elif change.order_id in checked.shared:
            why = shared_key(field, *checked.shared[change.order_id])
            draft.hold(change, why.kind, why.detail)
    draft.drop_held()


async def _removals_from_table(link: Link, lease: HeldLease, draft: DraftPart) -> None:
    """An order that seems unbound in the CRM is asked for by id before its row is removed.

    An undo may remove a row although the CRM shows the order: nothing seems gone there.
    """
    gone = [one for one in draft.changes if one.side is Side.TABLE and one.after is None and one.facts.crm is None]
    if not gone:
        return
    there = await lease.keep_during(link.portal.read([change.order_id for change in gone]))
    for change in gone:
        owner = there.get(change.order_id)
        if owner is None:
            continue
        if isinstance(owner, Unreadable):
            draft.hold(change, owner.kind, owner.detail)
            continue
        if owner == change.facts.agreed:
            left_out = Unreadable(HoldKind.INVALID_ROW, LEFT_OUT, Side.CRM)
            draft.hold(replace(change, facts=change.facts._replace(unreadable=left_out)), left_out.kind, LEFT_OUT)
            continue
        draft.skip(change, "skipped: bound again in the CRM since the listing; the next run looks again")


async def _removals_from_crm(link: Link, draft: DraftPart) -> None:
    """An order that seems gone from the table is asked for by id, without `where`, before it is unbound."""
    gone = [one for one in draft.changes if one.side is Side.CRM and one.after is None and one.facts.table is None]
    if not gone:
        return
    there = await link.table.read([change.order_id for change in gone])
    for change in gone:
        value = there.get(change.order_id)
        if value is None:
            continue
        if value.deleted:
            draft.stated.add(change.order_id)
        elif not hold_if_present(draft, change, value):
            draft.skip(change, "skipped: in the table again since the snapshot; the next run looks again")


async def _hold_own_effects(link: Link, lease: HeldLease, draft: DraftPart) -> None:
    """A row that is gone, where syncd wrote to the table since it was read, may be gone because of that write.

    Where a transaction can tell what a trigger does, such a write is rolled back. A view, a foreign table and a
    partitioned one with triggers cannot tell.
    """
    gone = [
        change
        for change in draft.changes
        if change.side is Side.CRM
        and change.rests_on_absence
        and change.facts.table is None
        and change.order_id not in draft.stated
    ]
    coverage = lease.row.coverage
    read_by = {change.order_id: 0 if coverage is None else coverage.run_of(change.order_id) for change in gone}
    wrote = await _last_run_that_wrote(link, min(read_by.values())) if gone else 0
    for change in gone:
        if wrote and wrote >= read_by[change.order_id]:
            draft.hold(change, HoldKind.UNCERTAIN, OWN_EFFECT, sticky=True)


async def _last_run_that_wrote(link: Link, since: int) -> int:
    """Return the newest run, not before run `since`, that has perhaps written to the table; 0 where none has."""
    before = None
    while rows := await link.store.runs(link.name, PAGE, before):
        for row in rows:
            if row.id < since:
                return 0
            if row.counts.table.total and any(
                side is Side.TABLE and outcome in PERHAPS_WRITTEN
                for side, _action, outcome in await link.store.tally(row.id)
            ):
                return row.id
        before = rows[-1].id
    return 0


async def _additions_to_table(link: Link, draft: DraftPart) -> None:
    """A row that the snapshot did not show may be there all the same: it is not written over, and not beside."""
    new = [one for one in draft.changes if one.side is Side.TABLE and one.before is None]
    if not new:
        return
    there = await link.table.read([change.order_id for change in new])
    for change in new:
        value = there.get(change.order_id)
        if value is not None:
            hold_if_present(draft, change, value)


def hold_if_present(draft: Holds, change: Change, value: TableValue) -> bool:
    """Given what the table says of an order that the snapshot did not show, hold it where that is no binding."""
    if value.unreadable is not None:
        draft.hold(change, value.unreadable.kind, value.unreadable.detail)
    elif not value.selected:
        detail = "The table has a row for this order that `where` does not select; that is not a removal."
        draft.hold(change, HoldKind.OUT_OF_SCOPE, detail)
    return change.order_id in draft.holds


async def _owners(link: Link, lease: HeldLease, draft: DraftPart, seen: Observation) -> None:
    """The portal binds an order to anything, so a typing error would never show: owners are asked for first."""
    binds = [change for change in draft.changes if change.side is Side.CRM and change.after is not None]
    wanted = {change.after for change in binds if change.after is not None}
    if not wanted:
        return
    witnesses: list[Owner] = [owner for owners in seen.witnesses.values() for owner in owners]
    missing = await lease.keep_during(link.portal.missing_owners(wanted, witnesses))
    for change in binds:
        if change.after in missing:
            assert change.after is not None
            draft.hold(
                change,
                HoldKind.OWNER_MISSING,
                f"The table names object {change.after.owner_id} of type {change.after.owner_type_id}, "
                "which does not exist in the CRM; the portal would bind the order all the same.",
            )


def _pauses(draft: DraftPart, attempts: Mapping[int, Attempt], free: set[int], now: float) -> None:
    """An order whose write was refused waits longer each time; the others go on."""
    for change in draft.changes:
        attempt = attempts.get(change.order_id)
        if attempt is not None and is_waiting(attempt.next_at, now) and change.order_id not in free:
            seconds = round(attempt.next_at - now)
            draft.skip(change, f"waits {seconds} s after {count(attempt.failures, 'failed attempt')}: {attempt.error}")


async def _compare_with_history(
    link: Link, lease: HeldLease, draft: DraftPart, decided: set[int], reverted: Mapping[Side, Collection[int]]
) -> None:
    """Compare what is to be written with what syncd wrote lately.

    An order whose write keeps being undone is held. What puts back what syncd replaced is counted, for a guard to
    judge: each order once in 24 hours. It counts if syncd replaced it within a week before the order was covered last:
    a restored side that nobody looks at stays refused, however long.
    """
    orders = sorted({change.order_id for change in draft.changes} - decided)
    now, coverage = link.clock.now(), lease.row.coverage
    since = {order: now if coverage is None else min(now, coverage.at_of(order)) for order in orders}
    earliest = min(since.values(), default=now) - REVERTS_WITHIN
    lately = await link.store.written(lease.row.id, orders, earliest) if orders else []
    by_order: dict[int, list[Written]] = {}
    for one in lately:
        if one.at >= since[one.order_id] - REVERTS_WITHIN:
            by_order.setdefault(one.order_id, []).append(one)
    for change in draft.changes:
        written = by_order.get(change.order_id, [])
        times = sum(
            (one.side, one.after) == (change.side, change.after)
            and one.at >= now - FLAPPING_WITHIN
            and not one.before_rebase  # each first sync may write the same, to other ends
            for one in written
        )
        if times >= FLAPPING_AFTER:
            side = "the CRM" if change.side is Side.CRM else "the table"
            draft.hold(
                change,
                HoldKind.FLAPPING,
                f"The same value was written to {side} {times} times within a day, and each time somebody undid it.",
                sticky=True,
            )
        elif change.side and is_revert(change, written) and change.order_id not in reverted.get(change.side, ()):
            draft.reverts.append(change)
