"""The rule machine over the whole engine (sync-rules.md 14 to 30): real portal client, sandbox, SQL table and state.

A life has outside writers on both sides, before and during every run; faults of the network, the portal, the table and the
state database; a crash at any step; a lease taken over; a second process; a person who applies, undoes, decides and rebases;
clocks that jump, also while requests are under way; passes over all orders, a slice, the newest, named and hinted ones.
Each run is checked after it ends, and the whole life at its end (`engine_world.py`). A life that breaks a promise is printed
and kept as a scenario file (`engine_script.py`).

`make test` plays the same few lives each time, `make soak` many different ones (`endless.py`).
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from syncd.sandbox import References
from tests.children import Child
from tests.property.engine_machine import play_lives
from tests.property.engine_replay import main as replay
from tests.property.engine_replay import play
from tests.property.engine_script import Pass
from tests.property.engine_world import EngineWorld
from tests.simulation.switch import Name
from tests.unit.engine.switches.lives import raced
from tests.unit.engine.switches.of_decisions import left_alone

LIVES = 30


def test_given_any_life_of_a_link_then_no_promise_is_broken(tmp_path: Path) -> None:
    play_lives(LIVES, keep=tmp_path)


def test_given_a_defect_when_a_life_breaks_a_promise_then_a_scenario_file_repeats_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "machine.scenario"
    monkeypatch.setattr("sys.argv", ["replay", str(kept)])
    with pytest.MonkeyPatch.context() as patch:
        Name("syncd.core.policy:_conflict", left_alone).flip(patch)
        with pytest.raises(AssertionError):
            play_lives(LIVES, keep=tmp_path, shrink=False)
        assert kept.read_text() in capsys.readouterr().out
        assert replay() == 1, "the file repeats it"

    assert replay() == 0, "it is the defect's fault"


@pytest.mark.parametrize("inherited", ["", "trap '' INT; "], ids=["as-ever", "sigint-ignored"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_given_lives_without_end_when_somebody_ends_them_then_it_says_how_many_kept_every_promise(
    tmp_path: Path, number: signal.Signals, inherited: str
) -> None:
    command = f"{inherited}exec {sys.executable} -m tests.property.endless --keep {tmp_path}"
    with Child(["sh", "-c", command], limit=60, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert "endless lives" in process.stdout.readline()
        process.send_signal(number)
        said = process.stdout.read()

    assert process.returncode == 0
    assert "ended after 0 lives, which kept every promise" in said


def test_given_the_lines_of_a_life_when_they_are_played_again_then_it_is_the_same_life() -> None:
    world = EngineWorld(max_removes=1)
    try:
        world.edit("crm-bind", 1)
        world.syncd(Pass("pass", meanwhile=((9, "table-bind", 2), (20, "clock-back", 0)), visitor_at=1))
        world.edit("table-bind", 1)
        world.edit("crm-bind", 2)
        world.syncd(Pass("pass", crash_at=30, race_at=1))
        world.later(61)
        world.decide(0, "crm")
        world.hint(2)
        world.syncd(Pass("pass", part="hint", meanwhile=((5, "watch", 0), (9, "hint", 3))))
        world.syncd(Pass("plan", part="1,3-"))
        world.syncd(Pass("undo"))
        world.syncd(Pass("apply", meanwhile=((12, "rob", 0),)))
        world.point_elsewhere()
        world.syncd(Pass("rebase"))
        world.rest()
    finally:
        world.close()

    again = play("\n".join(world.script))

    assert (again.witness.log, again.script) == (world.witness.log, world.script)


def test_given_a_value_that_a_race_overwrote_then_the_order_stays_held_pass_after_pass() -> None:
    world = EngineWorld()
    try:
        world.crm.references = References.WHOLE_VALUES
        world.edit("crm-bind", 1)
        world.syncd(Pass("pass"))
        world.edit("table-bind", 1)
        raced(world, after=2)  # the probe of conditions, and the reading right before
        for _ in range(3):
            assert world.holds() == {1: "edit-edit"}
            world.syncd(Pass("pass"))
    finally:
        world.close()
