"""The protocol of the state database.

Each method of `Store` is one short transaction named for what it means (`observed`, `history` and the other readers may
take several, one a page). Methods that take a `Lease` prove it first: they raise `LeaseLost`, and write nothing, when
the lease row no longer carries that fencing number. Times are seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from syncd.core.model import Change, MaybeOwner, Side
from syncd.core.records import (
    Attempt,
    BindingRow,
    BindingUpdate,
    ChangeOutcome,
    Lease,
    LeaseRow,
    LinkRow,
    Request,
    RunRow,
    StoredChange,
    StoredHold,
)


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
        """Write the run's final state and numbers (all fields but id, link, kind, origin and started_at)."""
        ...

    async def spend(self, lease: Lease, run: int, by: int) -> bool:
        """Mark stored plan `run`, and the passes that found it still refused, as applied by run `by`.

        False (and nothing written) when it was already spent.
        """
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

    async def intend(self, lease: Lease, changes: Sequence[int], now: float) -> None:
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

    async def open_requests(self, links: Sequence[str]) -> list[Request]:
        """Return the requests of these links that no pass has served yet, oldest first."""
        ...

    async def close_requests(self, lease: Lease, requests: Sequence[int], now: float) -> None:
        """Record that requests of the leased link have been served."""
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
