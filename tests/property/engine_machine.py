"""The rules of the machine: what may happen to a link, in any order; `play_lives` lets hypothesis choose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import structlog
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from syncd.core.model import Direction, OnConflict
from tests.property.engine_script import FAULTS, Pass
from tests.property.engine_world import CLOCKS, HINTS, ORDERS, PROCESS, UNKNOWN, EngineWorld

COMMON = ("crm-bind", "table-bind", "crm-unbind", "table-unbind")
RARE = (
    "crm-invoice", "crm-delete", "table-nowhere", "table-null", "table-double", "table-deselect", "table-select",
    "table-refuses", "table-accepts", "owners-appear", "table-again", "crm-again", "table-unkey", "table-rekey",
    "table-backup", "table-restore", "table-hide", "table-unhide", "crm-odd", "table-reload", "table-loaded", "table-loaded",
    "table-reaches", "table-keeps-apart", "crm-backup", "crm-restore",
)  # fmt: skip

kinds = st.one_of(st.sampled_from(COMMON), st.sampled_from(COMMON), st.sampled_from(RARE))
befalls = st.one_of(kinds, kinds, st.sampled_from([*CLOCKS, *PROCESS, *HINTS]))
orders = st.sampled_from([*ORDERS, *ORDERS, UNKNOWN])
meanwhile = st.lists(st.tuples(st.integers(1, 60), befalls, orders), max_size=3).map(tuple)
named = st.sampled_from(["1", "2,4-6", "1-8", "3,7-", "9-"])
parts = st.one_of(st.just(""), st.sampled_from(["slice", "recent", "hint"]), named)
some_edits = st.lists(st.tuples(kinds, orders), min_size=1, max_size=4)
some_faults = st.lists(st.sampled_from(sorted(FAULTS)), max_size=1)
maybe_race = st.sampled_from([0, 0, 0, 1, 2])
maybe_visitor = st.sampled_from([0, 0, 0, 1, 2])
maybe_crash = st.one_of(st.just(0), st.just(0), st.integers(1, 60))
"""A pass has some forty to sixty steps; most of these hit one."""


class EngineMachine(RuleBasedStateMachine):
    """One link's life."""

    world: EngineWorld
    latest: EngineWorld | None = None
    """The world of the life played last: of the one that breaks a promise, since hypothesis ends with that."""
    ended = False
    """Somebody ends the lives: no further one begins."""

    @initialize(
        direction=st.sampled_from([Direction.TWO_WAY, Direction.TWO_WAY, *Direction]),
        on_conflict=st.sampled_from([OnConflict.HOLD, OnConflict.HOLD, *OnConflict]),
        max_removes=st.sampled_from([1, 100]),
        conditional=st.sampled_from([True, True, True, False]),
        parts=st.booleans(),
        edits=st.lists(st.tuples(st.sampled_from(["crm-bind", "table-bind"]), orders), max_size=6),
    )
    def begin(self, edits: list[Any], **link: Any) -> None:
        if EngineMachine.ended:
            raise KeyboardInterrupt
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
        self.world = EngineWorld(**link)
        EngineMachine.latest = self.world
        self._edit(edits)

    def _edit(self, edits: Any) -> None:
        for kind, order in edits:
            self.world.edit(kind, order)

    def _go_wrong(self, faults: list[str]) -> None:
        for name in faults:
            self.world.fault(FAULTS[name])

    @rule(edits=some_edits)
    def others_edit(self, edits: Any) -> None:
        self._edit(edits)

    @rule(orders=st.lists(orders, min_size=1, max_size=3))
    def somebody_hints_at_orders(self, orders: list[int]) -> None:
        for order in orders:
            self.world.hint(order)

    @rule()
    def the_table_is_watched(self) -> None:
        self.world.watch()

    @rule(crash_at=maybe_crash, meanwhile=meanwhile, visitor_at=maybe_visitor, part=parts)
    def reconcile(self, crash_at: int, meanwhile: Any, visitor_at: int, part: str) -> None:
        self.world.syncd(Pass("pass", crash_at=crash_at, meanwhile=meanwhile, visitor_at=visitor_at, part=part))

    @rule(edits=some_edits, meanwhile=meanwhile, crash_at=maybe_crash, race_at=maybe_race, part=parts)
    def others_edit_and_reconcile(self, edits: Any, meanwhile: Any, crash_at: int, race_at: int, part: str) -> None:
        self._edit(edits)
        self.world.syncd(Pass("pass", crash_at=crash_at, meanwhile=meanwhile, race_at=race_at, part=part))

    @rule(edits=some_edits, window=st.booleans())
    def others_edit_and_somebody_is_quicker(self, edits: Any, window: bool) -> None:
        self._edit(edits)
        self.world.syncd(Pass("pass", race_at=1, window=window))

    @rule(
        edits=some_edits,
        fault=st.sampled_from(sorted(FAULTS)),
        how=st.builds(Pass, st.just("pass"), crash_at=maybe_crash, meanwhile=meanwhile, race_at=maybe_race, part=parts),
        mend=st.booleans(),
    )
    def reconcile_with_a_fault(self, edits: Any, fault: str, how: Pass, mend: bool) -> None:
        self._edit(edits)
        self._go_wrong([fault])
        self.world.syncd(how)
        if mend or FAULTS[fault].times is None:
            self.world.mend()

    @rule(part=parts, crash_at=maybe_crash, meanwhile=meanwhile)
    def store_a_plan(self, part: str, crash_at: int, meanwhile: Any) -> None:
        self.world.syncd(Pass("plan", crash_at=crash_at, meanwhile=meanwhile, part=part))

    @rule(choice=st.integers(0, 5), crash_at=maybe_crash, meanwhile=meanwhile)
    def store_an_undo(self, choice: int, crash_at: int, meanwhile: Any) -> None:
        self.world.syncd(Pass("undo", choice, crash_at=crash_at, meanwhile=meanwhile))

    @precondition(lambda self: self.world.plans)
    @rule(choice=st.integers(0, 3), faults=some_faults, crash_at=maybe_crash, race_at=maybe_race, meanwhile=meanwhile)
    def apply(self, choice: int, faults: list[str], crash_at: int, race_at: int, meanwhile: Any) -> None:
        self._go_wrong(faults)
        self.world.syncd(Pass("apply", choice, crash_at=crash_at, meanwhile=meanwhile, race_at=race_at))
        if faults:
            self.world.mend()

    @rule(choice=st.integers(0, 5), decision=st.sampled_from(["crm", "table", "retry"]))
    def decide(self, choice: int, decision: str) -> None:
        self.world.decide(choice, decision)

    @rule(meanwhile=meanwhile)
    def the_table_is_dropped(self, meanwhile: Any) -> None:
        self.world.edit("table-gone", 0)
        self.world.syncd(Pass("pass", meanwhile=meanwhile))
        self.world.edit("table-back", 0)

    @rule(what=st.sampled_from(["backup", "backup", "restore", "lost"]))
    def the_state_is_copied_put_back_or_lost(self, what: str) -> None:
        self.world.state_happens(what)

    @rule(times=st.integers(1, 4), meanwhile=meanwhile, part=parts)
    def new_orders_are_bound_during_a_listing(self, times: int, meanwhile: Any, part: str) -> None:
        self.world.stream(times)
        self.world.syncd(Pass("pass", meanwhile=meanwhile, part=part))

    @rule(order=orders)
    def another_link_has_a_pass(self, order: int) -> None:
        self.world.other_link(order)

    @rule(seconds=st.sampled_from([1, 61, 4000, 90_000]))
    def time_passes(self, seconds: int) -> None:
        self.world.later(seconds)

    @rule(kind=st.sampled_from(sorted(CLOCKS)))
    def the_clock_jumps(self, kind: str) -> None:
        self.world.edit(kind, 0)

    @rule(act=st.sampled_from(["pass", "plan", "apply"]), rebase=st.sampled_from([False, False, False, True]))
    def the_configuration_points_elsewhere(self, act: str, rebase: bool) -> None:
        self.world.point_elsewhere()
        self.world.syncd(Pass(act))
        if rebase:
            self.world.syncd(Pass("rebase"))
        else:
            self.world.point_elsewhere()

    def teardown(self) -> None:
        if hasattr(self, "world"):
            try:
                self.world.rest()
            finally:
                self.world.close()
        structlog.reset_defaults()


def play_lives(lives: int, *, keep: Path, chance: int | None = None, shrink: bool = True) -> None:
    """Play so many lives.

    Args:
        lives: How many.
        keep: The folder for the scenario file of a life that breaks a promise, as short as hypothesis can make it.
        chance: A seed; without one, the lives are always the same.
        shrink: Look for a shorter life that breaks the same promise; for minutes, if need be.

    Raises:
        AssertionError: A promise was broken; the scenario file is printed.
    """
    profile = settings(
        max_examples=lives,
        stateful_step_count=15,
        deadline=None,
        derandomize=chance is None,
        database=None,
        report_multiple_bugs=False,
        phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    machine = EngineMachine if chance is None else seed(chance)(EngineMachine)
    try:
        run_state_machine_as_test(machine, settings=profile)
    except AssertionError as broken:
        assert EngineMachine.latest is not None
        keep.mkdir(parents=True, exist_ok=True)
        path = keep / "machine.scenario"
        path.write_text("\n".join([f"# {str(broken).splitlines()[0]}", *EngineMachine.latest.script, ""]))
        print(f"a promise is broken; python -m tests.property.engine_replay {path}\n{path.read_text()}", flush=True)
        raise
