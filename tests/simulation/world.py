"""One link in a world of fakes: both sides, the state database, and as many processes as a test wants, each mortal."""

from __future__ import annotations

import pickle
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from syncd.core.guards import GuardLimits
from syncd.core.model import Direction, HoldKind, MaybeOwner, OnConflict, Owner, Policy, Scope, Unreadable
from syncd.core.ports import Listed, Portal, Table, Usage, Write
from syncd.core.store import Store
from syncd.engine import reconcile as engine
from syncd.engine.link import Link
from syncd.engine.report import Report
from syncd.errors import LeaseLost, StalePlan
from tests.fakes.clock import SetClock
from tests.fakes.link import FREE, make_link
from tests.fakes.portal import FakePortal, Surprise
from tests.fakes.store import MemoryStore
from tests.fakes.table import FakeTable
from tests.simulation.crash import Crash, Mortal, Steps
from tests.simulation.scenario import Line, Scenario, Value


def owner(value: Value) -> MaybeOwner:
    return None if value is None else Owner(*value)


class WorldPortal(FakePortal):
    """A portal whose next listing may leave orders out (`omitted`)."""

    def __init__(self) -> None:
        super().__init__()
        self.omitted: set[int] = set()

    async def listing(self, *args: Any) -> AsyncIterator[Listed]:
        omitted, self.omitted = self.omitted, set()
        async for listed in super().listing(*args):
            yield listed._replace(rows=[row for row in listed.rows if row.order_id not in omitted])


class WorldClock(SetClock):
    """A clock that takes the portal along: what was lost but alive is executed a second later, or when it is said."""

    def __init__(self, portal: FakePortal) -> None:
        super().__init__()
        self._portal = portal

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds)
        if seconds >= 1:
            self._portal.settle(seconds)


@dataclass
class World:
    """Both sides and the state, with the processes that work on them.

    Args:
        policy: How the link decides.
        limits: The guards.
        options: More of what `Link` takes, for every process.
    """

    policy: Policy = field(
        default_factory=lambda: Policy(Direction.TWO_WAY, OnConflict.HOLD, Scope(frozenset({2, 128})))
    )
    limits: GuardLimits = FREE
    request_life: float = 60.0
    settle: float = 5.0
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.portal = WorldPortal()
        self.clock = WorldClock(self.portal)
        self.table = FakeTable()
        self.store = MemoryStore(self.clock)
        self.processes = 0
        self.races: list[tuple[int, Value]] = []
        self.afterwards: list[tuple[int, Value]] = []
        self.zombies = False
        self.last_plan = 0
        self.last_pass = 0
        self.portal.before_write = self._race
        self.portal.after_write = self._afterwards

    def link(self, steps: Steps | None = None) -> Link:
        """A new process's view of the link."""
        self.processes += 1
        steps = steps or Steps()
        portal: Portal = self.portal
        table: Table = self.table
        store: Store = self.store
        plain: dict[str, Any] = {
            "policy": self.policy,
            "limits": self.limits,
            "holder": f"host:{self.processes}",
            "request_life": self.request_life,
            "settle": self.settle,
        }
        return make_link(
            Mortal(portal, "portal", steps),
            Mortal(table, "table", steps),
            Mortal(store, "store", steps),
            self.clock,
            **(plain | self.options),
        )

    async def reconcile(self, steps: Steps | None = None) -> Report:
        """One pass by a new process; if it dies of `steps`, its lease may be taken over."""
        link = self.link(steps)
        try:
            return await engine.reconcile(link)
        except Crash:
            self.store.bury(link.holder)
            raise

    def edit_crm(self, order: int, value: Value) -> None:
        if value is None:
            self.portal.unbind(order)
        else:
            self.portal.bind(order, Owner(*value))

    def edit_table(self, order: int, value: Value) -> None:
        if value is None:
            self.table.drop(order)
        else:
            self.table.put(order, *value)

    async def agreed(self, order: int) -> MaybeOwner:
        row = await self.store.find_link("shop")
        assert row is not None
        for binding in await self.store.bindings(row.id, order - 1, order):
            return None if binding.agreed_id is None else Owner(binding.agreed_type or 0, binding.agreed_id)
        return None

    async def held(self) -> dict[int, str]:
        row = await self.store.find_link("shop")
        return {} if row is None else {one.hold.order_id: one.hold.kind.value for one in await self.store.holds(row.id)}

    async def check_healed(self) -> None:
        """No write is in doubt any more, and no run is open."""
        row = await self.store.find_link("shop")
        assert row is not None
        assert await self.store.open_intents(row.id) == []
        assert "running" not in {run.state for run in await self.store.runs("shop", 1000)}

    def _race(self, _batch: Sequence[Write]) -> None:
        races, self.races = self.races, []
        for order, value in races:
            self.edit_crm(order, value)

    def _afterwards(self, _batch: Sequence[Write]) -> None:
        edits, self.afterwards = self.afterwards, []
        for order, value in edits:
            self.edit_crm(order, value)


class Play:
    """Plays a scenario in a world, step by step; a crash can be survived by playing the same step again.

    Outside events happen once; only what syncd was doing is done again.
    """

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.world = World()
        self.began = self.world.clock.time
        self.next = 0
        self.during: list[tuple[str, str, int, Value]] = []
        self.last: Report | None = None
        self.before_apply: list[tuple[dict[int, Owner], dict[int, Owner]]] = []

    async def run(self, steps: Steps | None = None) -> None:
        while self.next < len(self.scenario.steps):
            line = self.scenario.steps[self.next]
            await self._do(line, steps)
            self.next += 1

    def copied(self) -> bytes:
        """Return the play and its world as they are now, but for the traffic they count."""
        portal, table = self.world.portal, self.world.table
        usage, portal._usage = portal._usage, Usage()
        calls, table.calls = table.calls, []
        try:
            return pickle.dumps(self)
        finally:
            portal._usage, table.calls = usage, calls

    async def _do(self, line: Line, steps: Steps | None) -> None:
        if line.verb in {"pass", "plan", "undo", "apply"}:
            await self._syncd(line, None if "safely" in line.words else steps)
            return
        tell = getattr(self, f"_{line.verb}", None)
        if tell is None:
            raise ValueError(f"{self.scenario.name}:{line.number}: unknown verb {line.verb}")
        await tell(line)

    def bury(self) -> None:
        """The process that was at work is dead."""
        self.world.store.bury(f"host:{self.world.processes}")

    async def _syncd(self, line: Line, steps: Steps | None) -> None:
        world = self.world
        steps = steps or Steps()
        steps.meanwhile = self._meanwhile
        if line.verb == "pass":
            self.last = await world.reconcile(steps)
            world.last_pass = self.last.row.id
        elif line.verb == "plan":
            world.last_plan = (await self._as_process(engine.plan, steps)).row.id
        elif line.verb == "undo":
            world.last_plan = (await self._as_process(engine.undo, steps, world.last_pass)).row.id
        elif "stale" in line.words:
            asked = world.portal.usage().calls
            with suppress(StalePlan):
                await self._as_process(engine.apply, None, world.last_pass if "pass" in line.words else world.last_plan)
                raise AssertionError(f"{self.scenario.name}:{line.number}: the plan was applied")
            assert world.portal.usage().calls == asked, f"{self.scenario.name}:{line.number}: it was found stale late"
        else:
            self.before_apply = [(dict(world.portal.bindings), dict(world.table.bindings))]
            run = world.last_pass if "refused" in line.words else world.last_plan
            await self._as_process(engine.apply, steps, run)

    def _meanwhile(self, step: str) -> None:
        """What others do right before a call."""
        for one in self.during:
            call, side, order, value = one
            if step == f"{call} before":
                self.during.remove(one)
                (self.world.edit_crm if side == "crm" else self.world.edit_table)(order, value)
                return

    async def _during(self, line: Line) -> None:
        self.during += [(line.words[0], line.words[1], order, value) for order, value in line.edits(2).items()]

    async def _now(self, line: Line) -> None:
        await self._stands(line)

    async def _die(self, line: Line) -> None:
        steps = Steps()
        steps.meanwhile = lambda name: steps.die(name) if name == f"{line.words[0]} after" else None
        with suppress(Crash):
            if "apply" in line.words:
                await self._as_process(engine.apply, steps, self.world.last_plan)
            else:
                await self.world.reconcile(steps)
            raise AssertionError(f"{self.scenario.name}:{line.number}: there was no such call")

    async def _robbed(self, line: Line) -> None:
        world, steps = self.world, Steps()
        link = world.link(steps)

        def rob(name: str) -> None:
            if name == f"{line.words[0]} before":
                world.store.rob("shop")

        steps.meanwhile = rob
        report = await engine.reconcile(link)
        assert report.exit_code == LeaseLost.exit_code, f"{self.scenario.name}:{line.number}: the lease was not missed"

    async def _double(self, line: Line) -> None:
        self.world.table.add(int(line.words[0]), 2, 999)

    async def _single(self, line: Line) -> None:
        rows = [row for row in self.world.table.stored if row.order_id == int(line.words[0])]
        self.world.table.stored = [row for row in self.world.table.stored if row not in rows[1:]]

    async def _garble(self, line: Line) -> None:
        self.world.table.put(int(line.words[0]), 2, None)

    async def _nameless(self, _line: Line) -> None:
        self.world.table.add(None, 2, 999)

    async def _deselect(self, line: Line) -> None:
        for row in self.world.table.stored:
            if row.order_id == int(line.words[0]):
                row.selected = line.verb == "select"

    _select = _deselect

    async def _poison(self, line: Line) -> None:
        self.world.portal.poisoned[int(line.words[0])] = ("100", "no")

    async def _heal(self, line: Line) -> None:
        del self.world.portal.poisoned[int(line.words[0])]

    async def _omit(self, line: Line) -> None:
        self.world.portal.omitted = set(map(int, line.words))

    async def _incomplete(self, _line: Line) -> None:
        self.world.portal.listings.append(Surprise.INCOMPLETE)

    async def _ends(self, line: Line) -> None:
        self.world.options["fingerprint"] = line.words[0]

    async def _rebase(self, _line: Line) -> None:
        await self._as_process(engine.rebase, None)

    async def _both(self, line: Line) -> None:
        for order, value in line.edits().items():
            self.world.edit_crm(order, value)
            self.world.edit_table(order, value)
        await self.world.reconcile()

    async def _crm(self, line: Line) -> None:
        for order, value in line.edits().items():
            self.world.edit_crm(order, value)

    async def _table(self, line: Line) -> None:
        for order, value in line.edits().items():
            self.world.edit_table(order, value)

    async def _race(self, line: Line) -> None:
        self.world.races += line.edits(1).items()

    async def _afterwards(self, line: Line) -> None:
        self.world.afterwards += line.edits(1).items()

    async def _lose(self, line: Line) -> None:
        surprise = {"before": Surprise.LOST_BEFORE, "after": Surprise.LOST_AFTER}[line.words[0]]
        self.world.portal.script.append(surprise)

    async def _busy(self, line: Line) -> None:
        self.world.portal.script.extend([Surprise.NOT_SENT] * int(line.words[0]))

    async def _zombie(self, line: Line) -> None:
        self.world.portal.script.append(Surprise.LATE)
        self.world.portal.delays.append(float(line.words[0]) if line.words else 1.0)

    async def _later(self, line: Line) -> None:
        await self.world.clock.sleep(float(line.words[0]))

    async def _within(self, line: Line) -> None:
        passed = self.world.clock.time - self.began
        assert passed <= float(line.words[0]), f"{self.scenario.name}:{line.number}: {passed} seconds have passed"

    async def _clock(self, line: Line) -> None:
        self.world.clock.jump += float(line.words[0])

    async def _decide(self, line: Line) -> None:
        row = await self.world.store.find_link("shop")
        assert row is not None
        await self.world.store.decide(row.id, [int(line.words[0])], line.words[1], self.world.clock.now())

    async def _as_process(self, act: Any, steps: Steps | None, *args: int) -> Report:
        link = self.world.link(steps)
        try:
            report: Report = await act(link, *args)
        except Crash:
            self.world.store.bury(link.holder)
            raise
        return report

    async def _link(self, line: Line) -> None:
        world, options = self.world, dict(word.split("=") for word in line.words)
        scope = world.policy.scope
        if "orders" in options:
            first, last = map(int, options.pop("orders").split("-"))
            scope = world.table.scope = Scope(scope.owner_types, first, last)
        world.policy = Policy(
            Direction(options.pop("direction", world.policy.direction)),
            OnConflict(options.pop("on_conflict", world.policy.on_conflict)),
            scope,
        )
        world.options["ask_first_sync"] = options.pop("first_sync", "auto") == "ask"
        limits: dict[str, Any] = {name: float(limit) for name, limit in options.items()}
        world.limits = replace(world.limits, **limits)

    async def _unconditional(self, _line: Line) -> None:
        self.world.portal.conditional = False

    async def _view(self, _line: Line) -> None:
        self.world.table.hides_effects = True

    async def _odd(self, line: Line) -> None:
        order = int(line.words[0])
        self.world.portal.odd[order] = Unreadable(HoldKind.INVALID_ROW, "its row in the CRM names no owner")

    async def _missing(self, line: Line) -> None:
        number = int(line.words[1])
        if line.words[0] == "order":
            self.world.portal.missing_orders.add(number)
        else:
            self.world.portal.owners = {Owner(2, one) for one in range(1, 1000) if one != number}

    async def _appear(self, line: Line) -> None:
        self.world.portal.missing_orders.discard(int(line.words[0]))

    async def check(self) -> None:
        """Hold the end of the world against the scenario's expectations."""
        for line in self.scenario.expectations:
            await self._stands(line)
        await self.world.check_healed()

    async def _stands(self, line: Line) -> None:
        world, where = self.world, f"{self.scenario.name}:{line.number}"
        what, *words = line.words
        if what in {"crm", "table"}:
            there = world.portal.bindings if what == "crm" else world.table.bindings
            for order, value in line.edits(1).items():
                assert there.get(order) == owner(value), f"{where}: order {order}"
        elif what in {"held", "free"}:
            assert (await world.held()).get(int(words[0])) == (words[1] if what == "held" else None), where
        elif what == "refused":
            guards = {hit.name for hit in self.last.row.guards} if self.last is not None else set()
            assert words[0] in guards, f"{where}: refused by {guards or 'no guard'}"
        elif what == "sends":
            assert world.portal.sent.total() == int(words[0]), where
        else:
            for order in map(int, words):
                now = world.portal.bindings.get(order)
                assert now == world.table.bindings.get(order) == await world.agreed(order), f"{where}: order {order}"
