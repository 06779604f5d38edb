"""Limits: one bucket for all links and processes, a budget for each method, both kept before they are met."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from syncd.config.model import PortalPlan, PortalSettings
from syncd.core.model import Action, Owner
from syncd.core.ports import Effect, Write
from syncd.errors import AuthError, PortalBlocked, StateUnavailable, UnavailableError
from syncd.portal.factory import open_portal
from syncd.portal.hosts import Hosts
from syncd.sandbox import Fault, FaultRule, Latencies, PortalLimits, SandboxPortal
from tests.fakes.clock import FakeClock
from tests.fakes.portal_client import PortalStore, client, listed
from tests.fakes.sandbox_transport import SandboxTransport

pytestmark = pytest.mark.anyio

LIST = "crm.orderentity.list"
DEAL = Owner(2, 10)


def bound(number: int, clock: FakeClock, **options: Any) -> SandboxPortal:
    return SandboxPortal(((order, 2, 10) for order in range(1, number + 1)), clock=clock, **options)


async def test_given_more_rows_than_the_burst_holds_when_listed_then_no_request_is_refused(clock: FakeClock) -> None:
    portal = bound(125_000, clock, limits=PortalLimits.standard())
    async with client(portal, clock) as ours:
        assert len(await listed(ours)) == 125_000
        usage = ours.usage()

    assert portal.stats.refused == 0
    assert usage.requests == 51
    # 40 at once, 11 more at 1.6 a second.
    assert 6 <= usage.listing_seconds <= 8
    assert usage.throttled_seconds >= 6


async def test_given_another_program_uses_the_limit_when_refused_then_it_is_survived(clock: FakeClock) -> None:
    portal = bound(100_000, clock, limits=PortalLimits.standard())
    for _ in range(50):
        portal.buckets.admit("127.0.0.1", clock.monotonic())
    async with client(portal, clock) as ours:
        assert len(await listed(ours)) == 100_000

    assert 0 < portal.stats.refused < 60


async def test_given_a_refusal_when_other_links_of_the_host_send_then_they_wait_too(
    clock: FakeClock, tmp_path: Path
) -> None:
    portal = bound(100, clock)
    portal.faults.add(FaultRule(Fault.STATUS, status=503, code="QUERY_LIMIT_EXCEEDED"))
    hosts = Hosts(clock, runtime_dir=tmp_path, transport=SandboxTransport(portal))
    async with client(portal, clock, hosts=hosts) as one, client(portal, clock, hosts=hosts) as other:
        await one.read([5])
        before = clock.monotonic()
        await other.read([5])

        assert other.usage().throttled_seconds == pytest.approx(clock.monotonic() - before)
        assert other.usage().throttled_seconds > 0


async def test_given_two_links_of_one_host_when_both_list_at_once_then_they_share_the_bucket(
    clock: FakeClock, tmp_path: Path
) -> None:
    portal = bound(40_000, clock, limits=PortalLimits.standard())
    hosts = Hosts(clock, runtime_dir=tmp_path, transport=SandboxTransport(portal))
    async with client(portal, clock, hosts=hosts) as one, client(portal, clock, hosts=hosts) as other:
        both = await asyncio.gather(listed(one), listed(other))

    assert [len(rows) for rows in both] == [40_000, 40_000]
    assert portal.stats.refused == 0


async def test_given_two_processes_of_one_host_when_both_list_then_they_share_the_bucket(
    clock: FakeClock, tmp_path: Path
) -> None:
    portal = bound(40_000, clock, limits=PortalLimits.standard())
    transport = SandboxTransport(portal)
    processes = [Hosts(clock, runtime_dir=tmp_path, transport=transport) for _ in range(2)]
    async with client(portal, clock, hosts=processes[0]) as one, client(portal, clock, hosts=processes[1]) as other:
        both = await asyncio.gather(listed(one), listed(other))

    assert [len(rows) for rows in both] == [40_000, 40_000]
    assert portal.stats.refused == 0


async def test_given_two_processes_that_cannot_meet_when_both_list_then_the_portal_refuses_and_it_is_survived(
    clock: FakeClock, tmp_path: Path
) -> None:
    portal = bound(40_000, clock, limits=PortalLimits.standard())
    transport = SandboxTransport(portal)
    blocked = tmp_path / "file"
    blocked.write_text("not a directory")
    processes = [Hosts(clock, runtime_dir=blocked, transport=transport) for _ in range(2)]
    async with client(portal, clock, hosts=processes[0]) as one, client(portal, clock, hosts=processes[1]) as other:
        both = await asyncio.gather(listed(one), listed(other))

    assert [len(rows) for rows in both] == [40_000, 40_000]
    assert portal.stats.refused > 0


async def test_given_enterprise_when_listed_then_its_larger_burst_is_used(clock: FakeClock) -> None:
    portal = bound(100_000, clock, limits=PortalLimits.enterprise())
    async with client(portal, clock, plan=PortalPlan.ENTERPRISE) as ours:
        await listed(ours)
        assert ours.usage().throttled_seconds == 0

    assert portal.stats.refused == 0


async def test_given_a_smaller_share_when_listed_then_less_of_the_burst_is_used(clock: FakeClock) -> None:
    portal = bound(20_000, clock, limits=PortalLimits(burst=11, per_second=0.5))
    async with client(portal, clock, rate_share=0.2) as ours:
        assert len(await listed(ours)) == 20_000
        assert ours.usage().requests <= 12

    assert portal.stats.refused == 0


# -------------------------------------------------------------------- budget


async def test_given_a_listing_that_costs_more_than_the_budget_when_listed_then_it_waits_for_the_reset(
    clock: FakeClock,
) -> None:
    limits = PortalLimits(burst=None, wall=None, operating=480)
    portal = bound(60_000, clock, limits=limits, latencies=Latencies(list=0.6))
    async with client(portal, clock, plan=PortalPlan.BOX) as ours:
        assert len(await listed(ours)) == 60_000
        assert ours.usage().listing_seconds > 600


@pytest.mark.parametrize("batch_billed", [False, True])
async def test_given_requests_side_by_side_when_the_budget_nears_its_end_then_those_under_way_are_counted_in(
    clock: FakeClock, batch_billed: bool
) -> None:
    limits = PortalLimits(burst=None, wall=None, operating=480, batch_billed=batch_billed)
    portal = bound(60_000, clock, limits=limits, latencies=Latencies(list=0.7))
    async with client(portal, clock, plan=PortalPlan.BOX) as ours:
        assert len(await listed(ours)) == 60_000

    # Eight lanes that do not look at each other are refused some hundred calls.
    assert portal.stats.refused == 0


async def test_given_listing_commands_refused_for_the_budget_when_listed_then_they_are_repeated_after_the_reset(
    clock: FakeClock,
) -> None:
    portal = bound(2000, clock)
    portal.faults.add(FaultRule(Fault.ERROR, method=LIST, code="OPERATION_TIME_LIMIT", status=429, skip=10, times=60))
    async with client(portal, clock) as ours:
        assert len(await listed(ours)) == 2000
        assert ours.usage().listing_seconds > 100


async def test_given_a_budget_that_is_never_free_when_listed_then_it_ends(clock: FakeClock) -> None:
    portal = bound(2000, clock)
    portal.faults.add(FaultRule(Fault.ERROR, method=LIST, code="OPERATION_TIME_LIMIT", skip=10, times=None))
    async with client(portal, clock) as ours:
        with pytest.raises(UnavailableError, match="operating time"):
            await listed(ours)


async def test_given_adds_are_over_budget_when_asked_then_removes_and_lists_go_on(clock: FakeClock) -> None:
    portal = bound(5, clock, orders=range(100), limits=PortalLimits(operating=2.0), latencies=Latencies(add=0.5))
    async with client(portal, clock) as ours:
        await ours.write([Write(order, None, DEAL) for order in range(10, 18)])
        assert ours.wait_for(Action.ADD) > 0
        assert ours.wait_for(Action.REMOVE) == 0
        removed = await ours.write([Write(5, DEAL, None)])
        listing_began = clock.monotonic()
        await listed(ours)

    assert removed[0].effect is Effect.DONE
    assert clock.monotonic() - listing_began < 5


async def test_given_a_blocked_method_when_the_reset_has_come_then_it_may_be_called_again(clock: FakeClock) -> None:
    portal = bound(5, clock, orders=range(100), limits=PortalLimits(operating=2.0), latencies=Latencies(add=0.5))
    async with client(portal, clock) as ours:
        await ours.write([Write(order, None, DEAL) for order in range(10, 18)])
        await clock.sleep(ours.wait_for(Action.ADD))
        answer = await ours.write([Write(20, None, DEAL)])

    assert answer[0].effect is Effect.DONE


async def test_given_a_blocked_method_when_the_process_starts_anew_then_it_still_waits(clock: FakeClock) -> None:
    store = PortalStore()
    portal = bound(5, clock, orders=range(100), limits=PortalLimits(operating=2.0), latencies=Latencies(add=0.5))
    async with client(portal, clock, store=store) as ours:
        await ours.write([Write(order, None, DEAL) for order in range(10, 18)])
        wait = ours.wait_for(Action.ADD)
    clock.advance(100)
    async with client(portal, clock, store=store) as later:
        await later.read([5])
        assert later.wait_for(Action.ADD) == pytest.approx(wait - 100, abs=2)

    assert not any("sandboxsecret" in key for key in store.budgets)


async def test_given_a_box_when_it_says_nothing_of_budgets_then_nothing_waits_and_nothing_is_kept(
    clock: FakeClock,
) -> None:
    store = PortalStore()
    async with client(bound(500, clock), clock, store=store, plan=PortalPlan.BOX) as ours:
        await listed(ours)
        assert ours.wait_for(Action.ADD) == 0

    assert store.budgets == {}


async def test_given_the_state_database_is_out_of_reach_when_a_budget_is_kept_then_what_was_written_stands(
    clock: FakeClock,
) -> None:
    tried: list[str] = []

    class Failing(PortalStore):
        async def set_budget(self, portal: str, budget: object) -> None:
            tried.append(portal)
            raise StateUnavailable("The state database is locked.")

    portal = bound(5, clock, orders=range(100), limits=PortalLimits())
    async with client(portal, clock, store=Failing()) as ours:
        answer = await ours.write([Write(9, None, DEAL)])
        assert tried

    assert answer[0].effect is Effect.DONE


async def test_given_an_overload_block_when_listing_then_it_ends_and_says_to_call_support(clock: FakeClock) -> None:
    portal = bound(5, clock)
    portal.faults.add(FaultRule(Fault.STATUS, status=401, code="OVERLOAD_LIMIT", times=None))
    async with client(portal, clock) as ours:
        with pytest.raises(PortalBlocked) as caught:
            await listed(ours)

    assert "support" in caught.value.hint
    assert portal.stats.requests == 1


async def test_given_the_last_link_of_a_host_when_closed_then_its_connections_are_and_a_new_one_opens_them_anew(
    clock: FakeClock, tmp_path: Path
) -> None:
    closed: list[None] = []

    class Closing(SandboxTransport):
        async def aclose(self) -> None:
            closed.append(None)

    hosts = Hosts(clock, runtime_dir=tmp_path, transport=Closing(bound(5, clock)))
    settings = PortalSettings(webhook=SecretStr("https://portal.example/rest/1/sandboxsecret/"))
    first, second = (open_portal(settings, link="shop", hosts=hosts) for _ in range(2))
    await first.aclose()
    assert await second.read([5]) == {5: DEAL}
    assert not closed
    await second.aclose()
    assert len(closed) == 1
    third = open_portal(settings, link="shop", hosts=hosts)
    assert await third.read([5]) == {5: DEAL}
    await third.aclose()
    assert len(closed) == 2


async def test_given_a_listing_that_fails_in_one_lane_when_others_are_under_way_then_they_are_stopped(
    clock: FakeClock,
) -> None:
    portal = bound(20_000, clock, latencies=Latencies(list=1.0))
    before = asyncio.all_tasks()
    under_way: set[asyncio.Task[Any]] = set()

    async def answer(request: httpx.Request) -> httpx.Response:
        if portal.stats.requests == 5:
            under_way.update(asyncio.all_tasks() - before)
            return httpx.Response(401, json={"error": "authorization_error"})
        return await SandboxTransport(portal).handle_async_request(request)

    async with client(httpx.MockTransport(answer), clock) as ours:
        with pytest.raises(AuthError, match="authorization_error"):
            await listed(ours)
        assert len(under_way) > 1
        assert all(task.done() for task in under_way)
        assert asyncio.all_tasks() == before
