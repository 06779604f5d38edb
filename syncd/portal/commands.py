"""The only place that builds parameters of portal calls.

The portal drops misspelt and upper-case keys without an error, which widens a list to everything; takes an empty IN
list for "= 1"; and resolves a `$result` that is not there to something else (portal.md 4, 6.3). So: fixed
camelCase keys, percent-encoded, integers only, never an empty list. Only the keys of orders are texts: one that looks
like a reference is sent as part of a text, and the orders it finds are compared with it.

References are used in conditional writes only (6.6), at the end of a text that by itself is a harmless number: ids are
cast with PHP's `(int)`, so a reference that does not resolve leaves that number. In a write it is 0, and no release
binds order 0. docs/explanation/conditional-writes.md draws it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple
from urllib.parse import quote

from pydantic import SecretStr

from syncd.core.model import MaybeOwner, Owner, Row
from syncd.core.order_keys import KeyField
from syncd.core.order_ranges import LARGEST_ID
from syncd.core.ports import Write

PAGE: Final = 50
"""Rows on a page; there is no parameter for it (portal.md 5.1)."""

MAX_COMMANDS: Final = 50
"""Commands in a batch; the portal does not execute the surplus (portal.md 6.2)."""

WITNESS_LIMIT: Final = 900_000_000
"""A witness's order id is below this number, which `0.09e1` and a total of 0 make."""

LARGEST_EXPONENT: Final = 19_999
"""The largest exponent that PHP reads as such: owner types of up to four digits can bear witness."""

SMALLEST_PAIRED: Final = 10
"""The smallest order id that a witness of a pair has. Old boxes take the pair's IN list for "= 1" and may find order 1;
as an exponent that is 11, which with any such witness leaves 0."""

LARGEST_PAIRED: Final = 999
"""The largest one, since its write has about a thousand digits more than it."""

APART: Final = 400
"""By how much the exponents that a pair's two order ids make differ at least: the larger one makes an infinite number,
and PHP's `(int)` of that is 0."""

LIST: Final = "crm.orderentity.list"
ADD: Final = "crm.orderentity.add"
DELETE: Final = "crm.orderentity.deletebyfilter"
ITEMS: Final = "crm.item.list"
OWNER_TYPES: Final = "crm.enum.getorderownertypes"
ORDERS: Final = "sale.order.list"
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
        upto: The upper bound, included; `LARGEST_ID` for none.
        count: Ask for the total too (`start=0`), which costs the portal a COUNT; else `start=-1`.
        descending: From the top.
    """
    bound = "" if upto >= LARGEST_ID else f"&filter%5B%3C%3DorderId%5D={upto:d}"
    order = _DESCENDING if descending else _ASCENDING
    return f"{LIST}?{order}&filter%5B%3EorderId%5D={after:d}{bound}&start={0 if count else -1}"


def list_orders(order_ids: Sequence[int], *, descending: bool = False) -> str:
    """List the bindings of up to 50 orders, with IN. Old boxes take any IN list for "= 1": see `reading`."""
    _check(order_ids)
    asked = "".join(f"&filter%5B%40orderId%5D%5B%5D={order_id:d}" for order_id in order_ids)
    return f"{LIST}?{_DESCENDING if descending else _ASCENDING}{asked}&start=-1"


def list_order(order_id: int, *, count: bool = False) -> str:
    """List the binding of one order, by equality, which every version understands; with `total`, if counted."""
    _check((order_id,))
    return f"{LIST}?filter%5B%3DorderId%5D={order_id:d}&start={0 if count else -1}"


def list_newest() -> str:
    """List the 50 bindings with the largest order ids; rows whose id is not positive are left out."""
    return f"{LIST}?{_DESCENDING}&filter%5B%3EorderId%5D=0&start=-1"


def get_fields() -> str:
    """Ask for the description of a binding's fields."""
    return "crm.orderentity.getfields"


class Witness(NamedTuple):
    """A bound order that bears witness to one that is to be bound, and whether both are listed as a pair."""

    row: Row
    paired: bool


def move_if_still(change: Write) -> dict[str, str]:
    """Replace an order's owner only if it is still the expected one: a list pinned to that owner, then the `add`.

    The list's key is `gate_key`, the write's `write_key`. Still there: `05125`, which is 5125. Not there, or the list
    failed: `0$result…`, which is 0.
    """
    order_id, before = change.order_id, _owner(change.before)
    _check((order_id, *before))
    pinned = (
        f"{LIST}?filter%5B%3DorderId%5D={order_id:d}&filter%5B%3DownerTypeId%5D={before.owner_type_id:d}"
        f"&filter%5B%3DownerId%5D={before.owner_id:d}&select%5B0%5D=orderId&start=-1"
    )
    return {
        gate_key(change): pinned,
        write_key(change): f"{ADD}?{_fields('0' + _first(gate_key(change), 'orderId'), _owner(change.after))}",
    }


def bind_if_unbound(change: Write, witness: Row) -> dict[str, str]:
    """Bind an order only if it is unbound: a list of it, a list of a witness that its rows would hide, then the `add`.

    The first list's key is `seen_key`, the second's `gate_key`, the write's `write_key`.

    - The order is unbound: the witness is asked for with `> 0` and `< 900000000`, and is found.
    - The order is bound: `> order`, and the witness's id is not larger. The order's list failed: `< 0`. The witness is
      gone, or of another type: it is not found in any case.
    - Found, its type completes the exponent of the order id: `0.000000005125e1` and `2` are 5125; without it, 0.

    Args:
        change: The write; its order is expected to be unbound.
        witness: A bound order for which `can_witness` holds.
    """
    order_id = change.order_id
    _check((order_id, witness.order_id, witness.owner_type_id))
    if not can_witness(witness, order_id):
        raise ValueError(f"order {witness.order_id} cannot bear witness to order {order_id}")
    seen, gate = seen_key(change), gate_key(change)
    written = _scaled(order_id, _exponent(witness.owner_type_id)) + _first(gate, "ownerTypeId")
    return {
        seen: list_order(order_id, count=True),
        gate: _witnessed(witness, after="0" + _first(seen, "orderId"), below="0.09e1" + _total(seen)),
        write_key(change): f"{ADD}?{_fields(written, _owner(change.after))}",
    }


def can_witness(witness: Row, order_id: int) -> bool:
    """Return whether a bound order can bear witness to another one: see `bind_if_unbound`.

    The written id needs at least one zero between its point and the order's digits. Without it, a reference that does
    not resolve would leave the order's first digit instead of 0.
    """
    return (
        witness.order_id <= order_id
        and witness.order_id < WITNESS_LIMIT
        and len(str(order_id)) < _exponent(witness.owner_type_id) <= LARGEST_EXPONENT
    )


def bind_if_first(change: Write, witness: Row) -> dict[str, str]:
    """Bind an order only if it is unbound: a list of it and of a witness, the larger id first, then the `add`.

    The list's key is `seen_key`, the write's `write_key`. One list less than `bind_if_unbound`: nothing stands between
    the look at the order and its write.

    - The order is unbound: the first row is the witness's, whose order id completes the exponent of the one that is
      written. With order 10, `0.(106 zeros)5125e1` and `10` are 5125.
    - The order is bound: the first row is its own. Its id makes an exponent of `APART` more at least: infinite, so 0.
    - Neither is bound, or the list failed: nothing completes the exponent, and 0 is left.

    Args:
        change: The write; its order is expected to be unbound.
        witness: A bound order for which `can_pair` holds, on a portal that has answered `probe_pairs`.
    """
    order_id, seen = change.order_id, seen_key(change)
    if not can_pair(witness, order_id):
        raise ValueError(f"order {witness.order_id} makes no pair with order {order_id}")
    written = _scaled(order_id, _exponent(witness.order_id)) + _first(seen, "orderId")
    return {
        seen: list_orders((witness.order_id, order_id), descending=True),
        write_key(change): f"{ADD}?{_fields(written, _owner(change.after))}",
    }


def can_pair(witness: Row, order_id: int) -> bool:
    """Return whether a bound order can bear witness to another one in the same list: see `bind_if_first`."""
    own = min(_exponent(order_id), LARGEST_EXPONENT)
    return can_be_paired(witness) and own - _exponent(witness.order_id) >= APART


def can_be_paired(witness: Row) -> bool:
    """Return whether a bound order can bear witness in pairs at all."""
    return SMALLEST_PAIRED <= witness.order_id <= LARGEST_PAIRED


def probe_conditions(known: Row, unbound: int) -> dict[str, str]:
    """Ask, by reading alone, whether references and casts work as conditional writes need them to (portal.md 6.6).

    Keys: `p` lists the unbound order, `q` the known one, and `a` to `g` are the seven questions: `a`, `c`, `e` and `g`
    find the known order, `b`, `d` and `f` nothing. `r` lists the known order once more, at the end.

    Args:
        known: A bound order that `can_witness` for itself.
        unbound: An order that is not bound.
    """
    _check((known.order_id, known.owner_type_id, unbound))
    scaled = _scaled(known.order_id, _exponent(known.owner_type_id))
    own = f"filter%5B%3DorderId%5D={known.order_id:d}"
    return {
        "p": list_order(unbound, count=True),
        "q": list_order(known.order_id, count=True),
        "a": f"{LIST}?filter%5B%3DorderId%5D={scaled}{_first('q', 'ownerTypeId')}&start=-1",
        "b": f"{LIST}?filter%5B%3DorderId%5D={scaled}{_first('p', 'ownerTypeId')}&start=-1",
        "c": f"{LIST}?{own}&filter%5B%3CorderId%5D=0.09e1{_total('p')}&start=-1",
        "d": f"{LIST}?{own}&filter%5B%3CorderId%5D=0.09e1{_total('nosuch')}&start=-1",
        "e": f"{LIST}?filter%5B%3DorderId%5D=0{_first('q', 'orderId')}&start=-1",
        "f": f"{LIST}?{own}&filter%5B%3EorderId%5D=0{_first('q', 'orderId')}&start=-1",
        "g": f"{LIST}?{own}&filter%5B%3EorderId%5D=0{_first('p', 'orderId')}&start=-1",
        "r": list_order(known.order_id, count=True),
    }


def probe_pairs(low: Row, high: Row) -> dict[str, str]:
    """Ask, by reading alone, whether pairs work as `bind_if_first` needs them to.

    `h` finds both orders, the larger id first; `i` the smaller one, by a number that the first row of `h` completes.

    Args:
        low: A bound order that `can_be_paired`.
        high: Another one, with a larger id.
    """
    scaled = _scaled(low.order_id, _exponent(high.order_id))
    return {
        "h": list_orders((low.order_id, high.order_id), descending=True),
        "i": f"{LIST}?filter%5B%3DorderId%5D={scaled}{_first('h', 'orderId')}&start=-1",
    }


def seen_key(change: Write) -> str:
    """Return the key of the list that shows what an order is bound to."""
    return f"l{change.order_id}"


def gate_key(change: Write) -> str:
    """Return the key of the list whose row lets a conditional write pass."""
    return f"{'l' if change.before is not None else 'w'}{change.order_id}"


def write_key(change: Write) -> str:
    """Return the key of the write itself."""
    return f"o{change.order_id}"


def write(change: Write) -> str:
    """Write one order: `add` replaces what it is bound to, `deleteByFilter` compares and deletes."""
    owner = change.before if change.after is None else change.after
    if owner is None:
        raise ValueError(f"order {change.order_id}: a removal names the owner to remove")
    _check((change.order_id, *owner))
    return f"{method_of(change)}?{_fields(change.order_id, owner)}"


def method_of(change: Write) -> str:
    """Given a write, return the method that carries it out, in the lower case that limits are keyed by."""
    return DELETE if change.after is None else ADD


def method_in(command: str) -> str:
    """Given a command, return its method."""
    return command.partition("?")[0]


def probe_write() -> str:
    """Try an `add` of nothing: refused for its ids, or, without the write right, for that (portal.md 13.43).

    All three ids are 0: boxes of mid-2024 and older do not check the owner's, but find no order 0 either.
    """
    return f"{ADD}?{_fields(0, Owner(0, 0))}"


def list_owner_types() -> str:
    """Ask which owner types orders may have; the answer names the first of them only (portal.md 3.2)."""
    return OWNER_TYPES


def list_items(owner_type_id: int, owner_ids: Sequence[int], *, titled: bool = False) -> str:
    """List which of up to 50 CRM items of a type exist, by id; a single one by equality. With `titled`, titles too."""
    _check(owner_ids)
    if len(owner_ids) == 1:
        asked = f"&filter%5Bid%5D={owner_ids[0]:d}"
    else:
        asked = "".join(f"&filter%5B%40id%5D%5B%5D={owner_id:d}" for owner_id in owner_ids)
    select = "&select%5B%5D=id&select%5B%5D=title" if titled else "&select%5B%5D=id"
    return f"{ITEMS}?entityTypeId={owner_type_id:d}{select}{asked}&order%5Bid%5D=asc&start=-1"


def find_orders(field: KeyField, keys: Sequence[str], after: int = 0) -> str:
    """List the orders beyond an id that have one of up to 50 keys, by id; at most 50 of them (portal.md 14)."""
    if not 0 < len(keys) <= PAGE or not all(keys):
        raise ValueError(f"1 to {PAGE} keys, none of them empty")
    named = f"%5B%40{field.value}%5D%5B%5D" if len(keys) > 1 else f"%5B%3D{field.value}%5D"
    asked = "".join(f"&filter{named}={quote(_plain(key), safe='')}" for key in keys)
    return f"{_orders(field)}&filter%5B%3Eid%5D={after:d}{asked}"


def _plain(key: str) -> str:
    """Given a key, return the value that asks for it in a batch, where a key such as `$total` looks like a reference.

    A reference that is the whole value becomes whatever it leads to; inside a text it stays as written unless it leads
    to a number or a string (portal.md 6.3). The blank makes it a text, and the portal's database ignores it (14).
    """
    return f"{key} " if "$" in key else key


def list_order_keys(field: KeyField, order_ids: Sequence[int]) -> str:
    """List up to 50 orders by id, with their keys; a single one by equality."""
    _check(order_ids)
    if len(order_ids) == 1:
        return f"{_orders(field)}&filter%5B%3Did%5D={order_ids[0]:d}"
    asked = "".join(f"&filter%5B%40id%5D%5B%5D={order_id:d}" for order_id in order_ids)
    return f"{_orders(field)}{asked}"


def _orders(field: KeyField) -> str:
    return f"{ORDERS}?select%5B%5D=id&select%5B%5D={field.value}&order%5Bid%5D=asc&start=-1"


def _fields(order_id: int | str, owner: Owner) -> str:
    return (
        f"fields%5BorderId%5D={order_id}&fields%5BownerTypeId%5D={owner.owner_type_id:d}"
        f"&fields%5BownerId%5D={owner.owner_id:d}"
    )


def _owner(owner: MaybeOwner) -> Owner:
    if owner is None:
        raise ValueError("this write needs an owner before and after it")
    return owner


def _witnessed(witness: Row, *, after: str, below: str) -> str:
    return (
        f"{LIST}?filter%5B%3DorderId%5D={witness.order_id:d}&filter%5B%3DownerTypeId%5D={witness.owner_type_id:d}"
        f"&filter%5B%3EorderId%5D={after}&filter%5B%3CorderId%5D={below}&select%5B0%5D=ownerTypeId&start=-1"
    )


def _scaled(order_id: int, exponent: int) -> str:
    """Return an order id without the rest of its exponent: for 5125 and 12, `0.000000005125e1`."""
    return f"0.{order_id:0{exponent}d}e1"


def _exponent(number: int) -> int:
    """Return the number written as "1" and then this one, which completes it."""
    return int(f"1{number:d}")


def _first(key: str, field: str) -> str:
    """Return a reference to a field of the first row of a list; it must be the end of a value."""
    return f"%24result%5B{key}%5D%5BorderEntity%5D%5B0%5D%5B{field}%5D"


def _total(key: str) -> str:
    return f"%24total%5B{key}%5D"


def _check(ids: Sequence[int]) -> None:
    if not ids:
        raise ValueError("an empty IN list means = 1")
    if len(ids) > PAGE:
        raise ValueError(f"a page holds {PAGE} rows, {len(ids)} ids were asked for")
    if min(ids) <= 0:
        raise ValueError("ids are positive")
