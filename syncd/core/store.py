"""The protocol of the state database.

Each method of `Store` is one short transaction; `observed`, `agree` and `save_plan` take one for some thousand rows.
Methods that take a `Lease` prove it first: they raise `LeaseLost`, and write nothing, when the lease row no longer has
its fencing number. Times are seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from syncd.core.model import Change, HoldKind, Side
from syncd.core.order_keys import KeyRow
from syncd.core.order_ranges import Coverage, OrderRange, OrderRanges
from syncd.core.records import (
    Absence,
    Attempt,
    BindingRow,
    BindingUpdate,
    ChangeOutcome,
    Decision,
    LastDay,
    Lease,
    LeaseRow,
    LinkRow,
    Pause,
    Reached,
    Request,
    RunRow,
    StoredChange,
    StoredHold,
    Tally,
    Written,
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
        """Start a new, empty generation of the leased link: not parked, and paused if the old one is.

        The old rows stay as history; their holds are closed.
        """
        ...

    async def keep_portal(self, lease: Lease, fingerprint: str, portal: str, member_id: str) -> LinkRow:
        """Note which portal the agreed state of the leased link is about, and the fingerprint that names it now."""
        ...

    async def set_paused(self, name: str, *, paused: bool, pause: Pause = Pause()) -> None:  # noqa: B008 - a constant
        """Pause or resume the scheduled passes of a link; `pause` says by whom, why and until when.

        Raises:
            UsageError: No run has ever seen the link.
        """
        ...

    async def set_coverage(self, lease: Lease, coverage: Coverage) -> None:
        """Store when each part of the leased link was last covered."""
        ...

    async def set_parked(self, lease: Lease, reason: str) -> None:
        """Park the leased link with a reason, or unpark it with an empty one."""
        ...

    async def identity(self) -> str:
        """Return the lasting id of this state database. Only copies of it share the id."""
        ...

    # ------------------------------------------------------------------ lease

    async def acquire(self, link: LinkRow, holder: str, ttl: float, now: float) -> Lease:
        """Take the link's lease, which covers all generations, for `ttl` seconds. A dead holder is replaced at once.

        Raises:
            LeaseHeld: Another holder has it, or the link was rebased since `link` was read.
        """
        ...

    async def renew(self, lease: Lease, ttl: float, now: float, reached: Reached | None = None) -> Lease:
        """Prolong the lease to `ttl` seconds from now, and store how far its holder has got."""
        ...

    async def release(self, lease: Lease) -> None:
        """Give the lease back. A lease that is no longer ours is left alone."""
        ...

    async def leases(self) -> list[LeaseRow]:
        """Return the leases that have a holder, by link name, expired ones too."""
        ...

    # ---------------------------------------------------------------- binding

    async def boundaries(self, link_id: int, every: int, ranges: Sequence[OrderRange] = ()) -> list[int]:
        """Return every `every`-th order id bound in the CRM at the last complete listing, ascending.

        With ranges, those of each of them, counted from its beginning.
        """
        ...

    async def bindings_of(self, link_id: int, orders: Sequence[int]) -> list[BindingRow]:
        """Return the rows of these orders, ascending. Callers ask for some hundred at most."""
        ...

    async def newest_order(self, link_id: int, number: int) -> int | None:
        """Return the smallest of the `number` largest order ids that have a row; None where there are fewer."""
        ...

    async def active_orders(self, link_id: int, since: float, limit: int) -> list[int]:
        """Return orders that passes over recent orders include: absent ones, then those written since, newest first.

        `holds` and `attempts` return the orders that are held or were refused.
        """
        ...

    async def bindings(self, link_id: int, after: int, upto: int | None, limit: int | None = None) -> list[BindingRow]:
        """Return the rows with after < order id <= upto (None: open end), ascending, at most `limit` of them."""
        ...

    async def agreed_count(self, link_id: int) -> int:
        """Return how many orders have an agreed owner."""
        ...

    async def observed(self, lease: Lease, updates: Iterable[BindingUpdate]) -> None:
        """Record new CRM-as-listed values, with the agreed values as given."""
        ...

    async def agree(self, lease: Lease, run: int, changes: Iterable[tuple[Change, BindingUpdate]]) -> None:
        """Record that both sides already share these values: move the agreed state, each with an `agree` change."""
        ...

    # -------------------------------------------------------------------- run

    async def start_run(self, lease: Lease, kind: str, origin: str, now: float, source: int | None = None) -> int:
        """Open a run and return its number."""
        ...

    async def save_plan(self, lease: Lease, run: int, changes: Sequence[Change]) -> list[int]:
        """Store a plan's changes as `planned`, and return their ids, in order.

        The plan is whole once `finish_run` says `planned`.
        """
        ...

    async def drop_run(self, lease: Lease, run: int) -> None:
        """Delete a run that found nothing to do."""
        ...

    async def finish_run(self, lease: Lease, row: RunRow) -> None:
        """Write the run's final state and numbers: all fields but id, link, kind, origin and started_at.

        A plan that is spent stays spent, whatever the row says.
        """
        ...

    async def spend(self, lease: Lease, run: int, by: int) -> bool:
        """Mark stored plan `run`, and the passes that found it still refused, as applied by run `by`.

        Returns:
            False, with nothing written, if it was already spent.
        """
        ...

    async def run(self, run: int) -> RunRow | None:
        """Return a run, or None."""
        ...

    async def runs(self, link: str | None, limit: int, before: int | None = None) -> list[RunRow]:
        """Return at most `limit` runs with ids below `before`, newest first: of a link over all generations, or all."""
        ...

    async def completed(self, link_id: int) -> bool:
        """Return whether a pass or an applied plan of this generation has ever ended without an error or a refusal.

        Leftovers do not matter. Runs that covered only some orders do not count.
        """
        ...

    async def changes(self, run: int, after: int = 0, limit: int | None = None) -> list[StoredChange]:
        """Return a run's changes (agreements left out) with ids above `after`, in order."""
        ...

    async def tally(self, run: int) -> Tally:
        """Return how many of a run's changes (agreements left out) there are by side, action and outcome."""
        ...

    async def history(
        self, link: str, order_id: int, limit: int = 200, before: int | None = None
    ) -> list[StoredChange]:
        """Return the changes of one order over all generations, oldest first, agreements included.

        Of more than `limit` changes with ids below `before` (None: any), the newest are returned.
        """
        ...

    async def past_holds(self, link: str, order_id: int) -> list[tuple[StoredHold, float | None]]:
        """Return the holds of an order, oldest first, each with the time it was released (None: open)."""
        ...

    # ---------------------------------------------------------------- journal

    async def intend(self, lease: Lease, changes: Sequence[int], now: float, batch: int) -> None:
        """Commit that these changes are about to be sent in one request, in the order of their ids.

        Args:
            lease: The lease.
            changes: The changes of one request.
            now: The time.
            batch: The request's number within the run.
        """
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

        An `Attempt` with 0 failures clears the order's failures.
        """
        ...

    async def open_intents(self, link_id: int) -> list[StoredChange]:
        """Return the changes of all runs of this generation whose outcome is still `intended`, oldest first."""
        ...

    async def answered_siblings(self, link_id: int) -> list[StoredChange]:
        """Return the changes that took effect and were sent in one request with an open intent, request by request."""
        ...

    async def last_day(self, link_id: int, since: float, in_parts_since: float) -> LastDay:
        """Return what was moved, removed and put back since then, and how much was agreed before.

        What was done in earlier generations counts too.

        Args:
            link_id: The link's generation.
            since: 24 hours ago.
            in_parts_since: When the order was covered that has waited longest for it (`LastDay.in_parts`).
        """
        ...

    async def written(self, link_id: int, orders: Sequence[int], since: float) -> list[Written]:
        """Return the writes applied to these orders since then, by order, oldest first; those before a rebase, too."""
        ...

    # --------------------------------------------------------------- absences

    async def absence_counts(self, link_id: int, ranges: OrderRanges | None = None) -> dict[Side, tuple[int, float]]:
        """Return how many absences wait on each side that has any, and since when the first of them waits.

        With ranges, only those of these orders. Only orders that are still agreed count; the others have been removed
        since their absence was noted.
        """
        ...

    async def absences(self, link_id: int, orders: Sequence[int]) -> dict[int, Absence]:
        """Return the absences of these orders that wait."""
        ...

    async def note_absences(self, lease: Lease, side: Side, orders: Sequence[int], since: float) -> None:
        """Note that these orders, absent on a side, wait since then. This replaces earlier notes of the orders."""
        ...

    async def forget_absences(self, lease: Lease, side: Side, orders: Sequence[int] | None = None) -> None:
        """Delete the absences of a side: of these orders, or all."""
        ...

    # ------------------------------------------------------------- order keys

    async def orders_by_key(self, link_id: int, keys: Sequence[str]) -> list[tuple[str, int]]:
        """Return (key, order id) for each of these keys that is stored; unknown keys come with their number."""
        ...

    async def order_keys(self, link_id: int, orders: Sequence[int]) -> list[KeyRow]:
        """Return what is known of the keys of these orders."""
        ...

    async def unknown_keys(self, link_id: int) -> list[KeyRow]:
        """Return the keys that no order of the portal had when the portal was last asked."""
        ...

    async def save_keys(self, lease: Lease, learned: Sequence[KeyRow], gone: Sequence[int] = ()) -> None:
        """Store what was learned of orders' keys, and delete what was known of orders that are gone."""
        ...

    # ------------------------------------------------------------------ holds

    async def holds(
        self, link_id: int, *, kind: HoldKind | None = None, after: int | None = None, limit: int | None = None
    ) -> list[StoredHold]:
        """Return at most `limit` open holds, of one kind or all, of orders above `after`, by order id."""
        ...

    async def set_holds(
        self, lease: Lease, run: int, *, opened: Sequence[StoredHold], released: Sequence[int], now: float
    ) -> None:
        """Release the holds of the orders given, then open holds.

        A new hold replaces an open one of the same order. One without `since` begins now; if both have the same kind,
        the old one's stays. If they have the same facts too, a decision made after the run began stays; an earlier one
        was acted on by the run.
        """
        ...

    async def decide(
        self, link_id: int, orders: Sequence[int], decision: str, now: float, *, notes: Sequence[Decision] = ()
    ) -> int:
        """Record a person's decision on the open holds of these orders, and `notes` in the audit.

        Needs no lease: the next pass acts on it.

        Returns:
            How many holds there were.
        """
        ...

    async def note(self, decision: Decision) -> None:
        """Write a decision into the audit."""
        ...

    async def decisions(
        self, link: str, *, order_id: int | None = None, run: int | None = None, limit: int = 200
    ) -> list[Decision]:
        """Return the newest `limit` decisions of a link, of one order or run if named, oldest first."""
        ...

    async def attempts(self, link_id: int, orders: Sequence[int] | None = None) -> dict[int, Attempt]:
        """Return by order how often its writes have failed in a row: of these orders, or of all."""
        ...

    # --------------------------------------------------- requests, token, budget

    async def post_request(self, link: str, kind: str, by: str, now: float, orders: OrderRanges | None = None) -> int:
        """Leave a request to the daemon, about these orders or all, and return its number."""
        ...

    async def open_requests(self, links: Sequence[str]) -> list[Request]:
        """Return the requests to these links that no pass has served yet, oldest first."""
        ...

    async def close_requests(self, lease: Lease, requests: Sequence[int], now: float) -> None:
        """Record that requests to the leased link have been served."""
        ...

    async def budget(self, portal: str) -> dict[str, tuple[float, float, float]]:
        """Return the portal's operating budget by method: (operating seconds used, reset at, read at)."""
        ...

    async def set_budget(self, portal: str, budget: Mapping[str, tuple[float, float, float]]) -> None:
        """Store the operating budget of some methods; the others stay as they are."""
        ...

    async def token(self, portal: str) -> dict[str, Any] | None:
        """Return the stored OAuth pair of a portal, or None."""
        ...

    async def swap_token(self, portal: str, expected_refresh: str | None, token: Mapping[str, Any]) -> bool:
        """Store a new pair if the stored refresh token is the expected one (None: any), and return whether it was."""
        ...

    async def aclose(self) -> None:
        """Close connections."""
        ...
