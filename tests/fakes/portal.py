"""A portal in memory: passes the same contract suite as the real client, and does what a script says.

portal = FakePortal({5: Owner(2, 10)})
portal.script.append(Surprise.LOST_AFTER)            # of the next write request: executed, the answer is lost
portal.before_write = lambda batch: portal.bind(5, Owner(2, 11))   # somebody else, right before the request
portal.before_each = lambda write: …                 # between the batch's own list and one of its writes
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

from syncd.core.model import Action, MaybeOwner, Owner, Row, Scope
from syncd.core.ports import Effect, Progress, Rights, Usage, Write, WriteAnswer, WriteResult
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
        self.read_right = True
        self.write_right = True
        self.sees_owners = True
        self.size = 44
        self.chunk = 50
        self.waits: dict[Action, float] = {}
        self.script: deque[Surprise] = deque()
        self.listings: deque[Surprise] = deque()
        self.reads: deque[Surprise] = deque()
        self.before_write: Callable[[Sequence[Write]], None] | None = None
        self.before_each: Callable[[Write], None] | None = None
        self.written: list[Written] = []
        self.sent: Counter[Write] = Counter()
        self.closed = False
        self._usage = Usage()
        self.late: list[tuple[float, Sequence[Write]]] = []
        self.delays: deque[float] = deque()
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
        return dataclasses.replace(self._usage)

    async def listing(self, boundaries: Sequence[int], scope: Scope, progress: Progress) -> AsyncIterator[list[Row]]:
        self._request(1)
        surprise = self._next(self.listings)
        if not self.read_right:
            surprise = Surprise.DENIED
        rows = [Row(order, *self.bindings[order]) for order in sorted(self.bindings) if scope.holds_order(order)]
        for start in range(0, len(rows), self.chunk):
            if surprise is not Surprise.FINE and start >= len(rows) // 2:
                break
            progress("listing the portal", min(start + self.chunk, len(rows)), len(rows))
            yield rows[start : start + self.chunk]
        if surprise is not Surprise.FINE:
            raise _ERRORS[surprise]

    async def read(self, order_ids: Sequence[int]) -> dict[int, Owner]:
        if not order_ids:
            return {}
        self._request(1)
        surprise = self._next(self.reads)
        if surprise is not Surprise.FINE:
            raise _ERRORS[surprise]
        return {order: self.bindings[order] for order in order_ids if order in self.bindings}

    def batch_size(self, writes: Sequence[Write]) -> int:
        return min(self.size, len(writes))

    def wait_for(self, action: Action) -> float:
        return self.waits.get(action, 0.0)

    async def write(self, batch: Sequence[Write], then_read: Sequence[int] = ()) -> WriteAnswer:
        self._request(len(batch))
        if self.before_write is not None:
            self.before_write(batch)
        surprise = self._next(self.script)
        if not self.write_right:
            surprise = Surprise.DENIED
        if surprise in _ERRORS:
            raise _ERRORS[surprise]
        if surprise is Surprise.NOT_SENT:
            return WriteAnswer([WriteResult(write.order_id, Effect.NOT_SENT) for write in batch], None)
        self.sent.update(batch)
        if surprise is not Surprise.FINE:
            self._lose(surprise, batch)
            return WriteAnswer([WriteResult(write.order_id, Effect.UNKNOWN) for write in batch], None)
        found = {write.order_id: self.bindings.get(write.order_id) for write in batch}
        results = []
        for write in batch:
            if self.before_each is not None:
                self.before_each(write)
            result = self._execute(write)
            results.append(
                result if result.found_known else result._replace(found=found[write.order_id], found_known=True)
            )
        return WriteAnswer(results, {order: self.bindings[order] for order in then_read if order in self.bindings})

    async def missing_owners(self, owners: Collection[Owner], witnesses: Collection[Owner]) -> set[Owner]:
        if not owners or self.owners is None or not self.sees_owners:
            return set()
        seen_types = {owner.owner_type_id for owner in (*owners, *witnesses) if owner in self.owners}
        return {owner for owner in owners if owner not in self.owners and owner.owner_type_id in seen_types}

    async def probe(self, witnesses: Collection[Owner] = ()) -> Rights:
        self._request(3)
        sees = None if not witnesses else self.sees_owners and any(self._owner_exists(owner) for owner in witnesses)
        return Rights(read=self.read_right, write=self.write_right, sees_owners=sees)

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
        """Do what the portal does: `add` replaces, `deleteByFilter` compares and deletes."""
        order, now = write.order_id, self.bindings.get(write.order_id)
        if order in self.poisoned:
            code, text = self.poisoned[order]
            return WriteResult(order, Effect.REFUSED, code=code, text=text)
        if write.after is None:
            if now is None:
                return WriteResult(order, Effect.ALREADY, None, found_known=True, code="201640400004")
            if now != write.before:
                return WriteResult(order, Effect.MOVED, now, found_known=True, code="201640400004")
        elif now == write.after:
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
