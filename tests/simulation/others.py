"""What others do to a link's sides while it lives, and what goes wrong there: more lines for scenarios of lives.

crm / table 5=1007@31    somebody binds an order to an object of a type that is out of scope
overtake crm 1007        somebody binds an order of the next write batch elsewhere, right before it is executed (`-`:
                         unbinds it); likewise `overtake table 1007`
delete 5                 somebody deletes an order in the portal
nowhere 5=1007           somebody sets the row to a deal that does not exist; `somebody 1007`: by now it does
wipe                     all rows of the table are gone
lose halfway             the answer to the next write of the portal is lost, half of it executed
lose table before|after  likewise the answer to the next write of the table
away table.read          the next such call fails, without an effect; `denied`: the next write for a missing right
hint 5 7                 somebody says that these orders have changed; `watch`: the table's watch says it of all that have
link settle=5            after a lost answer, progress is looked for after so many seconds (else 60: a request's life)
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterator, Sequence
from typing import Any

from syncd.core.model import Owner, Side
from syncd.core.order_ranges import OrderRanges
from syncd.core.ports import Write, WriteResult
from syncd.daemon.triggers import PendingHints
from syncd.errors import UnavailableError
from tests.fakes.portal import Surprise
from tests.simulation.scenario import Line, Scenario
from tests.simulation.world import Play


class AllBut:
    """Every owner there is, but some."""

    def __init__(self) -> None:
        self.missing: set[Owner] = set()

    def __contains__(self, owner: object) -> bool:
        return owner not in self.missing

    def __iter__(self) -> Iterator[Owner]:
        raise TypeError("they are too many")

    def __len__(self) -> int:
        return 10**9


class Others(Play):
    """What others do to both sides, and what goes wrong there.

    Args:
        scenario: The lines.
    """

    def __init__(self, scenario: Scenario) -> None:
        super().__init__(scenario)
        self.world.settle = 60.0
        self.owners = AllBut()
        self.world.portal.owners = self.owners
        self._overtakes: dict[Side, list[str]] = {side: [] for side in Side}
        self._hints = PendingHints()
        self._watched: dict[int, Owner] = {}
        self._let_others_run_ahead()

    def look(self) -> None:
        """Somebody is about to change a side, or has just done so."""

    def mend(self) -> None:
        """Nothing goes wrong from now on, but for orders that the portal refuses."""
        portal = self.world.portal
        for faults in (portal.script, portal.delays, portal.listings, portal.reads):
            faults.clear()
        for overtakes in self._overtakes.values():
            overtakes.clear()
        self.world.table.mend()
        self.world.portal.omitted.clear()
        self.world.table.stored = [row for row in self.world.table.stored if row.order_id is not None]

    def _let_others_run_ahead(self) -> None:
        """Let an edit come right before a write, on either side."""
        portal, table = self.world.portal, self.world.table
        write = table.write

        async def write_table(batch: Sequence[Write]) -> list[WriteResult]:
            self._run_ahead(Side.TABLE, batch)
            return await write(batch)

        table.write = write_table  # type: ignore[method-assign]
        portal.before_write = lambda batch: self._run_ahead(Side.CRM, batch)

    def _run_ahead(self, side: Side, batch: Sequence[Write]) -> None:
        values, self._overtakes[side] = self._overtakes[side], []
        for order, value in zip((write.order_id for write in batch), values, strict=False):
            self.look()
            at_once(self._do(Line(0, side.value, (f"{order}={value}",)), None))
            self.look()

    async def _overtake(self, line: Line) -> None:
        self._overtakes[Side(line.words[0])].append(line.words[1])

    async def _link(self, line: Line) -> None:
        settle = [word for word in line.words if word.startswith("settle=")]
        self.world.settle = float(settle[0].partition("=")[2]) if settle else 60.0
        await super()._link(Line(line.number, line.verb, tuple(word for word in line.words if word not in settle)))

    async def _hint(self, line: Line) -> None:
        self._hints.add(set(map(int, line.words)))

    async def _watch(self, _line: Line) -> None:
        """Rows that are gone, or cannot be read, are not found."""
        there = self.world.table.bindings
        self._hints.add({order for order, owner in there.items() if self._watched.get(order) != owner})
        self._watched = there

    def take_hints(self) -> OrderRanges:
        """Return the orders that somebody hinted at since the last such pass, and forget them."""
        orders, _all = self._hints.peek()
        self._hints.take()
        self._hints.forget_taken()
        return orders

    async def _crm(self, line: Line) -> None:
        self.world.portal.missing_orders -= line.edits().keys()
        await super()._crm(line)

    async def _delete(self, line: Line) -> None:
        self.world.portal.delete_order(int(line.words[0]))

    async def _nowhere(self, line: Line) -> None:
        self.owners.missing |= {Owner(*value) for value in line.edits().values() if value is not None}
        await self._table(line)

    async def _somebody(self, line: Line) -> None:
        self.owners.missing.discard(Owner(2, int(line.words[0])))

    async def _wipe(self, _line: Line) -> None:
        self.world.table.stored.clear()

    async def _heal(self, _line: Line) -> None:
        self.world.portal.poisoned.clear()

    async def _lose(self, line: Line) -> None:
        if line.words[0] == "table":
            self.world.table.lose(applied=line.words[1] == "after")
        else:
            self.world.portal.script.append(Surprise(f"lost-{line.words[0]}"))

    async def _away(self, line: Line) -> None:
        part, call = line.words[0].split(".")
        portal = self.world.portal
        if part == "table":
            self.world.table.fail(call, UnavailableError("The table of the simulation is away."))
        else:
            {"listing": portal.listings, "read": portal.reads, "write": portal.script}[call].append(
                Surprise.UNAVAILABLE
            )

    async def _denied(self, _line: Line) -> None:
        self.world.portal.script.append(Surprise.DENIED)


def at_once(work: Coroutine[Any, Any, Any]) -> None:
    """Run what waits for nothing, as all that others do in this world."""
    try:
        work.send(None)
    except StopIteration:
        return
    work.close()
