"""What the state database keeps, as values; `core.store` is the protocol that reads and writes them.

Times are seconds since the epoch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from syncd.core.model import Change, Counts, Hold, MaybeOwner, Outcome, Side


class Lease(NamedTuple):
    """The right to work on one link until `expires_at`, proved by a fencing number that only grows."""

    link_id: int
    link: str
    holder: str
    fence: int
    expires_at: float


class LinkRow(NamedTuple):
    """A link's row. `fingerprint` names the ends its agreed state belongs to; `generation` grows with each rebase.

    parked is empty, or the reason why scheduled passes rest until a person or a changed fact decides.
    """

    id: int
    name: str
    generation: int
    fingerprint: str
    paused: bool
    parked: str
    created_at: float


class BindingRow(NamedTuple):
    """One order in the local database: the CRM as last completely listed, and the agreed state. None is unbound."""

    order_id: int
    crm_type: int | None
    crm_id: int | None
    agreed_type: int | None
    agreed_id: int | None


class BindingUpdate(NamedTuple):
    """New values for one order's `binding` row; a row whose values are all None is deleted."""

    order_id: int
    crm: MaybeOwner
    agreed: MaybeOwner


class GuardHit(NamedTuple):
    """A guard that refused: its name, the side, its limit and the actual number, both in the limit's own unit."""

    name: str
    side: Side | None
    limit: float
    actual: float


FINGERPRINT = "fingerprint"
"""The guard that refuses a link whose configuration points elsewhere than its agreed state was made for."""


@dataclass(frozen=True, slots=True)
class StoredChange:
    """A change with its place in the audit.

    Args:
        id: Unique and growing over all runs.
        run: The run it belongs to.
        change: What was planned.
        outcome: What became of it.
        error: Code and text of a failure, or empty.
        at: When the outcome was recorded (or, while intended, when the intent was).
        found: What was really there when it was written, where `found_known`.
    """

    id: int
    run: int
    change: Change
    outcome: Outcome
    error: str = ""
    at: float = 0.0
    found: MaybeOwner = None
    found_known: bool = False

    @property
    def before(self) -> MaybeOwner:
        """The owner that stood there before: what was really found, where that is known, else what was expected."""
        return self.found if self.found_known else self.change.before


class ChangeOutcome(NamedTuple):
    """What became of one stored change, to be recorded with what it does to the agreed state.

    update is the order's new `binding` values, or None where they do not move.
    """

    change_id: int
    outcome: Outcome
    error: str = ""
    found: MaybeOwner = None
    found_known: bool = False
    update: BindingUpdate | None = None


@dataclass(frozen=True, slots=True)
class StoredHold:
    """An open hold with its decision.

    decision is "", "crm", "table" or "retry". sticky holds were made by an event (a refused order, an overwritten
    value, an undo, flapping) and last while the facts stay as they were; the others are derived anew by each diff.
    """

    hold: Hold
    sticky: bool
    decision: str = ""
    run: int = 0


class Attempt(NamedTuple):
    """How often a write of this order has failed in a row, and when it may be tried again."""

    order_id: int
    failures: int
    next_at: float
    error: str


@dataclass(slots=True)
class RunRow:
    """One run.

    kind: pass, plan, apply, undo, rebase. state: running, planned, applied, partial, refused, failed, incomplete.
    origin: schedule, command, trigger, signal. source: for `apply` the stored plan's run, for `undo` the undone run,
    for a pass that found an earlier plan still refused, and stored none, that plan's run.
    operating: the operating seconds the portal's busiest method stood at when the run ended (`Usage.operating`).
    """

    id: int
    link: str
    link_id: int
    kind: str
    state: str
    origin: str = "command"
    source: int | None = None
    started_at: float = 0.0
    finished_at: float | None = None
    digest: str = ""
    first_sync: bool = False
    counts: Counts = field(default_factory=Counts)
    guards: list[GuardHit] = field(default_factory=list)
    error: str = ""
    requests: int = 0
    calls: int = 0
    seconds: float = 0.0
    spent_by: int | None = None
    operating: float = 0.0

    @property
    def plan(self) -> int:
        """The run that holds the plan this one speaks of: itself, but for a pass that found another still refused."""
        return self.source if self.kind == "pass" and self.source is not None else self.id

    @property
    def points_elsewhere(self) -> bool:
        """Whether it was refused because the link points elsewhere than its agreed state was made for."""
        return any(hit.name == FINGERPRINT for hit in self.guards)


class Request(NamedTuple):
    """Something another process asked of the daemon: kind is trigger."""

    id: int
    link: str
    kind: str
    by: str
    created_at: float


class LeaseRow(NamedTuple):
    """Who holds a link's lease, for `status` and for the sentence of whoever is turned away."""

    link: str
    holder: str
    fence: int
    acquired_at: float
    expires_at: float
