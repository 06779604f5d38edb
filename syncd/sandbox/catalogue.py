"""The methods of the sandbox, by lower-case name, and those that are not about orders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from syncd.sandbox import order_methods
from syncd.sandbox.answers import ARGUMENT, NO_ACTION, Answer, Refusal
from syncd.sandbox.calls import Call, Method, local_time
from syncd.sandbox.order_methods import ID_TESTS, id_condition
from syncd.sandbox.php import PhpArray, to_int
from syncd.sandbox.query import PAGE_SIZE, Condition, Op, array_argument, read_start

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
    ids = [number for number in known(conditions) if all(ID_TESTS[op](number, values) for _, op, values in conditions)]
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
        condition = id_condition(str(name), value, call)
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


METHODS: dict[str, Method] = {
    "crm.orderentity.list": Method(order_methods.list_bindings, cost="list"),
    "crm.orderentity.add": Method(order_methods.add, cost="add"),
    "crm.orderentity.deletebyfilter": Method(order_methods.delete_by_filter, cost="delete"),
    "crm.orderentity.getfields": Method(order_methods.get_fields),
    "crm.enum.getorderownertypes": Method(_enum_order_owner_types),
    "crm.item.list": Method(_item_list),
    "sale.order.list": Method(order_methods.list_orders, scope="sale"),
    "sale.order.get": Method(order_methods.get_order, scope="sale"),
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
