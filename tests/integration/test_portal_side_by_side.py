"""Several batches of writes under way at once, from the engine to a portal that takes its documented time."""

from __future__ import annotations

import pytest

from syncd.engine.reconcile import reconcile
from syncd.sandbox import SandboxPortal
from syncd.sandbox.limits import Latencies, PortalLimits
from tests.fakes.clock import FakeClock
from tests.fakes.portal_client import client
from tests.fakes.store import MemoryStore
from tests.simulation.world import World

pytestmark = pytest.mark.anyio

DOCUMENTED = Latencies(add=0.33, delete=1.8, list=0.04)


async def first_sync(
    rows: int, *, writers: int, limits: PortalLimits | None = None
) -> tuple[float, SandboxPortal, int]:
    """Bind so many orders that only the table knows; return how long it took, the portal, and how often it refused."""
    clock = FakeClock()
    world = World()
    world.clock = clock  # type: ignore[assignment]
    world.store = MemoryStore(clock)
    for order in range(1, rows + 1):
        world.edit_table(order, (2, 10_000 + order))
    portal = SandboxPortal(
        {rows + 1: (2, 7)}, orders=range(1, rows + 2), limits=limits, latencies=DOCUMENTED, clock=clock
    )
    world.edit_table(rows + 1, (2, 7))
    world.options["writers"] = writers
    async with client(portal, clock) as ours:
        link = world.link()
        link.portal = ours
        began = clock.monotonic()
        report = await reconcile(link)
        assert report.exit_code == 0, report.row.error
        return clock.monotonic() - began, portal, ours.usage().refused


async def test_given_four_writers_then_many_adds_take_less_than_half_the_time_of_one() -> None:
    alone, _, _ = await first_sync(300, writers=1)
    together, portal, refused = await first_sync(300, writers=4)

    assert len(portal.bindings) == 301
    assert refused == 0
    assert together < 0.45 * alone


async def test_given_a_budget_smaller_than_the_writes_then_batches_side_by_side_do_not_exceed_it() -> None:
    _, portal, refused = await first_sync(1600, writers=10, limits=PortalLimits.standard())

    assert len(portal.bindings) == 1601
    assert refused == 0
