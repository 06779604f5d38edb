"""The lease outlasts whatever the portal makes syncd wait for."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any

import pytest

from syncd.core.records import Lease, Reached
from syncd.engine.link import Link, hold_lease
from syncd.errors import LeaseHeld, Stopped, UnavailableError
from tests.fakes.clock import FakeClock
from tests.fakes.link import make_link
from tests.fakes.portal import FakePortal, Surprise
from tests.fakes.store import MemoryStore
from tests.fakes.table import FakeTable
from tests.simulation.world import World
from tests.unit.engine.given import both, deal, die, in_step

pytestmark = pytest.mark.anyio


def ask_for_patience(world: World, method: str) -> list[str]:
    """Let a reading of the portal take 400 s; after 300 s of it another process wants the link. Return what it met."""
    met: list[str] = []
    read = getattr(world.portal, method)

    async def slowly(*args: Any) -> Any:
        setattr(world.portal, method, read)
        for _ in range(8):
            await world.clock.sleep(50)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            if not met and world.clock.monotonic() > began + 250:
                try:
                    await world.reconcile()
                    met.append("nobody")
                except LeaseHeld as held:
                    met.append(type(held).__name__)
        return await read(*args)

    began = world.clock.monotonic()
    setattr(world.portal, method, slowly)
    return met


async def test_given_a_portal_that_asks_for_patience_when_an_order_is_asked_for_by_id_then_the_lease_is_kept() -> None:
    world = await in_step(30)
    world.edit_crm(5, None)
    met = ask_for_patience(world, "read")

    report = await world.reconcile()

    assert met == ["LeaseHeld"]
    assert report.exit_code == 0
    assert both(world, 5) == (None, None)


async def test_given_a_portal_that_asks_for_patience_when_owners_are_asked_for_then_the_lease_is_kept() -> None:
    world = await in_step(30)
    world.options["verify_owners"] = True
    world.edit_table(5, deal(77))
    met = ask_for_patience(world, "missing_owners")

    report = await world.reconcile()

    assert met == ["LeaseHeld"]
    assert report.exit_code == 0
    assert both(world, 5) == (deal(77), deal(77))


async def test_given_a_portal_that_asks_for_patience_when_a_lost_answer_is_looked_into_then_the_lease_is_kept() -> None:
    world = await in_step(30)
    world.edit_table(5, deal(77))
    world.portal.script.append(Surprise.LOST_AFTER)
    met = ask_for_patience(world, "read")

    await world.reconcile()

    assert met == ["LeaseHeld"]
    assert both(world, 5) == (deal(77), deal(77))


@pytest.mark.parametrize(
    ("ttl", "news", "renewals"),
    [
        (30.0, (), [10, 20, 30]),
        (30.0, (25,), [10, 20, 25]),
        (60.0, (2, 5), [3, 6, 26]),
        (6.0, range(1, 7), [2, 4, 6]),
        (8.0, range(1, 7), [3, 6]),
    ],
)
async def test_given_a_lease_then_it_is_renewed_after_a_third_of_its_time_and_sooner_where_there_is_news(
    ttl: float, news: Sequence[int], renewals: list[float]
) -> None:
    world = World(options={"lease_ttl": ttl})
    link = world.link()
    renewed: list[float] = []
    async with hold_lease(link) as lease:
        renew, began = lease.renew, world.clock.now()

        async def note_and_renew() -> None:
            renewed.append(world.clock.now() - began)
            await renew()

        lease.renew = note_and_renew  # type: ignore[method-assign]
        for second in range(1, 31):
            await world.clock.sleep(1)
            if second in news:
                link.progress("applying", second, 30)
            await lease.keep()

    assert renewed[: len(renewals)] == renewals


@pytest.mark.parametrize(
    ("seconds", "ttl", "pauses"), [(2.5, 30.0, [1, 1, 0.5]), (2.5, 1.5, [0.5] * 5), (2, 30.0, [1, 1])]
)
async def test_given_a_wait_then_the_stop_is_listened_for_every_second_and_the_lease_kept(
    seconds: float, ttl: float, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(options={"lease_ttl": ttl})
    slept: list[float] = []
    sleep = world.clock.sleep

    async def note_and_sleep(seconds: float) -> None:
        slept.append(seconds)
        await sleep(seconds)

    monkeypatch.setattr(world.clock, "sleep", note_and_sleep)
    async with hold_lease(world.link()) as lease:
        await lease.wait(seconds)

    assert slept == pauses


async def test_given_a_lease_that_cannot_be_given_back_then_the_run_ends_as_it_would_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = await in_step({5: 10})

    async def away(_lease: Lease) -> None:
        raise UnavailableError("The state database is away.")

    monkeypatch.setattr(world.store, "release", away)

    assert (await world.reconcile()).exit_code == 0


# ------------------------------------------------------------------ work that takes its time


def waiting_link(**options: Any) -> tuple[Link, FakeClock]:
    """A link whose clock lets tasks run side by side, and remembers how long it was slept."""
    clock = FakeClock()
    return make_link(FakePortal(), FakeTable(), MemoryStore(clock), clock, **options), clock


async def a_turn(task: asyncio.Task[Any]) -> None:
    """Let a task run for as long as it waits for nothing."""
    for _ in range(20):
        await asyncio.sleep(0)
    assert task.done()


async def test_given_a_run_that_gets_further_when_the_lease_is_renewed_then_others_see_how_far_it_has_got() -> None:
    said: list[tuple[str, int, int | None]] = []
    link, clock = waiting_link(progress=lambda *news: said.append(news))
    async with hold_lease(link) as lease:
        link.progress("listing the portal", 50, 1000)
        clock.advance(3)
        await lease.keep()

        (row,) = await link.store.leases()
        assert row.reached == Reached("listing the portal", 50, 1000)
    assert said == [("listing the portal", 50, 1000)]


async def test_given_work_that_is_over_at_once_then_nobody_waits_for_it() -> None:
    link, clock = waiting_link()
    async with hold_lease(link) as lease:
        reading = asyncio.ensure_future(lease.keep_during(link.portal.read([5])))
        await a_turn(reading)
        write = asyncio.ensure_future(link.portal.write([]))
        await a_turn(asyncio.ensure_future(lease.wait_for_any([write], 60)))

    assert reading.result() == {}
    assert clock.slept == []


@pytest.mark.parametrize("stoppable", [True, False])
async def test_given_a_reading_when_the_stop_is_asked_for_then_it_is_given_up_within_a_second_if_it_may_be(
    stoppable: bool,
) -> None:
    link, clock = waiting_link()
    ended: list[str] = []

    async def read() -> str:
        try:
            await clock.sleep(30)
            ended.append("read")
        except asyncio.CancelledError:
            ended.append("given up")
            raise
        return "what was read"

    async def stop() -> None:
        await clock.sleep(4.5)
        link.cancelled.set("SIGTERM")

    began = clock.monotonic()
    async with asyncio.timeout(30), hold_lease(link) as lease:
        stopping = asyncio.ensure_future(stop())
        if stoppable:
            with pytest.raises(Stopped):
                await lease.keep_during(read())
        else:
            assert await lease.keep_during(read(), stoppable=False) == "what was read"
        await stopping

    assert ended == (["given up"] if stoppable else ["read"])
    assert clock.monotonic() - began == (5 if stoppable else 30)


async def test_given_a_stop_that_was_asked_for_before_a_reading_then_it_is_given_up_at_once() -> None:
    link, clock = waiting_link()
    async with asyncio.timeout(30), hold_lease(link) as lease:
        link.cancelled.set("SIGTERM")
        began = clock.monotonic()
        with pytest.raises(Stopped):
            await lease.keep_during(clock.sleep(5))
        assert clock.monotonic() == began


@pytest.mark.parametrize(("seconds", "takes", "waited"), [(2.5, 9, 2.5), (2, 9, 2), (9, 1.5, 1.5), (math.inf, 4, 4)])
async def test_given_writes_under_way_then_one_waits_until_the_first_is_over_or_the_time_has_passed(
    seconds: float, takes: float, waited: float
) -> None:
    link, clock = waiting_link()
    async with asyncio.timeout(30), hold_lease(link) as lease:
        writes = [asyncio.ensure_future(clock.sleep(one)) for one in (takes, 60)]
        began = clock.monotonic()
        await lease.wait_for_any(writes, seconds)

        assert clock.monotonic() - began == waited
        assert writes[0].done() == (takes == waited)
        assert max(clock.slept[2:]) <= 1, "the lease is looked at every second"
        for write in writes:
            write.cancel()


@pytest.mark.parametrize("under_way", [True, False])
async def test_given_the_stop_when_writes_are_under_way_then_it_waits_for_them_and_else_ends_the_wait(
    under_way: bool,
) -> None:
    link, clock = waiting_link()
    async with asyncio.timeout(30), hold_lease(link) as lease:
        link.cancelled.set("SIGTERM")
        if under_way:
            write = asyncio.ensure_future(clock.sleep(3))
            await lease.wait_for_any([write], math.inf)
            assert write.done()
        else:
            with pytest.raises(Stopped):
                await lease.wait_for_any([], math.inf)


# ------------------------------------------------------------------ a lease of other ends


async def test_given_a_link_of_no_orders_that_came_through_a_pass_when_it_points_elsewhere_then_that_is_refused() -> (
    None
):
    world = await in_step({})
    world.options["fingerprint"] = "elsewhere"

    assert [hit.name for hit in (await world.reconcile()).row.guards] == ["fingerprint"]


@pytest.mark.parametrize("step", ["store.finish_run before", "store.intend after"])
async def test_given_a_first_sync_that_was_cut_off_when_the_link_points_elsewhere_then_that_is_refused(
    step: str,
) -> None:
    world = World()
    world.edit_crm(6, deal(10))
    if step == "store.finish_run before":  # it has agreed on an order, and written nothing
        world.edit_crm(5, deal(10))
        world.edit_table(5, deal(10))
    await die(world, step)
    world.options["fingerprint"] = "elsewhere"

    assert [hit.name for hit in (await world.reconcile()).row.guards] == ["fingerprint"]
