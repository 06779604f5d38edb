"""The sandbox's request limits, as the portal counts them."""

from __future__ import annotations

import pytest

from syncd.sandbox import Latencies, PortalLimits, SandboxPortal
from tests.fakes.clock import SetClock
from tests.unit.sandbox.sandbox_calls import (
    add,
    add_command,
    ask,
    batch,
    delete,
    listed,
    reply_of,
    request_of,
    side_by_side,
)

LIST = "crm.orderentity.list?start=-1"
COUNTED = "crm.orderentity.list"


def portal_with(
    limits: PortalLimits | None = None, latencies: Latencies | None = None
) -> tuple[SandboxPortal, SetClock]:
    clock = SetClock(1_795_000_000.0)  # 40 s into a minute
    rows = ((order, 2, 7) for order in range(1, 121))
    return SandboxPortal(rows, limits=limits, latencies=latencies, clock=clock), clock


def admitted(portal: SandboxPortal, requests: int) -> int:
    return sum(ask(portal, "profile").status == 200 for _ in range(requests))


def test_the_bucket_lets_fifty_in_and_then_two_a_second() -> None:
    portal, clock = portal_with(PortalLimits.standard())
    assert admitted(portal, 60) == 50
    clock.advance(3)
    assert admitted(portal, 10) == 6
    assert portal.stats.refused == 14


def test_a_refused_request_is_not_executed() -> None:
    portal, _ = portal_with(PortalLimits(burst=0))
    status, code, text = add(portal, orderId=1, ownerId=9, ownerTypeId=2).error
    assert (status, code, text) == (503, "QUERY_LIMIT_EXCEEDED", "Too many requests")
    assert not portal.stats.writes
    assert not portal.stats.calls


def test_enterprise_lets_in_more() -> None:
    portal, clock = portal_with(PortalLimits.enterprise())
    assert admitted(portal, 300) == 250
    clock.advance(1)
    assert admitted(portal, 10) == 5


def test_a_box_has_no_bucket() -> None:
    portal, _ = portal_with(PortalLimits.box())
    assert admitted(portal, 300) == 300


def test_refused_requests_may_fill_the_bucket_too() -> None:
    portal, clock = portal_with(PortalLimits(refused_count=True))
    admitted(portal, 60)
    assert portal.buckets.level() == 60
    clock.advance(3)
    assert admitted(portal, 1) == 0


@pytest.mark.parametrize("tolerance", [-1, 0, 1])
def test_the_threshold_can_be_one_off(tolerance: int) -> None:
    portal, _ = portal_with(PortalLimits(tolerance=tolerance))
    assert admitted(portal, 60) == 50 + tolerance


def test_each_source_address_has_its_own_bucket() -> None:
    portal, _ = portal_with(PortalLimits(burst=1))
    replies = [ask(portal, "profile", client=client).status for client in ("10.0.0.1", "10.0.0.1", "10.0.0.2")]
    assert replies == [200, 503, 200]


def test_a_batch_is_one_request() -> None:
    portal, _ = portal_with(PortalLimits(burst=2))
    batch(portal, [LIST] * 50)
    assert admitted(portal, 5) == 1


def test_latencies_add_up_within_a_batch_and_run_side_by_side_between_batches() -> None:
    portal, clock = portal_with(latencies=Latencies(request=0.3, list=0.04, count=0.02, add=0.5, delete=2, other=0.01))
    answers = side_by_side(
        portal,
        clock,
        [
            request_of("batch", {"cmd": [LIST] * 50}),
            request_of("batch", {"cmd": [COUNTED, LIST, add_command(1)]}),
            request_of("crm.orderentity.list"),
            request_of("crm.orderentity.list", {"start": 100}),
            request_of("profile"),
        ],
    )
    assert [seconds for seconds, _ in answers] == [2.3, 0.9, 0.36, 0.34, 0.31]
    assert portal.stats.method_seconds["crm.orderentity.list"] == pytest.approx(50 * 0.04 + 0.1 + 0.06 + 0.04)


def test_a_call_takes_effect_when_its_time_is_over() -> None:
    portal, clock = portal_with(latencies=Latencies(add=1.0))
    answers = side_by_side(
        portal,
        clock,
        [
            request_of("batch", {"cmd": [add_command(order) for order in (1, 2, 3)]}),
            request_of("crm.orderentity.add", {"fields": {"orderId": 3, "ownerId": 99, "ownerTypeId": 2}}),
        ],
    )
    assert [seconds for seconds, _ in answers] == [3.0, 1.0]
    assert portal.bindings[3] == (2, 12)
    assert portal.stats.writes[-1].before == (2, 99)


def test_the_front_server_gives_up_after_a_minute_and_what_was_done_stays_done() -> None:
    portal, clock = portal_with(PortalLimits.standard(), Latencies(delete=1.77))
    command = "crm.orderentity.deleteByFilter?fields[orderId]={}&fields[ownerId]=7&fields[ownerTypeId]=2"
    ((seconds, response),) = side_by_side(
        portal, clock, [request_of("batch", {"cmd": [command.format(order) for order in range(1, 51)]})]
    )
    assert (seconds, response.status) == (60, 504)
    assert response.body.startswith(b"<html>")
    assert len(portal.stats.writes) == 33


def test_the_operating_time_of_a_method_blocks_it_and_no_other() -> None:
    portal, clock = portal_with(PortalLimits(operating=4.0), Latencies(add=1.5))
    for order in (1, 2, 3):
        assert add(portal, orderId=order, ownerId=9, ownerTypeId=2).status == 200
    assert add(portal, orderId=4, ownerId=9, ownerTypeId=2).error == (
        429, "OPERATION_TIME_LIMIT", "Method is blocked due to operation time limit.",
    )  # fmt: skip
    assert portal.stats.refused == 1
    assert listed(portal).status == 200
    assert delete(portal, orderId=4, ownerId=7, ownerTypeId=2).status == 200
    clock.advance(600)
    assert add(portal, orderId=4, ownerId=9, ownerTypeId=2).status == 200


def test_operating_time_grows_and_says_when_its_oldest_minute_expires() -> None:
    portal, clock = portal_with(PortalLimits.standard(), Latencies(add=1.5))
    start = clock.time
    seen = []
    for order in (1, 2, 3):
        time = add(portal, orderId=order, ownerId=9, ownerTypeId=2).body["time"]
        seen.append((time["operating"], time["operating_reset_at"] - start))
        clock.advance(45)
    assert seen == [(1.5, 600), (3, 600), (4.5, 600)]
    clock.advance(600 - 135)
    time = add(portal, orderId=4, ownerId=9, ownerTypeId=2).body["time"]
    assert (time["operating"], time["operating_reset_at"] - start) == (4.5, 645)


def test_a_batch_can_trip_the_budget_midway() -> None:
    portal, _ = portal_with(PortalLimits(operating=2.0), Latencies(add=1.5))
    result = batch(portal, {f"a{order}": add_command(order) for order in range(1, 6)})
    assert list(result["result"]) == ["a1", "a2"]
    assert [error["error"] for error in result["result_error"].values()] == ["OPERATION_TIME_LIMIT"] * 3
    assert [time["operating"] for time in result["result_time"].values()] == [1.5, 3]


def test_short_calls_cost_nothing_until_a_request_sums_up_to_more() -> None:
    portal, _ = portal_with(PortalLimits.standard(), Latencies(list=0.04))
    assert batch(portal, [LIST] * 2)["result_time"][1]["operating"] == 0
    assert listed(portal).body["time"]["operating"] == 0
    assert batch(portal, [LIST] * 50)["result_time"][49]["operating"] == 0
    assert listed(portal).body["time"]["operating"] == pytest.approx(2.0)


def test_the_batch_itself_is_never_metered() -> None:
    portal, _ = portal_with(PortalLimits.standard(), Latencies(list=1.0))
    assert ask(portal, "batch", {"cmd": [LIST] * 3}).body["time"]["operating"] == 0


def test_a_portal_may_bill_a_batch_instead_of_its_methods() -> None:
    portal, clock = portal_with(PortalLimits(operating=2.0, batch_billed=True), Latencies(add=1.5))
    reply = ask(portal, "batch", {"cmd": [add_command(1), add_command(2)]})
    assert reply.body["time"]["operating"] == 3
    assert [time["operating"] for time in reply.result["result_time"]] == [1.5, 3]  # running, never to be added up
    assert ask(portal, "batch", {"cmd": []}).error[:2] == (429, "OPERATION_TIME_LIMIT")
    assert add(portal, orderId=3, ownerId=9, ownerTypeId=2).body["time"]["operating"] == 1.5
    clock.advance(600)
    assert ask(portal, "batch", {"cmd": []}).status == 200


def test_the_documented_times_and_limits_are_at_hand() -> None:
    assert Latencies.documented() == Latencies(request=0.3, list=0.039, count=0.02, add=0.33, delete=1.77, other=0.02)
    assert PortalLimits.standard().with_operating(5).operating == 5


@pytest.mark.anyio
async def test_the_asynchronous_door_waits_on_the_clock() -> None:
    portal, clock = portal_with(latencies=Latencies(request=0.3, list=0.04))
    started = clock.time
    response = await portal.respond("GET", portal.webhook_path + "crm.orderentity.list", "start=-1")
    assert reply_of(response).status == 200
    assert clock.time - started == pytest.approx(0.34)
