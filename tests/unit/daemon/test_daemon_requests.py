"""The poller hands on what other processes ask for through the state database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from typing import Any

import pytest

from syncd.core.records import Request
from syncd.daemon.lifecycle import Tasks
from syncd.daemon.triggers import RequestPoller, Trigger
from syncd.errors import StateUnavailable
from tests.fakes.store import MemoryStore
from tests.unit.daemon.virtual_daemon import LoopClock

pytestmark = pytest.mark.anyio


class FlakyStore(MemoryStore):
    down = False
    looks = 0

    async def open_requests(self, links: Any) -> list[Request]:
        self.looks += 1
        if self.down:
            raise StateUnavailable("The state database is out of reach.")
        return await super().open_requests(links)


@pytest.fixture
async def store(clock: LoopClock) -> FlakyStore:
    return FlakyStore(clock)


@pytest.fixture
def asked() -> list[tuple[str, Trigger]]:
    return []


@pytest.fixture
async def poller(store: FlakyStore, clock: LoopClock, asked: list[tuple[str, Trigger]]) -> AsyncIterator[RequestPoller]:
    made = RequestPoller(store, clock, lambda: ["shop"], lambda link, who: asked.append((link, who)))
    task = asyncio.create_task(made.run())
    yield made
    task.cancel()
    await asyncio.wait({task})


async def test_given_a_request_of_another_process_then_it_is_handed_on_within_seconds(
    poller: RequestPoller, store: FlakyStore, clock: LoopClock, asked: list[tuple[str, Trigger]]
) -> None:
    await clock.sleep(10)
    await store.post_request("shop", "trigger", "anna@host", clock.now())
    await clock.sleep(2)
    assert asked == [("shop", Trigger.REQUEST)]


async def test_given_a_request_for_a_link_of_others_then_it_is_left_to_them(
    poller: RequestPoller, store: FlakyStore, clock: LoopClock, asked: list[tuple[str, Trigger]]
) -> None:
    await store.post_request("other", "trigger", "anna@host", clock.now())
    await clock.sleep(60)
    assert asked == []


async def test_given_a_request_that_stays_open_then_it_is_handed_on_once(
    poller: RequestPoller, store: FlakyStore, clock: LoopClock, asked: list[tuple[str, Trigger]]
) -> None:
    await store.post_request("shop", "trigger", "anna@host", clock.now())
    await clock.sleep(60)
    assert asked == [("shop", Trigger.REQUEST)]


async def test_given_a_request_that_another_daemon_knows_of_then_this_one_hears_of_it_too(
    poller: RequestPoller, store: FlakyStore, clock: LoopClock, asked: list[tuple[str, Trigger]]
) -> None:
    second = RequestPoller(store, clock, lambda: ["shop"], lambda link, who: asked.append((link, who)))
    await store.post_request("shop", "trigger", "anna@host", clock.now())
    await second.poll()
    await clock.sleep(5)
    assert len(asked) == 2


async def test_given_a_link_that_comes_back_then_its_open_request_is_handed_on_again(
    store: FlakyStore, clock: LoopClock, asked: list[tuple[str, Trigger]]
) -> None:
    links = ["shop"]
    poller = RequestPoller(store, clock, lambda: links, lambda link, who: asked.append((link, who)))
    await store.post_request("shop", "trigger", "anna@host", clock.now())
    await poller.poll()
    links.clear()
    await poller.poll()
    links.append("shop")
    await poller.poll()
    assert len(asked) == 2


async def test_given_the_state_database_is_away_then_it_looks_less_often_and_goes_on_when_it_is_back(
    poller: RequestPoller,
    store: FlakyStore,
    clock: LoopClock,
    asked: list[tuple[str, Trigger]],
    told: list[MutableMapping[str, Any]],
) -> None:
    await clock.sleep(10)
    store.down = True
    before = store.looks
    await clock.sleep(3600)
    assert poller.unreachable == "The state database is out of reach."
    assert store.looks - before < 150
    store.down = False
    await store.post_request("shop", "trigger", "anna@host", clock.now())
    await clock.sleep(40)
    assert (poller.unreachable, len(asked)) == ("", 1)
    assert [event["event"] for event in told] == [
        "state database out of reach",
        "pass asked for",
        "state database back",
    ]


async def test_given_the_state_database_is_back_then_that_is_told_once(store: FlakyStore, clock: LoopClock) -> None:
    told: list[float] = []
    poller = RequestPoller(
        store, clock, lambda: ["shop"], lambda _link, _who: None, lambda: told.append(clock.monotonic())
    )
    task = asyncio.create_task(poller.run())
    await clock.sleep(10)
    store.down = True
    await clock.sleep(600)
    store.down = False
    await clock.sleep(600)
    task.cancel()
    await asyncio.wait({task})
    assert [610 < at < 645 for at in told] == [True]


class TestTasks:
    async def test_given_a_task_that_crashes_then_it_is_told(self, told: list[MutableMapping[str, Any]]) -> None:
        crashes: list[BaseException] = []
        tasks = Tasks(crashes.append)

        async def crash() -> None:
            raise ZeroDivisionError

        tasks.start("crash", crash())
        assert await tasks.finish(5)
        await asyncio.sleep(0)
        assert [type(error) for error in crashes] == [ZeroDivisionError]
        assert [event["event"] for event in told] == ["task crashed"]

    async def test_given_a_task_that_does_not_finish_in_time_then_it_is_cut_off(self, clock: LoopClock) -> None:
        tasks = Tasks(lambda _error: None)
        tasks.start("slow", clock.sleep(3600))
        assert not await tasks.finish(5)
        assert clock.monotonic() < 10

    async def test_given_no_tasks_then_finishing_takes_no_time(self) -> None:
        assert await Tasks(lambda _error: None).finish(5)

    async def test_given_a_block_then_its_task_ends_with_it(self, clock: LoopClock) -> None:
        ticks: list[float] = []

        async def tick() -> None:
            while True:
                ticks.append(clock.monotonic())
                await clock.sleep(1)

        tasks = Tasks(lambda _error: None)
        async with tasks.during("tick", tick()):
            await clock.sleep(2.5)
        await clock.sleep(10)
        assert len(ticks) == 3
