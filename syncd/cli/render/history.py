"""Everything that ever happened to one order, and why it is as it is now."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from syncd.cli import words
from syncd.cli.render.changes import arrow
from syncd.cli.screen import GAP, Block, Line, Table
from syncd.core.model import Action, MaybeOwner, Outcome, Owner
from syncd.core.records import BindingRow, StoredChange, StoredHold


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


class _Event(NamedTuple):
    at: float
    run: int
    what: str
    detail: str
    tone: str


def history(story: Story, now: float) -> Iterator[Block]:
    """Given what is recorded of an order, yield it in the order of time, and then why it is as it is."""
    yield Line(f"Order {story.order_id} of link {story.link}", "title")
    events = sorted([*_changes(story), *_holds(story)], key=lambda event: (int(event.at), event.run or math.inf))
    if not events:
        yield Line("Nothing was ever written or held for this order.")
    else:
        yield Table(
            [
                [words.moment(event.at), f"run {event.run}" if event.run else "", event.what, event.detail]
                for event in events
            ],
            indent=2,
            tones=[event.tone for event in events],
            toned=2,
        )
    yield GAP
    for sentence in why(story, now):
        yield Line(sentence)


def _changes(story: Story) -> Iterator[_Event]:
    for one in story.changes:
        change = one.change
        reason = words.REASONS[change.reason]
        if change.action is Action.AGREE:
            yield _Event(one.at, one.run, "agreed", f"{words.owner(change.after)}; {reason}", "dim")
            continue
        done = words.outcome(one.outcome)
        what = f"{change.action.value} in {words.side(change.side)}"
        detail = f"{arrow(one)}; {reason}"
        if one.outcome not in {Outcome.APPLIED, Outcome.PLANNED}:
            detail += f"; {done}" + (f": {one.error}" if one.error else "")
        tone = {Outcome.APPLIED: "good", Outcome.PLANNED: "dim", Outcome.FAILED: "bad"}.get(one.outcome, "")
        yield _Event(one.at, one.run, what if one.outcome is not Outcome.PLANNED else f"planned: {what}", detail, tone)


def _holds(story: Story) -> Iterator[_Event]:
    for stored, released in story.holds:
        hold = stored.hold
        yield _Event(hold.since, stored.run, f"held: {hold.kind.value}", words.says(hold.facts), "warn")
        if released is not None:
            decided = f"decided: {stored.decision}" if stored.decision else "the facts changed"
            yield _Event(released, 0, "released", decided, "dim")


def why(story: Story, now: float) -> Iterator[str]:
    """Given what is recorded of an order, yield sentences that say why it is as it is now."""
    agreed, listed = _agreed(story.binding), _listed(story.binding)
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


def _agreed(row: BindingRow | None) -> MaybeOwner:
    return _owner(row.agreed_type, row.agreed_id) if row is not None else None


def _listed(row: BindingRow | None) -> MaybeOwner:
    return _owner(row.crm_type, row.crm_id) if row is not None else None


def _owner(owner_type_id: int | None, owner_id: int | None) -> MaybeOwner:
    return None if owner_type_id is None or owner_id is None else Owner(owner_type_id, owner_id)
