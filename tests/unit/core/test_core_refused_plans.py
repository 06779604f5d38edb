"""What a refused plan that waits, and the plan of now, mean for each other."""

from __future__ import annotations

import pytest

from syncd.core.model import Side
from syncd.core.plan import covers_refusal, is_worse, values_by_guard
from syncd.core.records import GuardHit


def hit(actual: float, name: str = "max_removes", side: Side | None = Side.CRM) -> GuardHit:
    return GuardHit(name, side, 100, actual)


@pytest.mark.parametrize(
    ("now", "stands"),
    [
        ([hit(1000)], True),
        ([hit(1100)], True),
        ([hit(10)], True),
        ([hit(1101)], False),
        ([hit(1000, side=Side.TABLE)], False),
        ([hit(1000, "max_removes_percent")], False),
        ([hit(1000), hit(1, "empty_side")], False),
        ([], False),
    ],
)
def test_a_stored_plan_stands_while_no_other_guard_refuses_and_no_number_has_grown(
    now: list[GuardHit], stands: bool
) -> None:
    assert covers_refusal([hit(1000)], now) is stands


def test_a_stored_plan_stands_for_one_that_fewer_guards_refuse() -> None:
    assert covers_refusal([hit(1000), hit(50, "max_removes_percent")], [hit(45, "max_removes_percent")])


@pytest.mark.parametrize(
    ("now", "news"),
    [
        ([hit(1000)], False),
        ([hit(1999)], False),
        ([hit(2000)], True),
        ([hit(10)], False),
        ([hit(1000), hit(1, "empty_side")], True),
    ],
)
def test_a_refusal_is_news_once_a_number_has_doubled_or_another_guard_refuses(now: list[GuardHit], news: bool) -> None:
    assert is_worse(values_by_guard([hit(1000)]), now) is news


def test_a_number_of_nothing_is_news_from_two_on() -> None:
    last = values_by_guard([GuardHit("empty_side", Side.CRM, 1, 0)])
    assert not is_worse(last, [GuardHit("empty_side", Side.CRM, 1, 0)])
    assert not is_worse(last, [GuardHit("empty_side", Side.CRM, 1, 1)])
    assert is_worse(last, [GuardHit("empty_side", Side.CRM, 1, 2)])
