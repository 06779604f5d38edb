"""`syncd.core.store.Store` over a SQL database.

The modules of the subjects say what each method does in SQL. This one takes it from the event loop into a worker
thread, into one short transaction, and, where the method takes a lease, behind the proof that the lease is still ours.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Concatenate, ParamSpec, TypeVar

from pydantic import SecretStr
from sqlalchemy import Connection

from syncd.core.model import Change
from syncd.core.ports import Clock
from syncd.core.records import BindingUpdate, Lease, LinkRow, Reached
from syncd.obs.clock import NULL_METER, Meter, timed
from syncd.state import holds as hold_rows
from syncd.state import journal, links, orders, page_queries, portal_state
from syncd.state import leases as lease_rows
from syncd.state import runs as run_rows
from syncd.state.database import THREADS, Database, read_url
from syncd.state.locks import open_locks
from syncd.state.portal_state import TokenCipher
from syncd.state.rows import CHUNK, chunks

P = ParamSpec("P")
T = TypeVar("T")

_READERS = 2


def open_store(url: str, *, clock: Clock, meter: Meter = NULL_METER, token_key: SecretStr | None = None) -> SqlStore:
    """Given the URL of a state database, return its store. Nothing connects before the first call.

    Args:
        url: `sqlite:///…`, `postgresql://…`, `mysql://…` or `mariadb://…`; `migrate.upgrade` makes the schema.
        clock: For what no caller gives a time for.
        meter: Receives the duration of every transaction.
        token_key: Encrypts OAuth tokens at rest; None stores them as they are.

    Raises:
        ConfigError: The URL is not one, its driver is not installed, or the key cannot be used.
    """
    return SqlStore(Database(read_url(url)), clock, meter, TokenCipher(token_key))


def _reads(
    query: Callable[Concatenate[Connection, P], T],
) -> Callable[Concatenate[SqlStore, P], Coroutine[Any, Any, T]]:
    """Given what is to be read, return the method that does so in one transaction."""

    async def method(self: SqlStore, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._read(query, *args, **kwargs)

    return method


def _writes(
    work: Callable[Concatenate[Connection, P], T],
) -> Callable[Concatenate[SqlStore, P], Coroutine[Any, Any, T]]:
    """Given what is to be written without a lease, return the method that does so in one transaction."""

    async def method(self: SqlStore, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._write(work, *args, **kwargs)

    return method


def _leased(
    work: Callable[Concatenate[Connection, Lease, P], T],
) -> Callable[Concatenate[SqlStore, Lease, P], Coroutine[Any, Any, T]]:
    """Given what is to be written, return the method that does so in one transaction, after proving the lease."""

    async def method(self: SqlStore, lease: Lease, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._write_leased(lease, work, *args, **kwargs)

    return method


class SqlStore:
    """See `syncd.core.store.Store`, which says what each method means.

    All methods raise `StateUnavailable` when the database is locked, full, read-only, damaged or out of reach, and
    `AuthError` when it refuses the credentials. A call that is cancelled may still take effect.

    Args:
        database: The state database.
        clock: For what no caller gives a time for.
        meter: Receives the duration of every transaction.
        cipher: Encrypts OAuth tokens at rest.
    """

    def __init__(self, database: Database, clock: Clock, meter: Meter, cipher: TokenCipher) -> None:
        self._cipher = cipher
        self._database = database
        self._clock = clock
        self._meter = meter
        self._keeper = lease_rows.LeaseKeeper(database, open_locks(database))
        # SQLite has one writer at a time: writers wait for each other here, in order, not in its busy handler.
        writers = 1 if database.path else THREADS
        self._writers = ThreadPoolExecutor(writers, thread_name_prefix="state-write")
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="state-read")

    # ------------------------------------------------------------------- link

    find_link = _reads(links.find_link)
    rebase = _leased(links.rebase)
    keep_portal = _leased(links.keep_portal)
    set_paused = _writes(links.set_paused)
    set_coverage = _leased(links.set_coverage)
    set_parked = _leased(links.set_parked)
    identity = _reads(links.identity)
    post_request = _writes(links.post_request)
    open_requests = _reads(links.open_requests)
    close_requests = _leased(links.close_requests)

    async def link(self, name: str, fingerprint: str) -> LinkRow:
        """See `Store`."""
        found = await self.find_link(name)
        if found is not None:
            return found
        return await self._write(links.find_or_make, name, fingerprint, self._clock.now())

    # ------------------------------------------------------------------ lease

    leases = _reads(lease_rows.leases)

    async def acquire(self, link: LinkRow, holder: str, ttl: float, now: float) -> Lease:
        """See `Store`."""
        return await self._in(self._writers, partial(self._keeper.acquire, link, holder, ttl, now))

    async def renew(self, lease: Lease, ttl: float, now: float, reached: Reached | None = None) -> Lease:
        """See `Store`."""
        return await self._in(self._writers, partial(self._keeper.renew, lease, ttl, now, reached))

    async def release(self, lease: Lease) -> None:
        """See `Store`."""
        await self._in(self._writers, partial(self._keeper.release, lease))

    # ----------------------------------------- bindings, absences, order keys

    boundaries = _reads(orders.boundaries)
    bindings_of = _reads(orders.bindings_of)
    newest_order = _reads(orders.newest_order)
    active_orders = _reads(run_rows.active_orders)
    bindings = _reads(orders.bindings)
    agreed_count = _reads(orders.agreed_count)
    absence_counts = _reads(orders.absence_counts)
    absences = _reads(orders.absences)
    note_absences = _leased(orders.note_absences)
    forget_absences = _leased(orders.forget_absences)
    orders_by_key = _reads(orders.orders_by_key)
    order_keys = _reads(orders.order_keys)
    unknown_keys = _reads(orders.unknown_keys)
    save_keys = _leased(orders.save_keys)

    async def observed(self, lease: Lease, updates: Iterable[BindingUpdate]) -> None:
        """See `Store`."""
        for part in _parts(updates):
            await self._write_leased(lease, orders.observed, part)

    async def agree(self, lease: Lease, run: int, changes: Iterable[tuple[Change, BindingUpdate]]) -> None:
        """See `Store`."""
        for part in _parts(changes):
            await self._write_leased(lease, journal.agree, run, self._clock.now(), part)

    # ---------------------------------------------------------- runs, journal

    start_run = _leased(run_rows.start_run)
    drop_run = _leased(run_rows.drop_run)
    finish_run = _leased(run_rows.finish_run)
    spend = _leased(run_rows.spend)
    run = _reads(run_rows.run)
    runs = _reads(run_rows.runs)
    completed = _reads(run_rows.completed)
    last_day = _reads(run_rows.last_day)
    prune = _leased(run_rows.prune)
    changes = _reads(journal.changes)
    tally = _reads(journal.tally)
    history = _reads(journal.history)
    intend = _leased(journal.intend)
    record = _leased(journal.record)
    open_intents = _reads(journal.open_intents)
    answered_siblings = _reads(journal.answered_siblings)
    written = _reads(journal.written)

    async def save_plan(self, lease: Lease, run: int, changes: Sequence[Change]) -> list[int]:
        """See `Store`."""
        ids: list[int] = []
        for part in _parts(changes):
            ids += await self._write_leased(lease, journal.save_plan, run, part)
        return ids

    # ------------------------------------------------------------------ holds

    holds = _reads(hold_rows.holds)
    past_holds = _reads(hold_rows.past_holds)
    set_holds = _leased(hold_rows.set_holds)
    decide = _writes(hold_rows.decide)
    note = _writes(hold_rows.note)
    decisions = _reads(hold_rows.decisions)
    attempts = _reads(hold_rows.attempts)

    # ----------------------------------------------------------------- portal

    budget = _reads(portal_state.budget)
    set_budget = _writes(portal_state.set_budget)
    names = _reads(portal_state.names)
    all_names = _reads(portal_state.all_names)
    keep_names = _writes(portal_state.keep_names)

    async def token(self, portal: str) -> dict[str, Any] | None:
        """See `Store`."""
        return await self._read(portal_state.load_token, self._cipher, portal)

    async def swap_token(self, portal: str, expected_refresh: str | None, token: Mapping[str, Any]) -> bool:
        """See `Store`."""
        return await self._write(portal_state.swap_token, self._cipher, portal, expected_refresh, token)

    # ------------------------------------------------- what only the page asks

    series = _reads(page_queries.series)
    runs_in_state = _reads(page_queries.runs_in_state)
    run_starts = _reads(page_queries.run_starts)
    outcome_counts = _reads(page_queries.outcome_counts)
    changes_with = _reads(page_queries.changes_with)
    holds_of_run = _reads(page_queries.holds_of_run)
    last_decisions = _reads(page_queries.last_decisions)
    bindings_of_owner = _reads(page_queries.bindings_of_owner)

    # --------------------------------------------------------------- plumbing

    async def _read(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._in(self._readers, partial(self._database.read, work, *args, **kwargs))

    async def _write(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._in(self._writers, partial(self._database.write, work, *args, **kwargs))

    async def _write_leased(
        self, lease: Lease, work: Callable[Concatenate[Connection, Lease, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        def proved(connection: Connection) -> T:
            lease_rows.prove(connection, lease)
            return work(connection, lease, *args, **kwargs)

        return await self._in(self._writers, partial(self._database.write, proved))

    async def _in(self, threads: ThreadPoolExecutor, call: Callable[[], T]) -> T:
        # The context goes along, so that what a thread logs carries the run and the link.
        context = contextvars.copy_context()
        work_timed = partial(context.run, timed, self._meter, self._clock, ("state", ""), call)
        return await asyncio.get_running_loop().run_in_executor(threads, work_timed)

    async def aclose(self) -> None:
        """See `Store`. Waits for transactions under way. Leases not released stay until another holder takes them."""
        await asyncio.to_thread(self._close)

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
