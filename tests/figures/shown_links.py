"""The links on the pictures of the status page: a day of passes that the engine made, over sides in memory.

The clock stands still, and chance has a seed, so the pages are the same each time. All else is what the product does
and says: the passes, the state database, and the pages.
"""

from __future__ import annotations

import dataclasses
import heapq
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from syncd.config.schedule import parse_schedule
from syncd.core.guards import GuardLimits
from syncd.core.model import Owner
from syncd.core.ports import Usage
from syncd.core.records import Decision, Pause, Reached
from syncd.daemon.lifecycle import Process
from syncd.engine import reconcile as engine
from syncd.engine.link import Link
from syncd.engine.report import Report
from syncd.portal.factory import budget_key
from syncd.status.fire_times import PACE, FireTimes
from syncd.status.health import Parking
from syncd.wiring import AppContext
from tests.fakes.clock import SetClock
from tests.fakes.link import make_link
from tests.fakes.portal import FakePortal
from tests.fakes.table import FakeTable
from tests.unit.pages.shown_daemon import ShownDaemon, make_template, open_world

NOW = 1_800_005_000.0
"""When the pictures are taken: on a Friday, at 09:23:20 UTC."""
HOLDER = "erp-2:4121"
PERSON = "anna@erp-2"
HOUR = 3600.0

SHOP, OUTLET, WHOLESALE, MARKETPLACE, RETURNS = "shop", "outlet", "wholesale", "marketplace", "returns"
DECIDED = 5240
"""An order of the outlet that a person has decided."""

LINKS: dict[str, dict[str, Any]] = {
    SHOP: {"schedule": "20m"},
    OUTLET: {"schedule": "10m"},
    WHOLESALE: {"schedule": "10m"},
    MARKETPLACE: {"schedule": "20m"},
    RETURNS: {"schedule": "30m"},
}
SIZES = {SHOP: 680, OUTLET: 310, WHOLESALE: 840, MARKETPLACE: 1250, RETURNS: 96}
"""How many orders each link has bound at first."""
SINCE = {SHOP: 24.6, OUTLET: 5.6, WHOLESALE: 5.6, MARKETPLACE: 10.6, RETURNS: 15.6}
"""How many hours ago its first pass was."""

DEALS = frozenset(Owner(2, number) for number in range(1, 1000))
"""The deals there are in each portal."""

_FIRST_ORDER = 5000
_GOODS = ("Desks", "Projectors", "Headsets", "Notebooks", "Lamps")
_BUYERS = ("Alder School", "Birch & Sons", "Cedar Clinic", "Dogwood Hotel", "Elm Bakery", "Fir Theatre", "Hazel Books")


def title(deal: int) -> str:
    """Given a deal's id, return what it is called."""
    return f"{_GOODS[deal % len(_GOODS)]} for {_BUYERS[deal * 3 % len(_BUYERS)]}"


class BusyPortal(FakePortal):
    """A portal whose requests take time, and use the operating budget."""

    def __init__(self, clock: SetClock, chance: random.Random) -> None:
        super().__init__(owners=DEALS)
        self._clock, self._chance = clock, chance
        self._operating: list[tuple[float, float]] = []
        self._listing = 0.0

    def usage(self) -> Usage:
        recent = sum(used for at, used in self._operating if at > self._clock.time - 600)
        return dataclasses.replace(super().usage(), operating=recent, listing_seconds=self._listing)

    def _request(self, calls: int) -> None:
        super()._request(calls)
        pages = 1 + len(self.bindings) // 500
        took = (0.3 + 0.5 * self._chance.random()) * pages + 0.05 * calls
        self._clock.advance(took)
        if calls == 1:
            self._listing += took
        self._operating.append((self._clock.time, took * (15 + 25 * self._chance.random())))


@dataclass
class Kept:
    """One link: its two sides, and the people who change them."""

    name: str
    link: Link
    portal: FakePortal
    table: FakeTable
    chance: random.Random
    edits: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    """What else people do, and when."""

    def bind(self, order: int, deal: int, *, crm: bool = False, table: bool = False) -> None:
        """Somebody binds an order on one side, or on both."""
        if crm:
            self.portal.bind(order, Owner(2, deal))
        if table:
            self.table.put(order, 2, deal)

    def live(self, until: float) -> None:
        """People change what they change between two passes: more by day than by night."""
        if until < NOW - SINCE[self.name] * HOUR + 1800:
            return  # the first passes find both sides alike
        while self.edits and self.edits[0][0] <= until:
            self.edits.pop(0)[1]()
        busy = 6 if 6 <= until / HOUR % 24 < 19 else 1
        for _ in range(int(self.chance.random() * busy)):
            order, crm = self._next_order(), self.chance.random() < 0.6
            self.bind(order, _deal(self.chance), crm=crm, table=not crm)
        if self.chance.random() < 0.05 * busy:
            order = self.chance.choice(sorted(self.portal.bindings))
            if order > 5300:  # the others have a story of their own
                self.bind(order, _deal(self.chance), crm=True)

    def _next_order(self) -> int:
        return max(*self.portal.bindings, *self.table.bindings) + 1 + int(self.chance.random() * 3)

    async def make_pass(self) -> Report:
        """Make a scheduled pass."""
        return await engine.reconcile(self.link, origin="schedule")


def _deal(chance: random.Random) -> int:
    return 40 + int(chance.random() * 900)


BEGAN = NOW - 25 * HOUR


@asynccontextmanager
async def shown_links(directory: Path, day: Path) -> AsyncIterator[ShownDaemon]:
    """Given an empty directory and the state database of a day, hand out a daemon that shows it."""
    async with open_world(directory, day, LINKS, SetClock(NOW)) as world:
        world.said = Process(HOLDER, "running", BEGAN, "/etc/syncd/syncd.toml", BEGAN)
        yield world


async def make_day(directory: Path) -> Path:
    """Make the state database of a day in an empty directory, which takes some 200 passes; return its file."""
    clock = SetClock(BEGAN)
    template = directory / "empty"
    template.mkdir()
    async with open_world(directory, make_template(template), LINKS, clock) as world:
        links = {name: _kept(world.context, clock, name) for name in LINKS}
        _happen(links)
        parked_until: dict[str, float] = {}
        for at, name in _schedule():
            clock.time = at
            if at < parked_until.get(name, 0.0):
                continue
            links[name].live(at)
            report = await links[name].make_pass()
            if report.row.state == "refused":
                await _park(world, report)
                parked_until[name] = at + PACE
        clock.time = NOW
        await _people_and_work(world)
    return directory / "state.db"


def _kept(place: AppContext, clock: SetClock, name: str) -> Kept:
    chance = random.Random(name)
    portal, table = BusyPortal(clock, chance), FakeTable()
    link = make_link(
        portal, table, place.store, clock, name=name, holder=HOLDER, fingerprint=name, limits=GuardLimits(),
        plan_ttl=place.settings.links[name].plan_ttl_seconds,
    )  # fmt: skip
    kept = Kept(name, link, portal, table, chance)
    for order in range(_FIRST_ORDER, _FIRST_ORDER + SIZES[name]):
        deal = _deal(chance)
        portal.bindings[order] = Owner(2, deal)
        table.add(order, 2, deal)
    return kept


def _schedule() -> Iterator[tuple[float, str]]:
    """Yield the passes in the order of time: when, and of which link."""
    times = {name: FireTimes(name, parse_schedule(LINKS[name]["schedule"])) for name in LINKS}
    due = [(_after(times[name], NOW - SINCE[name] * HOUR), name) for name in LINKS]
    heapq.heapify(due)
    while due:
        at, name = heapq.heappop(due)
        if at < NOW:
            yield at, name
            heapq.heappush(due, (_after(times[name], at), name))


def _after(times: FireTimes, at: float) -> float:
    found = times.after(at)
    assert found is not None
    return found


def _happen(links: dict[str, Kept]) -> None:
    """Set what happens beside the everyday."""
    outlet, wholesale = links[OUTLET], links[WHOLESALE]

    def early() -> None:
        outlet.bind(DECIDED, 118, crm=True)

    def late() -> None:
        outlet.bind(DECIDED, 119, table=True)

    def conflict() -> None:
        outlet.bind(5125, 77, crm=True)
        outlet.bind(5125, 88, table=True)
        outlet.bind(5188, 401, crm=True)
        outlet.table.drop(5188)
        outlet.bind(5203, 99_999, table=True)
        outlet.bind(DECIDED, 120, crm=True)
        outlet.bind(DECIDED, 121, table=True)

    def half_empty() -> None:
        for order in range(_FIRST_ORDER + 90, _FIRST_ORDER + 250):
            wholesale.table.drop(order)

    outlet.edits = [(NOW - 4.5 * HOUR, early), (NOW - 2 * HOUR, late), (NOW - 1.1 * HOUR, conflict)]
    wholesale.edits = [(NOW - 0.2 * HOUR, half_empty)]


async def _park(world: ShownDaemon, report: Report) -> None:
    """Park a link as the daemon does it."""
    lease = await world.lease(report.row.link, HOLDER)
    await world.store.set_parked(lease, f"{Parking.REFUSED}: {report.row.error}")
    await world.store.release(lease)


async def _people_and_work(world: ShownDaemon) -> None:
    """People have decided and paused; a pass is under way; the portal has answered with titles and its budget."""
    store, links = world.store, world.context.settings.links
    outlet = await store.find_link(OUTLET)
    assert outlet is not None
    when = NOW - 600
    titles = {deal: title(deal.owner_id) for deal in DEALS}
    note = Decision(OUTLET, "resolve", "crm", PERSON, when, "Sales confirmed deal 120", order_id=DECIDED)
    await store.decide(outlet.id, [DECIDED], "crm", when, notes=[note])
    await store.set_paused(RETURNS, paused=True, pause=Pause(PERSON, NOW - 1500, NOW + 2 * HOUR, "stocktaking"))
    for name in LINKS:
        row = await store.find_link(name)
        assert row is not None
        await store.keep_names(row.id, titles, NOW - 600, 0)
        (last,) = await store.runs(name, 1)
        used = {"crm.orderentity.add": last.operating, "crm.orderentity.list": last.operating / 3}
        budget = {method: (seconds, NOW + 240, last.started_at) for method, seconds in used.items()}
        await store.set_budget(budget_key(links[name].portal), budget)
    world.clock.time = NOW - 7
    lease = await world.lease(MARKETPLACE, HOLDER)
    world.clock.time = NOW
    await store.renew(lease, 600.0, NOW, Reached("listing the portal", 1000, 1276))
