"""Orders as a person reads them: those that are held, the history of one, and those of one deal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from syncd.cli.render.runs import arrow
from syncd.cli.screen import GAP, Block, Line, TextTable
from syncd.core.model import Action, Outcome, Owner, Policy
from syncd.core.records import PortalNames, StoredHold
from syncd.engine import formatting
from syncd.engine.formatting import OrderHistory, explain
from syncd.status.health import tone_of_outcome
from syncd.status.needs import advice, sides_to_keep
from syncd.status.owners import NO_LABELS, Labels, OwnedOrder


def holds(
    by_link: Mapping[str, Sequence[StoredHold]],
    policies: Mapping[str, Policy],
    now: float,
    labels: Mapping[str, Labels] = MappingProxyType({}),
    keys: Mapping[str, Mapping[int, str]] = MappingProxyType({}),
) -> Iterator[Block]:
    """Given the open holds of some links, yield them, each link with the command that decides one.

    Args:
        by_link: The holds of each link.
        policies: The policy of each link, which says how its holds can be decided.
        now: Seconds since the epoch.
        labels: By link, the titles and addresses that are known.
        keys: By link, the keys of held orders, where the table holds keys of the shop's own.
    """
    if not any(by_link.values()):
        yield Line("No order is held.", "good")
        return
    shown = [name for name, held in by_link.items() if held]
    for number, name in enumerate(shown):
        held = by_link[name]
        if number:
            yield GAP
        yield Line(f"Link {name}: {formatting.count(len(held), 'order')} held", "title")
        for one in held:
            order = formatting.order(one.hold.order_id, keys.get(name, {}).get(one.hold.order_id, ""))
            yield from _hold(one, order, policies[name], now, labels.get(name, NO_LABELS))
        yield GAP
        yield from _next(name, held, policies[name])


def _hold(stored: StoredHold, order: str, policy: Policy, now: float, labels: Labels) -> Iterator[Block]:
    hold = stored.hold
    yield Line(f"order {order}: {formatting.HOLD_KINDS[hold.kind]} ({hold.kind.value})", "warn", 2)
    facts = hold.facts
    table = "unreadable" if facts.unreadable is not None else formatting.titled(facts.table, labels.names)
    rows = [
        ["CRM", formatting.titled(facts.crm, labels.names)],
        ["table", table],
        ["agreed", formatting.titled(facts.agreed, labels.names) if facts.agreed else "nothing"],
    ]
    rows += [
        ["why", hold.detail],
        ["held", f"for {formatting.span(now - hold.since)}, since {formatting.moment(hold.since)}"],
    ]
    addresses = [labels.order_url(hold.order_id), *map(labels.owner_url, dict.fromkeys([facts.crm, facts.table]))]
    rows += [["" if number else "open", one] for number, one in enumerate(filter(None, addresses))]
    if fix := advice(hold, policy):
        rows.append(["fix", fix])
    if stored.decision:
        rows.append(["decided", f"{formatting.decision(stored.decision)}; the next pass carries it out"])
    yield TextTable(rows, indent=4)


def _next(link: str, held: Sequence[StoredHold], policy: Policy) -> Iterator[Block]:
    """Yield the command that decides one of the holds: the first of those that leave most to choose."""
    open_ones = [(one.hold.order_id, sides_to_keep(one.hold, policy)) for one in held if not one.decision]
    order, sides = max(open_ones, key=lambda one: len(one[1]), default=(0, []))
    if not sides:
        yield Line("All of them are decided, or must be fixed at their source. Next:")
        yield Line(f"syncd reconcile {link}", "command", indent=2)
        return
    kept = " or ".join(map(formatting.side, sides))
    yield Line(f"To decide one, keeping what {kept} says (or --retry, to try again as it is):")
    yield Line(f"syncd resolve {link} {order} --keep {'|'.join(sides)}", "command", indent=2)


WIDE = 100
"""The columns from which on an event fits one line."""


class _Event(NamedTuple):
    at: float
    run: int
    what: str
    detail: str
    tone: str


def history(story: OrderHistory, now: float, labels: Labels = NO_LABELS, width: int | None = None) -> Iterator[Block]:
    """Given what is recorded of an order, yield it in the order of time, and then why it is as it is.

    Args:
        story: What is recorded.
        now: Seconds since the epoch.
        labels: The titles and addresses that are known.
        width: The columns of the screen; None where the output is not a terminal.
    """
    yield Line(f"Order {formatting.order(story.order_id, story.key)} of link {story.link}", "title")
    events = sorted(
        [*_changes(story, labels.names), *_holds(story, labels.names), *_decisions(story)],
        key=lambda event: (event.at, event.run or math.inf),
    )
    if (events or story.binding) and (url := labels.order_url(story.order_id)):
        yield Line(url, "dim")
    if not events:
        yield Line("Nothing was ever written or held for this order.")
    else:
        yield from _events(events, width)
    yield GAP
    for sentence in explain(story, now, labels.names):
        yield Line(sentence)


def _events(events: Sequence[_Event], width: int | None) -> Iterator[Block]:
    """Yield a table; on a narrow screen two lines for each event, what happened before what it was about."""
    runs = [f"run {event.run}" if event.run else "" for event in events]
    if width is None or width >= WIDE:
        rows = [
            [formatting.moment(event.at), run, event.what, event.detail]
            for event, run in zip(events, runs, strict=True)
        ]
        yield TextTable(rows, indent=2, tones=[event.tone for event in events], toned=2)
        return
    for event, run in zip(events, runs, strict=True):
        yield Line("  ".join(filter(None, [formatting.moment(event.at), run, event.what])), event.tone, indent=2)
        yield Line(event.detail, indent=6)


def _changes(story: OrderHistory, names: PortalNames) -> Iterator[_Event]:
    for one in story.changes:
        change = one.change
        reason = formatting.REASONS[change.reason]
        if formatting.was_let_go(change):
            yield _Event(one.at, one.run, "let go", reason, "dim")
            continue
        if change.action is Action.AGREE:
            yield _Event(one.at, one.run, "agreed", f"{formatting.titled(change.after, names)}; {reason}", "dim")
            continue
        done = formatting.outcome(one.outcome)
        what = f"{change.action.value} in {formatting.side(change.side)}"
        detail = f"{arrow(one, names)}; {reason}"
        if one.outcome not in {Outcome.APPLIED, Outcome.PLANNED}:
            detail += f"; {done}" + (f": {one.error}" if one.error else "")
        tone = "dim" if one.outcome is Outcome.PLANNED else tone_of_outcome(one.outcome)
        yield _Event(one.at, one.run, what if one.outcome is not Outcome.PLANNED else f"planned: {what}", detail, tone)


def _holds(story: OrderHistory, names: PortalNames) -> Iterator[_Event]:
    for stored, released in story.holds:
        hold = stored.hold
        yield _Event(
            hold.since, stored.run, f"held: {hold.kind.value}", formatting.facts_text(hold.facts, names), "warn"
        )
        if released is not None:
            yield _Event(released, 0, "released", formatting.why_released(stored), "dim")


def _decisions(story: OrderHistory) -> Iterator[_Event]:
    for one in story.decisions:
        why = f": {one.comment}" if one.comment else ""
        yield _Event(one.at, 0, f"decided by {one.by}", f"{formatting.decision(one.said)}{why}", "")


def orders_of(link: str, owner: Owner, orders: Sequence[OwnedOrder], labels: Labels) -> Iterator[Block]:
    """Given the orders of an owner, yield one line for each, and how to see more of one."""
    name = formatting.titled(owner, labels.names)
    if not orders:
        yield Line(f"Link {link} knows no order of {name}.")
        return
    yield Line(f"{formatting.count(len(orders), 'order')} of {name}, link {link}", "title")
    if url := labels.owner_url(owner):
        yield Line(url, "dim")
    yield TextTable(
        [[f"order {one.order_id}", *_owned(one)] for one in orders],
        indent=2,
        tones=["warn" if one.hold is not None else "" for one in orders],
        toned=1,
    )
    yield Line("Everything that happened to one of them:")
    yield Line(f"syncd history {link} {orders[0].order_id}", "command", indent=2)


def _owned(one: OwnedOrder) -> list[str]:
    if one.hold is not None:
        return [f"held: {one.hold.hold.kind.value}", formatting.facts_text(one.hold.hold.facts)]
    if one.crm == one.agreed:
        return ["bound on both sides", ""]
    return [f"CRM {formatting.owner(one.crm)}", f"agreed {formatting.owner(one.agreed)}; the next pass compares them"]
