"""The program is killed at random moments, again and again, in a world where others edit both sides and everyday accidents happen.

The guards are those that are shipped. `make test` kills a handful of times. SYNCD_TEST_KILLS=200 asks for more, SYNCD_TEST_SEED
for other moments and other edits; `pytest -s` shows what it came to.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from syncd.core.model import Side
from tests.simulation.switch import Name, Off
from tests.system.killed_link import HOUR, LOOK, KilledLink, open_killed_link
from tests.system.outsiders import AGAIN, OFTEN_AGAIN
from tests.system.shop import DEAL

KILLS = int(os.environ.get("SYNCD_TEST_KILLS", "6"))
SEED = int(os.environ.get("SYNCD_TEST_SEED", "1"))
ORDERS = 300 if KILLS < 50 else 1000


@pytest.fixture
def link(tmp_path: Path) -> Iterator[KilledLink]:
    with open_killed_link(tmp_path, ORDERS, SEED) as made:
        yield made


def reload_table(link: KilledLink) -> None:
    link.outsiders.reload()


def hide_rows(link: KilledLink) -> None:
    link.outsiders.hide()


def drop_rows_from_where(link: KilledLink) -> None:
    link.outsiders.deselect()


def break_keys(link: KilledLink) -> None:
    link.outsiders.break_keys()


def write_rows_before_their_orders(link: KilledLink) -> None:
    link.outsiders.write_early()


def restore_table(link: KilledLink) -> None:
    link.restore(Side.TABLE)


def restore_portal(link: KilledLink) -> None:
    link.restore(Side.CRM)


def restore_state(link: KilledLink) -> None:
    link.restore_state()


def lose_state(link: KilledLink) -> None:
    link.lose_state()


def set_old_values(link: KilledLink) -> None:
    link.outsiders.again = OFTEN_AGAIN


def back_up(link: KilledLink) -> None:
    link.back_up()


HAPPENINGS: tuple[Callable[[KilledLink], None], ...] = (
    back_up, break_keys, reload_table, restore_table, write_rows_before_their_orders, drop_rows_from_where,
    restore_state, back_up, hide_rows, restore_portal, set_old_values, lose_state,
)  # fmt: skip
"""What happens to the sides and the state, one before each pass. What went wrong before the last pass is over by then."""


def test_given_kills_in_a_world_of_accidents_then_nothing_is_lost_or_flipped_back(link: KilledLink) -> None:
    outsiders = link.outsiders
    for number, happening in enumerate(itertools.cycle(HAPPENINGS)):
        if number >= len(HAPPENINGS) and link.kills >= KILLS:
            break
        link.wait(12 * HOUR)
        outsiders.make_changes(link.records().holds)
        happening(link)
        link.one_pass()
        link.wait(LOOK)
        link.one_pass(kill=False)
        link.decide()
        outsiders.mend()
        outsiders.again = AGAIN
    link.rest()
    print(dict(sorted(link.figures.items())))
    broken = link.witness.broken
    assert not broken, "\n".join(map(str, broken[:20]))
    crm, table = link.shop.crm(), link.outsiders.copy(Side.TABLE)
    assert {order for order, _ in crm.items() ^ table.items()} == set()
    records = link.records()
    assert not records.holds
    assert not records.intents
    assert link.happened["kills that left writes in flight"]
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


RULES: dict[str, tuple[Off, int, Callable[[KilledLink], None]]] = {
    "an older state writes nothing": (Name("syncd.core.guards:state_older", lambda *_: []), 31, edit_and_restore_state),
    "a restored side is refused": (Name("syncd.engine.verify:is_revert", lambda *_: False), 34, edit_and_restore_table),
    "many absences are looked for twice": (Name("syncd.engine.second_look:SECOND_LOOK_AFTER", -1e9), 32, hide_rows),
}


@pytest.mark.parametrize("rule", RULES)
def test_given_a_rule_switched_off_then_the_judge_of_killed_passes_says_so(tmp_path, monkeypatch, rule):
    off, promise, happen = RULES[rule]
    with open_killed_link(tmp_path, 40, SEED) as link, link.outsiders.resting():
        off.flip(monkeypatch)
        happen(link)
        link.wait(LOOK)
        link.act("reconcile")
        link.rest()
        assert {one.promise for one in link.witness.broken} == {promise}
