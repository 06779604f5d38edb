"""What the portal holds, and the edits people make in its user interface, which pass by REST and its limits."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from syncd.core.ports import Clock
from syncd.obs.clock import SystemClock
from syncd.sandbox.answers import Version
from syncd.sandbox.bindings import Bindings, OwnerPair
from syncd.sandbox.php import PhpArray
from syncd.sandbox.timing import local_time

DEAL = 2
ORDER_SAVED = "ONSALEORDERSAVED"
ORDER_DELETED = "ONORDERDELETED"
UI = "ui"
"""Stands for the method of a write that did not come over REST."""

BeforeCall = Callable[[str, PhpArray, int], None]
"""Called with (lower-case method, parameters, request number) before a call is executed; may edit the portal."""


class Written(NamedTuple):
    """One executed write: when (epoch seconds), in which request (0: none), by which method, and what it replaced."""

    at: float
    request: int
    method: str
    order_id: int
    before: OwnerPair | None
    after: OwnerPair | None


class Event(NamedTuple):
    """An event that would have been delivered."""

    name: str
    order_id: int
    handler: str
    request: int


@dataclass(slots=True)
class Stats:
    """What the portal has been asked so far. Methods are keyed in lower case; `refused` counts 503 and 429 answers."""

    requests: int = 0
    refused: int = 0
    calls: Counter[str] = field(default_factory=Counter)
    method_seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    writes: list[Written] = field(default_factory=list)


class Contents:
    """Bindings, orders, owners, rights: the state behind the REST methods.

    All edits are safe from any thread. See `SandboxPortal` for the arguments.
    """

    def __init__(
        self,
        bindings: Mapping[int, OwnerPair] | Iterable[tuple[int, int, int]],
        *,
        orders: Iterable[int] | None,
        owners: Collection[OwnerPair] | None,
        version: Version,
        sale_right: str,
        user_id: int,
        minus_one_is_everything: bool,
        unstable_ties: bool,
        clock: Clock | None,
    ) -> None:
        self.table = Bindings(bindings, unstable_ties=unstable_ties)
        self.version = version
        self.sale_right = sale_right
        self.user_id = user_id
        self.minus_one_is_everything = minus_one_is_everything
        self.clock: Clock = clock or SystemClock()
        self.stats = Stats()
        self.events: list[Event] = []
        self.handlers: list[tuple[str, str]] = []
        self.owners = owners
        self.missing_owners: set[OwnerPair] = set()
        self.owners_visible = True
        self._orders: Collection[int] = orders if isinstance(orders, range | frozenset) else frozenset(orders or ())
        self._added: set[int] = set()
        self._deleted: set[int] = set()
        self._hooks: list[BeforeCall] = []
        self.lock = threading.RLock()

    # ------------------------------------------------------------------ reading

    @property
    def bindings(self) -> dict[int, OwnerPair]:
        """A copy of every binding: order id → (owner type id, owner id)."""
        with self.lock:
            self.settle()
            return dict(self.table.owners)

    def settle(self) -> None:
        """Let what is due by now happen; a portal without late requests has nothing to do."""

    def local_time(self) -> str:
        """Return the portal's time, ISO 8601 with offset."""
        return local_time(int(self.clock.now()))

    def order_exists(self, order_id: int) -> bool:
        """Return whether the order is there; a bound order is, unless it was deleted under its binding."""
        if order_id in self._deleted:
            return False
        return order_id in self.table.owners or order_id in self._added or order_id in self._orders

    def order_ids(self) -> list[int]:
        """Return every order id, ascending."""
        return sorted(({*self._orders, *self._added, *self.table.owners}) - self._deleted)

    def owner_exists(self, owner_type_id: int, owner_id: int) -> bool:
        """Return whether a deal, invoice or item exists; all do unless `owners` names them or they are missing."""
        owner = (owner_type_id, owner_id)
        return owner not in self.missing_owners and (self.owners is None or owner in self.owners)

    def owner_ids(self, owner_type_id: int) -> list[int]:
        """Return the ids of the known owners of a type, ascending; where all exist, those with an order."""
        known = self.table.owners.values() if self.owners is None else self.owners
        return sorted(
            {owner for kind, owner in known if kind == owner_type_id and (kind, owner) not in self.missing_owners}
        )

    # ------------------------------------------------------------------ writing

    def write(self, order_id: int, owner: OwnerPair | None, *, method: str = UI, request: int = 0) -> None:
        """Bind (or with None unbind) an order and log it."""
        before = self.table.owners.get(order_id)
        if owner is None:
            if before is not None:
                self.table.remove(order_id)
                self._added.add(order_id)
        else:
            self.table.put(order_id, owner)
        self.stats.writes.append(Written(self.clock.now(), request, method, order_id, before, owner))

    def fire(self, name: str, order_id: int, request: int, delivered: set[str]) -> None:
        """Deliver an event: ONSALEORDERSAVED at most once for each handler URL in a request (bitrix24-rest.md 10.1)."""
        for event, handler in self.handlers:
            if event == name and not (name == ORDER_SAVED and handler in delivered):
                delivered.add(handler)
                self.events.append(Event(name, order_id, handler, request))

    # ------------------------------------------------- edits in the user interface

    def bind(self, order_id: int, owner_type_id: int, owner_id: int) -> None:
        """Bind an order, creating it when it is unknown."""
        with self.lock:
            self.settle()
            self._revive(order_id)
            self.write(order_id, (owner_type_id, owner_id))
            self.fire(ORDER_SAVED, order_id, 0, set())

    def unbind(self, order_id: int) -> None:
        """Unbind an order; an unbound one stays so."""
        with self.lock:
            self.settle()
            if order_id in self.table.owners:
                self.write(order_id, None)
                self.fire(ORDER_SAVED, order_id, 0, set())

    def add_order(self, order_id: int) -> None:
        """Create an order without a binding."""
        with self.lock:
            self._revive(order_id)

    def delete_order(self, order_id: int, *, dangling: bool = False) -> None:
        """Delete an order and its binding; with `dangling` the binding's row stays behind, as after a broken import."""
        with self.lock:
            self.settle()
            if not dangling and order_id in self.table.owners:
                self.write(order_id, None)
            self._added.discard(order_id)
            self._deleted.add(order_id)
            self.fire(ORDER_SAVED, order_id, 0, set())
            self.fire(ORDER_DELETED, order_id, 0, set())

    def delete_owner(self, owner_type_id: int, owner_id: int) -> None:
        """Delete an owner: a deal takes its orders with it, of anything else only the rows go (bitrix24-rest.md 11)."""
        with self.lock:
            self.settle()
            owner = (owner_type_id, owner_id)
            self.missing_owners.add(owner)
            for order_id in sorted(order for order, bound in self.table.owners.items() if bound == owner):
                if owner_type_id == DEAL:
                    self.delete_order(order_id)
                else:
                    self.write(order_id, None)

    def _revive(self, order_id: int) -> None:
        self._deleted.discard(order_id)
        self._added.add(order_id)

    # ---------------------------------------------------------------------- hooks

    def before_call(self, callback: BeforeCall) -> Callable[[], None]:
        """Have `callback` called before every call, also inside batches; return what ends that."""
        self._hooks.append(callback)

        def stop() -> None:
            self._hooks.remove(callback)

        return stop

    def announce(self, method: str, params: PhpArray, request: int) -> None:
        """Tell the hooks about a call that is about to be executed."""
        for hook in tuple(self._hooks):
            hook(method, params, request)
