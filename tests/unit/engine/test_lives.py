"""Seeded lives of a link keep every promise (sync-rules.md 14 to 20, 22 to 39). `make soak` plays ten thousand, these among them."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from tests.simulation import soak
from tests.simulation.chaos import Chaos, live
from tests.simulation.life import Life, play
from tests.simulation.scenario import Scenario, parse
from tests.simulation.switch import Name, Off
from tests.unit.engine.switches.of_decisions import nothing, the_crm_wins

DEFECTS: dict[str, Off] = {
    "a conflict that is won though it is to be held": Name("syncd.core.policy:_conflict", the_crm_wins),
    "a journal that is not written": Name("tests.fakes.store:MemoryStore.intend", nothing),
    "a refused plan that is applied": Name("syncd.core.guards:evaluate", lambda *_args, **_more: []),
}


@pytest.mark.parametrize("first", range(0, 200, 20))
def test_given_any_life_then_no_promise_is_broken(first: int) -> None:
    for seed in range(first, first + 20):
        life = asyncio.run(live(seed))
        assert not life.broken, f"python -m tests.simulation.soak --first {seed} --lives 1: {life.broken}"


@pytest.mark.parametrize("first", range(0, 40, 10))
def test_given_passes_over_parts_at_any_step_then_no_promise_is_broken(first: int) -> None:
    for seed in range(first, first + 10):
        life = asyncio.run(live(seed, parts=True))
        assert not life.broken, f"seed {seed}, with parts: {life.broken}"


def test_given_parts_that_are_not_counted_together_then_a_life_breaks_the_promise_of_windows() -> None:
    """Promise 39: no sequence of passes does what one over all orders would be refused for."""
    both = " ".join(f"{order}={1000 + order}" for order in range(1, 31))
    lines = [
        "link max_removes=2 max_removes_percent=100 second_look_above=5 first_sync=auto",
        *(f"crm {both}", f"table {both}", "pass", "later 90000", "pass", "later 60", "table 3=- 17=- 29=-"),
        *("part 3", "part slice", "part 17,29", "part recent"),
    ]
    scenario = parse("\n".join([*lines, "expect promises"]), "parts")

    assert not asyncio.run(play(scenario)).broken
    with pytest.MonkeyPatch.context() as patch:
        Name("syncd.core.guards:_with_parts", lambda planned, _parts: planned).flip(patch)
        assert {one.promise for one in asyncio.run(play(scenario)).broken} == {39}


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
