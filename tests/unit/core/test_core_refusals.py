"""What a refused plan that waits, and the plan of now, mean for each other."""

from __future__ import annotations

import pytest

from syncd.core.guards import sentence
from syncd.core.model import Action, Change, Counts, Facts, Owner, Reason, Side
from syncd.core.records import GuardHit
from syncd.core.refusals import SETTLING, alike, is_news, numbers, settling

NOBODY = Facts(None, None, None)


def hit(actual: float, name: str = "max_removes", side: Side | None = Side.CRM) -> GuardHit:
    return GuardHit(name, side, 100, actual)


def change(order: int, action: Action = Action.REMOVE, side: Side = Side.CRM) -> Change:
    return Change(order, side, action, Owner(2, 1), None, Reason.TABLE_CHANGED, NOBODY, None)


@pytest.mark.parametrize(
    ("now", "same"),
    [
        ([hit(1000)], True),
        ([hit(1100)], True),
        ([hit(900)], True),
        ([hit(1101)], False),
        ([hit(899)], False),
        ([hit(1000, side=Side.TABLE)], False),
        ([hit(1000, "max_removes_percent")], False),
        ([hit(1000), hit(1, "empty_side")], False),
        ([], False),
    ],
)
def test_plans_are_alike_while_the_same_guards_refuse_them_with_nearly_the_same_numbers(
    now: list[GuardHit], same: bool
) -> None:
    assert alike([hit(1000)], now) is same


@pytest.mark.parametrize(
    ("now", "news"),
    [
        ([hit(1000)], False),
        ([hit(1999)], False),
        ([hit(2000)], True),
        ([hit(10)], False),
        ([hit(1000), hit(1, "empty_side")], True),
        ([hit(5, SETTLING, None)], False),
    ],
)
def test_a_refusal_is_news_once_a_number_has_doubled_or_another_guard_refuses(now: list[GuardHit], news: bool) -> None:
    assert is_news(numbers([hit(1000)]), now) is news


def test_a_number_of_nothing_is_news_from_two_on() -> None:
    told = numbers([GuardHit("empty_side", Side.CRM, 1, 0)])
    assert not is_news(told, [GuardHit("empty_side", Side.CRM, 1, 0)])
    assert not is_news(told, [GuardHit("empty_side", Side.CRM, 1, 1)])
    assert is_news(told, [GuardHit("empty_side", Side.CRM, 1, 2)])


def test_given_nothing_left_of_the_refused_plan_then_the_new_one_goes_on() -> None:
    assert settling([change(1), change(2)], [change(3), change(4)], [hit(2)]) == []


def test_given_some_of_the_refused_plan_left_then_the_new_one_waits_for_the_next_look() -> None:
    left = [change(1), change(2), change(9)]
    assert settling([change(1), change(2), change(3)], left, [hit(3)]) == [GuardHit(SETTLING, None, 0, 2)]


@pytest.mark.parametrize(("before", "waits"), [(1, True), (2, False), (3, True)])
def test_given_as_many_left_as_at_the_look_before_then_the_plan_goes_on(before: int, waits: bool) -> None:
    guards = settling([change(1), change(2), change(3)], [change(1), change(2)], [hit(before, SETTLING, None)])
    assert bool(guards) is waits


def test_another_guards_number_at_the_look_before_settles_nothing() -> None:
    assert settling([change(1), change(2)], [change(1), change(2)], [hit(2)])


@pytest.mark.parametrize(
    ("refused", "planned"),
    [
        (change(1, Action.ADD), change(1, Action.ADD)),
        (change(1), change(1, side=Side.TABLE)),
        (change(1), change(1, Action.MOVE)),
        (change(1), change(2)),
    ],
)
def test_what_destroys_nothing_or_was_not_refused_does_not_wait(refused: Change, planned: Change) -> None:
    assert settling([refused], [planned], []) == []


def test_a_move_that_was_refused_waits_as_a_remove_does() -> None:
    assert settling([change(1, Action.MOVE)], [change(1, Action.MOVE)], []) == [GuardHit(SETTLING, None, 0, 1)]


@pytest.mark.parametrize(
    ("left", "said"),
    [(1, "1 move or remove is left of the plan"), (99, "99 moves and removes are left of the plan")],
)
def test_the_sentence_says_how_many_are_left_and_when_it_goes_on(left: int, said: str) -> None:
    told = sentence(GuardHit(SETTLING, None, 0, left), Counts())
    assert told == f"{said} that was refused; if the next look finds as many, it goes on"
