"""Stored plans: which may still be applied, what a person is told of the others, and who asked for one."""

from __future__ import annotations

from typing import Any

import pytest

from syncd.core.model import Action, Change, Facts, HoldKind, Owner, Reason, Side, Unreadable
from syncd.core.records import Decision, RunRow
from syncd.engine.link import Link
from syncd.engine.stored_plans import asked_for, check_applicable, moved_since, stored_run
from syncd.errors import StalePlan, UsageError
from tests.fakes.clock import SetClock
from tests.fakes.store import MemoryStore
from tests.simulation.world import World

pytestmark = pytest.mark.anyio

HOUR = 3600


def stored(kind: str, state: str, *, age: float = 0, **known: Any) -> tuple[Link, RunRow]:
    """A link whose plans are good for a day, and its run 5, which began so many seconds ago."""
    link = World(options={"plan_ttl": 24 * HOUR}).link()
    return link, RunRow(5, "shop", 1, kind, state, started_at=link.clock.now() - age, **known)


@pytest.mark.parametrize(("kind", "state"), [("plan", "planned"), ("undo", "planned"), ("pass", "refused")])
def test_given_a_plan_just_as_old_as_plans_may_be_then_it_may_be_applied(kind: str, state: str) -> None:
    check_applicable(*stored(kind, state, age=24 * HOUR))


@pytest.mark.parametrize(
    ("kind", "state", "known", "told", "command"),
    [
        ("pass", "refused", {"source": 3}, "only checked whether the plan of run 3 is still refused", "syncd apply 3"),
        ("pass", "refused", {"spent_by": 8}, "has been applied already, by run 8", "syncd show 8"),
        ("pass", "refused", {"spent_by": 8}, "has been applied already, by run 8", "syncd plan shop"),
        ("pass", "applied", {}, "is not a plan that waits to be applied (it is applied)", "syncd plan shop"),
        ("apply", "refused", {}, "is not a plan that waits to be applied (it is refused)", "syncd plan shop"),
        ("plan", "planned", {"age": 25 * HOUR}, "is 1 d 1 h old; plans are good for 1 d", "syncd plan shop"),
    ],
)
def test_given_a_run_that_cannot_be_applied_then_the_error_says_why_that_nothing_was_written_and_what_to_do(
    kind: str, state: str, known: dict[str, Any], told: str, command: str
) -> None:
    with pytest.raises(StalePlan) as caught:
        check_applicable(*stored(kind, state, **known))

    assert f"un 5 {told}" in caught.value.message
    assert caught.value.message.endswith(("; nothing was written.", ". Nothing was written."))
    assert f"`{command}`" in caught.value.hint


async def test_given_a_run_of_another_link_or_none_then_the_error_names_the_command_that_lists_them() -> None:
    world = World()
    row = (await world.reconcile()).row

    assert await stored_run(world.link(), row.id) == row
    for link, number in [(World(options={"name": "mart"}).link(), 1), (world.link(), row.id + 1)]:
        with pytest.raises(UsageError, match=f"no run {number} of link {link.name}; nothing was done") as caught:
            await stored_run(link, number)
        assert f"`syncd runs {link.name}`" in caught.value.hint


async def test_given_several_who_asked_for_a_run_then_the_last_one_before_it_began_is_told() -> None:
    store = MemoryStore(SetClock())
    anna, boris, later, *_others = decisions = [
        Decision("shop", "apply", "apply 3", "anna", 100.0, "Season ends.", run=3),
        Decision("shop", "apply", "apply 3", "boris", 201.0, run=3),
        Decision("shop", "apply", "apply 3", "clara", 301.5, run=3),
        Decision("shop", "undo", "undo 3", "dora", 200.0, run=3),
        Decision("shop", "apply", "apply 4", "emil", 200.0, run=4),
        Decision("mart", "apply", "apply 3", "fedor", 200.0, run=3),
    ]
    for decision in decisions:
        await store.note(decision)

    def run(kind: str, source: int | None, at: float) -> RunRow:
        return RunRow(9, "shop", 1, kind, "applied", source=source, started_at=at)

    assert await asked_for(store, run("apply", 3, 99.0)) == [anna]
    assert await asked_for(store, run("apply", 3, 200.0)) == [boris], "noted up to a second later"
    assert await asked_for(store, run("apply", 3, 300.0)) == [boris]
    assert await asked_for(store, run("apply", 3, 301.0)) == [later]
    assert [one.by for one in await asked_for(store, run("undo", 3, 300.0))] == ["dora"]
    assert await asked_for(store, run("apply", None, 300.0)) == []
    assert await asked_for(store, run("pass", 3, 300.0)) == []
    assert await asked_for(store, run("apply", 3, 50.0)) == []


OLD, NEW = Owner(2, 10), Owner(31, 11)
TWO_ROWS = Unreadable(HoldKind.DUPLICATE_ROWS, "There are 2 rows.")


@pytest.mark.parametrize(
    ("today", "told"),
    [
        (Facts(OLD, NEW, OLD), ""),
        (Facts(NEW, NEW, OLD), "moved since the plan: CRM was deal 10, is smart invoice 11"),
        (Facts(OLD, None, OLD), "moved since the plan: table was smart invoice 11, is unbound"),
        (Facts(OLD, NEW, NEW), "moved since the plan: agreed was deal 10, is smart invoice 11"),
        (Facts(OLD, NEW, OLD, TWO_ROWS), "moved since the plan: its rows in the table"),
        (
            None,
            "moved since the plan: CRM was deal 10, is unbound; table was smart invoice 11, is unbound; agreed was deal 10, is unbound",
        ),
    ],
    ids=["nothing", "the CRM", "the table", "the agreement", "the rows", "all of it"],
)
def test_given_what_an_order_shows_today_then_the_sentence_says_what_has_moved_since_the_plan(
    today: Facts | None, told: str
) -> None:
    facts = Facts(OLD, NEW, OLD)
    change = Change(5, Side.CRM, Action.MOVE, OLD, NEW, Reason.TABLE_CHANGED, facts, agreed_after=NEW)

    assert moved_since(change, today) == told
