"""The only place that builds parameters of portal calls.

The portal drops misspelt and upper-case keys without an error, which widens a list to everything; takes an empty IN
list for "= 1"; and resolves a `$result` that is not there to something else (bitrix24-rest.md 4, 6.3). So: fixed
camelCase keys, percent-encoded, integers only, never an empty list, never a reference.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final

from pydantic import SecretStr

from syncd.core.ports import Write

PAGE: Final = 50
"""Rows on a page; there is no parameter for it (bitrix24-rest.md 5.1)."""

MAX_COMMANDS: Final = 50
"""Commands in a batch; the portal does not execute the surplus (bitrix24-rest.md 6.2)."""

OPEN: Final = 2**63 - 1
"""The upper bound of a window that has none."""

LIST: Final = "crm.orderentity.list"
ADD: Final = "crm.orderentity.add"
DELETE: Final = "crm.orderentity.deletebyfilter"
ITEMS: Final = "crm.item.list"
BATCH: Final = "batch"

_ASCENDING: Final = "order%5BorderId%5D=asc"
_DESCENDING: Final = "order%5BorderId%5D=desc"


def batch_body(commands: Mapping[str, str], token: SecretStr) -> bytes:
    """Given commands by alphabetic key, return a batch's JSON body. halt=0: one failure never hides the others.

    Args:
        commands: 1 to 50 of them.
        token: An application's access token; empty with a webhook, whose secret is in the URL.
    """
    if not 0 < len(commands) <= MAX_COMMANDS:
        raise ValueError(f"a batch holds 1 to {MAX_COMMANDS} commands, not {len(commands)}")
    body: dict[str, object] = {"halt": 0, "cmd": dict(commands)}
    if token.get_secret_value():
        body["auth"] = token.get_secret_value()
    return json.dumps(body, separators=(",", ":")).encode()


def list_window(after: int, upto: int, *, count: bool = False, descending: bool = False) -> str:
    """List the bindings with after < order id <= upto, by order id; the first page, at most 50 rows.

    Args:
        after: The lower bound, excluded; 0 for all.
        upto: The upper bound, included; `OPEN` for none.
        count: Ask for the total too (`start=0`), which costs the portal a COUNT; else `start=-1`.
        descending: From the top.
    """
    bound = "" if upto >= OPEN else f"&filter%5B%3C%3DorderId%5D={upto:d}"
    order = _DESCENDING if descending else _ASCENDING
    return f"{LIST}?{order}&filter%5B%3EorderId%5D={after:d}{bound}&start={0 if count else -1}"


def list_orders(order_ids: Sequence[int]) -> str:
    """List the bindings of up to 50 orders, with IN. Old boxes take any IN list for "= 1": see `reading`."""
    _check(order_ids)
    asked = "".join(f"&filter%5B%40orderId%5D%5B%5D={order_id:d}" for order_id in order_ids)
    return f"{LIST}?{_ASCENDING}{asked}&start=-1"


def list_order(order_id: int) -> str:
    """List the binding of one order, by equality, which every version understands."""
    _check((order_id,))
    return f"{LIST}?{_ASCENDING}&filter%5BorderId%5D={order_id:d}&start=-1"


def list_newest() -> str:
    """List the 50 bindings with the largest order ids."""
    return f"{LIST}?{_DESCENDING}&start=-1"


def get_fields() -> str:
    """Ask for the description of a binding's fields."""
    return "crm.orderentity.getfields"


def write(change: Write) -> str:
    """Carry out one write: `add` (which replaces what is bound) or `deleteByFilter` (which compares and deletes)."""
    owner = change.before if change.after is None else change.after
    if owner is None:
        raise ValueError(f"order {change.order_id}: a removal names the owner to remove")
    _check((change.order_id, *owner))
    return f"{method_of(change)}?{_fields(change.order_id, owner.owner_type_id, owner.owner_id)}"


def method_of(change: Write) -> str:
    """Given a write, return the method that carries it out, in the lower case that limits are keyed by."""
    return DELETE if change.after is None else ADD


def method_in(command: str) -> str:
    """Given a command, return its method."""
    return command.partition("?")[0]


def probe_write() -> str:
    """An `add` of nothing: refused for its ids with the write right, for the right without it (bitrix24-rest.md 13.43).

    All three ids are 0: boxes of mid-2024 and older do not check the owner's, but find no order 0 either.
    """
    return f"{ADD}?{_fields(0, 0, 0)}"


def list_items(owner_type_id: int, owner_ids: Sequence[int]) -> str:
    """List which of up to 50 CRM items of a type exist, by id; a single one by equality."""
    _check(owner_ids)
    if len(owner_ids) == 1:
        asked = f"&filter%5Bid%5D={owner_ids[0]:d}"
    else:
        asked = "".join(f"&filter%5B%40id%5D%5B%5D={owner_id:d}" for owner_id in owner_ids)
    return f"{ITEMS}?entityTypeId={owner_type_id:d}&select%5B%5D=id{asked}&order%5Bid%5D=asc&start=-1"


def _fields(order_id: int, owner_type_id: int, owner_id: int) -> str:
    return (
        f"fields%5BorderId%5D={order_id:d}&fields%5BownerTypeId%5D={owner_type_id:d}&fields%5BownerId%5D={owner_id:d}"
    )


def _check(ids: Sequence[int]) -> None:
    if not ids:
        raise ValueError("an empty IN list means = 1")
    if len(ids) > PAGE:
        raise ValueError(f"a page holds {PAGE} rows, {len(ids)} ids were asked for")
    if min(ids) <= 0:
        raise ValueError("ids are positive")
