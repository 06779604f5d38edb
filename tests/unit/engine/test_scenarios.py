"""Every scenario file ends as it says: uninterrupted, and after a stop at every single step of it."""

from __future__ import annotations

import pickle

import pytest

from syncd.core.model import Owner
from syncd.engine import observe
from syncd.errors import StalePlan
from tests.simulation.crash import Forks
from tests.simulation.scenario import Scenario, load_all
from tests.simulation.world import Play

pytestmark = pytest.mark.anyio

SCENARIOS = load_all()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.name)
async def test_given_a_scenario_when_it_is_played_then_it_ends_as_it_says(scenario: Scenario) -> None:
    play = Play(scenario)
    await play.run()
    await play.check()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.name)
async def test_given_sides_that_are_read_one_order_at_a_time_when_it_is_played_then_it_ends_as_it_says(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observe, "SEGMENT", 1)
    monkeypatch.setattr(observe, "LIMIT", 2)
    play = Play(scenario)
    play.world.portal.chunk = 1
    await play.run()
    await play.check()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.name)
async def test_given_a_crash_at_any_step_when_syncd_goes_on_then_the_end_is_the_same_or_the_order_is_held(
    scenario: Scenario,
) -> None:
    whole = Play(scenario)
    forks = Forks(whole.copied)
    await whole.run(forks)
    expected = (dict(whole.world.portal.bindings), dict(whole.world.table.bindings))
    assert forks.taken, "a scenario in which syncd does nothing proves nothing"
    for copy, (step, name) in forks.worlds.items():
        play: Play = pickle.loads(copy)
        play.bury()
        unfinished = await _go_on(play)
        where = f"{scenario.name}, stopped at step {step}: {name}"
        held = await play.world.held()
        # What a spent plan's dead process did not do stays undone, until a person plans again.
        wanted = [expected, *unfinished]
        for side, there in enumerate((play.world.portal.bindings, play.world.table.bindings)):
            for order in set(there).union(*(one[side] for one in wanted)):
                ends = {one[side].get(order) for one in wanted}
                assert there.get(order) in ends or order in held, f"{where}: order {order}, side {side}"
        before = len(play.world.portal.written), len(play.world.table.written)
        await play.world.reconcile()
        assert (len(play.world.portal.written), len(play.world.table.written)) == before, f"{where}: wrote once more"
        await play.world.check_healed()


async def _go_on(play: Play) -> list[tuple[dict[int, Owner], dict[int, Owner]]]:
    """A new process does again what the dead one was doing; return what stood before a plan that was spent by it."""
    try:
        await play.run()
    except StalePlan:
        play.next += 1
        await play.world.reconcile()
        await play.run()
        return play.before_apply
    return []
