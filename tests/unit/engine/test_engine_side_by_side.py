"""Several batches under way at once: how many, in which order, and what trouble with one of them costs the others."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from syncd.core.model import Outcome
from syncd.core.ports import Effect, Write, WriteResult
from syncd.engine import reconcile as engine
from syncd.engine.link import Link
from syncd.errors import LeaseLost, UnavailableError
from tests.simulation.world import World
from tests.unit.engine.given import both, deal, outcomes, patient

pytestmark = pytest.mark.anyio

Answer = Callable[[Sequence[Write]], list[WriteResult] | None]


class SlowPortal:
    """Lets each write request of a link take some seconds, and remembers which orders were under way together.

    Args:
        link: The link; its portal is slowed down.
        world: Its world.
        instead: Given a batch, returns what becomes of it instead of what the portal would do, or None.
    """

    def __init__(self, link: Link, world: World, instead: Answer = lambda _: None) -> None:
        self._write = link.portal.write
        self._clock = world.clock
        self._instead = instead
        self.seconds: Callable[[list[int]], float] = lambda _: 5.0
        self.under_way: list[list[int]] = []
        self.at_once: list[int] = []
        self.sent: list[list[int]] = []
        link.portal.write = self.write  # type: ignore[method-assign]

    async def write(self, batch: Sequence[Write]) -> list[WriteResult]:
        orders = [write.order_id for write in batch]
        assert not set(orders) & {order for others in self.under_way for order in others}
        self.under_way.append(orders)
        self.at_once.append(len(self.under_way))
        self.sent.append(orders)
        try:
            await self._clock.sleep(self.seconds(orders))
            return self._instead(batch) or await self._write(batch)
        finally:
            self.under_way.remove(orders)


async def with_rows(rows: int, *, size: int = 2) -> World:
    """So many rows of the table that the portal does not know yet, in time that passes while everybody waits."""
    world = patient()
    world.portal.size = size
    for order in range(1, rows + 1):
        world.edit_table(order, (2, 500 + order))
    return world


def unanswered(batch: Sequence[Write]) -> list[WriteResult]:
    return [WriteResult(write.order_id, Effect.UNKNOWN) for write in batch]


async def test_given_a_quiet_portal_then_two_batches_are_under_way_at_first_and_four_at_last() -> None:
    world = await with_rows(40)
    link = world.link()
    portal = SlowPortal(link, world)

    report = await engine.reconcile(link)

    assert report.exit_code == 0
    assert max(portal.at_once[:3]) == 2
    assert max(portal.at_once) == 4
    assert all(both(world, order) == (deal(500 + order),) * 2 for order in range(1, 41))


@pytest.mark.parametrize("writers", [1, 3, 10])
async def test_given_a_number_of_writers_then_so_many_batches_are_under_way_at_most(writers: int) -> None:
    world = await with_rows(140)
    world.options["writers"] = writers
    link = world.link()
    portal = SlowPortal(link, world)

    await engine.reconcile(link)

    assert max(portal.at_once) == writers


async def test_given_a_lost_answer_then_the_other_batches_go_on_while_it_is_waited_for() -> None:
    world = await with_rows(20)
    link = world.link()
    lost = [[3, 4]]

    def lose_once(batch: Sequence[Write]) -> list[WriteResult] | None:
        if [write.order_id for write in batch] in lost:
            lost.clear()
            return unanswered(batch)
        return None

    portal = SlowPortal(link, world, lose_once)
    began = world.clock.monotonic()
    report = await engine.reconcile(link)

    assert set(outcomes(report).values()) == {Outcome.APPLIED}
    assert portal.sent[-2:] == [[3], [4]]
    assert len(portal.sent) == 12
    assert world.clock.monotonic() - began < 5 * 4 + 60 + 5 + 5


async def test_given_a_limit_answer_then_its_batch_is_sent_again_next_and_half_as_many_are_under_way() -> None:
    world = await with_rows(60)
    link = world.link()
    refused: list[list[int]] = []

    def refuse_once(batch: Sequence[Write]) -> list[WriteResult] | None:
        orders = [write.order_id for write in batch]
        if not refused and len(portal.sent) > 14:
            refused.append(orders)
            return [WriteResult(order, Effect.NOT_SENT) for order in orders]
        return None

    portal = SlowPortal(link, world, refuse_once)
    report = await engine.reconcile(link)

    assert report.exit_code == 0
    first = portal.sent.index(refused[0])
    again = portal.sent.index(refused[0], first + 1)
    assert again - first <= 4
    assert max(portal.at_once[again : again + 4]) == 3  # half of four, and one more since those beside it ended well
    assert Counter(order for orders in portal.sent for order in orders).most_common(1)[0][1] == 2


async def test_given_a_refusal_for_the_rate_that_was_waited_out_then_half_as_many_are_under_way() -> None:
    world = await with_rows(60)
    link = world.link()
    usage = link.portal.usage
    refused: list[int] = []
    link.portal.usage = lambda: replace(usage(), refused=len(refused))  # type: ignore[method-assign]

    def refuse_once(batch: Sequence[Write]) -> None:
        if not refused and len(portal.sent) > 14:
            refused.append(batch[0].order_id)

    portal = SlowPortal(link, world, refuse_once)
    report = await engine.reconcile(link)

    assert report.exit_code == 0
    peaks = [now for now, following in pairwise([*portal.at_once, 0]) if following <= now]
    # Half of four, and one more since those beside it ended well; then all is quiet again.
    assert peaks == [2, 4, 4, 4, 4, 3, 4, 4, 1]


async def test_given_a_poison_order_then_it_costs_its_own_batch_only() -> None:
    world = await with_rows(20)
    link = world.link()
    portal = SlowPortal(link, world, lambda batch: unanswered(batch) if 5 in {w.order_id for w in batch} else None)

    report = await engine.reconcile(link)

    done = outcomes(report)
    assert done.pop((5, "crm")) is Outcome.FAILED
    assert set(done.values()) == {Outcome.APPLIED}
    assert [orders for orders in portal.sent if 5 in orders] == [[5, 6], [5]]


async def test_given_the_lease_lost_then_everything_under_way_is_given_up_and_its_intents_stay_open() -> None:
    world = await with_rows(20)
    link = world.link()

    def rob(_batch: Sequence[Write]) -> list[WriteResult] | None:
        world.store.rob("shop")
        return None

    portal = SlowPortal(link, world, rob)
    portal.seconds = lambda orders: 5 if orders[0] == 1 else 7
    report = await engine.reconcile(link)

    assert report.exit_code == LeaseLost.exit_code
    assert portal.under_way == []
    assert len(await world.store.open_intents(1)) == 4
    await world.clock.sleep(200)
    assert (await world.reconcile()).exit_code == 0


async def test_given_the_stop_then_what_is_under_way_comes_to_its_end_and_is_recorded() -> None:
    world = await with_rows(20)
    link = world.link()

    def stop(_batch: Sequence[Write]) -> list[WriteResult] | None:
        link.cancelled.set("SIGTERM")
        return None

    portal = SlowPortal(link, world, stop)
    portal.seconds = lambda orders: 5 if orders[0] == 1 else 7
    report = await engine.reconcile(link)

    assert report.exit_code == 143
    assert len(portal.sent) == 2
    assert await world.store.open_intents(1) == []
    assert [done for done in outcomes(report).values() if done is Outcome.APPLIED] == [Outcome.APPLIED] * 4


async def test_given_a_portal_that_goes_away_then_the_batches_beside_are_recorded_and_the_rest_not_sent() -> None:
    world = await with_rows(20)
    link = world.link()

    def away(batch: Sequence[Write]) -> list[WriteResult] | None:
        if batch[0].order_id == 1:
            raise UnavailableError("The portal cannot be used.")
        return None

    portal = SlowPortal(link, world, away)
    portal.seconds = lambda orders: 5 if orders[0] == 1 else 7
    report = await engine.reconcile(link)

    assert report.exit_code == 69
    done = outcomes(report)
    assert (done[1, "crm"], done[3, "crm"]) == (Outcome.SKIPPED, Outcome.APPLIED)
    assert len(portal.sent) == 2
    assert await world.store.open_intents(1) == []


async def test_given_the_same_world_twice_then_the_same_requests_are_sent_in_the_same_order() -> None:
    traces: list[Any] = []
    for _ in range(2):
        world = await with_rows(40)
        link = world.link()
        portal = SlowPortal(link, world, lambda batch: unanswered(batch) if 5 in {w.order_id for w in batch} else None)
        await engine.reconcile(link)
        traces.append((portal.sent, portal.at_once, world.clock.monotonic()))
    assert traces[0] == traces[1]


async def test_given_batches_side_by_side_then_nothing_waits_by_another_clock_than_the_links(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = await with_rows(20)
    link = world.link()
    SlowPortal(link, world)
    loop = asyncio.get_running_loop()
    call_later = loop.call_later
    timers: list[float] = []

    def at_once(delay: float, *args: Any, **options: Any) -> asyncio.TimerHandle:
        timers.append(delay)
        return call_later(0, *args, **options)

    monkeypatch.setattr(loop, "call_later", at_once)
    report = await engine.reconcile(link)

    assert (report.exit_code, timers) == (0, [])
