"""What the state database keeps, as values, and the protocol of the store.

Each method of `Store` is one short transaction named for what it means (`observed`, `history` and the other readers may
take several, one a page). Methods that take a `Lease` prove it first: they raise `LeaseLost`, and write nothing, when
the lease row no longer carries that fencing number. Times are seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from syncd.core.model import Change, Counts, Facts, Hold, HoldKind, MaybeOwner, Outcome, Owner, Side


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
        alive_until: For an intent: until when a request that carried it may still be executed by its receiver.
        found: What was really there when it was written, where `found_known`.
    """

    id: int
    run: int
    change: Change
    outcome: Outcome
    error: str = ""
    at: float = 0.0
    alive_until: float = 0.0
    found: MaybeOwner = None
    found_known: bool = False


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

    kind: pass, plan, apply, undo. state: running, planned, applied, partial, refused, failed, incomplete.
    origin: schedule, command, trigger, signal. source: for `apply` the stored plan's run, for `undo` the undone run.
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


class Store(Protocol):
    """The state database."""

    async def link(self, name: str, fingerprint: str) -> LinkRow:
        """Return the current generation of the link, made with this fingerprint if there is none yet."""
        ...

    async def find_link(self, name: str) -> LinkRow | None:
        """Return the current generation of the link, or None if it has never been seen."""
        ...

    async def rebase(self, lease: Lease, fingerprint: str, now: float) -> LinkRow:
        """Start a new, empty generation of the leased link; the old rows stay as history, their holds are closed."""
        ...

    async def set_paused(self, name: str, *, paused: bool) -> None:
        """Pause or resume the scheduled passes of a link."""
        ...

    async def set_parked(self, lease: Lease, reason: str) -> None:
        """Park the link with a reason, or unpark it with an empty one."""
        ...

    # ------------------------------------------------------------------ lease

    async def acquire(self, link: LinkRow, holder: str, ttl: float, now: float) -> Lease:
        """Take the link's lease (over all generations) or raise `LeaseHeld` with a sentence that names the holder."""
        ...

    async def renew(self, lease: Lease, ttl: float, now: float) -> Lease:
        """Prolong the lease, or raise `LeaseLost`."""
        ...

    async def release(self, lease: Lease) -> None:
        """Give the lease back; a lease that is no longer ours is left alone."""
        ...

    async def leases(self) -> list[LeaseRow]:
        """Return all lease rows that are held (whether or not expired)."""
        ...

    # ---------------------------------------------------------------- binding

    async def boundaries(self, link_id: int, every: int) -> list[int]:
        """Return every `every`-th order id bound in the CRM at the last complete listing, ascending."""
        ...

    async def bindings(self, link_id: int, after: int, upto: int | None) -> list[BindingRow]:
        """Return the rows with after < order id <= upto (None: open end), ascending."""
        ...

    async def agreed_count(self, link_id: int) -> int:
        """Return how many orders have an agreed owner."""
        ...

    async def observed(self, lease: Lease, run: int, updates: Iterable[BindingUpdate]) -> None:
        """Record new CRM-as-listed values, in chunks of some thousand rows a transaction; agreed values as given."""
        ...

    async def agree(self, lease: Lease, run: int, changes: Iterable[tuple[Change, BindingUpdate]]) -> None:
        """Move the agreed state of orders that both sides already share; each leaves an `agree` row in the audit."""
        ...

    # -------------------------------------------------------------------- run

    async def start_run(self, lease: Lease, kind: str, origin: str, now: float, source: int | None = None) -> int:
        """Open a run and return its number."""
        ...

    async def save_plan(self, lease: Lease, run: int, changes: Sequence[Change]) -> list[int]:
        """Store a plan's changes as `planned`, and return their ids, in order."""
        ...

    async def finish_run(self, lease: Lease, row: RunRow) -> None:
        """Write the run's final state and numbers (all fields but id, link, kind, origin, source and started_at)."""
        ...

    async def spend(self, lease: Lease, run: int, by: int) -> bool:
        """Mark stored plan `run` as applied by run `by`; False (and nothing written) when it was already spent."""
        ...

    async def run(self, run: int) -> RunRow | None:
        """Return a run."""
        ...

    async def runs(self, link: str | None, limit: int, before: int | None = None) -> list[RunRow]:
        """Return runs, newest first."""
        ...

    async def completed(self, link_id: int) -> bool:
        """Return whether a pass or an applied plan of this generation has ever come to its end (refusals do not)."""
        ...

    async def changes(self, run: int, after: int = 0, limit: int | None = None) -> list[StoredChange]:
        """Return a run's changes (agreements left out) with ids above `after`, in order."""
        ...

    async def history(self, link: str, order_id: int, limit: int = 200) -> list[StoredChange]:
        """Return everything recorded of one order over all generations, oldest first, agreements included."""
        ...

    async def past_holds(self, link: str, order_id: int) -> list[tuple[StoredHold, float | None]]:
        """Return the holds of an order, oldest first, each with the time it was released (None: open)."""
        ...

    # ---------------------------------------------------------------- journal

    async def intend(self, lease: Lease, changes: Sequence[int], now: float, alive_until: float) -> None:
        """Commit that these changes are about to be sent."""
        ...

    async def record(
        self,
        lease: Lease,
        run: int,
        outcomes: Sequence[ChangeOutcome],
        *,
        now: float,
        holds: Sequence[StoredHold] = (),
        attempts: Sequence[Attempt] = (),
    ) -> None:
        """Commit outcomes, the agreed state they lead to, new holds and failure counts, together.

        An Attempt with 0 failures clears the order's failures.
        """
        ...

    async def open_intents(self, link_id: int) -> list[StoredChange]:
        """Return the changes of any run of this link whose outcome is still `intended`, oldest first."""
        ...

    async def removed_since(self, link_id: int, since: float) -> dict[Side, int]:
        """Return how many removes were applied on each side since then."""
        ...

    async def repeats(
        self, link_id: int, orders: Sequence[int], since: float
    ) -> Mapping[tuple[int, Side, MaybeOwner], int]:
        """Return how often (order, side, after) was applied since then, for the orders given."""
        ...

    # ------------------------------------------------------------------ holds

    async def holds(self, link_id: int) -> list[StoredHold]:
        """Return the open holds, by order id."""
        ...

    async def set_holds(
        self, lease: Lease, run: int, *, opened: Sequence[StoredHold], released: Sequence[int], now: float
    ) -> None:
        """Open holds and release those of the orders given.

        A hold replaces an open one of the same order, whose `since` survives if the kind is the same, and whose
        decision survives if it was made after the run began and for the same facts.
        """
        ...

    async def decide(self, link_id: int, orders: Sequence[int], decision: str, now: float) -> int:
        """Record a person's decision on open holds; return how many there were. Needs no lease: the next pass acts."""
        ...

    async def attempts(self, link_id: int) -> dict[int, Attempt]:
        """Return the failure counts of the link."""
        ...

    # --------------------------------------------------- requests, token, budget

    async def post_request(self, link: str, kind: str, by: str, now: float) -> int:
        """Leave a request for the daemon; return its number."""
        ...

    async def take_requests(self, links: Sequence[str], now: float) -> list[Request]:
        """Return the open requests of these links and mark them taken."""
        ...

    async def budget(self, portal: str) -> dict[str, tuple[float, float, float]]:
        """Return the portal's operating budget by method: (operating seconds used, reset at, read at)."""
        ...

    async def set_budget(self, portal: str, budget: Mapping[str, tuple[float, float, float]]) -> None:
        """Keep the operating budget over a restart."""
        ...

    async def token(self, portal: str) -> dict[str, Any] | None:
        """Return the stored OAuth pair of a portal, as stored."""
        ...

    async def swap_token(self, portal: str, expected_refresh: str | None, token: Mapping[str, Any]) -> bool:
        """Store a new pair if the stored refresh token is still the expected one (None: whatever it is)."""
        ...

    async def aclose(self) -> None:
        """Close connections."""
        ...


__all__ = [
    "Attempt", "BindingRow", "BindingUpdate", "ChangeOutcome", "Facts", "GuardHit", "HoldKind", "Lease", "LeaseRow",
    "LinkRow", "Owner", "Request", "RunRow", "Store", "StoredChange", "StoredHold",
]  # fmt: skip
