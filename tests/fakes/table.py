"""The mapping table in memory: `syncd.core.ports.Table` with hooks for outside writers and faults.

It passes the same contract suite as the tables over SQL (tests/contract/test_table_port.py).

    table = FakeTable({5: Owner(2, 7)})
    table.meanwhile("write", lambda: table.put(5, 2, 9))   # somebody writes just before syncd does
    table.fail("snapshot", UnavailableError("no"))         # the next snapshot raises
    table.lose(applied=True)                               # the next write's answer is lost after its effect
    table.refuse(5)                                        # the database never takes order 5
"""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from syncd.core.model import HoldKind, MaybeOwner, Owner, Row, Scope, Unreadable
from syncd.core.order_keys import UnknownKey
from syncd.core.order_ranges import OrderRanges
from syncd.core.ports import Effect, Progress, TableCheck, TableValue, Write, WriteResult
from syncd.table.columns import parse_id

EVERYTHING = Scope(frozenset({2}))
ALL_ORDERS = EVERYTHING.orders


@dataclass(slots=True)
class FakeRow:
    """One row. The three cells may hold anything, as in somebody else's database."""

    order_id: object
    owner_type: object
    owner_id: object
    selected: bool = True
    deleted: bool = False

    @property
    def owner(self) -> MaybeOwner:
        kind, number = parse_id(self.owner_type), parse_id(self.owner_id)
        return None if kind is None or number is None else Owner(kind, number)

    @property
    def says(self) -> str:
        return f"({self.owner_type}, {self.owner_id})"


@dataclass
class FakeSnapshot:
    readable: list[Row]
    unreadable: Mapping[int, Unreadable]
    orderless: Sequence[str]
    unknown: Mapping[int, UnknownKey] = field(default_factory=dict)
    rows: int = field(init=False)
    _taken: int = 0

    def __post_init__(self) -> None:
        self.rows = len(self.readable)

    def take(self, upto: int | None, limit: int | None = None) -> list[Row]:
        start = self._taken
        most = len(self.readable) if limit is None else min(start + limit, len(self.readable))
        while self._taken < most and (upto is None or self.readable[self._taken].order_id <= upto):
            self._taken += 1
        return self.readable[start : self._taken]


@dataclass
class FakeTable:
    """See the module.

    Args:
        owners: Readable rows to begin with.
        scope: Only its order range is used.
        soft: Whether removing marks rows instead of dropping them.
        selects: Whether `where` selects the rows syncd inserts; if not, inserting is refused.
        unique: Whether an order may have only one row; if so, a softly deleted one is revived.
        holds_type: The one owner type the table can hold, or None for any.
    """

    owners: Mapping[int, Owner] = field(default_factory=dict)
    scope: Scope = EVERYTHING
    soft: bool = False
    selects: bool = True
    holds_type: int | None = None
    unique: bool = False
    problems: list[str] = field(default_factory=list)
    hides_effects: bool = False

    def __post_init__(self) -> None:
        self.stored = [FakeRow(order_id, *owner) for order_id, owner in self.owners.items()]
        self.calls: list[str] = []
        self.written: list[Write] = []
        self.unknown: dict[int, UnknownKey] = {}
        """What snapshots show of rows whose keys no order has."""
        self.trigger: Callable[[Write], None] | None = None
        """A trigger of the table's: called right after each write, within its transaction."""
        self._meanwhile: dict[str, list[Callable[[], object]]] = {}
        self._faults: dict[str, list[Exception]] = {}
        self._lost: list[bool] = []
        self._refused: dict[int, tuple[str, str]] = {}

    # ------------------------------------------------------- what tests do to it

    def put(self, order_id: int, owner_type: object, owner_id: object) -> None:
        """An outside writer sets the order's row."""
        self.drop(order_id)
        self.add(order_id, owner_type, owner_id)

    def add(
        self, order_id: object, owner_type: object, owner_id: object, *, selected: bool = True, deleted: bool = False
    ) -> None:
        """An outside writer inserts a row, whatever is there already."""
        self.stored.append(FakeRow(order_id, owner_type, owner_id, selected, deleted))

    def drop(self, order_id: int) -> None:
        """An outside writer deletes the order's rows."""
        self.stored = [row for row in self.stored if parse_id(row.order_id) != order_id]

    def meanwhile(self, call: str, work: Callable[[], object]) -> None:
        """Run `work` once, right before the next `snapshot`, `read` or `write` looks at the rows."""
        self._meanwhile.setdefault(call, []).append(work)

    def fail(self, call: str, error: Exception) -> None:
        """Let the next `check`, `snapshot`, `read` or `write` raise."""
        self._faults.setdefault(call, []).append(error)

    def lose(self, *, applied: bool) -> None:
        """Let the connection be lost at the next write's commit, before or after its effect."""
        self._lost.append(applied)

    def refuse(self, order_id: int, code: str = "23514", text: str = "violates a check constraint") -> None:
        """Let the database refuse every write of this order."""
        self._refused[order_id] = (code, text)

    def mend(self) -> None:
        """Nothing that was announced goes wrong any more."""
        self._faults.clear()
        self._lost.clear()

    def accept(self, order_id: int) -> None:
        """Let the order be written again."""
        self._refused.pop(order_id, None)

    @property
    def bindings(self) -> dict[int, Owner]:
        """The orders whose rows read as one binding, as the snapshot would tell them."""
        return {order: Owner(kind, number) for order, kind, number in self._snapshot().readable}

    # ------------------------------------------------------------------ the port

    async def check(self) -> TableCheck:
        self._called("check")
        return TableCheck(list(self.problems), [], [])

    @asynccontextmanager
    async def snapshot(self, progress: Progress, ranges: OrderRanges | None = None) -> AsyncIterator[FakeSnapshot]:
        self._called("snapshot")
        snapshot = self._snapshot(ranges)
        progress("table", len(snapshot.readable), None)
        yield snapshot

    async def read(self, order_ids: Sequence[int]) -> dict[int, TableValue]:
        self._called("read")
        values = ((order_id, self._value(order_id)) for order_id in order_ids)
        return {order_id: value for order_id, value in values if value is not None}

    async def write(self, batch: Sequence[Write]) -> list[WriteResult]:
        self._called("write")
        if self._lost:
            if self._lost.pop(0):
                self._transact(batch)
            return [WriteResult(write.order_id, Effect.UNKNOWN, code="", text="connection lost") for write in batch]
        return self._transact(batch)

    async def aclose(self) -> None:
        self.calls.append("aclose")

    # -------------------------------------------------------------------- inside

    def _transact(self, batch: Sequence[Write]) -> list[WriteResult]:
        """Carry out writes; where a trigger makes more or less of one than was written, that one is rolled back."""
        if self.trigger is None:
            return [self._write(write) for write in batch]
        before, places = [copy.copy(row) for row in self.stored], len(self.written)
        results = [self._write(write) for write in batch]
        done = [write for write, result in zip(batch, results, strict=True) if result.effect is Effect.DONE]
        grown = sum((write.before is None) - (write.after is None and not self.soft) for write in done)
        values = [self._value(write.order_id) for write in done]
        if len(self.stored) - len(before) == grown and all(
            write.after == (None if value is None else value.owner) for write, value in zip(done, values, strict=True)
        ):
            return results
        self.stored, self.written = before, self.written[:places]
        if len(batch) > 1:
            return [result for write in batch for result in self._transact([write])]
        return [WriteResult(batch[0].order_id, Effect.REFUSED, text="a trigger changes other rows")]

    def _called(self, call: str) -> None:
        self.calls.append(call)
        for work in self._meanwhile.pop(call, []):
            work()
        if self._faults.get(call):
            raise self._faults[call].pop(0)

    def _snapshot(self, ranges: OrderRanges | None = None) -> FakeSnapshot:
        wanted = self.scope.orders if ranges is None else ranges & self.scope.orders
        # A life looks at the table after each step of each process, mostly at plain rows of a link over all orders.
        everything = wanted.includes(ALL_ORDERS)
        by_order: dict[int, list[FakeRow]] = {}
        orderless = []
        for row in self.stored:
            if row.deleted or not row.selected:
                continue
            order_id = parse_id(row.order_id)
            if order_id is None:
                orderless.append(f"order_id is {row.order_id} {row.says}")
            elif everything or order_id in wanted:
                by_order.setdefault(order_id, []).append(row)
        readable, unreadable = [], {}
        for order_id in sorted(by_order):
            rows = by_order[order_id]
            owner = rows[0].owner if len(rows) == 1 else None
            if owner is not None:
                readable.append(Row(order_id, *owner))
                continue
            value = _value(rows)
            if value.unreadable is not None:
                unreadable[order_id] = value.unreadable
            elif value.owner is not None:
                readable.append(Row(order_id, *value.owner))
        return FakeSnapshot(readable, unreadable, orderless, self.unknown)

    def _rows(self, order_id: int) -> list[FakeRow]:
        return [
            row
            for row in self.stored
            if (row.order_id if type(row.order_id) is int else parse_id(row.order_id)) == order_id
        ]

    def _value(self, order_id: int) -> TableValue | None:
        live = [row for row in self._rows(order_id) if not row.deleted]
        live = [row for row in live if row.selected] or live
        if not live:
            return TableValue(None, deleted=True) if any(row.selected for row in self._rows(order_id)) else None
        return _value(live)

    def _write(self, write: Write) -> WriteResult:
        value = self._value(write.order_id)
        found = value.owner if value is not None else None
        if value is not None and (value.unreadable is not None or not value.selected):
            return WriteResult(write.order_id, Effect.MOVED)
        if found == write.after:
            return WriteResult(write.order_id, Effect.ALREADY, found, found_known=True)
        if found != write.before:
            return WriteResult(write.order_id, Effect.MOVED, found, found_known=True)
        refusal = self._refusal(write)
        if refusal is not None:
            return WriteResult(write.order_id, Effect.REFUSED, code=refusal[0], text=refusal[1])
        self._effect(write)
        self.written.append(write)
        if self.trigger is not None:
            self.trigger(write)
        return WriteResult(write.order_id, Effect.DONE, found, found_known=True)

    def _refusal(self, write: Write) -> tuple[str, str] | None:
        if write.order_id in self._refused:
            return self._refused[write.order_id]
        if write.after is not None and self.holds_type not in {None, write.after.owner_type_id}:
            return ("", f"the table holds owners of type {self.holds_type} only")
        if write.before is None and not self.selects:
            return ("", "the row would not be selected by where; give extra")
        return None

    def _effect(self, write: Write) -> None:
        rows = self._rows(write.order_id)
        live = next((row for row in sorted(rows, key=lambda row: not row.selected) if not row.deleted), None)
        if write.after is None:
            assert live is not None
            if self.soft:
                live.deleted = True
            else:
                self.stored.remove(live)
            return
        row = live or (next(iter(rows), None) if self.unique else None)
        if row is None:
            self.add(write.order_id, *write.after)
        else:
            row.owner_type, row.owner_id = write.after
            row.deleted = False


def _value(rows: Iterable[FakeRow]) -> TableValue:
    rows = list(rows)
    if len(rows) > 1:
        told = "; ".join(sorted(row.says for row in rows))
        return TableValue(None, rows[0].selected, Unreadable(HoldKind.DUPLICATE_ROWS, f"{len(rows)} rows: {told}"))
    (row,) = rows
    owner = row.owner
    if owner is None:
        return TableValue(None, row.selected, Unreadable(HoldKind.INVALID_ROW, f"cannot be read: {row.says}"))
    return TableValue(owner, row.selected)
