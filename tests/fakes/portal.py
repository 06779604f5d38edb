"""A portal in memory: passes the same contract suite as the real client, and does what a script says.

portal = FakePortal({5: Owner(2, 10)})
portal.script.append(Surprise.LOST_AFTER)            # of the next write request: executed, the answer is lost
portal.before_write = lambda batch: portal.bind(5, Owner(2, 11))   # somebody else, right before the request
portal.after_write = lambda batch: …                # somebody else, right after the request, before anything is read
portal.before_each = lambda write: …                 # right before one of its writes
portal.conditional = False                           # its batches carry no conditions: it is read, then overwritten
portal.listings.append(Surprise.INCOMPLETE)          # the next listing cannot be proved complete
portal.delays.append(30)                             # the next LATE request is executed half a minute later, not a second
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Collection, Container, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from syncd.core.model import Action, MaybeOwner, Owner, Row, Scope, Unreadable
from syncd.core.order_keys import KeyField
from syncd.core.order_ranges import OrderRange, OrderRanges
from syncd.core.ports import Effect, Listed, Progress, Rights, Usage, Write, WriteResult
from syncd.errors import AuthError, IncompleteListing, PortalBlocked, UnavailableError


class Surprise(StrEnum):
    """What becomes of the next request: FINE, or one of the portal's ways to fail."""

    FINE = "fine"
    LOST_BEFORE = "lost-before"
    LOST_AFTER = "lost-after"
    LOST_HALFWAY = "lost-halfway"
    LATE = "late"
    NOT_SENT = "not-sent"
    INCOMPLETE = "incomplete"
    UNAVAILABLE = "unavailable"
    DENIED = "denied"
    BLOCKED = "blocked"


_ERRORS: dict[Surprise, Exception] = {
    Surprise.INCOMPLETE: IncompleteListing("The portal's list could not be proved complete. Nothing was written."),
    Surprise.UNAVAILABLE: UnavailableError("The portal fake cannot be used."),
    Surprise.DENIED: AuthError("The portal fake refuses these credentials."),
    Surprise.BLOCKED: PortalBlocked("The portal fake has blocked these credentials."),
}


class Written(NamedTuple):
    """One executed write and what it replaced."""

    order_id: int
    before: MaybeOwner
    after: MaybeOwner


class FakePortal:
    """`syncd.core.ports.Portal` in memory.

    Args:
        bindings: What is bound.
        orders: The orders there are beside the bound ones; None: every order.
        owners: The owners there are; None: every owner.
    """

    def __init__(
        self,
        bindings: Mapping[int, Owner] | None = None,
        *,
        orders: Container[int] | None = None,
        owners: Collection[Owner] | None = None,
    ) -> None:
        self.bindings: dict[int, Owner] = dict(bindings or {})
        self.orders = orders
        self.owners = owners
        self.missing_orders: set[int] = set()
        self.poisoned: dict[int, tuple[str, str]] = {}
        self.member = ""
        self.redirected: set[str] = set()
        self.read_right = True
        self.write_right = True
        self.sees_owners = True
        self.conditional = True
        self.odd: dict[int, Unreadable] = {}
        """Orders with a row whose owner cannot be read."""
        self.size = 44
        self.chunk = 50
        self.waits: dict[Action, float] = {}
        self.script: deque[Surprise] = deque()
        self.listings: deque[Surprise] = deque()
        self.reads: deque[Surprise] = deque()
        self.unproved: dict[OrderRange, str] = {}
        """Ranges that cannot be proved complete, each with why, where several are listed."""
        self.before_write: Callable[[Sequence[Write]], None] | None = None
        self.after_write: Callable[[Sequence[Write]], None] | None = None
        self.before_each: Callable[[Write], None] | None = None
        self.written: list[Written] = []
        self.sent: Counter[Write] = Counter()
        self.closed = False
        self._usage = Usage()
        self.late: list[tuple[float, Sequence[Write]]] = []
        self.delays: deque[float] = deque()
        self.keys: dict[int, str] = {}
        """The keys of orders, of whatever kind; an order that is not here has none."""
        self.overdue: set[int] = set()
        """The places in `written` of what was executed late."""

    # ------------------------------------------------------------ other people

    def bind(self, order_id: int, owner: Owner) -> None:
        """Somebody binds an order in the portal."""
        self.bindings[order_id] = owner

    def unbind(self, order_id: int) -> None:
        """Somebody unbinds an order in the portal."""
        self.bindings.pop(order_id, None)

    def delete_order(self, order_id: int) -> None:
        """Somebody deletes an order; its binding goes with it."""
        self.unbind(order_id)
        self.missing_orders.add(order_id)

    def settle(self, passed: float = math.inf) -> None:
        """So many seconds go by; the requests that were lost but still alive (LATE), and are due by now, are executed."""
        late = [(left - passed, batch) for left, batch in self.late]
        self.late = [(left, batch) for left, batch in late if left > 0]
        for _, batch in sorted((one for one in late if one[0] <= 0), key=lambda one: one[0]):
            self.overdue.update(range(len(self.written), len(self.written) + len(batch)))
            for write in batch:
                self._execute(write)
            self.overdue.intersection_update(range(len(self.written)))

    # -------------------------------------------------------------------- port

    def usage(self) -> Usage:
        return dataclasses.replace(self._usage, conditional=True)

    async def listing(
        self, boundaries: Sequence[int], scope: Scope, progress: Progress, ranges: OrderRanges | None = None
    ) -> AsyncIterator[Listed]:
        self._request(1)
        if ranges is not None and (
            unproved := {one: why for one, why in self.unproved.items() if one in ranges.ranges}
        ):
            if len(unproved) == len(ranges.ranges):
                raise IncompleteListing("The portal's list could not be proved complete. Nothing was written.")
            ranges = ranges - OrderRanges.of(unproved)
            yield Listed([], unproved=unproved)
        wanted = scope.orders if ranges is None else ranges
        surprise = self._next(self.listings)
        if not self.read_right:
            surprise = Surprise.DENIED
        bound = sorted(order for order in self.bindings if order in wanted and order not in self.odd)
        rows = [Row(order, *self.bindings[order]) for order in bound]
        odd = {order: why for order, why in self.odd.items() if order in wanted}
        for start in range(0, len(rows), self.chunk):
            if surprise is not Surprise.FINE and start >= len(rows) // 2:
                break
            progress("listing the portal", min(start + self.chunk, len(rows)), len(rows))
            chunk = rows[start : start + self.chunk]
            yield Listed(chunk, {order: odd.pop(order) for order in list(odd) if order < chunk[-1].order_id})
        if surprise is not Surprise.FINE:
            raise _ERRORS[surprise]
        yield Listed([], odd)

    async def read(self, order_ids: Sequence[int]) -> dict[int, Owner | Unreadable]:
        if not order_ids:
            return {}
        self._request(1)
        surprise = self._next(self.reads)
        if surprise is not Surprise.FINE:
            raise _ERRORS[surprise]
        bound: dict[int, Owner | Unreadable] = {**self.bindings, **self.odd}
        return {order: bound[order] for order in order_ids if order in bound}

    def batch_size(self, writes: Sequence[Write]) -> int:
        return min(self.size, len(writes))

    def wait_for(self, action: Action) -> float:
        return self.waits.get(action, 0.0)

    async def write(self, batch: Sequence[Write]) -> list[WriteResult]:
        if not batch:
            return []
        told = {} if self.conditional else self._moved(batch)
        left = [write for write in batch if write.order_id not in told]
        told |= {one.order_id: one for one in self._send(left)}
        if self.after_write is not None:
            self.after_write(batch)
        return [told[write.order_id] for write in batch]

    def _moved(self, batch: Sequence[Write]) -> dict[int, WriteResult]:
        """Where batches carry no conditions, orders are read right before them."""
        self._request(1)
        told = [self._refused(write) for write in batch if write.after is not None]
        return {one.order_id: one for one in told if one is not None}

    def _refused(self, write: Write) -> WriteResult | None:
        """Given an add or a move, return what becomes of it where its condition does not hold."""
        order, now = write.order_id, self.bindings.get(write.order_id)
        if order in self.odd:
            return WriteResult(order, Effect.MOVED)
        if now == write.before:
            return None
        return WriteResult(order, Effect.ALREADY if now == write.after else Effect.MOVED, now, found_known=True)

    def _send(self, batch: Sequence[Write]) -> list[WriteResult]:
        self._request(len(batch))
        if self.before_write is not None:
            self.before_write(batch)
        surprise = self._next(self.script)
        if not self.write_right:
            surprise = Surprise.DENIED
        if surprise in _ERRORS:
            raise _ERRORS[surprise]
        if surprise is Surprise.NOT_SENT:
            return [WriteResult(write.order_id, Effect.NOT_SENT) for write in batch]
        self.sent.update(batch)
        if surprise is not Surprise.FINE:
            self._lose(surprise, batch)
            return [WriteResult(write.order_id, Effect.UNKNOWN) for write in batch]
        found = {write.order_id: self.bindings.get(write.order_id) for write in batch}
        results = []
        for write in batch:
            if self.before_each is not None:
                self.before_each(write)
            result = self._execute(write)
            results.append(
                result if result.found_known else result._replace(found=found[write.order_id], found_known=True)
            )
        return results

    async def member_id(self) -> str:
        return self.member

    async def is_target_of(self, address: str) -> bool:
        return address in self.redirected

    async def orders_with(self, field: KeyField, keys: Collection[str]) -> dict[str, list[int]]:
        if keys:
            self._request(1)
        there = sorted(order for order in self.keys if self._order_exists(order))
        return {key: [order for order in there if self.keys[order] == key] for key in keys}

    async def keys_of(self, field: KeyField, order_ids: Collection[int]) -> dict[int, str]:
        if order_ids:
            self._request(1)
        return {order: self.keys.get(order, "") for order in order_ids if self._order_exists(order)}

    async def missing_owners(self, owners: Collection[Owner], witnesses: Collection[Owner]) -> set[Owner]:
        if not owners or self.owners is None or not self.sees_owners:
            return set()
        seen_types = {owner.owner_type_id for owner in (*owners, *witnesses) if owner in self.owners}
        return {owner for owner in owners if owner not in self.owners and owner.owner_type_id in seen_types}

    async def probe(self, witnesses: Collection[Owner] = ()) -> Rights:
        self._request(3)
        sees = None if not witnesses else self.sees_owners and any(self._owner_exists(owner) for owner in witnesses)
        return Rights(read=self.read_right, write=self.write_right, sees_owners=sees, conditional=self.conditional)

    async def aclose(self) -> None:
        self.closed = True

    # ---------------------------------------------------------------- plumbing

    def _lose(self, surprise: Surprise, batch: Sequence[Write]) -> None:
        if surprise is Surprise.LATE:
            self.late.append((self.delays.popleft() if self.delays else 1.0, tuple(batch)))
            return
        reach = {Surprise.LOST_BEFORE: 0, Surprise.LOST_HALFWAY: (len(batch) + 1) // 2}.get(surprise, len(batch))
        for write in batch[:reach]:
            if self.before_each is not None:
                self.before_each(write)
            self._execute(write)

    def _execute(self, write: Write) -> WriteResult:
        """Do what a batch does; its conditions, where it carries them, are asked right before each add."""
        refused = self._refused(write) if self.conditional and write.after is not None else None
        return refused or self._do(write)

    def _do(self, write: Write) -> WriteResult:
        """Do what the portal does: `add` replaces, `deleteByFilter` compares and deletes."""
        order, now = write.order_id, self.bindings.get(write.order_id)
        if order in self.poisoned:
            code, text = self.poisoned[order]
            return WriteResult(order, Effect.REFUSED, code=code, text=text)
        if write.after is None and now != write.before:
            effect = Effect.ALREADY if now is None else Effect.MOVED
            return WriteResult(order, effect, now, found_known=True, code="201640400004")
        if now == write.after:
            return WriteResult(order, Effect.ALREADY, code="201650000001")
        if not self._order_exists(order):
            return WriteResult(order, Effect.ORDER_MISSING, code="200540400001", text="order does not exist")
        if write.after is None:
            del self.bindings[order]
        else:
            self.bindings[order] = write.after
        self.written.append(Written(order, now, write.after))
        return WriteResult(order, Effect.DONE)

    def _order_exists(self, order_id: int) -> bool:
        if order_id in self.missing_orders:
            return False
        return self.orders is None or order_id in self.bindings or order_id in self.orders

    def _owner_exists(self, owner: Owner) -> bool:
        return self.owners is None or owner in self.owners

    def _request(self, calls: int) -> None:
        self._usage.requests += 1
        self._usage.calls += calls

    @staticmethod
    def _next(script: deque[Surprise]) -> Surprise:
        return script.popleft() if script else Surprise.FINE
