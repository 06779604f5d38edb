"""Journal, sending, recording, and recovery."""

from __future__ import annotations

from tests.simulation.switch import Line, Name, rule, specification
from tests.unit.engine import test_engine_endings as on_endings
from tests.unit.engine import test_engine_lost_answers as on_lost_answers
from tests.unit.engine import test_engine_second_looks as on_second_looks
from tests.unit.engine.switches.of_decisions import nothing

APPLY, HOLDING, LEDGER, RECOVER, SIDES = (
    "syncd.engine.apply",
    "syncd.engine.holding",
    "syncd.engine.ledger",
    "syncd.engine.recover",
    "syncd.engine.sides",
)

SWITCHES = [
    # -------------------------------------------------------------------------- sending
    rule(
        "What is sent stands in the journal before.",
        Line(
            f"{APPLY}:Applier._side",
            "await self._link.store.intend(lease, [e.id for e in batch], self._link.clock.now())",
            "pass",
        ),
        "dies-after-sending",
    ),
    rule(
        "An order that was bound elsewhere since the listing is not overwritten.",
        Name(f"{SIDES}:CrmWriter.reads_before", False),
        "bound-elsewhere-after-the-listing",
    ),
    rule(
        "An order that has the wanted owner already is agreed without a write.",
        Line(f"{APPLY}:Applier._still_as_planned", "elif found == entry.change.after:", "elif False:"),
        specification(
            on_second_looks.test_given_an_order_that_got_the_wanted_owner_after_the_listing_then_nothing_is_sent_and_it_is_agreed
        ),
    ),
    rule(
        "What was read ahead is read anew after a wait.",
        Line(f"{APPLY}:Applier._side", "self._ahead = {}  #", "#"),
        specification(on_second_looks.test_given_a_wait_before_a_batch_then_its_orders_are_read_anew),
    ),
    rule(
        "The table is written first: a portal that fails does not keep it out of step.",
        Line(
            f"{APPLY}:Applier.run",
            "(TableWriter(self._link.table), CrmWriter(self._link.portal))",
            "(CrmWriter(self._link.portal), TableWriter(self._link.table))",
        ),
        specification(
            on_endings.test_given_a_portal_that_refuses_in_mid_apply_then_what_was_written_is_recorded_and_the_rest_not_sent,
            on_endings.Surprise.UNAVAILABLE,
            69,
        ),
    ),
    rule(
        "What the portal certainly did not execute is sent again, and no order is blamed for it.",
        Line(f"{APPLY}:Applier._send", "elif result.effect is Effect.NOT_SENT:", "elif False:"),
        "a-busy-portal-is-asked-three-times-a-run",
    ),
    rule(
        "It is sent three times a run at most.",
        Name(f"{APPLY}:MAX_SENDS", 10),
        "a-busy-portal-is-asked-three-times-a-run",
    ),
    rule(
        "What could not be sent has no open intent.",
        Line(f"{APPLY}:Applier._send", 'Outcome.SKIPPED, f"not sent: {error.message}"', "Outcome.INTENDED"),
        specification(
            on_endings.test_given_a_portal_that_refuses_in_mid_apply_then_what_was_written_is_recorded_and_the_rest_not_sent,
            on_endings.Surprise.UNAVAILABLE,
            69,
        ),
    ),
    # --------------------------------------------------------------------- lost answers
    rule(
        "After a lost answer the orders are read before anything is sent again.",
        Line(
            f"{APPLY}:Applier._send",
            "await self._read_back(writer, unknown, final=not writer.reads_before)",
            "again += unknown",
        ),
        "late-request-is-waited-for",
    ),
    rule(
        "A lost answer is no refusal.",
        Line(f"{APPLY}:Applier._send", "if result.effect is Effect.UNKNOWN:", "if False:"),
        "answer-lost-after-the-effect",
    ),
    rule(
        "What is found in place after a lost answer is done.",
        Line(f"{APPLY}:Applier._read_back", "if found == change.after:", "if False:"),
        "answer-lost-after-the-effect",
    ),
    rule(
        "What shows neither the old nor the new owner after a lost answer is held.",
        Line(f"{APPLY}:Applier._read_back", "elif found == change.before:", "elif True:"),
        "zombie-after-somebody-else",
    ),
    rule(
        "Where somebody else has written meanwhile, the whole life of a lost request is waited for.",
        Line(f"{APPLY}:Applier._settle", "or any(entry.id in self._strange for entry in waiting)", ""),
        "zombie-long-after-somebody-else",
    ),
    rule(
        "What a late request overwrote is held.",
        Line(f"{APPLY}:Applier._read_back", "self._strange.get(entry.id, change.before)", "change.before"),
        "zombie-after-somebody-else",
    ),
    rule(
        "A request whose answer was lost is given time to show progress.",
        Line(f"{APPLY}:Applier._settle", "if writer.reads_before:", "if False:"),
        "late-request-is-waited-for",
    ),
    rule(
        "That time begins when the answer is lost, however long the sending took.",
        Line(f"{APPLY}:Applier._send", "entry.sent_by = self._link.clock.monotonic()", "pass"),
        specification(
            on_endings.test_given_an_answer_lost_after_a_long_write_then_its_request_is_waited_for_from_then_on
        ),
    ),
    rule(
        "While lost requests show progress, their whole life is waited for.",
        Line(f"{APPLY}:Applier._settle", "len(waiting) < before or", "False or"),
        specification(
            on_lost_answers.test_given_lost_answers_when_one_request_shows_progress_then_the_others_are_waited_for_too
        ),
    ),
    rule(
        "The whole life of a request is waited for where nothing came of the same writes for the second time.",
        Line(f"{APPLY}:Applier._settle", "any(entry.sends > 1 for entry in waiting)", "False"),
        specification(
            on_lost_answers.test_given_an_answer_lost_twice_without_a_trace_then_its_request_is_waited_out_and_the_change_has_failed
        ),
    ),
    rule(
        "What was lost is sent again in smaller company.",
        Line(f"{APPLY}:Applier._note_lost", "max(1, len(lost) // 2)", "len(lost)"),
        specification(
            on_lost_answers.test_given_an_order_whose_requests_are_all_lost_then_the_others_arrive_and_it_is_held_after_five_attempts
        ),
    ),
    rule(
        "An order that breaks its requests is counted as failed.",
        Line(f"{LEDGER}:Ledger.unanswered", "await self.record(outcomes, attempts)", "await self.record(outcomes)"),
        specification(
            on_lost_answers.test_given_an_order_whose_requests_are_all_lost_then_the_others_arrive_and_it_is_held_after_five_attempts
        ),
    ),
    rule(
        "An order that broke its requests before is sent alone.",
        Line(f"{APPLY}:Applier.run", "1 if self._ledger.left_unanswered(entry) else entry.most", "entry.most"),
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
    # ------------------------------------------------------------------------ recording
    rule(
        "What a race overwrote is held.",
        Line(f"{LEDGER}:Ledger.judge", "if lost else", "if False else"),
        "race-is-not-overwritten",
    ),
    rule(
        "What a race overwrote stays held.",
        Line(
            f"{HOLDING}:overwritten",
            "seen=seen",
            "seen=None",
        ),
        "race-stays-held",
    ),
    rule(
        "Holds are recorded together with the outcomes they come from.",
        Line(f"{LEDGER}:Ledger.record", ", holds=holds", ""),
        "race-is-not-overwritten",
    ),
    rule(
        "A value that stands there already is success.",
        Line(f"{LEDGER}:Ledger.judge", "if result.effect is Effect.ALREADY:", "if False:"),
        "somebody-writes-the-same-meanwhile",
    ),
    rule(
        "An order that moved is skipped, not blamed.",
        Line(f"{LEDGER}:Ledger.judge", "if result.effect is Effect.MOVED:", "if False:"),
        "a-row-that-moved-is-not-overwritten",
    ),
    rule(
        "An order the portal does not know is held.",
        Line(f"{LEDGER}:Ledger.judge", "if result.effect is Effect.ORDER_MISSING:", "if False:"),
        "order-missing",
    ),
    rule(
        "An order that was refused five times is held.",
        Name(f"{LEDGER}:MAX_ATTEMPTS", 10),
        "refused-order-is-held-after-five",
    ),
    rule(
        "The hold of an order that was refused too often is made.",
        Line(f"{LEDGER}:Ledger._failed_once_more", "if failures >= MAX_ATTEMPTS:", "if False:"),
        "refused-order-is-held-after-five",
    ),
    rule(
        "A refused order is given a pause.",
        Name(f"{LEDGER}:order_pause", lambda _attempt: 0.0),
        "refused-order-waits-and-stops-nobody",
    ),
    rule(
        "Success forgets the failures before it.",
        Line(f"{LEDGER}:Ledger.record", "if one.outcome in _IN_PLACE", "if False"),
        "a-success-forgets-the-failures",
    ),
    rule(
        "Of two writes of an order only the last one moves the agreed state.",
        Line(f"{LEDGER}:Ledger.in_place", "last = self._left[change.order_id] == 0", "last = True"),
        "a-decision-half-carried-out-is-not-agreed",
    ),
    rule(
        "What was undone is held.",
        Line(f"{LEDGER}:Ledger.in_place", "if last and change.hold_after is not None:", "if False:"),
        "undo-puts-back-and-holds",
    ),
    # ------------------------------------------------------------------------- recovery
    rule(
        "A run begins with healing what was interrupted.",
        Name("syncd.engine.run:recover", nothing),
        "dies-after-sending",
    ),
    rule(
        "An intent whose target is in place is done.",
        Line(f"{RECOVER}:_Healer._told", "if found == change.after:", "if False:"),
        "dies-after-sending",
    ),
    rule(
        "An intent whose order shows something else is held as uncertain.",
        Line(f"{RECOVER}:_Healer._told", "if found == change.before:", "if True:"),
        "something-else-after-a-lost-answer",
    ),
    rule(
        "An intent that had no effect is closed.",
        Line(f"{RECOVER}:_Healer._told", "Outcome.SKIPPED", "Outcome.INTENDED"),
        "an-intent-that-was-not-sent-is-closed",
    ),
    rule(
        "A run whose process died is closed by the next one.",
        Line(f"{RECOVER}:recover", 'if row.state == "running" and row.id != run:', "if False:"),
        "dies-after-sending",
    ),
    rule(
        "An interrupted request is waited for until it cannot be alive.",
        Line(f"{RECOVER}:_outlive", "await held.wait(link.request_life)", "pass"),
        "dies-with-a-late-request",
        "a-clock-set-forward-shortens-no-wait",
    ),
    rule(
        "Nothing but a target in place is believed before.",
        Line(f"{RECOVER}:_Healer.decide", "if final or found == intent.change.after:", "if True:"),
        "dies-with-a-late-request",
    ),
    rule(
        "No request of before a rebase is alive after it.",
        Line(f"{RECOVER}:give_up", "await _outlive(link, held)", "pass"),
        "rebase-waits-for-a-late-request",
    ),
    rule(
        "What the request of a dead process overwrote is held.",
        Line(f"{RECOVER}:_Healer._told", "self._strange.get(intent.id, change.before)", "change.before"),
        "dies-with-a-late-request-after-somebody-else",
    ),
    rule(
        "Of a decision cut off between two writes nothing is agreed.",
        Line(f"{RECOVER}:_Healer._arrived", "both = change.reason in", "both = False and"),
        "a-decision-cut-off-is-finished",
    ),
    rule(
        "An undo that was interrupted holds its orders all the same.",
        Line(f"{RECOVER}:_Healer._arrived", "if change.hold_after is None:", "if True:"),
        "an-undo-cut-off-holds-its-orders",
    ),
    rule(
        "Rows that cannot be read are not the removal that was interrupted.",
        Line(f"{SIDES}:TableWriter.read", "UNLIKE if value.unreadable is not None else value.owner", "value.owner"),
        "rows-that-cannot-be-read-are-no-removal-that-arrived",
    ),
]
