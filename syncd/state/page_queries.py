"""What the status page asks of the past.

Each query reads a bounded number of rows through an index, however long the audit has grown (`bindings_of_owner`
excepted): a busy link makes a million changes a year, and a page must not take a second.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import NamedTuple

from sqlalchemy import Connection, or_, select

from syncd.core.model import Counts, Outcome, Owner, Side
from syncd.core.records import BindingRow, Decision, StoredChange, StoredHold
from syncd.state import links
from syncd.state.holds import ALL_DECISIONS
from syncd.state.journal import fetch_changes
from syncd.state.orders import ALL_BINDINGS
from syncd.state.rows import counts_of, fetch_bindings, hold_of
from syncd.state.schema import binding, change, decision, hold, run

WINDOW = 20_000
"""How many changes of a run, on each side, one query looks through."""


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


class OutcomeCounts(NamedTuple):
    """How many changes of a run have each outcome; `whole` is False if only its first `WINDOW` were counted."""

    outcomes: dict[Outcome, int]
    whole: bool


class ChangePage(NamedTuple):
    """Some changes of a run. `upto` is the id of the last change that was read; None if none are left."""

    changes: list[StoredChange]
    upto: int | None


def series(connection: Connection, link: str, since: float, limit: int) -> list[Point]:
    """Return the newest `limit` runs of a link that began at `since` or later, oldest first."""
    columns = (run.c.id, run.c.kind, run.c.state, run.c.started_at, run.c.finished_at, run.c.counts, run.c.requests,
               run.c.operating)  # fmt: skip
    found: list[Point] = []
    for link_id in links.generations(connection, link):
        query = select(*columns).where(run.c.link_id == link_id).order_by(run.c.id.desc()).limit(limit - len(found))
        # No index has the times of runs, but ids grow with time: the first run that is too old ends the search.
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


def runs_in_state(connection: Connection, link: str, state: str, *, among: int, limit: int) -> list[int]:
    """Return the newest `limit` runs in a state, of the newest `among` runs of a link, newest first.

    Passes that only found an earlier plan still refused are left out.
    """
    newest = (
        select(run.c.id, run.c.state, run.c.kind, run.c.source)
        .where(run.c.link_id.in_(links.generations(connection, link)))
        .order_by(run.c.id.desc())
        .limit(among)
        .subquery()
    )
    has_own_plan = or_(newest.c.kind != "pass", newest.c.source.is_(None))
    query = select(newest.c.id).where(newest.c.state == state, has_own_plan).order_by(newest.c.id.desc())
    return list(connection.scalars(query.limit(limit)))


def run_starts(connection: Connection, runs: Collection[int]) -> dict[int, float]:
    """Given run numbers, return when each began."""
    rows = connection.execute(select(run.c.id, run.c.started_at).where(run.c.id.in_(runs)))
    return {row.id: row.started_at for row in rows}


def outcome_counts(connection: Connection, run_id: int) -> OutcomeCounts:
    """Return how many changes of a run have each outcome."""
    outcomes: Counter[Outcome] = Counter()
    whole = True
    for side in Side:  # agreements, which have no side, are often a million
        query = select(change.c.outcome).where(change.c.run_id == run_id, change.c.side == side.value)
        seen = list(connection.scalars(query.order_by(change.c.id).limit(WINDOW + 1)))
        whole = whole and len(seen) <= WINDOW
        outcomes.update(Outcome(word) for word in seen[:WINDOW])
    return OutcomeCounts(dict(outcomes), whole)


def changes_with(
    connection: Connection, run_id: int, outcomes: Collection[Outcome], after: int, limit: int
) -> ChangePage:
    """Return a run's changes with these outcomes and ids above `after`, in order.

    At most `WINDOW` changes of each side are read; continue after `ChangePage.upto`.
    """
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
        query = query.where(change.c.outcome.in_(words)).order_by(change.c.id).limit(limit + 1)
        found += fetch_changes(connection, query)
    found.sort(key=lambda stored: stored.id)
    if len(found) > limit:
        return ChangePage(found[:limit], found[limit - 1].id)
    return ChangePage(found, horizon)


def holds_of_run(connection: Connection, run_id: int, limit: int) -> list[tuple[StoredHold, float | None]]:
    """Return holds that a run opened or renewed, each with the time it was released (None: open)."""
    query = select(hold).where(hold.c.run_id == run_id).order_by(hold.c.id).limit(limit)
    return [(hold_of(row), row["released_at"]) for row in connection.execute(query).mappings()]


def last_decisions(connection: Connection, link: str, orders: Collection[int]) -> dict[int, Decision]:
    """Return the last decision on each of these orders that has one."""
    query = ALL_DECISIONS.where(decision.c.link == link, decision.c.order_id.in_(orders)).order_by(decision.c.id)
    found = [Decision(*row) for row in connection.execute(query)]
    return {one.order_id: one for one in found if one.order_id is not None}


def bindings_of_owner(connection: Connection, link_id: int, owner: Owner, limit: int) -> list[BindingRow]:
    """Return the first orders that were bound to an owner when they were last listed, or are agreed to be.

    There is no index of owners, since it would slow every pass that writes. A search by a person may take the second
    that a million rows take.
    """
    at = binding.c
    listed = (at.crm_id == owner.owner_id) & (at.crm_type == owner.owner_type_id)
    agreed = (at.agreed_id == owner.owner_id) & (at.agreed_type == owner.owner_type_id)
    query = ALL_BINDINGS.where(at.link_id == link_id, or_(listed, agreed)).order_by(at.order_id).limit(limit)
    return fetch_bindings(connection, query, {})
