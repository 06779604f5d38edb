"""The data and the settings of a sandbox portal, and the edits that people make in its interface."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from syncd.core.ports import Clock
from syncd.obs.clock import SystemClock
from syncd.sandbox.bindings import Bindings, OwnerPair
from syncd.sandbox.faults import Faults, LastPage
from syncd.sandbox.limits import Latencies, LeakyBuckets, OperatingTime, PortalLimits
from syncd.sandbox.oauth import Application, OAuth
from syncd.sandbox.php import MAX_INPUT_VARS, PhpArray
from syncd.sandbox.requests import References, Version

DEAL = 2
SCOPE = frozenset({"crm", "sale"})
WARES = (
    "Desks", "Office chairs", "Lamps", "Shelves", "Coffee machines", "Notebooks", "Monitors", "Whiteboards", "Lockers",
    "Projectors", "Headsets",
)  # fmt: skip
CUSTOMERS = (
    "Alder School", "Birch & Sons", "Cedar Clinic", "Dogwood Hotel", "Elm Bakery", "Fir Logistics", "Ginkgo Studio",
)  # fmt: skip
ORDER_SAVED = "ONSALEORDERSAVED"
ORDER_DELETED = "ONORDERDELETED"
UI = "ui"
"""The `method` of a write that a person made in the portal's interface, not through REST."""
KEY_FIELDS: Final = {"accountNumber": "WEB-", "xmlId": "shop-", "id1c": "1C-"}
"""The fields of an order that hold a key, each with the prefix of its default keys."""

BeforeCall = Callable[[str, PhpArray, int], None]
"""Called with (lower-case method, parameters, request number) before a call is executed; may edit the portal."""


class LoggedWrite(NamedTuple):
    """One executed write: when (epoch seconds), in which request (0: none), by which method, and what it replaced."""

    at: float
    request: int
    method: str
    order_id: int
    before: OwnerPair | None
    after: OwnerPair | None


class PortalEvent(NamedTuple):
    """An event to deliver to a registered handler."""

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
    writes: list[LoggedWrite] = field(default_factory=list)


class OrderKeyIndex:
    """The keys of orders beside their ids: `accountNumber`, `xmlId`, `id1c` (portal.md 14).

    By default order 5 has the number WEB-5, the external id shop-5 and the 1C id 1C-5; only other keys take memory.
    Keys are found without regard to case and trailing spaces, as MySQL compares texts.
    """

    def __init__(self) -> None:
        self._changed: dict[str, dict[int, str]] = {field: {} for field in KEY_FIELDS}
        self._found: dict[str, dict[str, set[int]]] = {field: {} for field in KEY_FIELDS}

    def key(self, field: str, order_id: int) -> str:
        """Given a field and an order, return its key; empty where it has none."""
        return self._changed[field].get(order_id, f"{KEY_FIELDS[field]}{order_id}")

    def set(self, field: str, order_id: int, key: str) -> None:
        """Give an order another key, or remove its key with an empty one."""
        self._found[field].get(folded(self.key(field, order_id)), set()).discard(order_id)
        self._changed[field][order_id] = key
        self._found[field].setdefault(folded(key), set()).add(order_id)

    def orders(self, field: str, key: str) -> Iterator[int]:
        """Given a field and a key, yield the ids whose key is equal to MySQL, whether the orders exist or not."""
        wanted = folded(key)
        yield from self._found[field].get(wanted, ())
        digits = wanted.removeprefix(folded(KEY_FIELDS[field]))
        if digits != wanted and digits.isdecimal() and digits.isascii() and str(int(digits)) == digits:
            order_id = int(digits)
            if order_id not in self._changed[field]:
                yield order_id


def folded(key: str) -> str:
    """Given a text, return the form in which MySQL compares it: in one case, without trailing spaces."""
    return key.casefold().rstrip(" ")


class PortalData:
    """A portal without its HTTP interface, which `SandboxPortal` adds. Edits are safe from any thread.

    Args:
        bindings: order id → (owner type id, owner id), or triples (order id, owner type id, owner id).
        orders: Orders that exist besides the bound ones; a range or frozenset is not copied.
        code: The webhook's secret.
        user_id: The webhook's user.
        version: Which portal is played.
        sale_right: The user's right in the sale module: `W` reads and writes, any other reads, `D` does neither.
        scope: Of the webhook.
        latencies: How long the portal works; not at all by default.
        limits: The request and operating limits; None has none, as a box.
        faults: What goes wrong; rules can be added later.
        application: The OAuth application whose tokens are accepted beside the webhook.
        owners: The owners that exist; None: all but `missing_owners`.
        require_https: Refuse webhooks over plain http, as a real portal does.
        minus_one_is_everything: `start=-1` answers every row, as a sentence of the documentation has it.
        unstable_ties: Rows of equal owner id come in another order with every other query.
        auth_status: The HTTP status of failed authentication: 401 by source, 403 by documentation.
        max_input_vars: PHP's limit on form and query parameters.
        references: Where references of a batch are resolved; conditional writes need `EVERYWHERE`.
        clock: Time and waiting; the system's by default.
    """

    def __init__(
        self,
        bindings: Mapping[int, OwnerPair] | Iterable[tuple[int, int, int]] = (),
        *,
        orders: Iterable[int] | None = None,
        code: str = "sandboxsecret",
        user_id: int = 1,
        version: Version = Version.NEW,
        sale_right: str = "W",
        scope: frozenset[str] = SCOPE,
        latencies: Latencies | None = None,
        limits: PortalLimits | None = None,
        faults: Faults | None = None,
        application: Application | None = None,
        owners: Collection[OwnerPair] | None = None,
        require_https: bool = False,
        minus_one_is_everything: bool = False,
        unstable_ties: bool = False,
        auth_status: int = 401,
        max_input_vars: int = MAX_INPUT_VARS,
        references: References = References.EVERYWHERE,
        clock: Clock | None = None,
    ) -> None:
        self.lock = threading.RLock()
        self.clock: Clock = clock or SystemClock()
        self.stats = Stats()

        self.table = Bindings(bindings, unstable_ties=unstable_ties)
        self.order_keys = OrderKeyIndex()
        self._orders: Collection[int] = orders if isinstance(orders, range | frozenset) else frozenset(orders or ())
        self._added: set[int] = set()
        self._deleted: set[int] = set()
        self.owners = owners
        self.missing_owners: set[OwnerPair] = set()
        self.owners_visible = True
        self.titles: dict[OwnerPair, str] = {}
        """Titles of owners that differ from the invented ones."""
        self.owner_type_names = {DEAL: "Deal"}
        """The owner types that the portal lists, in its language; a real one lists deals only (portal.md 3.2)."""

        self.code = code
        self.user_id = user_id
        self.user_active = True
        self.scope = scope
        self.sale_right = sale_right
        self.require_https = require_https
        self.auth_status = auth_status
        self.oauth = OAuth(application or Application(), user_id, self.clock)

        self.version = version
        self.references = references
        self.max_input_vars = max_input_vars
        self.minus_one_is_everything = minus_one_is_everything
        self.latencies = latencies or Latencies()
        self.limits = limits or PortalLimits.box()
        self.buckets = LeakyBuckets(self.limits)
        self.operating = OperatingTime(self.limits)

        self.faults = faults if faults is not None else Faults()
        self.last_page = LastPage([])
        self.late: list[tuple[float, Callable[[], None]]] = []
        """What executes the requests whose connection was dropped before, each with the time at which it is due."""
        self.raced: list[tuple[int, int, int]] = []
        """Edits of the fault `race`: the number of the request, the order, and the deal it was bound to."""
        self.waiting: list[asyncio.Event] = []
        """Answers that are held until another request has been answered."""

        self.events: list[PortalEvent] = []
        self.handlers: list[tuple[str, str]] = []
        self._hooks: list[BeforeCall] = []

    # ------------------------------------------------------------------ reading

    @property
    def bindings(self) -> dict[int, OwnerPair]:
        """A copy of every binding: order id → (owner type id, owner id)."""
        with self.lock:
            self.execute_late()
            return dict(self.table.owners)

    def execute_late(self) -> None:
        """Execute the requests whose connection was dropped before and whose time has come."""
        now = self.clock.now()
        due = [execute for at, execute in self.late if at <= now]
        self.late = [(at, execute) for at, execute in self.late if at > now]
        for execute in due:
            execute()

    def order_exists(self, order_id: int) -> bool:
        """Return whether an order exists. A bound order does, unless it was deleted and its binding left behind."""
        if order_id in self._deleted:
            return False
        return order_id in self.table.owners or order_id in self._added or order_id in self._orders

    def order_ids(self) -> list[int]:
        """Return every order id, ascending."""
        return sorted(({*self._orders, *self._added, *self.table.owners}) - self._deleted)

    def owner_exists(self, owner_type_id: int, owner_id: int) -> bool:
        """Return whether a deal, invoice or item exists; all do unless `owners` or `missing_owners` says otherwise."""
        owner = (owner_type_id, owner_id)
        return owner not in self.missing_owners and (self.owners is None or owner in self.owners)

    def owner_ids(self, owner_type_id: int) -> list[int]:
        """Return the ids of the known owners of a type, ascending; where all exist, those with an order."""
        known = self.table.owners.values() if self.owners is None else self.owners
        return sorted(
            {owner for kind, owner in known if kind == owner_type_id and (kind, owner) not in self.missing_owners}
        )

    def title_of(self, owner_type_id: int, owner_id: int) -> str:
        """Return the title of a deal, invoice or item: an invented one, unless `titles` has another."""
        invented = f"{WARES[owner_id % len(WARES)]} for {CUSTOMERS[owner_id // len(WARES) % len(CUSTOMERS)]}"
        return self.titles.get((owner_type_id, owner_id), invented)

    # ------------------------------------------------------------------ writing

    def write(self, order_id: int, owner: OwnerPair | None, *, method: str = UI, request: int = 0) -> None:
        """Bind an order, or unbind it with None, and log the write."""
        before = self.table.owners.get(order_id)
        if owner is None:
            if before is not None:
                self.table.remove(order_id)
                self._added.add(order_id)
        else:
            self.table.put(order_id, owner)
        self.stats.writes.append(LoggedWrite(self.clock.now(), request, method, order_id, before, owner))

    def fire(self, name: str, order_id: int, request: int, delivered: set[str]) -> None:
        """Queue an event for its handlers: ONSALEORDERSAVED at most once for each URL in a request (portal.md 10.1)."""
        for event, handler in self.handlers:
            if event == name and not (name == ORDER_SAVED and handler in delivered):
                delivered.add(handler)
                self.events.append(PortalEvent(name, order_id, handler, request))

    # ------------------------------------------------- edits in the user interface

    def bind(self, order_id: int, owner_type_id: int, owner_id: int) -> None:
        """Bind an order, creating it when it is unknown."""
        with self.lock:
            self.execute_late()
            self._revive(order_id)
            self.write(order_id, (owner_type_id, owner_id))
            self.fire(ORDER_SAVED, order_id, 0, set())

    def unbind(self, order_id: int) -> None:
        """Unbind an order, if it is bound."""
        with self.lock:
            self.execute_late()
            if order_id in self.table.owners:
                self.write(order_id, None)
                self.fire(ORDER_SAVED, order_id, 0, set())

    def add_order(self, order_id: int) -> None:
        """Create an order without a binding."""
        with self.lock:
            self._revive(order_id)

    def set_order_key(self, field: str, order_id: int, key: str) -> None:
        """Give an order another `accountNumber`, `xmlId` or `id1c`, or remove it with an empty text."""
        with self.lock:
            self.order_keys.set(field, order_id, key)

    def delete_order(self, order_id: int, *, dangling: bool = False) -> None:
        """Delete an order and its binding; with `dangling` the binding's row stays behind, as after a broken import."""
        with self.lock:
            self.execute_late()
            if not dangling and order_id in self.table.owners:
                self.write(order_id, None)
            self._added.discard(order_id)
            self._deleted.add(order_id)
            self.fire(ORDER_SAVED, order_id, 0, set())
            self.fire(ORDER_DELETED, order_id, 0, set())

    def delete_owner(self, owner_type_id: int, owner_id: int) -> None:
        """Delete an owner. A deal takes its orders with it; of any other owner only the bindings go (portal.md 11)."""
        with self.lock:
            self.execute_late()
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
        """Have `callback` called before every call, also inside batches; return the function that ends that."""
        self._hooks.append(callback)

        def stop() -> None:
            self._hooks.remove(callback)

        return stop

    def run_hooks(self, method: str, params: PhpArray, request: int) -> None:
        """Call the hooks for a call that is about to be executed."""
        for hook in tuple(self._hooks):
            hook(method, params, request)
