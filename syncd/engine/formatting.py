"""How values read to a person: owners, sides, reasons, holds, times, numbers, and the history of one order. Pure.

The terminal and the status page say the same with the same words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from syncd.core import guards
from syncd.core.model import Action, Change, Facts, HoldKind, MaybeOwner, Outcome, Owner, Reason, Side
from syncd.core.order_ranges import OrderRanges
from syncd.core.records import (
    FINGERPRINT,
    NAMELESS,
    BindingRow,
    Decision,
    PortalNames,
    Reached,
    RunRow,
    StoredChange,
    StoredHold,
)
from syncd.obs.clock import time_of_day

SHOWN_RANGES = 5
"""How many ranges of orders are named."""

OWNER_NAMES = {2: "deal", 31: "smart invoice"}
"""The owner types every portal has (portal.md 3); dynamic types, from 128 on, are named by each portal."""

UNBOUND = "unbound"

IN_DOUBT = "whether it was written is not known yet; the next run finds out"
"""Of a change that was sent, and of which nothing more was recorded."""

REASONS = {
    Reason.TABLE_CHANGED: "changed in the table",
    Reason.CRM_CHANGED: "changed in the CRM",
    Reason.TABLE_DRIFTED: "the table had drifted",
    Reason.CRM_DRIFTED: "the CRM had drifted",
    Reason.POLICY_CRM: "conflict; the CRM wins",
    Reason.POLICY_TABLE: "conflict; the table wins",
    Reason.RESOLVED_CRM: "decided: keep the CRM's",
    Reason.RESOLVED_TABLE: "decided: keep the table's",
    Reason.BOTH_EQUAL: "both sides say so",
    Reason.UNDO: "undone",
}

HOLD_KINDS = {
    HoldKind.EDIT_EDIT: "changed on both sides",
    HoldKind.EDIT_REMOVE: "changed in the CRM, removed from the table",
    HoldKind.REMOVE_EDIT: "unbound in the CRM, changed in the table",
    HoldKind.CREATE_CREATE: "new on both sides, with different owners",
    HoldKind.DUPLICATE_ROWS: "more than one row in the table",
    HoldKind.INVALID_ROW: "a row that cannot be read",
    HoldKind.OUT_OF_SCOPE: "outside this link's scope",
    HoldKind.ORDER_MISSING: "the portal does not know the order",
    HoldKind.OWNER_MISSING: "the owner does not exist",
    HoldKind.AMBIGUOUS_KEY: "the order has no key of its own",
    HoldKind.REFUSED: "refused again and again",
    HoldKind.UNCERTAIN: "whether a write arrived is unknown",
    HoldKind.FLAPPING: "written again and again",
}

ADVICE = {
    HoldKind.DUPLICATE_ROWS: "Leave one row for the order in the table.",
    HoldKind.INVALID_ROW: "Correct the row in the table.",
    HoldKind.OUT_OF_SCOPE: "Change the side that is out of scope, or the setting that says so: owner_types or where.",
    HoldKind.ORDER_MISSING: "syncd tries it again by itself. Or remove the row from the table.",
    HoldKind.REFUSED: "syncd tries it again by itself. See what the side says, and change the order or the side.",
    HoldKind.OWNER_MISSING: "Correct the owner in the table.",
    HoldKind.AMBIGUOUS_KEY: "Give each order a key of its own in the portal.",
}
"""What to fix for a kind of hold that is not a conflict; syncd releases it once the facts have changed."""

STAGES = {
    "table": "reading the table",
    "keys": "looking up orders by their keys",
    "listing the portal": "reading the CRM",
    "apply": "writing",
    "settle": "waiting for interrupted requests",
}
"""What a run does, by the name of its stage."""

RUN_KINDS = {
    "plan": "Plan",
    "pass": "Pass",
    "apply": "Application",
    "undo": "Undo",
    "rebase": "Rebase",
    "rename": "Rebase to the same portal",
}


def run_kind(row: RunRow, before: str = "") -> str:
    """Given a run, return what it is: `Pass`, `Application of 12`, or `Look at 12`, which found 12 refused still.

    Args:
        row: The run.
        before: The words before the other run's number.
    """
    kind = RUN_KINDS.get(row.kind, row.kind)
    if row.source is None:
        return kind
    return f"{'Look at' if row.plan != row.id else f'{kind} of'} {before}{row.source}"


_EXPLAINED_BY_THE_RUN = frozenset({FINGERPRINT, guards.STATE_OLDER})
"""Guards whose sentence says more than their numbers."""


def refusals(row: RunRow) -> list[str]:
    """Given a refused run, return why, a phrase with its numbers for each guard.

    What only the run could know, such as the link that has gone on, is at the end of its error.
    """
    said = [guards.sentence(hit, row.counts) for hit in row.guards if hit.name not in _EXPLAINED_BY_THE_RUN]
    if len(said) == len(row.guards):
        return said
    return [*said, row.error.removeprefix("; ".join([*said, ""]))]


def remedy(row: RunRow) -> str:
    """Given a refused run, return what to do if it shows a mistake, as a sentence; empty if nothing is."""
    names = {hit.name for hit in row.guards}
    if FINGERPRINT in names:
        return "If that is a mistake, correct the link's settings; what was agreed is kept."
    if guards.STATE_OLDER in names:
        return (
            "If that is a mistake, restore the newest backup of the state database, or correct [state] url or the "
            "link's name."
        )
    causes = {hit.side if hit.name == "empty_side" else hit.side.other for hit in row.guards if hit.side is not None}
    if not causes:
        return ""
    cause = side(causes.pop() if len(causes) == 1 else None)
    return f"If that is a mistake, correct {cause}; the next pass compares anew."


def owner_type(owner_type_id: int, names: PortalNames = NAMELESS) -> str:
    """Given an owner type, return its name: the portal's own, where that is another word than ours; else nothing."""
    ours, theirs = OWNER_NAMES.get(owner_type_id, ""), names.types.get(owner_type_id, "")
    return theirs if theirs and theirs.casefold() != ours else ours


def owner(value: MaybeOwner, names: PortalNames = NAMELESS) -> str:
    """Given an owner or nothing, return it as `deal 10`, `type 177: 5` or `unbound`."""
    if value is None:
        return UNBOUND
    name = owner_type(value.owner_type_id, names)
    return f"{name} {value.owner_id}" if name else f"type {value.owner_type_id}: {value.owner_id}"


_OWNER = re.compile(r"(?:(?P<type>\d{1,9})|(?P<name>[a-z ]+?))\s*[:# ]\s*#?(?P<id>\d{1,18})")
_OWNER_ADDRESS = re.compile(r"/crm/(?:deal|type/(?P<type>\d{1,9}))/details/(?P<id>\d{1,18})")


def parse_owner(text: str) -> Owner | None:
    """Given what a person typed, `2:77`, `deal 77` or the address of a deal, return the owner it names, if any."""
    numbers = {name: number for number, name in OWNER_NAMES.items()}
    address = _OWNER_ADDRESS.search(text)
    typed = address or _OWNER.fullmatch(text.strip().lower())
    if typed is None:
        return None
    named = numbers.get(typed["name"]) if not address and typed["name"] else int(typed["type"] or 2)
    owner_id = int(typed["id"])
    return Owner(named, owner_id) if named and owner_id else None


def titled(value: MaybeOwner, names: PortalNames) -> str:
    """Given an owner or nothing, return it with its title, where that is known: `deal 10 (Desks for Elm Bakery)`."""
    title = names.titles.get(value, "") if value is not None else ""
    return f"{owner(value, names)} ({title})" if title else owner(value, names)


def order(order_id: int, key: str = "") -> str:
    """Given an order id and its key, where the table holds keys, return it as text.

    0 stands for rows without a readable order id, a number below 0 for a key that no order of the portal has.
    """
    if order_id < 0:
        return f"with the key {key}" if key else "with an unknown key"
    return f"{order_id} ({key})" if order_id and key else str(order_id) if order_id else "unreadable"


def side(value: Side | None) -> str:
    """Given a side, return `the CRM` or `the table`; no side is both of them."""
    return {Side.CRM: "the CRM", Side.TABLE: "the table", None: "both sides"}[value]


def action(value: Action) -> str:
    """Given an action, return what was done, as a past participle."""
    return {
        Action.ADD: "added",
        Action.MOVE: "moved",
        Action.REMOVE: "removed",
        Action.AGREE: "agreed",
    }[value]


def outcome(value: Outcome) -> str:
    """Given an outcome, return the word reports use: an intent without an outcome is uncertain."""
    return Outcome.UNCERTAIN.value if value is Outcome.INTENDED else value.value


def decision(word: str) -> str:
    """Given a decision as stored, return it as a phrase."""
    return {"crm": "keep what the CRM says", "table": "keep what the table says"}.get(word, "try again")


def why_released(stored: StoredHold) -> str:
    """Given a hold that was released, return why, as a phrase."""
    return f"decided: {decision(stored.decision)}" if stored.decision else "the facts changed"


def asked(one: Decision) -> str:
    """Given who asked for a run, return it as a sentence."""
    what = {"apply": "Applied", "undo": "Undone", "rebase": "Started anew"}.get(one.kind, one.kind.capitalize())
    return f"{what} by {one.by} on {moment(one.at)}{': ' if one.comment else '.'}{one.comment}"


def facts_text(facts: Facts, names: PortalNames = NAMELESS) -> str:
    """Given what is known of an order, return what each side says of it, in one phrase."""
    table = "unreadable" if facts.unreadable is not None else titled(facts.table, names)
    agreed = f"agreed {titled(facts.agreed, names)}" if facts.agreed else "nothing agreed"
    return f"CRM {titled(facts.crm, names)}, table {table}, {agreed}"


def count(number: int, one: str, many: str = "") -> str:
    """Given a number and a noun, return both, in the right number: `1 change`, `2,000 changes`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def listed(items: Sequence[str]) -> str:
    """Given phrases, return them as `a, b and c`."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def moment(seconds: float) -> str:
    """Given seconds since the epoch, return the local date and time with its zone, for a terminal; `never` for 0."""
    if not seconds:
        return "never"
    return time_of_day(seconds).strftime("%Y-%m-%d %H:%M:%S %Z")


def utc_moment(seconds: float) -> str:
    """Given seconds since the epoch, return the date and time in UTC with its zone; `never` for 0."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S %Z") if seconds else "never"


_STAMP = re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00")


def with_moments(text: str, in_words: Callable[[float], str] = moment) -> str:
    """Given a sentence that names times as JSON does, return it with these times as people read them.

    Sentences that are stored or travel in JSON name times in UTC, as ISO 8601; where they are shown is known only here.

    Args:
        text: The sentence.
        in_words: Returns a time as text: local for a terminal, UTC for a page.
    """
    return _STAMP.sub(lambda found: in_words(datetime.fromisoformat(found[0]).timestamp()), text)


def span(seconds: float) -> str:
    """Given a length of time in seconds, return it in its two largest units: `2 h 5 min`."""
    if seconds < 1:
        return "<1 s"
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    parts: list[str] = []
    left = int(seconds)
    for name, length in units:
        number, left = divmod(left, length)
        if number or parts:
            parts.append(f"{number} {name}" if number else "")
        if len(parts) == 2:
            break
    return " ".join(part for part in parts if part)


def about(seconds: float) -> str:
    """Given a length of time in seconds, return it as coarse as suits a page that renews itself: `3 d 2 h`."""
    if seconds < 60:
        return f"{max(0, int(seconds))} s"
    minutes = int(seconds) // 60
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def reached(how_far: Reached) -> str:
    """Given how far a run has got, return it as a phrase: `listing the portal 4,500 of 10,000`."""
    done = f" {how_far.done:,}" if how_far.done else ""
    expected = f" of {how_far.expected:,}" if done and how_far.expected else ""
    return f"{STAGES.get(how_far.stage, how_far.stage) or 'beginning'}{done}{expected}"


def waiting(number: int) -> str:
    """Given a number of removes that wait, return it as a phrase."""
    orders = "order" if number == 1 else "orders"
    return f"{count(number, 'remove waits', 'removes wait')} until a later pass finds the same {orders} absent"


def ago(then: float, now: float) -> str:
    """Given a moment and now, return how long ago it was; `never` for 0."""
    if not then:
        return "never"
    if then > now:
        return f"in {span(then - now)}"
    return "just now" if now - then < 1 else f"{span(now - then)} ago"


def short_ranges(orders: OrderRanges) -> str:
    """Given a set of orders, return it as a person wrote it; of very many ranges the first few."""
    shown = ", ".join(map(str, orders.ranges[:SHOWN_RANGES]))
    more = len(orders.ranges) - SHOWN_RANGES
    return f"{shown} and {count(more, 'more range')}" if more > 0 else shown


# ------------------------------------------------ what is recorded of one order


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
    known = story.binding
    agreed, listed = (known.agreed, known.listed) if known is not None else (None, None)
    held = [stored for stored, released in story.holds if released is None]
    if held:
        hold = held[-1].hold
        yield f"Held for {span(now - hold.since)} ({hold.kind.value}): {hold.detail}"
        if held[-1].decision:
            yield f"Decided: {decision(held[-1].decision)}; the next pass carries that out."
        else:
            yield f"Now: {facts_text(hold.facts, names)}."
        return
    last = next((one for one in reversed(story.changes) if _moved_agreement(one)), None)
    if last is None:
        if agreed is not None:
            yield f"Both sides say {titled(agreed, names)}."
        elif listed is not None:
            yield f"The CRM says {titled(listed, names)}; nothing is agreed yet."
        elif not story.changes:
            yield "syncd does not know this order: it is bound on neither side, or outside the link's scope."
        return
    if was_let_go(last.change):
        yield f"This link let it go in run {last.run}, {ago(last.at, now)}: {REASONS[last.change.reason]}."
        return
    how = "both sides said so already" if last.change.action is Action.AGREE else REASONS[last.change.reason]
    state = f"bound to {titled(agreed, names)}" if agreed is not None else "unbound"
    yield f"It has been {state} on both sides since run {last.run}, {ago(last.at, now)}: {how}."
    if listed != agreed:
        yield f"The CRM has since been seen with {titled(listed, names)}; the next pass compares that."


def was_let_go(change: Change) -> bool:
    """Given a change, return whether it ended what was agreed about an order that a side still binds."""
    is_bound = change.facts.crm is not None or change.facts.table is not None
    return change.action is Action.AGREE and change.agreed_after is None and is_bound


def _moved_agreement(one: StoredChange) -> bool:
    return one.outcome in {Outcome.APPLIED, Outcome.ALREADY} or one.change.action is Action.AGREE
