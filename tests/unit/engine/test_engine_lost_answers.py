"""Answers that are lost: what was executed all the same is found, and an order that breaks its request is found out."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest

from syncd.core.model import Outcome, Owner, Unreadable
from syncd.core.ports import Effect, Write, WriteResult
from tests.fakes.portal import Surprise
from tests.simulation.crash import Crash, Steps
from tests.simulation.world import World
from tests.unit.engine.given import both, deal, in_step, one_change, outcomes

pytestmark = pytest.mark.anyio


async def test_given_an_answer_lost_twice_without_a_trace_then_its_request_is_waited_out_and_the_change_has_failed() -> (
    None
):
    world = await in_step({5: 10, 6: 11})
    world.edit_table(5, (2, 20))
    world.portal.script.extend([Surprise.LOST_BEFORE, Surprise.LOST_BEFORE])
    began = world.clock.time

    report = await world.reconcile()

    assert one_change(report).outcome is Outcome.FAILED
    assert one_change(report).error == "no request with this write was answered; sent 2 times"
    assert report.exit_code == 3
    assert world.clock.time - began >= 60
    assert await world.agreed(5) == deal(10)
    assert (await world.reconcile()).exit_code == 3
    assert sum(world.portal.sent.values()) == 2
    world.clock.time += 60
    assert (await world.reconcile()).exit_code == 0
    assert both(world, 5) == (deal(20), deal(20))


def lose_requests_with(world: World, *orders: int) -> list[list[int]]:
    """From now on no request that writes one of these orders is answered, nor executed; return who was sent with whom."""
    requests: list[list[int]] = []

    def before_write(batch: Sequence[Write]) -> None:
        requests.append([write.order_id for write in batch])
        if not set(orders).isdisjoint(requests[-1]):
            world.portal.script.append(Surprise.LOST_BEFORE)

    world.portal.before_write = before_write
    return requests


async def test_given_an_order_whose_requests_are_all_lost_then_the_others_arrive_and_it_is_held_after_five_attempts() -> (
    None
):
    world = await in_step(40)
    for order in range(1, 13):
        world.edit_table(order, (2, 500 + order))
    requests = lose_requests_with(world, 5)

    report = await world.reconcile()

    done = outcomes(report)
    assert done.pop((5, "crm")) is Outcome.FAILED
    assert set(done.values()) == {Outcome.APPLIED}
    first = len(requests)
    with_it = [len(batch) for batch in requests if 5 in batch]
    assert with_it == [12, 6, 3, 1], "a request that is lost is sent again in halves"
    world.edit_table(20, (2, 520))
    for _ in range(4):
        assert await world.held() == {}
        world.clock.time += 4000
        await world.reconcile()
    assert await world.held() == {5: "uncertain"}
    assert all(5 not in batch or batch == [5] for batch in requests[first:])
    assert both(world, 20) == (deal(520), deal(520))
    sent = len(requests)
    world.clock.time += 4000
    await world.reconcile()
    assert len(requests) == sent


async def test_given_a_portal_that_answers_no_write_then_the_run_ends_unavailable_and_no_order_is_blamed() -> None:
    world = await in_step(40)
    for order in range(1, 21):
        world.edit_table(order, (2, 500 + order))
    world.portal.size = 2
    requests = lose_requests_with(world, *range(1, 41))

    report = await world.reconcile()

    assert report.exit_code == 69
    assert report.row.error == "The portal left 8 write requests in a row unanswered; the rest was not sent."
    assert report.error is not None
    assert report.error.hint == "The next run finds out what became of them, and goes on."
    assert len(requests) == 8
    assert await world.store.attempts(1) == {}
    world.portal.before_write = None
    assert (await world.reconcile()).exit_code == 0
    assert all(both(world, order) == (deal(500 + order),) * 2 for order in range(1, 21))


async def test_given_an_order_whose_lost_request_arrived_after_all_then_its_failures_are_forgotten() -> None:
    world = await in_step({5: 10, 6: 11})
    world.edit_table(5, (2, 20))
    world.portal.script.extend([Surprise.LOST_BEFORE, Surprise.LOST_BEFORE])
    await world.reconcile()
    assert list(await world.store.attempts(1)) == [5]
    world.clock.time += 60
    world.portal.script.append(Surprise.LOST_AFTER)

    report = await world.reconcile()

    assert report.exit_code == 0
    assert await world.store.attempts(1) == {}


async def test_given_lost_answers_when_one_request_shows_progress_then_the_others_are_waited_for_too() -> None:
    world = await in_step({5: 10, 6: 11})
    world.edit_table(5, (2, 20))
    world.edit_table(6, (2, 21))
    world.portal.size = 1
    world.portal.script.extend([Surprise.LOST_BEFORE] * 2)
    began, wait = world.clock.time, world.clock.sleep

    async def sleep(seconds: float) -> None:
        await wait(seconds)
        for order, owner, after in ((5, 20, 3), (6, 21, 30)):
            if world.clock.time - began >= after:
                world.portal.bind(order, deal(owner))

    world.clock.sleep = sleep  # type: ignore[method-assign]
    report = await world.reconcile()

    assert report.exit_code == 0
    assert set(world.portal.sent.values()) == {1}


async def test_given_a_lost_answer_and_something_else_there_then_the_order_is_uncertain_and_held() -> None:
    world = await in_step({5: 10, 6: 11})
    world.edit_table(5, (2, 20))
    world.portal.script.append(Surprise.LOST_AFTER)
    read = world.portal.read
    reads: list[Sequence[int]] = []

    async def other(order_ids: Sequence[int]) -> dict[int, Owner | Unreadable]:
        reads.append(order_ids)
        if len(reads) == 1:
            world.edit_crm(5, (2, 30))
        return await read(order_ids)

    world.portal.read = other  # type: ignore[method-assign]
    report = await world.reconcile()

    assert one_change(report).outcome is Outcome.UNCERTAIN
    assert await world.held() == {5: "uncertain"}
    assert both(world, 5) == (deal(30), deal(20))


@pytest.mark.parametrize("applied", [True, False])
async def test_given_a_table_connection_lost_at_the_commit_then_the_table_is_asked_and_all_is_right(
    applied: bool,
) -> None:
    world = await in_step({5: 10, 6: 11})
    world.edit_crm(5, (2, 20))
    world.table.lose(applied=applied)

    report = await world.reconcile()

    assert report.exit_code == 0
    assert both(world, 5) == (deal(20), deal(20))
    assert len(world.table.written) == 1


async def test_given_an_unreachable_portal_after_a_lost_answer_then_the_intent_stays_open() -> None:
    world = await in_step({5: 10, 6: 11})
    world.edit_table(5, (2, 20))
    world.portal.script.append(Surprise.LOST_AFTER)
    world.portal.reads.append(Surprise.UNAVAILABLE)

    report = await world.reconcile()

    assert report.exit_code == 69
    assert len(await world.store.open_intents(1)) == 1
    assert (await world.reconcile()).exit_code == 0
    assert both(world, 5) == (deal(20), deal(20))
    assert len(world.portal.written) == 1


async def test_given_an_order_touched_and_put_back_while_its_request_may_be_alive_then_it_is_held_and_not_sent_again() -> (
    None
):
    world = await in_step(30)
    for order in (4, 5):
        world.edit_table(order, (2, 20 + order))
    world.portal.script.append(Surprise.LOST_BEFORE)
    edits = iter([(2, 30)])

    def once(_batch: Sequence[Write]) -> None:
        for owner in edits:
            world.edit_crm(5, owner)

    world.portal.after_write = once
    began, wait = world.clock.time, world.clock.sleep

    async def sleep(seconds: float) -> None:
        await wait(seconds)
        if 3 <= world.clock.time - began < 4:
            world.edit_crm(5, (2, 105))

    world.clock.sleep = sleep  # type: ignore[method-assign]
    report = await world.reconcile()

    assert outcomes(report) == {(4, "crm"): Outcome.APPLIED, (5, "crm"): Outcome.UNCERTAIN}
    assert report.changes[1].error.endswith("and somebody else wrote it in between")
    assert await world.held() == {5: "uncertain"}
    assert {write.order_id: sent for write, sent in world.portal.sent.items()} == {4: 2, 5: 1}


async def test_given_a_batch_whose_answer_is_lost_when_a_person_puts_one_order_back_then_that_one_is_held() -> None:
    world = await in_step(20)
    for order in (5, 6, 7):
        world.edit_table(order, (2, 20 + order))
    world.portal.script.append(Surprise.LOST_AFTER)
    world.portal.after_write = lambda _: world.edit_crm(6, (2, 106))

    report = await world.reconcile()

    done = outcomes(report)
    assert (done[5, "crm"], done[6, "crm"], done[7, "crm"]) == (
        Outcome.APPLIED,
        Outcome.UNCERTAIN,
        Outcome.APPLIED,
    )
    assert await world.held() == {6: "uncertain"}
    (hold,) = await world.store.holds(1)
    assert "Somebody put the old owner back, or the write was refused" in hold.hold.detail
    assert both(world, 6) == (deal(106), deal(26))
    assert (await world.reconcile()).changes == []


async def test_given_a_batch_cut_off_in_the_middle_then_what_came_after_is_sent_again_and_nothing_is_held() -> None:
    world = await in_step(20)
    for order in (5, 6, 7, 8):
        world.edit_table(order, (2, 20 + order))
    world.portal.script.append(Surprise.LOST_HALFWAY)

    report = await world.reconcile()

    assert report.exit_code == 0
    assert {one.change.order_id: one.error for one in report.changes} == {
        5: "",
        6: "",
        7: "sent 2 times",
        8: "sent 2 times",
    }


async def test_given_a_process_killed_while_it_sends_then_the_audit_says_no_more_than_is_known() -> None:
    world = await in_step({5: 10, 6: 11})
    world.edit_table(5, (2, 20))
    steps = Steps()
    steps.meanwhile = lambda name: steps.die(name) if name == "portal.write before" else None
    with suppress(Crash):
        await world.reconcile(steps)
    (row, *_) = await world.store.runs("shop", 1)

    assert (await world.reconcile()).exit_code == 0

    (cut_off,) = await world.store.changes(row.id)
    assert cut_off.outcome is Outcome.SKIPPED
    assert cut_off.error == (
        "interrupted; it shows its old owner, so syncd cannot tell whether it was written; planned anew"
    )


async def test_given_a_process_killed_after_sending_twice_then_the_audit_says_how_often_it_was_sent() -> None:
    world = await in_step({5: 10, 6: 11})
    world.edit_table(5, (2, 20))
    world.portal.script.extend([Surprise.LOST_BEFORE, Surprise.FINE])
    steps, writes = Steps(), []

    def die_at_the_second(name: str) -> None:
        if name == "portal.write after":
            writes.append(name)
            if len(writes) == 2:
                steps.die(name)

    steps.meanwhile = die_at_the_second
    with suppress(Crash):
        await world.reconcile(steps)
    (row, *_) = await world.store.runs("shop", 1)

    assert (await world.reconcile()).exit_code == 0

    (cut_off,) = await world.store.changes(row.id)
    assert (cut_off.outcome, cut_off.error) == (
        Outcome.APPLIED,
        "found in place after an interruption; sent 2 times",
    )
    assert len(world.portal.written) == 1


async def test_given_a_batch_answered_in_part_when_its_orders_cannot_be_read_then_the_next_run_takes_the_answers_for_proof() -> (
    None
):
    world = await in_step({5: 10, 6: 11})
    world.edit_table(5, (2, 20))
    world.edit_table(6, (2, 21))
    write = world.portal.write

    async def answered_in_part(batch: Sequence[Write]) -> Any:
        first, *others = await write(batch)
        world.edit_crm(5, (2, 10))  # somebody puts the old owner back
        world.portal.reads.append(Surprise.UNAVAILABLE)
        return [first._replace(effect=Effect.UNKNOWN), *others]

    world.portal.write = answered_in_part  # type: ignore[method-assign]
    assert (await world.reconcile()).exit_code == 69
    world.portal.write = write  # type: ignore[method-assign]

    report = await world.reconcile()

    assert (report.exit_code, await world.held()) == (3, {5: "uncertain"})
    assert both(world, 5) == (deal(10), deal(20))
    assert both(world, 6) == (deal(21), deal(21))
    assert sum(world.portal.sent.values()) == 2


async def test_given_two_orders_that_break_their_requests_then_the_answers_to_others_say_that_the_portal_works() -> (
    None
):
    world = await in_step(60)
    for order in range(1, 41):
        world.edit_table(order, (2, 500 + order))
    world.portal.size = 16
    requests = lose_requests_with(world, 3, 19)

    report = await world.reconcile()

    assert sum(len(batch) > 1 and not {3, 19}.isdisjoint(batch) for batch in requests) >= 8
    done = outcomes(report)
    assert (report.exit_code, done.pop((3, "crm")), done.pop((19, "crm"))) == (3, Outcome.FAILED, Outcome.FAILED)
    assert set(done.values()) == {Outcome.APPLIED}


async def test_given_a_portal_that_answers_one_write_request_and_no_more_then_eight_lost_ones_end_the_run() -> None:
    world = await in_step(40)
    for order in range(1, 21):
        world.edit_table(order, (2, 500 + order))
    world.portal.size = 2
    requests = lose_requests_with(world, *range(3, 41))

    report = await world.reconcile()

    assert report.exit_code == 69
    assert [orders for orders in requests if len(orders) > 1] == requests
    assert len(requests) == 9
    assert outcomes(report)[1, "crm"] is Outcome.APPLIED


async def test_given_many_orders_whose_requests_are_lost_even_alone_then_each_has_failed_and_the_others_are_written() -> (
    None
):
    world = await in_step(40)
    for order in range(1, 13):
        world.edit_table(order, (2, 500 + order))
    world.portal.size = 1
    requests = lose_requests_with(world, *range(1, 11))

    report = await world.reconcile()

    done = outcomes(report)
    assert (report.exit_code, len(requests)) == (3, 22)
    assert {done[order, "crm"] for order in range(1, 11)} == {Outcome.FAILED}
    assert {done[order, "crm"] for order in (11, 12)} == {Outcome.APPLIED}


async def test_given_a_table_that_loses_every_commit_then_the_run_ends_unavailable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("syncd.engine.write_queue.TABLE_BATCH", 2)
    world = await in_step(40)
    for order in range(1, 31):
        world.edit_crm(order, (2, 500 + order))
    for _ in range(20):
        world.table.lose(applied=False)

    report = await world.reconcile()

    assert report.exit_code == 69
    assert report.row.error == "The mapping table left 8 write requests in a row unanswered; the rest was not sent."
    assert await world.store.attempts(1) == {}


async def test_given_a_write_sent_twice_without_an_answer_when_the_portal_goes_away_then_the_audit_says_both() -> None:
    world = await in_step(20)
    for order in range(1, 5):
        world.edit_table(order, (2, 500 + order))
    world.portal.script.extend(
        [Surprise.LOST_BEFORE, Surprise.LOST_BEFORE, Surprise.FINE, Surprise.UNAVAILABLE],
    )

    report = await world.reconcile()

    assert report.exit_code == 69
    assert {one.change.order_id: (one.outcome, one.error) for one in report.changes} == {
        1: (Outcome.SKIPPED, "not sent: The portal fake cannot be used.; sent 2 times"),
        2: (Outcome.APPLIED, "sent 3 times"),
        3: (Outcome.APPLIED, "sent 2 times"),
        4: (Outcome.APPLIED, "sent 2 times"),
    }


async def test_given_a_request_that_was_refused_for_a_limit_before_then_only_those_that_were_lost_count() -> None:
    world = await in_step({5: 10, 6: 11})
    world.edit_table(5, (2, 20))
    world.portal.script.extend([Surprise.NOT_SENT, Surprise.LOST_BEFORE, Surprise.LOST_BEFORE])

    report = await world.reconcile()

    assert one_change(report).outcome is Outcome.FAILED
    assert one_change(report).error == "no request with this write was answered; sent 2 times"
    assert sum(world.portal.sent.values()) == 2


@pytest.mark.parametrize(
    ("code", "text", "why"),
    [
        ("QUERY_LIMIT_EXCEEDED", "Too many requests", "QUERY_LIMIT_EXCEEDED Too many requests"),
        ("", "", "no reason given"),
    ],
)
async def test_given_a_write_that_limits_keep_out_three_times_then_it_is_skipped_with_their_words(
    code: str, text: str, why: str
) -> None:
    world = await in_step({5: 10, 6: 11})
    world.edit_table(5, (2, 20))
    tries: list[int] = []

    async def busy(batch: Sequence[Write]) -> Any:
        tries.append(len(batch))
        return [WriteResult(write.order_id, Effect.NOT_SENT, code=code, text=text) for write in batch]

    world.portal.write = busy  # type: ignore[method-assign]
    report = await world.reconcile()

    assert tries == [1, 1, 1]
    assert one_change(report).outcome is Outcome.SKIPPED
    assert one_change(report).error == f"skipped: not executed 3 times, {why}"
    assert await world.store.attempts(1) == {}
