"""What is recorded of one order, and why it is as it is now. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from syncd.core.model import Action, MaybeOwner, Outcome, Owner
from syncd.core.records import NAMELESS, BindingRow, Decision, PortalNames, StoredChange, StoredHold
from syncd.engine import formatting


class OrderHistory(NamedTuple):
    """What is recorded of one order.

    Args:
        link: The link.
        order_id: The order.
        changes: Its changes and agreements, oldest first.
        holds: Its holds, oldest first, each with the time it was released (None: open).
        binding: What is known of it today, if anything.
        decisions: What people decided about it, oldest first.
        key: Its key, where the table holds keys of the shop's own.
    """

    link: str
    order_id: int
    changes: Sequence[StoredChange]
    holds: Sequence[tuple[StoredHold, float | None]]
    binding: BindingRow | None
    decisions: Sequence[Decision] = ()
    key: str = ""


def explain(story: OrderHistory, now: float, names: PortalNames = NAMELESS) -> Iterator[str]:
    """Given what is recorded of an order, and what the portal calls owners, yield sentences on why it is as it is."""
    agreed, listed = agreed_owner(story.binding), listed_owner(story.binding)
    held = [stored for stored, released in story.holds if released is None]
    if held:
        hold = held[-1].hold
        yield f"Held for {formatting.span(now - hold.since)} ({hold.kind.value}): {hold.detail}"
        if held[-1].decision:
            yield f"Decided: {formatting.decision(held[-1].decision)}; the next pass carries that out."
        else:
            yield f"Now: {formatting.says(hold.facts, names)}."
        return
    last = next((one for one in reversed(story.changes) if _moved_agreement(one)), None)
    if last is None:
        if agreed is not None:
            yield f"Both sides say {formatting.titled(agreed, names)}."
        elif listed is not None:
            yield f"The CRM says {formatting.titled(listed, names)}; nothing is agreed yet."
        elif not story.changes:
            yield "syncd does not know this order: it is bound on neither side, or outside the link's scope."
        return
    how = "both sides said so already" if last.change.action is Action.AGREE else formatting.REASONS[last.change.reason]
    state = f"bound to {formatting.titled(agreed, names)}" if agreed is not None else "unbound"
    yield f"It has been {state} on both sides since run {last.run}, {formatting.ago(last.at, now)}: {how}."
    if listed != agreed:
        yield f"The CRM has since been seen with {formatting.titled(listed, names)}; the next pass looks at that."


def _moved_agreement(one: StoredChange) -> bool:
    return one.outcome in {Outcome.APPLIED, Outcome.ALREADY} or one.change.action is Action.AGREE


def agreed_owner(row: BindingRow | None) -> MaybeOwner:
    """Given an order's row in the state database, return the owner both sides agreed on last."""
    return _owner(row.agreed_type, row.agreed_id) if row is not None else None


def listed_owner(row: BindingRow | None) -> MaybeOwner:
    """Given an order's row in the state database, return the owner it had in the CRM's last complete listing."""
    return _owner(row.crm_type, row.crm_id) if row is not None else None


def _owner(owner_type_id: int | None, owner_id: int | None) -> MaybeOwner:
    return None if owner_type_id is None or owner_id is None else Owner(owner_type_id, owner_id)
