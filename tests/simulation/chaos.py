"""A seeded life of one link: outside writers on both sides, faults of every kind, crashes, a second process, a person.

`live(seed)` plays it and returns what was seen; every promise that was broken is a sentence in `Life.broken`. Each value
an outside writer sets is new, so that a value which comes back is told from one that was set again.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field, replace

from syncd.core.guards import GuardLimits
from syncd.core.model import Action, Direction, MaybeOwner, OnConflict, Outcome, Owner, Policy, Scope, Side
from syncd.core.records import StoredChange
from syncd.engine import reconcile as engine
from syncd.engine.report import Report
from syncd.errors import LeaseHeld, StalePlan, SyncdError, UnavailableError, UsageError
from tests.fakes.portal import Surprise
from tests.simulation.crash import Crash, Steps
from tests.simulation.world import World

ORDERS = range(1, 10)
SETTLING = 12
"""Passes after everything has come to rest, within which each order must be in step or held."""


def sent(stored: StoredChange) -> bool:
    """Given a change of the audit, return whether its write may have been executed."""
    if stored.outcome is Outcome.SKIPPED:
        return stored.error.startswith("interrupted")
    return stored.outcome in {Outcome.APPLIED, Outcome.ALREADY, Outcome.UNCERTAIN, Outcome.INTENDED}


@dataclass
class Edit:
    """One outside write: what its writer saw there, and what stood there after it; `at` orders it among syncd's."""

    order: int
    before: MaybeOwner
    after: MaybeOwner
    at: int


@dataclass
class Life:
    """What a seed came to.

    Args:
        seed: The seed.
        broken: Promises that were broken, as sentences.
        happened: What happened, counted.
        unseen: What docs/guarantees.md does not promise: values overwritten inside a request whose answer was lost, and
            values unbound by somebody right after a crash, before syncd could record them.
    """

    seed: int
    broken: list[str] = field(default_factory=list)
    happened: Counter[str] = field(default_factory=Counter)
    unseen: int = 0


class Chaos:
    """One life in the making."""

    def __init__(self, seed: int, *, steps: int = 12) -> None:
        self.dice = random.Random(seed)
        self.life = Life(seed)
        self.steps = steps
        direction = self.dice.choice([*Direction, Direction.TWO_WAY, Direction.TWO_WAY])
        policy = Policy(direction, self.dice.choice(list(OnConflict)), Scope(frozenset({2})))
        limits = GuardLimits(max_removes=self.dice.choice([2, 100]), max_removes_percent=100, max_moves_percent=100)
        self.world = World(policy, limits, settle=60.0)
        self.edits: dict[Side, list[Edit]] = {Side.CRM: [], Side.TABLE: []}
        self.by_hand: set[int] = set()
        self.fresh = iter(range(1000, 10**9))
        self.plans: list[int] = []
        self.held_crm: dict[int, set[MaybeOwner]] = {order: set() for order in ORDERS}

    # ------------------------------------------------------------ outside writers

    def _written(self, side: Side) -> int:
        return len(self.world.portal.written if side is Side.CRM else self.world.table.written)

    def _sent(self) -> tuple[int, int]:
        """How much syncd has written: on the portal what it sent, since a lost request may be executed much later."""
        return self.world.portal.sent.total(), len(self.world.table.written)

    def edit(self) -> None:
        side = self.dice.choice([Side.CRM, Side.TABLE])
        order = self.dice.choice(ORDERS)
        there = (self.world.portal.bindings if side is Side.CRM else self.world.table.bindings).get(order)
        value = None if there is not None and self.dice.random() < 0.25 else (2, next(self.fresh))
        (self.world.edit_crm if side is Side.CRM else self.world.edit_table)(order, value)
        after = None if value is None else Owner(*value)
        self.edits[side].append(Edit(order, there, after, self._written(side)))
        self.life.happened["outside edit"] += 1

    def meanwhile(self, name: str) -> None:
        if self.dice.random() < 0.03:
            self.edit()
            self.life.happened[f"edit during {name.split(maxsplit=1)[0]}"] += 1

    def fault(self) -> None:
        portal, table = self.world.portal, self.world.table
        kind = self.dice.choice(
            ["lost-before", "lost-after", "lost-halfway", "late", "not-sent", "incomplete", "unavailable", "refused", "table",
             "table-lost"]
        )  # fmt: skip
        self.life.happened[f"fault {kind}"] += 1
        if kind == "incomplete":
            portal.listings.append(Surprise.INCOMPLETE)
        elif kind == "refused":
            portal.poisoned = {self.dice.choice(ORDERS): ("100", "no")} if self.dice.random() < 0.7 else {}
        elif kind == "table":
            table.fail(self.dice.choice(["snapshot", "read", "write"]), UnavailableError("the table is away"))
        elif kind == "table-lost":
            table.lose(applied=self.dice.random() < 0.5)
        else:
            portal.script.append(Surprise(kind))

    # -------------------------------------------------------------------- syncd

    async def syncd(self) -> None:
        stop_at = self.dice.randrange(1, 60) if self.dice.random() < 0.35 else 0
        steps = Steps(stop_at, self.meanwhile)
        before = self._sent()
        act = self.dice.choices(["pass", "plan", "apply", "undo"], [10, 2, 2, 1])[0]
        self.life.happened[act] += 1
        report = await self._try(act, steps)
        await self._note_holds()
        now = self._sent()
        silent = report is not None and (report.row.state in {"incomplete", "refused"} or act in {"plan", "undo"})
        if silent and now != before:
            self.life.broken.append(f"a run that is {report.row.state if report else '?'} wrote")

    async def _note_holds(self) -> None:
        """Remember what was ever held: a hold of the same kind takes the place of the one before."""
        row = await self.world.store.find_link("shop")
        for stored in await self.world.store.holds(row.id) if row is not None else ():
            self.held_crm.setdefault(stored.hold.order_id, set()).add(stored.hold.facts.crm)

    async def _try(self, act: str, steps: Steps) -> Report | None:
        link = self.world.link(steps)
        try:
            if act == "pass":
                return await engine.reconcile(link)
            if act == "plan":
                report = await engine.plan(link)
                self.plans.append(report.row.id)
                return report
            runs = await self.world.store.runs("shop", 100)
            if act == "undo" and runs:
                report = await engine.undo(link, self.dice.choice(runs).id)
                self.by_hand |= {one.change.order_id for one in report.changes}
                self.plans.append(report.row.id)
                return report
            if act == "apply" and self.plans:
                chosen = self.dice.choice(self.plans)
                self.by_hand |= {one.change.order_id for one in await self.world.store.changes(chosen)}
                return await engine.apply(link, chosen)
        except Crash:
            self.life.happened["crash"] += 1
            self.world.store.bury(link.holder)
        except (StalePlan, UsageError, LeaseHeld):
            self.life.happened["turned away"] += 1
        except SyncdError as error:
            self.life.broken.append(f"{act} raised {error!r} instead of reporting it")
        return None

    async def second_process(self) -> None:
        """A second process comes while the first is at work: it is turned away and writes nothing."""
        inner: list[BaseException | Report] = []

        async def visit() -> None:
            before = self._written(Side.CRM), self._written(Side.TABLE)
            try:
                inner.append(await self.world.reconcile())
            except LeaseHeld as error:
                inner.append(error)
            if (self._written(Side.CRM), self._written(Side.TABLE)) != before:
                self.life.broken.append("two processes wrote at the same time")

        link = self.world.link()
        listing = link.portal.listing

        async def interrupted(*args: object) -> object:
            await visit()
            async for rows in listing(*args):  # type: ignore[arg-type]
                yield rows

        link.portal.listing = interrupted  # type: ignore[method-assign, assignment]
        await engine.reconcile(link)
        await self._note_holds()
        self.life.happened["second process"] += 1
        if not all(isinstance(one, LeaseHeld) for one in inner):
            self.life.broken.append("a second process was let in")

    async def person(self) -> None:
        row = await self.world.store.find_link("shop")
        if row is None:
            return
        for stored in await self.world.store.holds(row.id):
            if self.dice.random() < 0.5:
                decision = self.dice.choice(["crm", "table", "retry"])
                await self.world.store.decide(row.id, [stored.hold.order_id], decision, self.world.clock.now())
                self.by_hand.add(stored.hold.order_id)
                self.life.happened[f"decided {decision}"] += 1

    # --------------------------------------------------------------------- life

    async def run(self) -> Life:
        for _ in range(self.steps):
            for _ in range(self.dice.randrange(4)):
                self.edit()
            if self.dice.random() < 0.5:
                self.fault()
            if self.dice.random() < 0.2:
                await self.person()
            if self.dice.random() < 0.1:
                await self.second_process()
            await self.syncd()
            await self.world.clock.sleep(self.dice.choice([0.1, 1, 100, 4000]))
        await self._come_to_rest()
        await self._judge()
        return self.life

    async def _come_to_rest(self) -> None:
        self.world.portal.script.clear()
        self.world.portal.listings.clear()
        self.world.portal.poisoned.clear()
        self.world.table._faults.clear()
        self.world.table._lost.clear()
        self.world.limits = replace(self.world.limits, max_removes=100, max_removes_per_day=10**6)
        quiet = 0
        for _ in range(SETTLING):
            before = self._written(Side.CRM), self._written(Side.TABLE)
            report = await self.world.reconcile()
            await self._note_holds()
            if report.row.state == "refused":
                await engine.apply(self.world.link(), report.row.id)
            await self.world.clock.sleep(4000)
            quiet = quiet + 1 if (self._written(Side.CRM), self._written(Side.TABLE)) == before else 0
            if quiet == 2:
                return
        self.life.broken.append(f"still writing after {SETTLING} quiet passes")

    async def _judge(self) -> None:
        row = await self.world.store.find_link("shop")
        assert row is not None
        held = await self.world.held()
        target = {Direction.CRM_TO_TABLE: Side.TABLE, Direction.TABLE_TO_CRM: Side.CRM}.get(self.world.policy.direction)
        for order in ORDERS:
            crm, table = self.world.portal.bindings.get(order), self.world.table.bindings.get(order)
            agreed = await self.world.agreed(order)
            # In a one-way link a binding on the target that was never agreed, or that is to win, is left alone.
            foreign = target is not None and agreed is None
            if not (crm == table == agreed) and order not in held and not foreign:
                self.life.broken.append(f"order {order} rests at crm {crm}, table {table}, agreed {agreed}, not held")
        history = {order: await self.world.store.history("shop", order, 10**6) for order in ORDERS}
        for order in ORDERS:
            self._judge_audit(order, history[order], await self.world.agreed(order))
            self._judge_overwritten(order, history[order])
            self._judge_regression(order, history[order])

    def _judge_audit(self, order: int, history: list[StoredChange], agreed: MaybeOwner) -> None:
        """Replaying the audit from empty gives the agreed state (sync-rules.md 25)."""
        replayed: MaybeOwner = None
        for stored in sorted(history, key=lambda one: (one.at, one.id)):
            in_place = stored.outcome in {Outcome.APPLIED, Outcome.ALREADY}
            if in_place:
                replayed = stored.change.agreed_after
        if order not in self.by_hand and replayed != agreed:
            self.life.broken.append(f"order {order}: the audit replays to {replayed}, agreed is {agreed}")

    def _judge_overwritten(self, order: int, history: list[StoredChange]) -> None:
        """A value that syncd replaced was read by it and stands in the audit; an outsider's became a hold (16)."""
        for written in self.world.portal.written:
            if written.order_id != order:
                continue
            mine = [
                one
                for one in history
                if one.change.side is Side.CRM and one.change.after == written.after and sent(one)
            ]
            known = [one.found if one.found_known else one.change.before for one in mine]
            if written.before not in known:
                if any(not one.found_known for one in mine):
                    self.life.unseen += 1
                else:
                    self.life.broken.append(f"order {order}: {written.before} was overwritten without a trace")
            elif written.before not in {one.change.before for one in mine} | self.held_crm[order]:
                self.life.broken.append(f"order {order}: {written.before} was overwritten without a hold")

    def _judge_regression(self, order: int, history: list[StoredChange]) -> None:
        """No value comes back that an outside writer had replaced (15); values set by hand may.

        "Unbound" has no identity: what was written right before a crash or a lost answer, and unbound again before it
        was looked for, seems never to have been written (docs/guarantees.md). Such values are counted, not judged.
        """
        forgotten = {one.change.after for one in history if one.error.startswith("interrupted")}
        if order in self.by_hand:
            return
        for side in Side:
            if side is Side.CRM:
                mine = [(at, one.after) for at, one in enumerate(self.world.portal.written) if one.order_id == order]
            else:
                mine = [(at, one.after) for at, one in enumerate(self.world.table.written) if one.order_id == order]
            for edit in self.edits[side]:
                if edit.order == order and edit.before is not None:
                    again = [at for at, value in mine if value == edit.before and at >= edit.at]
                    drift = self.world.policy.direction is not Direction.TWO_WAY
                    writes = sum(value == edit.before for _, value in mine)
                    told = sum(one.change.after == edit.before and sent(one) for one in history)
                    if again and (edit.before in forgotten or writes > told):
                        self.life.unseen += 1
                    elif again and not drift and self.world.policy.on_conflict is OnConflict.HOLD:
                        self.life.broken.append(f"order {order}: {edit.before} came back in the {side.value}")


async def live(seed: int) -> Life:
    """Play the life of a seed."""
    return await Chaos(seed).run()


__all__ = ["Action", "Chaos", "Life", "live"]
