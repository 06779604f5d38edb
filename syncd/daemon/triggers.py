"""Who wants a pass of a link, and over which orders.

Triggers come now, after a pause, or from another process through the state database.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

import structlog

from syncd.core.order_ranges import OrderRanges
from syncd.core.ports import Clock
from syncd.core.records import LinkRow, Request, RunRow
from syncd.core.store import Store
from syncd.engine.covering import NAMED, Portion
from syncd.errors import SyncdError
from syncd.status.health import Health, health_of, last_pass

log = structlog.get_logger("syncd.daemon")


class Trigger(StrEnum):
    """Why a pass is wanted.

    SCHEDULE: a fire time is there. START: this daemon looks for what fell due while none was up. AGAIN: the pause after
    a failure, or of a parked link, is over. RELOAD: the link's configuration changed. RECENT: it is time for a
    pass over the newest orders. HINT: a program reports that some orders have changed. REQUEST, SIGNAL: a person.
    """

    SCHEDULE = "schedule"
    START = "start"
    AGAIN = "again"
    RELOAD = "reload"
    RECENT = "recent"
    HINT = "hint"
    REQUEST = "trigger"
    SIGNAL = "signal"


PERSONS = frozenset({Trigger.REQUEST, Trigger.SIGNAL})


class PendingTriggers:
    """The triggers of one link: pending now, or deferred.

    Args:
        clock: Time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._pending: dict[Trigger, float] = {}
        self._deferred: dict[Trigger, float] = {}
        self._due: float | None = None
        self._woken = asyncio.Event()

    def ask(self, who: Trigger) -> None:
        """Ask for a pass."""
        self._pending[who] = self._clock.now()
        self._woken.set()

    def wake(self) -> None:
        """End the current `sleep`."""
        self._woken.set()

    def defer(self, triggers: Mapping[Trigger, float], seconds: float) -> None:
        """Make these triggers due after so many seconds, in place of those deferred before."""
        self._deferred = dict(triggers)
        self._due = self._clock.monotonic() + seconds

    def end_pause(self) -> None:
        """End the pause now, if there is one."""
        if self._due is not None:
            self._due = self._clock.monotonic()
            self._woken.set()

    def drop(self) -> None:
        """Forget the deferred triggers."""
        self._due = None

    def left(self) -> float | None:
        """Return the seconds until the deferred triggers are due, below 0 if overdue; None where none are deferred."""
        return None if self._due is None else self._due - self._clock.monotonic()

    @property
    def is_waiting(self) -> bool:
        """Whether triggers are deferred."""
        return self._due is not None

    @property
    def is_ready(self) -> bool:
        """Whether a trigger is due now."""
        left = self.left()
        return bool(self._pending) or (left is not None and left <= 0)

    def take(self, *, early: bool) -> Mapping[Trigger, float]:
        """Return the triggers, each with its time in seconds since the epoch, and forget them.

        Args:
            early: Whether deferred triggers are included before they are due.
        """
        triggers, self._pending = self._pending, {}
        left = self.left()
        if left is not None and (early or left <= 0):
            triggers = self._deferred | triggers
            self._due = None
        self._woken.clear()
        return triggers

    async def sleep(self) -> None:
        """Wait for a trigger, or until the deferred ones are due."""
        left = self.left()
        waits: set[asyncio.Future[None]] = {asyncio.ensure_future(_nothing(self._woken.wait()))}
        if left is not None:
            waits.add(asyncio.ensure_future(self._clock.sleep(left)))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
            self._woken.clear()


NONE = OrderRanges()
HINTED = "hinted orders"
"""What a pass covers because of hints, in words."""
MOST_HINTED = 5000
"""Orders that may wait for a pass because of hints; more of them are left to the schedule."""


class PendingHints:
    """Orders reported as changed, until a pass over them begins."""

    def __init__(self) -> None:
        self._orders: set[int] = set()
        self._all = False
        self._looked: tuple[frozenset[int], bool] = frozenset(), False
        self._taken = self._looked

    def add(self, orders: set[int]) -> None:
        """Take in orders."""
        self._orders |= set(sorted(orders)[: MOST_HINTED - len(self._orders)])

    def add_all(self) -> None:
        """Note that very many orders have changed."""
        self._all = True

    def peek(self) -> tuple[OrderRanges, bool]:
        """Return the orders that wait, and whether all do; what a pass takes is what was looked at last."""
        self._looked = frozenset(self._orders), self._all
        return OrderRanges.of_orders(self._orders), self._all

    def take(self) -> None:
        """A pass over what was looked at is about to begin."""
        self._taken = self._looked

    def forget_taken(self) -> None:
        """That pass has begun; what came since waits for the next."""
        orders, every = self._taken
        self._orders -= orders
        self._all = self._all and not every

    def clear(self) -> None:
        """Forget everything."""
        self._orders.clear()
        self._all = False


async def _nothing(wait: Awaitable[object]) -> None:
    await wait


EVERY = 1.0
"""Seconds between two looks."""
LONGEST = 30.0
"""Seconds between two looks at a state database that is out of reach."""


class RequestPoller:
    """Polls for requests and passes each on once.

    Every daemon sees every request, until a pass that began after it has ended (`runner_context`). So
    if a daemon dies, another one, or the same one started again, serves it.

    Args:
        store: The state database.
        clock: Time and chance.
        links: The links of this daemon.
        ask: Called with a link and the trigger.
        back: Called when the state database can be reached again.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        links: Callable[[], Collection[str]],
        ask: Callable[[str, Trigger], None],
        back: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._links = links
        self._ask = ask
        self._back = back
        self._handed_on: set[int] = set()
        self.unreachable = ""
        """Why the state database could not be reached at the last look; empty if it could."""

    async def run(self) -> None:
        """Poll the state database. Never returns."""
        pause = EVERY
        while True:
            try:
                await self.poll()
            except SyncdError as error:
                if not self.unreachable:
                    log.warning("state database out of reach", error=error.message)
                self.unreachable = error.message
                pause = min(LONGEST, 2 * pause)
            else:
                if self.unreachable:
                    log.info("state database back")
                    self._back()
                self.unreachable = ""
                pause = EVERY
            await self._clock.sleep(pause * (0.9 + 0.2 * self._clock.random()))

    async def poll(self) -> None:
        """Pass on the requests made since the last poll."""
        found = await self._store.open_requests(list(self._links()))
        for request in found:
            if request.id not in self._handed_on:
                log.info("pass asked for", link=request.link, by=request.by)
                self._ask(request.link, Trigger.REQUEST)
        self._handed_on = {request.id for request in found}


class Task(NamedTuple):
    """What a pass is to do.

    Args:
        portion: What it covers; None: all orders.
        serves: The requests it serves. A task that is widened to all orders serves every request.
    """

    portion: Portion | None
    serves: Collection[int] = ()


def task_for(
    triggers: Collection[Trigger],
    link: LinkRow | None,
    runs: Sequence[RunRow],
    requests: Iterable[Request],
    *,
    between: bool = False,
    hinted: OrderRanges = NONE,
    whole: bool = False,
) -> Task:
    """Given who asks, return what the pass covers.

    Args:
        triggers: Who asks.
        between: Whether it is a pass between those of the schedule. Where a hint comes together with the time for the
            newest orders, one pass covers both: a steady stream of hints puts nothing off.
        hinted: Orders that hints report as changed.
        whole: So many have changed that all orders are covered.
        link: The link's row.
        runs: Its newest runs, newest first.
        requests: What was asked through the state database, and is open.
    """
    recent = Trigger.RECENT in triggers
    if between:
        return Task(Portion(recent=recent, orders=hinted, called=HINTED))
    requests = list(requests) if Trigger.REQUEST in triggers else []
    if whole or Trigger.SIGNAL in triggers or any(one.orders is None for one in requests):
        return Task(None)
    orders = hinted
    for one in requests:
        orders |= one.orders or orders
    if not requests:
        refused = _refused(link, runs)
        if refused is not None and refused.covers is not None:
            # A retry of a refused plan covers the same orders, so that it shows whether the plan is still the same.
            return Task(Portion(orders=refused.covers, called=refused.part))
    called = HINTED if hinted and not requests else NAMED
    slice_ = bool({Trigger.SCHEDULE, Trigger.START, Trigger.AGAIN, Trigger.RELOAD} & set(triggers))
    portion = Portion(slice=slice_ or not orders, recent=recent, orders=orders, called=called)
    return Task(portion, [one.id for one in requests])


def _refused(link: LinkRow | None, runs: Sequence[RunRow]) -> RunRow | None:
    last = last_pass(runs) if link is not None and link.parked else None
    return last if last is not None and health_of(last) is Health.REFUSED else None
