"""Holds: orders syncd does not touch. They are never deleted, only released."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, select, update

from syncd.core.records import Lease, StoredHold
from syncd.state import links
from syncd.state.bulk import PARAMETERS, chunks, insert_rows
from syncd.state.rows import HOLD_COLUMNS, Values, hold_of, hold_values
from syncd.state.schema import hold
from syncd.state.schema import run as runs

_OPEN = hold.c.released_at.is_(None)
_CHANGING = ("crm_type", "crm_id", "table_type", "table_id", "agreed_type", "agreed_id", "unreadable_kind",
             "unreadable_detail", "seen", "seen_crm_type", "seen_crm_id", "seen_table_type", "seen_table_id",
             "seen_agreed_type", "seen_agreed_id", "detail", "sticky", "decision", "run_id")  # fmt: skip
_REWRITE = (
    update(hold).where(hold.c.id == bindparam("hold_id")).values({name: bindparam(f"new_{name}") for name in _CHANGING})
)


def open_of_link(connection: Connection, link_id: int) -> list[StoredHold]:
    """Return the open holds of a link, by order id."""
    query = select(hold).where(hold.c.link_id == link_id, _OPEN).order_by(hold.c.order_id, hold.c.id)
    return [hold_of(row) for row in connection.execute(query).mappings()]


def of_order(connection: Connection, link: str, order_id: int) -> list[tuple[StoredHold, float | None]]:
    """Return every hold an order ever had over all generations, oldest first, with the time of its release."""
    query = select(hold).where(hold.c.link_id.in_(links.generations(connection, link)), hold.c.order_id == order_id)
    rows = connection.execute(query.order_by(hold.c.id)).mappings()
    return [(hold_of(row), row["released_at"]) for row in rows]


def open_all(connection: Connection, lease: Lease, run: int, opened: Sequence[StoredHold], now: float) -> None:
    """Open holds, in place of those open for the same orders.

    One of the same kind stays, with its `since`; one of another kind is released. A decision on one that stays was
    acted upon by this run and is over, unless it was made after the run began and for the same facts.
    """
    began = connection.scalar(select(runs.c.started_at).where(runs.c.id == run))
    wanted = {stored.hold.order_id: stored for stored in opened}
    known = _open_of_orders(connection, lease.link_id, list(wanted))
    new: list[Values] = []
    outdated: list[int] = []
    rewritten: list[dict[str, Any]] = []
    for order_id, stored in wanted.items():
        standing = known.get(order_id)
        if standing is None or standing.stored.hold.kind is not stored.hold.kind:
            new.append(hold_values(lease.link_id, run, stored, stored.hold.since or now))
            outdated += [] if standing is None else [order_id]
        elif (values := _rewritten(lease.link_id, run, stored, standing, began)) is not None:
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


def decide(connection: Connection, link_id: int, orders: Sequence[int], decision: str, now: float) -> int:
    """Write a person's decision on the open holds of these orders; return how many there were."""
    decided = 0
    for some in chunks(orders, PARAMETERS):
        open_holds = update(hold).where(hold.c.link_id == link_id, hold.c.order_id.in_(some), _OPEN)
        decided += connection.execute(open_holds.values(decision=decision, decided_at=now)).rowcount
    return decided


class _Standing(NamedTuple):
    id: int
    stored: StoredHold
    decided_at: float | None


def _open_of_orders(connection: Connection, link_id: int, orders: Sequence[int]) -> dict[int, _Standing]:
    found: dict[int, _Standing] = {}
    for some in chunks(orders, PARAMETERS):
        query = select(hold).where(hold.c.link_id == link_id, hold.c.order_id.in_(some), _OPEN)
        for row in connection.execute(query).mappings():
            found[row["order_id"]] = _Standing(row["id"], hold_of(row), row["decided_at"])
    return found


def _rewritten(
    link_id: int, run: int, stored: StoredHold, standing: _Standing, began: float | None
) -> dict[str, Any] | None:
    """Return the new values of a hold that stands, or None where nothing of it changed."""
    old, decision = standing.stored, stored.decision
    same_facts = stored.hold.facts == old.hold.facts and stored.hold.seen == old.hold.seen
    if same_facts and standing.decided_at is not None and began is not None and standing.decided_at > began:
        decision = decision or old.decision
    if same_facts and (stored.hold.detail, stored.sticky, decision) == (old.hold.detail, old.sticky, old.decision):
        return None
    values = dict(zip(HOLD_COLUMNS, hold_values(link_id, run, stored, old.hold.since), strict=True))
    changed = {f"new_{name}": values[name] for name in _CHANGING}
    return changed | {"new_decision": decision, "hold_id": standing.id}
