"""One link over the real parts, in process: portal client and sandbox, SQL table, SQL state; and a witness of it all.

Time is virtual, threads are inline, files are in memory where the machine has such a place: the same calls give the
same trace, so that hypothesis can shrink what fails. Outside writers leave values that nobody ever set before, so that
a value which comes back is told from one that was set again.
"""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import SecretStr

from syncd.config.model import PortalSettings, TableSettings
from syncd.core.guards import GuardLimits
from syncd.core.model import Direction, MaybeOwner, OnConflict, Outcome, Owner, Policy, Scope, Side
from syncd.core.ports import Write, WriteAnswer
from syncd.core.records import StoredChange
from syncd.engine import reconcile as engine
from syncd.engine.link import Link
from syncd.engine.report import Report
from syncd.errors import LeaseHeld, StalePlan, UsageError
from syncd.portal.hosts import Hosts
from syncd.portal.opening import open_portal
from syncd.sandbox import SandboxPortal
from syncd.sandbox.contents import UI
from syncd.sandbox.faults import FaultRule
from syncd.state import SqlStore, open_store
from syncd.state.migrate import upgrade
from syncd.table import open_table
from tests.fakes.clock import FakeClock
from tests.fakes.portal_client import WEBHOOK
from tests.fakes.sandbox_transport import SandboxTransport
from tests.simulation.crash import Crash, Mortal, Steps
from tests.simulation.judge import sent

T = TypeVar("T")
Act = Callable[[Link], Awaitable[Report]]

SETTLING = 15
"""Passes after everything has come to rest, within which each order must be in step or held."""
ORDERS = range(1, 9)
UNKNOWN = 9
"""An order that the portal does not know until somebody makes it there."""
DEALS = Scope(frozenset({2}))
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None

SCHEMA = """
CREATE TABLE bindings (order_id INTEGER, kind INTEGER, owner_id INTEGER, channel TEXT NOT NULL DEFAULT 'web');
CREATE TABLE log (seq INTEGER PRIMARY KEY, order_id INTEGER, was INTEGER, becomes INTEGER);
CREATE TRIGGER i AFTER INSERT ON bindings BEGIN INSERT INTO log VALUES (NULL, NEW.order_id, NULL, NEW.owner_id); END;
CREATE TRIGGER u AFTER UPDATE ON bindings BEGIN INSERT INTO log VALUES (NULL, NEW.order_id, OLD.owner_id, NEW.owner_id); END;
CREATE TRIGGER d AFTER DELETE ON bindings BEGIN INSERT INTO log VALUES (NULL, OLD.order_id, OLD.owner_id, NULL); END;
"""

DROP, PUT = "DELETE FROM bindings WHERE order_id = :order", "INSERT INTO bindings VALUES (:order, 2, :owner, 'web')"
TABLE_EDITS = {
    "table-bind": (DROP, PUT),
    "table-nowhere": (DROP, PUT),
    "table-unbind": (DROP,),
    "table-null": ("UPDATE bindings SET owner_id = NULL WHERE order_id = :order",),
    "table-double": (PUT,),
    "table-deselect": ("UPDATE bindings SET channel = 'shop' WHERE order_id = :order",),
    "table-select": ("UPDATE bindings SET channel = 'web' WHERE order_id = :order",),
    "table-gone": ("ALTER TABLE bindings RENAME TO elsewhere",),
    "table-back": ("ALTER TABLE elsewhere RENAME TO bindings",),
}
"""What somebody does to the table. `table-nowhere` names an owner that does not exist."""


class Inline(ThreadPoolExecutor):
    """Runs what it is given at once, where it is given."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - whoever waits for the future gets it
            future.set_exception(error)
        return future


@cache
def empty_state() -> bytes:
    """A state database as the migrations make it: made once, copied for each world."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        path = Path(folder) / "state.db"
        upgrade(f"sqlite:///{path}")
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return path.read_bytes()


class Written(NamedTuple):
    """One write on a side, by syncd or by somebody else."""

    side: Side
    order: int
    before: MaybeOwner
    after: MaybeOwner
    ours: bool


@dataclass
class Pass:
    """One act of syncd, as a rule asks for it.

    Args:
        act: pass, plan, apply, undo, rebase.
        choice: Which of the runs or plans there are.
        crash_at: The step at which its process dies; 0 is never.
        meanwhile: (step, kind of edit, order): what others do while it is under way.
        visitor_at: 1: a second process comes during the listing; 2, 3, …: before the first, second, … batch.
        race_at: Somebody binds an order of the n-th batch elsewhere right before it is sent; 0 is never.
        window: That happens after the batch has listed its orders, so that nobody sees what is overwritten: the one
            thing that docs/guarantees.md does not promise.
    """

    act: str
    choice: int = 0
    crash_at: int = 0
    meanwhile: tuple[tuple[int, str, int], ...] = ()
    visitor_at: int = 0
    race_at: int = 0
    window: bool = False


class EngineWorld:
    """See the module. Every promise that is broken raises an AssertionError with a sentence."""

    def __init__(
        self,
        *,
        direction: Direction = Direction.TWO_WAY,
        on_conflict: OnConflict = OnConflict.HOLD,
        settle: float = 60.0,
        max_removes: int = 100,
    ) -> None:
        self._exit = ExitStack()
        self.loop = asyncio.new_event_loop()
        self._exit.callback(self.loop.close)
        self._inline = Inline(1)
        self.loop.set_default_executor(self._inline)
        self.folder = Path(self._exit.enter_context(tempfile.TemporaryDirectory(dir=MEMORY)))
        (self.folder / "state.db").write_bytes(empty_state())
        self.clock = FakeClock()
        self.policy = Policy(direction, on_conflict, DEALS)
        self.limits = GuardLimits(max_removes, 100, 100, 10**6, 10**6)
        self.settle = settle
        self.fingerprint = "ends"
        self.crm = SandboxPortal(orders=frozenset(ORDERS), clock=self.clock)
        self.transport = SandboxTransport(self.crm)
        self.hosts = Hosts(self.clock, runtime_dir=self.folder, transport=self.transport)
        self.sql = sqlite3.connect(self.folder / "shop.db", isolation_level=None)
        self.sql.executescript(SCHEMA)
        self._exit.callback(self.sql.close)
        # One client stays open for the world's whole life, so that the others share its connections.
        self._anchor = self._portal()
        self.store = self._store()
        self.fresh = iter(range(1000, 10**9))
        self.processes = 0
        self.written: list[Written] = []
        self.happened: Counter[str] = Counter()
        self.unseen = 0
        self.by_hand: set[int] = set()
        self.in_window: set[tuple[int, MaybeOwner]] = set()
        self.plans: list[int] = []
        self.runs: list[int] = []
        self.had: set[tuple[Side, int, MaybeOwner]] = set()
        self._seen_crm = self._seen_table = 0
        self.look()

    def close(self) -> None:
        self.run(self.store.aclose())
        self.run(self._anchor.aclose())
        self._exit.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    # -------------------------------------------------------------------- processes

    def _portal(self) -> Any:
        settings = PortalSettings(webhook=SecretStr(WEBHOOK), plan="box")
        return open_portal(settings, link="shop", hosts=self.hosts)

    def _store(self) -> SqlStore:
        store = open_store(f"sqlite:///{self.folder / 'state.db'}", clock=self.clock)
        store._writers = store._readers = self._inline
        return store

    def _table(self) -> Any:
        settings = TableSettings(
            url=SecretStr(f"sqlite:///{self.folder / 'shop.db'}"),
            name="bindings",
            columns={"order_id": "order_id", "owner_type_id": "kind", "owner_id": "owner_id"},
            where="channel = 'web'",
            extra={"channel": "web"},
        )
        table = open_table(settings, scope=DEALS, clock=self.clock, link="shop")
        table._threads = self._inline
        return table

    async def process(self, steps: Steps, act: Callable[[Link], Awaitable[Report]]) -> Report:
        """One process from its start to its end, or its death; its files and locks go with it."""
        self.processes += 1
        store, table, portal = self._store(), self._table(), self._portal()
        parts: dict[str, Any] = {
            "portal": Mortal(portal, "portal", steps),
            "table": Mortal(table, "table", steps),
            "store": Mortal(store, "store", steps),
        }
        link = Link(
            name="shop",
            fingerprint=self.fingerprint,
            policy=self.policy,
            limits=self.limits,
            clock=self.clock,
            holder=f"host:{self.processes}",
            ask_first_sync=False,
            settle=self.settle,
            **parts,
        )
        try:
            return await act(link)
        finally:
            await portal.aclose()
            await table.aclose()
            await store.aclose()

    # -------------------------------------------------------------- outside writers

    def edit(self, kind: str, order: int) -> None:
        """Somebody does something to an order, or to the table; kinds that do not apply do nothing."""
        self.look()
        owner = next(self.fresh)
        if kind == "table-nowhere":
            self.crm.missing_owners.add((2, owner))
        if kind == "table-select":
            self.by_hand.add(order)  # an old value comes back, and rightly so
        if kind == "owners-appear":
            self.crm.missing_owners.clear()
        elif kind.startswith("crm-"):
            self._edit_crm(kind, order, owner)
        else:
            for statement in TABLE_EDITS[kind]:
                with suppress(sqlite3.OperationalError):  # the table is away
                    self.sql.execute(statement, {"order": order, "owner": owner})
        self.happened[f"edit {kind}"] += 1
        self.look(ours=False)

    def _edit_crm(self, kind: str, order: int, owner: int) -> None:
        match kind:
            case "crm-bind":
                self.crm.bind(order, 2, owner)
            case "crm-invoice":
                self.crm.bind(order, 31, owner)
            case "crm-unbind":
                self.crm.unbind(order)
            case "crm-delete":
                self.crm.delete_order(order)

    def fault(self, rule: FaultRule) -> None:
        self.crm.faults.add(rule)
        self.happened[f"fault {rule.action.value}"] += 1

    def point_elsewhere(self) -> None:
        """The configuration names the other one of two pairs of ends (the sides themselves stay the same)."""
        self.fingerprint = "elsewhere" if self.fingerprint == "ends" else "ends"

    def mend(self) -> None:
        self.crm.faults.clear()
        self.edit("table-back", 0)

    # ---------------------------------------------------------------------- witness

    def look(self, *, ours: bool = True) -> None:
        """Take down what was written since the last look, and which values each side has right now."""
        for one in self.crm.stats.writes[self._seen_crm :]:
            before, after = (None if owner is None else Owner(*owner) for owner in (one.before, one.after))
            self.written.append(Written(Side.CRM, one.order_id, before, after, one.method != UI))
        self._seen_crm = len(self.crm.stats.writes)
        for seq, order, was, becomes in self.sql.execute("SELECT * FROM log WHERE seq > ?", (self._seen_table,)):
            before, after = (None if number is None else Owner(2, number) for number in (was, becomes))
            self.written.append(Written(Side.TABLE, order, before, after, ours))
            self._seen_table = seq
        crm, table = self.crm_now(), self.table_now()
        for order in (*ORDERS, UNKNOWN):
            self.had |= {(Side.CRM, order, crm.get(order)), (Side.TABLE, order, table.get(order))}

    def crm_now(self) -> dict[int, Owner]:
        return {order: Owner(*owner) for order, owner in self.crm.bindings.items()}

    def table_now(self) -> dict[int, Owner]:
        """The orders that have one readable row which `where` selects."""
        rows: dict[int, list[MaybeOwner]] = {}
        with suppress(sqlite3.OperationalError):  # the table is away
            for order, number in self.sql.execute("SELECT order_id, owner_id FROM bindings WHERE channel = 'web'"):
                rows.setdefault(order, []).append(None if number is None else Owner(2, number))
        return {order: owners[0] for order, owners in rows.items() if len(owners) == 1 and owners[0] is not None}

    def ours(self) -> list[Written]:
        return [one for one in self.written if one.ours]

    # ------------------------------------------------------------------------ syncd

    def syncd(self, what: Pass) -> Report | None:
        """Let syncd act, and hold what it did against what such an act may do."""
        act, source = self._chosen(what)
        if act is None:
            return None
        self.look()
        self.happened[what.act] += 1
        steps = Steps(what.crash_at, lambda _name: self._meanwhile(steps, what))
        act = self._disturbed(act, steps, what)
        agreed, waiting, late = self.agreed(), self._intents(), bool(self.crm.late)
        began = len(self.written)
        report = self.run(self._act(what, act, steps))
        self.look()
        state = report.row.state if report is not None else ""
        if what.act in {"plan", "undo", "rebase"} or state in {"incomplete", "refused"}:
            sent_any = {"portal.write before", "table.write before"}.intersection(steps.names)
            assert not sent_any, f"a {what.act} that is {state or 'cut off'} wrote"
            # What was found in place after an interruption is recorded by whoever comes next; nothing else moves.
            moves = what.act == "rebase" or waiting
            assert moves or self.agreed() == agreed, f"a {what.act} that is {state or 'cut off'} moved the agreed state"
        if what.act == "apply" and report is not None:
            planned = {_write(one) for one in self.changes(source)}
            assert {_write(one) for one in report.changes} <= planned, "apply did what was not in the plan"
        if report is not None and not late:
            asked = {(one.change.side, one.change.order_id, one.change.after) for one in report.changes}
            mine = {(one.side, one.order, one.after) for one in self.written[began:] if one.ours}
            assert mine <= asked, f"written, but not in the run: {mine - asked}"
        for order, owner in self.agreed().items():
            both = {(Side.CRM, order, owner), (Side.TABLE, order, owner)}
            assert both <= self.had, f"order {order} is agreed on {owner}, which one side never had"
        return report

    def _meanwhile(self, steps: Steps, what: Pass) -> None:
        self.look()
        for at, kind, order in what.meanwhile:
            if at == steps.taken:
                self.edit(kind, order)
                self.happened["edit meanwhile"] += 1

    async def _act(self, what: Pass, act: Act, steps: Steps) -> Report | None:
        try:
            report = await self.process(steps, act)
        except Crash:
            self.happened["crash"] += 1
            return None
        except (StalePlan, UsageError):
            self.happened["turned away"] += 1
            return None
        if what.act in {"plan", "undo"} or report.row.state == "refused":
            self.plans.append(report.row.id)
        self.runs.append(report.row.id)
        self.happened[f"run {report.row.state}"] += 1
        return report

    def _chosen(self, what: Pass) -> tuple[Act | None, int]:
        """Return what to do, and the run it is done with; nothing where there is no such run."""
        if what.act == "rebase":
            self.by_hand |= {*ORDERS, UNKNOWN}
        if what.act not in {"apply", "undo"}:
            return {"pass": engine.reconcile, "plan": engine.plan, "rebase": engine.rebase}[what.act], 0
        known = self.plans if what.act == "apply" else self.runs
        if not known:
            return None, 0
        run = known[-1 - what.choice % len(known)]
        stored = self.run(self.store.run(run))
        if what.act == "undo" or (stored is not None and stored.kind == "undo"):
            self.by_hand |= {one.change.order_id for one in self.changes(run)}
        chosen = engine.apply if what.act == "apply" else engine.undo
        return (lambda link: chosen(link, run)), run

    def _disturbed(self, act: Act, steps: Steps, what: Pass) -> Act:
        """Have a second process try its luck, and somebody else be quicker, where the pass asks for it."""

        async def disturbed(link: Link) -> Report:
            write, listing = link.portal.write, link.portal.listing
            batches = iter(range(1, 10**6))

            async def write_disturbed(batch: Sequence[Write], then_read: Sequence[int] = ()) -> WriteAnswer:
                number = next(batches)
                if number == what.visitor_at - 1 and not steps.dead:
                    await self._visit()
                if number == what.race_at and not steps.dead:
                    end = self._race(batch[0].order_id, within=what.window)
                    try:
                        return await write(batch, then_read)
                    finally:
                        end()
                return await write(batch, then_read)

            async def listing_disturbed(*args: Any) -> Any:
                if what.visitor_at == 1 and not steps.dead:
                    await self._visit()
                async for rows in listing(*args):
                    yield rows

            link.portal.write = write_disturbed  # type: ignore[method-assign]
            link.portal.listing = listing_disturbed  # type: ignore[method-assign]
            return await act(link)

        return disturbed

    async def _visit(self) -> None:
        before = len(self.ours())
        try:
            await self.process(Steps(), engine.reconcile)
        except LeaseHeld:
            self.happened["second process"] += 1
        else:
            raise AssertionError("a second process was let in")
        self.look()
        assert len(self.ours()) == before, "a second process wrote"

    def _race(self, order: int, *, within: bool) -> Callable[[], None]:
        """Somebody binds this order elsewhere, now or right before the portal writes it; return what ends the wait."""
        self.happened["race within a batch" if within else "race before a batch"] += 1
        if not within:
            self.edit("crm-bind", order)
            return lambda: None
        raced: list[int] = []

        def race(method: str, _params: object, _request: int) -> None:
            if method in {"crm.orderentity.add", "crm.orderentity.deletebyfilter"} and not raced:
                raced.append(order)
                self.edit("crm-bind", order)
                self.in_window.add((order, self.crm_now()[order]))

        return self.crm.before_call(race)

    def decide(self, choice: int, decision: str) -> None:
        """A person decides one of the open holds."""
        holds, row = sorted(self.holds()), self.run(self.store.find_link("shop"))
        if holds and row is not None:
            order = holds[choice % len(holds)]
            self.run(self.store.decide(row.id, [order], decision, self.clock.now()))
            self.by_hand.add(order)
            self.happened[f"decide {decision}"] += 1

    # ----------------------------------------------------------------------- records

    def changes(self, run: int) -> list[StoredChange]:
        return self.run(self.store.changes(run))

    def history(self, order: int) -> list[StoredChange]:
        return self.run(self.store.history("shop", order, 10**6))

    def agreed(self) -> dict[int, Owner]:
        row = self.run(self.store.find_link("shop"))
        rows = [] if row is None else self.run(self.store.bindings(row.id, 0, None))
        return {
            one.order_id: Owner(one.agreed_type, one.agreed_id)
            for one in rows
            if one.agreed_type is not None and one.agreed_id is not None
        }

    def holds(self) -> dict[int, str]:
        row = self.run(self.store.find_link("shop"))
        holds = [] if row is None else self.run(self.store.holds(row.id))
        return {one.hold.order_id: one.hold.kind.value for one in holds}

    def _intents(self) -> bool:
        row = self.run(self.store.find_link("shop"))
        return row is not None and bool(self.run(self.store.open_intents(row.id)))

    # ------------------------------------------------------------------------ the end

    def come_to_rest(self) -> None:
        """Nothing goes wrong any more, and nobody else writes: within some passes syncd must have nothing to do."""
        self.mend()
        self.limits = GuardLimits(10**6, 100, 100, 10**6, 10**6)
        quiet = 0
        for _ in range(SETTLING):
            before = len(self.ours())
            report = self.syncd(Pass("pass"))
            assert report is not None
            if [hit.name for hit in report.row.guards] == ["fingerprint"]:
                self.point_elsewhere()
            elif report.row.state == "refused":  # a side that is empty, and is meant to be
                self.syncd(Pass("apply"))
            self.clock.advance(4000)
            self.look()
            quiet = quiet + 1 if len(self.ours()) == before and report.error is None else 0
            if quiet == 2:
                return
        raise AssertionError(f"still writing after {SETTLING} quiet passes")

    def judge(self) -> None:
        """Hold the end, and the audit, against every promise."""
        crm, table, agreed, holds = self.crm_now(), self.table_now(), self.agreed(), self.holds()
        two_way = self.policy.direction is Direction.TWO_WAY
        for order in (*ORDERS, UNKNOWN):
            values = crm.get(order), table.get(order), agreed.get(order)
            # In a one-way link a binding on the target that was never agreed, or that is to win, is left alone. So is
            # an order that is bound out of scope and that nobody knows in scope.
            alone = (not two_way and values[2] is None) or (
                all(one is None or not DEALS.holds_owner(one) for one in values)
            )
            assert len(set(values)) == 1 or order in holds or alone, f"order {order} rests at {values}, not held"
            history = self.history(order)
            self._judge_audit(order, history, values[2])
            self._judge_overwritten(order, history)
            if two_way and self.policy.on_conflict is OnConflict.HOLD:
                self._judge_regression(order)

    def _judge_audit(self, order: int, history: list[StoredChange], agreed: MaybeOwner) -> None:
        """Replaying the audit from empty gives the agreed state (25)."""
        replayed: MaybeOwner = None
        for stored in history:
            if stored.outcome in {Outcome.APPLIED, Outcome.ALREADY}:
                replayed = stored.change.agreed_after
        assert order in self.by_hand or replayed == agreed, (
            f"order {order}: the audit replays to {replayed}, agreed is {agreed}"
        )

    def _judge_overwritten(self, order: int, history: list[StoredChange]) -> None:
        """A value that syncd replaced was read by it and stands in the audit; an outsider's became a hold (16)."""
        held = [stored.hold for stored, _ in self.run(self.store.past_holds("shop", order))]
        for one in self.ours():
            if one.order != order:
                continue
            mine = [s for s in history if (s.change.side, s.change.after) == (one.side, one.after) and sent(s)]
            expected = {s.change.before for s in mine}
            known = {s.found if s.found_known else s.change.before for s in mine}
            if one.before in expected:
                continue
            if one.before in known:
                shown = {hold.facts.crm if one.side is Side.CRM else hold.facts.table for hold in held}
                assert one.before in shown, f"order {order}: {one.before} was overwritten without a hold"
                self.happened["overwritten, held"] += 1
            else:
                unseen = (order, one.before) in self.in_window or any(not s.found_known for s in mine)
                assert unseen, f"order {order}: {one.before} was overwritten without a trace"
                self.unseen += 1

    def _judge_regression(self, order: int) -> None:
        """No value comes back that somebody else had replaced on that side, unless a person asked for it (15)."""
        if order in self.by_hand:
            return
        replaced: set[tuple[Side, Owner]] = set()
        for one in self.written:
            if one.order != order:
                continue
            if one.ours and one.after is not None:
                assert (one.side, one.after) not in replaced, f"order {order}: {one.after} came back in the {one.side}"
            if not one.ours and one.before is not None:
                replaced.add((one.side, one.before))


def _write(stored: StoredChange) -> tuple[Any, ...]:
    change = stored.change
    return change.order_id, change.side, change.before, change.after
