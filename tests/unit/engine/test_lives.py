"""Seeded lives of a link keep every promise (sync-rules.md 14 to 20, 22 to 30). `make soak` plays many more."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from tests.simulation import soak
from tests.simulation.chaos import Chaos, live
from tests.simulation.life import Life, play
from tests.simulation.scenario import Scenario
from tests.simulation.switch import Line

DEFECTS = {
    "a conflict that is won though it is to be held": Line(
        "syncd.core.policy:_two_way",
        "return _conflict(order_id, facts, policy)",
        "return write(order_id, Side.TABLE, facts, facts.crm, Reason.POLICY_CRM)",
    ),
    "a race that is not held": Line("syncd.engine.ledger:Ledger.judge", "if lost else", "if False else"),
    "a journal that is not written": Line(
        "syncd.engine.apply:Applier._side",
        "await self._link.store.intend(lease, [e.id for e in batch], self._link.clock.now())",
        "pass",
    ),
    "a refused plan that is applied": Line("syncd.engine.reconcile:reconcile", "if plan.guards:", "if False:"),
}


@pytest.mark.parametrize("first", range(0, 300, 20))
def test_given_any_life_then_no_promise_is_broken(first: int) -> None:
    for seed in range(first, first + 20):
        life = asyncio.run(live(seed))
        assert not life.broken, f"python -m tests.simulation.soak --first {seed} --lives 1: {life.broken}"


def test_given_a_seed_then_its_life_is_always_the_same() -> None:
    assert trace(asyncio.run(live(7))) == trace(asyncio.run(live(7)))


@pytest.mark.parametrize("seed", range(1000, 1010))
def test_given_the_lines_of_a_life_when_they_are_played_again_then_it_is_the_same_life(seed: int) -> None:
    chaos = Chaos(seed)
    life = asyncio.run(chaos.run())

    assert trace(asyncio.run(play(Scenario("again", tuple(chaos.lines))))) == trace(life)


def trace(life: Life) -> tuple[object, ...]:
    """Everything that was written, and everything that was recorded of it."""
    history = [asyncio.run(life.world.store.history("shop", order, 10**6)) for order in sorted(life.orders)]
    return life.witness.log, life.witness.happened, life.broken, history


@pytest.mark.parametrize("name", DEFECTS)
def test_given_a_defect_when_a_life_breaks_a_promise_then_a_scenario_file_repeats_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def soaked(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["soak", "--keep", str(tmp_path), *words])
        return soak.main()

    with pytest.MonkeyPatch.context() as patch:
        DEFECTS[name].flip(patch)
        seed = next(seed for seed in range(200) if asyncio.run(live(seed)).broken)
        assert soaked("--first", str(seed), "--lives", "1") == 1
        (scenario,) = tmp_path.iterdir()
        printed = capsys.readouterr().out
        assert scenario.read_text() in printed
        assert len(scenario.read_text().splitlines()) < 40, "it could be made short"
        assert soaked("--play", str(scenario)) == 1, "the file repeats it"

    assert soaked("--play", str(scenario)) == 0, "it is the defect's fault"
    assert soaked("--first", str(seed), "--lives", "1") == 0
