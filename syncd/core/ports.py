"""What the engine asks of the outside world, and the values that cross over.

The packages `portal`, `table` and `state` implement these protocols without knowing the engine; the in-memory twins in
`tests/fakes` implement them too, and one contract suite runs over each pair. Ports are async: an adapter over
synchronous SQL runs each call in a worker thread, in a short transaction of its own, never across a network call.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Protocol

from syncd.core.model import Action, MaybeOwner, Owner, Row, Scope, Unreadable

Progress = Callable[[str, int, int | None], None]
"""Called with (stage, done, expected total or None). Cheap; called at most once a page or chunk."""


class Clock(Protocol):
    """Time and chance, injected everywhere so that tests own both."""

    def now(self) -> float:
        """Return seconds since the epoch (UTC). May jump; used for records and waiting times only."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait; 0 yields to other tasks."""
        ...

    def random(self) -> float:
        """Return a number in [0, 1)."""
        ...


class Write(NamedTuple):
    """One conditional write of one order on one side.

    before is the owner expected there (None: unbound); after is the owner wanted (None: remove).
    """

    order_id: int
    before: MaybeOwner
    after: MaybeOwner

    @property
    def action(self) -> Action:
        """add, move or remove."""
        if self.after is None:
            return Action.REMOVE
        return Action.ADD if self.before is None else Action.MOVE


class Effect(StrEnum):
    """What a side says became of a write.

    DONE: written now. ALREADY: the wanted value was there. MOVED: not written, another value stands there.
    ORDER_MISSING: the portal does not know the order. REFUSED: not written, with a code and a text.
    UNKNOWN: perhaps written; the order must be read before anything is sent again.
    NOT_SENT: certainly not executed; may be sent again.
    """

    DONE = "done"
    ALREADY = "already"
    MOVED = "moved"
    ORDER_MISSING = "order-missing"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    NOT_SENT = "not-sent"


class WriteResult(NamedTuple):
    """What became of one write.

    found is what was really there right before (or instead), where `found_known` says so; code and text are the side's
    own words for a refusal, free of secrets.
    """

    order_id: int
    effect: Effect
    found: MaybeOwner = None
    found_known: bool = False
    code: str = ""
    text: str = ""


class WriteAnswer(NamedTuple):
    """The answer to one batch of writes.

    Args:
        results: One for each write, in the order given.
        read: The owners of the orders asked for with `then_read` (unbound ones are absent), read at the end of the same
            request; None where that could not be done.
    """

    results: list[WriteResult]
    read: dict[int, Owner] | None


OPERATING_LIMIT = 480
"""Seconds of operating time the portal allows a method in ten minutes (bitrix24-rest.md 9.2)."""


@dataclass(slots=True)
class Usage:
    """What a portal client used so far.

    operating: the operating seconds that the portal's busiest method stands at now, of its budget for ten minutes.
    """

    requests: int = 0
    calls: int = 0
    refused: int = 0
    listing_seconds: float = 0.0
    throttled_seconds: float = 0.0
    operating: float = 0.0


@dataclass(frozen=True, slots=True)
class Rights:
    """What the credentials may do, found by harmless probes.

    sees_owners is None when no bound owner was at hand to try it with, or owners are not to be verified. clock_ahead is
    by how many seconds the portal's clock is ahead of ours, to about a second; None where it did not say.
    """

    read: bool
    write: bool
    sees_owners: bool | None
    detail: tuple[str, ...] = ()
    clock_ahead: float | None = None


class Portal(Protocol):
    """The CRM side: one portal, spoken to through crm.orderentity.*."""

    def usage(self) -> Usage:
        """Return a copy of the running totals."""
        ...

    def listing(self, boundaries: Sequence[int], scope: Scope, progress: Progress) -> AsyncIterator[list[Row]]:
        """List every binding whose order id is in the scope's range, of whatever owner type.

        Args:
            boundaries: Every 50th order id bound at the last complete listing, ascending; empty when none is known.
            scope: Only its order range is used: a list filtered by type cannot tell "unbound" from "bound elsewhere".
            progress: Told how many rows have come.

        Yields:
            Chunks of rows; order ids grow strictly over the whole listing. When the iterator ends without an error the
            listing is proved complete.

        Raises:
            IncompleteListing: Completeness could not be proved.
            AuthError, PortalBlocked, UnavailableError: As their names say.
        """
        ...

    async def read(self, order_ids: Sequence[int]) -> dict[int, Owner]:
        """Given order ids, return the owners of those that are bound; each id was surely asked for and answered.

        Raises:
            UnavailableError: At least one id could not be asked for.
        """
        ...

    def batch_size(self, writes: Sequence[Write]) -> int:
        """Given writes of one method (adds and moves, or removes), return how many of the first fit one request."""
        ...

    def wait_for(self, action: Action) -> float:
        """Return the seconds until the operating budget lets this action's method be called again; 0 is now."""
        ...

    async def write(self, batch: Sequence[Write], then_read: Sequence[int] = ()) -> WriteAnswer:
        """Send one request that lists the batch's orders and then writes them, and account for each of them.

        A lost answer is reported as UNKNOWN for each write, never raised; nothing is ever sent twice by this call
        unless the portal certainly did not execute it (503, 429, connection refused).

        Args:
            batch: Writes of one method, at most `batch_size` of them, each order once.
            then_read: Orders to read at the end of the same request (the next batch's), to save a request.

        Raises:
            AuthError, PortalBlocked: The run must end; none of the batch was executed.
            UnavailableError: The portal cannot be reached; none of the batch was executed.
        """
        ...

    async def missing_owners(self, owners: Collection[Owner], witnesses: Collection[Owner]) -> set[Owner]:
        """Given owners to bind orders to, return those that certainly do not exist.

        Args:
            owners: The owners to ask for.
            witnesses: Owners that orders are bound to now. Where none of the given witnesses of a type can be seen, the
                credentials cannot see that type, and none of its owners is called missing.
        """
        ...

    async def probe(self, witnesses: Collection[Owner] = ()) -> Rights:
        """Find out what the credentials may do, without any effect."""
        ...

    async def aclose(self) -> None:
        """Close connections."""
        ...


class TableValue(NamedTuple):
    """What the table says of one order when asked by id, without the link's `where`.

    owner is set when exactly one readable row exists; selected says whether the link's `where` selects it.
    """

    owner: MaybeOwner
    selected: bool = True
    unreadable: Unreadable | None = None


class Snapshot(Protocol):
    """One consistent reading of the mapping table, kept outside memory, consumed once in order of order id."""

    rows: int
    unreadable: Mapping[int, Unreadable]
    orderless: Sequence[str]

    def take(self, upto: int | None) -> list[Row]:
        """Return the readable rows not yet taken with an order id at most `upto` (None: all that are left)."""
        ...


class Table(Protocol):
    """The table side: the mapping table of the order system."""

    async def check(self) -> list[str]:
        """Return every problem with the connection, the table, its columns and their types; each a sentence."""
        ...

    def snapshot(self, progress: Progress) -> AbstractAsyncContextManager[Snapshot]:
        """Read the whole selected table in one consistent transaction that is over when this yields.

        The snapshot's `unreadable` names orders whose rows cannot be read as one binding (they are not in `take`);
        `orderless` describes rows whose order id itself cannot be read (at most some 20 descriptions).

        Raises:
            UnavailableError: The database cannot be reached.
            ConfigError: The table or its columns are not as configured.
        """
        ...

    async def read(self, order_ids: Sequence[int]) -> dict[int, TableValue]:
        """Given order ids, return what the table says of each, without `where`; an order with no row is absent."""
        ...

    async def write(self, batch: Sequence[Write]) -> list[WriteResult]:
        """Carry out conditional writes in one transaction, each order once; return one result for each, in order.

        A write whose `before` is not there is MOVED (or ALREADY). One row's failure never stops another's write.
        A connection lost around the commit gives UNKNOWN for all.
        """
        ...

    async def aclose(self) -> None:
        """Close connections."""
        ...


@dataclass(slots=True)
class Cancelled:
    """A flag set once: finish the batch in flight, then stop. `reason` names the signal or command."""

    reason: str = ""
    is_set: bool = field(default=False)

    def set(self, reason: str) -> None:
        """Ask for the stop."""
        self.reason = reason
        self.is_set = True
