"""`syncd.core.store.Store` over a SQL database.

What each method does in SQL stands in the module of its subject; here is how it gets there: from the event loop into a
worker thread, there into one short transaction, and, where it takes a lease, behind the proof that it still is ours.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection

from syncd.core.model import Change, MaybeOwner, Side
from syncd.core.ports import Clock
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
from syncd.obs.measure import UNMEASURED, Measure, measured
from syncd.state import attempts, bindings, holds, inbox, journal, keepsakes, leases, links, retention, runs
from syncd.state.bulk import CHUNK, chunks, store_bindings
from syncd.state.database import THREADS, Database, read_url
from syncd.state.locks import open_locks

P = ParamSpec("P")
T = TypeVar("T")

_READERS = 2


def open_store(url: str, *, clock: Clock, measure: Measure = UNMEASURED) -> SqlStore:
    """Given the URL of a state database, return its store. Nothing connects before the first call.

    Args:
        url: `sqlite:///…`, `postgresql://…`, `mysql://…` or `mariadb://…`; the schema is made by `migrate.upgrade`.
        clock: For what no caller gives a time for.
        measure: Told of every transaction.

    Raises:
        ConfigError: The URL is not one, or its driver is not installed.
    """
    return SqlStore(Database(read_url(url)), clock, measure)


class SqlStore:
    """See `syncd.core.store.Store`, which says what each method means.

    All methods raise `StateUnavailable` when the database is locked, full, read-only, damaged or out of reach, and
    `AuthError` when it refuses the credentials. A call that is cancelled may still take effect.

    Args:
        database: The state database.
        clock: For what no caller gives a time for.
        measure: Told of every transaction.
    """

    def __init__(self, database: Database, clock: Clock, measure: Measure = UNMEASURED) -> None:
        self._database = database
        self._clock = clock
        self._measure = measure
        self._keeper = leases.Keeper(database, open_locks(database))
        # SQLite has one writer at a time: writers wait for each other here, in order, not in its busy handler.
        writers = 1 if database.path else THREADS
        self._writers = ThreadPoolExecutor(writers, thread_name_prefix="state-write")
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="state-read")

    # ------------------------------------------------------------------- link

    async def link(self, name: str, fingerprint: str) -> LinkRow:
        """See `Store`."""
        found = await self._read(links.find, name)
        return (
            found if found is not None else await self._write(links.find_or_make, name, fingerprint, self._clock.now())
        )

    async def find_link(self, name: str) -> LinkRow | None:
        """See `Store`."""
        return await self._read(links.find, name)

    async def rebase(self, lease: Lease, fingerprint: str, now: float) -> LinkRow:
        """See `Store`. The new generation is not parked; it is paused if the old one was."""
        return await self._leased(lease, links.rebase, fingerprint, now)

    async def set_paused(self, name: str, *, paused: bool) -> None:
        """See `Store`. Raises `UsageError` for a link no run has ever seen."""
        await self._write(links.set_paused, name, paused=paused)

    async def set_parked(self, lease: Lease, reason: str) -> None:
        """See `Store`."""
        await self._leased(lease, links.set_parked, reason)

    # ------------------------------------------------------------------ lease

    async def acquire(self, link: LinkRow, holder: str, ttl: float, now: float) -> Lease:
        """See `Store`. A holder proved dead by its lock is replaced at once.

        Raises:
            LeaseHeld: Another holder has it, or the link was rebased since `link` was read.
        """
        return await self._in(self._writers, partial(self._keeper.acquire, link, holder, ttl, now))

    async def renew(self, lease: Lease, ttl: float, now: float) -> Lease:
        """See `Store`."""
        return await self._in(self._writers, partial(self._keeper.renew, lease, ttl, now))

    async def release(self, lease: Lease) -> None:
        """See `Store`."""
        await self._in(self._writers, partial(self._keeper.release, lease))

    async def leases(self) -> list[LeaseRow]:
        """See `Store`."""
        return await self._read(leases.held)

    # ---------------------------------------------------------------- binding

    async def boundaries(self, link_id: int, every: int) -> list[int]:
        """See `Store`."""
        return await self._read(bindings.boundaries, link_id, every)

    async def bindings(self, link_id: int, after: int, upto: int | None) -> list[BindingRow]:
        """See `Store`."""
        return await self._read(bindings.page, link_id, after, upto)

    async def agreed_count(self, link_id: int) -> int:
        """See `Store`."""
        return await self._read(bindings.agreed_count, link_id)

    async def observed(
        self,
        lease: Lease,
        run: int,  # noqa: ARG002 - the port's; these rows carry no run, the listing's numbers stand in the run itself
        updates: Iterable[BindingUpdate],
    ) -> None:
        """See `Store`."""
        for chunk in _parts(updates):
            await self._leased(lease, _observe, chunk)

    async def agree(self, lease: Lease, run: int, changes: Iterable[tuple[Change, BindingUpdate]]) -> None:
        """See `Store`. In chunks of some thousand orders, each a transaction."""
        for chunk in _parts(changes):
            await self._leased(lease, journal.agree, run, self._clock.now(), chunk)

    # -------------------------------------------------------------------- run

    async def start_run(self, lease: Lease, kind: str, origin: str, now: float, source: int | None = None) -> int:
        """See `Store`."""
        return await self._leased(lease, runs.start, kind=kind, origin=origin, now=now, source=source)

    async def save_plan(self, lease: Lease, run: int, changes: Sequence[Change]) -> list[int]:
        """See `Store`. In chunks of some thousand changes; the plan is whole when `finish_run` says `planned`."""
        ids: list[int] = []
        for chunk in _parts(changes):
            ids += await self._leased(lease, journal.save_plan, run, chunk)
        return ids

    async def finish_run(self, lease: Lease, row: RunRow) -> None:
        """See `Store`. A spent plan stays spent whatever the row says."""
        await self._leased(lease, runs.finish, row)

    async def spend(self, lease: Lease, run: int, by: int) -> bool:
        """See `Store`."""
        return await self._leased(lease, runs.spend, run, by)

    async def run(self, run: int) -> RunRow | None:
        """See `Store`."""
        return await self._read(runs.find, run)

    async def runs(self, link: str | None, limit: int, before: int | None = None) -> list[RunRow]:
        """See `Store`."""
        return await self._read(runs.latest, link, limit, before)

    async def completed(self, link_id: int) -> bool:
        """See `Store`."""
        return await self._read(runs.completed, link_id)

    async def changes(self, run: int, after: int = 0, limit: int | None = None) -> list[StoredChange]:
        """See `Store`."""
        return await self._read(journal.of_run, run, after, limit)

    async def history(self, link: str, order_id: int, limit: int = 200) -> list[StoredChange]:
        """See `Store`. Of more than `limit` records the newest."""
        return await self._read(journal.of_order, link, order_id, limit)

    async def past_holds(self, link: str, order_id: int) -> list[tuple[StoredHold, float | None]]:
        """See `Store`."""
        return await self._read(holds.of_order, link, order_id)

    async def prune(self, lease: Lease, now: float, keep_days: float) -> int:
        """Delete the leased link's passes that did nothing, are older than `keep_days` and not among its newest 1000.

        Returns:
            How many were deleted.
        """
        return await self._leased(lease, retention.prune, now, keep_days)

    # ---------------------------------------------------------------- journal

    async def intend(self, lease: Lease, changes: Sequence[int], now: float) -> None:
        """See `Store`."""
        await self._leased(lease, journal.intend, changes, now)

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
        """See `Store`."""
        await self._leased(lease, journal.record, run, outcomes, now=now, opened=holds, failures=attempts)

    async def open_intents(self, link_id: int) -> list[StoredChange]:
        """See `Store`."""
        return await self._read(journal.open_intents, link_id)

    async def removed_since(self, link_id: int, since: float) -> dict[Side, int]:
        """See `Store`."""
        return await self._read(journal.removed_since, link_id, since)

    async def repeats(
        self, link_id: int, orders: Sequence[int], since: float
    ) -> Mapping[tuple[int, Side, MaybeOwner], int]:
        """See `Store`."""
        return await self._read(journal.repeats, link_id, orders, since)

    # ------------------------------------------------------------------ holds

    async def holds(self, link_id: int) -> list[StoredHold]:
        """See `Store`."""
        return await self._read(holds.open_of_link, link_id)

    async def set_holds(
        self, lease: Lease, run: int, *, opened: Sequence[StoredHold], released: Sequence[int], now: float
    ) -> None:
        """See `Store`. Releases first, then opens."""
        await self._leased(lease, _set_holds, run, opened=opened, released=released, now=now)

    async def decide(self, link_id: int, orders: Sequence[int], decision: str, now: float) -> int:
        """See `Store`."""
        return await self._write(holds.decide, link_id, orders, decision, now)

    async def attempts(self, link_id: int) -> dict[int, Attempt]:
        """See `Store`."""
        return await self._read(attempts.of_link, link_id)

    # ------------------------------------------------ requests, token, budget

    async def post_request(self, link: str, kind: str, by: str, now: float) -> int:
        """See `Store`."""
        return await self._write(inbox.post, link, kind, by, now)

    async def open_requests(self, links: Sequence[str]) -> list[Request]:
        """See `Store`."""
        return await self._read(inbox.still_open, links)

    async def close_requests(self, lease: Lease, requests: Sequence[int], now: float) -> None:
        """See `Store`."""
        await self._leased(lease, inbox.close, requests, now)

    async def budget(self, portal: str) -> dict[str, tuple[float, float, float]]:
        """See `Store`."""
        return await self._read(keepsakes.load_budget, portal)

    async def set_budget(self, portal: str, budget: Mapping[str, tuple[float, float, float]]) -> None:
        """See `Store`. Methods not named keep what they had."""
        await self._write(keepsakes.store_budget, portal, budget)

    async def token(self, portal: str) -> dict[str, Any] | None:
        """See `Store`."""
        return await self._read(keepsakes.load_token, portal)

    async def swap_token(self, portal: str, expected_refresh: str | None, token: Mapping[str, Any]) -> bool:
        """See `Store`."""
        return await self._write(keepsakes.swap_token, portal, expected_refresh, token)

    async def aclose(self) -> None:
        """See `Store`. Waits for the transactions at work; leases not released are left to whoever takes them over."""
        await asyncio.to_thread(self._close)

    # --------------------------------------------------------------- plumbing

    async def _read(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._in(self._readers, partial(self._database.read, work, *args, **kwargs))

    async def _write(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._in(self._writers, partial(self._database.write, work, *args, **kwargs))

    async def _leased(
        self, lease: Lease, work: Callable[Concatenate[Connection, Lease, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        def proved(connection: Connection) -> T:
            leases.prove(connection, lease)
            return work(connection, lease, *args, **kwargs)

        return await self._in(self._writers, partial(self._database.write, proved))

    async def _in(self, threads: ThreadPoolExecutor, call: Callable[[], T]) -> T:
        # The context goes along, so that what a thread logs carries the run and the link.
        context = contextvars.copy_context()
        timed = partial(context.run, measured, self._measure, self._clock, ("state", ""), call)
        return await asyncio.get_running_loop().run_in_executor(threads, timed)

    def _close(self) -> None:
        self._writers.shutdown()
        self._readers.shutdown()
        self._keeper.close()
        self._database.close()


def _parts(items: Iterable[T]) -> Iterator[list[T]]:
    """Yield items in parts for one transaction each; of nothing an empty one, which proves the lease all the same."""
    empty = True
    for part in chunks(items, CHUNK):
        empty = False
        yield part
    if empty:
        yield []


def _observe(connection: Connection, lease: Lease, updates: Sequence[BindingUpdate]) -> None:
    store_bindings(connection, lease.link_id, updates)


def _set_holds(
    connection: Connection,
    lease: Lease,
    run: int,
    *,
    opened: Sequence[StoredHold],
    released: Sequence[int],
    now: float,
) -> None:
    holds.release(connection, lease.link_id, released, now)
    holds.open_all(connection, lease, run, opened, now)
