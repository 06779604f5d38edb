"""What is known of the orders' keys: learned from the portal once, kept in the state database, checked before writes.

Only keys and orders that are not known are asked for, so a pass that finds nothing new asks nothing. What is known may
grow stale: an order gets another key, a key another order. syncd is not notified of that, so a write to an order waits
until the portal has said that its key is still its own (`check`). What is found to be different is kept, and the next
run sees the table with it: a key that moved to another order is an unbinding and a binding there.
"""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeVar

import structlog

from syncd.core.order_keys import CheckedKeys, KeyField, KeyOrders, KeyRow, PortalOrders, number_of_former
from syncd.core.pacing import is_waiting, order_pause
from syncd.core.ports import Clock, Progress
from syncd.core.store import Store

if TYPE_CHECKING:
    from syncd.engine.link import HeldLease

T = TypeVar("T", int, str)

log = structlog.get_logger("syncd.engine")

ASKED_AT_ONCE: Final = 2400
"""Keys or orders in one request: fifty commands with 48 to 50 each (portal.md 14)."""

REMEMBERED: Final = 2_000_000
"""How many orders found by their keys in this run are remembered, at eight bytes each; more are asked for twice."""

STAGE: Final = "keys"

NOTHING_LOST: Final[Mapping[int, str]] = MappingProxyType({})


class LearnedKeys:
    """The keys of one link's orders; see `syncd.core.order_keys.OrderKeys`.

    Args:
        field: Which key the table holds.
        portal: Says which orders have which keys.
        store: Keeps what it said.
        clock: Time.
    """

    def __init__(self, field: KeyField, portal: PortalOrders, store: Store, clock: Clock) -> None:
        self.field = field
        self._portal = portal
        self._store = store
        self._clock = clock
        self._lease: HeldLease | None = None
        self._progress: Progress = lambda _stage, _done, _expected: None
        self._learned = array("q")
        self._is_sorted = True

    def work_under(self, lease: HeldLease, progress: Progress) -> None:
        """Keep what is learned from now on under this lease; `progress` hears how many of many keys were asked for."""
        self._lease = lease
        self._progress = progress
        self._learned, self._is_sorted = array("q"), True

    @property
    def _held(self) -> HeldLease:
        if self._lease is None:
            raise AssertionError("keys are looked up under a lease only")
        return self._lease

    # ------------------------------------------------------------ from keys to orders

    async def known(self, keys: Sequence[str]) -> KeyOrders:
        """See `OrderKeys`."""
        pairs = await self._store.orders_by_key(self._held.row.id, keys)
        single = dict(pairs)
        if len(single) == len(pairs) == len(keys) and min(single.values(), default=1) > 0:
            return KeyOrders(single, {})
        known = _grouped(pairs, keys)
        unsettled = {key: orders for key, orders in known.items() if len(orders) > 1 or orders[0] < 0}
        rows = await self._rows(order for orders in unsettled.values() for order in orders)
        due = {key for key, orders in unsettled.items() if any(self._is_due(rows[order]) for order in orders)}
        return _split({key: orders for key, orders in known.items() if key not in due})

    async def learn(self, keys: Collection[str]) -> KeyOrders:
        """See `OrderKeys`."""
        learned: dict[str, list[int]] = {}
        done = 0
        for some in _chunks(sorted(keys)):
            learned |= await self._ask(some)
            done += len(some)
            if len(keys) > ASKED_AT_ONCE:
                self._progress(STAGE, done, len(keys))
        return _split(learned)

    async def forget_but(self, keys: Collection[str]) -> None:
        """See `OrderKeys`."""
        kept = set(keys)
        gone = [row.order_id for row in await self._store.unknown_keys(self._held.row.id) if row.key not in kept]
        if gone:
            await self._store.save_keys(await self._held.prove(), [], gone)

    async def _ask(self, keys: Sequence[str], *, rows_there: bool = True) -> dict[str, list[int]]:
        """Ask the portal for the orders of some keys; keep and return the answer.

        Args:
            keys: As many as fit one request.
            rows_there: Whether the table has rows with these keys: then one that no order has gets a number.
        """
        known = _grouped(await self._store.orders_by_key(self._held.row.id, keys), keys)
        rows = await self._rows(order for orders in known.values() for order in orders)
        found = await self._held.keep_during(self._portal.orders_with(self.field, keys))
        now = self._clock.now()
        learned: list[KeyRow] = []
        gone: set[int] = set()
        for key in keys:
            orders = found[key]
            before = [rows[order] for order in known.get(key, ())]
            misses = 1 + max((row.misses for row in before), default=0)
            gone.update(row.order_id for row in before if row.order_id not in orders)
            if not orders and rows_there:
                number = next((row.order_id for row in before if row.order_id < 0), None) or _number(key)
                orders = found[key] = [number]
            unsettled = len(orders) > 1 or orders[:1] < [0]
            learned += [KeyRow(order, key, now, misses if unsettled else 0) for order in orders]
        fresh = [row for row in learned if row.misses or not _is_as_known(rows.get(row.order_id), row)]
        await self._keep(fresh, gone)
        if rows_there and len(self._learned) < REMEMBERED:
            self._learned.extend(row.order_id for row in learned if not row.misses)
            self._is_sorted = False
        return found

    # ------------------------------------------------------------ from orders to keys

    async def keys_of(self, order_ids: Collection[int]) -> dict[int, str]:
        """See `OrderKeys`."""
        rows = await self._rows(order_ids)
        asked = [
            one for one in sorted(set(order_ids)) if one not in rows or (not rows[one].key and self._is_due(rows[one]))
        ]
        for some in _chunks(asked):
            rows |= await self._ask_orders(some, rows)
        return {order: row.key for order, row in rows.items()}

    async def _ask_orders(
        self, order_ids: Sequence[int], rows: Mapping[int, KeyRow], lost: Mapping[int, str] = NOTHING_LOST
    ) -> dict[int, KeyRow]:
        """Ask the portal for the keys of some orders; keep and return the answer.

        Args:
            order_ids: As many as fit one request.
            rows: What is known of them.
            lost: The keys that they had and do not have any more.
        """
        found = await self._held.keep_during(self._portal.keys_of(self.field, order_ids))
        now = self._clock.now()
        learned = {}
        for order, key in found.items():
            misses = 0 if key else 1 + (rows[order].misses if order in rows else 0)
            learned[order] = KeyRow(order, key, now, misses)
        # A key that no order had until now has lost its number.
        keys = [row.key for row in learned.values() if row.key]
        numbers = await self._store.orders_by_key(self._held.row.id, keys) if keys else []
        await self._keep(
            list(learned.values()), {number for key, number in numbers if number < 0 and key in set(keys)}, lost
        )
        return learned

    # ------------------------------------------------------------ before something is written

    async def check(self, order_ids: Collection[int]) -> CheckedKeys:
        """See `OrderKeys`."""
        checked = CheckedKeys()
        for some in _chunks(self._unchecked(order_ids)):
            await self._check(await self.keys_of(some), checked)
        return checked

    def _unchecked(self, order_ids: Collection[int]) -> list[int]:
        """Given orders, return those that were not found by their keys in this run, ascending."""
        if not self._is_sorted:
            self._learned, self._is_sorted = array("q", sorted(self._learned)), True
        learned = self._learned

        def is_learned(order_id: int) -> bool:
            at = bisect_left(learned, order_id)
            return at < len(learned) and learned[at] == order_id

        return [order for order in sorted(set(order_ids)) if not is_learned(order)]

    async def _check(self, keys: Mapping[int, str], checked: CheckedKeys) -> None:
        by_key: dict[str, list[int]] = {}
        for order, key in keys.items():
            if key:
                by_key.setdefault(key, []).append(order)
        answers = (await self.known(list(by_key))).shared
        if asked := [key for key in by_key if key not in answers]:
            answers |= await self._ask(asked, rows_there=False)
        elsewhere = {order: key for key, orders in by_key.items() for order in orders if order not in answers[key]}
        for key, orders in by_key.items():
            if len(answers[key]) > 1:
                checked.shared |= {order: (key, answers[key]) for order in orders if order not in elsewhere}
        if elsewhere:
            await self._look_elsewhere(elsewhere, {key for key in by_key if answers[key]}, checked)

    async def _look_elsewhere(self, lost: Mapping[int, str], taken: Collection[str], checked: CheckedKeys) -> None:
        """Given orders that do not have the key any more that was known, find out which they have.

        Args:
            lost: The orders, with that key.
            taken: The keys that other orders have now.
            checked: Takes what was found.
        """
        has = await self._ask_orders(sorted(lost), {}, lost)
        # A key that the portal cannot look for, but shows: nothing has moved.
        lost = {order: key for order, key in lost.items() if order not in has or has[order].key != key}
        # An order that is gone, and whose key nobody else has: what the table says under it is still about it.
        deleted = {order: key for order, key in lost.items() if order not in has and key not in taken}
        if deleted:
            now = self._clock.now()
            await self._store.save_keys(await self._held.prove(), [KeyRow(*one, now) for one in deleted.items()])
        checked.moved |= {order: has[order].key if order in has else "" for order in lost if order not in deleted}
        if checked.moved:
            log.warning("order keys moved", field=self.field.value, orders=sorted(checked.moved)[:20])

    # ------------------------------------------------------------------ what is kept

    async def _keep(
        self, learned: Sequence[KeyRow], gone: Collection[int], lost: Mapping[int, str] = NOTHING_LOST
    ) -> None:
        """Keep what the portal said, and which keys orders had before.

        A row of such a key may still be in the table, naming the owner of the order that had it. It is no row of that
        order any more (see `Differ`), so the next reading of the table has to know it.

        Args:
            learned: What the portal said.
            gone: What is not true any more.
            lost: The keys of orders of which it is known already that they do not have them any more.
        """
        if not learned and not gone:
            return
        known = {
            order: row.key for order, row in (await self._rows(row.order_id for row in learned if row.key)).items()
        }
        known |= lost
        former = {known[row.order_id]: row.order_id for row in learned if _is_moved(known.get(row.order_id, ""), row)}
        if former:
            pairs = await self._store.orders_by_key(self._held.row.id, [*former])
            taken = {key for key, order in pairs if order not in {former.get(key), *gone}}
            former = {key: order for key, order in former.items() if key not in taken}
        # Marked as never checked: the portal is asked for such a key as soon as the table has a row with it.
        rows = [KeyRow(number_of_former(order), key, 0.0) for key, order in former.items()]
        await self._store.save_keys(await self._held.prove(), [*learned, *rows], sorted(gone))

    async def _rows(self, order_ids: Iterable[int]) -> dict[int, KeyRow]:
        wanted = list(order_ids)
        rows = await self._store.order_keys(self._held.row.id, wanted) if wanted else []
        return {row.order_id: row for row in rows}

    def _is_due(self, row: KeyRow) -> bool:
        """Return whether a key or an order that the portal was asked for in vain is to be asked for again."""
        return not is_waiting(row.checked_at + order_pause(max(1, row.misses)), self._clock.now())


def _grouped(pairs: Iterable[tuple[str, int]], keys: Collection[str]) -> dict[str, list[int]]:
    """Given keys with orders, return the orders of exactly these keys, ascending."""
    wanted = set(keys)
    found: dict[str, list[int]] = {}
    for key, order in sorted(pairs):
        if key in wanted:
            found.setdefault(key, []).append(order)
    return found


def _split(found: Mapping[str, Sequence[int]]) -> KeyOrders:
    return KeyOrders(
        {key: orders[0] for key, orders in found.items() if len(orders) == 1},
        {key: list(orders) for key, orders in found.items() if len(orders) > 1},
    )


def _is_moved(known: str, row: KeyRow) -> bool:
    """Given the key that was known of an order, and what the portal says, return whether it has another key now."""
    return row.order_id > 0 and known not in {"", row.key}


def _is_as_known(known: KeyRow | None, row: KeyRow) -> bool:
    return known is not None and known._replace(checked_at=row.checked_at) == row


def _number(key: str) -> int:
    """Given a key that no order has, return the number that stands for it: below zero, and always the same."""
    return -1 - int.from_bytes(hashlib.sha256(key.encode()).digest()[:6], "big")


def _chunks(items: Iterable[T]) -> Iterator[list[T]]:
    """Yield items by as many as one request asks for."""
    iterator = iter(items)
    while some := list(islice(iterator, ASKED_AT_ONCE)):
        yield some
