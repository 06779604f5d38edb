"""The binding table of the sandbox: order id → (owner type, owner id), with views that stay sorted while it is written.

A window of order ids and its COUNT cost O(log n), a page of the default order a slice; anything else is scanned once
and remembered until the next write.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from syncd.sandbox.names import ORDER_ID, OWNER_ID, OWNER_TYPE_ID, Op
from syncd.sandbox.query import DEFAULT_ORDER, Condition, ListQuery

OwnerPair = tuple[int, int]
"""(owner type id, owner id)."""

_REMEMBERED = 8


class Row(NamedTuple):
    """One binding, as selected."""

    order_id: int
    owner_type_id: int
    owner_id: int


class Selection(NamedTuple):
    """The order ids a query selects, as a sequence and the part of it that counts; descending reads it backwards."""

    ids: Sequence[int]
    first: int
    stop: int
    descending: bool = False

    def total(self) -> int:
        """Return how many rows are selected."""
        return self.stop - self.first

    def page(self, offset: int, limit: int | None) -> Sequence[int]:
        """Return the order ids from `offset` on, at most `limit` (None: all)."""
        size = self.total() - offset if limit is None else min(limit, self.total() - offset)
        if size <= 0:
            return ()
        if self.descending:
            last = self.stop - offset
            return self.ids[last - size : last][::-1]
        return self.ids[self.first + offset : self.first + offset + size]


class Bindings:
    """The table. `owners` may be read freely; write through `put` and `remove`.

    Args:
        rows: Either a mapping of order id → (type, owner) or triples (order id, type, owner).
        unstable_ties: Rows of equal owner id come in another order at every other query, as SQL permits.
    """

    def __init__(
        self, rows: Mapping[int, OwnerPair] | Iterable[tuple[int, int, int]] = (), *, unstable_ties: bool = False
    ) -> None:
        self.owners: dict[int, OwnerPair] = (
            {order: (pair[0], pair[1]) for order, pair in rows.items()}
            if isinstance(rows, Mapping)
            else {order: (owner_type, owner) for order, owner_type, owner in rows}
        )
        self.unstable_ties = unstable_ties
        self._by_order: list[int] | None = None
        self._by_owner: list[int] | None = None
        self._remembered: dict[tuple[object, ...], list[int]] = {}
        self._queries = 0

    def put(self, order_id: int, owner: OwnerPair) -> None:
        """Bind an order, replacing what it was bound to."""
        self.remove(order_id)
        self.owners[order_id] = owner
        if self._by_order is not None:
            insort(self._by_order, order_id)
        if self._by_owner is not None:
            insort(self._by_owner, order_id, key=self._owner_key)
        self._remembered.clear()

    def remove(self, order_id: int) -> OwnerPair | None:
        """Unbind an order; return what it was bound to."""
        owner = self.owners.get(order_id)
        if owner is None:
            return None
        if self._by_order is not None:
            del self._by_order[bisect_left(self._by_order, order_id)]
        if self._by_owner is not None:
            del self._by_owner[bisect_left(self._by_owner, self._owner_key(order_id), key=self._owner_key)]
        del self.owners[order_id]
        self._remembered.clear()
        return owner

    def _owner_key(self, order_id: int) -> tuple[int, int]:
        return self.owners[order_id][1], order_id

    def select(self, query: ListQuery) -> Selection:
        """Given a query, return what it selects, in its order."""
        column, descending = query.order[0]
        if column == ORDER_ID:
            window = self._window(query.conditions)
            if window is not None:
                return Selection(*window, descending)
        elif not query.conditions and query.order == DEFAULT_ORDER and not self.unstable_ties:
            ids = self._owner_view()
            return Selection(ids, 0, len(ids))
        self._queries += self.unstable_ties
        key = (query.conditions, query.order, self._queries % 2)
        ids_found = self._remembered.get(key)
        if ids_found is None:
            ids_found = self._scan(query)
            if len(self._remembered) >= _REMEMBERED:
                self._remembered.clear()
            self._remembered[key] = ids_found
        return Selection(ids_found, 0, len(ids_found))

    def _order_view(self) -> list[int]:
        if self._by_order is None:
            self._by_order = sorted(self.owners)
        return self._by_order

    def _owner_view(self) -> list[int]:
        if self._by_owner is None:
            self._by_owner = sorted(self.owners, key=self._owner_key)
        return self._by_owner

    def _window(self, conditions: tuple[Condition, ...]) -> tuple[list[int], int, int] | None:
        """Given conditions, return them as a slice of the ids if they all bound or name order ids, else None."""
        ids = self._order_view()
        first, stop = 0, len(ids)
        named: Sequence[int] | None = None
        for column, op, values in conditions:
            if column != ORDER_ID:
                return None
            if op is Op.GREATER:
                first = max(first, bisect_right(ids, values[0]))
            elif op is Op.LESS_EQUAL:
                stop = min(stop, bisect_right(ids, values[0]))
            elif op is Op.GREATER_EQUAL:
                first = max(first, bisect_left(ids, values[0]))
            elif op is Op.LESS:
                stop = min(stop, bisect_left(ids, values[0]))
            elif op is Op.EQUAL:
                named = values if named is None else [value for value in named if value in values]
            else:
                return None
        if named is None:
            return ids, first, max(first, stop)
        low, high = (ids[first], ids[stop - 1]) if first < stop else (1, 0)
        found = sorted({value for value in named if value > 0 and low <= value <= high and value in self.owners})
        return found, 0, len(found)

    def _scan(self, query: ListQuery) -> list[int]:
        bounds = tuple(condition for condition in query.conditions if condition.column == ORDER_ID)
        rest = [condition for condition in query.conditions if condition.column != ORDER_ID]
        window = self._window(bounds)
        if window is None:
            rest, window = list(query.conditions), self._window(())
        assert window is not None
        ids = window[0][window[1] : window[2]]
        for condition in rest:
            keep = _predicate(condition)
            value = self._reader(condition.column)
            ids = [order_id for order_id in ids if keep(value(order_id))]
        if self.unstable_ties and self._queries % 2:
            ids.reverse()
        for column, descending in reversed(query.order):
            ids.sort(key=self._reader(column), reverse=descending)
        return ids

    def _reader(self, column: str) -> Callable[[int], int]:
        owners = self.owners
        if column == OWNER_TYPE_ID:
            return lambda order_id: owners[order_id][0]
        if column == OWNER_ID:
            return lambda order_id: owners[order_id][1]
        return lambda order_id: order_id


def _predicate(condition: Condition) -> Callable[[int], bool]:
    """Given a condition, return its test. Zero stands for NULL: `= 0` finds nothing but zeros, `<> 0` everything."""
    first, values = condition.values[0], frozenset(condition.values)
    tests: dict[Op, Callable[[int], bool]] = {
        Op.EQUAL: lambda value: value in values,
        Op.NOT_EQUAL: lambda value: value not in values,
        Op.GREATER: lambda value: value > first,
        Op.GREATER_EQUAL: lambda value: value >= first,
        Op.LESS: lambda value: value < first,
        Op.LESS_EQUAL: lambda value: value <= first,
    }
    return tests[condition.op]
