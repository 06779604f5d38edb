"""Holds: orders syncd does not touch. They are never deleted, only released."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, select, update

from syncd.core.records import Lease, StoredHold
from syncd.state import links
from syncd.state.bulk import PARAMETERS, chunks, insert_rows
from syncd.state.rows import HOLD_COLUMNS, Values, hold_of, hold_values
from syncd.state.schema import hold

_OPEN = hold.c.released_at.is_(None)
_CHANGING = ("crm_type", "crm_id", "table_type", "table_id", "agreed_type", "agreed_id", "unreadable_kind",
             "unreadable_detail", "detail", "sticky", "decision", "run_id")  # fmt: skip
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

    One of the same kind stays, with its `since`, and with its decision if its facts are the same; one of another kind
    is released.
    """
    wanted = {stored.hold.order_id: stored for stored in opened}
    known = _open_of_orders(connection, lease.link_id, list(wanted))
    new: list[Values] = []
    outdated: list[int] = []
    rewritten: list[dict[str, Any]] = []
    for order_id, stored in wanted.items():
        standing = known.get(order_id)
        if standing is None or standing[1].hold.kind is not stored.hold.kind:
            new.append(hold_values(lease.link_id, run, stored, stored.hold.since or now))
            outdated += [] if standing is None else [order_id]
        elif (changed := _rewritten(lease.link_id, run, stored, standing[1])) is not None:
            rewritten.append(changed | {"hold_id": standing[0]})
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


def _open_of_orders(connection: Connection, link_id: int, orders: Sequence[int]) -> dict[int, tuple[int, StoredHold]]:
    found: dict[int, tuple[int, StoredHold]] = {}
    for some in chunks(orders, PARAMETERS):
        query = select(hold).where(hold.c.link_id == link_id, hold.c.order_id.in_(some), _OPEN)
        for row in connection.execute(query).mappings():
            found[row["order_id"]] = (row["id"], hold_of(row))
    return found


def _rewritten(link_id: int, run: int, stored: StoredHold, standing: StoredHold) -> dict[str, Any] | None:
    """Return the new values of a hold that stands, or None where nothing of it changed."""
    decision = stored.decision
    if stored.hold.facts == standing.hold.facts:
        decision = decision or standing.decision
        same = (stored.hold.detail, stored.sticky, decision)
        if same == (standing.hold.detail, standing.sticky, standing.decision):
            return None
    values = dict(zip(HOLD_COLUMNS, hold_values(link_id, run, stored, standing.hold.since), strict=True))
    return {f"new_{name}": values[name] for name in _CHANGING} | {"new_decision": decision}
