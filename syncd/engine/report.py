"""What a run came to, as a value, and its JSON form (design.md section 7)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from syncd.core.model import Counts, Facts, Hold, MaybeOwner, Outcome, SideCounts
from syncd.core.records import GuardHit, RunRow, StoredChange
from syncd.engine import words
from syncd.errors import SyncdError

LEFTOVERS = {Outcome.FAILED, Outcome.UNCERTAIN, Outcome.INTENDED, Outcome.SKIPPED}
"""Outcomes that leave an order out of step."""


@dataclass(slots=True)
class Report:
    """One run, ready to be shown.

    Args:
        row: The run.
        changes: Its changes with their outcomes (agreements left out).
        holds: The orders held when it ended.
        error: What ended it early, if anything did.
    """

    row: RunRow
    changes: list[StoredChange] = field(default_factory=list)
    holds: list[Hold] = field(default_factory=list)
    error: SyncdError | None = None

    @property
    def exit_code(self) -> int:
        """The exit code of design.md section 3 for this run alone."""
        if self.error is not None:
            return self.error.exit_code
        if self.row.state == "refused":
            return 4
        if self.row.kind == "plan" and any(change.outcome is Outcome.PLANNED for change in self.changes):
            return 2
        if self.holds or any(change.outcome in LEFTOVERS for change in self.changes):
            return 3
        return 0


def to_json(report: Report) -> dict[str, Any]:
    """Given a report, return the object of design.md section 7."""
    row = report.row
    return {
        "run": row.id,
        "link": row.link,
        "state": row.state,
        "digest": row.digest,
        "first_sync": row.first_sync,
        "counts": counts_json(row.counts),
        "changes": [change_json(change) for change in report.changes],
        "holds": [hold_json(hold) for hold in report.holds],
        "guards": [guard_json(hit) for hit in row.guards],
        "error": row.error or None,
        "portal": {"requests": row.requests, "calls": row.calls, "seconds": round(row.seconds, 3)},
    }


def run_json(row: RunRow) -> dict[str, Any]:
    """Given a run, return its JSON form: the object of design.md section 7 without changes and holds."""
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
        "error": stored.error or (words.IN_DOUBT if stored.outcome is Outcome.INTENDED else None),
    }
    if audit:
        form |= {"run": stored.run, "at": iso(stored.at)}
    return form


def hold_json(hold: Hold) -> dict[str, Any]:
    """Given a hold, return its JSON form; order 0 stands for rows without a readable order id and is null."""
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
    """Given seconds since the epoch, return ISO 8601 in UTC; None for 0, which stands for never."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds") if seconds else None
