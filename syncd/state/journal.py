"""The journal and the audit: changes before they are sent, what became of them, and what they say of the past."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Select, bindparam, func, literal_column, select, update

from syncd.core.model import Change, MaybeOwner, Outcome, Side
from syncd.core.records import Attempt, BindingUpdate, ChangeOutcome, Lease, StoredChange, StoredHold
from syncd.errors import SyncdError
from syncd.state import attempts, holds, links
from syncd.state.bulk import PARAMETERS, chunks, insert_rows, store_bindings
from syncd.state.rows import CHANGE_COLUMNS, change_of, change_values, clean, owner, pair
from syncd.state.schema import change as changes

# Written into the statement: a partial index is found only by a condition that names its value.
_INTENDED = changes.c.outcome == literal_column("'intended'")
_REMOVE = changes.c.action == literal_column("'remove'")
_APPLIED = changes.c.outcome == Outcome.APPLIED.value

_SET_OUTCOME = (
    update(changes)
    .where(changes.c.id == bindparam("change_id"), changes.c.link_id == bindparam("of_link"))
    .values(
        outcome=bindparam("new_outcome"),
        error=bindparam("new_error"),
        at=bindparam("now"),
        found_type=bindparam("new_found_type"),
        found_id=bindparam("new_found_id"),
        found_known=bindparam("new_found_known"),
    )
)


def save_plan(connection: Connection, lease: Lease, run: int, planned: Sequence[Change]) -> list[int]:
    """Store changes as `planned`, and return their ids, in order."""
    last = connection.scalar(select(func.max(changes.c.id))) or 0
    rows = [change_values(run, lease.link_id, one, Outcome.PLANNED, 0.0) for one in planned]
    insert_rows(connection, changes, CHANGE_COLUMNS, rows)
    # Every database numbers the rows of a statement in their order; other links may have taken numbers in between.
    query = select(changes.c.id).where(changes.c.id > last, _unindexed(changes.c.run_id) == run)
    return list(connection.scalars(query.order_by(changes.c.id)))


def agree(
    connection: Connection, lease: Lease, run: int, now: float, agreements: Sequence[tuple[Change, BindingUpdate]]
) -> None:
    """Move the agreed state, with an `agree` row in the audit for each order."""
    rows = [change_values(run, lease.link_id, one, Outcome.APPLIED, now) for one, _ in agreements]
    insert_rows(connection, changes, CHANGE_COLUMNS, rows)
    store_bindings(connection, lease.link_id, (update for _, update in agreements))


def intend(connection: Connection, lease: Lease, ids: Sequence[int], now: float) -> None:
    """Write that these changes are about to be sent."""
    intended = 0
    for some in chunks(ids, PARAMETERS):
        statement = update(changes).where(changes.c.id.in_(some), _unindexed(changes.c.link_id) == lease.link_id)
        values = {"outcome": Outcome.INTENDED.value, "at": now}
        intended += connection.execute(statement.values(values)).rowcount
    _check_all(intended, len(ids), lease)


def record(
    connection: Connection,
    lease: Lease,
    run: int,
    outcomes: Sequence[ChangeOutcome],
    *,
    now: float,
    opened: Sequence[StoredHold],
    failures: Sequence[Attempt],
) -> None:
    """Write outcomes, the agreed state they lead to, new holds and failure counts."""
    if outcomes:
        values = [_outcome_values(lease, outcome, now) for outcome in outcomes]
        recorded = connection.execute(_SET_OUTCOME, values).rowcount
        _check_all(recorded, len(outcomes), lease)
    store_bindings(connection, lease.link_id, (one.update for one in outcomes if one.update is not None))
    holds.open_all(connection, lease, run, opened, now)
    attempts.store(connection, lease.link_id, failures)


def of_run(connection: Connection, run: int, after: int, limit: int | None) -> list[StoredChange]:
    """Return a run's changes on either side with ids above `after`, in order."""
    found: list[StoredChange] = []
    for side in Side:  # one query for each, so that agreements, often a million, are never touched
        query = select(changes).where(changes.c.run_id == run, changes.c.side == side.value, changes.c.id > after)
        found += _fetch(connection, query.order_by(changes.c.id).limit(limit))
    found.sort(key=lambda stored: stored.id)
    return found[:limit]


def of_order(connection: Connection, link: str, order_id: int, limit: int) -> list[StoredChange]:
    """Return the newest `limit` records of one order over all generations of a link, oldest first."""
    query = select(changes).where(
        changes.c.link_id.in_(links.generations(connection, link)), changes.c.order_id == order_id
    )
    return _fetch(connection, query.order_by(changes.c.id.desc()).limit(limit))[::-1]


def open_intents(connection: Connection, link_id: int) -> list[StoredChange]:
    """Return the changes that were about to be sent and have no outcome, oldest first."""
    query = select(changes).where(changes.c.link_id == link_id, _INTENDED)
    return _fetch(connection, query.order_by(changes.c.id))


def removed_since(connection: Connection, link_id: int, since: float) -> dict[Side, int]:
    """Return how many removes were applied on each side since then."""
    query = (
        select(changes.c.side, func.count())
        .where(changes.c.link_id == link_id, _REMOVE, changes.c.at >= since, _APPLIED)
        .group_by(changes.c.side)
    )
    return dict.fromkeys(Side, 0) | {Side(side): count for side, count in connection.execute(query) if side}


def repeats(
    connection: Connection, link_id: int, orders: Iterable[int], since: float
) -> dict[tuple[int, Side, MaybeOwner], int]:
    """Return how often (order, side, owner written) was applied since then, for these orders."""
    counted: Counter[tuple[int, Side, MaybeOwner]] = Counter()
    for some in chunks(orders, PARAMETERS):
        query = select(changes.c.order_id, changes.c.side, changes.c.after_type, changes.c.after_id).where(
            changes.c.link_id == link_id,
            changes.c.order_id.in_(some),
            changes.c.at >= since,
            changes.c.side.is_not(None),
            _APPLIED,
        )
        counted.update(
            (order_id, Side(side), owner(after_type, after_id))
            for order_id, side, after_type, after_id in connection.execute(query)
            if side
        )
    return dict(counted)


def _unindexed(column: Column[int]) -> ColumnElement[int]:
    # SQLite keeps no statistics and takes an index on a whole link or run, a million rows, for better than a few ids.
    return column + 0


def _outcome_values(lease: Lease, outcome: ChangeOutcome, now: float) -> dict[str, Any]:
    found_type, found_id = pair(outcome.found)
    return {
        "change_id": outcome.change_id,
        "of_link": lease.link_id,
        "new_outcome": outcome.outcome.value,
        "new_error": clean(outcome.error),
        "now": now,
        "new_found_type": found_type,
        "new_found_id": found_id,
        "new_found_known": outcome.found_known,
    }


def _check_all(written: int, expected: int, lease: Lease) -> None:
    if written != expected:
        raise SyncdError(
            f"The journal of link {lease.link} does not know {expected - written} of {expected} changes. "
            "Nothing of this step was written.",
            hint="This is a bug; please report it with the log of this run.",
        )


def _fetch(connection: Connection, query: Select[Any]) -> list[StoredChange]:
    return [change_of(row) for row in connection.execute(query).mappings()]
