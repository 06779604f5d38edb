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
from syncd.core.order_keys import PortalOrders, UnknownKey
from syncd.core.order_ranges import OrderRange, OrderRanges
from syncd.core.records import KnownRun

Progress = Callable[[str, int, int | None], None]
"""Called with (stage, done, expected total or None). Cheap; called at most once a page or chunk."""

WAITING = "waiting until "
"""How the stage of a long wait begins; the time of day follows. It is over when done is the expected total."""


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

    found is what was really there right before (or instead), where `found_known` says so; code is the
    portal's or the database's own, empty where syncd itself refuses; text says why, free of secrets.
    """

    order_id: int
    effect: Effect
    found: MaybeOwner = None
    found_known: bool = False
    code: str = ""
    text: str = ""


class Listed(NamedTuple):
    """A chunk of the portal's listing.

    Args:
        rows: Readable rows, ascending by order id.
        unreadable: Orders up to the last of these rows (with the last chunk: all that are left) that have a row whose
            owner cannot be read. They are bound to something; they are not absent.
        unproved: Of a listing of several ranges, those that could not be proved complete, each with why; reported with
            the first chunk. None of their rows are listed.
    """

    rows: list[Row]
    unreadable: Mapping[int, Unreadable] = {}
    unproved: Mapping[OrderRange, str] = {}


OPERATING_LIMIT = 480
"""Seconds of operating time the portal allows a method in ten minutes (portal.md 9.2)."""


@dataclass(slots=True)
class Usage:
    """What a portal client used so far.

    operating: the operating seconds that the portal's busiest method stands at now, of its budget for ten minutes.
    conditional: whether the portal's batches can carry a condition (portal.md 6.6); None before it wrote.
    """

    requests: int = 0
    calls: int = 0
    refused: int = 0
    listing_seconds: float = 0.0
    throttled_seconds: float = 0.0
    operating: float = 0.0
    conditional: bool | None = None


@dataclass(frozen=True, slots=True)
class Rights:
    """What the credentials may do, found by harmless probes.

    read and write are None where that could not be found out: the portal failed, rather than refused the right.
    sees_owners is None when no bound owner was at hand to try it with, or owners are not to be verified. clock_ahead is
    by how many seconds the portal's clock is ahead of ours, to about a second; None where it did not say. conditional
    says whether a batch can carry the condition of a write; None where no order was bound to try it with.
    """

    read: bool | None
    write: bool | None
    sees_owners: bool | None
    detail: tuple[str, ...] = ()
    clock_ahead: float | None = None
    conditional: bool | None = None


class Portal(PortalOrders, Protocol):
    """The CRM side: one portal, spoken to through crm.orderentity.*."""

    def usage(self) -> Usage:
        """Return a copy of the running totals."""
        ...

    def listing(
        self, boundaries: Sequence[int], scope: Scope, progress: Progress, ranges: OrderRanges | None = None
    ) -> AsyncIterator[Listed]:
        """List every binding whose order id is in the scope's range, of whatever owner type.

        Args:
            boundaries: Every 50th order id bound at the last complete listing, ascending; empty when none is known.
            scope: Only its order range is used: a list filtered by type cannot tell "unbound" from "bound elsewhere".
            progress: Receives the number of rows so far.
            ranges: List only these orders of the scope, with as few requests as it takes. Each range is proved by
                itself, against its own count.

        Yields:
            Chunks; the order ids of their rows grow strictly over the whole listing. When the iterator ends without an
            error the listing is proved complete, but for ranges it names as `unproved`.

        Raises:
            IncompleteListing: Completeness could not be proved: of the only range, or of all.
            AuthError, PortalBlocked, UnavailableError: As their names say.
        """
        ...

    async def read(self, order_ids: Sequence[int]) -> dict[int, Owner | Unreadable]:
        """Given order ids, return the owners of those that are bound; each id was surely asked for and answered.

        An order that has a row whose owner cannot be read comes as `Unreadable`.

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

    async def write(self, batch: Sequence[Write]) -> list[WriteResult]:
        """Carry out conditional writes in one request, and account for each of them, in the order given.

        A write whose `before` is not there is MOVED (or ALREADY), with what is there where that is known. The condition
        travels with the write, inside the batch. A portal whose batches cannot carry one (`Usage.conditional`) is read
        right before instead; what is written between that and the write is replaced, and reported in `found`
        if the batch's own list saw it.

        A lost answer is reported as UNKNOWN for each write, never raised; nothing is ever sent twice by this call
        unless the portal certainly did not execute it.

        Args:
            batch: Writes of one method, at most `batch_size` of them, each order once.

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

    async def member_id(self) -> str:
        """Return the portal's lasting id, which a rename keeps; empty where the credentials do not show it."""
        ...

    async def is_target_of(self, address: str) -> bool:
        """Return whether another address, `host[:port]`, redirects to this portal's. No credentials are sent."""
        ...

    async def aclose(self) -> None:
        """Close connections."""
        ...


class TableValue(NamedTuple):
    """What the table says of one order when asked by id, without the link's `where`.

    owner is set when exactly one readable row exists; selected says whether the link's `where` selects it. deleted: the
    order has no live row, but one that is softly deleted. That is a statement (unbound), where no row at all is only an
    absence.
    """

    owner: MaybeOwner
    selected: bool = True
    unreadable: Unreadable | None = None
    deleted: bool = False


class TableCheck(NamedTuple):
    """What was found out about a mapping table, in sentences that begin with the key they are about.

    problems keep syncd from working as it should; warnings do not. sample holds some order ids of the table; keys some
    keys of the shop's own, where it holds those.
    """

    problems: list[str]
    warnings: list[str]
    sample: list[int]
    keys: Sequence[str] = ()


class Snapshot(Protocol):
    """One consistent reading of the mapping table, kept outside memory, consumed once in order of order id."""

    rows: int
    unreadable: Mapping[int, Unreadable]
    orderless: Sequence[str]
    unknown: Mapping[int, UnknownKey]

    def take(self, upto: int | None, limit: int | None = None) -> list[Row]:
        """Return the readable rows not yet taken with an order id at most `upto` (None: all that are left).

        Of more than `limit` such rows, only so many are taken.
        """
        ...


class Table(Protocol):
    """The table side: the mapping table of the order system."""

    @property
    def hides_effects(self) -> bool:
        """Whether a write may add or remove rows of other orders unseen, as known since the last snapshot."""
        ...

    async def check(self) -> TableCheck:
        """Look at the connection, the table, its columns and types, its keys, and try a write that is taken back."""
        ...

    def snapshot(self, progress: Progress, ranges: OrderRanges | None = None) -> AbstractAsyncContextManager[Snapshot]:
        """Read the whole selected table, or these orders of it, in one consistent transaction.

        It is over when this yields. The snapshot's `unreadable` names orders whose rows cannot be read as one binding
        (they are not in `take`); `orderless` describes rows whose order id itself cannot be read (at most some 20
        descriptions), also where only some orders are read. `unknown` holds rows with a key of the shop's own that no
        order of the portal has, by the number that stands for the key.

        Raises:
            UnavailableError: The database cannot be reached.
            ConfigError: The table or its columns are not as configured.
        """
        ...

    async def read(self, order_ids: Sequence[int]) -> dict[int, TableValue]:
        """Given order ids, return what the table says of each, without `where`; an order with no row is absent.

        An order that is softly deleted comes as `TableValue(None, deleted=True)`; a snapshot shows neither.
        """
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


class HighWaterMark(Protocol):
    """How far each link has come, kept outside the state database: a restored backup knows less than this.

    There are two marks: of a link in its state database, and of the ends, whatever the link's name and its state
    database. No method raises where a mark cannot be kept; a link without one is like one that has never been seen.
    """

    async def read(self, link: str) -> KnownRun | None:
        """Return the last run that is known to have changed the link's state, or None."""
        ...

    async def read_ends(self, fingerprint: str) -> KnownRun | None:
        """Return the last run on this host that is known to have changed an agreed state of these ends, or None."""
        ...

    async def write(self, link: str, known: KnownRun | None) -> None:
        """Note a run of the link, or with None forget what is known of it."""
        ...

    async def write_ends(self, fingerprint: str, known: KnownRun | None) -> None:
        """Note a run on these ends, with the address of its state database; with None forget what is known of them."""
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
