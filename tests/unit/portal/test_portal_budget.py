"""How long calls take, and what is left of the operating budget."""

from __future__ import annotations

import pytest

from syncd.core.ports import OPERATING_LIMIT
from syncd.portal.budget import SLOW, STOP, UNKNOWN_RESET, BatchSizer, Budget
from syncd.portal.responses import CommandAnswer
from tests.fakes.clock import FakeClock

# ------------------------------------------------------------------------ pace


def test_given_ends_of_calls_when_observed_then_the_average_moves_towards_them() -> None:
    sizer = BatchSizer()
    sent = {"l0": "crm.orderentity.list?x", "o1": "crm.orderentity.add?x", "o2": "crm.orderentity.add?x"}
    times = {"l0": 100.0, "o1": 102.0, "o2": 104.0}

    sizer.observe(sent, {key: CommandAnswer(time={"finish": end, "start": 100}) for key, end in times.items()})

    assert sizer.seconds("crm.orderentity.add") == pytest.approx((0.33 + 2.0) / 2)


def test_given_a_call_after_a_failed_one_when_observed_then_it_says_nothing() -> None:
    sizer = BatchSizer()
    sent = {"o1": "crm.orderentity.add?x", "o2": "crm.orderentity.add?x", "o3": "crm.orderentity.add?x"}

    sizer.observe(sent, {"o1": CommandAnswer(time={"finish": 1.0}), "o3": CommandAnswer(time={"finish": 900.0})})

    assert sizer.seconds("crm.orderentity.add") == 0.33


def test_given_answers_lost_in_a_row_when_asked_then_a_call_is_never_taken_to_be_longer_than_a_batch() -> None:
    sizer = BatchSizer(20)
    for _ in range(20):
        sizer.overrun("crm.orderentity.deletebyfilter")

    assert sizer.seconds("crm.orderentity.deletebyfilter") == sizer.target_seconds == 20
    assert sizer.seconds("crm.item.list") == 0


# ---------------------------------------------------------------------- budget


def told(used: object, reset_in: float | None = 300, finish: float | None = 1000.0) -> dict[str, object]:
    time: dict[str, object] = {"operating": used}
    if finish is not None:
        time["finish"] = finish
    if reset_in is not None:
        time["operating_reset_at"] = int(1000 + reset_in)
    return time


def test_given_little_used_when_asked_then_there_is_no_wait() -> None:
    budget = Budget(FakeClock())
    budget.observe("m", [told(SLOW - 1)])

    assert budget.delay("m") == budget.delay("other") == 0


def test_given_more_and_more_used_when_asked_then_calls_slow_down_and_then_wait_for_the_reset() -> None:
    budget, waits = Budget(FakeClock()), []
    for used in (SLOW + 10, SLOW + 40, STOP):
        budget.observe("m", [told(used)])
        waits.append(budget.delay("m"))

    assert 0 < waits[0] < waits[1] <= 20
    assert waits[2] == pytest.approx(301)


def test_given_a_portal_whose_clock_is_off_when_asked_then_the_wait_is_what_it_said() -> None:
    clock = FakeClock(now=5_000_000.0)
    budget = Budget(clock)
    budget.observe("m", [told(STOP)])

    assert budget.delay("m") == pytest.approx(301)
    clock.advance(302)
    assert budget.delay("m") == 0


def test_given_several_calls_of_a_batch_when_observed_then_the_highest_counts() -> None:
    budget = Budget(FakeClock())
    budget.observe("m", [told(1), told("470.5"), told(3), {}, {"operating": "x"}])

    assert budget.used("m") == 470.5


def test_given_a_box_when_observed_then_nothing_is_known() -> None:
    budget = Budget(FakeClock())
    budget.observe("m", [{"finish": 1.0}, {}])

    assert budget.snapshot() == {}
    assert not budget.changed


def test_given_a_refusal_when_the_reset_is_remembered_then_it_is_waited_for() -> None:
    clock = FakeClock()
    budget = Budget(clock)
    budget.observe("m", [told(100, reset_in=200)])
    clock.advance(50)
    budget.blocked("m")

    assert budget.delay("m") == pytest.approx(151)
    assert budget.used("m") == OPERATING_LIMIT


def test_given_a_refusal_when_no_reset_was_ever_said_then_a_while_is_waited() -> None:
    budget = Budget(FakeClock())
    budget.blocked("m")

    assert budget.delay("m") == pytest.approx(UNKNOWN_RESET + 1)


def test_given_no_reset_in_the_answer_when_spent_then_the_whole_window_is_waited() -> None:
    budget = Budget(FakeClock())
    budget.observe("m", [told(STOP, reset_in=None)])

    assert budget.delay("m") == 600


@pytest.mark.parametrize("jump", [-(10**7), 10**7])
def test_given_a_clock_that_jumps_when_asked_then_no_wait_is_longer_than_the_window(jump: float) -> None:
    clock = FakeClock()
    budget = Budget(clock)
    budget.observe("m", [told(STOP)])
    clock.jump = jump

    assert 0 <= budget.delay("m") <= 600


def test_given_a_kept_budget_when_restored_then_what_was_heard_since_wins() -> None:
    clock = FakeClock()
    kept = Budget(clock)
    kept.observe("a", [told(STOP)])
    kept.observe("b", [told(STOP)])
    budget = Budget(clock)
    budget.observe("b", [told(1)])
    budget.restore(kept.snapshot())

    assert budget.delay("a") == pytest.approx(301)
    assert budget.delay("b") == 0
