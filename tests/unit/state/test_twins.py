"""The store in memory and the one on SQLite are driven side by side: whatever is done, they answer alike."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from syncd.core.model import Action, Change, Facts, Hold, HoldKind, Outcome, Owner, Reason, Side, Unreadable
from syncd.core.records import Attempt, BindingUpdate, ChangeOutcome, Lease, StoredHold
from syncd.core.store import Store
from syncd.errors import SyncdError
from syncd.state.migrate import upgrade
from syncd.state.store import SqlStore, open_store
from tests.fakes.clock import SetClock
from tests.fakes.store import MemoryStore

NOW = 1_800_000_000.0
TTL = 60.0
HOLDERS = ("a", "b")
ORDERS = st.integers(min_value=0, max_value=4)
OWNERS = st.sampled_from([None, Owner(2, 1), Owner(2, 2), Owner(31, 1)])
UNREADABLE = st.sampled_from([None, None, Unreadable(HoldKind.INVALID_ROW, "owner id is null")])
FACTS = st.builds(Facts, OWNERS, OWNERS, OWNERS, UNREADABLE)
CHANGES = st.builds(
    Change,
    ORDERS,
    st.sampled_from(Side),
    st.sampled_from([Action.ADD, Action.MOVE, Action.REMOVE]),
    OWNERS,
    OWNERS,
    st.sampled_from(Reason),
    FACTS,
    OWNERS,
    st.sampled_from([None, HoldKind.FLAPPING]),
)
AGREEMENTS = st.builds(
    Change, ORDERS, st.none(), st.just(Action.AGREE), OWNERS, OWNERS, st.just(Reason.BOTH_EQUAL), FACTS, OWNERS
)
UPDATES = st.builds(BindingUpdate, ORDERS, OWNERS, OWNERS)
HOLDS = st.builds(
    StoredHold,
    st.builds(
        Hold,
        ORDERS,
        st.sampled_from([HoldKind.EDIT_EDIT, HoldKind.UNCERTAIN]),
        FACTS,
        st.sampled_from(["differ", "differ again"]),
        st.sampled_from([0.0, NOW - 5]),
        st.none() | st.builds(Facts, OWNERS, OWNERS, OWNERS, st.none()),
    ),
    st.booleans(),
)
OUTCOMES = st.sampled_from([Outcome.APPLIED, Outcome.ALREADY, Outcome.FAILED, Outcome.SKIPPED])
ATTEMPTS = st.builds(Attempt, ORDERS, st.integers(0, 2), st.just(NOW), st.just("refused"))


def once_an_order(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(
        strategy,
        max_size=3,
        unique_by=lambda one: one.hold.order_id if isinstance(one, StoredHold) else one.order_id,
    )


class Twins(RuleBasedStateMachine):
    """Two processes on one link, each with a store on the same SQLite file; in memory they share one object."""

    template: Path

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        shutil.copy(self.template, f"{self.folder.name}/state.db")
        self.clock = SetClock(NOW)
        self.memory = MemoryStore(self.clock)
        self.stores: dict[str, SqlStore] = {}
        self.leases: dict[str, Lease] = {}
        self.reborn: set[str] = set()
        self.run_ids: list[int] = []
        self.change_ids: list[int] = []

    def teardown(self) -> None:
        for store in self.stores.values():
            self.runner.run(store.aclose())
        self.runner.close()
        self.folder.cleanup()

    def both(self, holder: str, ask: Callable[[Store], Awaitable[Any]]) -> Any:
        """Ask both twins; return what they answer, which is the same, or None where both refuse alike."""
        answers = []
        for store in (self.stores[holder], self.memory):
            try:
                answers.append(self.runner.run(_awaited(ask(store))))
            except SyncdError as error:
                answers.append(type(error))
        assert answers[0] == answers[1]
        return None if isinstance(answers[0], type) else answers[0]

    @initialize()
    def open(self) -> None:
        for holder in HOLDERS:
            self.stores[holder] = open_store(f"sqlite:///{self.folder.name}/state.db", clock=self.clock)
        self.both("a", lambda store: store.link("shop", "ends"))

    @rule(seconds=st.sampled_from([0.0, 1.0, TTL + 1, -10.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.time += seconds

    @rule(holder=st.sampled_from(HOLDERS))
    def acquire(self, holder: str) -> None:
        link = self.both(holder, lambda store: store.find_link("shop"))
        lease = self.both(holder, lambda store: store.acquire(link, holder, TTL, self.clock.time))
        if lease is not None:
            self.leases[holder] = lease
            self.reborn.discard(holder)

    @rule(holder=st.sampled_from(HOLDERS))
    def die(self, holder: str) -> None:
        self.runner.run(self.stores[holder].aclose())
        self.stores[holder] = open_store(f"sqlite:///{self.folder.name}/state.db", clock=self.clock)
        self.memory.bury(holder)
        self.reborn.add(holder)

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        holder, lease = self.some_lease(data)
        assume(holder not in self.reborn)  # only the process that took a lease renews it
        self.both(holder, lambda store: store.renew(lease, TTL, self.clock.time))

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        holder, lease = self.some_lease(data)
        self.both(holder, lambda store: store.release(lease))

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def rebase(self, data: st.DataObject) -> None:
        holder, lease = self.some_lease(data)
        link = self.both(holder, lambda store: store.rebase(lease, "other ends", self.clock.time))
        if link is not None:
            self.leases[holder] = lease._replace(link_id=link.id)

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), kind=st.sampled_from(["pass", "plan"]))
    def start_run(self, data: st.DataObject, kind: str) -> None:
        holder, lease = self.some_lease(data)
        run = self.both(holder, lambda store: store.start_run(lease, kind, "command", self.clock.time))
        self.run_ids += [] if run is None else [run]

    @precondition(lambda self: self.leases and self.run_ids)
    @rule(data=st.data(), changes=st.lists(CHANGES, max_size=4))
    def save_plan(self, data: st.DataObject, changes: list[Change]) -> None:
        holder, lease = self.some_lease(data)
        run = data.draw(st.sampled_from(self.run_ids))
        self.change_ids += self.both(holder, lambda store: store.save_plan(lease, run, changes)) or []

    @precondition(lambda self: self.leases and self.run_ids)
    @rule(data=st.data())
    def spend(self, data: st.DataObject) -> None:
        holder, lease = self.some_lease(data)
        run = data.draw(st.sampled_from(self.run_ids))
        self.both(holder, lambda store: store.spend(lease, run, run))

    @precondition(lambda self: self.leases and self.change_ids)
    @rule(data=st.data())
    def intend(self, data: st.DataObject) -> None:
        holder, lease = self.some_lease(data)
        ids = data.draw(st.lists(st.sampled_from(self.change_ids), max_size=3, unique=True))
        self.both(holder, lambda store: store.intend(lease, ids, self.clock.time, len(ids)))

    @precondition(lambda self: self.leases and self.change_ids and self.run_ids)
    @rule(data=st.data(), holds=once_an_order(HOLDS), attempts=once_an_order(ATTEMPTS))
    def record(self, data: st.DataObject, holds: list[StoredHold], attempts: list[Attempt]) -> None:
        holder, lease = self.some_lease(data)
        run = data.draw(st.sampled_from(self.run_ids))
        ids = data.draw(st.lists(st.sampled_from(self.change_ids), max_size=3, unique=True))
        outcomes = [
            ChangeOutcome(number, data.draw(OUTCOMES), "", data.draw(OWNERS), data.draw(st.booleans()), update)
            for number, update in zip(ids, data.draw(once_an_order(UPDATES)), strict=False)
        ]
        now = self.clock.time
        self.both(holder, lambda store: store.record(lease, run, outcomes, now=now, holds=holds, attempts=attempts))

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), updates=st.lists(UPDATES, max_size=5))
    def observe(self, data: st.DataObject, updates: list[BindingUpdate]) -> None:
        holder, lease = self.some_lease(data)
        self.both(holder, lambda store: store.observed(lease, updates))

    @precondition(lambda self: self.leases and self.run_ids)
    @rule(data=st.data(), agreed=st.lists(st.tuples(AGREEMENTS, UPDATES), max_size=3))
    def agree(self, data: st.DataObject, agreed: list[tuple[Change, BindingUpdate]]) -> None:
        holder, lease = self.some_lease(data)
        run = data.draw(st.sampled_from(self.run_ids))
        self.both(holder, lambda store: store.agree(lease, run, agreed))

    @precondition(lambda self: self.leases and self.run_ids)
    @rule(data=st.data(), opened=once_an_order(HOLDS), released=st.lists(ORDERS, max_size=2))
    def hold(self, data: st.DataObject, opened: list[StoredHold], released: list[int]) -> None:
        holder, lease = self.some_lease(data)
        run = data.draw(st.sampled_from(self.run_ids))
        now = self.clock.time
        self.both(holder, lambda store: store.set_holds(lease, run, opened=opened, released=released, now=now))

    @rule(orders=st.lists(ORDERS, max_size=3, unique=True), decision=st.sampled_from(["crm", "table", "retry"]))
    def decide(self, orders: list[int], decision: str) -> None:
        link = self.both("a", lambda store: store.find_link("shop"))
        self.both("b", lambda store: store.decide(link.id, orders, decision, self.clock.time))

    @rule(order_id=ORDERS)
    def ask_for_an_order(self, order_id: int) -> None:
        link = self.both("a", lambda store: store.find_link("shop"))
        self.both("a", lambda store: store.history("shop", order_id))
        self.both("a", lambda store: store.past_holds("shop", order_id))
        self.both("a", lambda store: store.written(link.id, [order_id], NOW))

    @invariant()
    def what_is_stored_is_the_same(self) -> None:
        if not self.stores:
            return
        link = self.both("a", lambda store: store.find_link("shop"))
        asked: list[Callable[[Store], Awaitable[Any]]] = [
            lambda store: store.bindings(link.id, 0, None),
            lambda store: store.holds(link.id),
            lambda store: store.attempts(link.id),
            lambda store: store.open_intents(link.id),
            lambda store: store.answered_siblings(link.id),
            lambda store: store.last_day(link.id, NOW, NOW),
            lambda store: store.leases(),
            lambda store: store.runs(None, 5),
        ]
        for ask in asked:
            self.both("a", ask)
        newest = max(self.run_ids, default=0)
        self.both("a", lambda store: store.changes(newest))

    def some_lease(self, data: st.DataObject) -> tuple[str, Lease]:
        holder = data.draw(st.sampled_from(sorted(self.leases)))
        return holder, self.leases[holder]


async def _awaited(answer: Awaitable[Any]) -> Any:
    return await answer


def test_twins(tmp_path: Path) -> None:
    upgrade(f"sqlite:///{tmp_path / 'template.db'}")

    class Here(Twins):
        template = tmp_path / "template.db"

    machine = Here.TestCase
    machine.settings = settings(max_examples=20, stateful_step_count=20, suppress_health_check=list(HealthCheck))
    machine("runTest").runTest()
