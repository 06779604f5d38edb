"""The judge of simulated lives is not blind: each rule of the wide world is switched off, and a short life breaks its promise.

With the rule, the same life keeps every promise. The promises are those of sync-rules.md 16, 19 and 31 to 37.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import NamedTuple

import pytest

from tests.fakes.portal import FakePortal
from tests.simulation.life import Life, play
from tests.simulation.scenario import parse
from tests.simulation.switch import Name, Off, Silent

GUARDS = "syncd.core.guards"
ALL = " ".join(f"{order}={1000 + order}" for order in range(1, 27))
SOME = " ".join(f"{order}={2000 + order}" for order in range(1, 9))

GONE = "1=- 2=- 3=- 4=-"


class Rule(NamedTuple):
    """A rule: how it is switched off, the promise that is broken then, and the lines of the life that breaks it."""

    off: Off
    promise: int
    lines: str


RULES = {
    "a small link moves two orders a run": Rule(
        Name(f"{GUARDS}:SMALL_MOVES", 10**6), 19, "crm 1=7 2=7 3=7 | pass | crm 1=8 2=8 3=8 | pass"
    ),
    "what a day did is counted together": Rule(
        Name("syncd.engine.run:DAY", 0.0),
        33,
        "crm 1=7 2=7 3=7 | pass" + "".join(f" | later 3600 | crm 1={day} 2={day} | pass" for day in (11, 12, 13)),
    ),
    "a restored side is refused": Rule(
        Name("syncd.engine.verify:is_revert", lambda *_args: False),
        34,
        f"crm {ALL} | table {ALL} | pass | backup | later 90000 | crm {SOME} | pass | later 90000 | restore table 1 | pass",
    ),
    "an older state writes nothing": Rule(
        Name(f"{GUARDS}:state_older", lambda *_args: []),
        31,
        "crm 1=7 | pass | backup | later 60 | crm 1=8 | pass | later 60 | restore state 1 | table 1=7 | pass | rest",
    ),
    "many absences are looked for twice": Rule(
        Name("syncd.engine.second_look:SECOND_LOOK_AFTER", -1.0),
        32,
        f"crm {ALL} | table {ALL} | pass | hide 1 2 3 | pass | later 1 | pass",
    ),
    "an absence of an order that was back is looked for anew": Rule(
        Name("syncd.engine.second_look:SecondLook._coming_back", lambda _look, _still: set()),
        32,
        f"crm {ALL} | table {ALL} | pass | crm {GONE} | pass | later 30 | crm 1=1001 | pass | crm 1=- | later 40 | pass",
    ),
    "no order is removed while a row has no readable order id": Rule(
        Name("syncd.core.diff:Differ._may_be_there", lambda *_: False),
        32,
        "crm 1=7 2=7 | pass | unkey 1 | pass",
    ),
    "a write of the portal carries its condition": Rule(
        Name("tests.fakes.portal:FakePortal._execute", FakePortal._do),
        36,
        "crm 1=7 | pass | table 1=8 | overtake crm 9 | pass | rest",
    ),
    "what a race overwrote is held, where a portal carries no conditions": Rule(
        Silent("syncd.engine.outcomes:OutcomeRecorder.overwrote"),
        16,
        "unconditional | crm 1=7 | pass | table 1=8 | overtake crm 9 | pass | rest",
    ),
    "a hold goes on showing what was overwritten while its order may be there": Rule(
        Name("syncd.core.diff:_kept", lambda hold, facts: replace(hold, facts=facts)),
        16,
        "unconditional | table 4=3 | zombie 4 | at portal.write die | pass | table 4=- | nameless | crm 4=5 | pass | rest",
    ),
    "the audit claims no more than is known": Rule(
        Name("syncd.engine.recover:CANNOT_KNOW", "not written"),
        35,
        "crm 1=7 | pass | table 1=8 | at portal.write die | pass | crm 1=7 | pass | rest",
    ),
    "an order that the portal did not know is tried again": Rule(
        Name("syncd.engine.observe:RETRIED", frozenset()),
        37,
        "crm 1=7 | pass | early 50=8 | pass | born 50 | rest",
    ),
}


def life(lines: str) -> Life:
    lines = lines.replace(" | ", "\n")
    return asyncio.run(play(parse(f"link second_look_above=2 max_reverts=5\n{lines}", "rule")))


@pytest.mark.parametrize("name", RULES)
def test_given_a_rule_switched_off_then_a_life_breaks_its_promise(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rule = RULES[name]
    assert life(rule.lines).broken == []

    rule.off.flip(monkeypatch)

    assert rule.promise in {one.promise for one in life(rule.lines).broken}


def test_every_promise_of_the_wide_world_has_a_rule_without_which_it_is_broken() -> None:
    assert {rule.promise for rule in RULES.values()} >= set(range(31, 38))


@pytest.mark.parametrize("moment", ["at store.acquire ", "at portal.read ", "at store.intend ", ""])
def test_given_an_order_that_is_back_for_a_moment_that_no_pass_sees_then_its_absence_was_looked_for_twice(
    moment: str,
) -> None:
    """So it goes on an overloaded machine: others bind an order and unbind it while the pass comes to its second look."""
    waiting = f"crm {ALL} | table {ALL} | pass | crm {GONE} | pass | later 90"

    lived = life(f"{waiting} | {moment}crm 1=5 | {moment}crm 1=- | pass")

    assert lived.broken == []
    assert [one.order for one in lived.witness.log if one.ours] == [1, 2, 3, 4]
