"""Second looks before a plan is a plan: at what seems gone, at owners that may not exist, at orders that keep failing.

Each step takes changes out of the draft, and puts a hold or a waiting change in their place where that is due.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from syncd.core.backoff import LONGEST_PAUSE
from syncd.core.model import Change, Facts, Hold, HoldKind, Owner, Side
from syncd.core.ports import TableValue
from syncd.engine.link import Link, Tenure
from syncd.engine.observe import Observation
from syncd.engine.words import count
from syncd.errors import IncompleteListing

FLAPPING_AFTER = 3
FLAPPING_WITHIN = 86400.0
"""The same write of an order, made this often within this many seconds, is not made again: somebody undoes it."""


@dataclass(slots=True)
class Draft:
    """The plan in the making.

    waiting are changes that are not made in this run, each with the reason; sticky are the orders among `holds` whose
    hold was made by an event rather than by the diff.
    """

    changes: list[Change]
    holds: dict[int, Hold]
    waiting: list[tuple[Change, str]] = field(default_factory=list)
    sticky: set[int] = field(default_factory=set)

    def wait(self, change: Change, why: str) -> None:
        """Leave a change, and its order, to a later run."""
        self.waiting.append((change, why))

    def settle(self) -> None:
        """Take out the changes of all orders that are held or wait: an order may have two, and they go together."""
        out = self.holds.keys() | {change.order_id for change, _ in self.waiting}
        self.changes = [change for change in self.changes if change.order_id not in out]

    def hold(self, change: Change, kind: HoldKind, detail: str, *, sticky: bool = False) -> None:
        """Put a hold in the place of a change."""
        self.holds[change.order_id] = Hold(change.order_id, kind, change.facts, detail)
        if sticky:
            self.sticky.add(change.order_id)


async def verify(link: Link, held: Tenure, seen: Observation, *, approved: bool = False) -> Draft:
    """Given what was observed, return the plan's draft after all second looks.

    Args:
        link: The link.
        held: Its lease.
        seen: The observation.
        approved: A person named this plan: pauses after failures and the check for flapping do not hinder it.
    """
    draft = Draft(list(seen.changes), dict(seen.holds))
    draft.sticky |= {order for order, stored in seen.open_holds.items() if stored.sticky and order in draft.holds}
    await _removals_from_table(link, draft)
    await _removals_from_crm(link, draft)
    await _additions_to_table(link, draft)
    if link.verify_owners:
        await _owners(link, draft, seen)
    if not approved:
        decided = {order for order, stored in seen.open_holds.items() if stored.decision}
        await _failures(link, held, draft, decided)
        await _flapping(link, held, draft, decided)
    draft.settle()
    return draft


async def _removals_from_table(link: Link, draft: Draft) -> None:
    """An order that seems unbound in the CRM is asked for by id before its row is removed.

    An undo may remove a row although the CRM shows the order: nothing seems gone there.
    """
    gone = [one for one in draft.changes if one.side is Side.TABLE and one.after is None and one.facts.crm is None]
    if not gone:
        return
    there = await link.portal.read([change.order_id for change in gone])
    for change in gone:
        owner = there.get(change.order_id)
        if owner is None:
            continue
        if owner == change.facts.agreed:
            raise IncompleteListing(
                f"The portal's listing left out order {change.order_id}, which is bound; nothing was written.",
                hint="Run again; if it happens every time, look at the webhook owner's rights.",
            )
        draft.wait(change, "skipped: bound again in the CRM since the listing; the next run looks again")


async def _removals_from_crm(link: Link, draft: Draft) -> None:
    """An order that seems gone from the table is asked for by id, without `where`, before it is unbound."""
    gone = [one for one in draft.changes if one.side is Side.CRM and one.after is None and one.facts.table is None]
    if not gone:
        return
    there = await link.table.read([change.order_id for change in gone])
    for change in gone:
        value = there.get(change.order_id)
        if value is not None and not unlike_absent(draft, change, value):
            draft.wait(change, "skipped: in the table again since the snapshot; the next run looks again")


async def _additions_to_table(link: Link, draft: Draft) -> None:
    """A row that the snapshot did not show may be there all the same: it is not written over, and not beside."""
    new = [one for one in draft.changes if one.side is Side.TABLE and one.before is None]
    if not new:
        return
    there = await link.table.read([change.order_id for change in new])
    for change in new:
        value = there.get(change.order_id)
        if value is not None:
            unlike_absent(draft, change, value)


def unlike_absent(draft: Draft, change: Change, value: TableValue) -> bool:
    """Given what the table says of an order that the snapshot did not show, hold it where that is no binding."""
    if value.unreadable is not None:
        draft.hold(change, value.unreadable.kind, value.unreadable.detail)
    elif not value.selected:
        detail = "The table has a row for this order that `where` does not select; that is not a removal."
        draft.hold(change, HoldKind.OUT_OF_SCOPE, detail)
    return change.order_id in draft.holds


async def _owners(link: Link, draft: Draft, seen: Observation) -> None:
    """The portal binds an order to anything, so a typing error would stay for ever: owners are asked for first."""
    binds = [change for change in draft.changes if change.side is Side.CRM and change.after is not None]
    wanted = {change.after for change in binds if change.after is not None}
    if not wanted:
        return
    witnesses: list[Owner] = [owner for owners in seen.witnesses.values() for owner in owners]
    missing = await link.portal.missing_owners(wanted, witnesses)
    for change in binds:
        if change.after in missing:
            assert change.after is not None
            draft.hold(
                change,
                HoldKind.OWNER_MISSING,
                f"The table names object {change.after.owner_id} of type {change.after.owner_type_id}, "
                "which does not exist in the CRM; the portal would bind the order all the same.",
            )


async def _failures(link: Link, held: Tenure, draft: Draft, decided: set[int]) -> None:
    """An order whose write was refused waits longer each time; the others go on."""
    attempts = await link.store.attempts(held.row.id)
    now = link.clock.now()
    for change in draft.changes:
        attempt = attempts.get(change.order_id)
        # A clock that was set back must not make the pause longer than it was meant to be.
        if attempt is not None and 0 < attempt.next_at - now <= LONGEST_PAUSE and change.order_id not in decided:
            seconds = round(attempt.next_at - now)
            draft.wait(change, f"waits {seconds} s after {count(attempt.failures, 'failed attempt')}: {attempt.error}")


async def _flapping(link: Link, held: Tenure, draft: Draft, decided: set[int]) -> None:
    """Somebody who undoes the same write again and again is not to be outlasted."""
    orders = sorted({change.order_id for change in draft.changes} - decided)
    if not orders:
        return
    repeats = await link.store.repeats(held.row.id, orders, link.clock.now() - FLAPPING_WITHIN)
    if not repeats:
        return
    for change in draft.changes:
        assert change.side is not None
        times = repeats.get((change.order_id, change.side, change.after), 0)
        if times >= FLAPPING_AFTER:
            side = "the CRM" if change.side is Side.CRM else "the table"
            draft.hold(
                change,
                HoldKind.FLAPPING,
                f"The same value was written to {side} {times} times within a day, and each time somebody undid it.",
                sticky=True,
            )


def moved_since(change: Change, facts: Facts | None) -> str:
    """Given a stored change and today's facts, return what is different, as a sentence; empty when nothing is."""
    now = facts or Facts(None, None, None)
    if now == change.facts:
        return ""
    differing = [
        f"{name} was {_text(then)}, is {_text(today)}"
        for name, then, today in (
            ("CRM", change.facts.crm, now.crm),
            ("table", change.facts.table, now.table),
            ("agreed", change.facts.agreed, now.agreed),
        )
        if then != today
    ]
    return "moved since the plan: " + "; ".join(differing or ["its rows in the table"])


def _text(owner: Owner | None) -> str:
    return "unbound" if owner is None else f"{owner.owner_type_id}:{owner.owner_id}"
