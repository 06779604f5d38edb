"""How values read to a person: owners, sides, reasons, holds, times and numbers. Pure.

The terminal and the status page say the same with the same words.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from syncd.core import guards
from syncd.core.model import Action, Facts, HoldKind, MaybeOwner, Outcome, Reason, Side
from syncd.core.records import FINGERPRINT, RunRow

OWNER_NAMES = {2: "deal", 31: "smart invoice"}
"""The owner types every portal has (bitrix24-rest.md 3); dynamic types, from 128 on, are named by each portal."""

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
    HoldKind.OUT_OF_SCOPE: "bound to a type outside this link",
    HoldKind.ORDER_MISSING: "the portal does not know the order",
    HoldKind.OWNER_MISSING: "the owner does not exist",
    HoldKind.UNCERTAIN: "nobody knows whether a write arrived",
    HoldKind.FLAPPING: "written again and again",
}

ADVICE = {
    HoldKind.DUPLICATE_ROWS: "Leave one row for the order in the table.",
    HoldKind.INVALID_ROW: "Mend the row in the table.",
    HoldKind.OUT_OF_SCOPE: "Change either side, or the link's owner_types.",
    HoldKind.ORDER_MISSING: "Remove the row from the table, or `resolve --keep crm`.",
    HoldKind.OWNER_MISSING: "Correct the owner in the table, or `resolve --keep crm`.",
}
"""What mends a kind of hold that is no conflict; it is released by itself once the facts have changed."""

RUN_KINDS = {"plan": "Plan", "pass": "Pass", "apply": "Application", "undo": "Undo", "rebase": "Rebase"}


def run_kind(row: RunRow, before: str = "") -> str:
    """Given a run, return what it is: `Pass`, `Application of 12`, or `Look at 12`, which found 12 refused still.

    Args:
        row: The run.
        before: What stands before the other run's number.
    """
    kind = RUN_KINDS.get(row.kind, row.kind)
    if row.source is None:
        return kind
    return f"{'Look at' if row.plan != row.id else f'{kind} of'} {before}{row.source}"


def refusals(row: RunRow) -> list[str]:
    """Given a refused run, return why, a phrase with its numbers for each guard."""
    return [row.error if hit.name == FINGERPRINT else guards.sentence(hit, row.counts) for hit in row.guards]


def owner(value: MaybeOwner) -> str:
    """Given an owner or nothing, return it as `deal 10`, `type 177: 5` or `unbound`."""
    if value is None:
        return UNBOUND
    name = OWNER_NAMES.get(value.owner_type_id)
    return f"{name} {value.owner_id}" if name else f"type {value.owner_type_id}: {value.owner_id}"


def order(order_id: int) -> str:
    """Given an order id, return it as text; 0 stands for rows without a readable one."""
    return str(order_id) if order_id else "unreadable"


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


def says(facts: Facts) -> str:
    """Given what is known of an order, return what each side says of it, in one phrase."""
    table = "unreadable" if facts.unreadable is not None else owner(facts.table)
    agreed = f"agreed {owner(facts.agreed)}" if facts.agreed else "nothing agreed"
    return f"CRM {owner(facts.crm)}, table {table}, {agreed}"


def count(number: int, one: str, many: str = "") -> str:
    """Given a number and a noun, return both, in the right number: `1 change`, `2,000 changes`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def listed(items: Sequence[str]) -> str:
    """Given phrases, return them as `a, b and c`."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def moment(seconds: float) -> str:
    """Given seconds since the epoch, return the local date and time; `never` for 0."""
    if not seconds:
        return "never"
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


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


def ago(then: float, now: float) -> str:
    """Given a moment and now, return how long ago it was; `never` for 0."""
    if not then:
        return "never"
    if then > now:
        return f"in {span(then - now)}"
    return "just now" if now - then < 1 else f"{span(now - then)} ago"
