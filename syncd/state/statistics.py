"""What the status page asks of the past. Reading only.

Every method reads a bounded number of rows through an index, however long the audit has grown: a million changes are a
year of a busy link, and a page that takes a second each time it is looked at is not looked at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, or_, select

from syncd.core.model import Counts, HoldKind, Outcome, Side
from syncd.core.records import Attempt, StoredChange, StoredHold
from syncd.state import links
from syncd.state.rows import change_of, counts_of, hold_of
from syncd.state.schema import attempt, change, hold, run
from syncd.state.store import SqlStore

WINDOW = 20_000
"""How many changes of a run are looked through at once for those that were not carried out."""


class Point(NamedTuple):
    """The numbers of one run, for plots; see `RunRow`. Times and durations in seconds."""

    id: int
    kind: str
    state: str
    started_at: float
    finished_at: float | None
    counts: Counts
    requests: int
    operating: float


class Tally(NamedTuple):
    """How many changes of a run came to what; `whole` is False where only its first `WINDOW` were counted."""

    outcomes: dict[Outcome, int]
    whole: bool


class Found(NamedTuple):
    """Some changes of a run; `upto` is the id up to which was looked, None when the run holds no more."""

    changes: list[StoredChange]
    upto: int | None


class Statistics:
    """Reads a state database.

    Args:
        store: The store whose connections and threads are used; its errors come out of every method.
    """

    def __init__(self, store: SqlStore) -> None:
        self._read = store._read  # noqa: SLF001 - this is the store's other half, apart because only the page needs it

    async def series(self, link: str, since: float, limit: int) -> list[Point]:
        """Return the newest `limit` runs of a link that began at `since` or later, oldest first."""
        return await self._read(_series, link, since, limit)

    async def in_state(self, link: str, state: str, *, among: int, limit: int) -> list[int]:
        """Return the newest `limit` runs in a state, of the newest `among` runs of a link, newest first.

        Passes that only found an earlier plan still refused are left out.
        """
        return await self._read(_in_state, link, state, among, limit)

    async def begun(self, runs: Collection[int]) -> dict[int, float]:
        """Given run numbers, return when each began."""
        return await self._read(_begun, runs)

    async def tally(self, run_id: int) -> Tally:
        """Return what the changes of a run came to."""
        return await self._read(_tally, run_id)

    async def leftovers(self, run_id: int, outcomes: Collection[Outcome], after: int, limit: int) -> Found:
        """Return a run's changes with these outcomes and ids above `after`, in order.

        At most `WINDOW` changes of each side are looked at; `Found.upto` says where to go on.
        """
        return await self._read(_leftovers, run_id, outcomes, after, limit)

    async def history(self, link: str, order_id: int, before: int | None, limit: int) -> list[StoredChange]:
        """Return the newest `limit` records of an order with ids below `before`, newest first."""
        return await self._read(_history, link, order_id, before, limit)

    async def attempt(self, link_id: int, order_id: int) -> Attempt | None:
        """Return how often writes of an order failed in a row, if they did."""
        return await self._read(_attempt, link_id, order_id)

    async def open_holds(self, link_id: int, kind: HoldKind | None, after: int, limit: int) -> list[StoredHold]:
        """Return a link's open holds (of one kind, or of all) of orders above `after`, by order id."""
        return await self._read(_open_holds, link_id, kind, after, limit)

    async def holds_of_run(self, run_id: int, limit: int) -> list[tuple[StoredHold, float | None]]:
        """Return holds that a run opened or renewed, each with the time it was released (None: open)."""
        return await self._read(_holds_of_run, run_id, limit)


def _series(connection: Connection, link: str, since: float, limit: int) -> list[Point]:
    columns = (run.c.id, run.c.kind, run.c.state, run.c.started_at, run.c.finished_at, run.c.counts, run.c.requests,
               run.c.operating)  # fmt: skip
    found: list[Point] = []
    for link_id in links.generations(connection, link):
        query = select(*columns).where(run.c.link_id == link_id).order_by(run.c.id.desc()).limit(limit - len(found))
        # No index knows when a run began, but their numbers grow with time: the first one too old ends the search.
        with connection.execute(query) as rows:
            for number, kind, state, started_at, finished_at, counts, requests, operating in rows:
                if started_at < since:
                    return found[::-1]
                found.append(
                    Point(number, kind, state, started_at, finished_at, counts_of(counts), requests, operating)
                )
        if len(found) >= limit:
            break
    return found[::-1]


def _in_state(connection: Connection, link: str, state: str, among: int, limit: int) -> list[int]:
    generations = links.generations(connection, link)
    newest = (
        select(run.c.id, run.c.state, run.c.kind, run.c.source)
        .where(run.c.link_id.in_(generations))
        .order_by(run.c.id.desc())
        .limit(among)
    )
    some = newest.subquery()
    holds_it = or_(some.c.kind != "pass", some.c.source.is_(None))
    query = select(some.c.id).where(some.c.state == state, holds_it).order_by(some.c.id.desc())
    return list(connection.scalars(query.limit(limit)))


def _begun(connection: Connection, runs: Collection[int]) -> dict[int, float]:
    rows = connection.execute(select(run.c.id, run.c.started_at).where(run.c.id.in_(runs)))
    return {row.id: row.started_at for row in rows}


def _tally(connection: Connection, run_id: int) -> Tally:
    outcomes: Counter[Outcome] = Counter()
    whole = True
    for side in Side:  # agreements, which have no side, are often a million
        query = select(change.c.outcome).where(change.c.run_id == run_id, change.c.side == side.value)
        seen = list(connection.scalars(query.order_by(change.c.id).limit(WINDOW + 1)))
        whole = whole and len(seen) <= WINDOW
        outcomes.update(Outcome(word) for word in seen[:WINDOW])
    return Tally(dict(outcomes), whole)


def _leftovers(connection: Connection, run_id: int, outcomes: Collection[Outcome], after: int, limit: int) -> Found:
    horizon: int | None = None
    for side in Side:  # where to stop, so that a run of a million is not read for its one failure
        ids = select(change.c.id).where(change.c.run_id == run_id, change.c.side == side.value, change.c.id > after)
        last = connection.scalar(ids.order_by(change.c.id).offset(WINDOW - 1).limit(1))
        if last is not None:
            horizon = last if horizon is None else min(horizon, last)
    words = [outcome.value for outcome in outcomes]
    found: list[StoredChange] = []
    for side in Side:
        query = select(change).where(change.c.run_id == run_id, change.c.side == side.value, change.c.id > after)
        if horizon is not None:
            query = query.where(change.c.id <= horizon)
        found += _changes(connection, query.where(change.c.outcome.in_(words)).order_by(change.c.id).limit(limit + 1))
    found.sort(key=lambda stored: stored.id)
    if len(found) > limit:
        return Found(found[:limit], found[limit - 1].id)
    return Found(found, horizon)


def _history(connection: Connection, link: str, order_id: int, before: int | None, limit: int) -> list[StoredChange]:
    query = select(change).where(
        change.c.link_id.in_(links.generations(connection, link)), change.c.order_id == order_id
    )
    if before is not None:
        query = query.where(change.c.id < before)
    return _changes(connection, query.order_by(change.c.id.desc()).limit(limit))


def _attempt(connection: Connection, link_id: int, order_id: int) -> Attempt | None:
    columns = (attempt.c.order_id, attempt.c.count, attempt.c.next_at, attempt.c.error)
    query = select(*columns).where(attempt.c.link_id == link_id, attempt.c.order_id == order_id)
    row = connection.execute(query).one_or_none()
    return None if row is None else Attempt(*row)


def _open_holds(
    connection: Connection, link_id: int, kind: HoldKind | None, after: int, limit: int
) -> list[StoredHold]:
    query = select(hold).where(hold.c.link_id == link_id, hold.c.released_at.is_(None), hold.c.order_id > after)
    if kind is not None:
        query = query.where(hold.c.kind == kind.value)
    return [hold_of(row) for row in connection.execute(query.order_by(hold.c.order_id).limit(limit)).mappings()]


def _holds_of_run(connection: Connection, run_id: int, limit: int) -> list[tuple[StoredHold, float | None]]:
    query = select(hold).where(hold.c.run_id == run_id).order_by(hold.c.id).limit(limit)
    return [(hold_of(row), row["released_at"]) for row in connection.execute(query).mappings()]


def _changes(connection: Connection, query: Select[Any]) -> list[StoredChange]:
    return [change_of(row) for row in connection.execute(query).mappings()]
