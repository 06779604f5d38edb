"""One log of everything that happens on both sides of a shop, in its order, for the witness of simulated lives.

Triggers keep the table's log, inside the transaction that writes. With each write of the portal it is noted how much of
the table's log was committed by then: so it is known which came first, although processes and threads write side by side.
"""

from __future__ import annotations

import heapq
import itertools
import sqlite3
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, NamedTuple

from syncd.core.model import MaybeOwner, Owner, Side
from syncd.core.ports import Write
from syncd.sandbox.calls import Wait
from syncd.sandbox.data import UI, LoggedWrite
from syncd.sandbox.portal import Steps
from syncd.sandbox.requests import SandboxRequest
from tests.simulation.causality import VEILED, Reading
from tests.simulation.witness import Witness
from tests.system.link_part import LinkPart
from tests.system.shop import DEAL

EDIT = "edit"
"""The kind of what a person or a program asked for; every other kind is an upheaval, which nobody asked for."""
SYNCD = "syncd"
LIST = "crm.orderentity.list"
PAGE, UNBOUNDED = 50, 2**63
WRITES = (b"crm.orderentity.add", b"crm.orderentity.deletebyfilter")

TABLE = """
PRAGMA journal_mode = WAL;
CREATE TABLE bindings (order_id INTEGER UNIQUE, deal_id INTEGER, channel TEXT NOT NULL DEFAULT 'web');
CREATE TABLE writer (kind TEXT, number INTEGER);
INSERT INTO writer VALUES ('syncd', 0);
CREATE TABLE seen (at INTEGER PRIMARY KEY, row INTEGER, order_id, deal_id INTEGER, channel TEXT, kind TEXT, number INTEGER);
CREATE TRIGGER added AFTER INSERT ON bindings BEGIN
  INSERT INTO seen SELECT NULL, new.rowid, new.order_id, new.deal_id, new.channel, kind, number FROM writer; END;
CREATE TRIGGER changed AFTER UPDATE ON bindings BEGIN
  INSERT INTO seen SELECT NULL, new.rowid, new.order_id, new.deal_id, new.channel, kind, number FROM writer; END;
CREATE TRIGGER removed AFTER DELETE ON bindings BEGIN
  INSERT INTO seen SELECT NULL, old.rowid, old.order_id, NULL, NULL, kind, number FROM writer; END;
"""
"""A table whose keys may be anything, as in SQLite they are. `writer` says who writes in the transaction under way."""

TRIGGER = "trigger"
PULL = f"""
CREATE TRIGGER pulled_by_{{event}} AFTER {{event}} ON bindings
WHEN (SELECT kind FROM writer) = '{SYNCD}' AND EXISTS (SELECT 1 FROM pulls WHERE order_id = new.order_id) BEGIN
  UPDATE writer SET kind = '{TRIGGER}';
  DELETE FROM bindings WHERE order_id IN (SELECT other FROM pulls WHERE order_id = new.order_id AND deal IS NULL);
  UPDATE bindings SET deal_id = (SELECT deal FROM pulls WHERE other = bindings.order_id)
    WHERE order_id IN (SELECT other FROM pulls WHERE order_id = new.order_id AND deal IS NOT NULL);
  UPDATE writer SET kind = '{SYNCD}'; END;
"""
PULLS = "CREATE TABLE pulls (order_id INTEGER, other INTEGER, deal INTEGER);" + "".join(
    PULL.format(event=event) for event in ("INSERT", "UPDATE")
)
"""Where syncd writes the row of an order in `pulls`, a trigger deletes the row of another order, or gives it a deal."""


class Row(NamedTuple):
    """A row of the table: its key, its deal, and whether `where` selects it."""

    order: object
    deal: int | None
    channel: str


class Seen(NamedTuple):
    """What a row of the table became: None is gone."""

    at: int
    row: int
    now: Row | None
    kind: str
    number: int


class Page(NamedTuple):
    """A page of the portal's list that syncd read: what it showed of the orders after `first`, up to `last`.

    at: how long the log of both sides was then.
    """

    at: int
    first: int
    last: int
    rows: dict[int, Reading]


class SidesLog:
    """See the module. It makes the table.

    Args:
        shop: Whose sides they are. What is written of other links' orders is their logs'.
        witness: Hears of everything in the log.
    """

    def __init__(self, shop: LinkPart, witness: Witness) -> None:
        self.kind = EDIT
        """What kind of edit others make in the portal at this moment."""
        self.late_writes = self.rewritten = 0
        """How many writes were executed late, and how many rows triggers have rewritten."""
        self.in_window: set[tuple[int, Reading]] = set()
        """(order, value) that somebody set between the list and the add of one request (docs/guarantees.md)."""
        self.processes = 0
        """How many processes were started; requests of earlier ones are late."""
        self._shop, self._portal, self._witness = shop, shop.portal, witness
        with closing(sqlite3.connect(shop.file)) as connection:
            connection.executescript(TABLE + PULLS)
        self._places: list[tuple[int, str]] = []
        self._reader = sqlite3.connect(shop.file, timeout=30, isolation_level=None, check_same_thread=False)
        self._numbers = itertools.count(1)
        self._rows: dict[int, Row] = {}
        self._of_order: defaultdict[object, set[int]] = defaultdict(set)
        self._told_table = self._told_portal = self._told_reads = 0
        self.pages: list[Page] = []
        """The pages of the portal's list that syncd has read, as far as the witness knows of them."""
        self._reads: list[tuple[int, dict[int, Reading] | Page]] = []
        self._listed: dict[tuple[int, int], int] = {}
        self._process_of: dict[int, int] = {}
        self._under_way = 0
        self._held: tuple[int, int] | None = None
        self._is_held = False
        self._met = 0
        for order, owner in shop.crm().items():
            witness.outsider(Side.CRM, order, Owner(DEAL, owner))
        self._watch_portal()

    def close(self) -> None:
        self._reader.close()

    # ------------------------------------------------------------------- the portal

    def _watch_portal(self) -> None:
        portal, write, exchange = self._portal, self._portal.write, self._portal.exchange

        def noted_write(order_id: int, owner: tuple[int, int] | None, *, method: str = UI, request: int = 0) -> None:
            write(order_id, owner, method=method, request=request)
            self._places.append((self.place(), self.kind if method == UI else SYNCD))

        def noted_exchange(request: SandboxRequest) -> Steps:
            process = self._met = self.processes
            self._under_way += 1
            try:
                yield from self._held_up(request, process)
                self._process_of[portal.stats.requests + 1] = process
                return (yield from exchange(request))
            finally:
                self._under_way -= 1

        portal.write = noted_write  # type: ignore[method-assign]
        portal.exchange = noted_exchange  # type: ignore[method-assign]
        portal.before_call(self._note_read)

    def _note_read(self, method: str, params: dict[Any, Any], request: int) -> None:
        asked = params.get("filter", {}) if method == LIST else {}
        writes = len(self._portal.stats.writes)
        if str(asked.get("=orderId")).isdecimal():
            self._listed[request, int(asked["=orderId"])] = writes
        if "@orderId" in asked:
            there = {
                order: _owner(self._portal.table.owners.get(order))
                for order in map(int, asked["@orderId"].values())
                if order in self._shop.orders
            }
            self._reads.append((writes, there))
        if str(asked.get(">orderId")).isdecimal() and params.get("order", {}).get("orderId") == "asc":
            self._reads.append((writes, self._page(int(asked[">orderId"]), asked.get("<=orderId"))))

    def _page(self, after: int, upto: object) -> Page:
        """Return what the portal is about to answer: the first rows after an order."""
        owners, last = self._portal.table.owners, int(str(upto)) if upto is not None else UNBOUNDED
        orders = heapq.nsmallest(PAGE, (order for order in owners if after < order <= last))
        return Page(0, after, orders[-1] if len(orders) == PAGE else last, {one: _owner(owners[one]) for one in orders})

    def hold_up(self, number: int) -> None:
        """Let the portal execute this process's so-many-th request that writes only when the next process asks for something."""
        self._held, self._is_held = (self.processes, number), False

    @property
    def is_holding(self) -> bool:
        """Whether such a request has arrived, and waits."""
        return self._is_held

    def let_go(self) -> None:
        """Execute what is held up."""
        self._held, self._is_held = None, False

    def _held_up(self, request: SandboxRequest, process: int) -> Iterator[Wait]:
        if self._held is None or process != self._held[0] or not any(name in request.body for name in WRITES):
            return
        self._held = process, self._held[1] - 1
        if self._held[1]:
            return
        self._is_held = True
        while self._is_held and self._met == process:
            yield Wait(0.005)
        self.late_writes += 1

    @property
    def is_idle(self) -> bool:
        """Whether the portal has no request under way."""
        return not self._under_way

    # -------------------------------------------------------------------- the table

    def place(self) -> int:
        """Return how long the table's log is."""
        with self._portal.lock:
            ((place,),) = self._reader.execute("SELECT coalesce(max(at), 0) FROM seen")
        return int(place)

    def written_to_table(self, since: int) -> int:
        """Return how many rows syncd has written to the table since a place in its log."""
        with self._portal.lock:
            ((number,),) = self._reader.execute("SELECT count(*) FROM seen WHERE kind = 'syncd' AND at > ?", (since,))
        return int(number)

    @contextmanager
    def table(self, kind: str = EDIT) -> Iterator[sqlite3.Connection]:
        """One transaction of others."""
        with closing(sqlite3.connect(self._shop.file, timeout=30, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = OFF")  # no test pulls the plug of the machine
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("UPDATE writer SET kind = ?, number = ?", (kind, next(self._numbers)))
            yield connection
            connection.execute("UPDATE writer SET kind = 'syncd'")
            connection.execute("COMMIT")

    # ------------------------------------------------------------------ the witness

    def tell(self) -> None:
        """Tell the witness what happened since the last time. Only late requests write meanwhile."""
        rows = self._reader.execute("SELECT * FROM seen WHERE at > ? ORDER BY at", (self._told_table,)).fetchall()
        seen = [
            Seen(at, row, None if channel is None else Row(order, deal, channel), kind, number)
            for at, row, order, deal, channel, kind, number in rows
        ]
        with self._portal.lock:
            writes = self._portal.stats.writes[self._told_portal :]
            places, reads = self._places[self._told_portal :], self._reads[self._told_reads :]
        requests: defaultdict[int, list[Write]] = defaultdict(list)
        for one in writes:
            if one.method != UI and one.order_id in self._shop.orders:
                requests[one.request].append(Write(one.order_id, _bound(one.before), _bound(one.after)))
        transactions = deque(
            list(group)
            for _, group in itertools.groupby(
                seen, key=lambda one: (one.kind == SYNCD and one.at, one.kind, one.number)
            )
        )
        written = [(at, 1, index) for index, at in enumerate(range(self._told_portal, self._told_portal + len(writes)))]
        read = [(at, 0, index) for index, (at, _) in enumerate(reads)]
        for at, is_write, index in sorted(written + read):
            if not is_write:
                self._tell_reading(reads[index][1])
                continue
            place, kind = places[index]
            while transactions and transactions[0][-1].at <= place:
                self._tell_transaction(transactions.popleft())
            self._tell_write(at, writes[index], kind, requests)
        for transaction in transactions:
            self._tell_transaction(transaction)
        self._told_table = seen[-1].at if seen else self._told_table
        self._told_portal += len(writes)
        self._told_reads += len(reads)

    def _tell_reading(self, there: dict[int, Reading] | Page) -> None:
        if isinstance(there, Page):
            self.pages.append(there._replace(at=len(self._witness.log)))
        else:
            self._witness.reads(Side.CRM, there)

    def _tell_write(self, index: int, one: LoggedWrite, kind: str, requests: dict[int, list[Write]]) -> None:
        order, before, after = one.order_id, _owner(one.before), _owner(one.after)
        if order not in self._shop.orders:
            return
        if one.method == UI:
            self._witness.outsider(Side.CRM, order, after, "" if kind == EDIT else kind)
            return
        sent = requests.pop(one.request, None)
        if sent:
            self._witness.sends(Side.CRM, sent)
        listed = self._listed.get((one.request, order), index)
        writes = self._portal.stats.writes
        if any(writes[at].order_id == order and writes[at].method == UI for at in range(listed, index)):
            self.in_window.add((order, before))
        late = self._process_of.get(one.request, self.processes) < self.processes
        self._witness.ours(Side.CRM, order, before, _readable(after), late=late)

    def _tell_transaction(self, transaction: Sequence[Seen]) -> None:
        """Tell the witness of one transaction. A row that it changed twice has changed once for everybody else."""
        orders = {row.order for one in transaction for row in (self._rows.get(one.row), one.now) if row is not None}
        before = {order: self._reading(order) for order in orders}
        for one in transaction:
            gone = self._rows.pop(one.row, None)
            if gone is not None:
                self._of_order[gone.order].discard(one.row)
            if one.now is not None:
                self._rows[one.row] = one.now
                self._of_order[one.now.order].add(one.row)
        kind = transaction[0].kind
        for order in sorted(order for order in orders if isinstance(order, int)):
            after = self._reading(order)
            if after == before[order]:
                continue
            if kind != SYNCD:
                self.rewritten += kind == TRIGGER
                self._witness.outsider(Side.TABLE, order, after, "" if kind == EDIT else kind)
            else:
                self._witness.ours(Side.TABLE, order, before[order], _readable(after))

    def _reading(self, order: object) -> Reading:
        rows = [self._rows[row] for row in self._of_order[order]]
        if not rows:
            return None
        (row,) = rows
        return Owner(DEAL, row.deal) if row.channel == "web" and row.deal is not None else VEILED


def _readable(reading: Reading) -> MaybeOwner:
    assert reading is None or isinstance(reading, Owner), "syncd wrote a row that it cannot read itself"
    return reading


def _bound(pair: tuple[int, int] | None) -> MaybeOwner:
    return None if pair is None else Owner(*pair)


def _owner(pair: tuple[int, int] | None) -> Reading:
    return _bound(pair) if pair is None or all(pair) else VEILED
