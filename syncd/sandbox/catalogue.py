"""Every method the sandbox knows, by lower-case name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from syncd.sandbox import orderentity
from syncd.sandbox.answers import ARGUMENT, NO_ACTION, ORDER_MISSING, Answer, Refusal
from syncd.sandbox.method import Call, Method
from syncd.sandbox.names import Op
from syncd.sandbox.php import PhpArray, to_int
from syncd.sandbox.query import PAGE_SIZE, Condition, array_argument, integers, read_start

EVENTS = ("ONSALEORDERSAVED", "ONORDERENTITYSAVED", "ONORDERDELETED", "ONSALEBEFOREORDERDELETE")
_ID_PREFIXES = {
    "": Op.EQUAL, "=": Op.EQUAL, "@": Op.EQUAL, "!": Op.NOT_EQUAL, "!=": Op.NOT_EQUAL, "!@": Op.NOT_EQUAL,
    ">": Op.GREATER, ">=": Op.GREATER_EQUAL, "<": Op.LESS, "<=": Op.LESS_EQUAL,
}  # fmt: skip
_TESTS: dict[Op, Callable[[int, tuple[int, ...]], bool]] = {
    Op.EQUAL: lambda value, values: value in values,
    Op.NOT_EQUAL: lambda value, values: value not in values,
    Op.GREATER: lambda value, values: value > values[0],
    Op.GREATER_EQUAL: lambda value, values: value >= values[0],
    Op.LESS: lambda value, values: value < values[0],
    Op.LESS_EQUAL: lambda value, values: value <= values[0],
}


def _enum_order_owner_types(_call: Call) -> Answer:
    """`crm.enum.getorderownertypes`: one item only, whatever else is possible (bitrix24-rest.md 3.2)."""
    return Answer([{"attribute": "DYN", "code": "DEAL", "id": 2, "name": "Deal"}])


def _item_list(call: Call) -> Answer:
    """`crm.item.list`: ids of deals, invoices or items, 50 a page; what the credentials may not see is not there."""
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

    return _page_of_ids(call, known, "items")


def _order_list(call: Call) -> Answer:
    """`sale.order.list`: ids of orders, 50 a page."""
    portal = call.portal

    def known(conditions: list[Condition]) -> Sequence[int]:
        named = [set(values) for _, op, values in conditions if op is Op.EQUAL]
        if named:
            return sorted(order for order in set.intersection(*named) if portal.order_exists(order))
        return portal.order_ids()

    return _page_of_ids(call, known, "orders")


def _order_get(call: Call) -> Answer:
    """`sale.order.get`: an order, or that there is none."""
    if call.params.get("id") is None:
        raise Refusal(ARGUMENT, "Could not find value for parameter {id}")
    order_id = to_int(call.params["id"])
    if not call.portal.order_exists(order_id):
        raise Refusal(ORDER_MISSING, "order is not exists")
    return Answer({"order": {"id": order_id}})


def _page_of_ids(call: Call, known: Callable[[list[Condition]], Sequence[int]], key: str) -> Answer:
    conditions = _id_conditions(array_argument(call.params, "filter"), call)
    descending = str(array_argument(call.params, "order").get("id", "asc")).upper() == "DESC"
    ids = [number for number in known(conditions) if all(_TESTS[op](number, values) for _, op, values in conditions)]
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
        text = str(name)
        op = _ID_PREFIXES.get(text[:-2]) if text.endswith("id") else None
        if op is None:
            raise Refusal(ARGUMENT, f"Unknown field definition `{text}` ({text}) for the list.")
        conditions.append(Condition("ID", op, integers(value, call.portal.version)))
    return conditions


def _scope(call: Call) -> Answer:
    return Answer(sorted(call.actor.scope))


def _server_time(call: Call) -> Answer:
    return Answer(call.portal.local_time())


def _profile(call: Call) -> Answer:
    return Answer({
        "ID": str(call.portal.user_id), "ADMIN": True, "NAME": "Sandbox", "LAST_NAME": "Portal", "PERSONAL_GENDER": "",
        "TIME_ZONE": "", "TIME_ZONE_OFFSET": 0,
    })  # fmt: skip


def _app_info(call: Call) -> Answer:
    return Answer({
        "ID": 1, "CODE": call.actor.key, "VERSION": 1, "STATUS": "L", "INSTALLED": True, "PAYMENT_EXPIRED": "N",
        "DAYS": None, "LANGUAGE_ID": "en", "LICENSE": "en_std", "SCOPE": sorted(call.actor.scope),
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
    if event not in EVENTS or "sale" not in call.actor.scope:
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


METHODS: dict[str, Method] = {
    "crm.orderentity.list": Method(orderentity.list_bindings, cost="list"),
    "crm.orderentity.add": Method(orderentity.add, cost="add"),
    "crm.orderentity.deletebyfilter": Method(orderentity.delete_by_filter, cost="delete"),
    "crm.orderentity.getfields": Method(orderentity.get_fields),
    "crm.enum.getorderownertypes": Method(_enum_order_owner_types),
    "crm.item.list": Method(_item_list),
    "sale.order.list": Method(_order_list, scope="sale"),
    "sale.order.get": Method(_order_get, scope="sale"),
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
"""The methods by lower-case name; `batch` is not one of them."""

_CONTROLLERS = {
    "crm.orderentity": _unknown_action("Bitrix\\Crm\\Controller\\OrderEntity"),
    "crm.enum": _unknown_action("Bitrix\\Crm\\Controller\\Enum"),
    "crm.item": _unknown_action("Bitrix\\Crm\\Controller\\Item"),
    "sale.order": _unknown_action("Bitrix\\Sale\\Controller\\Order"),
}


def find_method(name: str) -> Method | None:
    """Given a lower-case name, return its method; an unknown action of a known controller is one that refuses."""
    method = METHODS.get(name)
    if method is None:
        controller, _, action = name.rpartition(".")
        if controller in _CONTROLLERS:
            return _CONTROLLERS[controller](action)
    return method


def call_name(value: Any) -> str:
    """Given a batch command or URL part, return the lower-case method name in it."""
    return str(value).partition("?")[0].lower()
