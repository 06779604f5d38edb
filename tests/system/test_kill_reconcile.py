"""The program is killed at random moments, again and again, while others edit both sides and everyday accidents happen.

The guards are those that are shipped. `make test` kills some ten times. SYNCD_TEST_KILLS=200 asks for more, and
SYNCD_TEST_SEED for other moments and other edits; `pytest -s` shows what it came to.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from syncd.core.model import Side
from tests.simulation.switch import Name, Off
from tests.system.killed_link import HOUR, LOOK, KilledLink, open_killed_link
from tests.system.shop import DEAL

KILLS = int(os.environ.get("SYNCD_TEST_KILLS", "6"))
SEED = int(os.environ.get("SYNCD_TEST_SEED", "1"))
ORDERS, KILLED = (300, (True, False)) if KILLS < 50 else (500, (True, True, False))
"""How many orders there are, and which of the passes after each happening are killed."""


@pytest.fixture
def link(tmp_path: Path) -> Iterator[KilledLink]:
    with open_killed_link(tmp_path, ORDERS, SEED) as made:
        yield made


HAPPENINGS: tuple[Callable[[KilledLink], object], ...] = (
    lambda link: link.back_up(),
    lambda link: link.outsiders.break_keys(),
    lambda link: link.outsiders.reload(),
    lambda link: link.restore(Side.TABLE),
    lambda link: link.outsiders.write_early(),
    lambda link: link.outsiders.deselect(),
    lambda link: link.restore_state(),
    lambda link: link.back_up(),
    lambda link: link.outsiders.hide(),
    lambda link: link.restore(Side.CRM),
    lambda link: link.outsiders.set_old_values(),
    lambda link: link.lose_state(),
)
"""What happens to both sides and the state, one before each pass. What is away comes back after the next pass."""


def test_given_kills_in_a_world_of_accidents_then_nothing_is_lost_or_flipped_back(link: KilledLink) -> None:
    outsiders = link.outsiders
    for number, happening in enumerate(itertools.cycle(HAPPENINGS)):
        left_in_flight = link.happened["kills that left writes in flight"]
        if number >= len(HAPPENINGS) and link.kills >= KILLS and left_in_flight:
            break
        assert number < len(HAPPENINGS) * KILLS, f"passes are too quick to be killed: {link.happened}"
        link.wait(12 * HOUR)
        outsiders.make_changes(link.records().holds)
        happening(link)
        for kill in KILLED:
            link.one_pass(kill=kill)
            link.wait(LOOK)
        link.decide()
        outsiders.mend()
    link.rest()
    print(dict(sorted(link.figures.items())))
    broken = link.witness.broken
    assert not broken, "\n".join(map(str, broken[:20]))
    crm, table = link.shop.crm(), link.outsiders.copy(Side.TABLE)
    assert {order for order, _ in crm.items() ^ table.items()} == set()
    records = link.records()
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


RULES: dict[str, tuple[Off, int, Callable[[KilledLink], object]]] = {
    "an older state writes nothing": (Name("syncd.core.guards:state_older", lambda *_: []), 31, edit_and_restore_state),
    "a restored side is refused": (Name("syncd.engine.verify:is_revert", lambda *_: False), 34, edit_and_restore_table),
    "many absences are looked for twice": (
        Name("syncd.engine.second_look:SECOND_LOOK_AFTER", -1e9),
        32,
        lambda link: link.outsiders.hide(),
    ),
}


@pytest.mark.parametrize("rule", RULES)
def test_given_a_rule_switched_off_then_the_judge_of_killed_passes_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rule: Any
) -> None:
    off, promise, happen = RULES[rule]
    with open_killed_link(tmp_path, 40, SEED) as link, link.outsiders.resting():
        off.flip(monkeypatch)
        happen(link)
        link.wait(LOOK)
        link.act("reconcile")
        link.rest()
        assert {one.promise for one in link.witness.broken} == {promise}
