"""A life as a scenario file: what happened to one link, step by step, and every promise held against it.

`chaos.py` makes such lives of a seed; one that breaks a promise is written to a file, which this plays again. The lines
are those of `scenario.py`, `others.py` and `upheavals.py`, and these:

pass / plan / rebase     an act of syncd by a process of its own, whatever comes of it; `tick`: a pass that the schedule
                         asks for
part slice / recent / hint / 5,7-9   a pass over the slice whose turn it is, the newest orders, those hinted at, or these
apply 2 / undo 2         likewise: of the latest but one of the stored plans, or of the runs
at 17 LINE               the line happens at the 17th step of syncd's next act (`at portal.write LINE`: right after its
                         first such call); only here there are also
at 17 die                its process dies
at 17 stop               it is asked to stop
at 17 rob                its lease is taken over
at 17 visit              a second process comes, and is turned away
at 17 stateless          its next call of the state database fails: before or after its effect, as the step is one or the other
rest                     nothing goes wrong any more and nobody else writes: each order comes to rest
expect promises          none was broken
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from syncd.core.guards import STATE_OLDER
from syncd.core.model import Side
from syncd.core.order_ranges import OrderRanges
from syncd.core.ports import Write
from syncd.core.records import StoredChange
from syncd.engine import reconcile as engine
from syncd.engine.covering import Portion
from syncd.engine.link import Link
from syncd.engine.report import TO_MAKE, Report
from syncd.errors import LeaseHeld, StalePlan, StateUnavailable, SyncdError, UsageError
from syncd.table.columns import parse_id
from tests.fakes.link import FREE
from tests.simulation.acts import Act, Broken, read_records
from tests.simulation.causality import VEILED, Reading
from tests.simulation.crash import Crash, Steps
from tests.simulation.judge import judge_audit, judge_rest
from tests.simulation.others import at_once
from tests.simulation.scenario import Line, Scenario
from tests.simulation.upheavals import KINDS, Upheavals
from tests.simulation.witness import Witness

ACTS = {"pass", "tick", "part", "plan", "apply", "undo", "rebase"}
PASSING = {"refused", "order-missing"}
"""Holds that end by themselves when what was missing appears."""
SLICES, RECENT = 3, 4
"""Into how many slices a link is cut, and how many of its newest orders are covered in between."""
SETTLING = 15
"""Passes after everything has come to rest, within which each order must be in step or held."""


class Life(Upheavals):
    """See the module.

    Args:
        scenario: The lines; none where they are still to be made (`do`).
    """

    def __init__(self, scenario: Scenario | None = None) -> None:
        super().__init__(scenario or Scenario("life"))
        self.witness = Witness(self.world.policy, self.world.clock.monotonic)
        self.unseen = 0
        self.plans: list[int] = []
        self.runs: list[int] = []
        self.orders: set[int] = set()
        self._at: list[tuple[str, Line]] = []
        self._steps = Steps()
        self._process: Link | None = None
        self._robbed_at = -1
        self._stateless = False
        self._read: tuple[int, int] = (0, 0)
        self._shown: set[int] = set()
        self._watch_requests()

    @property
    def broken(self) -> list[Broken]:
        """The promises that were not kept so far."""
        return self.witness.broken

    async def play(self) -> None:
        """Play all lines of the scenario."""
        for line in self.scenario.steps:
            await self.do(line)

    async def do(self, line: Line) -> None:
        """Play one line."""
        if line.verb == "at":
            self._at.append((line.words[0], Line(line.number, line.words[1], line.words[2:])))
        elif line.verb in ACTS:
            await self._act(line)
        elif line.verb == "rest":
            await self._rest()
        else:
            await self._outside(line)
            self.witness.happened[line.verb] += 1

    async def _outside(self, line: Line) -> None:
        self.look()
        await self._do(line, None)
        self.look(KINDS.get(line.verb, ""))

    # ---------------------------------------------------------------------- witness

    def _watch_requests(self) -> None:
        """Tell the witness what syncd sends to both sides, and what it reads there by id."""
        for side, port in ((Side.CRM, self.world.portal), (Side.TABLE, self.world.table)):
            self._watch_port(side, port)

    def _watch_port(self, side: Side, port: Any) -> None:
        read, write = port.read, port.write

        async def noted_read(orders: Sequence[int]) -> Any:
            there = await read(orders)
            self.look()
            owners = {order: getattr(value, "owner", value) for order, value in there.items()}
            self.witness.reads(side, {order: owners.get(order) for order in orders})
            return there

        async def noted_write(batch: Sequence[Write], *more: Any, **options: Any) -> Any:
            self.look()
            self.witness.sends(side, batch)
            results = await write(batch, *more, **options)
            self.look("trigger" if side is Side.TABLE else "")
            return results

        port.read, port.write = noted_read, noted_write

    def shaken(self, work: Callable[[], object], kind: str) -> None:
        self.look()
        work()
        self.look(kind)

    def broke(self, promise: int, sentence: str) -> None:
        self.witness.say(promise, sentence)

    def written(self) -> int:
        return len(self.witness.log)

    def state_went_back(self, at: int, late: Sequence[Write]) -> None:
        self.witness.state_went_back(at, late)

    def state_is_gone(self, late: Sequence[Write]) -> None:
        self.witness.state_is_gone(late)

    def look(self, upheaval: str = "") -> None:
        """Tell the witness what syncd wrote since the last look, and what both sides say now."""
        portal, table = self.world.portal, self.world.table
        for at in range(self._read[0], len(portal.written)):
            done = portal.written[at]
            self.witness.ours(Side.CRM, done.order_id, done.before, done.after, late=at in portal.overdue)
        for one in table.written[self._read[1] :]:
            self.witness.ours(Side.TABLE, one.order_id, one.before, one.after)
        self._read = len(portal.written), len(table.written)
        self.witness.still_late(portal.late)
        sides: dict[Side, dict[int, Reading]] = {
            Side.CRM: self.world.portal.bindings | dict.fromkeys(self.world.portal.odd, VEILED),
            Side.TABLE: {
                **{row.order_id: VEILED for row in self.world.table.stored if isinstance(row.order_id, int)},
                **self.world.table.bindings,
            },
        }
        for side, there in sides.items():
            self.orders |= there.keys()
            self.witness.look(side, there, upheaval)

    # ------------------------------------------------------------------------- acts

    async def _act(self, line: Line) -> Report | None:
        """One process from its start to its end, or its death, held against what such an act may do."""
        store, witness = self.world.store, self.witness
        self.look()
        before = await read_records(store)
        self._steps = Steps(meanwhile=self._meanwhile)
        self._robbed_at, self._stateless = -1, False
        late, row = bool(self.world.portal.late), await store.find_link("shop")
        began, wall, keyless = self.world.clock.time, self.world.clock.now(), self._keyless()
        witness.act_begins(before, line.verb)
        self._process = link = self.world.link(self._steps)
        planned: list[StoredChange] = []
        report, raised = None, None
        try:
            report = await self._run(line, link, planned)
        except Crash:
            witness.happened["crash"] += 1
        except (StalePlan, UsageError):
            witness.happened["turned away"] += 1
        except SyncdError as error:
            raised = error
            witness.happened[f"raised {type(error).__name__}"] += 1
        finally:
            store.bury(link.holder)
            self._process = None
            self._at.clear()
        self.look()
        after = await read_records(store)
        if raised is not None and after.last_run > before.last_run and not isinstance(raised, StateUnavailable):
            witness.say(14, f"{line.verb} raised {raised!r} instead of reporting it")
        sides = self.world.portal.bindings, self.world.table.bindings
        act = Act(
            "pass" if line.verb in {"tick", "part"} else line.verb,
            report,
            self._steps.names,
            self._robbed_at,
            planned,
            late,
            foreign=line.verb != "rebase" and row is not None and row.fingerprint != link.fingerprint,
            limits=self.world.limits,
            began=began,
            wall=wall,
            keyless=keyless and self._keyless(),
            rows=max(map(len, sides)),
        )
        changes = [one for order in witness.newly_agreed(after) for one in await store.history("shop", order, 10**6)]
        witness.act_ends(act, after, changes)
        witness.happened[line.verb] += 1
        if report is not None:
            witness.happened[f"run {report.row.state}"] += 1
        if report is not None and report.row.kind != "rebase":
            self.runs.append(report.row.id)
            if report.row.state in {"planned", "refused"}:
                self.plans.append(report.row.plan)
        return report

    async def _pass(self, line: Line, link: Link) -> Report:
        if line.verb != "part":
            return await engine.reconcile(link, origin="schedule" if line.verb == "tick" else "command")
        link.slices, link.recent_orders = SLICES, RECENT
        word = line.words[0]
        origin = {"slice": "schedule", "recent": "recent", "hint": "hint"}.get(word, "command")
        return await engine.reconcile(link, origin=origin, portion=self._portion(word))

    def _portion(self, word: str) -> Portion:
        if word in {"slice", "recent"}:
            return Portion(slice=word == "slice", recent=word == "recent")
        orders = self.take_hints() if word == "hint" else OrderRanges.parse(word)
        if not orders:
            raise UsageError("There is no hint.")
        return Portion(orders=orders)

    async def _run(self, line: Line, link: Link, planned: list[StoredChange]) -> Report:
        match line.verb:
            case "pass" | "tick" | "part":
                return await self._pass(line, link)
            case "plan":
                return await engine.plan(link)
            case "rebase":
                return await engine.rebase(link)
        known = self.plans if line.verb == "apply" else self.runs
        back = int(line.words[0])
        if back > len(known):
            raise UsageError("There is no such run yet.")
        source = known[-back]
        if line.verb == "undo":
            return await engine.undo(link, source)
        planned += [one for one in await self.world.store.changes(source) if one.outcome in TO_MAKE]
        stored = await self.world.store.run(source)
        if stored is not None and STATE_OLDER in {hit.name for hit in stored.guards}:
            self.witness.state_approved()
        if stored is not None and stored.kind == "undo":
            self.witness.undone({one.change.order_id for one in planned})
        return await engine.apply(link, source)

    def _meanwhile(self, step: str) -> None:
        """What happens while the process takes this step."""
        if ".write " in step:
            self.look()
        if step == "store.rebase after":
            self.witness.rebased()
        moments = {str(self._steps.taken), step.removesuffix(" after")} if self._at else set()
        due = [one for one in self._at if one[0] in moments]
        for one in due:
            self._at.remove(one)
            self.witness.happened[f"{one[1].verb} meanwhile"] += 1
            self.look()
            self._happen(one[1], step)
        if self._stateless and step.startswith("store."):
            self._stateless = False
            raise StateUnavailable("The state database of the simulation is away.")

    def _happen(self, line: Line, step: str) -> None:
        assert self._process is not None
        holds = self.world.store.at_work("shop") == self._process.holder
        match line.verb:
            case "die":
                self._steps.die(step)
            case "stop":
                self._process.cancelled.set("the simulation")
            case "stateless":
                self._stateless = True
            case "rob" if holds:
                self.world.store.rob("shop")
                self._robbed_at = self._steps.taken
            case "visit" if holds:
                self._visit()
            case "rob" | "visit":
                pass
            case _:
                at_once(self._outside(line))

    def _keyless(self) -> bool:
        return any(parse_id(row.order_id) is None and row.selected for row in self.world.table.stored)

    def _visit(self) -> None:
        """A second process comes while the first one is at work: it is turned away, and writes nothing."""
        try:
            at_once(engine.reconcile(self.world.link()))
        except LeaseHeld:
            return
        self.witness.say(24, "a second process was let in")

    # --------------------------------------------------------------- what others do

    async def _link(self, line: Line) -> None:
        await super()._link(line)
        self.witness = Witness(self.world.policy, self.world.clock.monotonic)

    async def _unconditional(self, line: Line) -> None:
        await super()._unconditional(line)
        self.witness.conditional = self.witness.volumes.conditional = False

    async def _clock(self, line: Line) -> None:
        await super()._clock(line)
        self.witness.volumes.exact = False

    async def _omit(self, line: Line) -> None:
        await super()._omit(line)
        # A portal that hides an order from its pages and its total may end a hold (docs/guarantees.md).
        self.witness.asked.update(map(int, line.words))

    async def _decide(self, line: Line) -> None:
        order, decision = int(line.words[0]), line.words[1]
        kind = (await self.world.held()).get(order)
        if kind is not None:
            await super()._decide(line)
            self.witness.happened[f"decided {kind}"] += 1
            (self.witness.undone if decision == "retry" else self.witness.asks)([order])

    # ------------------------------------------------------------------------- rest

    async def _rest(self) -> None:
        self.mend()
        self._at.clear()
        await self.world.clock.sleep(100)  # what is still under way arrives
        self.look()
        self.world.limits = replace(FREE, second_look_above=2, max_reverts=5)
        poisoned = set(self.world.portal.poisoned)
        if poisoned:
            await self._come_to_rest()
            # One order that is refused again and again keeps no other one from converging (27).
            await judge_rest(self.witness, self.world.store, sorted(self.orders - poisoned), self._shown, promise=27)
            self.world.portal.poisoned.clear()
        await self._come_to_rest()
        await judge_rest(self.witness, self.world.store, sorted(self.orders), self._shown)
        await self._judge_healed()
        self.unseen = await judge_audit(self.witness, self.world.store, sorted(self.orders))

    async def _judge_healed(self) -> None:
        """What was refused for a reason that is over is in step, and nobody had to decide it (37)."""
        there = (self.unborn | self.childless) - self.world.portal.missing_orders
        for order, kind in (await self.world.held()).items():
            if order in there and kind in PASSING:
                self.witness.say(37, f"order {order} is still held as {kind}, and what was missing is there")

    async def _come_to_rest(self) -> None:
        """Without outside writers each change is written once, and then there is nothing to do (14, 26)."""
        began, quiet = len(self.witness.log), 0
        for _ in range(SETTLING):
            before = len(self.witness.log)
            report = await self._act(Line(0, "pass", ()))
            guards = [hit.name for hit in report.row.guards] if report is not None else []
            self._shown = {hold.order_id for hold in report.holds} if report is not None else set()
            if guards == ["fingerprint"]:
                row = await self.world.store.find_link("shop")
                assert row is not None
                self.world.options["fingerprint"] = row.fingerprint
            elif guards:
                await self._act(Line(0, "apply", ("1",)))
            await self.world.clock.sleep(4000)
            quiet = quiet + 1 if len(self.witness.log) == before and guards != ["fingerprint"] else 0
            if quiet == 2:
                break
        else:
            self.witness.say(14, f"still writing after {SETTLING} quiet passes")
        writes = [(one.side, one.order, one.after) for one in self.witness.log[began:]]
        if len(set(writes)) < len(writes):
            self.witness.say(26, "without outside writers, a change was written twice")

    async def check(self) -> None:
        """Raise an AssertionError that names every promise that was broken, if any was."""
        assert not self.broken, f"{self.scenario.name}: " + "; ".join(map(str, self.broken))


async def play(scenario: Scenario) -> Life:
    """Given a life's lines, play them and return what it came to."""
    life = Life(scenario)
    await life.play()
    return life
