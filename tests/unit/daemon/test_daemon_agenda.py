"""Who wants a pass of a link, and what was put off until later."""

from __future__ import annotations

import asyncio

import pytest

from syncd.daemon.agenda import Agenda
from syncd.daemon.verdict import Ask
from tests.fakes.clock import FakeClock


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def agenda(clock):
    return Agenda(clock)


def test_given_nobody_asked_then_there_is_nothing_to_attend_to(agenda):
    assert not agenda.is_ready
    assert agenda.left() is None


def test_given_somebody_asked_when_taken_then_it_is_told_when_and_forgotten(agenda, clock):
    agenda.ask(Ask.SCHEDULE)
    assert agenda.is_ready
    assert agenda.take(early=False) == {Ask.SCHEDULE: clock.now()}
    assert not agenda.is_ready


def test_given_asks_that_were_put_off_then_they_are_taken_once_they_are_due(agenda, clock):
    agenda.put_off({Ask.AGAIN: 5.0}, 30)
    assert not agenda.is_ready
    clock.advance(30)
    assert agenda.is_ready
    assert agenda.take(early=False) == {Ask.AGAIN: 5.0}
    assert not agenda.is_waiting


def test_given_asks_that_were_put_off_when_another_comes_before_then_they_stay_put_off(agenda, clock):
    agenda.put_off({Ask.AGAIN: 5.0}, 30)
    agenda.ask(Ask.TRIGGER)
    assert agenda.take(early=False) == {Ask.TRIGGER: clock.now()}
    assert agenda.left() == 30


def test_given_asks_that_were_put_off_when_taken_early_then_they_go_along(agenda, clock):
    agenda.put_off({Ask.SCHEDULE: 5.0}, 30)
    agenda.ask(Ask.TRIGGER)
    assert agenda.take(early=True) == {Ask.SCHEDULE: 5.0, Ask.TRIGGER: clock.now()}
    assert not agenda.is_waiting


def test_given_asks_that_were_put_off_when_hastened_then_they_are_due_now(agenda):
    agenda.put_off({Ask.AGAIN: 5.0}, 30)
    agenda.hasten()
    assert agenda.take(early=False) == {Ask.AGAIN: 5.0}


def test_given_nothing_was_put_off_when_hastened_then_there_is_nothing_to_attend_to(agenda):
    agenda.hasten()
    assert not agenda.is_ready


def test_given_asks_that_were_put_off_when_dropped_then_they_never_come(agenda, clock):
    agenda.put_off({Ask.AGAIN: 5.0}, 30)
    agenda.drop()
    clock.advance(60)
    assert not agenda.is_ready


def test_given_somebody_asks_while_it_sleeps_then_it_wakes_long_before_what_was_put_off(agenda, clock):
    async def play() -> float:
        agenda.put_off({Ask.AGAIN: 5.0}, 3600)
        sleeping = asyncio.create_task(agenda.sleep())
        await clock.sleep(10)
        agenda.ask(Ask.TRIGGER)
        await sleeping
        return clock.monotonic()

    began = clock.monotonic()
    assert asyncio.run(play()) - began < 3600


def test_given_something_was_put_off_when_it_sleeps_then_it_wakes_when_that_is_due(agenda):
    async def play() -> None:
        agenda.put_off({Ask.AGAIN: 5.0}, 30)
        await agenda.sleep()

    asyncio.run(play())
    assert agenda.is_ready
