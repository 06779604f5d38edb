"""What the portal knows besides bindings: orders by their keys (portal.md 14), and owners by their ids.

The portal binds an order to an owner that does not exist (3), so syncd asks for the owner first. Titles of owners are
for people; the portal shows those that the credentials may see (14).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import structlog

from syncd.core.model import Owner
from syncd.core.order_keys import KeyField
from syncd.core.order_ranges import LARGEST_ID
from syncd.errors import AuthError, UnavailableError
from syncd.portal.commands import MAX_COMMANDS, PAGE, find_orders, list_items, list_order_keys, list_owner_types
from syncd.portal.pages import UnusablePage, usable_result
from syncd.portal.reading import Reader
from syncd.portal.responses import ApiError, CommandAnswer, as_list, whole
from syncd.portal.session import Session

log = structlog.get_logger(__name__)

TRIES: Final = 4
"""The run ends after this many requests in a row without a usable answer."""

UNIQUE: Final = frozenset({KeyField.NUMBER})
"""The kinds of keys that no two orders share."""

SHARED: Final = PAGE - 2
"""Keys of the other kinds in a call: with a full page of them, each call would need another one for the rest."""

REMEMBERED: Final = 3600.0
"""Seconds for which an owner that was found counts as existing."""

TITLE_LIMIT: Final = 200
"""Characters of a title that are kept."""

WITNESSES: Final = 10
"""Witnesses of a type that are asked for; one visible one is enough."""


class _Query(NamedTuple):
    """One command: the keys or ids it asks for, and the order id beyond which its orders lie."""

    items: Sequence[Any]
    after: int = 0


class OrderLookup:
    """Finds orders by keys, and keys by orders, with `sale.order.list`; see `syncd.core.order_keys.PortalOrders`.

    Fifty keys fit into a call and fifty calls into a request. The portal's database ignores case and trailing spaces
    when it compares texts, so each answer is compared again, exactly. External ids are not unique: a full page is
    followed by the next one.

    Args:
        session: The way to the portal.
        reader: Knows whether the portal understands IN lists.
    """

    def __init__(self, session: Session, reader: Reader) -> None:
        self._session = session
        self._reader = reader

    async def orders_with(self, field: KeyField, keys: Collection[str]) -> dict[str, list[int]]:
        """Given keys, return by key the ids of the orders that have exactly that one, ascending, perhaps none.

        Raises:
            UnavailableError: At least one key could not be asked for.
            AuthError, PortalBlocked: As their names say; orders need the scope `sale`.
        """
        found: dict[str, list[int]] = {key: [] for key in keys}

        def take(asked: _Query, orders: Mapping[int, str]) -> int:
            """Return the id beyond which there may be more."""
            wanted = set(asked.items)
            exact = {order: key for order, key in orders.items() if key in wanted}
            if len(orders) >= PAGE and not exact and {*map(_alike, wanted)}.isdisjoint(map(_alike, orders.values())):
                raise UnusablePage("orders that were not asked for")
            for order, key in exact.items():
                found[key].append(order)
            all_found = field in UNIQUE and len(exact) == len(wanted)
            return max(orders) if len(orders) >= PAGE and not all_found else 0

        size = min(await self._size(len(found)), PAGE if field in UNIQUE else SHARED)
        await self._ask(field, _cut(sorted(found), size), lambda one: find_orders(field, one.items, one.after), take)
        return found

    async def keys_of(self, field: KeyField, order_ids: Collection[int]) -> dict[int, str]:
        """Given order ids, return the keys of those orders that exist; an order without a key has an empty one.

        Raises:
            UnavailableError: At least one order could not be asked for.
            AuthError, PortalBlocked: As their names say.
        """
        found: dict[int, str] = {}

        def take(asked: _Query, orders: Mapping[int, str]) -> int:
            if not orders.keys() <= set(asked.items):
                raise UnusablePage("orders that were not asked for")
            found.update(orders)
            return 0

        size = await self._size(len(set(order_ids)))
        await self._ask(field, _cut(sorted(set(order_ids)), size), lambda one: list_order_keys(field, one.items), take)
        return found

    async def _size(self, items: int) -> int:
        return 1 if items > 1 and await self._reader.without_in_lists() else PAGE

    async def _ask(
        self,
        field: KeyField,
        left: list[_Query],
        command: Callable[[_Query], str],
        take: Callable[[_Query, Mapping[int, str]], int],
    ) -> None:
        """Send commands until each has been answered to its last page."""
        problem, tries = "", 0
        while left:
            sent = {f"k{number}": asked for number, asked in enumerate(left[:MAX_COMMANDS])}
            answer = await self._session.send({key: command(asked) for key, asked in sent.items()})
            again: list[_Query] = []
            answered = False
            for key, asked in sent.items():
                try:
                    after = take(asked, _orders_of(answer.commands.get(key), field))
                except UnusablePage as error:
                    problem = str(error)
                    self._end(answer.commands.get(key), field)
                    again.append(asked)
                    continue
                answered = True
                if after:
                    again.append(_Query(asked.items, after))
            left = again + left[MAX_COMMANDS:]
            tries = 0 if answered else tries + 1
            if tries >= TRIES:
                raise UnavailableError(
                    f"The portal {self._session.host.name} does not say which orders have which {field.value}: "
                    f"{problem}. Nothing was written.",
                    hint="The next run asks again.",
                )

    def _end(self, answer: CommandAnswer | None, field: KeyField) -> None:
        """Given a command without a usable answer, raise its error if that ends the run."""
        if answer is not None and answer.error is not None and answer.error.code.upper() == "INSUFFICIENT_SCOPE":
            raise AuthError(
                f"The portal {self._session.host.name} does not let these credentials look up orders by {field.value}: "
                "the scope sale is missing. Nothing was written.",
                hint="Give the webhook or the application the scope `sale` besides `crm`.",
            ) from None
        self._session.end_if_refused(answer)


def _alike(key: str) -> str:
    """Return the form in which two keys are equal for a database that ignores case and trailing spaces."""
    return key.rstrip().casefold()


def _cut(items: Sequence[Any], size: int) -> list[_Query]:
    return [_Query(items[start : start + size]) for start in range(0, len(items), size)]


def _orders_of(answer: CommandAnswer | None, field: KeyField) -> dict[int, str]:
    """Given the answer to a list of orders, return the key of each order in it.

    Raises:
        UnusablePage: There is no answer, an error, or one of another shape.
    """
    result = usable_result(answer)
    orders = as_list(result.get("orders")) if isinstance(result, dict) else None
    if orders is None:
        raise UnusablePage("an answer without orders")
    found: dict[int, str] = {}
    for order in orders:
        order_id = whole(order.get("id")) if isinstance(order, dict) else None
        if order_id is None or not 0 < order_id <= LARGEST_ID or field.value not in order:
            raise UnusablePage(f"an order without id or {field.value}")
        found[order_id] = _key_of(order[field.value], field)
    return found


def _key_of(value: Any, field: KeyField) -> str:
    """Given an order's key as the portal shows it, return it as a text; empty where no table can hold it.

    Raises:
        UnusablePage: It is neither a text nor a number, nor null.
    """
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UnusablePage(f"an order whose {field.value} is no text")
    key = str(value)
    return key if key.isascii() or not any("\ud800" <= sign <= "\udfff" for sign in key) else ""


class Owners:
    """Finds out which owners exist, and what they are called.

    Args:
        session: The way to the portal.
        reader: Knows whether the portal understands IN lists.
        verify: If False, `missing` asks for nothing, and no owner is missing.
    """

    def __init__(self, session: Session, reader: Reader, *, verify: bool) -> None:
        self._session = session
        self._reader = reader
        self._verify = verify
        self._seen: dict[Owner, float] = {}
        self._warned: set[int] = set()

    async def missing(self, owners: Collection[Owner], witnesses: Collection[Owner]) -> set[Owner]:
        """Given owners to bind orders to, return those that certainly do not exist.

        Args:
            owners: The owners to ask for.
            witnesses: Owners that orders are bound to now. If neither a witness of a type nor one of the owners asked
                for can be seen, the credentials may not see that type, and none of its owners counts as missing.

        Raises:
            AuthError, PortalBlocked, UnavailableError: As their names say.
        """
        if not self._verify:
            return set()
        since = self._session.clock.now() - REMEMBERED
        self._seen = {owner: at for owner, at in self._seen.items() if at > since}
        unsure = {owner for owner in owners if owner not in self._seen}
        if not unsure:
            return set()
        types = {owner.owner_type_id for owner in unsure}
        seen, unclear = await self._ask(unsure | _some(witnesses, types))
        visible = {owner.owner_type_id for owner in (*seen, *self._seen)}
        for owner_type_id in types - visible - unclear:
            self._warn(owner_type_id, "none of them can be seen")
        # If a part of a type was not answered, the owners that were not seen may exist.
        judged = visible - unclear
        return {owner for owner in unsure if owner not in seen and owner.owner_type_id in judged}

    async def sees(self, witnesses: Collection[Owner]) -> bool | None:
        """Given owners that orders are bound to now, return whether any can be seen; None if that is not asked."""
        if not self._verify or not witnesses:
            return None
        types = {owner.owner_type_id for owner in witnesses}
        seen, _ = await self._ask(_some(witnesses, types))
        return bool(seen)

    async def titles(self, owners: Collection[Owner]) -> dict[Owner, str]:
        """Given owners, return their titles, empty for those that cannot be seen; without what could not be asked for.

        Raises:
            AuthError, PortalBlocked, UnavailableError: As their names say.
        """
        if not owners:
            return {}
        seen, unclear = await self._ask(owners, titled=True)
        return {owner: seen.get(owner, "") for owner in owners if owner.owner_type_id not in unclear}

    async def types(self) -> dict[int, str]:
        """Return the owner types that the portal names, by number; it names only the first of those that are possible.

        Raises:
            AuthError, PortalBlocked, UnavailableError: As their names say.
        """
        answer = (await self._session.send({"types": list_owner_types()})).commands.get("types")
        listed = as_list(answer.result) if answer is not None and answer.error is None else None
        found = {}
        for one in listed or []:
            number = whole(one.get("id")) if isinstance(one, dict) else None
            if number is not None and number > 0 and (name := _plain(one.get("name"))):
                found[number] = name
        return found

    async def _ask(self, owners: Collection[Owner], *, titled: bool = False) -> tuple[dict[Owner, str], set[int]]:
        """Ask for owners.

        Returns:
            Those that can be seen, with their titles where `titled`, and the types that could not be asked for. Of each
            such type the log warns once.
        """
        size = 1 if len(owners) > 1 and await self._reader.without_in_lists() else PAGE
        by_type: dict[int, list[int]] = defaultdict(list)
        for owner in sorted(owners):
            by_type[owner.owner_type_id].append(owner.owner_id)
        calls = [
            (owner_type_id, ids[low : low + size])
            for owner_type_id, ids in by_type.items()
            for low in range(0, len(ids), size)
        ]
        seen: dict[Owner, str] = {}
        unclear: set[int] = set()
        for low in range(0, len(calls), MAX_COMMANDS):
            keyed = {f"i{number}": call for number, call in enumerate(calls[low : low + MAX_COMMANDS])}
            answer = await self._session.send({key: list_items(*call, titled=titled) for key, call in keyed.items()})
            for key, (owner_type_id, ids) in keyed.items():
                found = _items(answer.commands.get(key), ids)
                if isinstance(found, ApiError):
                    self._warn(owner_type_id, str(found))
                    unclear.add(owner_type_id)
                else:
                    seen |= {Owner(owner_type_id, owner_id): title for owner_id, title in found.items()}
        now = self._session.clock.now()
        self._seen |= dict.fromkeys(seen, now)
        return seen, unclear

    def _warn(self, owner_type_id: int, reason: str) -> None:
        if owner_type_id not in self._warned:
            self._warned.add(owner_type_id)
            log.warning("owners not verified", link=self._session.link, owner_type_id=owner_type_id, reason=reason)


def _some(witnesses: Iterable[Owner], types: Collection[int]) -> set[Owner]:
    some: dict[int, list[Owner]] = defaultdict(list)
    for owner in sorted(witnesses):
        if owner.owner_type_id in types and len(some[owner.owner_type_id]) < WITNESSES:
            some[owner.owner_type_id].append(owner)
    return {owner for several in some.values() for owner in several}


def _items(answer: CommandAnswer | None, asked: Collection[int]) -> dict[int, str] | ApiError:
    """Given the answer to a list of items by id, return the titles by id, or the error that hides them."""
    if answer is None:
        return ApiError("", "no answer to the command")
    if answer.error is not None:
        return answer.error
    items = as_list(answer.result.get("items")) if isinstance(answer.result, dict) else None
    if items is None:
        return ApiError("", "an answer without items")
    titles = {whole(item.get("id")): _plain(item.get("title")) for item in map(_object, items)}
    found = {number: title for number, title in titles.items() if number is not None}
    if len(found) != len(titles) or not found.keys() <= set(asked):
        return ApiError("", "items that were not asked for")
    return found


def _plain(text: Any) -> str:
    """Given what a person may have typed into the portal, return it as one short line that can be printed."""
    if not isinstance(text, str):
        return ""
    line = " ".join("".join(sign if sign.isprintable() else " " for sign in text[: 10 * TITLE_LIMIT]).split())
    return line if len(line) <= TITLE_LIMIT else f"{line[: TITLE_LIMIT - 1]}…"


def _object(item: Any) -> dict[str, Any]:
    return item if isinstance(item, dict) else {}
