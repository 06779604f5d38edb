"""The probe of conditional writes, its witnesses, and what a racer inside the request can still do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog.testing

from syncd.core.model import Owner, Row
from syncd.core.ports import Effect, Write
from syncd.portal.client import BitrixPortal
from syncd.portal.commands import MAX_COMMANDS, SMALLEST_PAIRED
from syncd.portal.hosts import REMEMBERED, Hosts
from syncd.portal.probes import KEPT, Witnesses
from syncd.sandbox import Fault, FaultRule, Latencies, References, SandboxPortal, Version, php
from tests.fakes.clock import FakeClock
from tests.fakes.portal_client import client, listed
from tests.fakes.sandbox_transport import SandboxTransport

pytestmark = pytest.mark.anyio

ADD, LIST = "crm.orderentity.add", "crm.orderentity.list"
DEAL, OTHER = Owner(2, 10), Owner(2, 11)
BINDS = [Write(1000, None, DEAL), Write(1001, None, DEAL)]


def sandbox(clock: FakeClock, bound: dict[int, Owner] | None = None, **options: Any) -> SandboxPortal:
    return SandboxPortal(
        {5: DEAL, 7: DEAL} if bound is None else bound, orders=range(1, 10_000), clock=clock, **options
    )


# ---------------------------------------------------------------------- the probe


@pytest.mark.parametrize("version", Version)
async def test_given_any_release_when_writing_then_it_is_probed_once_a_session(
    clock: FakeClock, version: Version
) -> None:
    portal = sandbox(clock, version=version)
    async with client(portal, clock, conditional=None) as ours:
        await listed(ours)
        before = portal.stats.requests
        for order in (20, 21, 22):
            await ours.write([Write(order, None, DEAL)])
        assert ours.usage().conditional is True

    assert portal.stats.requests == before + 1 + 3


async def test_given_sessions_one_after_another_then_what_the_portal_can_do_is_remembered_for_a_while(
    clock: FakeClock, tmp_path: Path
) -> None:
    portal = sandbox(clock)
    hosts = Hosts(clock, runtime_dir=tmp_path, transport=SandboxTransport(portal))

    async def requests_of_a_session(order: int) -> int:
        before = portal.stats.requests
        async with client(portal, clock, hosts=hosts, conditional=None) as ours:
            await ours.read([5, 7])
            await ours.write([Write(order, None, DEAL)])
            assert ours.usage().conditional is True
        return portal.stats.requests - before

    first, second = await requests_of_a_session(20), await requests_of_a_session(21)
    clock.advance(REMEMBERED)
    third = await requests_of_a_session(22)

    assert second < first == third


async def test_given_a_portal_that_fails_the_probe_then_the_next_session_tries_again(
    clock: FakeClock, tmp_path: Path
) -> None:
    portal = sandbox(clock, references=References.WHOLE_VALUES)
    hosts = Hosts(clock, runtime_dir=tmp_path, transport=SandboxTransport(portal))
    for references, conditional in ((References.WHOLE_VALUES, False), (References.EVERYWHERE, True)):
        portal.references = references
        async with client(portal, clock, hosts=hosts, conditional=None) as ours:
            await ours.write([Write(20, None, DEAL)])
            assert ours.usage().conditional is conditional


@pytest.mark.parametrize("write", [Write(20, None, DEAL), Write(5, DEAL, OTHER)], ids=["bind", "move"])
async def test_given_a_portal_that_carries_no_conditions_any_more_when_writing_then_it_is_tried_anew(
    clock: FakeClock, tmp_path: Path, write: Write
) -> None:
    portal = sandbox(clock)
    hosts = Hosts(clock, runtime_dir=tmp_path, transport=SandboxTransport(portal))
    async with client(portal, clock, hosts=hosts, conditional=None) as ours:
        await ours.write([Write(30, None, DEAL)])
        portal.references = References.WHOLE_VALUES
        (refused,) = await ours.write([write])
        (result,) = await ours.write([write])
        assert ours.usage().conditional is False
    async with client(portal, clock, hosts=hosts, conditional=None) as ours:
        await ours.write([Write(31, None, DEAL)])
        assert ours.usage().conditional is False

    assert (refused.effect, result.effect) == (Effect.NOT_SENT, Effect.DONE)
    assert portal.bindings[write.order_id] == write.after


@pytest.mark.parametrize("references", [References.WHOLE_VALUES, References.NO_EXPONENTS])
async def test_given_a_portal_that_fails_the_probe_when_writing_then_one_warning_and_the_old_way(
    clock: FakeClock, references: References
) -> None:
    portal = sandbox(clock, references=references)
    with structlog.testing.capture_logs() as logs:
        async with client(portal, clock, conditional=None) as ours:
            await listed(ours)
            results = [(await ours.write([Write(order, None, DEAL)]))[0] for order in (20, 21, 22)]
            assert ours.usage().conditional is False

    assert {result.effect for result in results} == {Effect.DONE}
    assert [line["log_level"] for line in logs if "conditions" in line["event"]] == ["warning"]


async def test_given_writers_side_by_side_when_the_session_begins_then_the_probe_is_made_once(clock: FakeClock) -> None:
    portal = sandbox(clock)
    async with client(portal, clock, conditional=None) as ours:
        await listed(ours)
        before = portal.stats.requests
        await asyncio.gather(*(ours.write([Write(order, None, DEAL)]) for order in range(20, 24)))

    assert portal.stats.requests == before + 1 + 4


async def test_given_the_known_order_is_unbound_under_the_probe_then_another_one_is_taken(clock: FakeClock) -> None:
    portal = sandbox(clock)
    async with client(portal, clock, conditional=None) as ours:
        await listed(ours)
        portal.unbind(5)
        (result,) = await ours.write([Write(20, None, DEAL)])
        assert ours.usage().conditional is True

    assert result.effect is Effect.DONE


async def test_given_answers_that_are_lost_when_probing_then_nothing_is_concluded_and_the_old_way_is_taken(
    clock: FakeClock,
) -> None:
    portal = sandbox(clock, bound=dict.fromkeys(range(5, 15), DEAL))
    portal.faults.add(FaultRule(Fault.LOSE_KEY, method=LIST, key="c", times=3))
    async with client(portal, clock, conditional=None) as ours:
        await listed(ours)
        (first,) = await ours.write([Write(20, None, DEAL)])
        assert ours.usage().conditional is None
        (second,) = await ours.write([Write(21, None, DEAL)])
        assert ours.usage().conditional is True

    assert (first.effect, second.effect) == (Effect.DONE, Effect.DONE)


async def test_given_an_empty_portal_when_writing_then_it_is_said_and_the_first_order_bears_witness_to_the_next(
    clock: FakeClock,
) -> None:
    portal = sandbox(clock, bound={})
    with structlog.testing.capture_logs() as logs:
        async with client(portal, clock, conditional=None) as ours:
            await listed(ours)
            first = await ours.write([Write(20, None, DEAL)])
            assert ours.usage().conditional is None
            second = await ours.write([Write(21, None, DEAL)])
            assert ours.usage().conditional is True

    assert [one.effect for one in (*first, *second)] == [Effect.DONE, Effect.DONE]
    assert "no bound order to make writes conditional with" in [line["event"] for line in logs]


async def test_given_a_new_session_when_sizing_then_batches_begin_small_and_double_with_what_was_seen(
    clock: FakeClock,
) -> None:
    portal = sandbox(clock, latencies=Latencies.documented())
    writes, sizes = [Write(order, None, DEAL) for order in range(100, 200)], []
    async with client(portal, clock, conditional=None) as ours:
        for _ in range(5):
            sizes.append(ours.batch_size(writes))
            await ours.write(writes[: sizes[-1]])
            del writes[: sizes[-1]]

    assert sizes == [2, 4, 12, 12, 12]


# ------------------------------------------------------------------- witnesses


async def test_given_a_witness_that_vanished_when_binding_then_it_costs_the_bind_and_another_one_is_taken(
    clock: FakeClock,
) -> None:
    portal = sandbox(clock)
    async with client(portal, clock) as ours:
        portal.unbind(5)
        first, second = [await ours.write(BINDS) for _ in range(2)]

    assert {result.effect for result in first} == {Effect.NOT_SENT}
    assert {result.effect for result in second} == {Effect.DONE}


async def test_given_a_witness_whose_type_changed_when_moving_too_then_only_the_binds_are_lost(
    clock: FakeClock,
) -> None:
    portal = sandbox(clock)
    async with client(portal, clock) as ours:
        portal.bind(5, 31, 4)
        moved, bound = await ours.write([Write(7, DEAL, OTHER), Write(20, None, DEAL)])

    assert (moved.effect, bound.effect) == (Effect.DONE, Effect.NOT_SENT)


async def test_given_an_order_before_every_witness_when_bound_then_it_alone_is_read_right_before(
    clock: FakeClock,
) -> None:
    portal = sandbox(clock)
    async with client(portal, clock) as ours:
        portal.bind(3, *OTHER)
        first, second, third = await ours.write([Write(order, None, DEAL) for order in (3, 4, 6)])

    assert (first.effect, first.found) == (Effect.MOVED, OTHER)
    assert (second.effect, third.effect) == (Effect.DONE, Effect.DONE)
    assert portal.bindings[3] == OTHER


def test_given_many_bindings_then_a_few_of_each_type_are_kept_and_the_shortest_type_bears_witness() -> None:
    witnesses = Witnesses()
    witnesses.note([Row(order, 2 if order % 2 else 1036, 1) for order in range(1, 1000)])

    assert witnesses.for_order(500) == Row(1, 2, 1)
    assert witnesses.known() == Row(1, 2, 1)
    assert [row.order_id for row in witnesses.pair()] == [10, 11]
    assert witnesses.pair_for(500) == Row(10, 1036, 1)
    assert witnesses.pair_for(99) is None
    for order in (*range(1, 10, 2), *range(11, 11 + 2 * KEPT, 2)):
        witnesses.set_owner(order, None)
    assert witnesses.for_order(500) == Row(2, 1036, 1)
    witnesses.set_owner(1, Owner(31, 5))
    assert witnesses.for_order(500) == Row(1, 31, 5)
    assert witnesses.for_order(1) == Row(1, 31, 5)


# ----------------------------------------------------------------------- pairs


def pairs(clock: FakeClock, **options: Any) -> SandboxPortal:
    return sandbox(clock, bound={12: DEAL, 13: OTHER, 5: DEAL}, **options)


@asynccontextmanager
async def pairing(portal: SandboxPortal, clock: FakeClock) -> AsyncIterator[BitrixPortal]:
    """A client that has found out with its first bind, of order 500, whether the portal binds by pairs."""
    async with client(portal, clock, conditional=None) as ours:
        await listed(ours)
        await ours.write([Write(500, None, DEAL)])
        yield ours


@pytest.mark.parametrize(
    ("version", "lists"), [(Version.NEW, 1), (Version.MID, 1), (Version.OLD, 2)], ids=["new", "mid", "old"]
)
async def test_given_a_portal_that_sorts_in_lists_when_binding_then_one_list_an_order_is_enough(
    clock: FakeClock, version: Version, lists: int
) -> None:
    portal = pairs(clock, version=version)
    async with pairing(portal, clock) as ours:
        before = portal.stats.calls[LIST]
        writes = [Write(order, None, DEAL) for order in range(1000, 1010)]
        (*results,) = [(await ours.write([write]))[0] for write in writes]
        assert ours.usage().conditional is True

    assert {result.effect for result in results} == {Effect.DONE}
    assert portal.stats.calls[LIST] == before + lists * len(writes)


async def test_given_orders_bound_meanwhile_when_binding_by_pairs_then_each_keeps_its_owner_and_the_results_name_it(
    clock: FakeClock,
) -> None:
    portal = pairs(clock)
    async with pairing(portal, clock) as ours:
        portal.bind(1000, *OTHER)
        portal.bind(1001, *DEAL)
        portal.delete_order(1002)
        wanted = [Write(order, None, DEAL) for order in (1000, 1001, 1002, 1003)]
        before = portal.stats.requests
        moved, already, missing, done = await ours.write(wanted)

    assert portal.stats.requests == before + 1
    assert (moved.effect, moved.found) == (Effect.MOVED, OTHER)
    assert (already.effect, already.found) == (Effect.ALREADY, DEAL)
    assert (missing.effect, done.effect, done.found) == (Effect.ORDER_MISSING, Effect.DONE, None)
    assert (portal.bindings[1000], portal.bindings[1003]) == (OTHER, DEAL)


async def test_given_a_php_whose_infinity_is_its_largest_integer_when_binding_a_bound_order_then_the_result_says_so_too(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    cast = php._float_to_int
    monkeypatch.setattr(php, "_float_to_int", lambda number: 2**63 - 1 if number == float("inf") else cast(number))
    portal = pairs(clock)
    async with pairing(portal, clock) as ours:
        portal.bind(1000, *OTHER)
        (result,) = await ours.write([Write(1000, None, DEAL)])

    assert (result.effect, result.found) == (Effect.MOVED, OTHER)
    assert portal.bindings[1000] == OTHER


async def test_given_the_witness_of_pairs_is_unbound_then_it_costs_the_binds_and_another_order_is_taken(
    clock: FakeClock,
) -> None:
    portal = pairs(clock)
    portal.bind(14, *OTHER)
    async with pairing(portal, clock) as ours:
        portal.unbind(12)
        first, second = [await ours.write(BINDS) for _ in range(2)]
        before = portal.stats.calls[LIST]
        await ours.write([Write(1002, None, DEAL)])

    assert {result.effect for result in first} == {Effect.NOT_SENT}
    assert {result.effect for result in second} == {Effect.DONE}
    assert portal.stats.calls[LIST] == before + 1, "by a pair again"


async def test_given_a_portal_that_becomes_an_old_box_when_binding_by_pairs_then_nothing_is_replaced(
    clock: FakeClock,
) -> None:
    portal = pairs(clock)
    portal.bind(1, *OTHER)
    async with pairing(portal, clock) as ours:
        portal.version = Version.OLD
        portal.bind(1000, *OTHER)
        first, second = [await ours.write(BINDS) for _ in range(2)]

    assert {result.effect for result in first} == {Effect.NOT_SENT}
    assert [result.effect for result in second] == [Effect.MOVED, Effect.DONE]
    assert portal.bindings[1000] == OTHER


async def test_given_a_portal_that_sorts_no_pair_any_more_then_the_result_names_what_was_replaced_and_it_is_tried_anew(
    clock: FakeClock,
) -> None:
    portal = pairs(clock)
    async with pairing(portal, clock) as ours:
        portal.bind(1000, *OTHER)
        portal.faults.add(FaultRule(Fault.SHUFFLE, key="l1000"))
        (result,) = await ours.write([Write(1000, None, DEAL)])
        assert ours.usage().conditional is None

    assert (result.effect, result.found, result.found_known) == (Effect.DONE, OTHER, True)


@pytest.mark.parametrize("key", ["h", "i"])
async def test_given_an_answer_about_pairs_that_is_lost_then_binds_are_made_with_two_lists(
    clock: FakeClock, key: str
) -> None:
    portal = pairs(clock)
    portal.faults.add(FaultRule(Fault.LOSE_KEY, method=LIST, key=key))
    async with pairing(portal, clock) as ours:
        assert ours.usage().conditional is True
        before = portal.stats.calls[LIST]
        (result,) = await ours.write([Write(1000, None, DEAL)])

    assert result.effect is Effect.DONE
    assert portal.stats.calls[LIST] == before + 2


async def test_given_sessions_one_after_another_then_it_is_remembered_for_a_while_that_pairs_work(
    clock: FakeClock, tmp_path: Path
) -> None:
    portal = pairs(clock)
    hosts = Hosts(clock, runtime_dir=tmp_path, transport=SandboxTransport(portal))
    for order, requests in ((500, 2), (501, 1)):
        async with client(portal, clock, hosts=hosts, conditional=None) as ours:
            await listed(ours)
            before, lists = portal.stats.requests, portal.stats.calls[LIST]
            await ours.write([Write(order, None, DEAL)])
            assert portal.stats.requests == before + requests
    assert portal.stats.calls[LIST] == lists + 1


def test_given_orders_too_small_for_pairs_then_they_take_no_place_from_those_that_are_not() -> None:
    witnesses = Witnesses()
    witnesses.note([Row(order, 2, 1) for order in range(1, 1000)])
    for order in range(SMALLEST_PAIRED, SMALLEST_PAIRED + KEPT - 1):
        witnesses.set_owner(order, None)

    assert witnesses.for_order(900) == Row(1, 2, 1)
    assert witnesses.pair_for(900) == Row(SMALLEST_PAIRED + KEPT - 1, 2, 1)


async def test_given_a_batch_sized_for_pairs_when_their_last_witness_goes_then_what_no_longer_fits_waits_for_another(
    clock: FakeClock,
) -> None:
    portal = pairs(clock)
    writes = [Write(order, None, DEAL) for order in range(1000, 1200)]
    async with pairing(portal, clock) as ours:
        while (size := ours.batch_size(writes)) * 3 <= MAX_COMMANDS:
            await ours.write(writes[:size])
            del writes[:size]
        await ours.write([Write(12, DEAL, None), Write(13, OTHER, None), Write(500, DEAL, None)])
        results = await ours.write(writes[:size])
        left = [write for write, result in zip(writes, results, strict=False) if result.effect is Effect.NOT_SENT]
        rest = await ours.write(left)

    fit = MAX_COMMANDS // 3
    assert [result.effect for result in results] == [Effect.DONE] * fit + [Effect.NOT_SENT] * (size - fit)
    assert [result.effect for result in rest] == [Effect.DONE] * len(left)
    assert all(portal.bindings[write.order_id] == DEAL for write in writes[:size])


# ---------------------------------------------------------------- inside a request


def raced(portal: SandboxPortal) -> tuple[int, int]:
    """Return how many edits hit an order inside the request that was to write it, and how many were replaced."""
    rest = {(one.request, one.order_id, one.before) for one in portal.stats.writes if one.request}
    return len(portal.raced), sum((number, order, (2, owner)) in rest for number, order, owner in portal.raced)


async def write_all(clock: FakeClock, *, conditional: bool | None) -> SandboxPortal:
    """Bind 600 orders and move 600 with a racer at work, as the engine does, without sending anything twice."""
    portal = sandbox(clock, bound=dict.fromkeys(range(1, 601), DEAL))
    portal.latencies = Latencies.documented()
    portal.faults.add(FaultRule(Fault.RACE, times=None, probability=1.0))
    async with client(portal, clock, conditional=conditional) as ours:
        for writes in (
            [Write(order, None, DEAL) for order in range(1001, 1601)],
            [Write(order, DEAL, OTHER) for order in range(1, 601)],
        ):
            while writes:
                size = ours.batch_size(writes)
                await ours.write(writes[:size])
                del writes[:size]
    return portal


async def test_given_a_racer_when_binding_by_pairs_then_it_edits_what_is_written_and_no_witness(
    clock: FakeClock,
) -> None:
    portal = pairs(clock)
    writes = [Write(order, None, DEAL) for order in range(1000, 1200)]
    async with pairing(portal, clock) as ours:
        portal.faults.add(FaultRule(Fault.RACE, times=None, probability=10.0))
        for at in range(0, len(writes), 10):
            await ours.write(writes[at : at + 10])

    assert {order for _, order, _ in portal.raced} <= {write.order_id for write in writes}
    assert len(portal.raced) > len(writes)


@pytest.mark.parametrize("conditional", [True, None], ids=["without pairs", "with pairs"])
async def test_given_edits_inside_requests_then_conditions_save_almost_all_of_them(
    clock: FakeClock, conditional: bool | None
) -> None:
    hits, replaced = raced(await write_all(clock, conditional=conditional))
    old_hits, old_replaced = raced(await write_all(clock, conditional=False))

    assert min(hits, old_hits) > 300
    assert replaced <= 0.02 * hits
    assert old_replaced > 0.4 * old_hits
