"""What is recorded of one order, and why it is as it is now. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from syncd.core.model import Action, MaybeOwner, Outcome, Owner
from syncd.core.records import BindingRow, StoredChange, StoredHold
from syncd.engine import words


class Story(NamedTuple):
    """What is recorded of one order.

    Args:
        link: The link.
        order_id: The order.
        changes: Its changes and agreements, oldest first.
        holds: Its holds, oldest first, each with the time it was released (None: open).
        binding: What is known of it today, if anything.
    """

    link: str
    order_id: int
    changes: Sequence[StoredChange]
    holds: Sequence[tuple[StoredHold, float | None]]
    binding: BindingRow | None


def why(story: Story, now: float) -> Iterator[str]:
    """Given what is recorded of an order, yield sentences that say why it is as it is now."""
    agreed, listed = agreed_owner(story.binding), listed_owner(story.binding)
    held = [stored for stored, released in story.holds if released is None]
    if held:
        hold = held[-1].hold
        yield f"It is held since {words.ago(hold.since, now)} ({hold.kind.value}): {hold.detail}"
        if held[-1].decision:
            yield f"It was decided ({held[-1].decision}); the next pass carries that out."
        else:
            yield f"Now: {words.says(hold.facts)}."
        return
    last = next((one for one in reversed(story.changes) if _moved_agreement(one)), None)
    if last is None:
        if agreed is not None:
            yield f"Both sides say {words.owner(agreed)}."
        elif listed is not None:
            yield f"The CRM says {words.owner(listed)}; nothing is agreed yet."
        elif not story.changes:
            yield "syncd does not know this order: it is bound on neither side, or outside the link's scope."
        return
    how = "both sides said so already" if last.change.action is Action.AGREE else words.REASONS[last.change.reason]
    state = f"bound to {words.owner(agreed)}" if agreed is not None else "unbound"
    yield f"It is {state} on both sides since run {last.run}, {words.ago(last.at, now)}: {how}."
    if listed != agreed:
        yield f"The CRM has since been seen with {words.owner(listed)}; the next pass looks at that."


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
