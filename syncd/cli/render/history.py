"""Everything that ever happened to one order, and why it is as it is now."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from syncd.cli.render.changes import arrow
from syncd.cli.screen import GAP, Block, Line, Table
from syncd.core.model import Action, Outcome
from syncd.engine import words
from syncd.engine.story import Story, why


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
