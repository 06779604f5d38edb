"""Outside writers on both sides of a shop, and a log of every write either side ever saw, in the order it happened.

The portal keeps its log itself; the table's is kept by triggers, within the transaction that writes. They set new
values and put old ones back, bind again what they unbound, and delete rows that they insert anew.
"""

from __future__ import annotations

import itertools
import random
import sqlite3
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from typing import Any, NamedTuple

from syncd.core.model import MaybeOwner, Owner, Side
from syncd.sandbox.data import UI
from tests.system.shop import DEAL, Shop

REMOVALS = 2
"""How often an order is removed by outside writers on one side: more within a day is flapping."""
ASTRAY = 0.03
"""How often an outside writer takes an order that is not in step: that makes conflicts."""
AIMED = 0.05
"""How often an outside writer takes an order that syncd is about to write there."""
AGAIN = 0.3
"""How often an outside writer sets a value that the order had before, on whichever side."""
REINSERTED = 0.05
"""How often an outside writer of the table deletes a row and inserts it anew as it was."""
KINDS = ("add", "move", "remove")

LOG = """
CREATE TABLE writer (name TEXT);
INSERT INTO writer VALUES ('syncd');
CREATE TABLE seen (at INTEGER PRIMARY KEY, order_id INTEGER, before INTEGER, after INTEGER, writer TEXT);
CREATE TRIGGER added AFTER INSERT ON bindings BEGIN
  INSERT INTO seen (order_id, before, after, writer) SELECT new.order_id, NULL, new.deal_id, name FROM writer; END;
CREATE TRIGGER moved AFTER UPDATE ON bindings BEGIN
  INSERT INTO seen (order_id, before, after, writer) SELECT new.order_id, old.deal_id, new.deal_id, name FROM writer; END;
CREATE TRIGGER removed AFTER DELETE ON bindings BEGIN
  INSERT INTO seen (order_id, before, after, writer) SELECT old.order_id, old.deal_id, NULL, name FROM writer; END;
"""


class Seen(NamedTuple):
    """One write a side saw: what it replaced, and whether an outside writer made it.

    Of the portal also the request, and the time.
    """

    order_id: int
    before: MaybeOwner
    after: MaybeOwner
    outside: bool
    request: int = 0
    at: float = 0.0


class Read(NamedTuple):
    """Orders that a request asked the portal for by id, when it had seen `at` writes."""

    at: int
    request: int
    orders: frozenset[int]


class Outsiders:
    """People and programs that write to both sides and know nothing of syncd.

    Args:
        shop: Whose sides they write. Its table is made, and both sides know the same orders.
        orders: How many that are, from 1 on; new ones get the numbers after them.
        seed: Of what they do.
    """

    def __init__(self, shop: Shop, orders: int, seed: int) -> None:
        self.happened: Counter[str] = Counter()
        self.reads: list[Read] = []
        self._shop = shop
        self._dice = random.Random(seed)
        self._fresh = itertools.count(100_000)
        self._unborn = itertools.count(orders + 1)
        self._known = list(range(1, orders + 1))
        self._removed: Counter[tuple[Side, int]] = Counter()
        self._edited: dict[int, Side] = {}
        self._past: defaultdict[int, list[int]] = defaultdict(list)
        self._due: dict[Side, deque[int]] = {Side.CRM: deque(maxlen=9), Side.TABLE: deque(maxlen=1000)}
        with closing(sqlite3.connect(shop.file)) as connection:
            connection.executescript(LOG)
        shop.portal.before_call(self._note_read)

    def _note_read(self, method: str, params: dict[Any, Any], request: int) -> None:
        asked = params.get("filter", {}).get("@orderId") if method == "crm.orderentity.list" else None
        if asked:
            orders = frozenset(map(int, asked.values()))
            self.reads.append(Read(len(self._shop.portal.stats.writes), request, orders))
            self._due[Side.CRM].extend(orders)

    # ---------------------------------------------------------------- their edits

    def make_changes(self, number: int, held: Collection[int]) -> None:
        """Add, move and remove orders until, on either side, `number` have been edited and differ, held ones left out."""
        with self._table() as connection:
            crm, table = self._shop.crm(), dict(connection.execute("SELECT order_id, deal_id FROM bindings"))
            differing = {order for order in crm.keys() | table.keys() if crm.get(order) != table.get(order)}
            in_step = [order for order in crm if order not in differing.union(held)]
            self._dice.shuffle(in_step)
            for side in Side:
                missing = number - sum(self._edited.get(order) is side for order in differing.difference(held))
                for kind in itertools.islice(itertools.cycle(KINDS), max(0, missing)):
                    order = self._new_order() if kind == "add" else in_step.pop()
                    self._edit(side, order, crm.get(order), connection, remove=kind == "remove")
                    self._due[side.other].append(order)
                    self.happened["before a start"] += 1

    @contextmanager
    def at_work(self, pause: float = 0.008) -> Iterator[None]:
        """Edit one order after the other, on either side, for the time of the block."""
        stop, failures = threading.Event(), []

        def work() -> None:
            try:
                while not stop.wait(pause):
                    self._edit_one(self._dice.choice(list(Side)))
            except BaseException as error:  # noqa: BLE001 - raised in the test's own thread
                failures.append(error)

        thread = threading.Thread(target=work, name="outsiders")
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
        if failures:
            raise failures[0]

    def _edit_one(self, side: Side) -> None:
        aimed = bool(self._due[side]) and self._dice.random() < AIMED
        order = self._dice.choice(self._due[side] if aimed else self._known)
        with self._table() as connection:
            row = connection.execute("SELECT deal_id FROM bindings WHERE order_id = ?", (order,)).fetchone()
            crm, table = self._crm(order), row[0] if row else None
            if aimed or crm == table or self._dice.random() < ASTRAY:
                there = crm if side is Side.CRM else table
                self._edit(side, order, there, connection, remove=self._dice.random() < 0.25)
                self.happened["during a pass"] += 1

    def _edit(self, side: Side, order: int, there: int | None, connection: sqlite3.Connection, *, remove: bool) -> None:
        removed = remove and there is not None and self._removed[side, order] < REMOVALS
        value = None if removed else self._value(order, there)
        self._removed[side, order] += removed
        self._edited[order] = side
        if side is Side.TABLE and there is not None and not removed and self._dice.random() < REINSERTED:
            connection.execute("DELETE FROM bindings WHERE order_id = ?", (order,))
            connection.execute("INSERT INTO bindings VALUES (?, ?)", (order, there))
            self.happened["row inserted anew"] += 1
        elif side is Side.TABLE and removed:
            connection.execute("DELETE FROM bindings WHERE order_id = ?", (order,))
        elif side is Side.TABLE:
            connection.execute(
                "INSERT INTO bindings VALUES (?, ?) ON CONFLICT DO UPDATE SET deal_id = excluded.deal_id",
                (order, value),
            )
        elif value is None:
            self._shop.portal.unbind(order)
        else:
            self._shop.portal.bind(order, DEAL, value)

    def _value(self, order: int, there: int | None) -> int:
        """Return what an outside writer sets an order to: a new deal, or one that it had before."""
        past = self._past[order]
        if there is not None and there not in past:
            past.append(there)
        old = [deal for deal in past if deal != there]
        if old and self._dice.random() < AGAIN:
            self.happened["set again"] += 1
            return self._dice.choice(old)
        past.append(next(self._fresh))
        return past[-1]

    @contextmanager
    def _table(self) -> Iterator[sqlite3.Connection]:
        """One transaction of theirs."""
        with closing(sqlite3.connect(self._shop.file, timeout=30, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = OFF")  # no test pulls the plug of the machine
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("UPDATE writer SET name = 'outside'")
            yield connection
            connection.execute("UPDATE writer SET name = 'syncd'")
            connection.execute("COMMIT")

    def _crm(self, order: int) -> int | None:
        owner = self._shop.portal.table.owners.get(order)
        return None if owner is None else owner[1]

    def _new_order(self) -> int:
        self._known.append(next(self._unborn))
        return self._known[-1]

    # -------------------------------------------------------------------- the log

    def seen(self, side: Side) -> list[Seen]:
        """Return every write the side saw, in order."""
        if side is Side.CRM:
            writes = self._shop.portal.stats.writes
            return [
                Seen(w.order_id, _owner(w.before), _owner(w.after), w.method == UI, w.request, w.at) for w in writes
            ]
        rows = self._shop.sql("SELECT order_id, before, after, writer = 'outside' FROM seen ORDER BY at")
        return [Seen(order, deal(before), deal(after), bool(outside)) for order, before, after, outside in rows]

    def written_to_table(self, since: int = 0) -> tuple[int, int]:
        """Return how many rows syncd has written to the table since a place in its log, and the place reached."""
        query = "SELECT count(*) FILTER (WHERE writer = 'syncd'), coalesce(max(at), :since) FROM seen WHERE at > :since"
        ((number, place),) = self._shop.sql(query.replace(":since", str(since)))
        return int(number), int(place)


def _owner(pair: tuple[int, int] | None) -> MaybeOwner:
    return None if pair is None else Owner(*pair)


def deal(number: int | None) -> MaybeOwner:
    """Given a deal's number or None for unbound, return the owner."""
    return None if number is None else Owner(DEAL, number)
