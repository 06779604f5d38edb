"""The scheduler asks for a pass at each fire time, and reports when it no longer does."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import time_machine

from syncd.config.schedule import parse_schedule
from syncd.daemon.schedule import LinkScheduler
from syncd.status.fire_times import FireTimes
from tests.unit.daemon.virtual_daemon import NOON, LoopClock, rounded, slot_times

pytestmark = pytest.mark.anyio


class Asked:
    """Keeps when which link was asked."""

    def __init__(self, clock: LoopClock) -> None:
        self.at: list[tuple[str, float]] = []
        self.troubles: list[tuple[str, str]] = []
        self.fail = False
        self._clock = clock

    def ask(self, link: str) -> None:
        if self.fail:
            raise RuntimeError("a bug")
        self.at.append((link, self._clock.now() - NOON))

    def trouble(self, link: str, kind: str) -> None:
        self.troubles.append((link, kind))

    def times(self, link: str = "shop") -> list[float]:
        return [at for name, at in self.at if name == link]


@pytest.fixture
def asked(clock: LoopClock) -> Asked:
    return Asked(clock)


@pytest.fixture
async def scheduler(clock: LoopClock, asked: Asked, travelling: time_machine.Traveller) -> AsyncIterator[LinkScheduler]:
    made = LinkScheduler(clock, asked.ask, asked.trouble)
    made.start()
    yield made
    await made.stop()


def _slots(schedule: str, link: str = "shop") -> FireTimes:
    return FireTimes(link, parse_schedule(schedule))


async def test_given_an_interval_then_it_asks_at_each_slot(
    scheduler: LinkScheduler, asked: Asked, clock: LoopClock
) -> None:
    scheduler.set("shop", _slots("5m"), 0)
    await clock.sleep(3600)
    assert rounded(asked.times()) == rounded(slot_times("shop", "5m", 3600))


async def test_given_a_jitter_then_it_asks_late_by_at_most_that(
    scheduler: LinkScheduler, asked: Asked, clock: LoopClock
) -> None:
    scheduler.set("shop", _slots("5m"), 30)
    await clock.sleep(86400)
    delays = [at - slot for at, slot in zip(asked.times(), slot_times("shop", "5m", 86400), strict=False)]
    assert len(delays) >= 287
    assert all(0 <= delay < 30.1 for delay in delays)
    assert max(delays) - min(delays) > 20


async def test_given_another_schedule_then_it_takes_effect_at_once(
    scheduler: LinkScheduler, asked: Asked, clock: LoopClock
) -> None:
    scheduler.set("shop", _slots("1d"), 0)
    await clock.sleep(1)
    scheduler.set("shop", _slots("10s"), 0)
    await clock.sleep(60)
    assert len(asked.at) == 6


async def test_given_a_link_dropped_then_it_asks_no_more(
    scheduler: LinkScheduler, asked: Asked, clock: LoopClock
) -> None:
    scheduler.set("shop", _slots("10s"), 0)
    await clock.sleep(25)
    scheduler.drop("shop")
    scheduler.drop("never there")
    made = len(asked.at)
    await clock.sleep(3600)
    assert (len(asked.at), scheduler.next_run("shop")) == (made, None)


async def test_given_a_link_then_its_next_moment_is_known(scheduler: LinkScheduler, clock: LoopClock) -> None:
    scheduler.set("shop", _slots("5m"), 0)
    await clock.sleep(1)
    assert scheduler.next_run("shop") == _slots("5m").after(clock.now())


async def test_given_a_bug_in_what_is_asked_then_it_is_told_and_the_schedule_goes_on(
    scheduler: LinkScheduler, asked: Asked, clock: LoopClock
) -> None:
    scheduler.set("shop", _slots("10s"), 0)
    asked.fail = True
    await clock.sleep(25)
    asked.fail = False
    await clock.sleep(20)
    assert set(asked.troubles) == {("shop", "error")}
    assert asked.at


async def test_given_a_scheduler_that_wakes_no_more_then_it_is_overdue(
    scheduler: LinkScheduler, asked: Asked, clock: LoopClock
) -> None:
    scheduler.set("shop", _slots("10s"), 0)
    await clock.sleep(15)
    scheduler._scheduler._stop_timer()  # what an exception while jobs are processed comes to
    made = len(asked.at)
    await clock.sleep(100)
    assert len(asked.at) == made
    assert 85 < scheduler.overdue() <= 100
    scheduler.wake()
    await clock.sleep(1)
    assert (scheduler.overdue(), len(asked.at)) == (0, made + 1)


async def test_given_the_clock_was_set_back_when_realigned_then_it_asks_at_the_next_slot(
    scheduler: LinkScheduler, asked: Asked, clock: LoopClock, travelling: time_machine.Traveller
) -> None:
    scheduler.set("shop", _slots("5m"), 0)
    await clock.sleep(1)
    clock.jump -= 86400
    travelling.shift(-86400)
    scheduler.realign()
    await clock.sleep(310)
    assert len(asked.at) == 1


async def test_given_it_is_stopped_then_nothing_is_asked_any_more(
    scheduler: LinkScheduler, asked: Asked, clock: LoopClock
) -> None:
    scheduler.set("shop", _slots("10s"), 0)
    await clock.sleep(15)
    await scheduler.stop()
    await scheduler.stop()
    made = len(asked.at)
    await clock.sleep(100)
    assert len(asked.at) == made


async def test_given_passes_in_between_then_each_of_them_is_asked_for_until_the_link_is_dropped(
    clock: LoopClock, asked: Asked, travelling: time_machine.Traveller
) -> None:
    between: list[str] = []
    scheduler = LinkScheduler(clock, asked.ask, asked.trouble, between.append)
    scheduler.start()
    scheduler.set("shop", _slots("5m"), 0)
    scheduler.set_between("shop", _slots("20s"))
    await clock.sleep(200)
    assert between == ["shop"] * 10
    scheduler.set_between("shop", None)
    await clock.sleep(200)
    assert len(between) == 10
    scheduler.set_between("shop", _slots("20s"))
    scheduler.drop("shop")
    await clock.sleep(200)
    assert len(between) == 10
    await scheduler.stop()
