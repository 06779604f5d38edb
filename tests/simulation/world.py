"""One link in a world of fakes: both sides, the state database, and as many processes as a test wants, each mortal."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from syncd.core.guards import GuardLimits
from syncd.core.model import Direction, MaybeOwner, OnConflict, Owner, Policy, Scope
from syncd.core.ports import Write
from syncd.engine import reconcile as engine
from syncd.engine.link import Link
from syncd.engine.report import Report
from tests.fakes.clock import SetClock
from tests.fakes.portal import FakePortal, Surprise
from tests.fakes.store import MemoryStore
from tests.fakes.table import FakeTable
from tests.simulation.crash import Crash, Mortal, Steps
from tests.simulation.scenario import Line, Scenario, Value

FREE = GuardLimits(10**6, 100, 100, 10**6, 10**6)
"""Guards that refuse nothing: most scenarios are about something else."""


def owner(value: Value) -> MaybeOwner:
    return None if value is None else Owner(*value)


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
        self.clock = SetClock()
        self.portal = FakePortal()
        self.table = FakeTable()
        self.store = MemoryStore(self.clock)
        self.processes = 0
        self.races: list[tuple[int, Value]] = []
        self.zombies = False
        self.last_plan = 0
        self.last_pass = 0
        self.portal.before_write = self._race
        wait = self.clock.sleep

        async def sleep(seconds: float) -> None:
            await wait(seconds)
            if seconds >= 1:
                self.portal.settle()  # what was lost but alive is executed within a second

        self.clock.sleep = sleep  # type: ignore[method-assign]

    def link(self, steps: Steps | None = None) -> Link:
        """A new process's view of the link."""
        self.processes += 1
        steps = steps or Steps()
        parts: dict[str, Any] = {
            "portal": Mortal(self.portal, "portal", steps),
            "table": Mortal(self.table, "table", steps),
            "store": Mortal(self.store, "store", steps),
        }
        plain: dict[str, Any] = {
            "name": "shop",
            "fingerprint": "ends",
            "policy": self.policy,
            "limits": self.limits,
            "clock": self.clock,
            "holder": f"host:{self.processes}",
            "ask_first_sync": False,
            "request_life": self.request_life,
            "settle": self.settle,
        }
        return Link(**(plain | parts | self.options))

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

    def _race(self, _batch: list[Write]) -> None:
        races, self.races = self.races, []
        for order, value in races:
            self.edit_crm(order, value)


class Play:
    """Plays a scenario in a world, step by step; a crash can be survived by playing the same step again.

    Outside events happen once; only what syncd was doing is done again.
    """

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.world = World()
        self.next = 0
        self.before_apply: list[tuple[dict[int, Owner], dict[int, Owner]]] = []

    async def run(self, steps: Steps | None = None) -> None:
        while self.next < len(self.scenario.steps):
            line = self.scenario.steps[self.next]
            await self._do(line, steps)
            self.next += 1

    async def _do(self, line: Line, steps: Steps | None) -> None:
        if line.verb in {"pass", "plan", "undo", "apply"}:
            await self._syncd(line.verb, None if "safely" in line.words else steps)
            return
        tell = getattr(self, f"_{line.verb}", None)
        if tell is None:
            raise ValueError(f"{self.scenario.name}:{line.number}: unknown verb {line.verb}")
        await tell(line)

    async def _syncd(self, verb: str, steps: Steps | None) -> None:
        world = self.world
        if verb == "pass":
            world.last_pass = (await world.reconcile(steps)).row.id
        elif verb == "plan":
            world.last_plan = (await self._as_process(engine.plan, steps)).row.id
        elif verb == "undo":
            world.last_plan = (await self._as_process(engine.undo, steps, world.last_pass)).row.id
        else:
            self.before_apply = [(dict(world.portal.bindings), dict(world.table.bindings))]
            await self._as_process(engine.apply, steps, world.last_plan)

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

    async def _lose(self, line: Line) -> None:
        surprise = {"before": Surprise.LOST_BEFORE, "after": Surprise.LOST_AFTER}[line.words[0]]
        self.world.portal.script.append(surprise)

    async def _zombie(self, _line: Line) -> None:
        self.world.portal.script.append(Surprise.LATE)

    async def _later(self, line: Line) -> None:
        await self.world.clock.sleep(float(line.words[0]))

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
        options = dict(word.split("=") for word in line.words)
        policy = self.world.policy
        self.world.policy = Policy(
            Direction(options.get("direction", policy.direction)),
            OnConflict(options.get("on_conflict", policy.on_conflict)),
            policy.scope,
        )

    async def _missing(self, line: Line) -> None:
        number = int(line.words[1])
        if line.words[0] == "order":
            self.world.portal.missing_orders.add(number)
        else:
            self.world.portal.owners = {Owner(2, one) for one in range(1, 1000) if one != number}

    async def check(self) -> None:
        """Hold the end of the world against the scenario's expectations."""
        world = self.world
        for line in self.scenario.expectations:
            where = f"{self.scenario.name}:{line.number}"
            what, *words = line.words
            if what in {"crm", "table"}:
                there = world.portal.bindings if what == "crm" else world.table.bindings
                for order, value in line.edits(1).items():
                    assert there.get(order) == owner(value), f"{where}: order {order}"
            elif what == "held":
                assert (await world.held()).get(int(words[0])) == words[1], where
            else:
                for order in map(int, words):
                    now = world.portal.bindings.get(order)
                    assert now == world.table.bindings.get(order) == await world.agreed(order), (
                        f"{where}: order {order}"
                    )
