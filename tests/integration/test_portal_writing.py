"""Writing: everything accounted for, nothing sent twice, batches sized by time; reading by id on every version."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

import httpx
import pytest

from syncd.core.model import Action, HoldKind, Owner, Unreadable
from syncd.core.ports import Effect, Write, WriteResult
from syncd.errors import AuthError, PortalBlocked, UnavailableError
from syncd.portal.hosts import Hosts
from syncd.sandbox import Fault, FaultRule, Latencies, PortalLimits, SandboxPortal, Version
from tests.fakes.clock import FakeClock
from tests.fakes.portal_client import batch_answer, client, listed
from tests.fakes.sandbox_transport import SandboxTransport

pytestmark = pytest.mark.anyio

ADD, DELETE, LIST = "crm.orderentity.add", "crm.orderentity.deletebyfilter", "crm.orderentity.list"
DEAL, OTHER, THIRD = Owner(2, 10), Owner(2, 11), Owner(31, 3)


def sandbox(
    clock: FakeClock, *rules: FaultRule, bound: dict[int, Owner] | None = None, **options: Any
) -> SandboxPortal:
    portal = SandboxPortal(bound or {5: DEAL, 7: DEAL}, orders=range(1, 10_000), clock=clock, **options)
    for rule in rules:
        portal.faults.add(rule)
    return portal


def echoing(*, listed: Callable[[], Any] = list, written: Any) -> Callable[[httpx.Request], httpx.Response]:
    """Return a portal that answers each list with the rows of `listed`, and each write with `written`."""

    def answer(request: httpx.Request) -> httpx.Response:
        rows = {"orderEntity": listed()}
        sent = json.loads(request.content)["cmd"]
        return batch_answer({key: rows if LIST in command else written for key, command in sent.items()})

    return answer


def by_order(results: list[WriteResult]) -> dict[int, Effect]:
    return {result.order_id: result.effect for result in results}


# ------------------------------------------------------- each write's account


async def test_given_a_key_that_is_forgotten_when_adding_then_it_is_read_again_and_found_done(clock: FakeClock) -> None:
    portal = sandbox(clock, FaultRule(Fault.LOSE_KEY, method=ADD))
    async with client(portal, clock) as ours:
        answer = await ours.write([Write(8, None, DEAL), Write(9, None, DEAL)])

    assert by_order(answer) == {8: Effect.DONE, 9: Effect.DONE}
    assert portal.stats.calls[ADD] == 2


async def test_given_a_key_that_is_forgotten_and_a_reading_that_fails_when_adding_then_it_is_unknown(
    clock: FakeClock,
) -> None:
    portal = sandbox(
        clock,
        FaultRule(Fault.LOSE_KEY, method=ADD),
        FaultRule(Fault.STATUS, status=502, body="html", skip=1, times=None),
    )
    async with client(portal, clock) as ours:
        answer = await ours.write([Write(8, None, DEAL), Write(9, None, DEAL)])

    assert by_order(answer) == {8: Effect.UNKNOWN, 9: Effect.DONE}


async def test_given_an_add_that_broke_before_its_effect_when_read_again_then_it_is_refused(clock: FakeClock) -> None:
    portal = sandbox(clock, FaultRule(Fault.ERROR, method=ADD, code="ERROR_CORE"))
    async with client(portal, clock) as ours:
        (result,) = await ours.write([Write(9, None, DEAL)])

    assert (result.effect, result.code) == (Effect.REFUSED, "ERROR_CORE")


async def test_given_an_add_that_broke_where_something_else_stands_by_now_when_read_again_then_it_stays_unknown(
    clock: FakeClock,
) -> None:
    portal = sandbox(clock, FaultRule(Fault.ERROR, method=ADD, code="ERROR_CORE"))
    portal.bind(9, 2, 77)
    async with client(portal, clock) as ours:
        (result,) = await ours.write([Write(9, None, DEAL)])

    assert (result.effect, result.code) == (Effect.UNKNOWN, "ERROR_CORE")


LOCKED = {
    "a deadlock": (
        "400",
        "Mysql query error: (1213) Deadlock found when trying to get lock; try restarting transaction",
    ),
    "a wait that ended": ("ERROR_CORE", "Mysql query error: (1205) Lock wait timeout exceeded"),
    "a deadlock, in the words of another language": ("400", "MySQL Query Error: (1213) Взаимная блокировка"),
}


@pytest.mark.parametrize(("code", "text"), LOCKED.values(), ids=LOCKED.keys())
@pytest.mark.parametrize(("when", "effect"), [("before", Effect.NOT_SENT), ("after", Effect.DONE)])
async def test_given_an_add_that_met_a_lock_when_read_again_then_it_is_done_or_may_be_sent_again(
    clock: FakeClock, code: str, text: str, when: Literal["before", "after"], effect: Effect
) -> None:
    portal = sandbox(clock, FaultRule(Fault.ERROR, method=ADD, code=code, text=text, when=when))
    async with client(portal, clock) as ours:
        met, beside = await ours.write([Write(9, None, DEAL), Write(11, None, DEAL)])

    assert (met.effect, beside.effect) == (effect, Effect.DONE)


async def test_given_a_refusal_that_names_an_order_with_the_number_of_a_lock_then_it_is_that_orders_refusal(
    clock: FakeClock,
) -> None:
    rule = FaultRule(Fault.ERROR, method=ADD, code="SALE_ORDER_LOCKED", text="Order 9 (1205) is closed for changes")
    async with client(sandbox(clock, rule), clock) as ours:
        (result,) = await ours.write([Write(9, None, DEAL)])

    assert result.effect is Effect.REFUSED


ECHOES: dict[str, tuple[Any, Effect]] = {
    "the triple": ({"dealOrder": {"orderId": 9, "ownerId": 10, "ownerTypeId": 2}}, Effect.DONE),
    "the triple as strings": ({"dealOrder": {"orderId": "9", "ownerId": "10", "ownerTypeId": "2"}}, Effect.DONE),
    "an empty list": ({"dealOrder": []}, Effect.UNKNOWN),
    "another owner": ({"dealOrder": {"orderId": 9, "ownerId": 11, "ownerTypeId": 2}}, Effect.UNKNOWN),
    "another order": ({"dealOrder": {"orderId": 8, "ownerId": 10, "ownerTypeId": 2}}, Effect.UNKNOWN),
    "nothing": ([], Effect.UNKNOWN),
    "a mere yes": (True, Effect.UNKNOWN),
}


@pytest.mark.parametrize(("echo", "effect"), ECHOES.values(), ids=ECHOES.keys())
async def test_given_an_echo_when_adding_then_only_the_wanted_triple_confirms_it(
    clock: FakeClock, echo: Any, effect: Effect
) -> None:
    async with client(echoing(written=echo), clock) as ours:
        (result,) = await ours.write([Write(9, None, DEAL)])

    assert result.effect is effect


async def test_given_an_empty_echo_when_the_owner_is_found_in_place_then_it_is_done(clock: FakeClock) -> None:
    rows: Iterator[Any] = iter([[], [{"orderId": 9, "ownerId": 10, "ownerTypeId": 2}]])  # before the add, and after it

    async with client(echoing(listed=lambda: next(rows), written={"dealOrder": []}), clock) as ours:
        (result,) = await ours.write([Write(9, None, DEAL)])

    assert result.effect is Effect.DONE
    assert not list(rows)


@pytest.mark.parametrize("result", [False, [], {"dealOrder": []}, "true"])
async def test_given_a_delete_that_is_not_confirmed_when_the_order_is_unbound_then_it_is_done(
    clock: FakeClock, result: Any
) -> None:
    async with client(echoing(written=result), clock) as ours:
        (outcome,) = await ours.write([Write(9, DEAL, None)])

    assert outcome.effect is Effect.DONE


async def test_given_another_owner_there_and_a_reading_that_fails_when_removing_then_it_is_unknown(
    clock: FakeClock,
) -> None:
    portal = sandbox(clock, FaultRule(Fault.STATUS, status=502, body="html", skip=1, times=None), bound={5: OTHER})
    async with client(portal, clock) as ours:
        (result,) = await ours.write([Write(5, DEAL, None)])

    assert result.effect is Effect.UNKNOWN


async def test_given_a_refused_write_then_its_code_and_text_are_the_portals_without_secrets(
    clock: FakeClock,
) -> None:
    text = "see https://portal.example/rest/1/sandboxsecret/ for more"
    portal = sandbox(clock, FaultRule(Fault.ERROR, method=ADD, code="SALE_ORDER_LOCKED", text=text))
    async with client(portal, clock) as ours:
        (result,) = await ours.write([Write(9, None, DEAL)])

    assert (result.effect, result.code) == (Effect.REFUSED, "SALE_ORDER_LOCKED")
    assert "sandboxsecret" not in result.text
    assert "for more" in result.text


async def test_given_the_list_of_a_bind_fails_when_writing_then_nothing_is_written_and_it_may_be_sent_again(
    clock: FakeClock,
) -> None:
    portal = sandbox(
        clock, FaultRule(Fault.ERROR, method=LIST, key="l9"), FaultRule(Fault.ERROR, method=LIST, key="w8")
    )
    async with client(portal, clock) as ours:
        answer = await ours.write([Write(8, None, DEAL), Write(9, None, DEAL), Write(10, None, DEAL)])

    assert by_order(answer) == {8: Effect.NOT_SENT, 9: Effect.NOT_SENT, 10: Effect.DONE}
    assert 8 not in portal.bindings
    assert 9 not in portal.bindings


async def test_given_the_list_of_a_move_fails_when_writing_then_the_order_is_read_and_it_may_be_sent_again(
    clock: FakeClock,
) -> None:
    portal = sandbox(clock, FaultRule(Fault.ERROR, method=LIST, key="l5"))
    async with client(portal, clock) as ours:
        (result,) = await ours.write([Write(5, DEAL, OTHER)])

    assert result.effect is Effect.NOT_SENT
    assert portal.bindings[5] == DEAL


async def test_given_a_bare_write_whose_list_fails_when_writing_then_what_was_there_is_not_known(
    clock: FakeClock,
) -> None:
    portal = sandbox(clock, FaultRule(Fault.ERROR, method=LIST, key="l9"))
    async with client(portal, clock, conditional=False) as ours:
        (result,) = await ours.write([Write(9, None, DEAL)])

    assert (result.effect, result.found, result.found_known) == (Effect.DONE, None, False)


async def test_given_the_budget_ends_within_a_batch_when_writing_then_the_rest_is_not_sent_and_the_method_waits(
    clock: FakeClock,
) -> None:
    limits = PortalLimits.standard().with_operating(1.0)
    portal = sandbox(clock, limits=limits, latencies=Latencies(add=0.4))
    async with client(portal, clock) as ours:
        answer = await ours.write([Write(order, None, DEAL) for order in range(11, 17)])
        waits = [ours.wait_for(action) for action in (Action.ADD, Action.MOVE, Action.REMOVE)]

    effects = [result.effect for result in answer]
    assert effects == [Effect.DONE] * 3 + [Effect.NOT_SENT] * 3
    assert waits[0] == waits[1] > 500
    assert waits[2] == 0


async def test_given_the_whole_batch_is_over_budget_when_writing_then_nothing_is_sent_and_all_writes_wait(
    clock: FakeClock,
) -> None:
    portal = sandbox(clock, FaultRule(Fault.STATUS, status=429, code="OPERATION_TIME_LIMIT"))
    async with client(portal, clock) as ours:
        answer = await ours.write([Write(9, None, DEAL)])
        assert ours.wait_for(Action.REMOVE) > 0

    assert by_order(answer) == {9: Effect.NOT_SENT}
    assert portal.stats.requests == 1


async def test_given_the_vendor_blocks_each_write_when_writing_then_the_run_ends(clock: FakeClock) -> None:
    portal = sandbox(clock, FaultRule(Fault.ERROR, method=ADD, code="OVERLOAD_LIMIT", times=None))
    async with client(portal, clock) as ours:
        with pytest.raises(PortalBlocked):
            await ours.write([Write(8, None, DEAL), Write(9, None, DEAL)])


async def test_given_a_right_lost_within_a_batch_when_writing_then_the_results_say_what_was_written(
    clock: FakeClock,
) -> None:
    portal = sandbox(clock, FaultRule(Fault.ERROR, method=ADD, code="200040300020", skip=1, times=None))
    async with client(portal, clock) as ours:
        answer = await ours.write([Write(8, None, DEAL), Write(9, None, DEAL)])
        assert by_order(answer) == {8: Effect.DONE, 9: Effect.REFUSED}
        with pytest.raises(AuthError):
            await ours.write([Write(9, None, DEAL)])


# ------------------------------------------------------------------ batches


async def test_given_documented_times_when_sizing_then_batches_aim_at_five_seconds(clock: FakeClock) -> None:
    async with client(sandbox(clock), clock) as ours:
        assert ours.batch_size([Write(order, None, DEAL) for order in range(1, 100)]) == 12
        assert ours.batch_size([Write(order, DEAL, OTHER) for order in range(1, 100)]) == 13
        assert ours.batch_size([Write(order, DEAL, None) for order in range(1, 100)]) == 2
        assert ours.batch_size([Write(1, None, DEAL)]) == 1
        assert ours.batch_size([]) == 0


@pytest.mark.parametrize("version", [Version.NEW, Version.MID])
async def test_given_a_slow_portal_when_writing_then_batches_shrink_until_they_take_five_seconds(
    clock: FakeClock, version: Version
) -> None:
    portal = sandbox(
        clock, version=version, latencies=Latencies(request=0.3, list=0.04, add=1.9), limits=PortalLimits()
    )
    waiting = [Write(order, None, DEAL) for order in range(100, 700)]
    sizes, seconds = [], []
    async with client(portal, clock) as ours:
        await listed(ours)
        await ours.read([5, 7])
        for _ in range(8):
            size = ours.batch_size(waiting)
            began = clock.monotonic()
            answer = await ours.write(waiting[:size])
            seconds.append(clock.monotonic() - began)
            sizes.append(size)
            del waiting[:size]
            if any(result.effect is Effect.UNKNOWN for result in answer):
                clock.advance(60)

    assert sizes[0] == 12
    assert sizes[-1] == 2
    assert 3.5 <= seconds[-1] <= 6


async def test_given_an_answer_lost_to_the_wall_when_sizing_then_the_next_batch_is_half_as_large(
    clock: FakeClock,
) -> None:
    portal = sandbox(clock, FaultRule(Fault.STATUS, method=DELETE, status=504, body="html"))
    writes = [Write(order, None, DEAL) for order in range(100, 200)]
    async with client(portal, clock) as ours:
        await listed(ours)
        await ours.read([5, 7])
        before = ours.batch_size([Write(order, DEAL, None) for order in range(1, 100)])
        answer = await ours.write([Write(5, DEAL, None)])
        after = ours.batch_size([Write(order, DEAL, None) for order in range(1, 100)])
        adds = ours.batch_size(writes)

    assert by_order(answer) == {5: Effect.UNKNOWN}
    assert (before, after, adds) == (2, 1, 13)


async def test_given_a_batch_when_composed_then_its_conditions_come_right_before_the_writes_they_guard(
    clock: FakeClock,
) -> None:
    seen: list[str] = []
    portal = sandbox(clock)
    portal.before_call(lambda method, *_: seen.append(method))
    async with client(portal, clock) as ours:
        await ours.write([Write(20, None, DEAL), Write(5, DEAL, OTHER), Write(21, None, DEAL)])
        await ours.write([Write(7, DEAL, None)])

    assert seen == [LIST, LIST, ADD, LIST, ADD, LIST, LIST, ADD, DELETE]


async def test_given_1500_adds_when_written_then_none_is_refused_lost_or_sent_twice(clock: FakeClock) -> None:
    portal = sandbox(clock, limits=PortalLimits.standard().with_operating(10**6), latencies=Latencies.documented())
    waiting = [Write(order, None, DEAL) for order in range(1000, 2500)]
    effects: set[Effect] = set()
    async with client(portal, clock) as ours:
        await listed(ours)
        await ours.read([5, 7])
        while waiting:
            size = ours.batch_size(waiting)
            answer = await ours.write(waiting[:size])
            effects |= {result.effect for result in answer}
            del waiting[:size]

    assert effects == {Effect.DONE}
    assert portal.stats.refused == 0
    assert portal.stats.calls[ADD] == 1500
    assert len(portal.bindings) == 1502


# ---------------------------------------------------------------- reading by id


async def test_given_an_old_box_that_takes_in_for_one_when_reading_then_equality_answers(clock: FakeClock) -> None:
    portal = sandbox(clock, version=Version.OLD, bound={1: OTHER, 5: DEAL, 7: THIRD})
    async with client(portal, clock) as ours:
        await listed(ours)

        assert await ours.read([1, 5, 6, 7]) == {1: OTHER, 5: DEAL, 7: THIRD}
        assert await ours.read(range(2, 200)) == {5: DEAL, 7: THIRD}


async def test_given_an_old_box_when_writing_then_its_batches_carry_conditions_as_well(clock: FakeClock) -> None:
    portal = sandbox(clock, version=Version.OLD)
    async with client(portal, clock, conditional=None) as ours:
        await listed(ours)
        answer = await ours.write([Write(order, None, OTHER) for order in (5, 7, 8)])
        assert ours.usage().conditional

    assert [(result.effect, result.found, result.found_known) for result in answer] == [
        (Effect.MOVED, DEAL, True), (Effect.MOVED, DEAL, True), (Effect.DONE, None, True),
    ]  # fmt: skip


async def test_given_in_lists_proved_once_when_reading_then_fifty_orders_take_one_call(clock: FakeClock) -> None:
    portal = sandbox(clock)
    async with client(portal, clock) as ours:
        await listed(ours)
        await ours.read([5, 7])
        before = portal.stats.calls[LIST]
        await ours.read(range(1, 101))

    assert portal.stats.calls[LIST] == before + 2


@pytest.mark.parametrize("asked", [(5, 7), (1, 5, 7), range(5, 120)], ids=["few", "order 1 too", "several lists"])
async def test_given_a_portal_that_misreads_in_lists_since_lately_when_reading_then_no_order_is_taken_for_unbound(
    clock: FakeClock, tmp_path: Path, asked: Sequence[int]
) -> None:
    bound = {order: owner for order, owner in ((1, OTHER), (5, DEAL), (7, THIRD)) if order in asked}
    portal = sandbox(clock, bound=bound)
    hosts = Hosts(clock, runtime_dir=tmp_path, transport=SandboxTransport(portal))
    async with client(portal, clock, hosts=hosts) as before:
        assert await before.read(asked) == bound
        portal.version = Version.OLD
        assert await before.read(asked) == bound

    portal.version = Version.NEW
    async with client(portal, clock, hosts=hosts) as before:
        assert await before.read(asked) == bound
    portal.version = Version.OLD
    async with client(portal, clock, hosts=hosts) as after:
        assert await after.read(asked) == bound


async def test_given_in_lists_that_find_nothing_when_reading_then_they_are_asked_once_more_with_a_witness(
    clock: FakeClock,
) -> None:
    portal = sandbox(clock)
    async with client(portal, clock) as ours:
        await listed(ours)
        await ours.read([5, 7])
        before = portal.stats.requests
        assert await ours.read(range(1000, 1100)) == {}

    assert portal.stats.requests == before + 2


async def test_given_a_witness_that_was_unbound_since_when_reading_then_it_does_not_speak_against_in_lists(
    clock: FakeClock,
) -> None:
    portal = sandbox(clock)
    async with client(portal, clock) as ours:
        await listed(ours)
        portal.unbind(7)

        assert await ours.read([5, 6, 7]) == {5: DEAL}
        await ours.read([5, 6])
        before = portal.stats.calls[LIST]
        await ours.read(range(1, 101))

    assert portal.stats.calls[LIST] == before + 2


async def test_given_a_command_that_fails_when_reading_then_only_its_orders_are_asked_for_again(
    clock: FakeClock,
) -> None:
    portal = sandbox(clock, bound=dict.fromkeys(range(1, 200), DEAL))
    async with client(portal, clock) as ours:
        await listed(ours)
        await ours.read([5, 7])
        portal.faults.add(FaultRule(Fault.ERROR, method=LIST, skip=1))
        before = portal.stats.calls[LIST]
        found = await ours.read(range(1, 151))

    assert len(found) == 150
    assert portal.stats.calls[LIST] == before + 4


async def test_given_a_command_that_always_fails_when_reading_then_no_order_is_taken_for_unbound(
    clock: FakeClock,
) -> None:
    portal = sandbox(clock, FaultRule(Fault.ERROR, method=LIST, times=None, code="0", text="out of order"))
    async with client(portal, clock) as ours:
        with pytest.raises(UnavailableError, match="0: out of order"):
            await ours.read([5, 7])


ROW = {"orderId": 5, "ownerId": 10, "ownerTypeId": 2}


async def test_given_a_right_that_was_lost_when_reading_then_the_run_ends(clock: FakeClock) -> None:
    async with client(sandbox(clock, sale_right="D"), clock) as ours:
        with pytest.raises(AuthError, match="200040300010"):
            await ours.read([5, 7])


async def test_given_keys_that_are_forgotten_when_reading_then_they_are_asked_for_again(clock: FakeClock) -> None:
    portal = sandbox(clock, FaultRule(Fault.LOSE_KEY, method=LIST, times=3))
    async with client(portal, clock) as ours:
        assert await ours.read([5, 6, 7]) == {5: DEAL, 7: DEAL}


async def test_given_a_probe_of_in_lists_that_fails_when_reading_then_nothing_is_concluded_from_it(
    clock: FakeClock,
) -> None:
    portal = sandbox(clock)
    async with client(portal, clock) as ours:
        await listed(ours)
        portal.faults.add(FaultRule(Fault.ERROR, method=LIST, key="in"))
        assert await ours.read([5, 6, 7]) == {5: DEAL, 7: DEAL}


SPOILED: dict[str, Any] = {
    "rows that were not asked for": [ROW, ROW | {"orderId": 77}],
    "a row without an order": [{"ownerId": 10, "ownerTypeId": 2}],
    "a row with a null": [ROW | {"orderId": None}],
    "a row with a zero": [ROW | {"orderId": 0}],
    "a row with a word": [ROW | {"orderId": "ten"}],
    "a row that is a list": [[5, 2, 10]],
    "the same order twice": [ROW, ROW],
    "a number": 5,
}


@pytest.mark.parametrize("rows", SPOILED.values(), ids=SPOILED.keys())
async def test_given_rows_of_another_shape_when_reading_then_the_order_is_never_taken_for_unbound(
    clock: FakeClock, rows: Any
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return batch_answer({key: {"orderEntity": rows} for key in json.loads(request.content)["cmd"]})

    async with client(answer, clock) as ours:
        with pytest.raises(UnavailableError):
            await ours.read([5])


@pytest.mark.parametrize("owner", [{"ownerId": None}, {"ownerId": 0}, {"ownerId": "ten"}, {"ownerTypeId": 1.5}, {}])
async def test_given_a_row_without_an_owner_when_reading_then_that_order_is_neither_unbound_nor_in_the_way(
    clock: FakeClock, owner: dict[str, Any]
) -> None:
    odd = {"orderId": 7} | ({"ownerId": 10, "ownerTypeId": 2} | owner if owner else {})

    def answer(request: httpx.Request) -> httpx.Response:
        rows = {"5": ROW, "7": odd}
        sent = json.loads(request.content)["cmd"]
        return batch_answer({key: {"orderEntity": [rows[unquote(one)[-10]]]} for key, one in sent.items()})

    async with client(answer, clock) as ours:
        found = {order: (await ours.read([order]))[order] for order in (5, 7)}

    assert found[5] == DEAL
    assert isinstance(found[7], Unreadable)
    assert found[7].kind is HoldKind.INVALID_ROW


async def test_given_rows_as_a_map_with_gaps_when_reading_then_they_are_rows(clock: FakeClock) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        rows = {"1": {"orderId": 5, "ownerId": 10.0, "ownerTypeId": "2"}}
        return batch_answer({key: {"orderEntity": rows} for key in json.loads(request.content)["cmd"]})

    async with client(answer, clock) as ours:
        assert await ours.read([5]) == {5: DEAL}
