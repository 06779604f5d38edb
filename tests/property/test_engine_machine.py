"""The rule machine over the whole engine (sync-rules.md 14 to 30): real portal client, sandbox, SQL table and state.

Outside writers on both sides, before and during every run; faults of the network, the portal and the table; a crash at
any step; a second process; a person who applies, undoes, decides and rebases; a clock that jumps. What a run may do is
checked after each, what all of it came to at the end (`engine_world.py`). A failure prints the calls that repeat it.

`make test` plays a fixed number of lives; SYNCD_MACHINE=10000 plays so many more, with fresh chances each time.
"""

from __future__ import annotations

import os
from typing import Any

import structlog
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from syncd.core.model import Direction, OnConflict
from syncd.sandbox.faults import Fault, FaultRule
from tests.property.engine_world import ORDERS, UNKNOWN, EngineWorld, Pass

LIVES = int(os.environ.get("SYNCD_MACHINE", "0"))
ADD, DELETE, LIST = "crm.orderentity.add", "crm.orderentity.deletebyfilter", "crm.orderentity.list"

COMMON = ("crm-bind", "table-bind", "crm-unbind", "table-unbind")
RARE = (
    "crm-invoice", "crm-delete", "table-nowhere", "table-null", "table-double", "table-deselect", "table-select",
    "owners-appear",
)  # fmt: skip

kinds = st.one_of(st.sampled_from(COMMON), st.sampled_from(COMMON), st.sampled_from(RARE))
orders = st.sampled_from([*ORDERS, *ORDERS, UNKNOWN])
meanwhile = st.lists(st.tuples(st.integers(1, 60), kinds, orders), max_size=3).map(tuple)
some_edits = st.lists(st.tuples(kinds, orders), min_size=1, max_size=4)
maybe_race = st.sampled_from([0, 0, 0, 1, 2])
maybe_crash = st.one_of(st.just(0), st.just(0), st.integers(1, 60))
"""A pass has some forty to sixty steps; most of these hit one."""


def _faults() -> dict[str, FaultRule]:
    """What the network and the portal may do wrong, once or until it is mended, by a short name."""
    rules = {}
    for name, method in (("add", ADD), ("delete", DELETE), ("list", LIST)):
        rules |= {
            f"{name}: dropped before": FaultRule(Fault.DROP, method, when="before", times=1),
            f"{name}: dropped after": FaultRule(Fault.DROP, method, when="after", times=1),
            f"{name}: 500 after": FaultRule(Fault.STATUS, method, when="after", times=1, status=500),
            f"{name}: 503 twice": FaultRule(Fault.STATUS, method, when="before", times=2, status=503),
            f"{name}: a page instead": FaultRule(Fault.HTML, method, when="after", times=1),
            f"{name}: cut off": FaultRule(Fault.TRUNCATE, method, times=1),
            f"{name}: broken": FaultRule(Fault.ERROR, method, times=1, code="INTERNAL_SERVER_ERROR"),
            f"{name}: no right": FaultRule(Fault.ERROR, method, times=1, code="INSUFFICIENT_SCOPE"),
            f"{name}: key forgotten": FaultRule(Fault.LOSE_KEY, method, times=1),
        }
    for name, method in (("add", ADD), ("delete", DELETE)):
        rules |= {
            f"{name}: a second late": FaultRule(Fault.ZOMBIE, method, times=1, seconds=1),
            f"{name}: 50 seconds late": FaultRule(Fault.ZOMBIE, method, times=1, seconds=50),
            f"{name}: over budget": FaultRule(Fault.ERROR, method, times=2, code="OPERATION_TIME_LIMIT"),
            f"{name}: order 2 refused": FaultRule(Fault.ERROR, method, times=None, key="o2", code="100", text="no"),
        }
    for page in (Fault.SHORT, Fault.GAP, Fault.EMPTY, Fault.REPEAT, Fault.SHUFFLE, Fault.TOTAL):
        rules |= {f"{page} page": FaultRule(page, times=1), f"{page} pages": FaultRule(page, times=None)}
    return rules


FAULTS = _faults()


class EngineMachine(RuleBasedStateMachine):
    """One link's life."""

    world: EngineWorld

    @initialize(
        direction=st.sampled_from([Direction.TWO_WAY, Direction.TWO_WAY, *Direction]),
        on_conflict=st.sampled_from([OnConflict.HOLD, OnConflict.HOLD, *OnConflict]),
        max_removes=st.sampled_from([1, 100]),
        edits=st.lists(st.tuples(st.sampled_from(["crm-bind", "table-bind"]), orders), max_size=6),
    )
    def begin(self, direction: Direction, on_conflict: OnConflict, max_removes: int, edits: list[Any]) -> None:
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
        self.world = EngineWorld(direction=direction, on_conflict=on_conflict, max_removes=max_removes)
        for kind, order in edits:
            self.world.edit(kind, order)

    @rule(edits=some_edits)
    def others_edit(self, edits: Any) -> None:
        for kind, order in edits:
            self.world.edit(kind, order)

    @rule(crash_at=maybe_crash, meanwhile=meanwhile, visitor_at=st.sampled_from([0, 0, 0, 1, 2]))
    def reconcile(self, crash_at: int, meanwhile: Any, visitor_at: int) -> None:
        self.world.syncd(Pass("pass", crash_at=crash_at, meanwhile=meanwhile, visitor_at=visitor_at))

    @rule(edits=some_edits, meanwhile=meanwhile, crash_at=maybe_crash, race_at=maybe_race)
    def others_edit_and_reconcile(self, edits: Any, meanwhile: Any, crash_at: int, race_at: int) -> None:
        self.others_edit(edits)
        self.world.syncd(Pass("pass", crash_at=crash_at, meanwhile=meanwhile, race_at=race_at))

    @rule(edits=some_edits, window=st.booleans())
    def others_edit_and_somebody_is_quicker(self, edits: Any, window: bool) -> None:
        self.others_edit(edits)
        self.world.syncd(Pass("pass", race_at=1, window=window))

    @rule(
        edits=some_edits,
        fault=st.sampled_from(sorted(FAULTS)),
        meanwhile=meanwhile,
        race_at=maybe_race,
        mend=st.booleans(),
    )
    def reconcile_with_a_fault(self, edits: Any, fault: str, meanwhile: Any, race_at: int, mend: bool) -> None:
        self.others_edit(edits)
        self.world.fault(FAULTS[fault])
        self.world.syncd(Pass("pass", meanwhile=meanwhile, race_at=race_at))
        if mend or FAULTS[fault].times is None:
            self.world.mend()

    @rule(act=st.sampled_from(["plan", "undo"]), choice=st.integers(0, 5), crash_at=maybe_crash, meanwhile=meanwhile)
    def store_a_plan(self, act: str, choice: int, crash_at: int, meanwhile: Any) -> None:
        self.world.syncd(Pass(act, choice, crash_at=crash_at, meanwhile=meanwhile))

    @precondition(lambda self: self.world.plans)
    @rule(choice=st.integers(0, 3), crash_at=maybe_crash, meanwhile=meanwhile)
    def apply(self, choice: int, crash_at: int, meanwhile: Any) -> None:
        self.world.syncd(Pass("apply", choice, crash_at=crash_at, meanwhile=meanwhile))

    @rule(choice=st.integers(0, 5), decision=st.sampled_from(["crm", "table", "retry"]))
    def decide(self, choice: int, decision: str) -> None:
        self.world.decide(choice, decision)

    @rule(meanwhile=meanwhile)
    def the_table_is_dropped(self, meanwhile: Any) -> None:
        self.world.edit("table-gone", 0)
        self.world.syncd(Pass("pass", meanwhile=meanwhile))
        self.world.edit("table-back", 0)

    @rule(seconds=st.sampled_from([1, 61, 4000, 90_000]))
    def time_passes(self, seconds: int) -> None:
        self.world.clock.advance(seconds)

    @precondition(lambda self: not self.world.crm.late)
    @rule(seconds=st.sampled_from([-(10**7), -100, 100, 10**7]))
    def the_clock_jumps(self, seconds: int) -> None:
        """Not while a request is on its way whose process may have died: how long it lives is told by the clock."""
        self.world.clock.jump += seconds

    @rule(rebase=st.sampled_from([False, False, False, True]))
    def the_configuration_points_elsewhere(self, rebase: bool) -> None:
        world = self.world
        world.point_elsewhere()
        before = len(world.ours()), world.crm.stats.requests
        report = world.syncd(Pass("pass"))
        if report is not None and report.row.guards and report.row.guards[0].name == "fingerprint":
            assert (len(world.ours()), world.crm.stats.requests) == before, "other ends, and yet it asked or wrote"
        if rebase:
            world.syncd(Pass("rebase"))
        else:
            world.point_elsewhere()

    def teardown(self) -> None:
        if hasattr(self, "world"):
            try:
                self.world.come_to_rest()
                self.world.judge()
            finally:
                self.world.close()
        structlog.reset_defaults()


def test_given_any_life_of_a_link_then_no_promise_is_broken() -> None:
    profile = settings(
        max_examples=LIVES or 30,
        stateful_step_count=25 if LIVES else 15,
        derandomize=not LIVES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(EngineMachine, settings=profile)


def test_given_a_value_that_a_race_overwrote_then_the_order_stays_held_pass_after_pass() -> None:
    world = EngineWorld()
    try:
        world.edit("crm-bind", 1)
        world.syncd(Pass("pass"))
        world.edit("table-bind", 1)
        world.syncd(Pass("pass", race_at=1))
        for _ in range(3):
            assert world.holds() == {1: "edit-edit"}
            world.syncd(Pass("pass"))
    finally:
        world.close()
