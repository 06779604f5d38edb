"""The methods of the sandbox by lower-case name: here `sale.order.*` (portal.md 14), and those not about orders."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from syncd.sandbox import order_entity
from syncd.sandbox.calls import Call, Method, local_time
from syncd.sandbox.data import KEY_FIELDS, PortalData, folded
from syncd.sandbox.php import PhpArray, to_int, to_text
from syncd.sandbox.query import (
    PAGE_SIZE,
    Condition,
    Op,
    array_argument,
    integers,
    read_start,
)
from syncd.sandbox.requests import (
    ARGUMENT,
    NO_ACTION,
    ORDER_MISSING,
    Answer,
    Refusal,
)

_ID_PREFIXES: Final = {
    "": Op.EQUAL, "=": Op.EQUAL, "@": Op.EQUAL, "!": Op.NOT_EQUAL, "!=": Op.NOT_EQUAL, "!@": Op.NOT_EQUAL,
    ">": Op.GREATER, ">=": Op.GREATER_EQUAL, "<": Op.LESS, "<=": Op.LESS_EQUAL,
}  # fmt: skip
"""The prefixes of a filter on an id."""

_ID_TESTS: Final[Mapping[Op, Callable[[int, tuple[int, ...]], bool]]] = {
    Op.EQUAL: lambda value, values: value in values,
    Op.NOT_EQUAL: lambda value, values: value not in values,
    Op.GREATER: lambda value, values: value > values[0],
    Op.GREATER_EQUAL: lambda value, values: value >= values[0],
    Op.LESS: lambda value, values: value < values[0],
    Op.LESS_EQUAL: lambda value, values: value <= values[0],
}
"""The test of an operation on an id."""

_FIELDS: Final = ("id", *KEY_FIELDS, "externalOrder")


class _KeyCondition(NamedTuple):
    """A condition on a key: it is one of these folded texts, or (wanted is False) none of them."""

    field: str
    keys: frozenset[str]
    wanted: bool


def _list_orders(call: Call) -> Answer:
    """`sale.order.list`: orders by id or key, 50 a page; `start=-1` returns one page without a total."""
    portal = call.portal
    ids, keys = _conditions(array_argument(call.params, "filter"), call)
    found = [
        order
        for order in _candidates(portal, ids, keys)
        if all(_ID_TESTS[op](order, values) for _, op, values in ids) and all(_has(portal, order, one) for one in keys)
    ]
    if str(array_argument(call.params, "order").get("id", "asc")).upper() == "DESC":
        found.reverse()
    offset, counted = read_start(call.params.get("start"))
    page = found[offset : offset + PAGE_SIZE]
    named = {name for name in array_argument(call.params, "select").values() if isinstance(name, str)}
    fields = [name for name in _FIELDS if name in named] if named and "*" not in named else list(_FIELDS)
    answer = Answer({"orders": [_order(portal, order, fields or _FIELDS) for order in page]})
    if counted:
        answer.total = len(found)
        answer.next = offset + len(page) if offset + len(page) < len(found) else None
        answer.counted = True
    return answer


def _get_order(call: Call) -> Answer:
    """`sale.order.get`: one order; refused if it does not exist."""
    if call.params.get("id") is None:
        raise Refusal(ARGUMENT, "Could not find value for parameter {id}")
    order_id = to_int(call.params["id"])
    if not call.portal.order_exists(order_id):
        raise Refusal(ORDER_MISSING, "order is not exists")
    return Answer({"order": _order(call.portal, order_id, _FIELDS)})


def _id_condition(name: str, value: Any, call: Call) -> Condition | None:
    """Return the condition on `id` of a filter key and its value; None for other fields."""
    op = _ID_PREFIXES.get(name[:-2]) if name.endswith("id") else None
    return None if op is None else Condition("ID", op, integers(value, call.portal.version))


def _conditions(asked: PhpArray, call: Call) -> tuple[list[Condition], list[_KeyCondition]]:
    ids, keys = [], []
    for name, value in asked.items():
        text = str(name)
        field = text.lstrip("!=@")
        if field in KEY_FIELDS and text.removesuffix(field) in {"", "=", "@", "!", "!=", "!@"}:
            texts = value.values() if isinstance(value, dict) else [value]
            keys.append(
                _KeyCondition(field, frozenset(folded(to_text(one)) for one in texts), not text.startswith("!"))
            )
        elif (condition := _id_condition(text, value, call)) is not None:
            ids.append(condition)
        else:
            raise Refusal(ARGUMENT, f"Unknown field definition `{text}` ({text}) for the list.")
    return ids, keys


def _candidates(portal: PortalData, ids: list[Condition], keys: list[_KeyCondition]) -> Iterable[int]:
    """Return the existing orders that may meet the conditions, ascending."""
    named = [set(values) for _, op, values in ids if op is Op.EQUAL]
    named += [
        {order for key in one.keys for order in portal.order_keys.orders(one.field, key)} for one in keys if one.wanted
    ]
    return sorted(filter(portal.order_exists, set.intersection(*named))) if named else portal.order_ids()


def _has(portal: PortalData, order_id: int, condition: _KeyCondition) -> bool:
    return (folded(portal.order_keys.key(condition.field, order_id)) in condition.keys) is condition.wanted


def _order(portal: PortalData, order_id: int, fields: Iterable[str]) -> dict[str, Any]:
    every = {"id": order_id, "externalOrder": "N"}
    return {name: every[name] if name in every else portal.order_keys.key(name, order_id) for name in fields}


# ------------------------------------------------------ what is not about orders

EVENTS = ("ONSALEORDERSAVED", "ONORDERENTITYSAVED", "ONORDERDELETED", "ONSALEBEFOREORDERDELETE")


def _enum_order_owner_types(call: Call) -> Answer:
    """`crm.enum.getorderownertypes`: returns one type only, although others are possible (portal.md 3.2)."""
    names = call.portal.owner_type_names
    codes = {2: "DEAL", 31: "SMART_INVOICE"}
    listed = [
        {"attribute": "DYN", "code": codes.get(one, f"DYNAMIC_{one}"), "id": one, "name": names[one]} for one in names
    ]
    return Answer(listed[:1])


def _item_list(call: Call) -> Answer:
    """`crm.item.list`: ids and titles of deals, invoices or items, 50 a page, without those hidden from the user."""
    if call.params.get("entityTypeId") is None:
        raise Refusal(ARGUMENT, "Could not find value for parameter {entityTypeId}")
    kind = to_int(call.params["entityTypeId"])
    if kind <= 0:
        raise Refusal("NOT_FOUND", "SPA not found")
    portal = call.portal

    def known(conditions: list[Condition]) -> Sequence[int]:
        named = [set(values) for _, op, values in conditions if op is Op.EQUAL]
        if not portal.owners_visible:
            return ()
        if named:
            return sorted(owner for owner in set.intersection(*named) if owner > 0 and portal.owner_exists(kind, owner))
        return portal.owner_ids(kind)

    answer = _page_of_ids(call, known, "items")
    if {"title", "*"} & {str(name) for name in array_argument(call.params, "select").values()}:
        answer.result["items"] = [
            item | {"title": portal.title_of(kind, item["id"])} for item in answer.result["items"]
        ]
    return answer


def _page_of_ids(call: Call, known: Callable[[list[Condition]], Sequence[int]], key: str) -> Answer:
    conditions = _id_conditions(array_argument(call.params, "filter"), call)
    descending = str(array_argument(call.params, "order").get("id", "asc")).upper() == "DESC"
    ids = [number for number in known(conditions) if all(_ID_TESTS[op](number, values) for _, op, values in conditions)]
    if descending:
        ids.reverse()
    offset, counted = read_start(call.params.get("start"))
    page = ids[offset : offset + PAGE_SIZE]
    answer = Answer({key: [{"id": number} for number in page]})
    if counted:
        answer.total = len(ids)
        answer.next = offset + len(page) if offset + len(page) < len(ids) else None
        answer.counted = True
    return answer


def _id_conditions(asked: PhpArray, call: Call) -> list[Condition]:
    conditions = []
    for name, value in asked.items():
        condition = _id_condition(str(name), value, call)
        if condition is None:
            raise Refusal(ARGUMENT, f"Unknown field definition `{name}` ({name}) for the list.")
        conditions.append(condition)
    return conditions


def _scope(call: Call) -> Answer:
    return Answer(sorted(call.caller.scope))


def _server_time(call: Call) -> Answer:
    return Answer(local_time(int(call.portal.clock.now())))


def _profile(call: Call) -> Answer:
    return Answer({
        "ID": str(call.portal.user_id), "ADMIN": True, "NAME": "Sandbox", "LAST_NAME": "Portal", "PERSONAL_GENDER": "",
        "TIME_ZONE": "", "TIME_ZONE_OFFSET": 0,
    })  # fmt: skip


def _app_info(call: Call) -> Answer:
    return Answer({
        "ID": 1, "CODE": call.caller.key, "VERSION": 1, "STATUS": "L", "INSTALLED": True, "PAYMENT_EXPIRED": "N",
        "DAYS": None, "LANGUAGE_ID": "en", "LICENSE": "en_std", "SCOPE": sorted(call.caller.scope),
    })  # fmt: skip


def _event_bind(call: Call) -> Answer:
    event, handler = _event_arguments(call)
    if "." not in handler.partition("://")[2].partition("/")[0]:
        raise Refusal("ERROR_WRONG_HANDLER_URL", "Wrong handler URL")
    if not handler.startswith(("http://", "https://")):
        raise Refusal("ERROR_UNSUPPORTED_PROTOCOL", "Unsupported event handler protocol")
    if (event, handler) in call.portal.handlers:
        raise Refusal("ERROR_EVENT_BINDING_EXISTS", "Handler already binded")
    call.portal.handlers.append((event, handler))
    return Answer(result=True)


def _event_unbind(call: Call) -> Answer:
    event, handler = _event_arguments(call)
    before = len(call.portal.handlers)
    call.portal.handlers[:] = [known for known in call.portal.handlers if known != (event, handler)]
    return Answer({"count": before - len(call.portal.handlers)})


def _event_get(call: Call) -> Answer:
    return Answer([{"event": event, "handler": handler} for event, handler in call.portal.handlers])


def _event_arguments(call: Call) -> tuple[str, str]:
    event, handler = str(call.params.get("event") or "").upper(), str(call.params.get("handler") or "")
    if event not in EVENTS or "sale" not in call.caller.scope:
        raise Refusal("ERROR_EVENT_NOT_FOUND", "Event not found")
    return event, handler


def _offline_unlicensed(_call: Call) -> Answer:
    raise Refusal("WRONG_LICENSE", "Offline events are not part of this portal's plan", 403)


def _unknown_action(controller: str) -> Callable[[str], Method]:
    def method(action: str) -> Method:
        def run(_call: Call) -> Answer:
            raise Refusal(NO_ACTION, f"Could not find description of {action} in {controller}")

        return Method(run)

    return method


# ------------------------------------------------------------------- by name

METHODS: dict[str, Method] = {
    "crm.orderentity.list": Method(order_entity.list_bindings, cost="list"),
    "crm.orderentity.add": Method(order_entity.add, cost="add"),
    "crm.orderentity.deletebyfilter": Method(order_entity.delete_by_filter, cost="delete"),
    "crm.orderentity.getfields": Method(order_entity.get_fields),
    "crm.enum.getorderownertypes": Method(_enum_order_owner_types),
    "crm.item.list": Method(_item_list),
    "sale.order.list": Method(_list_orders, scope="sale"),
    "sale.order.get": Method(_get_order, scope="sale"),
    "server.time": Method(_server_time, scope=""),
    "profile": Method(_profile, scope=""),
    "app.info": Method(_app_info, scope=""),
    "scope": Method(_scope, scope=""),
    "event.bind": Method(_event_bind, scope="", app_only=True),
    "event.unbind": Method(_event_unbind, scope="", app_only=True),
    "event.get": Method(_event_get, scope="", app_only=True),
    "event.offline.get": Method(_offline_unlicensed, scope="", app_only=True),
    "event.offline.list": Method(_offline_unlicensed, scope="", app_only=True),
    "event.offline.clear": Method(_offline_unlicensed, scope="", app_only=True),
    "event.offline.error": Method(_offline_unlicensed, scope="", app_only=True),
}
"""The methods by lower-case name, without `batch`."""

_CONTROLLERS = {
    "crm.orderentity": _unknown_action("Bitrix\\Crm\\Controller\\OrderEntity"),
    "crm.enum": _unknown_action("Bitrix\\Crm\\Controller\\Enum"),
    "crm.item": _unknown_action("Bitrix\\Crm\\Controller\\Item"),
    "sale.order": _unknown_action("Bitrix\\Sale\\Controller\\Order"),
}


def find_method(name: str) -> Method | None:
    """Return the method of a lower-case name. An unknown action of a known controller is a method that refuses."""
    method = METHODS.get(name)
    if method is None:
        controller, _, action = name.rpartition(".")
        if controller in _CONTROLLERS:
            return _CONTROLLERS[controller](action)
    return method


def call_name(value: Any) -> str:
    """Return the lower-case method name in a batch command or a part of a URL."""
    return str(value).partition("?")[0].lower()
