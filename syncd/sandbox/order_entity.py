"""The methods `crm.orderentity.*` of the sandbox; they check their parameters in the portal's order (portal.md 3)."""

from __future__ import annotations

from syncd.sandbox.bindings import ListPage, OwnerPair
from syncd.sandbox.calls import Call
from syncd.sandbox.data import ORDER_SAVED
from syncd.sandbox.php import to_int
from syncd.sandbox.query import (
    CAMEL,
    ORDER_ID,
    OWNER_ID,
    OWNER_TYPE_ID,
    PAGE_SIZE,
    array_argument,
    column_of,
    read_query,
)
from syncd.sandbox.requests import (
    ARGUMENT,
    DUPLICATE,
    GENERIC,
    ORDER_ID_EMPTY,
    ORDER_MISSING,
    OWNER_ID_EMPTY,
    OWNER_TYPE_EMPTY,
    READ_DENIED,
    TRIPLE_MISSING,
    WRITE_DENIED,
    Answer,
    Refusal,
    Version,
)

_INTEGER_FIELD = {"isImmutable": True, "isReadOnly": False, "isRequired": True, "type": "integer"}


def get_fields(call: Call) -> Answer:
    """`crm.orderentity.getFields`: takes no parameters, needs the read right."""
    _need_read(call)
    return Answer({"orderEntity": {name: dict(_INTEGER_FIELD) for name in ("orderId", "ownerId", "ownerTypeId")}})


def list_bindings(call: Call) -> Answer:
    """`crm.orderentity.list`: fixed pages of 50; `start=-1` is one page without a total (5.1 to 5.3)."""
    query = read_query(call.params, call.portal.version)
    _need_read(call)
    table = call.portal.table
    selected = table.select(query)
    everything = not query.counted and call.portal.minus_one_is_everything
    ids = selected.page(query.offset, None if everything else PAGE_SIZE)
    answer = Answer(ListPage(ids, table.owners, query.columns))
    answer.walked = query.offset
    if query.counted:
        end = query.offset + len(ids)
        answer.counted = len(ids) == PAGE_SIZE
        answer.total = selected.total() if answer.counted else end
        answer.walked += answer.total if answer.counted else 0
        answer.next = end if end < answer.total else None
    return answer


def add(call: Call) -> Answer:
    """`crm.orderentity.add`: binds an order, replacing its present binding (3.3)."""
    order_id, owner = _triple(call)
    portal = call.portal
    if portal.table.owners.get(order_id) == owner:
        raise Refusal(DUPLICATE, "Duplicate entry for key [ownerId, ownerTypeId, orderId]")
    if not portal.order_exists(order_id):
        if portal.version is Version.OLD:
            raise Refusal(GENERIC, "Call to a member function getEntityBinding() on null")
        raise Refusal(ORDER_MISSING, "order does not exist")
    portal.write(order_id, owner, method="crm.orderentity.add", request=call.request)
    portal.fire(ORDER_SAVED, order_id, call.request, call.delivered)
    return Answer({"dealOrder": {"orderId": order_id, "ownerId": owner[1] or None, "ownerTypeId": owner[0] or None}})


def delete_by_filter(call: Call) -> Answer:
    """`crm.orderentity.deleteByFilter`: despite its name, deletes exactly one triple (3.4)."""
    order_id, owner = _triple(call)
    portal = call.portal
    if portal.table.owners.get(order_id) != owner:
        raise Refusal(TRIPLE_MISSING, "entity relation is not exists")
    if not portal.order_exists(order_id):
        raise Refusal(ORDER_MISSING, "order does not exist")
    portal.write(order_id, None, method="crm.orderentity.deletebyfilter", request=call.request)
    portal.fire(ORDER_SAVED, order_id, call.request, call.delivered)
    return Answer(result=True)


def _need_read(call: Call) -> None:
    if call.portal.sale_right == "D":
        raise Refusal(READ_DENIED, "Access Denied")


def _triple(call: Call) -> tuple[int, OwnerPair]:
    """Return the order id and the owner in `fields`; raises the refusal of the first check that fails."""
    if call.params.get("fields") is None:
        raise Refusal(ARGUMENT, "Could not find value for parameter {fields}")
    fields = array_argument(call.params, "fields")
    if call.portal.sale_right < "W":
        raise Refusal(WRITE_DENIED, "Access Denied")
    values = {column_of(name): value for name, value in fields.items() if isinstance(name, str) and value is not None}
    absent = [CAMEL[column] for column in (OWNER_ID, OWNER_TYPE_ID, ORDER_ID) if column not in values]
    if absent:
        raise Refusal(GENERIC, "Required fields: " + ", ".join(absent))
    owner_id, owner_type_id, order_id = (to_int(values[column]) for column in (OWNER_ID, OWNER_TYPE_ID, ORDER_ID))
    if call.portal.version is not Version.OLD:
        for value, name, code in (
            (owner_id, "ownerId", OWNER_ID_EMPTY),
            (owner_type_id, "ownerTypeId", OWNER_TYPE_EMPTY),
            (order_id, "orderId", ORDER_ID_EMPTY),
        ):
            if value <= 0:
                raise Refusal(code, f"{name} - parameter is empty")
    return order_id, (owner_type_id, owner_id)
