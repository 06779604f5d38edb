"""Journal, sending, recording, and recovery."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import replace
from typing import Any

from syncd.core.model import Side
from syncd.core.pacing import ConcurrencyLimit
from syncd.core.ports import Effect, Table, WriteResult
from syncd.core.silent_writes import Reading
from syncd.engine.apply import SideApplier, _Batch, appliers
from syncd.engine.outcomes import OutcomeRecorder
from syncd.engine.recover import SilentRequests
from syncd.engine.write_queue import PendingWrite, SourceCheck, WriteQueue
from tests.fakes.portal import Surprise
from tests.fakes.store import MemoryStore
from tests.simulation.switch import Name, Silent, rule, specification
from tests.unit import test_spill as on_spilling
from tests.unit.engine import test_engine_endings as on_endings
from tests.unit.engine import test_engine_growth as on_growth
from tests.unit.engine import test_engine_holds as on_holds
from tests.unit.engine import test_engine_lost_answers as on_lost_answers
from tests.unit.engine import test_engine_side_by_side as on_side_by_side
from tests.unit.engine import test_engine_source as on_source
from tests.unit.engine.switches.of_decisions import nothing

APPLY, INTENTS, OUTCOMES, QUEUE, RECOVER, SILENCE, SOURCE, WRITERS = (
    "syncd.engine.apply",
    "syncd.engine.recover",
    "syncd.engine.outcomes",
    "syncd.engine.write_queue",
    "syncd.engine.recover",
    "syncd.core.silent_writes",
    "syncd.engine.write_queue",
    "syncd.engine.write_queue",
)


async def undecided(*_args: Any, **_more: Any) -> None:
    """Leave what a crash left open as it is."""


fill, expected, changed = WriteQueue._fill, SourceCheck._expected, SourceCheck.changed
answered, keep, record = OutcomeRecorder.answered, OutcomeRecorder._keep, MemoryStore.record


def refuse(applier: SideApplier, write: PendingWrite, result: WriteResult, _queue: WriteQueue) -> None:
    applier.recorder.answered(write, result._replace(effect=Effect.REFUSED))


async def refuse_all(applier: SideApplier, batch: _Batch, silent: set[int]) -> None:
    for write in batch.writes:
        if write.id in silent:
            applier.recorder.answered(write, WriteResult(write.order_id, Effect.REFUSED))


def refuse_where(effect: Effect) -> Callable[[OutcomeRecorder, PendingWrite, WriteResult], None]:
    def take(recorder: OutcomeRecorder, write: PendingWrite, result: WriteResult) -> None:
        answered(recorder, write, result._replace(effect=Effect.REFUSED) if result.effect is effect else result)

    return take


def record_without(what: str) -> Callable[..., Coroutine[Any, Any, None]]:
    async def keep_the_rest(store: MemoryStore, *args: Any, **more: Any) -> None:
        await record(store, *args, **{name: value for name, value in more.items() if name != what})

    return keep_the_rest


async def believe_what_was_read(check: SourceCheck, batch: Any, queue: WriteQueue) -> dict[int, Reading]:
    check._shown_at = check._link.clock.monotonic()
    return await changed(check, batch, queue)


async def read_owners_only(table: Table, order_ids: Sequence[int]) -> dict[int, Reading]:
    there = await table.read(order_ids)
    return {order: there[order].owner if order in there else None for order in order_ids}


def the_portal_first(*args: Any, **more: Any) -> Iterator[SideApplier]:
    return reversed(list(appliers(*args, **more)))


def take_up_all(queue: WriteQueue, _most: int) -> None:
    fill(queue, 10**9)


def raise_the_limit(limit: ConcurrencyLimit) -> int:
    limit.current = 100
    return 0


async def none_of_them(*_args: Any) -> dict[int, Reading]:
    return {}


async def send_again(_: SilentRequests, writes: Sequence[PendingWrite], silent: set[int], queue: WriteQueue) -> None:
    queue.lost([one for one in writes if one.id in silent])


SWITCHES = [
    # -------------------------------------------------------------------------- sending
    rule(
        "What is sent stands in the journal before.",
        Name("tests.fakes.store:MemoryStore.intend", nothing),
        "dies-after-sending",
    ),
    rule(
        "The table is written first: a portal that fails does not keep it out of step.",
        Name("syncd.engine.run:appliers", the_portal_first),
        specification(
            on_endings.test_given_a_portal_that_refuses_in_mid_apply_then_what_was_written_is_recorded_and_the_rest_not_sent,
            Surprise.UNAVAILABLE,
            69,
        ),
    ),
    rule(
        "What the portal certainly did not execute is sent again, and no order is blamed for it.",
        Name(f"{APPLY}:SideApplier._not_sent", refuse),
        "a-busy-portal-is-asked-three-times-a-run",
    ),
    rule(
        "It is sent three times a run at most.",
        Name(f"{APPLY}:MAX_SENDS", 10),
        "a-busy-portal-is-asked-three-times-a-run",
    ),
    rule(
        "It is sent before anything else, so that only what is under way is in memory.",
        Name(f"{QUEUE}:WriteQueue.refused", WriteQueue.lost),
        on_growth.test_given_writes_that_come_back_then_refused_ones_are_next_and_lost_ones_last_the_larger_batches_first,
    ),
    rule(
        "What could not be sent has no open intent.",
        Name(f"{OUTCOMES}:OutcomeRecorder.skipped", lambda _recorder, _write, _why: None),
        specification(
            on_endings.test_given_a_portal_that_refuses_in_mid_apply_then_what_was_written_is_recorded_and_the_rest_not_sent,
            Surprise.UNAVAILABLE,
            69,
        ),
    ),
    rule(
        "Only a window of the plan is on its way.",
        Name(f"{QUEUE}:WriteQueue._fill", take_up_all),
        on_growth.test_given_a_long_queue_then_each_write_is_offered_a_few_times_and_only_a_window_is_in_memory,
    ),
    rule(
        "A plan that cannot be kept ends the run.",
        Silent("syncd.spill:SpillFile.append"),
        on_spilling.test_given_a_full_temporary_directory_then_the_sentence_says_so,
    ),
    # --------------------------------------------------------------------- side by side
    rule(
        "So many batches are under way as the limit says.",
        Name("syncd.core.pacing:ConcurrencyLimit.begin", raise_the_limit),
        specification(on_side_by_side.test_given_a_number_of_writers_then_so_many_batches_are_under_way_at_most, 3),
    ),
    rule(
        "Two are under way at first.",
        Name("syncd.core.pacing:FIRST_AT_ONCE", 4),
        specification(
            on_side_by_side.test_given_a_quiet_portal_then_two_batches_are_under_way_at_first_and_four_at_last
        ),
    ),
    rule(
        "More are while all is quiet.",
        Name("syncd.core.pacing:ConcurrencyLimit.quiet", lambda _limit: None),
        specification(
            on_side_by_side.test_given_a_quiet_portal_then_two_batches_are_under_way_at_first_and_four_at_last
        ),
    ),
    rule(
        "Trouble halves how many are under way.",
        Name("syncd.core.pacing:ConcurrencyLimit.trouble", lambda _limit, _ticket: None),
        specification(
            on_side_by_side.test_given_a_limit_answer_then_its_batch_is_sent_again_next_and_half_as_many_are_under_way
        ),
    ),
    rule(
        "What is under way when a run ends early comes to its end, and is recorded.",
        Name(f"{APPLY}:SideApplier._finish", nothing),
        specification(
            on_side_by_side.test_given_a_portal_that_goes_away_then_the_batches_beside_are_recorded_and_the_rest_not_sent
        ),
        specification(on_side_by_side.test_given_the_stop_then_what_is_under_way_comes_to_its_end_and_is_recorded),
    ),
    rule(
        "What is under way when the lease is lost is given up.",
        Name(f"{APPLY}:SideApplier._give_up", nothing),
        specification(
            on_side_by_side.test_given_the_lease_lost_then_everything_under_way_is_given_up_and_its_intents_stay_open
        ),
    ),
    # ------------------------------------------------------------------------ the source
    rule(
        "A write whose source has changed since the plan was made is not made.",
        Name(f"{SOURCE}:SourceCheck.changed", none_of_them),
        specification(on_source.test_given_rows_put_back_while_the_plan_is_applied_then_the_rest_is_not_written),
        specification(
            on_source.test_given_a_removal_whose_row_comes_back_while_the_plan_is_applied_then_it_is_not_made
        ),
    ),
    rule(
        "A plan made a moment ago needs no second look at its source.",
        Name(f"{SOURCE}:FRESH", dict.fromkeys(Side, -1.0)),
        specification(on_source.test_given_a_plan_made_a_moment_ago_then_the_source_is_not_read_again),
    ),
    rule(
        "What was read of the source is believed for seconds only.",
        Name(f"{SOURCE}:SourceCheck.changed", believe_what_was_read),
        specification(
            on_source.test_given_bindings_that_change_later_than_they_were_read_then_their_rows_are_left_alone
        ),
    ),
    rule(
        "What the plan itself wrote into the source is no change of it.",
        Name(f"{SOURCE}:SourceCheck._expected", lambda check, change: expected(check, change)[:1]),
        specification(
            on_source.test_given_a_decision_that_writes_both_sides_then_its_own_row_is_no_change_of_the_source
        ),
    ),
    rule(
        "A row that the link does not select any more, or that cannot be read, is no reason to write.",
        Name(f"{SOURCE}:_row", lambda value: None if value is None else value.owner),
        specification(
            on_source.test_given_a_row_that_says_nothing_clear_any_more_then_its_order_is_not_written, "deselected"
        ),
    ),
    # --------------------------------------------------------------------- lost answers
    rule(
        "After a lost answer the orders are read before anything is sent again.",
        Name(f"{RECOVER}:SilentRequests.add", send_again),
        "late-request-is-waited-for",
    ),
    rule(
        "A lost answer is no refusal.",
        Name(f"{APPLY}:SideApplier._lost", refuse_all),
        "answer-lost-after-the-effect",
    ),
    rule(
        "An order that broke its requests before is sent alone.",
        Name(f"{OUTCOMES}:OutcomeRecorder.was_unanswered", lambda _recorder, _order: False),
        specification(
            on_lost_answers.test_given_an_order_whose_requests_are_all_lost_then_the_others_arrive_and_it_is_held_after_five_attempts
        ),
    ),
    rule(
        "A side that leaves one request after the other unanswered ends the run.",
        Name(f"{APPLY}:MAX_SILENT", 1000),
        specification(
            on_lost_answers.test_given_a_portal_that_answers_no_write_then_the_run_ends_unavailable_and_no_order_is_blamed
        ),
    ),
    rule(
        "It ends with a refusal.",
        Silent(f"{APPLY}:SideApplier._start_batches"),
        specification(
            on_lost_answers.test_given_a_portal_that_answers_no_write_then_the_run_ends_unavailable_and_no_order_is_blamed
        ),
    ),
    # ------------------------------------------------------------------------ recording
    rule(
        "What a race overwrote is held.",
        Silent(f"{OUTCOMES}:OutcomeRecorder.overwrote"),
        "race-is-not-overwritten",
    ),
    rule(
        "An order that the portal does not know, or refuses too often, is held.",
        Name(f"{OUTCOMES}:OutcomeRecorder._hold", lambda *_args: None),
        "order-missing",
        "refused-order-is-held-after-five",
    ),
    rule(
        "An order that was refused five times is held.",
        Name(f"{OUTCOMES}:MAX_ATTEMPTS", 10),
        "refused-order-is-held-after-five",
    ),
    rule(
        "A refused order is given a pause.",
        Name(f"{OUTCOMES}:order_pause", lambda _attempt: 0.0),
        "refused-order-waits-and-stops-nobody",
    ),
    rule(
        "It is not tried again before its pause is over.",
        Name("syncd.engine.observe:is_waiting", lambda _next_at, _now: False),
        specification(on_holds.test_given_a_missing_order_that_is_not_due_then_nothing_of_it_is_planned),
    ),
    rule(
        "The hold of an order that is tried again stays until the write is in place.",
        Name("syncd.engine.observe:_ends_with_its_write", lambda _stored, _changed: False),
        specification(on_holds.test_given_a_held_order_that_is_tried_again_in_vain_then_its_hold_is_never_released),
    ),
    rule(
        "What was undone is held.",
        Silent(f"{OUTCOMES}:OutcomeRecorder.in_place"),
        "undo-puts-back-and-holds",
        "an-undo-cut-off-holds-its-orders",
    ),
    # ------------------------------------------------------------------------- recovery
    rule(
        "A run begins with healing what was interrupted.",
        Name("syncd.engine.run:recover", nothing),
        "dies-after-sending",
    ),
    rule(
        "What a crash left open is decided.",
        Name(f"{RECOVER}:_resolve", undecided),
        "dies-after-sending",
    ),
    rule(
        "An interrupted request is waited for until it cannot be alive.",
        Name(f"{RECOVER}:_wait_until_dead", nothing),
        "dies-with-a-late-request",
        "a-clock-set-forward-shortens-no-wait",
        "a-value-found-in-place-after-a-crash-is-believed-once-no-request-lives",
    ),
    rule(
        "No request of before a rebase is alive after it.",
        Name(f"{RECOVER}:_wait_until_dead", nothing),
        "rebase-waits-for-a-late-request",
    ),
    rule(
        "The writes of one request are judged together.",
        Name(f"{RECOVER}:_by_request", lambda intents, side: [[one] for one in intents if one.change.side is side]),
        "dies-after-sending-and-the-old-owner-is-put-back",
    ),
    rule(
        "Rows that cannot be read are not the removal that was interrupted.",
        Name(f"{WRITERS}:_read_table", read_owners_only),
        "rows-that-cannot-be-read-are-no-removal-that-arrived",
    ),
    rule(
        "An order that breaks its requests is counted as failed.",
        Name("tests.fakes.store:MemoryStore.record", record_without("attempts")),
        specification(
            on_lost_answers.test_given_an_order_whose_requests_are_all_lost_then_the_others_arrive_and_it_is_held_after_five_attempts
        ),
    ),
    rule(
        "An order that breaks its requests is held after five attempts.",
        Name(f"{OUTCOMES}:MAX_ATTEMPTS", 10),
        specification(
            on_lost_answers.test_given_an_order_whose_requests_are_all_lost_then_the_others_arrive_and_it_is_held_after_five_attempts
        ),
    ),
    rule(
        "What a race overwrote stays held.",
        Name(f"{OUTCOMES}:OutcomeRecorder._keep", lambda recorder, hold: keep(recorder, replace(hold, seen=None))),
        "race-stays-held",
    ),
    rule(
        "Holds are recorded together with the outcomes they come from.",
        Name("tests.fakes.store:MemoryStore.record", record_without("holds")),
        "race-is-not-overwritten",
    ),
    rule(
        "A value that stands there already is success.",
        Name(f"{OUTCOMES}:OutcomeRecorder.answered", refuse_where(Effect.ALREADY)),
        "somebody-writes-the-same-meanwhile",
    ),
    rule(
        "An order that moved is skipped, not blamed.",
        Name(f"{OUTCOMES}:OutcomeRecorder.answered", refuse_where(Effect.MOVED)),
        "a-row-that-moved-is-not-overwritten",
    ),
    rule(
        "An order the portal does not know is held.",
        Name(f"{OUTCOMES}:OutcomeRecorder.answered", refuse_where(Effect.ORDER_MISSING)),
        "order-missing",
    ),
    rule(
        "Success forgets the failures before it.",
        Name(f"{OUTCOMES}:IN_PLACE", set()),
        "a-success-forgets-the-failures",
    ),
    rule(
        "Of two writes of an order only the last one moves the agreed state.",
        Name(f"{OUTCOMES}:OutcomeRecorder._is_last", lambda _recorder, _change: True),
        "a-decision-half-carried-out-is-not-agreed",
    ),
    rule(
        "The outcome of a write that was sent more than once says so.",
        Name(f"{OUTCOMES}:OutcomeRecorder._note", lambda recorder, *noted: recorder._noted.append(noted)),
        specification(
            on_lost_answers.test_given_a_process_killed_after_sending_twice_then_the_audit_says_how_often_it_was_sent
        ),
    ),
    rule(
        "Of a decision cut off between two writes nothing is agreed.",
        Name(f"{OUTCOMES}:OutcomeRecorder._is_last", lambda _recorder, _change: True),
        "a-decision-cut-off-is-finished",
    ),
]
