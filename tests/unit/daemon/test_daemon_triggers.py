"""Who wants a pass of a link, and what was put off until later."""

from __future__ import annotations

import asyncio

import pytest

from syncd.core.order_ranges import OrderRanges
from syncd.daemon.triggers import MOST_HINTED, PendingHints, PendingTriggers, Trigger
from tests.fakes.clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def agenda(clock: FakeClock) -> PendingTriggers:
    return PendingTriggers(clock)


def test_given_nobody_asked_then_there_is_nothing_to_attend_to(agenda: PendingTriggers) -> None:
    assert not agenda.is_ready
    assert agenda.left() is None


def test_given_somebody_asked_when_taken_then_it_is_told_when_and_forgotten(
    agenda: PendingTriggers, clock: FakeClock
) -> None:
    agenda.ask(Trigger.SCHEDULE)
    assert agenda.is_ready
    assert agenda.take(early=False) == {Trigger.SCHEDULE: clock.now()}
    assert not agenda.is_ready


def test_given_asks_that_were_put_off_then_they_are_taken_once_they_are_due(
    agenda: PendingTriggers, clock: FakeClock
) -> None:
    agenda.defer({Trigger.AGAIN: 5.0}, 30)
    before = agenda.is_ready
    clock.advance(30)
    assert (before, agenda.is_ready) == (False, True)
    assert agenda.take(early=False) == {Trigger.AGAIN: 5.0}
    assert not agenda.is_waiting


def test_given_asks_that_were_put_off_when_another_comes_before_then_they_stay_put_off(
    agenda: PendingTriggers, clock: FakeClock
) -> None:
    agenda.defer({Trigger.AGAIN: 5.0}, 30)
    agenda.ask(Trigger.REQUEST)
    assert agenda.take(early=False) == {Trigger.REQUEST: clock.now()}
    assert agenda.left() == 30


def test_given_asks_that_were_put_off_when_taken_early_then_they_go_along(
    agenda: PendingTriggers, clock: FakeClock
) -> None:
    agenda.defer({Trigger.SCHEDULE: 5.0}, 30)
    agenda.ask(Trigger.REQUEST)
    assert agenda.take(early=True) == {Trigger.SCHEDULE: 5.0, Trigger.REQUEST: clock.now()}
    assert not agenda.is_waiting


def test_given_asks_that_were_put_off_when_hastened_then_they_are_due_now(agenda: PendingTriggers) -> None:
    agenda.defer({Trigger.AGAIN: 5.0}, 30)
    agenda.end_pause()
    assert agenda.take(early=False) == {Trigger.AGAIN: 5.0}


def test_given_nothing_was_put_off_when_hastened_then_there_is_nothing_to_attend_to(agenda: PendingTriggers) -> None:
    agenda.end_pause()
    assert not agenda.is_ready


def test_given_asks_that_were_put_off_when_dropped_then_they_never_come(
    agenda: PendingTriggers, clock: FakeClock
) -> None:
    agenda.defer({Trigger.AGAIN: 5.0}, 30)
    agenda.drop()
    clock.advance(60)
    assert not agenda.is_ready


def test_given_somebody_asks_while_it_sleeps_then_it_wakes_long_before_what_was_put_off(
    agenda: PendingTriggers, clock: FakeClock
) -> None:
    async def play() -> float:
        agenda.defer({Trigger.AGAIN: 5.0}, 3600)
        sleeping = asyncio.create_task(agenda.sleep())
        await clock.sleep(10)
        agenda.ask(Trigger.REQUEST)
        await sleeping
        return clock.monotonic()

    began = clock.monotonic()
    assert asyncio.run(play()) - began < 3600


def test_given_something_was_put_off_when_it_sleeps_then_it_wakes_when_that_is_due(agenda: PendingTriggers) -> None:
    async def play() -> None:
        agenda.defer({Trigger.AGAIN: 5.0}, 30)
        await agenda.sleep()

    asyncio.run(play())
    assert agenda.is_ready


def test_given_hints_that_come_while_a_pass_begins_then_they_wait_for_the_next() -> None:
    hints = PendingHints()
    hints.add({1})
    hints.peek()
    hints.take()
    hints.add({2})
    hints.forget_taken()
    assert hints.peek() == (OrderRanges.of_orders([2]), False)


def test_given_more_hints_than_may_wait_then_the_others_are_left_to_the_schedule() -> None:
    hints = PendingHints()
    hints.add(set(range(1, MOST_HINTED)))
    hints.add({MOST_HINTED, MOST_HINTED + 1})
    assert str(hints.peek()[0]) == f"1-{MOST_HINTED}"
