"""What ordinary life does to a link, and no single edit is: more lines for scenarios of lives (sync-rules.md, "Ordinary life").

backup                   both sides and the state database are copied; `restore table 2`: the table is again what it was
                         at the latest but one of the copies; likewise `restore crm`, `restore state`
forget                   the state database is lost, and with it what was noted beside it; syncd begins with a new one
reload                   all rows of the table are gone, and come back one after the other: `loaded 3`, three of them
hide 5 7                 rows that the database shows to nobody, not even by id; `unhide`: it shows them again
unkey 5                  the order's row has a key that cannot be read; `clash 5 7`: it has the key of order 7
rekey                    all such keys are mended
trigger 5 7              from now on, when syncd writes the row of order 5, a trigger of the table's deletes the row of
                         order 7 (`trigger 5 7=1007` sets it)
early 50=1007            the table knows an order before the portal does; `born 50`: now the portal does, too
childless 5              the table takes no row of the order, since another row that it needs is not there yet; `parent 5`
stream 3                 during the portal's next listing somebody binds a new order after each chunk, three times
even 5                   the portal shows the order's owner again, after `odd 5`
mart 5=77                somebody binds an order of another link, whose state is in the same database, and that link has a pass
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any, NamedTuple

from syncd.core.model import MaybeOwner, Owner
from syncd.core.ports import Write
from tests.fakes.high_water import MemoryMark
from tests.fakes.link import SecondLink
from tests.fakes.store import MemoryStore
from tests.fakes.table import FakeRow
from tests.simulation.others import Others
from tests.simulation.scenario import Line, Scenario

KINDS = {
    "restore": "backup restored", "reload": "reload", "loaded": "reload", "hide": "rows hidden", "unhide": "rows hidden",
    "unkey": "keys unreadable", "clash": "keys unreadable", "rekey": "keys unreadable",
}  # fmt: skip
"""The verbs that are upheavals, and what the judge calls them."""


NOT_STORED = {"_clock"}
"""What a store keeps that no backup of it has."""


class Copy(NamedTuple):
    """Both sides and the state at one moment, pickled since few are put back.

    at: How much had been written by then; late: what was under way.
    """

    crm: dict[int, Owner]
    table: bytes
    state: bytes
    at: int
    late: Sequence[Sequence[Write]]


class Upheavals(Others):
    """See the module.

    Args:
        scenario: The lines.
    """

    def __init__(self, scenario: Scenario) -> None:
        super().__init__(scenario)
        self.copies: list[Copy] = []
        self.unborn: set[int] = set()
        self.childless: set[int] = set()
        self.broken_keys: dict[int, FakeRow] = {}
        self.new_orders: Iterator[int] = count(1001)
        self._coming: list[FakeRow] = []
        self._hidden: list[FakeRow] = []
        self._triggers: dict[int, list[tuple[int, MaybeOwner]]] = {}
        self._streams = 0
        self.mart = SecondLink(self.world.clock)
        self.world.options["high_water"] = MemoryMark()
        self._let_others_bind_during_a_listing()

    # ------------------------------------------------------------------ for a life

    def shaken(self, work: Callable[[], object], kind: str) -> None:
        """Something happens to a side that nobody asked for."""
        self.look()
        work()
        self.look()

    def broke(self, promise: int, sentence: str) -> None:
        """Note a promise that was not kept."""
        raise AssertionError(f"{sentence} (property {promise})")

    def written(self) -> int:
        """Return how much has been written on both sides so far."""
        return 0

    def state_went_back(self, at: int, late: Sequence[Write]) -> None:
        """The state database is that of an earlier moment, when so much had been written.

        `late` is under way, and was not by then: no journal has it.
        """

    def state_is_gone(self, late: Sequence[Write]) -> None:
        """There is a new, empty state database; `late` is under way, and no journal has it."""

    def mend(self) -> None:
        super().mend()
        self._streams = 0
        self._triggers.clear()
        self.world.table.trigger = None
        self.world.portal.odd.clear()
        self.world.portal.missing_orders -= self.unborn
        for order in self.childless:
            self.world.table.accept(order)
        for work, kind in ((self._come_back, "rows hidden"), (self._mend_keys, "keys unreadable")):
            self.shaken(work, kind)

    @property
    def away(self) -> int:
        """How many rows a reload still has to bring."""
        return len(self._coming)

    # --------------------------------------------------------------------- backups

    async def _backup(self, _line: Line) -> None:
        world = self.world
        rows = pickle.dumps(world.table.stored)
        state = pickle.dumps({name: value for name, value in vars(world.store).items() if name not in NOT_STORED})
        late = [batch for _, batch in world.portal.late]
        self.copies.append(Copy(dict(world.portal.bindings), rows, state, self.written(), late))

    async def _restore(self, line: Line) -> None:
        what, back = line.words[0], int(line.words[1])
        if back > len(self.copies):
            return
        saved = self.copies[-back]
        if what == "crm":
            self.world.portal.bindings = dict(saved.crm)
        elif what == "table":
            self._coming, self._hidden = [], []
            self.broken_keys = {}
            self.world.table.stored = pickle.loads(saved.table)
        else:
            vars(self.world.store).update(pickle.loads(saved.state))
            self.state_went_back(saved.at, self._under_way(saved.late))

    async def _forget(self, _line: Line) -> None:
        fresh = vars(MemoryStore(self.world.clock))
        for name in fresh.keys() - NOT_STORED:
            setattr(self.world.store, name, fresh[name])
        self.world.options["high_water"] = MemoryMark()
        self.state_is_gone(self._under_way())

    def _under_way(self, known: Sequence[Sequence[Write]] = ()) -> list[Write]:
        """Return the writes of the requests that are still to be executed, but for those that are known."""
        late = [batch for _, batch in self.world.portal.late if not any(batch is one for one in known)]
        return [write for batch in late for write in batch]

    # ------------------------------------------------------------------------ rows

    async def _reload(self, _line: Line) -> None:
        self._coming += self.world.table.stored
        self.world.table.stored = []

    async def _loaded(self, line: Line) -> None:
        number = int(line.words[0])
        rows, self._coming = self._coming[:number], self._coming[number:]
        self._put_back(rows)

    async def _hide(self, line: Line) -> None:
        orders = set(map(int, line.words))
        self._hidden += [row for row in self.world.table.stored if row.order_id in orders]
        self.world.table.stored = [row for row in self.world.table.stored if row.order_id not in orders]

    async def _unhide(self, _line: Line) -> None:
        self._come_back()

    def _come_back(self) -> None:
        rows, self._coming, self._hidden = [*self._coming, *self._hidden], [], []
        self._put_back(rows)

    def _put_back(self, rows: list[FakeRow]) -> None:
        """A row whose order has been written anew meanwhile stays away, as a reload that meets a unique key leaves it."""
        there = {row.order_id for row in self.world.table.stored}
        self.world.table.stored += [row for row in rows if row.order_id not in there]

    async def _unkey(self, line: Line) -> None:
        self._rename(int(line.words[0]), f"A-{line.words[0]}")

    async def _clash(self, line: Line) -> None:
        self._rename(int(line.words[0]), int(line.words[1]))

    def _rename(self, order: int, key: object) -> None:
        row = next((row for row in self.world.table.stored if row.order_id == order), None)
        if row is not None and order not in self.broken_keys:
            row.order_id = key
            self.broken_keys[order] = row

    async def _rekey(self, _line: Line) -> None:
        self._mend_keys()

    def _mend_keys(self) -> None:
        there = {row.order_id for row in self.world.table.stored}
        for order, row in self.broken_keys.items():
            if order in there:
                self.world.table.stored = [one for one in self.world.table.stored if one is not row]
            row.order_id = order
        self.broken_keys.clear()

    # -------------------------------------------------------------------- triggers

    async def _trigger(self, line: Line) -> None:
        word = line.words[1] if "=" in line.words[1] else f"{line.words[1]}=-"
        ((order, value),) = Line(0, "", (word,)).edits().items()
        self._triggers.setdefault(int(line.words[0]), []).append((order, None if value is None else Owner(*value)))
        self.world.table.trigger = self._pull_triggers

    def _pull_triggers(self, write: Write) -> None:
        """Within a transaction, which may be rolled back: nobody hears of it before it is over."""
        table = self.world.table
        for order, value in self._triggers.get(write.order_id, ()):
            row = next((row for row in table.stored if row.order_id == order), None)
            if row is not None and value is None:
                table.drop(order)
            elif row is not None and value is not None:
                row.owner_type, row.owner_id = value

    # ----------------------------------------------------------- what comes early

    async def _early(self, line: Line) -> None:
        unknown = line.edits().keys() - self.world.portal.bindings.keys()
        self.world.portal.missing_orders |= unknown
        self.unborn |= unknown
        await self._table(line)

    async def _even(self, line: Line) -> None:
        self.world.portal.odd.pop(int(line.words[0]), None)

    async def _born(self, line: Line) -> None:
        self.world.portal.missing_orders.discard(int(line.words[0]))

    async def _childless(self, line: Line) -> None:
        self.childless.add(int(line.words[0]))
        self.world.table.refuse(int(line.words[0]), "23503", "violates foreign key constraint")

    async def _parent(self, line: Line) -> None:
        self.world.table.accept(int(line.words[0]))

    # ------------------------------------------------------------------ the portal

    async def _stream(self, line: Line) -> None:
        self._streams = int(line.words[0])

    def _let_others_bind_during_a_listing(self) -> None:
        listing = self.world.portal.listing

        async def streaming(*args: Any) -> Any:
            async for rows in listing(*args):
                if self._streams:
                    self._streams -= 1
                    self.look()
                    order = next(self.new_orders)
                    self.world.portal.bind(order, Owner(2, 10**9 + order))
                    self.look()
                yield rows

        self.world.portal.listing = streaming  # type: ignore[method-assign]

    # ------------------------------------------------------------ the other link

    async def _mart(self, line: Line) -> None:
        """Not an act of this link: but both share a state database, and neither may see the other's."""
        portal = self.mart.crm
        for order, value in line.edits().items():
            portal.bindings.pop(order, None)
            if value is not None:
                portal.bind(order, Owner(*value))
        if wrong := await self.mart.reconcile(self.world.store):
            self.broke(31, wrong)


__all__ = ["KINDS", "Upheavals"]
