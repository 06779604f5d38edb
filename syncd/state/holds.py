"""Orders that are held, what people decided, and writes that failed.

Holds are never deleted, only released. Decisions are entries of the audit, never changed and never deleted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from syncd.core.model import HoldKind
from syncd.core.records import Attempt, Decision, Lease, StoredHold
from syncd.state import links
from syncd.state.rows import (
    HOLD_COLUMNS,
    NAME_LIMIT,
    PARAMETERS,
    Values,
    chunks,
    clean,
    hold_of,
    hold_values,
    insert_rows,
)
from syncd.state.schema import attempt, decision, hold
from syncd.state.schema import run as runs

_OPEN = hold.c.released_at.is_(None)
_CHANGING = ("crm_type", "crm_id", "table_type", "table_id", "agreed_type", "agreed_id", "unreadable_kind",
             "unreadable_detail", "unreadable_side", "seen", "seen_crm_type", "seen_crm_id",
             "seen_table_type", "seen_table_id", "seen_agreed_type", "seen_agreed_id", "detail", "sticky",
             "decision", "run_id")  # fmt: skip
_REWRITE = (
    update(hold).where(hold.c.id == bindparam("hold_id")).values({name: bindparam(f"new_{name}") for name in _CHANGING})
)

ALL_DECISIONS = select(
    decision.c.link, decision.c.kind, decision.c.said, decision.c.decided_by, decision.c.at, decision.c.comment,
    decision.c.order_id, decision.c.run_id,
)  # fmt: skip
"""The columns of `Decision`."""
_DECISIONS_AT_ONCE = 500

# ---------------------------------------------------------------------- holds


def holds(
    connection: Connection,
    link_id: int,
    *,
    kind: HoldKind | None = None,
    after: int | None = None,
    limit: int | None = None,
) -> list[StoredHold]:
    query = select(hold).where(hold.c.link_id == link_id, _OPEN).order_by(hold.c.order_id, hold.c.id)
    if kind is not None:
        query = query.where(hold.c.kind == kind.value)
    if after is not None:
        query = query.where(hold.c.order_id > after)
    return [hold_of(row) for row in connection.execute(query.limit(limit)).mappings()]


def past_holds(connection: Connection, link: str, order_id: int) -> list[tuple[StoredHold, float | None]]:
    query = select(hold).where(hold.c.link_id.in_(links.generations(connection, link)), hold.c.order_id == order_id)
    rows = connection.execute(query.order_by(hold.c.id)).mappings()
    return [(hold_of(row), row["released_at"]) for row in rows]


def set_holds(
    connection: Connection, lease: Lease, run: int, *, opened: Sequence[StoredHold], released: Sequence[int], now: float
) -> None:
    release(connection, lease.link_id, released, now)
    open_all(connection, lease, run, opened, now)


def open_all(connection: Connection, lease: Lease, run: int, opened: Sequence[StoredHold], now: float) -> None:
    """Open holds; see `Store.set_holds`."""
    began = connection.scalar(select(runs.c.started_at).where(runs.c.id == run))
    wanted = {stored.hold.order_id: stored for stored in opened}
    known = _open_of_orders(connection, lease.link_id, list(wanted))
    new: list[Values] = []
    outdated: list[int] = []
    rewritten: list[dict[str, Any]] = []
    for order_id, stored in wanted.items():
        old = known.get(order_id)
        if old is None or old.stored.hold.kind is not stored.hold.kind:
            new.append(hold_values(lease.link_id, run, stored, stored.hold.since or now))
            outdated += [] if old is None else [order_id]
        elif (values := _rewritten(lease.link_id, run, stored, old, began)) is not None:
            rewritten.append(values)
    release(connection, lease.link_id, outdated, now)
    if rewritten:
        connection.execute(_REWRITE, rewritten)
    insert_rows(connection, hold, HOLD_COLUMNS, new)


def release(connection: Connection, link_id: int, orders: Sequence[int], now: float) -> None:
    """Release the open holds of these orders."""
    for some in chunks(orders, PARAMETERS):
        open_holds = update(hold).where(hold.c.link_id == link_id, hold.c.order_id.in_(some), _OPEN)
        connection.execute(open_holds.values(released_at=now))


def decide(
    connection: Connection,
    link_id: int,
    orders: Sequence[int],
    decision: str,
    now: float,
    *,
    notes: Sequence[Decision] = (),
) -> int:
    write_decisions(connection, notes)
    decided = 0
    for some in chunks(orders, PARAMETERS):
        open_holds = update(hold).where(hold.c.link_id == link_id, hold.c.order_id.in_(some), _OPEN)
        decided += connection.execute(open_holds.values(decision=decision, decided_at=now)).rowcount
    return decided


class _OpenHold(NamedTuple):
    id: int
    stored: StoredHold
    decided_at: float | None


def _open_of_orders(connection: Connection, link_id: int, orders: Sequence[int]) -> dict[int, _OpenHold]:
    found: dict[int, _OpenHold] = {}
    for some in chunks(orders, PARAMETERS):
        query = select(hold).where(hold.c.link_id == link_id, hold.c.order_id.in_(some), _OPEN)
        for row in connection.execute(query).mappings():
            found[row["order_id"]] = _OpenHold(row["id"], hold_of(row), row["decided_at"])
    return found


def _rewritten(
    link_id: int, run: int, stored: StoredHold, known: _OpenHold, began: float | None
) -> dict[str, Any] | None:
    """Return the new values of a hold that stays open, or None if none has changed."""
    old, decision = known.stored, stored.decision
    same_facts = stored.hold.facts == old.hold.facts and stored.hold.seen == old.hold.seen
    if same_facts and known.decided_at is not None and began is not None and known.decided_at > began:
        decision = decision or old.decision
    if same_facts and (stored.hold.detail, stored.sticky, decision) == (old.hold.detail, old.sticky, old.decision):
        return None
    values = dict(zip(HOLD_COLUMNS, hold_values(link_id, run, stored, old.hold.since), strict=True))
    changed = {f"new_{name}": values[name] for name in _CHANGING}
    return changed | {"new_decision": decision, "hold_id": known.id}


# ------------------------------------------------------------------ decisions


def note(connection: Connection, decision: Decision) -> None:
    write_decisions(connection, [decision])


def write_decisions(connection: Connection, decisions: Iterable[Decision]) -> None:
    """Write decisions into the audit."""
    rows = [
        {
            "link": one.link,
            "kind": one.kind,
            "said": clean(one.said, NAME_LIMIT),
            "decided_by": clean(one.by, NAME_LIMIT),
            "at": one.at,
            "comment": clean(one.comment),
            "order_id": one.order_id,
            "run_id": one.run,
        }
        for one in decisions
    ]
    for some in chunks(rows, _DECISIONS_AT_ONCE):
        connection.execute(insert(decision), list(some))


def decisions(
    connection: Connection, link: str, *, order_id: int | None = None, run: int | None = None, limit: int = 200
) -> list[Decision]:
    query = ALL_DECISIONS.where(decision.c.link == link)
    if order_id is not None:
        query = query.where(decision.c.order_id == order_id)
    if run is not None:
        query = query.where(decision.c.run_id == run)
    found = connection.execute(query.order_by(decision.c.id.desc()).limit(limit))
    return [Decision(*row) for row in found][::-1]


# -------------------------------------------------------------- failed writes


def attempts(connection: Connection, link_id: int, orders: Sequence[int] | None = None) -> dict[int, Attempt]:
    columns = (attempt.c.order_id, attempt.c.count, attempt.c.next_at, attempt.c.error)
    query = select(*columns).where(attempt.c.link_id == link_id).order_by(attempt.c.order_id)
    if orders is not None:
        query = query.where(attempt.c.order_id.in_(orders))
    return {row.order_id: Attempt(*row) for row in connection.execute(query)}


def store_attempts(connection: Connection, link_id: int, failures: Sequence[Attempt]) -> None:
    """Write failure counts; a count of 0 clears the order's."""
    latest = {failure.order_id: failure for failure in failures}
    for some in chunks(latest, PARAMETERS):
        connection.execute(delete(attempt).where(attempt.c.link_id == link_id, attempt.c.order_id.in_(some)))
    rows = [
        {"link_id": link_id, "order_id": order_id, "count": count, "next_at": next_at, "error": clean(error)}
        for order_id, count, next_at, error in latest.values()
        if count
    ]
    if rows:
        connection.execute(insert(attempt), rows)
