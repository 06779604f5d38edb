"""Bindings: for each order the CRM as last completely listed, and the agreed state."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, func, select

from syncd.core.records import BindingRow
from syncd.state.bulk import fetch_bindings
from syncd.state.schema import binding

_PAGE = (
    select(binding.c.order_id, binding.c.crm_type, binding.c.crm_id, binding.c.agreed_type, binding.c.agreed_id)
    .where(binding.c.link_id == bindparam("link_id"), binding.c.order_id > bindparam("after"))
    .order_by(binding.c.order_id)
)
_PAGE_UPTO = _PAGE.where(binding.c.order_id <= bindparam("upto"))


def page(connection: Connection, link_id: int, after: int, upto: int | None) -> list[BindingRow]:
    """Return the rows with after < order id <= upto (None: open end), ascending."""
    values = {"link_id": link_id, "after": after}
    if upto is None:
        return fetch_bindings(connection, _PAGE, values)
    return fetch_bindings(connection, _PAGE_UPTO, values | {"upto": upto})


def boundaries(connection: Connection, link_id: int, every: int) -> list[int]:
    """Return every `every`-th order id bound in the CRM at the last complete listing, ascending."""
    numbered = (
        select(binding.c.order_id, func.row_number().over(order_by=binding.c.order_id).label("number"))
        .where(binding.c.link_id == link_id, binding.c.crm_id.is_not(None))
        .subquery()
    )
    query = select(numbered.c.order_id).where(numbered.c.number % every == 0).order_by(numbered.c.order_id)
    return list(connection.scalars(query))


def agreed_count(connection: Connection, link_id: int) -> int:
    """Return how many orders have an agreed owner."""
    query = select(func.count()).select_from(binding)
    return connection.scalar(query.where(binding.c.link_id == link_id, binding.c.agreed_id.is_not(None))) or 0
