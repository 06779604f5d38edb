"""What is kept of each order: the agreed state, absences that wait, and its key in the shop's own numbering.

Functions without a docstring are methods of `syncd.core.store.Store`, which describes them; so in all these modules.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

from sqlalchemy import Connection, Select, bindparam, delete, exists, func, or_, select

from syncd.core.model import Side
from syncd.core.order_keys import KeyRow
from syncd.core.order_ranges import OrderRange, OrderRanges
from syncd.core.records import Absence, BindingRow, BindingUpdate, Lease
from syncd.db.registry import backend_at_work
from syncd.state.rows import PARAMETERS, chunks, fetch_bindings, insert_rows, store_bindings
from syncd.state.schema import absence, binding, order_key

MANY_KEYS = 1_000
"""After so many keys at once, as in a first sync, the database's statistics of their table are out of date."""

RANGES = 200
"""Ranges of order ids in one statement."""

ALL_BINDINGS = select(
    binding.c.order_id, binding.c.crm_type, binding.c.crm_id, binding.c.agreed_type, binding.c.agreed_id
)
"""The columns of `BindingRow`."""
_PAGE = ALL_BINDINGS.where(binding.c.link_id == bindparam("link_id"), binding.c.order_id > bindparam("after")).order_by(
    binding.c.order_id
)
_PAGE_UPTO = _PAGE.where(binding.c.order_id <= bindparam("upto"))

_ABSENCE_COLUMNS = ("link_id", "order_id", "side", "since")

_KEY_COLUMNS = ("link_id", "order_id", "order_key", "checked_at", "misses")
_KEYS = select(order_key.c.order_id, order_key.c.order_key, order_key.c.checked_at, order_key.c.misses).where(
    order_key.c.link_id == bindparam("link_id")
)
_KEYS_OF_ORDERS = _KEYS.where(order_key.c.order_id.in_(bindparam("orders", expanding=True)))
_UNKNOWN_KEYS = _KEYS.where(order_key.c.order_id < 0).order_by(order_key.c.order_id)
_ORDERS_BY_KEY = select(order_key.c.order_key, order_key.c.order_id).where(
    order_key.c.link_id == bindparam("link_id"), order_key.c.order_key.in_(bindparam("keys", expanding=True))
)

# -------------------------------------------------------------------- binding


def bindings(
    connection: Connection, link_id: int, after: int, upto: int | None, limit: int | None = None
) -> list[BindingRow]:
    values = {"link_id": link_id, "after": after}
    query = _PAGE
    if upto is not None:
        query, values = _PAGE_UPTO, values | {"upto": upto}
    if limit is not None:
        query = query.limit(limit)
    return fetch_bindings(connection, query, values)


def boundaries(connection: Connection, link_id: int, every: int, ranges: Sequence[OrderRange] = ()) -> list[int]:
    bound = select(binding.c.order_id, func.row_number().over(order_by=binding.c.order_id).label("number")).where(
        binding.c.link_id == link_id, binding.c.crm_id.is_not(None)
    )
    found: list[int] = []
    for inside in ranges or [OrderRange(1)]:
        numbered = bound.where(binding.c.order_id.between(inside.first, inside.last)).subquery()
        query = select(numbered.c.order_id).where(numbered.c.number % every == 0).order_by(numbered.c.order_id)
        found += connection.scalars(query)
    return found


def bindings_of(connection: Connection, link_id: int, orders: Sequence[int]) -> list[BindingRow]:
    found: list[BindingRow] = []
    for some in chunks(sorted(orders), PARAMETERS):
        query = ALL_BINDINGS.where(binding.c.link_id == link_id, binding.c.order_id.in_(some))
        found += fetch_bindings(connection, query.order_by(binding.c.order_id), {})
    return found


def newest_order(connection: Connection, link_id: int, number: int) -> int | None:
    query = select(binding.c.order_id).where(binding.c.link_id == link_id).order_by(binding.c.order_id.desc())
    return connection.scalar(query.offset(number - 1).limit(1))


def agreed_count(connection: Connection, link_id: int) -> int:
    query = select(func.count()).select_from(binding)
    return connection.scalar(query.where(binding.c.link_id == link_id, binding.c.agreed_id.is_not(None))) or 0


def observed(connection: Connection, lease: Lease, updates: Sequence[BindingUpdate]) -> None:
    store_bindings(connection, lease.link_id, updates)


# ------------------------------------------------------------------- absences


def absence_counts(
    connection: Connection, link_id: int, ranges: OrderRanges | None = None
) -> dict[Side, tuple[int, float]]:
    # No join: SQLite, which keeps no statistics, would go through all bindings to find a few absences.
    agreed = exists().where(
        binding.c.link_id == absence.c.link_id,
        binding.c.order_id == absence.c.order_id,
        binding.c.agreed_id.is_not(None),
    )
    query = (
        select(absence.c.side, func.count(), func.min(absence.c.since))
        .where(absence.c.link_id == link_id, agreed)
        .group_by(absence.c.side)
    )
    found: dict[Side, tuple[int, float]] = {}
    for some in [None] if ranges is None else chunks(ranges.ranges, RANGES):
        part = query if some is None else query.where(or_(*(absence.c.order_id.between(*one) for one in some)))
        for side, count, since in connection.execute(part):
            number, first = found.get(Side(side), (0, since))
            found[Side(side)] = (number + count, min(first, since))
    return found


def absences(connection: Connection, link_id: int, orders: Sequence[int]) -> dict[int, Absence]:
    found: dict[int, Absence] = {}
    for some in chunks(orders, PARAMETERS):
        query = select(absence.c.order_id, absence.c.side, absence.c.since).where(
            absence.c.link_id == link_id, absence.c.order_id.in_(some)
        )
        found |= {order: Absence(order, Side(side), since) for order, side, since in connection.execute(query)}
    return found


def newest_absences(connection: Connection, link_id: int, limit: int) -> list[int]:
    """Return the orders with an absence, the one noted last first."""
    query = select(absence.c.order_id).where(absence.c.link_id == link_id)
    return list(connection.scalars(query.order_by(absence.c.since.desc(), absence.c.order_id.desc()).limit(limit)))


def forget_moved_absences(connection: Connection, link_id: int, orders: Iterable[int]) -> None:
    """Delete the absences of orders whose agreed state has moved: what was noted is of an earlier binding."""
    if connection.execute(select(absence.c.order_id).where(absence.c.link_id == link_id).limit(1)).first() is None:
        return
    for some in chunks(orders, PARAMETERS):
        connection.execute(delete(absence).where(absence.c.link_id == link_id, absence.c.order_id.in_(some)))


def note_absences(connection: Connection, lease: Lease, side: Side, orders: Sequence[int], since: float) -> None:
    for some in chunks(dict.fromkeys(orders), PARAMETERS):
        connection.execute(delete(absence).where(absence.c.link_id == lease.link_id, absence.c.order_id.in_(some)))
        rows = [(lease.link_id, order, side.value, since) for order in some]
        insert_rows(connection, absence, _ABSENCE_COLUMNS, rows)


def forget_absences(connection: Connection, lease: Lease, side: Side, orders: Sequence[int] | None = None) -> None:
    of_side = delete(absence).where(absence.c.link_id == lease.link_id, absence.c.side == side.value)
    if orders is None:
        connection.execute(of_side)
        return
    for some in chunks(orders, PARAMETERS):
        connection.execute(of_side.where(absence.c.order_id.in_(some)))


# ----------------------------------------------------------------- order keys


def orders_by_key(connection: Connection, link_id: int, keys: Sequence[str]) -> list[tuple[str, int]]:
    # MySQL also finds keys that differ in spaces at the end; the caller ignores keys it did not ask for.
    found: list[tuple[str, int]] = []
    for some in chunks(keys, PARAMETERS):
        # From the driver's cursor: a pass looks up a million keys.
        result = connection.execute(_ORDERS_BY_KEY, {"link_id": link_id, "keys": some})
        found += cast("Any", result).cursor.fetchall()
        result.close()
    return found


def order_keys(connection: Connection, link_id: int, orders: Sequence[int]) -> list[KeyRow]:
    found: list[KeyRow] = []
    for some in chunks(dict.fromkeys(orders), PARAMETERS):
        found += _key_rows(connection, _KEYS_OF_ORDERS, {"link_id": link_id, "orders": some})
    return found


def unknown_keys(connection: Connection, link_id: int) -> list[KeyRow]:
    return _key_rows(connection, _UNKNOWN_KEYS, {"link_id": link_id})


def save_keys(connection: Connection, lease: Lease, learned: Sequence[KeyRow], gone: Sequence[int] = ()) -> None:
    rows = {row.order_id: row for row in learned}
    for some in chunks(dict.fromkeys([*gone, *rows]), PARAMETERS):
        connection.execute(
            delete(order_key).where(order_key.c.link_id == lease.link_id, order_key.c.order_id.in_(some))
        )
    insert_rows(connection, order_key, _KEY_COLUMNS, [(lease.link_id, *row) for row in rows.values()])
    if len(rows) >= MANY_KEYS:
        backend_at_work(connection).refresh_statistics(connection, order_key)


def _key_rows(connection: Connection, query: Select[int, str, float, int], values: dict[str, Any]) -> list[KeyRow]:
    return [KeyRow(*row) for row in connection.execute(query, values)]
