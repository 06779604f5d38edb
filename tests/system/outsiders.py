"""Outside writers on both sides of a shop, and the accidents of ordinary life.

People and programs set new values and put old ones back, bind again what they unbound, delete rows and insert them anew,
write rows before their orders exist. A table is reloaded row by row, a side is restored from a backup, rows are hidden,
no longer selected by `where`, or get keys that nobody can read. Bindings of the portal name no deal, its list leaves orders
out, new orders are bound all through it, and triggers of the table write other rows than syncd does.
"""

from __future__ import annotations

import itertools
import random
import sqlite3
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from syncd.core.model import Side
from syncd.sandbox.bindings import Selection
from syncd.sandbox.php import PhpArray
from syncd.sandbox.query import ListQuery, Op
from tests.children import LIMIT
from tests.system.link_part import UNKNOWN, LinkPart
from tests.system.shop import DEAL
from tests.system.sides_log import EDIT, LIST, SidesLog

SHARES = {"add": 0.04, "move": 0.06, "remove": 0.03}
"""The parts of all orders that others edit on either side before a pass: two passes a day stay within the day's limits."""
ROOM = 1.2
"""To how many times the first number of bindings they add new orders; then they only bind again what is unbound."""
MOST = 0.04
"""The part of all orders that others edit at most while a pass is at work, however slow the machine."""
ASTRAY = 0.03
"""How often they take an order that is not in step: that makes conflicts."""
AIMED = 0.05
"""How often they take an order that syncd is about to write there."""
REINSERTED = 0.05
"""How often a row is deleted and inserted anew as it was."""
AGAIN, OFTEN_AGAIN = 0.01, 0.5
"""How often they set a value that the order had before, on whichever side. Often looks like a backup: it is refused."""
STREAM = 12
"""How many new orders others bind one after the other, each right before the portal answers a page of its list."""
ODD = 0
"""The deal of a binding that names none: the portal's row has null there, or lacks the field."""

PUT = "INSERT INTO bindings VALUES (?, ?, 'web') ON CONFLICT DO UPDATE SET deal_id = excluded.deal_id"
DROP = "DELETE FROM bindings WHERE order_id = ?"
ROWS = "SELECT order_id, deal_id, channel FROM bindings"
ROW = tuple[object, int, str]

RESTORED, RELOADED, HIDDEN, UNREADABLE = "backup restored", "reload", "rows hidden", "keys unreadable"
"""What the judge calls these upheavals."""


class Outsiders:
    """People and programs that write to both sides and know nothing of syncd.

    Args:
        shop: Whose sides they write. Both know the same orders.
        log: The log of those sides.
        orders: How many orders that are, from the link's first one on; new ones get the numbers after them.
        seed: Of what they do.
    """

    def __init__(self, shop: LinkPart, log: SidesLog, orders: int, seed: int) -> None:
        self.happened: Counter[str] = Counter()
        self._again = AGAIN
        self._is_resting = False
        self._shop, self._log = shop, log
        self._dice = random.Random(seed)
        self._orders = orders
        self._fresh = itertools.count(100_000)
        self._next = itertools.count(shop.first + orders)
        self._early = itertools.count(shop.first + UNKNOWN)
        self._known = [*range(shop.first, shop.first + orders)]
        self._past: defaultdict[int, list[int]] = defaultdict(list)
        self._due: dict[Side, deque[int]] = {Side.CRM: deque(maxlen=9), Side.TABLE: deque(maxlen=orders // 2)}
        self._coming: list[ROW] = []
        self._hidden: list[ROW] = []
        self._broken: list[int] = []
        self._unborn: list[int] = []
        self._left_out: set[int] = set()
        self._to_come = 0
        shop.portal.before_call(self._note_read)
        self._leave_out_of_lists()

    def _note_read(self, method: str, params: PhpArray, _request: int) -> None:
        asked = params.get("filter", {}) if method == LIST else {}
        if "@orderId" in asked:
            self._due[Side.CRM].extend(one for one in map(int, asked["@orderId"].values()) if one in self._shop.orders)
        elif ">orderId" in asked and self._to_come:
            self._to_come -= 1
            (order,) = self._new_orders(1, 1)
            self._shop.portal.bind(order, DEAL, next(self._fresh))
            self.happened["bound during a listing"] += 1

    # ---------------------------------------------------------------- their edits

    def make_changes(self, held: Collection[int]) -> None:
        """Add, move and remove orders that are in step, on either side; held ones are left alone."""
        with self._log.table() as connection:
            crm, table = self._shop.crm(), readable(connection)
            alike = [order for order in crm if crm[order] == table.get(order) and order not in held]
            free = [order for order in self._known if order not in crm.keys() | table.keys() | set(held)]
            for orders in (alike, free):
                self._dice.shuffle(orders)
            for side in Side:
                for kind, share in SHARES.items():
                    adds = kind == "add"
                    if adds:
                        free += self._new_orders(ROOM * self._orders - len(crm), share)
                    chosen = free if adds else alike
                    for _ in range(min(round(share * self._orders), len(chosen))):
                        order = chosen.pop()
                        self._edit(side, order, None if adds else crm[order], connection, remove=kind == "remove")
                        self._due[side.other].append(order)
                        self.happened["edits before a pass"] += 1

    @contextmanager
    def at_work(self, pause: float) -> Iterator[None]:
        """Edit one order after the other, on either side, for the time of the block; a reload goes on meanwhile."""
        stop, failures = threading.Event(), []

        def work() -> None:
            try:
                for number in itertools.count():
                    if stop.wait(pause):
                        return
                    self.bring_back(1)
                    if number < MOST * len(self._known) and not self._is_resting:
                        self._edit_one(self._dice.choice(list(Side)))
            except BaseException as error:  # noqa: BLE001 - raised in the test's own thread
                failures.append(error)

        thread = threading.Thread(target=work, name="outsiders")
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(LIMIT)
            assert not thread.is_alive(), "an edit of the outsiders never ends"
        if failures:
            raise failures[0]

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Make no edits while a pass is at work, for the time of the block."""
        self._is_resting = True
        try:
            yield
        finally:
            self._is_resting = False

    def _edit_one(self, side: Side) -> None:
        aimed = bool(self._due[side]) and self._dice.random() < AIMED
        order = self._dice.choice(self._due[side] if aimed else self._known)
        with self._log.table() as connection:
            row = connection.execute("SELECT deal_id, channel FROM bindings WHERE order_id = ?", (order,)).fetchone()
            if row is not None and row[1] != "web":
                return
            crm, table = self._crm(order), row[0] if row else None
            if aimed and side is Side.CRM and crm is None and table is not None:
                self._bind_for_a_moment(order)
            elif aimed or crm == table or self._dice.random() < ASTRAY:
                there = crm if side is Side.CRM else table
                self._edit(side, order, there, connection, remove=self._dice.random() < 0.25)
                self.happened["edits during a pass"] += 1

    def _bind_for_a_moment(self, order: int) -> None:
        """Bind an order whose remove may wait for its second look, and unbind it before anybody looks."""
        self._shop.portal.bind(order, DEAL, self._value(order, None))
        self._shop.portal.unbind(order)
        self.happened["bound for a moment"] += 1

    def _edit(self, side: Side, order: int, there: int | None, connection: sqlite3.Connection, *, remove: bool) -> None:
        value = None if remove and there is not None else self._value(order, there)
        if side is Side.TABLE and there is not None and value is not None and self._dice.random() < REINSERTED:
            connection.execute(DROP, (order,))
            connection.execute(PUT, (order, there))
            self.happened["rows inserted anew"] += 1
        elif side is Side.TABLE:
            connection.execute(*((DROP, (order,)) if value is None else (PUT, (order, value))))
        elif value is None:
            self._shop.portal.unbind(order)
        else:
            self._shop.portal.bind(order, DEAL, value)

    def _value(self, order: int, there: int | None) -> int:
        """Return what they set an order to: a new deal, or one that it had before."""
        past = self._past[order]
        if there and there not in past:
            past.append(there)
        old = [deal for deal in past if deal != there]
        if old and self._dice.random() < self._again:
            self.happened["set again"] += 1
            return self._dice.choice(old)
        past.append(next(self._fresh))
        return past[-1]

    def _crm(self, order: int) -> int | None:
        owner = self._shop.portal.table.owners.get(order)
        return None if owner is None else owner[1]

    def _new_orders(self, room: float, share: float) -> list[int]:
        """Return orders that were never bound, as far as there is room for them."""
        new = [next(self._next) for _ in range(round(min(room, share * self._orders)))]
        self._known += new
        return new

    def write_early(self) -> None:
        """Write rows of orders that the portal does not know yet."""
        orders = [next(self._early) for _ in range(2)]
        with self._log.table() as connection:
            connection.executemany(PUT, [(order, next(self._fresh)) for order in orders])
        self._unborn += orders
        self.happened["rows before their orders"] += len(orders)

    def make_orders(self) -> None:
        """Make the orders whose rows were there before them."""
        for order in self._unborn:
            self._shop.portal.add_order(order)
        self._unborn.clear()

    # ------------------------------------------------------------------- upheavals

    @property
    def rows_are_away(self) -> bool:
        """Whether rows are missing that will come back."""
        return bool(self._coming or self._hidden)

    @property
    def keys_are_broken(self) -> bool:
        """Whether the table has rows without a readable order id."""
        return bool(self._broken)

    def reload(self) -> None:
        """Empty the table; its rows come back in small transactions."""
        with self._log.table(RELOADED) as connection:
            self._coming += connection.execute(ROWS + " WHERE typeof(order_id) = 'integer'").fetchall()
            connection.execute("DELETE FROM bindings WHERE typeof(order_id) = 'integer'")
        self.happened["reloads"] += 1

    def bring_back(self, percent: int) -> None:
        """Commit the next rows of a reload; one whose order was written anew meanwhile stays away."""
        if self._coming:
            number = max(1, len(self._known) * percent // 100)
            self._put_back(RELOADED, self._coming[:number])
            del self._coming[:number]
            self.happened["parts of reloads"] += 1

    def hide(self) -> None:
        """Take some rows away, which no person asked for."""
        orders = self._some(0.02)
        with self._log.table(HIDDEN) as connection:
            for order in orders:
                self._hidden += connection.execute(ROWS + " WHERE order_id = ?", (order,)).fetchall()
                connection.execute(DROP, (order,))
        self.happened["rows hidden"] += len(orders)

    def show(self) -> None:
        """Hidden rows, and those that a reload still has to bring, are there again."""
        self._put_back(HIDDEN, self._hidden)
        self._hidden.clear()
        while self._coming:
            self.bring_back(10)

    def deselect(self) -> None:
        """Take some rows out of what `where` selects."""
        orders = self._some(0.02)
        with self._log.table() as connection:
            connection.executemany(
                "UPDATE bindings SET channel = 'shop' WHERE order_id = ?", [(order,) for order in orders]
            )
        self.happened["rows no longer selected"] += len(orders)

    def select(self) -> None:
        """Take them in again."""
        with self._log.table() as connection:
            connection.execute("UPDATE bindings SET channel = 'web' WHERE channel <> 'web'")

    def break_keys(self) -> None:
        """Give some rows keys that are not order ids."""
        orders = self._some(0.02)
        with self._log.table(UNREADABLE) as connection:
            for order in orders:
                connection.execute("UPDATE bindings SET order_id = 'A-' || order_id WHERE order_id = ?", (order,))
        self._broken += orders
        self.happened["keys broken"] += len(orders)

    def mend_keys(self) -> None:
        """Give them their own keys again; a row whose order was written anew meanwhile is thrown away."""
        with self._log.table(UNREADABLE) as connection:
            for order in self._broken:
                key = (f"A-{order}",)
                if connection.execute("SELECT 1 FROM bindings WHERE order_id = ?", (order,)).fetchone():
                    connection.execute(DROP, key)
                connection.execute(f"UPDATE bindings SET order_id = {order} WHERE order_id = ?", key)
        self._broken.clear()

    # -------------------------------------------------------------- odd sides

    def bind_all_along(self) -> None:
        """Bind new orders while the next passes list the portal."""
        self._to_come = STREAM

    def make_odd(self) -> None:
        """Some bindings of the portal name no deal."""
        for order in self._dice.sample(sorted(self._shop.crm()), 3):
            self._shop.portal.bind(order, DEAL, ODD)
            self.happened["portal rows without an owner"] += 1

    def leave_out(self) -> None:
        """The portal's list leaves out some orders, which it shows when it is asked for them."""
        self._left_out |= set(self._dice.sample(sorted(self._shop.crm()), 2))
        self.happened["orders left out of the list"] += 2

    def _leave_out_of_lists(self) -> None:
        bindings = self._shop.portal.table
        select = bindings.select

        def selected(query: ListQuery) -> Selection:
            found = select(query)
            by_id = any(one.op is Op.EQUAL for one in query.conditions)
            if by_id or not self._left_out:
                return found
            ids = [order for order in found.page(0, None) if order not in self._left_out]
            return Selection(ids, 0, len(ids))

        bindings.select = selected  # type: ignore[method-assign]

    def pull_triggers(self) -> None:
        """From now on, a trigger of the table undoes or rewrites the row of one order where syncd writes another one's.

        Both are orders that were just edited in the portal, so that one batch writes them.
        """
        latest = [*self._due[Side.TABLE]][-round(sum(SHARES.values()) * self._orders) :]
        crm = self._shop.crm()
        moved = [order for order in latest if order in crm.keys() & self.copy(Side.TABLE).keys()]
        for number, (order, other) in enumerate(zip(moved[:8:2], moved[1:8:2], strict=False)):
            self.pull(order, other, next(self._fresh) if number % 2 else None)

    def pull(self, order: int, other: int, deal: int | None = None) -> None:
        """From now on, where syncd writes an order's row, a trigger deletes the row of another one, or gives it a deal."""
        with self._log.table() as connection:
            connection.execute("INSERT INTO pulls VALUES (?, ?, ?)", (order, other, deal))
        self.happened["triggers that rewrite" if deal else "triggers that undo"] += 1

    def make_even(self) -> None:
        """All rows name a deal, the list shows every order, and the triggers are dropped."""
        self._left_out.clear()
        self._to_come = 0
        for order, deal in self._shop.crm().items():
            if deal == ODD:
                self._shop.portal.bind(order, DEAL, self._value(order, None))
        with self._log.table() as connection:
            connection.execute("DELETE FROM pulls")

    def copy(self, side: Side) -> dict[int, int]:
        """Return a backup of a side."""
        if side is Side.CRM:
            return {order: deal for order, deal in self._shop.crm().items() if deal != ODD}
        with self._log.table() as connection:
            return readable(connection)

    def restore(self, side: Side, backup: dict[int, int]) -> None:
        """Put a backup back: each order says what it said then."""
        if side is Side.TABLE:
            with self._log.table(RESTORED) as connection:
                there = readable(connection)
                connection.executemany(DROP, [(order,) for order in there.keys() - backup.keys()])
                connection.executemany(PUT, backup.items() - there.items())
        else:
            self._log.kind = RESTORED
            there = self._shop.crm()
            for order in there.keys() - backup.keys():
                self._shop.portal.unbind(order)
            for order, deal in backup.items() - there.items():
                self._shop.portal.bind(order, DEAL, deal)
            self._log.kind = EDIT
        self.happened[f"{side.value} restored"] += 1

    def set_old_values(self) -> None:
        """From now on, many edits set what an order had before."""
        self._again = OFTEN_AGAIN

    def mend(self) -> None:
        """Nothing is away, unreadable, unselected or unknown any more, and most edits set new values."""
        self._again = AGAIN
        self.show()
        self.select()
        self.mend_keys()
        self.make_orders()
        self.make_even()

    def _some(self, share: float) -> list[int]:
        with self._log.table() as connection:
            there = sorted(readable(connection))
        return self._dice.sample(there, min(len(there), max(3, round(share * len(self._known)))))

    def _put_back(self, kind: str, rows: Collection[ROW]) -> None:
        with self._log.table(kind) as connection:
            connection.executemany("INSERT OR IGNORE INTO bindings VALUES (?, ?, ?)", rows)


def readable(connection: sqlite3.Connection) -> dict[int, int]:
    """Return what the table says of each order that syncd may read."""
    query = "SELECT order_id, deal_id FROM bindings WHERE typeof(order_id) = 'integer' AND channel = 'web'"
    return dict(connection.execute(query).fetchall())
