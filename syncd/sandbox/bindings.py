"""The binding table of the sandbox, order id → (owner type, owner id), and pages of it. Its views are kept sorted.

A window of order ids and its COUNT cost O(log n), a page of the default order a slice. Any other query scans the table
once and is cached until the next write.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from syncd.sandbox.php import JsonValue
from syncd.sandbox.query import (
    CAMEL,
    COLUMNS,
    DEFAULT_ORDER,
    ORDER_ID,
    OWNER_ID,
    OWNER_TYPE_ID,
    Condition,
    ListQuery,
    Op,
)

OwnerPair = tuple[int, int]
"""(owner type id, owner id)."""

_MAX_CACHED = 8


class Selection(NamedTuple):
    """The order ids that a query selects: a slice of a sequence, read backwards if descending."""

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
    """The table. Read `owners` freely, but write with `put` and `remove`.

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
        self._cached: dict[tuple[object, ...], list[int]] = {}
        self._queries = 0

    def put(self, order_id: int, owner: OwnerPair) -> None:
        """Bind an order, replacing what it was bound to."""
        self.remove(order_id)
        self.owners[order_id] = owner
        if self._by_order is not None:
            insort(self._by_order, order_id)
        if self._by_owner is not None:
            insort(self._by_owner, order_id, key=self._owner_key)
        self._cached.clear()

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
        self._cached.clear()
        return owner

    def _owner_key(self, order_id: int) -> tuple[int, int]:
        return self.owners[order_id][1], order_id

    def select(self, query: ListQuery) -> Selection:
        """Return the order ids that a query selects, in its order."""
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
        ids_found = self._cached.get(key)
        if ids_found is None:
            ids_found = self._scan(query)
            if len(self._cached) >= _MAX_CACHED:
                self._cached.clear()
            self._cached[key] = ids_found
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
        """Return conditions as a slice of the ids if all of them bound or name order ids, else None."""
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
    """Return the test of a condition. Zero stands for NULL."""
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


PageRow = tuple[int, int, int]
"""(order id, owner type id, owner id)."""


class ListPage(JsonValue):
    """The `{"orderEntity": [...]}` of a list call.

    It renders its own JSON, since the sandbox sends rows by the hundred thousand.

    Args:
        order_ids: The rows' order ids, in order.
        owners: (type, owner) of each, read at once, so that later writes do not change the page.
        columns: What was selected.
    """

    __slots__ = ("columns", "rows")

    def __init__(
        self, order_ids: Sequence[int], owners: Mapping[int, tuple[int, int]], columns: tuple[str, ...] = COLUMNS
    ) -> None:
        self.columns = columns
        self.rows: list[PageRow] = [(order_id, *owners[order_id]) for order_id in order_ids]

    def json(self) -> str:
        """Return the JSON text; an id of 0 is null (portal.md 3.5)."""
        if self.columns == COLUMNS and all(owner_id and order_id for order_id, _, owner_id in self.rows):
            rows = [
                f'{{"orderId":{order_id},"ownerId":{owner_id},"ownerTypeId":{owner_type_id}}}'
                for order_id, owner_type_id, owner_id in self.rows
            ]
        else:
            rows = [
                "{" + ",".join(f'"{name}":{"null" if value is None else value}' for name, value in row.items()) + "}"
                for row in self._dicts()
            ]
        return '{"orderEntity":[' + ",".join(rows) + "]}"

    def value(self) -> dict[str, list[dict[str, int | None]]]:
        """Return the page as plain values, for `$result` references."""
        return {"orderEntity": self._dicts()}

    def _dicts(self) -> list[dict[str, int | None]]:
        return [
            {
                CAMEL[column]: (order_id if column == ORDER_ID else owner_id if column == OWNER_ID else owner_type_id)
                or None
                for column in self.columns
            }
            for order_id, owner_type_id, owner_id in self.rows
        ]
