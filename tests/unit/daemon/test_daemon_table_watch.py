"""Watching mapping tables: what is found brings orders forward, and no trouble with it reaches the passes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from syncd.config.model import Settings
from syncd.core.order_ranges import OrderRanges
from syncd.daemon.hints import LONGEST, WHOLE_APART, TableWatches
from syncd.daemon.lifecycle import Tasks
from syncd.daemon.triggers import Task
from syncd.errors import ConfigError, UnavailableError
from syncd.table.rows import ChangedOrders
from tests.fakes.settings import settings as shop
from tests.unit.daemon.virtual_daemon import Daemon, LoopClock

pytestmark = pytest.mark.anyio

MANY = ChangedOrders(many=True)
AWAY = UnavailableError("The database cannot be reached.")


def settings(watch: str | None = "updated_at") -> Settings:
    made = shop()
    table = made.links["shop"].table.model_copy(update={"watch": watch})
    return made.model_copy(update={"links": {"shop": made.links["shop"].model_copy(update={"table": table})}})


class Tables:
    """Tables that say what a script says, then nothing; and who was told of it."""

    def __init__(self, clock: LoopClock) -> None:
        self.script: list[ChangedOrders | Exception] = []
        self.always: ChangedOrders | Exception = ChangedOrders()
        self.opened = self.closed = 0
        self.took = 0.0
        self.asked: list[float] = []
        self.told: list[tuple[str, set[int] | None, float]] = []
        self._clock = clock

    @asynccontextmanager
    async def open(self, _link: str) -> AsyncIterator[Tables]:
        self.opened += 1
        try:
            yield self
        finally:
            self.closed += 1

    async def changed(self) -> ChangedOrders:
        self.asked.append(self._clock.monotonic())
        await self._clock.sleep(self.took)
        said = self.script.pop(0) if self.script else self.always
        if isinstance(said, Exception):
            raise said
        return said

    def hint(self, link: str, orders: set[int]) -> None:
        self.told.append((link, orders, self._clock.monotonic()))

    def hint_all(self, link: str) -> None:
        self.told.append((link, None, self._clock.monotonic()))


@pytest.fixture
def tables(clock: LoopClock) -> Tables:
    return Tables(clock)


def _bug(error: BaseException) -> None:
    raise error


@pytest.fixture
async def configure(tables: Tables, clock: LoopClock) -> AsyncIterator[Callable[[Settings], None]]:
    tasks = Tasks(_bug)
    watches = TableWatches(tables.open, clock, tables, tasks)
    yield lambda made: watches.configure(made.links)
    await tasks.end_all()


def covered(task: Task) -> OrderRanges | None:
    return None if task.portion is None else task.portion.orders


async def test_given_a_watched_table_then_it_is_asked_every_few_seconds_and_its_orders_are_hinted(
    configure: Callable[[Settings], None], tables: Tables, clock: LoopClock
) -> None:
    tables.script = [ChangedOrders(), ChangedOrders(frozenset({5, 9})), ChangedOrders()]
    configure(settings())
    await clock.sleep(10)
    assert tables.asked == [0, 3, 6, 9]
    assert tables.told == [("shop", {5, 9}, 3)]


async def test_given_a_look_that_takes_long_then_the_table_has_its_rest(
    configure: Callable[[Settings], None], tables: Tables, clock: LoopClock
) -> None:
    tables.took = 2
    configure(settings())
    await clock.sleep(60)
    assert tables.asked == [0, 22, 44]


async def test_given_very_many_changes_again_and_again_then_a_pass_over_all_is_brought_forward_now_and_then(
    configure: Callable[[Settings], None], tables: Tables, clock: LoopClock
) -> None:
    tables.script = [MANY] * 20
    configure(settings())
    await clock.sleep(3 * WHOLE_APART)
    assert tables.told == [("shop", None, 0), ("shop", None, WHOLE_APART)]


async def test_given_a_database_that_is_away_then_it_is_said_once_and_asked_more_and_more_seldom(
    configure: Callable[[Settings], None], tables: Tables, clock: LoopClock, told: list[MutableMapping[str, Any]]
) -> None:
    tables.script = [AWAY] * 7
    configure(settings())
    await clock.sleep(400)
    assert tables.asked[:9] == [0, 6, 18, 42, 90, 150, 210, 270, 273]
    assert tables.asked[5] - tables.asked[4] == LONGEST
    said = [(event["event"], event["log_level"], event["link"]) for event in told]
    assert said == [("table not watched for now", "warning", "shop"), ("table watched again", "info", "shop")]


async def test_given_a_column_that_does_not_fit_then_it_is_said_once_and_the_table_left_alone_until_a_reload(
    configure: Callable[[Settings], None], tables: Tables, clock: LoopClock, told: list[MutableMapping[str, Any]]
) -> None:
    tables.script = [ConfigError("It does not fit.", problems=("links.shop.table.watch: it is a boolean",))]
    configure(settings())
    await clock.sleep(60)
    configure(settings())
    await clock.sleep(60)
    assert (tables.asked, tables.closed) == ([0], 1)
    (event,) = told
    assert (event["event"], event["error"]) == ("table not watched", "links.shop.table.watch: it is a boolean")
    configure(settings("changed_at"))
    await clock.sleep(10)
    assert tables.asked == [0, 120, 123, 126, 129]


async def test_given_a_reload_then_a_watch_begins_goes_on_or_ends(
    configure: Callable[[Settings], None], tables: Tables, clock: LoopClock
) -> None:
    configure(settings(None))
    await clock.sleep(10)
    assert tables.opened == 0
    configure(settings())
    await clock.sleep(10)
    configure(settings())
    await clock.sleep(10)
    assert (tables.opened, tables.closed) == (1, 0)
    configure(settings(None))
    asked = len(tables.asked)
    await clock.sleep(60)
    assert (len(tables.asked), tables.closed) == (asked, 1)


async def test_given_very_many_changes_then_a_pass_over_all_orders_is_made_and_a_pause_drops_it(daemon: Daemon) -> None:
    runner = daemon.add()
    await daemon.clock.sleep(5)
    await daemon.cover_all()

    runner.hint({5})
    runner.hint_all()
    await daemon.clock.sleep(3)
    assert (daemon.passes.tasks[-1], len(daemon.passes.made)) == (Task(None), 2)
    runner.hint({7})
    await daemon.clock.sleep(3)
    assert covered(daemon.passes.tasks[-1]) == OrderRanges.parse("7"), "what was covered is not covered again"

    await daemon.store.set_paused("shop", paused=True)
    runner.hint_all()
    await daemon.clock.sleep(3)
    await daemon.store.set_paused("shop", paused=False)
    runner.hint({9})
    await daemon.clock.sleep(3)
    assert covered(daemon.passes.tasks[-1]) == OrderRanges.parse("9"), "a pause drops hints of any kind"
