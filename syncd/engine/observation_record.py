"""Recording what was read, before anything is written: the CRM as listed, what both sides agree on, the holds."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import structlog

from syncd.core.model import Change, Hold
from syncd.core.records import BindingUpdate, StoredHold
from syncd.engine.link import HeldLease, Link
from syncd.engine.observe import Observation
from syncd.engine.plan_draft import PlanDraft
from syncd.engine.state_check import StateAge
from syncd.engine.verify import hold_if_present

log = structlog.get_logger("syncd.engine")

CONFIRM = 500
"""Orders that are read at a time to confirm that both sides still agree on them."""


async def record_observation(
    link: Link, lease: HeldLease, state_age: StateAge, seen: Observation, draft: PlanDraft
) -> bool:
    """Keep what was read: the CRM as listed, what both sides agree on, and the holds. Return whether any of it is new.

    Args:
        link: The link.
        lease: Its lease.
        state_age: Notes the run before the state changes.
        seen: The observation.
        draft: The plan that was made of it, with the holds to open.
    """
    run = state_age.row.id
    new = bool(len(seen.observed) or len(seen.agreements))
    for chunk in seen.observed.chunks():
        await link.store.observed(await lease.prove(), chunk)
    moved: set[int] = set()
    for pairs in seen.agreements.chunks():
        kept = await _confirmed(link, lease, pairs, draft)
        await state_age.note_once()
        await link.store.agree(await lease.prove(), run, kept)
        moved.update({change.order_id for change, _ in pairs}.difference(change.order_id for change, _ in kept))
    opened = []
    for order, hold in draft.holds.items():
        before = seen.open_holds.get(order)
        if before is None or before.decision or _is_another(hold, before.hold):
            opened.append(StoredHold(hold, sticky=order in draft.sticky))
        elif before.hold.detail != hold.detail:
            opened.append(replace(before, hold=hold))
    for one in opened:
        hold = one.hold
        log.warning("order held", order=hold.order_id, kind=hold.kind.value, detail=hold.detail)
    released = _released(seen, draft, moved)
    for order in released:
        log.info("hold released", order=order, reason="facts changed")
    if opened or released:
        await link.store.set_holds(await lease.prove(), run, opened=opened, released=released, now=link.clock.now())
    return new or bool(opened or released)


def _is_another(hold: Hold, before: Hold) -> bool:
    """Given an order's hold and the one that is open, return whether it has another reason, or shows something else."""
    return hold.kind is not before.kind or hold.facts != before.facts


def _released(seen: Observation, draft: PlanDraft, moved: Collection[int]) -> list[int]:
    """Return the orders whose holds are over.

    What was not agreed after all (`moved`) ends no hold: an uncertain order would be taken for one that never was.
    """
    return [order for order in seen.released if order not in draft.holds and order not in moved]


async def _confirmed(
    link: Link, lease: HeldLease, pairs: Sequence[tuple[Change, BindingUpdate]], draft: PlanDraft
) -> list[tuple[Change, BindingUpdate]]:
    """Leave out orders that have moved since they were read.

    The table was read before the portal; an order is agreed only if the table still says so after the listing, so
    that there was a moment when both sides had the value. One about which nothing is to be agreed any more, since it
    seems unbound on both sides or is let go, is asked for by id.
    """
    kept: list[tuple[Change, BindingUpdate]] = []
    for start in range(0, len(pairs), CONFIRM):
        part = pairs[start : start + CONFIRM]
        orders = [change.order_id for change, _ in part]
        if link.order_keys is not None:
            checked = await link.order_keys.check(orders)
            part = [one for one in part if one[0].order_id not in {*checked.moved, *checked.shared}]
        there = await link.table.read(orders)
        gone = [change.order_id for change, _ in part if change.agreed_after is None]
        bound = await lease.keep_during(link.portal.read(gone))
        for change, update in part:
            value = there.get(change.order_id)
            absent = change.facts.table is None
            if change.agreed_after is None and bound.get(change.order_id) != change.facts.crm:
                continue
            if absent and value is not None and hold_if_present(draft, change, value):
                continue
            if (value.owner if value is not None else None) == change.facts.table:
                kept.append((change, update))
    return kept
