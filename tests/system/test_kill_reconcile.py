"""The program is killed at random moments, again and again, while others edit both sides and everyday accidents happen.

The guards are those that are shipped. `make test` kills some ten times. SYNCD_TEST_KILLS=200 asks for more, and
SYNCD_TEST_SEED for other moments and other edits; `pytest -s --timeout 0 -o faulthandler_timeout=0` takes off the limits of
a test, and shows what it came to.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from syncd.core.model import Side
from syncd.core.order_ranges import OrderRange
from syncd.portal.window_reader import Call, CountRequest
from tests.simulation.switch import Name, Off, Together
from tests.system.killed_link import HOUR, LOOK, KilledLink, open_killed_link
from tests.system.outsiders import ODD
from tests.system.shop import DEAL
from tests.system.timeline import orders_in

KILLS = int(os.environ.get("SYNCD_TEST_KILLS", "6"))
SEED = int(os.environ.get("SYNCD_TEST_SEED", "1"))
ORDERS, BESIDE, KILLED = (200, 30, (True, False)) if KILLS < 50 else (500, 100, (True, True, False))
"""How many orders there are, how many the second link has, and which of the passes after each happening are killed."""


@pytest.fixture
def link(tmp_path: Path) -> Iterator[KilledLink]:
    with open_killed_link(tmp_path, ORDERS, SEED, beside=BESIDE) as made:
        yield made


HAPPENINGS: tuple[tuple[Callable[[KilledLink], object], ...], ...] = (
    (
        lambda link: link.back_up(),
        lambda link: link.outsiders.bind_all_along(),
        lambda link: link.outsiders.pull_triggers(),
    ),
    (lambda link: link.outsiders.break_keys(),),
    (lambda link: link.outsiders.reload(),),
    (lambda link: link.restore(Side.TABLE),),
    (
        lambda link: link.outsiders.write_early(),
        lambda link: link.outsiders.deselect(),
        lambda link: link.outsiders.make_odd(),
    ),
    (lambda link: link.restore_state(),),
    (lambda link: link.back_up(), lambda link: link.outsiders.leave_out()),
    (lambda link: link.outsiders.hide(),),
    (lambda link: link.restore(Side.CRM),),
    (lambda link: link.outsiders.set_old_values(), lambda link: link.outsiders.pull_triggers()),
    (lambda link: link.lose_state(),),
)
"""What happens to both sides and the state, before each round of passes. What is away comes back after them."""


def test_given_kills_in_a_world_of_accidents_then_nothing_is_lost_or_flipped_back(link: KilledLink) -> None:
    outsiders = link.outsiders
    for number, happenings in enumerate(itertools.cycle(HAPPENINGS)):
        left_in_flight = link.happened["kills that left writes in flight"]
        if number >= len(HAPPENINGS) and link.kills >= KILLS and left_in_flight:
            break
        assert number < len(HAPPENINGS) * KILLS, f"passes are too quick to be killed: {link.happened}"
        link.wait(12 * HOUR)
        outsiders.make_changes(link.records().holds)
        for happen in happenings:
            happen(link)
        for kill in KILLED:
            link.one_pass(kill=kill)
            link.wait(LOOK)
        link.decide()
        outsiders.mend()
        assert link.beside is not None
        if number % 2:
            link.beside.live(kill=KILLS >= 50)
    for one in link.links:
        one.rest()
    print(dict(sorted(link.figures.items())))
    for one in link.links:
        broken = one.witness.broken
        assert not broken, "\n".join(map(str, broken[:20]))
        crm, table = one.shop.crm(), one.outsiders.copy(Side.TABLE)
        assert {order for order, _ in crm.items() ^ table.items()} == set()
        records = one.records()
        assert not records.holds
        assert not records.intents
    link.shop.call("db", "check").check(0)


def edit_and_restore_state(link: KilledLink) -> None:
    link.back_up()
    link.shop.portal.bind(3, DEAL, 7003)
    link.act("reconcile")
    link.restore_state()
    link.shop.portal.bind(3, DEAL, 3)


def edit_and_restore_table(link: KilledLink) -> None:
    link.back_up()
    for order in range(1, 11):
        link.shop.portal.bind(order, DEAL, 7000 + order)
    link.act("reconcile")
    link.wait(25 * HOUR)
    link.restore(Side.TABLE)


def undo_by_trigger(link: KilledLink) -> None:
    for order in (1, 2):
        link.shop.portal.bind(order, DEAL, 7000 + order)
    link.outsiders.pull(2, 1)
    link.act("reconcile")


async def remove_at_once(*_: object) -> None:
    """What is absent is not asked for by id."""


ABSENT_FROM_LIST = Name("syncd.engine.verify:_removals_from_table", remove_at_once)

RULES: dict[str, tuple[Off, set[int], Callable[[KilledLink], object]]] = {
    "an older state writes nothing": (
        Name("syncd.core.guards:state_older", lambda *_: []),
        {31},
        edit_and_restore_state,
    ),
    "a restored side is refused": (
        Name("syncd.engine.verify:is_revert", lambda *_: False),
        {34},
        edit_and_restore_table,
    ),
    "many absences are looked for twice": (
        Name("syncd.engine.second_look:SECOND_LOOK_AFTER", -1e9),
        {32},
        lambda link: link.outsiders.hide(),
    ),
    "a write that a trigger turns against another order is rolled back": (
        Together(
            Name("syncd.db.sqlite:SQLite.balance", lambda *_: None),
            Name("syncd.table.row_writer:RowWriter.prove", lambda *_: None),
        ),
        {31},
        undo_by_trigger,
    ),
    "a binding that names no deal is not absent": (
        Together(
            Name("syncd.engine.observe:_Segments._take_unreadable", lambda *_: {}),
            ABSENT_FROM_LIST,
        ),
        {15, 17},
        lambda link: link.shop.portal.bind(1, DEAL, ODD),
    ),
    "an order that the list leaves out is asked for": (
        ABSENT_FROM_LIST,
        {15, 17},
        lambda link: link.outsiders.leave_out(),
    ),
    "a link looks after its own orders only": (
        Together(
            Name("syncd.core.model:Scope.order_range", OrderRange(1)),
            Name("syncd.core.model:Scope.holds_order", lambda *_: True),
        ),
        {14, 15, 17, 31},
        lambda _: None,
    ),
}


@pytest.mark.parametrize("rule", RULES)
def test_given_a_rule_switched_off_then_the_judge_of_killed_passes_says_so_and_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rule: str, capsys: pytest.CaptureFixture[str]
) -> None:
    off, promises, happen = RULES[rule]
    with open_killed_link(tmp_path, 40, SEED, beside=1) as link, link.outsiders.resting():
        off.flip(monkeypatch)
        happen(link)
        link.wait(LOOK)
        link.act("reconcile")
        link.rest()
        assert {one.promise for one in link.witness.broken} == promises
        printed = capsys.readouterr().out
        for alarm in link.witness.broken:
            assert str(alarm) in printed
            for order in orders_in(alarm):
                assert f"order {order}:\n  " in printed


def asks_to_count(call: Call) -> bool:
    """Return whether a count is asked for at all; a page that is to prove itself brings none."""
    return isinstance(call, CountRequest) or call.counted


def test_given_pages_that_bring_no_count_then_bindings_made_all_along_end_the_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_killed_link(tmp_path, 40, SEED) as link, link.outsiders.resting():
        link.outsiders.bind_all_along()
        assert link.act("reconcile").code == 0
        link.outsiders.bind_all_along()
        Name("syncd.portal.window_reader:WindowReader._is_counted", lambda _, call: asks_to_count(call)).flip(
            monkeypatch
        )
        with pytest.raises(AssertionError, match="reconcile ended with 69"):
            link.act("reconcile")
