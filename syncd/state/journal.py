"""The journal, which is also the audit: changes before they are sent, and their outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Select,
    bindparam,
    case,
    exists,
    func,
    literal_column,
    select,
    update,
)

from syncd.core.model import Action, Change, Outcome, Reason, Side
from syncd.core.plan import REVERTS_WITHIN
from syncd.core.records import Attempt, BindingUpdate, ChangeOutcome, Lease, StoredChange, StoredHold, Tally, Written
from syncd.errors import SyncdError
from syncd.state import links
from syncd.state.holds import open_all, store_attempts
from syncd.state.orders import forget_moved_absences
from syncd.state.rows import (
    CHANGE_COLUMNS,
    PARAMETERS,
    change_of,
    change_values,
    chunks,
    clean,
    insert_rows,
    owner,
    pair,
    store_bindings,
)
from syncd.state.schema import change

# Literals: the database uses a partial index only for a condition that names its value.
_INTENDED = change.c.outcome == literal_column("'intended'")
_REPLACES = change.c.action.in_([literal_column("'move'"), literal_column("'remove'")])
_IN_PLACE = [Outcome.APPLIED.value, Outcome.ALREADY.value]
_APPLIED = change.c.outcome == Outcome.APPLIED.value
_PERHAPS_APPLIED = change.c.outcome.in_([Outcome.APPLIED.value, Outcome.UNCERTAIN.value])
_ASKED_FOR = [Reason.RESOLVED_CRM.value, Reason.RESOLVED_TABLE.value]

_SET_OUTCOME = (
    update(change)
    .where(change.c.id == bindparam("change_id"), change.c.link_id == bindparam("of_link"))
    .values(
        outcome=bindparam("new_outcome"),
        error=bindparam("new_error"),
        at=bindparam("now"),
        found_type=bindparam("new_found_type"),
        found_id=bindparam("new_found_id"),
        found_known=bindparam("new_found_known"),
    )
)


def save_plan(connection: Connection, lease: Lease, run: int, changes: Sequence[Change]) -> list[int]:
    last = connection.scalar(select(func.max(change.c.id))) or 0
    rows = [change_values(run, lease.link_id, one, Outcome.PLANNED, 0.0) for one in changes]
    insert_rows(connection, change, CHANGE_COLUMNS, rows)
    # Every database numbers the rows of a statement in order; other links may have taken numbers between them.
    query = select(change.c.id).where(change.c.id > last, _unindexed(change.c.run_id) == run)
    return list(connection.scalars(query.order_by(change.c.id)))


def agree(
    connection: Connection, lease: Lease, run: int, now: float, agreements: Sequence[tuple[Change, BindingUpdate]]
) -> None:
    rows = [change_values(run, lease.link_id, one, Outcome.APPLIED, now) for one, _ in agreements]
    insert_rows(connection, change, CHANGE_COLUMNS, rows)
    _move(connection, lease.link_id, [update for _, update in agreements])


def intend(connection: Connection, lease: Lease, changes: Sequence[int], now: float, batch: int) -> None:
    intended = 0
    for some in chunks(changes, PARAMETERS):
        statement = update(change).where(change.c.id.in_(some), _unindexed(change.c.link_id) == lease.link_id)
        values = {"outcome": Outcome.INTENDED.value, "at": now, "batch": batch, "sends": change.c.sends + 1}
        intended += connection.execute(statement.values(values)).rowcount
    _check_all(intended, len(changes), lease)


def record(
    connection: Connection,
    lease: Lease,
    run: int,
    outcomes: Sequence[ChangeOutcome],
    *,
    now: float,
    holds: Sequence[StoredHold] = (),
    attempts: Sequence[Attempt] = (),
) -> None:
    if outcomes:
        values = [_outcome_values(lease, outcome, now) for outcome in outcomes]
        recorded = connection.execute(_SET_OUTCOME, values).rowcount
        _check_all(recorded, len(outcomes), lease)
    _move(connection, lease.link_id, [one.update for one in outcomes if one.update is not None])
    open_all(connection, lease, run, holds, now)
    store_attempts(connection, lease.link_id, attempts)


def _move(connection: Connection, link_id: int, updates: Sequence[BindingUpdate]) -> None:
    """Write new agreed values."""
    store_bindings(connection, link_id, updates)
    forget_moved_absences(connection, link_id, (one.order_id for one in updates))


def changes(connection: Connection, run: int, after: int = 0, limit: int | None = None) -> list[StoredChange]:
    found: list[StoredChange] = []
    for side in Side:  # one query for each, so that agreements, often a million, are never touched
        query = select(change).where(change.c.run_id == run, change.c.side == side.value, change.c.id > after)
        found += fetch_changes(connection, query.order_by(change.c.id).limit(limit))
    found.sort(key=lambda stored: stored.id)
    return found[:limit]


def tally(connection: Connection, run: int) -> Tally:
    counted: Tally = {}
    for side in Side:  # one query for each, so that agreements, often a million, are never touched
        query = (
            select(change.c.action, change.c.outcome, func.count())
            .where(change.c.run_id == run, change.c.side == side.value)
            .group_by(change.c.action, change.c.outcome)
        )
        for action, outcome, number in connection.execute(query):
            counted[side, Action(action), Outcome(outcome)] = number
    return counted


def history(
    connection: Connection, link: str, order_id: int, limit: int = 200, before: int | None = None
) -> list[StoredChange]:
    query = select(change).where(
        change.c.link_id.in_(links.generations(connection, link)), change.c.order_id == order_id
    )
    if before is not None:
        query = query.where(change.c.id < before)
    return fetch_changes(connection, query.order_by(change.c.id.desc()).limit(limit))[::-1]


def open_intents(connection: Connection, link_id: int) -> list[StoredChange]:
    query = select(change).where(change.c.link_id == link_id, _INTENDED)
    return fetch_changes(connection, query.order_by(change.c.id))


def answered_siblings(connection: Connection, link_id: int) -> list[StoredChange]:
    intents = select(change.c.run_id, change.c.side, change.c.batch).where(
        change.c.link_id == link_id, _INTENDED, change.c.batch.is_not(None)
    )
    requests = sorted({tuple(row) for row in connection.execute(intents)})
    found: list[StoredChange] = []
    for run, side, batch in requests:
        query = select(change).where(
            change.c.run_id == run, change.c.side == side, change.c.batch == batch, change.c.outcome.in_(_IN_PLACE)
        )
        found += fetch_changes(connection, query.order_by(change.c.id))
    return found


def replaced_since(connection: Connection, link_id: int, since: float) -> tuple[dict[Side, int], dict[Side, int]]:
    """Return how many moves and how many removes were made since then, by side; those before a rebase count too.

    One that may or may not have been made counts, too.
    """
    query = (
        select(change.c.action, change.c.side, func.count())
        .where(
            change.c.link_id.in_(links.all_generations(connection, link_id)),
            _REPLACES,
            change.c.at >= since,
            _PERHAPS_APPLIED,
        )
        .group_by(change.c.action, change.c.side)
    )
    counted = {(Action(action), Side(side)): count for action, side, count in connection.execute(query) if side}
    moved, removed = (
        {side: counted.get((action, side), 0) for side in Side} for action in (Action.MOVE, Action.REMOVE)
    )
    return moved, removed


def written(connection: Connection, link_id: int, orders: Sequence[int], since: float) -> list[Written]:
    found: list[Written] = []
    generations = links.all_generations(connection, link_id)
    for some in chunks(orders, PARAMETERS):
        query = (
            select(
                change.c.link_id, change.c.order_id, change.c.side, change.c.at,
                change.c.before_type, change.c.before_id, change.c.after_type, change.c.after_id,
                change.c.found_known, change.c.found_type, change.c.found_id,
            )
            .where(
                change.c.link_id.in_(generations),
                change.c.order_id.in_(some),
                change.c.at >= since,
                change.c.side.is_not(None),
                _APPLIED,
            )
            .order_by(change.c.order_id, change.c.id)
        )  # fmt: skip
        for (
            of_link,
            order_id,
            side,
            at,
            before_type,
            before_id,
            after_type,
            after_id,
            known,
            *there,
        ) in connection.execute(query):
            before = owner(*there) if known else owner(before_type, before_id)
            after = owner(after_type, after_id)
            found.append(Written(order_id, Side(side or ""), before, after, at, before_rebase=of_link != link_id))
    return found


def reverted_by(connection: Connection, generations: Sequence[int], run: int, side: Side) -> Sequence[int]:
    """Return the orders whose value on a side a pass has put back after syncd replaced it (`core.plan.is_revert`).

    Args:
        connection: The state database.
        generations: All of the link.
        run: The pass.
        side: The side it wrote.
    """
    earlier = change.alias()
    replaced_type, replaced_id = (
        case((earlier.c.found_known, found), else_=before)
        for found, before in ((earlier.c.found_type, earlier.c.before_type), (earlier.c.found_id, earlier.c.before_id))
    )
    replaced = exists().where(
        earlier.c.link_id.in_(generations),
        earlier.c.order_id == change.c.order_id,
        earlier.c.id < change.c.id,
        earlier.c.side == side.other.value,
        earlier.c.outcome == Outcome.APPLIED.value,
        earlier.c.at >= change.c.at - REVERTS_WITHIN,
        replaced_type.is_not_distinct_from(change.c.after_type),
        replaced_id.is_not_distinct_from(change.c.after_id),
    )
    written = (change.c.run_id == run, change.c.side == side.value, _APPLIED, change.c.reason.not_in(_ASKED_FOR))
    return connection.scalars(select(change.c.order_id).where(*written, replaced)).all()


def _unindexed(column: Column[int]) -> ColumnElement[int]:
    # SQLite keeps no statistics and would prefer the index on a whole link or run, a million rows, to a few ids.
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


def fetch_changes(connection: Connection, query: Select[Any]) -> list[StoredChange]:
    """Given a query for all columns of changes, return them."""
    return [change_of(row) for row in connection.execute(query).mappings()]
