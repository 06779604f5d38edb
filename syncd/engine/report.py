"""What a run came to, as a value, and its JSON form (json.md)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from syncd.core.model import Counts, Facts, Hold, MaybeOwner, Outcome, SideCounts
from syncd.core.records import Decision, GuardHit, RunRow, StoredChange, Tally
from syncd.engine import formatting
from syncd.errors import SyncdError
from syncd.obs.clock import utc_stamp

LEFTOVERS = {Outcome.FAILED, Outcome.UNCERTAIN, Outcome.INTENDED, Outcome.SKIPPED}
"""Outcomes that leave an order out of step."""
TO_MAKE = {Outcome.PLANNED, Outcome.WAITING}
"""Outcomes of a stored plan's changes that `apply` would make."""
REPORTED = 5000
"""Changes of a run that a report holds; the others are in the state database."""


@dataclass(slots=True)
class Report:
    """One run, ready to be shown.

    Args:
        row: The run.
        changes: The first `REPORTED` of its changes with their outcomes (agreements left out).
        tally: How many changes it has, by side, action and outcome.
        holds: The orders held when it ended.
        error: What ended it early, if anything did.
        keys: The keys of these orders as far as they are known, where the table holds keys of the shop's own.
    """

    row: RunRow
    changes: list[StoredChange] = field(default_factory=list)
    holds: list[Hold] = field(default_factory=list)
    error: SyncdError | None = None
    tally: Tally = field(default_factory=dict)
    keys: Mapping[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Count the changes, unless they were counted already."""
        self.tally = self.tally or tally(self.changes)

    @property
    def outcomes(self) -> Mapping[Outcome, int]:
        """How many changes came to each outcome."""
        counted: Counter[Outcome] = Counter()
        for (_side, _action, outcome), number in self.tally.items():
            counted[outcome] += number
        return counted

    @property
    def is_cut(self) -> bool:
        """Whether the run has more changes than the report holds."""
        return sum(self.tally.values()) > len(self.changes)

    @property
    def exit_code(self) -> int:
        """The exit code of exit-codes.md for this run alone."""
        if self.error is not None:
            return self.error.exit_code
        if self.row.state == "refused":
            return 4
        if self.row.kind == "plan" and self.outcomes.keys() & TO_MAKE:
            return 2
        if self.holds or self.outcomes.keys() & LEFTOVERS:
            return 3
        return 0


def tally(changes: Iterable[StoredChange]) -> Tally:
    """Given changes of a run, count them by side, action and outcome; agreements are left out."""
    return dict(
        Counter((one.change.side, one.change.action, one.outcome) for one in changes if one.change.side is not None)
    )


def to_json(report: Report, changes: Iterable[Any] | None = None) -> dict[str, Any]:
    """Given a report, return the object of json.md.

    Args:
        report: The report.
        changes: The JSON forms of all changes of the run, where the report does not hold all of them.
    """
    row = report.row
    return {
        "run": row.id,
        "link": row.link,
        "state": row.state,
        "digest": row.digest,
        "first_sync": row.first_sync,
        "counts": counts_json(row.counts),
        "changes": [with_key(change_json(one), report.keys) for one in report.changes] if changes is None else changes,
        "holds": [with_key(hold_json(hold), report.keys) for hold in report.holds],
        "guards": [guard_json(hit) for hit in row.guards],
        "error": row.error or None,
        "portal": {"requests": row.requests, "calls": row.calls, "seconds": round(row.seconds, 3)},
        "covers": None if row.covers is None else str(row.covers),
        "part": row.part or None,
    }


def run_json(row: RunRow) -> dict[str, Any]:
    """Given a run, return its JSON form: the object of json.md without changes and holds."""
    return {
        "run": row.id,
        "link": row.link,
        "kind": row.kind,
        "state": row.state,
        "origin": row.origin,
        "source": row.source,
        "spent_by": row.spent_by,
        "started_at": iso(row.started_at),
        "finished_at": iso(row.finished_at or 0),
        "digest": row.digest,
        "first_sync": row.first_sync,
        "counts": counts_json(row.counts),
        "guards": [guard_json(hit) for hit in row.guards],
        "error": row.error or None,
        "portal": {"requests": row.requests, "calls": row.calls, "seconds": round(row.seconds, 3)},
        "covers": None if row.covers is None else str(row.covers),
        "part": row.part or None,
    }


def counts_json(counts: Counts) -> dict[str, Any]:
    """Given counts, return their JSON form."""

    def side(done: SideCounts) -> dict[str, int]:
        return {"add": done.add, "move": done.move, "remove": done.remove}

    return {
        "in_step": counts.in_step,
        "crm": side(counts.crm),
        "table": side(counts.table),
        "holds": counts.holds,
        "waiting": counts.waiting,
    }


def owner_json(owner: MaybeOwner) -> dict[str, int] | None:
    """Given an owner or nothing, return its JSON form."""
    return None if owner is None else {"owner_type_id": owner.owner_type_id, "owner_id": owner.owner_id}


def change_json(stored: StoredChange, *, audit: bool = False) -> dict[str, Any]:
    """Given a stored change, return its JSON form.

    Args:
        stored: The change.
        audit: Add `run` and `at`, and name in `before` what was really there when it was written, where that is known.
    """
    change = stored.change
    before = stored.before if audit else change.before
    outcome = Outcome.UNCERTAIN if stored.outcome is Outcome.INTENDED else stored.outcome
    form: dict[str, Any] = {
        "order_id": change.order_id,
        "side": change.side.value if change.side else "both",
        "action": change.action.value,
        "before": owner_json(before),
        "after": owner_json(change.after),
        "reason": change.reason.value,
        "outcome": outcome.value,
        "error": stored.error or (formatting.IN_DOUBT if stored.outcome is Outcome.INTENDED else None),
    }
    if audit:
        form |= {"run": stored.run, "at": iso(stored.at)}
    return form


def with_key(form: dict[str, Any], keys: Mapping[int, str]) -> dict[str, Any]:
    """Given the JSON form of something about an order, and keys of orders, return it with the order's key if known."""
    key = keys.get(form["order_id"])
    return {"order_id": form["order_id"], "key": key, **form} if key else form


def hold_json(hold: Hold) -> dict[str, Any]:
    """Given a hold, return its JSON form; order 0 stands for rows without a readable order id and is null.

    A number below 0 stands for a key that no order of the portal has.
    """
    facts: Facts = hold.facts
    return {
        "order_id": hold.order_id or None,
        "kind": hold.kind.value,
        "crm": owner_json(facts.crm),
        "table": owner_json(facts.table),
        "agreed": owner_json(facts.agreed),
        "since": iso(hold.since),
        "detail": hold.detail,
    }


def decision_json(one: Decision) -> dict[str, Any]:
    """Given what a person decided, return its JSON form."""
    return {
        "kind": one.kind,
        "said": one.said or None,
        "by": one.by,
        "at": iso(one.at),
        "comment": one.comment or None,
        "order_id": one.order_id,
        "run": one.run,
    }


def guard_json(hit: GuardHit) -> dict[str, Any]:
    """Given a guard that refused, return its JSON form; whole numbers stay whole."""
    return {
        "name": hit.name,
        "side": hit.side.value if hit.side else None,
        "limit": _whole(hit.limit),
        "actual": _whole(hit.actual),
    }


def _whole(number: float) -> float:
    return int(number) if number == int(number) else number


def iso(seconds: float) -> str | None:
    """Given seconds since the epoch, return ISO 8601 in UTC; None for 0, which means never."""
    return utc_stamp(seconds) if seconds else None
