"""What docs/guarantees.md does not promise is excused by the judge of simulated lives, and no more than that.

Each life falls into one window and is counted there; next to it a life like it, outside the window, breaks a promise.
"""

from __future__ import annotations

import asyncio

import pytest

from tests.simulation.life import Life, play
from tests.simulation.scenario import parse
from tests.simulation.switch import Name
from tests.unit.engine.switches.of_decisions import nothing

BY_CHANCE = "somebody set the very value that syncd was to write"
OUTLIVED = "outlived its state"
CUT_OFF = "zombie 4 | at portal.write die | pass"
NO_JOURNAL = Name("tests.fakes.store:MemoryStore.intend", nothing)


def lived(lines: str) -> Life:
    return asyncio.run(play(parse(lines.replace(" | ", "\n"), "window")))


def broken(life: Life) -> set[int]:
    return {one.promise for one in life.broken}


def test_given_a_value_that_hides_a_write_still_under_way_then_its_late_execution_is_counted_as_chance() -> None:
    life = lived("unconditional | table 9=7 | zombie 4 | at portal.write crm 9=7 | pass | table 9=8 | pass | rest")

    assert life.broken == []
    assert (life.witness.happened[BY_CHANCE], life.unseen) == (1, 1)
    assert life.world.table.bindings[9].owner_id == 7, "the newer value is gone"


@pytest.mark.parametrize("portal", ["unconditional | ", ""])
def test_given_such_a_value_after_a_crash_then_the_request_is_waited_for_and_the_newer_value_stays(portal: str) -> None:
    life = lived(f"{portal}table 9=7 | {CUT_OFF} | table 9=8 | crm 9=7 | pass | rest")

    assert (life.broken, life.unseen) == ([], 0)
    assert life.world.table.bindings[9].owner_id == life.world.portal.bindings[9].owner_id == 8


def test_given_a_late_execution_that_no_such_value_hid_then_the_newer_value_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = f"unconditional | table 9=7 | {CUT_OFF} | table 9=8 | pass | rest"
    assert lived(lines).broken == []

    async def no_wait(*_: object) -> None: ...

    Name("syncd.engine.recover:_wait_until_dead", no_wait).flip(monkeypatch)

    assert 15 in broken(lived(lines))


@pytest.mark.parametrize("portal", ["unconditional | ", ""])
@pytest.mark.parametrize("lost", ["forget", "restore state 1"])
def test_given_a_request_under_way_when_the_state_is_lost_then_it_is_counted(portal: str, lost: str) -> None:
    life = lived(f"{portal}crm 1=5 | pass | backup | table 9=7 | {CUT_OFF} | {lost} | rest")

    assert life.broken == []
    assert life.witness.happened[OUTLIVED] == 1


def test_given_a_request_that_the_backup_knows_then_it_is_judged() -> None:
    lines = f"crm 1=5 | pass | table 9=7 | {CUT_OFF} | backup | restore state 1 | rest"
    life = lived(lines)
    assert (life.broken, life.witness.happened[OUTLIVED]) == ([], 0)


def test_given_a_request_sent_after_the_state_was_lost_when_no_journal_has_it_then_a_promise_is_broken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = f"crm 1=5 | pass | forget | pass | table 9=7 | {CUT_OFF} | rest"
    assert lived(lines).broken == []

    NO_JOURNAL.flip(monkeypatch)

    assert broken(lived(lines))


def test_given_a_write_made_again_later_then_the_first_is_judged_by_what_its_own_run_says() -> None:
    """The race is in the audit and held; that the later write was planned for "unbound" is not the first one's excuse."""
    life = lived("unconditional | crm 7=6 | pass | overtake crm - | table 7=33 | pass | rebase | crm 7=- | rest")

    assert life.broken == []
    assert life.witness.happened["overwritten, held"] == 1


LETS_GO = "table 5=1023 | pass | crm 5=1040@31 | table 5=- | pass | decide 5 crm | pass | rest"


def test_given_an_order_that_a_person_lets_go_then_nothing_is_agreed_about_it_and_it_stays_where_it_is() -> None:
    life = lived(LETS_GO)

    assert life.broken == []
    assert life.witness.happened["let go"] == 1


@pytest.mark.parametrize(
    "lines",
    [LETS_GO.replace("@31", ""), LETS_GO.replace("table 5=-", "table 5=1041")],
    ids=["in scope", "on both sides"],
)
def test_given_an_order_that_is_this_links_when_it_is_let_go_all_the_same_then_a_promise_is_broken(
    monkeypatch: pytest.MonkeyPatch, lines: str
) -> None:
    def always(*_: object) -> bool:
        return True

    Name("syncd.core.diff:lets_go", always).flip(monkeypatch)

    assert 17 in broken(lived(lines))
