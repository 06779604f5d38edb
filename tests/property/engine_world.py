"""One link over the real parts, in process: portal client and sandbox, SQL table, SQL state; and a witness of it all.

Time is virtual, threads are inline, files are in memory where the machine has such a place: the same calls give the
same trace, so that hypothesis can shrink what fails, and `engine_script` can write it down and play it again. Outside
writers leave values that nobody ever set before, so that a value which comes back is told from one that was set again.
"""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from functools import cache, partial
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from pydantic import SecretStr
from sqlalchemy import Engine

from syncd.config.model import PortalSettings, TableSettings
from syncd.config.portal_and_table import PortalPlan
from syncd.core.guards import STATE_OLDER
from syncd.core.model import Direction, MaybeOwner, OnConflict, Owner, Policy, Side
from syncd.core.ports import Listed, Write, WriteResult
from syncd.core.records import StoredChange
from syncd.engine import reconcile as engine
from syncd.engine.link import Link
from syncd.engine.report import TO_MAKE, Report
from syncd.errors import LeaseHeld, StalePlan, StateUnavailable, SyncdError, UsageError
from syncd.portal.factory import open_portal
from syncd.portal.hosts import Hosts
from syncd.sandbox import References, SandboxPortal
from syncd.sandbox.data import UI
from syncd.sandbox.faults import FaultRule
from syncd.state.migrate import upgrade
from syncd.state.store import SqlStore, open_store
from syncd.table.keyed import open_table
from tests.fakes.clock import FakeClock
from tests.fakes.link import DEALS, FREE, SecondLink, make_link
from tests.fakes.portal_client import WEBHOOK
from tests.fakes.sandbox_transport import SandboxTransport
from tests.property.engine_parts import RECENT, SLICES, Hints, portion_of
from tests.property.engine_script import Pass, fault_line, pass_line
from tests.property.engine_upheavals import NEW, ODD, StateFiles, bind_during_a_listing, restore_bindings
from tests.simulation.acts import Act, Records, read_records
from tests.simulation.causality import VEILED, Reading
from tests.simulation.crash import Crash, Mortal, Steps
from tests.simulation.judge import judge_audit, judge_rest
from tests.simulation.witness import Witness

T = TypeVar("T")
Doing = Callable[[Link], Awaitable[Report]]

SETTLING = 15
"""Passes after everything has come to rest, within which each order must be in step or held."""
ORDERS = range(1, 9)
UNKNOWN = 9
"""An order that the portal does not know until somebody makes it there."""
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None

SCHEMA = """
CREATE TABLE bindings (order_id INTEGER, kind INTEGER, owner_id INTEGER, channel TEXT NOT NULL DEFAULT 'web');
CREATE TABLE backup AS SELECT * FROM bindings;
CREATE TABLE hidden AS SELECT * FROM bindings;
CREATE TABLE log (seq INTEGER PRIMARY KEY, order_id INTEGER, was INTEGER, becomes INTEGER);
CREATE TRIGGER i AFTER INSERT ON bindings BEGIN INSERT INTO log VALUES (NULL, NEW.order_id, NULL, NEW.owner_id); END;
CREATE TRIGGER u AFTER UPDATE ON bindings BEGIN INSERT INTO log VALUES (NULL, NEW.order_id, OLD.owner_id, NEW.owner_id); END;
CREATE TRIGGER d AFTER DELETE ON bindings BEGIN INSERT INTO log VALUES (NULL, OLD.order_id, OLD.owner_id, NULL); END;
"""

DROP, PUT = "DELETE FROM bindings WHERE order_id = :order", "INSERT INTO bindings VALUES (:order, 2, :owner, 'web')"
REACH = "CREATE TRIGGER IF NOT EXISTS reach"
OF_3 = "ON bindings WHEN NEW.order_id = 3 BEGIN DELETE FROM bindings WHERE order_id = 4; END"
TABLE_EDITS = {
    "table-bind": (DROP, PUT),
    "table-again": (DROP, PUT),
    "table-unkey": ("UPDATE bindings SET order_id = 'A-' || order_id WHERE order_id = :order",),
    "table-rekey": (
        "UPDATE bindings SET order_id = CAST(substr(order_id, 3) AS INTEGER) WHERE typeof(order_id) = 'text'",
    ),
    "table-backup": ("DELETE FROM backup", "INSERT INTO backup SELECT * FROM bindings"),
    "table-restore": ("DELETE FROM bindings", "INSERT INTO bindings SELECT * FROM backup"),
    "table-hide": ("INSERT INTO hidden SELECT * FROM bindings WHERE order_id = :order", DROP),
    "table-unhide": (
        "INSERT INTO bindings SELECT * FROM hidden WHERE order_id NOT IN (SELECT order_id FROM bindings)",
        "DELETE FROM hidden",
    ),
    "table-reload": ("INSERT INTO hidden SELECT * FROM bindings", "DELETE FROM bindings"),
    "table-loaded": (
        "INSERT INTO bindings SELECT * FROM hidden WHERE order_id NOT IN (SELECT order_id FROM bindings) LIMIT 1",
        "DELETE FROM hidden WHERE order_id IN (SELECT order_id FROM bindings)",
    ),
    "table-nowhere": (DROP, PUT),
    "table-unbind": (DROP,),
    "table-null": ("UPDATE bindings SET owner_id = NULL WHERE order_id = :order",),
    "table-double": (PUT,),
    "table-deselect": ("UPDATE bindings SET channel = 'shop' WHERE order_id = :order",),
    "table-select": ("UPDATE bindings SET channel = 'web' WHERE order_id = :order",),
    "table-gone": ("ALTER TABLE bindings RENAME TO elsewhere",),
    "table-back": ("ALTER TABLE elsewhere RENAME TO bindings",),
    "table-refuses": (
        "DROP TRIGGER IF EXISTS no",
        "CREATE TRIGGER no BEFORE UPDATE ON bindings WHEN NEW.order_id IN (1, 2) BEGIN SELECT RAISE(ABORT, 'no'); END",
    ),
    "table-accepts": ("DROP TRIGGER IF EXISTS no",),
    "table-reaches": (f"{REACH}_u AFTER UPDATE {OF_3}", f"{REACH}_i AFTER INSERT {OF_3}"),
    "table-keeps-apart": ("DROP TRIGGER IF EXISTS reach_u", "DROP TRIGGER IF EXISTS reach_i"),
}
"""What an outside writer does to the table. `table-again` sets the owner that the order had first. `table-nowhere` names an
owner that does not exist. After `table-refuses` the database takes no moves of two orders. After `table-reaches` each write of
one order's row deletes another order's row, no matter which program writes."""

UPHEAVALS = {
    "table-unkey": "keys unreadable", "table-rekey": "keys unreadable", "table-restore": "backup restored",
    "table-hide": "rows hidden", "table-unhide": "rows hidden", "table-reload": "reload", "table-loaded": "reload",
    "crm-restore": "backup restored",
}  # fmt: skip
"""What happens to a side though nobody asked for anything."""

CLOCKS = {"clock-back": -(10**7), "clock-a-bit-back": -100, "clock-a-bit-on": 100, "clock-on": 10**7}
PROCESS = ("stop", "rob", "stateless")
"""What may befall a process at any step: it is asked to stop, its lease is taken over, its state database is away."""
HINTS = ("hint", "watch")
"""Somebody says that an order has changed; the watch of the table says it of all that have, as far as it sees them."""


class UnsetClock(FakeClock):
    """The portal's own clock: it goes on with time, whatever ours is set to."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self._ours = clock

    def now(self) -> float:
        return self._ours.now() - self._ours.jump

    def monotonic(self) -> float:
        return self._ours.monotonic()

    async def sleep(self, seconds: float) -> None:
        await self._ours.sleep(seconds)


class Inline(ThreadPoolExecutor):
    """Runs what it is given at once, where it is given."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - the caller gets it with the future
            future.set_exception(error)
        return future


_FIRST: dict[str, Engine] = {}


def share_statements(engine: Engine) -> None:
    """Let a process use the SQL statements that the first process of its kind has compiled: most of a life's time else."""
    first = _FIRST.setdefault(type(engine.pool).__name__, engine)
    engine.dialect, engine._compiled_cache = first.dialect, first._compiled_cache


@cache
def empty_state() -> bytes:
    """A state database as the migrations make it: made once, copied for each world."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        path = Path(folder) / "state.db"
        upgrade(f"sqlite:///{path}")
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return path.read_bytes()


class EngineWorld:
    """See the module. Every promise that is broken raises an AssertionError with a sentence."""

    def __init__(
        self,
        *,
        direction: Direction = Direction.TWO_WAY,
        on_conflict: OnConflict = OnConflict.HOLD,
        settle: float = 60.0,
        max_removes: int = 100,
        conditional: bool = True,
        parts: bool = False,
    ) -> None:
        self._exit = ExitStack()
        self.loop = asyncio.new_event_loop()
        self._exit.callback(self.loop.close)
        self._inline = Inline(1)
        self.loop.set_default_executor(self._inline)
        self.folder = Path(self._exit.enter_context(tempfile.TemporaryDirectory(dir=MEMORY)))
        self.state = StateFiles(self.folder / "state.db", empty_state())
        self.clock = FakeClock()
        self.policy = Policy(direction, on_conflict, DEALS)
        self.limits = replace(FREE, max_removes=max_removes)
        self.settle = settle
        self.parts = parts
        self.hints = Hints()
        self.fingerprint = "ends"
        self.crm = SandboxPortal(orders=frozenset([*ORDERS, *NEW]), clock=UnsetClock(self.clock))
        self.mart = SecondLink(self.clock)
        self.new_orders = count(NEW.start)
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
        self.witness = Witness(self.policy, self.clock.monotonic)
        self.crm_copy: dict[int, tuple[int, int]] = {}
        """The portal's bindings as the last backup has them."""
        self.first: dict[int, int] = {}
        """The owner that each order had first."""
        self.happened: Counter[str] = Counter()
        self.unseen = 0
        self.in_window: set[tuple[int, MaybeOwner]] = set()
        self.plans: list[int] = []
        self.runs: list[int] = []
        limits = f"settle={settle:g} max_removes={max_removes}"
        words = f"{limits} conditional={conditional} parts={parts}"
        self.script = [f"link direction={direction} on_conflict={on_conflict} {words}"]
        if not conditional:
            self.crm.references = References.WHOLE_VALUES
            self.witness.conditional = self.witness.volumes.conditional = False
        self._link: Link | None = None
        self._robbed_at = -1
        self._stateless = False
        self._seen_crm = self._seen_table = 0
        self._overdue: set[int] = set()
        self._let_late_requests_be_told()
        self.look()

    def _let_late_requests_be_told(self) -> None:
        execute, writes = self.crm.execute_late, self.crm.stats.writes

        def told() -> None:
            before = len(writes)
            execute()
            self._overdue.update(range(before, len(writes)))

        self.crm.execute_late = told  # type: ignore[method-assign]

    def close(self) -> None:
        self.run(self.store.aclose())
        self.run(self._anchor.aclose())
        self._exit.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    # -------------------------------------------------------------------- processes

    def _portal(self) -> Any:
        settings = PortalSettings(webhook=SecretStr(WEBHOOK), plan=PortalPlan.BOX)
        return open_portal(settings, link="shop", hosts=self.hosts)

    def _store(self) -> SqlStore:
        store = open_store(f"sqlite:///{self.folder / 'state.db'}", clock=self.clock)
        store._writers = store._readers = self._inline
        share_statements(store._database.engine)
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
        share_statements(table._home.engine)
        return table

    async def process(self, steps: Steps, act: Doing) -> Report:
        """One process from its start to its end, or its death; its files and locks go with it."""
        self.processes += 1
        store, table, portal = self._store(), self._table(), self._portal()
        link = make_link(
            Mortal(portal, "portal", steps),
            Mortal(table, "table", steps),
            Mortal(store, "store", steps),
            self.clock,
            fingerprint=self.fingerprint,
            policy=self.policy,
            limits=self.limits,
            holder=f"host:{self.processes}",
            settle=self.settle,
            slices=SLICES,
            recent_orders=RECENT,
            high_water=self.state.mark,
        )
        self._link, outer = link, self._link
        try:
            return await act(link)
        finally:
            self._link = outer
            await portal.aclose()
            await table.aclose()
            await store.aclose()

    # -------------------------------------------------------------- outside writers

    def edit(self, kind: str, order: int) -> None:
        """Somebody does something to an order, or to the table; kinds that do not apply do nothing."""
        self.script.append(f"edit {kind} {order}")
        self._edit(kind, order)

    def _edit(self, kind: str, order: int) -> None:
        self.look()
        owner = next(self.fresh)
        owner = self.first.setdefault(order, owner) if kind.endswith("-again") else owner
        if kind == "table-nowhere":
            self.crm.missing_owners.add((2, owner))
        if kind == "owners-appear":
            self.crm.missing_owners.clear()
        elif kind in CLOCKS:
            self.clock.jump += CLOCKS[kind]
            self.witness.volumes.exact = False
        elif kind.startswith("crm-"):
            self._edit_crm(kind, order, owner)
        else:
            for statement in TABLE_EDITS[kind]:
                with suppress(sqlite3.OperationalError, sqlite3.IntegrityError):  # the table is away, or refuses
                    self.sql.execute(statement, {"order": order, "owner": owner})
        self.happened[f"edit {kind}"] += 1
        self.look(ours=False, upheaval=UPHEAVALS.get(kind, ""))

    def _edit_crm(self, kind: str, order: int, owner: int) -> None:
        match kind:
            case "crm-bind" | "crm-again":
                self.crm.bind(order, 2, owner)
            case "crm-invoice":
                self.crm.bind(order, 31, owner)
            case "crm-odd":
                self.crm.bind(order, *ODD)
            case "crm-unbind":
                self.crm.unbind(order)
            case "crm-delete":
                self.crm.delete_order(order)
            case "crm-backup":
                self.crm_copy = dict(self.crm.bindings)
            case "crm-restore":
                restore_bindings(self.crm, self.crm_copy)

    def hint(self, order: int) -> None:
        """Somebody says that an order has changed, which need not be true."""
        self.script.append(f"hint {order}")
        self._hint("hint", order)

    def watch(self) -> None:
        """The table's watch looks for changed rows."""
        self.script.append("watch")
        self._hint("watch", 0)

    def _hint(self, kind: str, order: int) -> None:
        self.happened[kind] += 1
        if kind == "hint":
            self.hints.say([order])
        else:
            self.hints.look(self.sql)

    def fault(self, rule: FaultRule) -> None:
        """Something goes wrong on the way to the portal, or there."""
        self.script.append(fault_line(rule))
        self.crm.faults.add(rule)
        self.happened[f"fault {rule.action.value}"] += 1

    def point_elsewhere(self) -> None:
        """The configuration names the other one of two pairs of ends (the sides themselves stay the same)."""
        self.script.append("elsewhere")
        self.fingerprint = "elsewhere" if self.fingerprint == "ends" else "ends"

    def stream(self, times: int) -> None:
        """During the next listings somebody binds new orders, one before each call, so many times."""
        self.script.append(f"stream {times}")
        bind_during_a_listing(self.crm, self.new_orders, times, lambda: self.look(ours=False))
        self.happened["stream"] += 1

    def state_happens(self, what: str) -> None:
        """The state database is copied (`backup`), put back as it was (`restore`), or lost."""
        if what == "restore" and not self.state.copies:
            return
        self.script.append(f"state {what}")
        self.look()
        self.run(self.store.aclose())
        if what == "backup":
            self.state.back_up(len(self.witness.log))
        elif what == "restore":
            self.witness.state_went_back(self.state.restore())
        else:
            self.state.lose()
            self.witness.state_is_gone()
        self.store = self._store()
        self.happened[f"state {what}"] += 1

    def other_link(self, order: int) -> None:
        """Another link in the same state database has a pass."""
        self.script.append(f"mart {order}")
        wrong = self.run(self.mart.live(order, self.store))
        assert not wrong, wrong
        self.happened["mart"] += 1

    def later(self, seconds: float) -> None:
        """Time goes by."""
        self.script.append(f"later {seconds:g}")
        self.clock.advance(seconds)

    def mend(self) -> None:
        """Nothing goes wrong any more."""
        self.script.append("mend")
        self.crm.faults.clear()
        self._edit("table-back", 0)
        for kind in ("table-accepts", "table-keeps-apart", "table-rekey", "table-unhide"):
            self._edit(kind, 0)
        for order in [order for order, owner in self.crm.bindings.items() if owner == ODD]:
            self._edit("crm-bind", order)

    # ---------------------------------------------------------------------- witness

    def look(self, *, ours: bool = True, upheaval: str = "") -> None:
        """Tell the witness what was written since the last look, and what each side says right now."""
        crm = self.crm_now()  # what is due by now happens
        for at in range(self._seen_crm, len(self.crm.stats.writes)):
            one = self.crm.stats.writes[at]
            before: Reading = VEILED if one.before == ODD else one.before and Owner(*one.before)
            after = one.after and Owner(*one.after)
            if one.method != UI:
                self.witness.ours(Side.CRM, one.order_id, before, after, late=at in self._overdue)
        self._seen_crm = len(self.crm.stats.writes)
        for seq, order, was, becomes in self.sql.execute("SELECT * FROM log WHERE seq > ?", (self._seen_table,)):
            if ours:
                before, after = (None if number is None else Owner(2, number) for number in (was, becomes))
                self.witness.ours(Side.TABLE, order, before, after)
            self._seen_table = seq
        odd: dict[int, Reading] = dict.fromkeys((order for order, owner in crm.items() if owner == ODD), VEILED)
        self.witness.look(Side.CRM, {**crm, **odd}, upheaval)
        table = self._table_says()
        if table is not None:
            self.witness.look(Side.TABLE, table, upheaval)

    def _table_says(self) -> dict[int, Reading] | None:
        """Return what the table says of each order that has rows; nothing while the table is away."""
        with suppress(sqlite3.OperationalError):
            rows = self.sql.execute("SELECT DISTINCT order_id FROM bindings").fetchall()
            return {**{order: VEILED for (order,) in rows if isinstance(order, int)}, **self.table_now()}
        return None

    def crm_now(self) -> dict[int, Owner]:
        return {order: Owner(*owner) for order, owner in self.crm.bindings.items()}

    def table_now(self) -> dict[int, Owner]:
        """The orders that have one readable row which `where` selects."""
        rows: dict[int, list[MaybeOwner]] = {}
        with suppress(sqlite3.OperationalError):  # the table is away
            for order, number in self.sql.execute("SELECT order_id, owner_id FROM bindings WHERE channel = 'web'"):
                if isinstance(order, int):
                    rows.setdefault(order, []).append(None if number is None else Owner(2, number))
        return {order: owners[0] for order, owners in rows.items() if len(owners) == 1 and owners[0] is not None}

    def ours(self) -> list[Any]:
        """Return syncd's writes so far."""
        return [one for one in self.witness.log if one.ours]

    # ------------------------------------------------------------------------ syncd

    def syncd(self, what: Pass) -> Report | None:
        """Let syncd act, and hold what it did against what such an act may do."""
        self.script.append(pass_line(what))
        return self._syncd(what)

    def _syncd(self, what: Pass) -> Report | None:
        doing, planned = self._chosen(what)
        if doing is None:
            return None
        self.look()
        self.happened[what.act] += 1
        before, late = self._records(), bool(self.crm.late)
        began, wall, keyless = self.clock.monotonic(), self.clock.now(), self._keyless()
        foreign = what.act != "rebase" and self._stored_ends() not in {"", self.fingerprint}
        steps = Steps(what.crash_at)
        steps.meanwhile = lambda name: self._meanwhile(steps, what, name)
        self._robbed_at, self._stateless = -1, False
        self.witness.act_begins(before, what.act)
        report = self.run(self._act(what, self._disturbed(doing, steps, what), steps))
        self.look()
        after = self._records()
        self.witness.act_ends(
            Act(
                what.act,
                report,
                steps.names,
                self._robbed_at,
                planned,
                late,
                foreign,
                self.limits,
                began,
                wall,
                keyless and self._keyless(),
                max(len(self.crm_now()), len(self.table_now())),
            ),
            after,
            [one for order in self.witness.newly_agreed(after) for one in self.history(order)],
        )
        self._assert_nothing_broken()
        return report

    def _keyless(self) -> bool:
        with suppress(sqlite3.OperationalError):  # the table is away
            query = "SELECT EXISTS (SELECT 1 FROM bindings WHERE typeof(order_id) = 'text')"
            return bool(self.sql.execute(query).fetchone()[0])
        return False

    def _assert_nothing_broken(self) -> None:
        assert not self.witness.broken, "; ".join(map(str, self.witness.broken))

    def _meanwhile(self, steps: Steps, what: Pass, name: str) -> None:
        if ".write " in name:
            self.look()
        if name == "store.rebase after":
            self.witness.rebased()
        for at, kind, order in what.meanwhile:
            if at == steps.taken:
                self.happened[f"{kind} meanwhile"] += 1
                self.look()
                self._happen(steps, kind, order)
        if self._stateless and name.startswith("store."):
            self._stateless = False
            raise StateUnavailable("The state database of the simulation is away.")

    def _happen(self, steps: Steps, kind: str, order: int) -> None:
        assert self._link is not None
        if kind == "stop":
            self._link.cancelled.set("the simulation")
        elif kind == "stateless":
            self._stateless = True
        elif kind in HINTS:
            self._hint(kind, order)
        elif kind == "rob":
            # A loop is running here already; another process has its own.
            robber = threading.Thread(target=lambda: asyncio.run(self._rob(steps)))
            robber.start()
            robber.join(60)
            assert not robber.is_alive(), "the other process never came to its end"
        else:
            self._edit(kind, order)

    async def _rob(self, steps: Steps) -> None:
        """Another process takes the lease over, as after it has expired, and gives it back."""
        assert self._link is not None
        store = open_store(f"sqlite:///{self.folder / 'state.db'}", clock=self.clock)
        try:
            row = await store.find_link("shop")
            leases = await store.leases()
            if row is not None and [one.holder for one in leases] == [self._link.holder]:
                await store.release(await store.acquire(row, "robber", 120, leases[0].expires_at + 1))
                self._robbed_at = steps.taken
        finally:
            await store.aclose()

    async def _act(self, what: Pass, act: Doing, steps: Steps) -> Report | None:
        runs = await self.store.runs("shop", 1)
        try:
            report = await self.process(steps, act)
        except Crash:
            self.happened["crash"] += 1
            return None
        except (StalePlan, UsageError):
            self.happened["turned away"] += 1
            return None
        except SyncdError as error:
            self.happened[f"raised {type(error).__name__}"] += 1
            opened = await self.store.runs("shop", 1) != runs
            if opened and not isinstance(error, StateUnavailable):
                self.witness.say(14, f"{what.act} raised {error!r} instead of reporting it")
            return None
        if report.row.state in {"planned", "refused"}:
            self.plans.append(report.row.plan)
        self.runs.append(report.row.id)
        self.happened[f"run {report.row.state}"] += 1
        return report

    def _chosen(self, what: Pass) -> tuple[Doing | None, list[StoredChange]]:
        """Return what to do, and for `apply` what was planned; nothing where there is no such run."""
        if what.part:
            part = portion_of(what.part, self.hints)
            act = engine.plan if what.act == "plan" else engine.reconcile
            self.happened[f"part {what.part if what.part in {'slice', 'recent', 'hint'} else 'named'}"] += 1
            return (None if part is None else partial(act, origin=part.origin, portion=part.portion)), []
        if what.act not in {"apply", "undo"}:
            return {"pass": engine.reconcile, "plan": engine.plan, "rebase": engine.rebase}[what.act], []
        known = self.plans if what.act == "apply" else self.runs
        if not known:
            return None, []
        run = known[-1 - what.choice % len(known)]
        if what.act == "undo":
            return (lambda link: engine.undo(link, run)), []
        stored, changes = self.run(self.store.run(run)), self.changes(run)
        if stored is not None and STATE_OLDER in {hit.name for hit in stored.guards}:
            self.witness.state_approved()
        if stored is not None and stored.kind == "undo":
            self.witness.undone({one.change.order_id for one in changes})
        return (lambda link: engine.apply(link, run)), [one for one in changes if one.outcome in TO_MAKE]

    def _disturbed(self, act: Doing, steps: Steps, what: Pass) -> Doing:
        """Have a second process try its luck, and somebody else be quicker, where the pass asks for it."""

        async def disturbed(link: Link) -> Report:
            write, listing = link.portal.write, link.portal.listing
            batches = iter(range(1, 10**6))

            async def write_disturbed(batch: Sequence[Write]) -> list[WriteResult]:
                number = next(batches)
                if number == what.visitor_at - 1 and not steps.dead:
                    await self._visit()
                if number == what.race_at and not steps.dead:
                    end = self._race(batch[0].order_id, within=what.window)
                    try:
                        return await write(batch)
                    finally:
                        end()
                return await write(batch)

            async def listing_disturbed(*args: Any, **kwargs: Any) -> AsyncIterator[Listed]:
                if what.visitor_at == 1 and not steps.dead:
                    await self._visit()
                async for rows in listing(*args, **kwargs):
                    yield rows

            link.portal.write = write_disturbed  # type: ignore[method-assign]
            link.portal.listing = listing_disturbed  # type: ignore[method-assign]
            return await act(link)

        return disturbed

    async def _visit(self) -> None:
        """A second process comes while the first one has the lease: it is turned away, and writes nothing."""
        if self._robbed_at >= 0 or any(one.expires_at <= self.clock.now() for one in await self.store.leases()):
            return
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
            self._edit("crm-bind", order)
            return lambda: None
        self.witness.volumes.conditional = False  # an add may become a move in the portal, whatever was planned
        raced: list[int] = []

        def race(method: str, _params: object, _request: int) -> None:
            if method in {"crm.orderentity.add", "crm.orderentity.deletebyfilter"} and not raced:
                raced.append(order)
                self._edit("crm-bind", order)
                self.in_window.add((order, self.crm_now()[order]))

        return self.crm.before_call(race)

    def decide(self, choice: int, decision: str) -> None:
        """A person decides one of the open holds."""
        self.script.append(f"decide {choice} {decision}")
        holds, row = sorted(self.holds()), self.run(self.store.find_link("shop"))
        if holds and row is not None:
            order = holds[choice % len(holds)]
            self.run(self.store.decide(row.id, [order], decision, self.clock.now()))
            (self.witness.undone if decision == "retry" else self.witness.asks)([order])
            self.happened[f"decide {decision}"] += 1

    # ----------------------------------------------------------------------- records

    def changes(self, run: int) -> list[StoredChange]:
        return self.run(self.store.changes(run))

    def history(self, order: int) -> list[StoredChange]:
        return self.run(self.store.history("shop", order, 10**6))

    def _records(self) -> Records:
        return self.run(read_records(self.store))

    def agreed(self) -> dict[int, Owner]:
        return self._records().agreed

    def holds(self) -> dict[int, str]:
        return {order: stored.hold.kind.value for order, stored in self._records().holds.items()}

    def _stored_ends(self) -> str:
        row = self.run(self.store.find_link("shop"))
        return "" if row is None else row.fingerprint

    # ------------------------------------------------------------------------ the end

    def rest(self) -> None:
        """Nothing goes wrong any more, nobody else writes, everybody's patience pays; then every promise is judged."""
        self.script.append("rest")
        self.mend()
        self.script.pop()
        self.clock.advance(100)  # what is still under way arrives
        self.look()
        self.limits = FREE
        if self.parts:
            self._rest_by_parts()
        shown = self._come_to_rest()
        orders = (*ORDERS, UNKNOWN, *(order for order in NEW if order in self.crm.bindings))
        self.run(judge_rest(self.witness, self.store, orders, shown))
        self.unseen = self.run(judge_audit(self.witness, self.store, orders, window=self.in_window))
        self._assert_nothing_broken()

    def _rest_by_parts(self) -> None:
        """Within some rotations passes over parts have nothing to do; then one over all has none either (39)."""
        for _ in range(SETTLING):
            before = len(self.witness.log)
            reports = [self._syncd(Pass("pass", part=part)) for part in ("recent", *["slice"] * (SLICES + 1))]
            if any(
                report is not None and [hit.name for hit in report.row.guards] == ["fingerprint"] for report in reports
            ):
                return  # one over all says so too, and is told what to do
            for report in reports:
                if report is not None and report.row.state == "refused":  # a side that is empty, and is meant to be
                    self._syncd(Pass("apply"))
            self.clock.advance(4000)
            self.look()
            if len(self.witness.log) == before and all(one is not None and one.error is None for one in reports):
                break
        before = len(self.witness.log)
        report = self._syncd(Pass("pass"))
        assert report is None or report.row.guards or len(self.witness.log) == before, (
            "passes over parts came to rest, and one over all wrote (39)"
        )

    def _come_to_rest(self) -> set[int]:
        """Within some passes syncd must have nothing to do; return the orders its last run shows as held (14, 26)."""
        began, quiet = len(self.witness.log), 0
        for _ in range(SETTLING):
            before = len(self.witness.log)
            report = self._syncd(Pass("pass"))
            assert report is not None
            guards = [hit.name for hit in report.row.guards]
            if guards == ["fingerprint"]:
                self.fingerprint = self._stored_ends()
            elif report.row.state == "refused":  # a side that is empty, and is meant to be
                self._syncd(Pass("apply"))
            self.clock.advance(4000)
            self.look()
            still = len(self.witness.log) == before and report.error is None and guards != ["fingerprint"]
            quiet = quiet + 1 if still else 0
            if quiet == 2:
                writes = [(one.side, one.order, one.after) for one in self.witness.log[began:]]
                assert len(set(writes)) == len(writes), "without outside writers, a change was written twice"
                return {hold.order_id for hold in report.holds}
        raise AssertionError(f"still writing after {SETTLING} quiet passes")
