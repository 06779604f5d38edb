"""Links whose passes are killed, with the program as it is shipped, and the person who looks after them.

The witness and the judge of simulated lives (`tests/simulation`) hold every act against what it may do, and the end
against the audit. The program's clock is set forward between its passes, so that some hundred of them take weeks: what
is counted by the day, and what waits for a second look, goes its ordinary way.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import pytest
import sqlalchemy as sa

from syncd.core.guards import STATE_OLDER, GuardLimits
from syncd.core.model import Direction, OnConflict, Policy, Side
from syncd.core.records import Absence, RunRow, StoredChange, StoredHold
from syncd.core.store import Store
from syncd.engine.report import TO_MAKE, Report
from syncd.obs.clock import SystemClock
from syncd.sandbox import Fault, FaultRule, Faults
from syncd.sandbox.bindings import ListPage
from syncd.state.rows import change_of, hold_of
from syncd.state.schema import absence, change, hold
from syncd.state.store import SqlStore, open_store
from tests.loaded_python import LoadedPython
from tests.simulation.acts import Act, Records, read_records
from tests.simulation.judge import judge_audit, judge_rest
from tests.simulation.witness import Witness
from tests.system.link_part import EXISTING, PORTAL, TABLE, UNKNOWN, LinkPart
from tests.system.outsiders import Outsiders
from tests.system.shop import environment, open_shop
from tests.system.sides_log import SidesLog
from tests.system.state_files import back_up, restore
from tests.system.timeline import Timeline, Told, orders_in

T = TypeVar("T")
Due = Callable[[], bool]

SET_FORWARD = """
import os, sys, time
from syncd.cli.main import main
from syncd.obs.clock import SystemClock

later = float(sys.argv.pop(1))
SystemClock.now = lambda _: time.time() + later
code = main()
sys.stderr.flush()
os._exit(code)
"""
"""The program with its time of day set forward by so many seconds, its first argument.

It ends at once: to take down all that is loaded would cost several times what the command does.
"""

SLOW_ADD = FaultRule(Fault.SLOW, method="crm.orderentity.add", probability=0.1, times=None, seconds=0.005)
"""An add that takes a moment now and then, so that others get a word in within a batch."""

HOUR = 3600.0
LOOK = 90.0
"""Seconds between two passes at least: what is absent in both of them is gone."""
DECIDED = ("edit-edit", "edit-remove", "remove-edit", "create-create", "uncertain", "flapping")
"""The kinds of holds that a person decides; the others end when what they wait for is there."""
PAUSE = 0.02
"""Seconds between two edits while a pass is at work."""
PATIENCE = 60.0
"""Seconds after which a request that is under way never ends."""
SETTLING = 15
"""Passes after the last kill by which there is nothing left to do."""


class Ended(NamedTuple):
    """What an act came to: its exit code, None where it was killed, and the run it made."""

    code: int | None
    run: RunRow | None

    @property
    def is_refused(self) -> bool:
        return self.run is not None and self.run.state == "refused"


class Backup(NamedTuple):
    """Both sides of a link and the state database at one moment, when so much had been written on each link's sides."""

    sides: dict[Side, dict[int, int]]
    state: Path
    written: list[int]


@dataclass
class Later:
    """How much later the program's time of day is than it is."""

    seconds: float = 0.0


@dataclass
class _Audit:
    """The state database as the judge reads it at the end: what it asks of each order, read at once."""

    store: SqlStore
    changes_of: dict[int, list[StoredChange]]
    holds_of: dict[int, list[tuple[StoredHold, float | None]]]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    async def history(self, _link: str, order: int, _limit: int) -> list[StoredChange]:
        return self.changes_of.get(order, [])

    async def past_holds(self, _link: str, order: int) -> list[tuple[StoredHold, float | None]]:
        return self.holds_of.get(order, [])


class KilledLink:
    """See the module.

    Args:
        shop: The link, before anything is written; both sides are to have its first `orders` orders.
        orders: How many those are.
        seed: Of the moments and the edits.
        beside: A link that shares the portal and the state database.
    """

    def __init__(self, shop: LinkPart, orders: int, seed: int, beside: KilledLink | None = None) -> None:
        self.beside = beside
        self.links = [self, *([beside] if beside else [])]
        self.later: Later = beside.later if beside else Later()
        self.happened: Counter[str] = Counter()
        self.shop = shop
        self.witness = Witness(Policy(Direction.TWO_WAY, OnConflict.HOLD, shop.scope), self.now)
        self.log = SidesLog(shop, self.witness)
        self.outsiders = Outsiders(shop, self.log, orders, seed)
        self.timeline = Timeline(self.witness, self.log.pages)
        self.unseen = 0
        self._dice = random.Random(seed)
        self._backups: list[Backup] = []
        self._put_right: tuple[Side, dict[int, int]] | None = None
        self._ways = itertools.cycle([True, False])
        self._kills_apply = itertools.cycle([True, False])
        self._keeps = itertools.cycle(["crm", "table"])
        self._had_killed = False
        self._shown_held: set[int] = set()
        """The orders whose holds the last command printed: a refused run keeps none."""
        self._moments = itertools.cycle(
            [self._at_a_write, self._after_a_table_write, self._before_a_late_request, self._at_any_time]
        )
        with self.log.table() as connection:
            connection.executemany("INSERT INTO bindings VALUES (?, ?, 'web')", shop.crm().items())

    # ------------------------------------------------------------------------ time

    def now(self) -> float:
        """Return the time of day of the program."""
        return time.time() + self.later.seconds

    def wait(self, seconds: float) -> None:
        """Time goes by."""
        self.later.seconds += seconds

    # ----------------------------------------------------------------------- state

    @property
    def _state(self) -> Path:
        return self.shop.directory / "syncd.db"

    def _ask(self, question: Callable[[SqlStore], Awaitable[T]]) -> T:
        async def asked() -> T:
            store = open_store(f"sqlite:///{self._state}", clock=SystemClock())
            try:
                return await question(store)
            finally:
                await store.aclose()

        return asyncio.run(asked())

    def records(self) -> Records:
        """Return what the state database says; nothing where there is none."""
        if not self._state.exists() or not self._state.stat().st_size:
            return Records()
        return self._ask(lambda store: read_records(store, self.shop.name))

    def _rows(self, query: sa.Select[Any]) -> Sequence[sa.RowMapping]:
        engine = sa.create_engine(f"sqlite:///{self._state}", poolclass=sa.NullPool)
        with engine.connect() as connection:
            return connection.execute(query).mappings().all()

    def _changes(self, orders: Sequence[int]) -> list[StoredChange]:
        found: list[StoredChange] = []
        for start in range(0, len(orders), 500):
            query = sa.select(change).where(change.c.order_id.in_(orders[start : start + 500])).order_by(change.c.id)
            found += map(change_of, self._rows(query))
        return found

    # ------------------------------------------------------------------------ acts

    def act(self, verb: str, *words: str, kill: bool = False) -> Ended:
        """Let the program do something, while others edit; hold it against what it may do.

        Args:
            verb: The command.
            words: More of it; the link's name if there is none.
            kill: Kill it at a moment that is drawn, unless it comes to its end before.
        """
        words = words or (self.shop.name,)
        outsiders, witness = self.outsiders, self.witness
        self.log.tell()
        before, keyless = self.records(), outsiders.keys_are_broken
        witness.act_begins(before, "pass" if verb == "reconcile" else verb)
        began, first, late = self.now(), self.timeline.place, self._had_killed
        planned = self._planned(int(words[0])) if verb == "apply" else []
        self.log.processes += 1
        with outsiders.at_work(PAUSE):
            code = self._killed(verb, *words) if kill else self._run(verb, *words)
        self.log.tell()
        after = self.records()
        run, changes = self._last_run(before, after) if code is not None else (None, [])
        mine = [one for one in witness.log[first.log :] if one.ours and not one.late]
        sides = {Side.CRM: "portal", Side.TABLE: "table"}
        act = Act(
            "pass" if verb == "reconcile" else verb,
            None if run is None else Report(run, changes),
            [f"{sides[one.side]}.write before" for one in mine],
            planned=planned,
            late=late or any(one.ours and one.late for one in witness.log[first.log :]),
            limits=GuardLimits(),
            began=began,
            wall=began,
            keyless=keyless and outsiders.keys_are_broken,
            rows=max(len(self.shop.crm()), len(outsiders.copy(Side.TABLE))),
        )
        said = " ".join([verb, *words])
        told = Told(
            said,
            began,
            self.now(),
            code,
            after.last_run,
            first,
            self.timeline.place,
            after.agreed,
            self._waiting(),
            after.holds,
        )
        self.timeline.add(told)
        with self._explained(f"{said} (run {after.last_run})"):
            witness.act_ends(act, after, self._changes(witness.newly_agreed(after)))
        self._had_killed = code is None
        self.happened["killed" if code is None else f"{verb} ended with {code}"] += 1
        for order in after.holds.keys() - before.holds.keys():
            self.happened[f"held as {after.holds[order].hold.kind.value}"] += 1
        self.happened["writes rolled back for what triggers did"] += sum("rolled back" in one.error for one in changes)
        if code is None:
            self.happened["kills that left writes in flight"] += bool(after.intents)
        return Ended(code, run)

    def _planned(self, run: int) -> list[StoredChange]:
        stored = self._ask(lambda store: store.run(run))
        assert stored is not None
        if STATE_OLDER in {hit.name for hit in stored.guards}:
            self.witness.state_approved()
        return [one for one in self._ask(lambda store: store.changes(run)) if one.outcome in TO_MAKE]

    def _last_run(self, before: Records, after: Records) -> tuple[RunRow | None, list[StoredChange]]:
        if (after.generation, after.last_run) == (before.generation, before.last_run):
            return None, []

        async def read(store: SqlStore) -> tuple[RunRow, list[StoredChange]]:
            (row,) = await store.runs(self.shop.name, 1)
            return row, list(await store.changes(row.id))

        return self._ask(read)

    def _run(self, verb: str, *words: str) -> int:
        ran = self.shop.call("--log-level", "error", verb, *words, "--json")
        assert ran.code in {0, 2, 3, 4, 5}, f"{verb} ended with {ran.code}\n{ran.out}\n{ran.err}"
        reports = ran.json if isinstance(ran.json, list) else [ran.json]
        self._shown_held = {one["order_id"] or 0 for report in reports for one in report.get("holds", ())}
        return ran.code

    # ---------------------------------------------------------------------- alarms

    @contextmanager
    def _explained(self, where: str) -> Iterator[None]:
        """Print what the judge finds fault with in the block, and all that happened to the orders it names."""
        known = len(self.witness.broken)
        yield
        for one in self.witness.broken[known:]:
            print(f"{where}: {one}")
            for order in orders_in(one):
                print(self.timeline.of(order, self._changes([order])))

    def _waiting(self) -> dict[int, Absence]:
        if not self._state.exists() or not self._state.stat().st_size:
            return {}
        return {
            row["order_id"]: Absence(row["order_id"], Side(row["side"]), row["since"])
            for row in self._rows(sa.select(absence))
        }

    # ----------------------------------------------------------------------- kills

    @property
    def kills(self) -> int:
        return self.happened["killed"]

    def _killed(self, verb: str, *words: str) -> int | None:
        """Start a process and kill it; return its exit code if it was quicker."""
        directory, printed = self.shop.directory, self.shop.directory / "printed"
        with next(self._moments)() as (name, watch), printed.open("w") as output:
            config = str(self.shop.configure())
            program = ["-c", SET_FORWARD, str(self.later.seconds), "--config", config, "--log-level", "error"]
            streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
            process = LoadedPython([*program, verb, *words], env=environment(), cwd=directory, **streams)
            due = watch(process)
            while process.poll() is None and not due():
                time.sleep(0.005)
            process.kill()
            code = process.wait()
        if code == -signal.SIGKILL:
            self.happened[f"killed at {name}"] += 1
            return None
        self.log.let_go()
        assert code in {0, 3, 4, 5}, f"{verb} ended with {code}\n{printed.read_text()}"
        self.happened["came to its end first"] += 1
        return code

    @contextmanager
    def _at_a_write(self) -> Iterator[tuple[str, Callable[[LoadedPython], Due]]]:
        """Right before the portal executes the so-many-th write."""
        left = itertools.count(self._dice.randrange(1, 12), -1)
        running: list[LoadedPython] = []

        def count(method: str, _params: object, _request: int) -> None:
            if method.startswith("crm.orderentity.") and not method.endswith(".list") and next(left) == 1:
                running[0].kill()

        def watch(process: LoadedPython) -> Due:
            running.append(process)
            return lambda: False

        stop = self.shop.portal.before_call(count)
        yield "a write of the portal", watch
        stop()

    @contextmanager
    def _after_a_table_write(self) -> Iterator[tuple[str, Callable[[LoadedPython], Due]]]:
        wanted, place = self._dice.randrange(1, 12), self.log.place()
        yield "a write to the table", lambda _: lambda: self.log.written_to_table(place) >= wanted

    @contextmanager
    def _before_a_late_request(self) -> Iterator[tuple[str, Callable[[LoadedPython], Due]]]:
        self.log.hold_up(self._dice.randrange(1, 3))
        yield "a request that is executed later", lambda _: lambda: self.log.is_holding

    @contextmanager
    def _at_any_time(self) -> Iterator[tuple[str, Callable[[LoadedPython], Due]]]:
        seconds = self._dice.uniform(0.05, 0.8)

        def watch(_: LoadedPython) -> Due:
            end = time.monotonic() + seconds
            return lambda: time.monotonic() >= end

        yield "any time", watch

    def _let_all_arrive(self) -> None:
        """Wait until the portal has executed every request: one that it held would outlive the records of it."""
        for link in self.links:
            link.log.let_go()
        end = time.monotonic() + PATIENCE
        while not self.log.is_idle:
            assert time.monotonic() < end, "a request never ends"
            time.sleep(0.01)
        for link in self.links:
            link.log.tell()

    # ------------------------------------------------------------------ the person

    def live(self, *, kill: bool) -> None:
        """Outsiders edit both sides, and a pass brings them into step; it may be one that heals what a kill left open."""
        self.outsiders.make_changes(self.records().holds)
        if kill:
            self.one_pass()
        self.one_pass(kill=False)
        self.decide()

    def one_pass(self, *, kill: bool = True) -> None:
        """A scheduled pass; where its plan is refused, the person looks after it."""
        ended = self.act("reconcile", kill=kill)
        if ended.is_refused:
            assert ended.run is not None
            self.happened[f"refused by {', '.join(sorted({hit.name for hit in ended.run.guards}))}"] += 1
            self._look_at(ended.run)

    def _look_at(self, run: RunRow) -> None:
        """Deal with a refused plan: undo the upheaval that made it, apply the plan, or plan anew and apply that."""
        first_way = next(self._ways)
        if STATE_OLDER in {hit.name for hit in run.guards}:
            if first_way:
                self._apply(run)
            else:
                self.act("rebase")
        elif self.outsiders.rows_are_away:
            self.outsiders.show()
        elif self._put_right is not None and first_way:
            self.outsiders.restore(*self._put_right)
        elif first_way:
            self._apply(run)
        else:
            planned = self.act("plan")
            assert planned.run is not None
            if planned.run.state in {"planned", "refused"}:
                self._apply(planned.run)
        self._put_right = None

    def _apply(self, run: RunRow, *, kill: bool | None = None) -> None:
        self.act("apply", str(run.plan), kill=next(self._kills_apply) if kill is None else kill)
        self.happened["refused or stored plans applied"] += 1

    def decide(self) -> int:
        """The person decides all orders in conflict; return how many."""
        held = {order: one for order, one in self.records().holds.items() if one.hold.kind in DECIDED}
        if held:
            kinds = [word for kind in DECIDED for word in ("--kind", kind)]
            self.shop.call("resolve", self.shop.name, "--all", *kinds, "--keep", next(self._keeps), "--json").check(0)
            decided = [order for order, one in self.records().holds.items() if one.decision]
            self.witness.asks(decided)
            self.happened["holds decided"] += len(decided)
        return len(held)

    # ------------------------------------------------------------------- upheavals

    def back_up(self) -> None:
        """Copy both sides and the state database."""
        self._let_all_arrive()
        copy = back_up(self._state, self.shop.directory / f"backup-{len(self._backups)}.db")
        sides = {side: self.outsiders.copy(side) for side in Side}
        self._backups.append(Backup(sides, copy, [len(link.witness.log) for link in self.links]))

    def restore(self, side: Side) -> None:
        """Put the last backup of a side back."""
        if self._backups:
            self._put_right = side, self.outsiders.copy(side)
            self.outsiders.restore(side, self._backups[-1].sides[side])

    def restore_state(self) -> None:
        """Put the last backup of the state database back."""
        if self._backups:
            self._drop_state()
            backup = self._backups[-1]
            restore(self._state, backup.state)
            for link, written in zip(self.links, backup.written, strict=True):
                link.witness.state_went_back(written)
            self.happened["state databases restored"] += 1

    def lose_state(self) -> None:
        """The state database is gone: a pass says so and writes nothing, and the person begins anew."""
        self._drop_state()
        for link in self.links:
            link.witness.state_is_gone()
        self.shop.call("reconcile").check(69)
        self._backups.clear()
        for link in self.links:
            link.act("rebase")
        self.happened["state databases lost"] += 1

    def _drop_state(self) -> None:
        self._let_all_arrive()
        for link in self.links:
            link._judge_audit()
        for suffix in ("", "-wal", "-shm"):
            Path(f"{self._state}{suffix}").unlink(missing_ok=True)

    # ------------------------------------------------------------------------- end

    def rest(self) -> None:
        """Stop all edits, bring back what is away, apply refused plans and decide holds; then judge everything."""
        self.outsiders.mend()
        self._let_all_arrive()
        with self.outsiders.resting():
            self._come_to_rest()
        with self._explained("at rest"):
            name, orders = self.shop.name, sorted(self.witness.places)
            self._ask(lambda store: judge_rest(self.witness, cast("Store", store), orders, name=name))
        self._judge_audit()

    def _come_to_rest(self) -> None:
        began, quiet = len(self.witness.log), 0
        for _ in range(SETTLING):
            before = len(self.witness.log)
            self.wait(2 * HOUR)
            ended = self.act("reconcile")
            assert ended.run is not None
            if ended.run.plan in {0, ended.run.id}:
                self._judge_pending(ended.run)
            if ended.is_refused:
                self._apply(ended.run, kill=False)
            quiet = quiet + 1 if len(self.witness.log) == before and not ended.is_refused and not self.decide() else 0
            if quiet == 2:
                break
        else:
            self.witness.say(14, f"still at work after {SETTLING} quiet passes")
        writes = Counter((one.side, one.order, one.after) for one in self.witness.log[began:])
        if writes and max(writes.values()) > 1:
            self.witness.say(26, "without outside writers, a change was written twice")

    def _judge_pending(self, run: RunRow) -> None:
        """Each order is in step, or held, or part of the plan that was refused, or waits for its second look (31)."""

        async def judge(store: SqlStore) -> None:
            planned = {one.change.order_id for one in await store.changes(run.id) if one.outcome in TO_MAKE}
            shown = planned | self._shown_held
            orders = sorted(self.witness.places)
            await judge_rest(self.witness, cast("Store", store), orders, shown, promise=31, name=self.shop.name)

        with self._explained(f"refused or pending in run {run.id}"):
            self._ask(judge)

    def _judge_audit(self) -> None:
        """Hold what was written against the audit, which is about to be lost, or complete."""
        orders = sorted(self.witness.places)
        changes: dict[int, list[StoredChange]] = {}
        for stored in self._changes(orders):
            changes.setdefault(stored.change.order_id, []).append(stored)
        holds: dict[int, list[tuple[StoredHold, float | None]]] = {}
        for row in self._rows(sa.select(hold).order_by(hold.c.id)):
            holds.setdefault(row["order_id"], []).append((hold_of(row), row["released_at"]))

        async def judge(store: SqlStore) -> int:
            audit = cast("Store", _Audit(store, changes, holds))
            return await judge_audit(self.witness, audit, orders, window=self.log.in_window, name=self.shop.name)

        with self._explained("the audit"):
            self.unseen += self._ask(judge)

    @property
    def figures(self) -> dict[str, int]:
        """How often each thing happened."""
        log = self.witness.log
        counted = {
            "writes of syncd": sum(one.ours for one in log),
            "requests executed late": self.log.late_writes,
            "rows rewritten by triggers": self.log.rewritten,
            "overwritten unseen, in the windows of the guarantees": self.unseen,
        }
        figures = self.outsiders.happened + self.happened + self.witness.happened + Counter(counted)
        if self.beside is not None:
            figures += Counter({f"second link: {name}": number for name, number in self.beside.figures.items()})
        return dict(figures)


@contextmanager
def open_killed_link(directory: Path, orders: int, seed: int, *, beside: int = 0) -> Iterator[KilledLink]:
    """Open a link that is in step, whose requests live for two seconds.

    Args:
        directory: Of its files.
        orders: How many orders both sides have.
        seed: Of all that happens.
        beside: How many orders a second link has, over the same portal and in the same state database; 0: there is none.
    """
    with ExitStack() as stack:
        firsts = {"shop": (1, orders), "mart": (2 * UNKNOWN + 1, beside)}
        bound = {order: order for first, number in firsts.values() for order in range(first, first + number)}
        known = frozenset(order for first, _ in firsts.values() for order in range(first, first + EXISTING))
        options = {"orders": known, "faults": Faults([SLOW_ADD], seed=seed)}
        shop = stack.enter_context(open_shop(directory, bound, **options))
        part, other = (LinkPart(shop, name, first) for name, (first, _) in firsts.items())
        shop.settings |= part.settings()
        shop.portal_settings, shop.extra = PORTAL, TABLE
        mart = None
        if beside:
            shop.more_links = other.section()
            mart = KilledLink(other, beside, seed)
        link = KilledLink(part, orders, seed, mart)
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(SystemClock, "now", lambda _: link.now())
        patch.setattr(ListPage, "_dicts", _some_without_field)
        for one in link.links:
            stack.callback(one.log.close)
            with one.outsiders.resting():
                one.act("reconcile")
        yield link


def _some_without_field(
    page: ListPage, rows: Callable[[ListPage], list[dict[str, int | None]]] = ListPage._dicts
) -> list[dict[str, int | None]]:
    """Return the rows of a page of the portal's list; every second one that names no owner lacks the field."""
    return [
        {name: value for name, value in row.items() if value is not None or number % 2}
        for number, row in enumerate(rows(page))
    ]
