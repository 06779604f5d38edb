"""What is recorded of a write, by what its side says became of it: the audit, the agreed state, holds, failures."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest

from syncd.core.model import Change, Facts, Hold, HoldKind, MaybeOwner, Outcome, Reason, Side
from syncd.core.pacing import MAX_ATTEMPTS, order_pause
from syncd.core.policy import make_change
from syncd.core.ports import Effect, WriteResult
from syncd.core.records import Attempt, StoredChange, StoredHold
from syncd.core.silent_writes import NOT_A_BINDING, Reading
from syncd.engine.link import hold_lease
from syncd.engine.outcomes import OutcomeRecorder
from syncd.engine.write_queue import PendingWrite, PlannedWrites
from tests.simulation.world import World
from tests.unit.engine.given import deal, in_step

pytestmark = pytest.mark.anyio

OLD, NEW, OTHER = deal(10), deal(20), deal(30)
MOVED_IN_TABLE = Facts(OLD, NEW, OLD)
MOVE = make_change(5, Side.CRM, MOVED_IN_TABLE, NEW, Reason.TABLE_CHANGED)
MOVE_BACK = make_change(5, Side.TABLE, MOVED_IN_TABLE, OLD, Reason.TABLE_CHANGED)


@dataclass
class Recording:
    """An open run with its planned writes."""

    world: World
    run: int
    recorder: OutcomeRecorder
    writes: list[PendingWrite]
    progress: list[tuple[str, int, int | None]] = field(default_factory=list)

    async def audit(self) -> list[StoredChange]:
        await self.recorder.commit()
        return await self.world.store.changes(self.run)

    async def one(self) -> StoredChange:
        (stored,) = await self.audit()
        return stored

    async def hold(self) -> Hold:
        await self.recorder.commit()
        (stored,) = await self.holds()
        assert (stored.sticky, stored.run, stored.hold.since) == (True, self.run, self.world.clock.now())
        return stored.hold

    async def holds(self) -> list[StoredHold]:
        return await self.world.store.holds(1)

    async def binding(self) -> tuple[MaybeOwner, MaybeOwner]:
        """What the CRM showed of order 5 last, and what is agreed."""
        await self.recorder.commit()
        (row,) = await self.world.store.bindings_of(1, (5,))
        return row.listed, row.agreed


@asynccontextmanager
async def recording(
    *changes: Change, heals: bool = False, decided: Sequence[int] = (), failures: int = 0
) -> AsyncIterator[Recording]:
    world = await in_step({5: 10})
    link = world.link()
    async with hold_lease(link) as lease:
        if failures:
            await link.store.record(
                lease.current, 1, [], now=0, attempts=[Attempt(5, failures, link.clock.now() - 1, "busy")]
            )
        run = await link.store.start_run(lease.current, "pass", "command", link.clock.now(), None)
        ids = await link.store.save_plan(lease.current, run, list(changes or (MOVE,)))
        planned = PlannedWrites()
        planned.add(zip(ids, changes or (MOVE,), strict=True))
        recorder = OutcomeRecorder(link, lease, run, None if heals else planned, decided)
        await recorder.open()
        writes = [PendingWrite(id_, change, run) for side in Side for id_, change in planned.of(side)]
        made = Recording(world, run, recorder, sorted(writes, key=lambda one: one.id))
        link.progress = lambda stage, done, expected: made.progress.append((stage, done, expected))
        yield made
        planned.close()


# ------------------------------------------------------------------------- what a side says


@pytest.mark.parametrize(
    ("result", "outcome", "error", "found"),
    [
        (WriteResult(5, Effect.DONE), Outcome.APPLIED, "", ()),
        (WriteResult(5, Effect.DONE, OLD, found_known=True), Outcome.APPLIED, "", (OLD,)),
        (WriteResult(5, Effect.DONE, NEW, found_known=True), Outcome.APPLIED, "", (NEW,)),
        (WriteResult(5, Effect.DONE, OTHER, found_known=True), Outcome.APPLIED, "", (OTHER,)),
        (WriteResult(5, Effect.ALREADY, NEW, found_known=True), Outcome.ALREADY, "", ()),
        (
            WriteResult(5, Effect.MOVED, OTHER, found_known=True),
            Outcome.SKIPPED,
            "skipped: deal 30 is there now; the next run looks again",
            (OTHER,),
        ),
        (
            WriteResult(5, Effect.MOVED, None, found_known=True),
            Outcome.SKIPPED,
            "skipped: it is unbound now; the next run looks again",
            (None,),
        ),
        (
            WriteResult(5, Effect.MOVED),
            Outcome.SKIPPED,
            "skipped: something else is there now; the next run looks again",
            (),
        ),
        (WriteResult(5, Effect.REFUSED, code="ERROR", text="No."), Outcome.FAILED, "ERROR No.", ()),
        (WriteResult(5, Effect.REFUSED), Outcome.FAILED, "the side did not execute it", ()),
    ],
)
async def test_given_what_a_side_says_then_the_audit_has_it_and_what_was_there(
    result: WriteResult, outcome: Outcome, error: str, found: tuple[MaybeOwner, ...]
) -> None:
    async with recording() as made:
        made.recorder.answered(made.writes[0], result)
        stored = await made.one()
        assert (stored.outcome, stored.error) == (outcome, error)
        assert (stored.found_known, stored.found) == (bool(found), found[0] if found else None)


@pytest.mark.parametrize(
    ("found", "says", "known"),
    [
        (OTHER, "deal 30 is there now", True),
        (None, "it is unbound now", True),
        (NOT_A_BINDING, "something else is there now", False),
    ],
)
async def test_given_an_order_that_was_read_and_moved_then_the_audit_has_what_is_there(
    found: Reading, says: str, known: bool
) -> None:
    async with recording() as made:
        made.recorder.moved(made.writes[0], found)
        stored = await made.one()
        assert (stored.outcome, stored.error) == (
            Outcome.SKIPPED,
            f"skipped: {says}; the next run looks again",
        )
        assert (stored.found, stored.found_known) == (found if known else None, known)


@pytest.mark.parametrize(
    ("change", "found", "says"),
    [
        (MOVE, OTHER, "the table now says deal 30"),
        (MOVE, None, "the table now says unbound"),
        (MOVE_BACK, NOT_A_BINDING, "the CRM now says something else"),
    ],
)
async def test_given_a_source_that_has_changed_then_the_audit_says_what_it_says_now(
    change: Change, found: Reading, says: str
) -> None:
    async with recording(change) as made:
        made.recorder.lost_its_reason(made.writes[0], found)
        stored = await made.one()
        assert (stored.outcome, stored.error) == (Outcome.SKIPPED, f"skipped: {says}; the next run looks again")


@pytest.mark.parametrize(("sends", "tail"), [(1, ""), (2, "; sent 2 times")])
async def test_given_a_write_that_was_sent_more_than_once_then_the_audit_says_so(sends: int, tail: str) -> None:
    async with recording() as made:
        made.writes[0].sends = sends
        made.recorder.skipped(made.writes[0], "skipped")
        assert (await made.one()).error == f"skipped{tail}"


async def test_given_nothing_else_to_say_then_how_often_it_was_sent_stands_alone() -> None:
    async with recording() as made:
        made.writes[0].sends = 3
        made.recorder.in_place(made.writes[0], Outcome.APPLIED)
        assert (await made.one()).error == "sent 3 times"


# ------------------------------------------------------------------------------- agreement


async def test_given_a_write_in_place_then_both_sides_agree_and_the_crm_shows_it() -> None:
    async with recording() as made:
        made.recorder.in_place(made.writes[0], Outcome.APPLIED)
        assert await made.binding() == (NEW, NEW)


async def test_given_a_row_in_place_then_the_crm_shows_what_it_showed() -> None:
    change = make_change(5, Side.TABLE, Facts(NEW, OLD, OLD), NEW, Reason.CRM_CHANGED)
    async with recording(change) as made:
        made.recorder.in_place(made.writes[0], Outcome.APPLIED)
        assert await made.binding() == (NEW, NEW)


async def test_given_a_decision_for_both_sides_then_it_is_agreed_and_carried_out_with_the_second_write() -> None:
    facts = Facts(NEW, OTHER, OLD)
    changes = [make_change(5, side, facts, deal(40), Reason.RESOLVED_CRM) for side in (Side.TABLE, Side.CRM)]
    async with recording(*changes, decided=[5]) as made:
        first, second = made.writes
        made.recorder.in_place(first, Outcome.APPLIED)
        assert await made.binding() == (NEW, OLD)
        assert made.recorder.carried_out == set()
        made.recorder.in_place(second, Outcome.APPLIED)
        assert await made.binding() == (deal(40), deal(40))
        assert made.recorder.carried_out == {5}


@pytest.mark.parametrize(("reason", "agreed"), [(Reason.RESOLVED_TABLE, OLD), (Reason.TABLE_CHANGED, NEW)])
async def test_given_a_write_that_was_interrupted_then_a_decision_is_not_agreed_by_one_of_its_writes(
    reason: Reason, agreed: MaybeOwner
) -> None:
    async with recording(replace(MOVE, reason=reason), heals=True) as made:
        made.recorder.in_place(made.writes[0], Outcome.APPLIED)
        assert await made.binding() == (NEW, agreed)


# ----------------------------------------------------------------------------------- holds


async def test_given_an_undo_of_both_sides_then_its_order_is_held_as_both_are_left() -> None:
    facts = Facts(NEW, OTHER, OLD)
    undone = [
        replace(make_change(5, side, facts, after, Reason.UNDO), agreed_after=OLD, hold_after=HoldKind.EDIT_EDIT)
        for side, after in ((Side.TABLE, deal(41)), (Side.CRM, deal(42)))
    ]
    async with recording(*undone) as made:
        for write in made.writes:
            made.recorder.in_place(write, Outcome.APPLIED)
        hold = await made.hold()
        assert (hold.kind, hold.facts) == (HoldKind.EDIT_EDIT, Facts(deal(42), deal(41), OLD))


@pytest.mark.parametrize(
    ("facts", "found", "kind"),
    [
        (MOVED_IN_TABLE, OTHER, HoldKind.EDIT_EDIT),
        (MOVED_IN_TABLE, None, HoldKind.REMOVE_EDIT),
        (MOVED_IN_TABLE, NEW, HoldKind.EDIT_EDIT),
        (Facts(None, NEW, None), OTHER, HoldKind.CREATE_CREATE),
        (Facts(None, NEW, None), NEW, HoldKind.EDIT_EDIT),
    ],
)
async def test_given_a_write_that_replaced_what_somebody_wrote_then_that_is_held_and_ours_is_agreed(
    facts: Facts, found: MaybeOwner, kind: HoldKind
) -> None:
    async with recording(make_change(5, Side.CRM, facts, NEW, Reason.TABLE_CHANGED)) as made:
        made.recorder.overwrote(made.writes[0], found, "found in place")
        stored, hold = await made.one(), await made.hold()
        assert (stored.outcome, stored.error, stored.found, stored.found_known) == (
            Outcome.APPLIED,
            "found in place",
            found,
            True,
        )
        assert (hold.kind, hold.facts, hold.seen) == (kind, facts._replace(crm=found), Facts(NEW, NEW, NEW))
        assert await made.binding() == (NEW, NEW)
        assert made.recorder.carried_out == set()


@pytest.mark.parametrize(
    ("found", "shown", "tail"),
    [
        (OLD, OLD, "and somebody else wrote it in between"),
        (OTHER, OTHER, "and it showed neither the old nor the new owner then"),
        (NOT_A_BINDING, None, "and it showed neither the old nor the new owner then"),
    ],
)
async def test_given_a_write_nobody_can_tell_of_then_its_order_is_uncertain_and_shows_what_is_there(
    found: Reading, shown: MaybeOwner, tail: str
) -> None:
    async with recording() as made:
        made.recorder.uncertain(made.writes[0], found, "Its answer was lost")
        stored, hold = await made.one(), await made.hold()
        assert (stored.outcome, stored.error) == (Outcome.UNCERTAIN, f"its answer was lost, {tail}")
        assert hold.detail == f"Its answer was lost, {tail}: syncd cannot tell whether it was written."
        facts = MOVED_IN_TABLE._replace(crm=shown)
        assert (hold.kind, hold.facts, hold.seen) == (HoldKind.UNCERTAIN, facts, facts)


async def test_given_a_write_that_later_ones_of_its_request_overtook_then_its_order_is_uncertain() -> None:
    async with recording() as made:
        made.recorder.passed_over(made.writes[0], "Its answer was lost")
        stored, hold = await made.one(), await made.hold()
        tail = "its old owner is there although a later write of the same request arrived"
        assert (stored.outcome, stored.error) == (Outcome.UNCERTAIN, f"its answer was lost; {tail}")
        assert hold.detail.startswith(f"Its answer was lost; {tail}. ")
        assert (hold.kind, hold.facts, hold.seen) == (HoldKind.UNCERTAIN, MOVED_IN_TABLE, MOVED_IN_TABLE)


# -------------------------------------------------------------------------------- failures


async def test_given_an_order_the_portal_does_not_know_then_it_is_held_at_once() -> None:
    async with recording() as made:
        made.recorder.answered(made.writes[0], WriteResult(5, Effect.ORDER_MISSING, text="not found"))
        hold = await made.hold()
        assert (hold.kind, hold.facts) == (HoldKind.ORDER_MISSING, MOVED_IN_TABLE)
        assert (await made.one()).outcome is Outcome.FAILED


@pytest.mark.parametrize("before", [0, 1, MAX_ATTEMPTS - 2, MAX_ATTEMPTS - 1])
async def test_given_a_refusal_then_it_is_counted_with_a_pause_and_the_fifth_in_a_row_holds(before: int) -> None:
    async with recording(failures=before) as made:
        made.recorder.answered(made.writes[0], WriteResult(5, Effect.REFUSED, text="No."))
        await made.recorder.commit()
        now, failures = made.world.clock.now(), before + 1
        assert await made.world.store.attempts(1) == {5: Attempt(5, failures, now + order_pause(failures), "No.")}
        assert len(await made.holds()) == (failures == MAX_ATTEMPTS)


@pytest.mark.parametrize("before", [0, MAX_ATTEMPTS - 2, MAX_ATTEMPTS - 1])
async def test_given_requests_that_are_lost_then_the_fifth_holds_and_is_counted_anew(before: int) -> None:
    other = make_change(6, Side.CRM, Facts(OLD, NEW, OLD), NEW, Reason.TABLE_CHANGED)
    async with recording(MOVE, other, failures=before) as made:
        made.recorder.unanswered(made.writes[1])
        made.recorder.unanswered(made.writes[0])
        stored = await made.audit()
        kept = await made.world.store.attempts(1)
        assert {one.error for one in stored} == {"no request with this write was answered"}
        assert kept[6].failures == 1
        if before + 1 < MAX_ATTEMPTS:
            assert kept[5].failures == before + 1
            assert await made.holds() == []
        else:
            assert 5 not in kept
            assert (await made.hold()).kind is HoldKind.UNCERTAIN


async def test_given_an_order_that_failed_before_then_what_it_failed_for_is_known() -> None:
    async with recording(failures=2) as made:
        assert not made.recorder.was_unanswered(5)
        assert not made.recorder.was_unanswered(6)
        made.recorder.unanswered(made.writes[0])
        await made.recorder.commit()
        await made.recorder.open()
        assert made.recorder.was_unanswered(5)


async def test_given_a_success_then_earlier_failures_are_forgotten_and_a_skip_forgets_none() -> None:
    async with recording(failures=2) as made:
        made.recorder.skipped(made.writes[0], "skipped")
        await made.recorder.commit()
        assert 5 in await made.world.store.attempts(1)
        made.recorder.in_place(made.writes[0], Outcome.ALREADY)
        await made.recorder.commit()
        assert await made.world.store.attempts(1) == {}


# -------------------------------------------------------------------------------- progress


async def test_given_several_commits_then_the_progress_counts_all_that_is_done() -> None:
    other = make_change(6, Side.CRM, Facts(OLD, NEW, OLD), NEW, Reason.TABLE_CHANGED)
    async with recording(MOVE, other) as made:
        await made.recorder.commit()
        for write in made.writes:
            made.recorder.skipped(write, "skipped")
            await made.recorder.commit()
        assert made.progress == [("apply", 1, 2), ("apply", 2, 2)]
    async with recording(heals=True) as made:
        made.recorder.skipped(made.writes[0], "skipped")
        await made.recorder.commit()
        assert made.progress == [], "what an earlier run left is no part of this one"
