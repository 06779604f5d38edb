"""The lease outlasts whatever the portal makes syncd wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from syncd.engine.link import hold_lease
from syncd.errors import LeaseHeld
from tests.fakes.portal import Surprise
from tests.simulation.world import World
from tests.unit.engine.given import both, deal, in_step

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


@pytest.mark.parametrize(("ttl", "pauses"), [(30.0, [1, 1, 0.5]), (1.5, [0.5] * 5)])
async def test_given_a_wait_then_the_stop_is_listened_for_every_second_and_the_lease_kept(
    ttl: float, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(options={"lease_ttl": ttl})
    slept: list[float] = []
    sleep = world.clock.sleep

    async def note_and_sleep(seconds: float) -> None:
        slept.append(seconds)
        await sleep(seconds)

    monkeypatch.setattr(world.clock, "sleep", note_and_sleep)
    async with hold_lease(world.link()) as lease:
        await lease.wait(2.5)

    assert slept == pauses
