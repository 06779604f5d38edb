"""One open run: the steps of a pass, from the healed journal to the closed record.

`reconcile` says in which order each kind of run takes them.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field, replace

import structlog

from syncd.core import guards
from syncd.core.model import Change, Hold, Outcome, Side
from syncd.core.plan import Plan
from syncd.core.records import (
    FINGERPRINT,
    ChangeOutcome,
    GuardHit,
    LastDay,
    RunRow,
    StoredChange,
)
from syncd.engine import state_check
from syncd.engine.apply import appliers
from syncd.engine.covering import Covering, Portion, covering, empty_sides
from syncd.engine.link import HeldLease, Link, hold_lease
from syncd.engine.observation_record import record_observation
from syncd.engine.observe import Observation, observe
from syncd.engine.outcomes import OutcomeRecorder
from syncd.engine.plan_draft import PlanDraft
from syncd.engine.recover import recover
from syncd.engine.report import LEFTOVERS, REPORTED, Report
from syncd.engine.second_look import SecondLook, waits_since
from syncd.engine.state_check import StateAge
from syncd.engine.stored_plans import OnHold, WantedChanges, load_changes, refused_plan
from syncd.engine.verify import verify
from syncd.engine.write_queue import PlannedWrites
from syncd.errors import IncompleteListing, LeaseLost, StalePlan, SyncdError, UsageError
from syncd.spill import SpillList

log = structlog.get_logger("syncd.engine")

DAY = 86400.0
UNASKED = frozenset({"recent", "hint"})
"""Origins of passes that the daemon makes between those of the schedule."""


@dataclass(slots=True)
class Run:
    """One open run: the steps of a pass, in the order they are taken."""

    link: Link
    lease: HeldLease
    row: RunRow
    report: Report
    shown_holds: list[Hold] | None = None
    covering: Covering = field(default_factory=Covering)
    unproved: str = ""
    left_trace: bool = True
    day: LastDay = guards.NOTHING_LATELY
    state_age: StateAge = field(init=False)

    def __post_init__(self) -> None:
        self.state_age = StateAge(self.link, self.lease, self.row)

    async def cover(self, portion: Portion | None) -> bool:
        """Settle which orders this run reads; return False, and end it well, where none of them is in the link's range.

        A hint, or a request for a pass, may name any order.
        """
        self.covering = await covering(self.link, self.lease.row, portion)
        self.row.covers, self.row.part = self.covering.covers, self.covering.part
        if self.covering.outside:
            self.row.state, self.left_trace = "applied", False
        return not self.covering.outside

    def cover_as(self, stored: RunRow) -> None:
        """Read the orders that a stored run covers; an undo covers all."""
        self.row.covers, self.row.part = stored.covers, stored.part

    def show_holds(self, seen: Observation, draft: PlanDraft) -> None:
        """Report the holds this run found rather than those that are open: it keeps none of them."""
        self.shown_holds = [self._dated(draft.holds[order], seen) for order in sorted(draft.holds)]

    def _dated(self, hold: Hold, seen: Observation) -> Hold:
        before = seen.open_holds.get(hold.order_id)
        if before is not None and before.hold.kind is hold.kind:
            return replace(hold, since=before.hold.since)
        return replace(hold, since=self.link.clock.now())

    async def fingerprint_matches(self) -> bool:
        """Refuse the run if the configuration points elsewhere than the agreed state was made for."""
        if self.lease.row.fingerprint == self.link.fingerprint:
            same, changed = await state_check.is_known_portal(self.link, self.lease), ["portal"]
        else:
            same, changed = await state_check.was_renamed(self.link, self.lease), self.changed_ends()
        if same:
            return True
        self.row.error = (
            "The configuration of this link points elsewhere than its agreed state was made for "
            f"(different: {', '.join(changed)}); nothing was read or written."
        )
        if changed == ["portal"]:
            name = self.link.name
            self.row.error += f" If it is the same portal at a new address: `syncd rebase {name} --same-portal`."
        self.points_elsewhere()
        return False

    def changed_ends(self) -> list[str]:
        """Name what the configuration says otherwise than when the agreed state was made."""
        return list(self.link.changed_ends(self.lease.row.fingerprint)) or ["its ends"]

    def points_elsewhere(self) -> None:
        """The run is refused, since the agreed state belongs to other ends."""
        self.row.state = "refused"
        self.row.guards = [GuardHit(FINGERPRINT, None, 0, 1)]

    @asynccontextmanager
    async def wanted(
        self, source: int, choose: Callable[[Iterable[StoredChange]], Iterable[Change]], on_hold: OnHold
    ) -> AsyncIterator[WantedChanges]:
        """Heal what was interrupted, then yield what a person asks for.

        Args:
            source: The run that was named.
            choose: Makes of its changes those that are wanted, ascending by order id.
            on_hold: What becomes of those whose orders are held.
        """
        await recover(self.link, self.lease, self.row.id)
        stored = await load_changes(self.link.store, source)
        changes = WantedChanges(choose(stored), self.link.policy, on_hold=on_hold)
        with closing(stored), closing(changes) as wanted:
            yield wanted

    @asynccontextmanager
    async def observed(self, wanted: WantedChanges | None = None) -> AsyncIterator[Observation]:
        """Heal what was interrupted, unless `wanted` did; then read everything, and compare it with what is wanted."""
        if wanted is None:
            await recover(self.link, self.lease, self.row.id)
        seen = await observe(self.link, self.lease, wanted, self.row.covers)
        self.row.covers = seen.covers
        self.unproved = " ".join(seen.unproved.values())
        try:
            yield seen
        finally:
            seen.close()

    @asynccontextmanager
    async def verified(
        self, seen: Observation, changes: SpillList[Change], *, approved: bool = False
    ) -> AsyncIterator[PlanDraft]:
        """Look a second time at everything that would be destroyed or bound, and yield the draft that is left."""
        store, now = self.link.store, self.link.clock.now()
        self.day = await store.last_day(self.lease.row.id, now - DAY, self._in_parts_since())
        reverted = self.day.reverted
        with closing(await verify(self.link, self.lease, seen, changes, reverted=reverted, approved=approved)) as draft:
            yield draft

    async def plan(self, seen: Observation, draft: PlanDraft) -> Plan:
        """Make the plan of a draft, and ask the guards."""
        counts = replace(
            seen.counts, crm=draft.counts[Side.CRM], table=draft.counts[Side.TABLE], holds=len(draft.holds)
        )
        store, link_id = self.link.store, self.lease.row.id
        empty: set[Side] = set()
        if self.row.covers is not None and (len(draft.changes) or not counts.agreed):
            counts.whole = await store.agreed_count(link_id)
            if len(draft.changes):
                empty = await empty_sides(self.link, link_id, seen, self.covering.unsettled)
        # A first sync that was cut off goes on as one: what it agreed on so far says little about the rest.
        first_sync = counts.agreed_of_link == 0 or not await store.completed(link_id)
        hits = guards.evaluate(counts, self.link.limits, self.day, first_sync=first_sync, empty=empty)
        made = Plan(counts, hits, first_sync, draft.digest.hexdigest())
        self.row.digest = made.digest
        self.row.first_sync = made.first_sync
        self.row.counts = made.counts
        self.row.guards = made.guards
        return made

    def _in_parts_since(self) -> float:
        """Return when the order was covered that has waited longest for it: what was written since may be parts of one.

        Any event since then that several passes carried out in parts is counted whole: the pass that carries out a part
        covers orders that were not covered since the event.
        """
        now, coverage = self.link.clock.now(), self.lease.row.coverage
        if coverage is not None and now - DAY < coverage.stalest <= now:
            return coverage.stalest
        return now - DAY

    async def guard_state(self, draft: PlanDraft) -> list[GuardHit]:
        """Return the refusal of a plan that would write, made with a state that knows less than was noted outside."""
        hits = await self.state_age.check()
        return hits if len(draft.changes) else []

    async def second_look(self, draft: PlanDraft, *, noting: bool) -> SecondLook:
        """Compare the plan's absences with those noted before; a pass notes its own (`noting`)."""
        in_parts = Counter({side.other: parts.remove for side, parts in self.day.in_parts.items()})
        now, row = self.link.clock.now(), self.row
        look = SecondLook(self.link, self.lease, noting, now, row.started_at, row.covers, in_parts)
        await look.begin(draft.absent, draft.absent_removes())
        return look

    async def store(self, plan_: Plan, draft: PlanDraft, look: SecondLook | None = None) -> PlannedWrites:
        """Keep the plan, with the changes that wait or are skipped; from here on it can be shown, and applied.

        Args:
            plan_: The plan.
            draft: Its changes.
            look: Says which of them wait. Without it none does: the plan is refused, or a person named it.

        Returns:
            The writes to be made now.
        """
        self.row.guards = plan_.guards
        writes, now = PlannedWrites(), self.link.clock.now()
        for chunk in draft.changes.chunks():
            waits = {} if look is None else await look.judge([one.change for one in chunk if one.absent])
            changes = [one.change for one in chunk]
            ids = await self.link.store.save_plan(await self.lease.prove(), self.row.id, changes)
            pairs = list(zip(ids, changes, strict=True))
            writes.add((id_, change) for id_, change in pairs if change.order_id not in waits)
            outcomes = [
                ChangeOutcome(id_, Outcome.WAITING, waits_since(change, waits[change.order_id]))
                for id_, change in pairs
                if change.order_id in waits
            ]
            await self._record(outcomes, now)
            plan_.counts.waiting += len(outcomes)
        for skipped in draft.skipped.chunks():
            changes = [change for change, _why in skipped]
            ids = await self.link.store.save_plan(await self.lease.prove(), self.row.id, changes)
            late = zip(ids, skipped, strict=True)
            await self._record([ChangeOutcome(id_, Outcome.SKIPPED, why) for id_, (_change, why) in late], now)
        return writes

    async def _record(self, outcomes: Sequence[ChangeOutcome], now: float) -> None:
        if outcomes:
            await self.link.store.record(await self.lease.prove(), self.row.id, outcomes, now=now)

    async def refuse(self, plan_: Plan, draft: PlanDraft, look: SecondLook) -> None:
        """Store a plan that guards refuse, once: one that is stored already is kept if it stands for this one."""
        for chunk in draft.absent_removes():
            await look.keep(chunk)
        stored = await refused_plan(self.link, self.lease.row.id, self.row.covers)
        if stored is not None and stored.stands_for(plan_.guards, self.link):
            self.report_refused(plan_, standing=stored.plan.id)
            return
        (await self.store(plan_, draft)).close()
        self.report_refused(plan_)

    def report_refused(self, plan_: Plan, standing: int | None = None) -> None:
        """Say which guards refuse the plan; `standing` is an earlier run whose stored plan may be applied instead."""
        self.row.state = "refused"
        self.row.error = "; ".join(
            self.state_age.why if hit.name == guards.STATE_OLDER else guards.sentence(hit, plan_.counts)
            for hit in plan_.guards
        )
        if standing is not None:
            self.row.source = standing
            self.row.guards = plan_.guards
            log.info("plan still refused", plan=standing, guards=[hit.name for hit in plan_.guards])
            return
        log.warning("plan refused", guards=[hit.name for hit in plan_.guards], reason=self.row.error)

    def report_unproved(self) -> None:
        """Name the ranges that could not be proved complete, and that this run has left alone."""
        if self.unproved and self.report.error is None:
            self.report.error = IncompleteListing(
                self.unproved, hint="The next pass over these orders lists them again."
            )
            self.row.error = "; ".join(filter(None, [self.row.error, self.unproved]))
            if self.row.state == "applied":
                self.row.state = "partial"

    async def keep_coverage(self) -> None:
        """Keep when each part of the link was covered last, after a pass."""
        row, error = self.row, self.report.error
        if row.kind != "pass":
            return
        done = row.state in {"applied", "partial"} and (error is None or isinstance(error, IncompleteListing))
        scope = self.link.policy.scope.orders
        after = self.covering.after(row, scope, done=done)
        if self.unproved:
            after = after and after.attempted(self.covering.covers, row.started_at)
        if after is not None and after != self.lease.row.coverage:
            await self.link.store.set_coverage(self.lease.current, after)

    async def record_observation(self, seen: Observation, draft: PlanDraft) -> None:
        """Keep what was read: the CRM as listed, what both sides agree on, and the holds."""
        self.left_trace = await record_observation(self.link, self.lease, self.state_age, seen, draft)

    async def apply(self, planned: PlannedWrites, seen: Observation) -> None:
        """Carry out the changes, then close the holds of decided orders whose changes are in place."""
        link = self.link
        if len(planned):
            await self.state_age.note_once()
            # The guards of a day measure against what a run found, also where its process dies while it writes.
            await link.store.finish_run(await self.lease.prove(), self.row)
        recorder = OutcomeRecorder(link, self.lease, self.row.id, planned, seen.decided)
        try:
            await recorder.open()
            for side in appliers(link, self.lease, recorder, planned, run=self.row.id, observed_at=seen.began_at):
                await side.run()
        finally:
            released = sorted(recorder.carried_out)
            if released:
                with suppress(LeaseLost):
                    await link.store.set_holds(
                        self.lease.current, self.row.id, opened=(), released=released, now=link.clock.now()
                    )
            planned.close()
        self.row.state = "applied"


@asynccontextmanager
async def open_run(link: Link, kind: str, origin: str, source: int | None = None) -> AsyncIterator[Run]:
    """Hold the lease, open a run, and close it with whatever it came to."""
    async with hold_lease(link) as lease:
        started = link.clock.now()
        number = await link.store.start_run(lease.current, kind, origin, started, source)
        row = RunRow(number, link.name, lease.row.id, kind, "running", origin, source, started_at=started)
        run = Run(link, lease, row, Report(row))
        usage = link.portal.usage()
        with structlog.contextvars.bound_contextvars(link=link.name, run_id=number):
            (log.debug if origin in UNASKED else log.info)("run started", kind=kind, origin=origin)
            try:
                yield run
                run.report_unproved()
            except (StalePlan, UsageError) as error:
                row.state, row.error = "failed", error.message
                await _finish(run, usage.requests, usage.calls, usage.listing_seconds)
                raise
            except SyncdError as error:
                run.report.error = error
                row.error = error.message
                row.state = "incomplete" if isinstance(error, IncompleteListing) else "failed"
                log.warning("run failed", error=error.message)
            except BaseException as error:
                # A run cut off by a second signal is not the link's fault; the next pass recovers, as after a crash.
                cut_off = isinstance(error, asyncio.CancelledError)
                row.state, row.error = "failed", "interrupted" if cut_off else "unexpected error"
                with suppress(Exception):
                    await _finish(run, usage.requests, usage.calls, usage.listing_seconds)
                raise
            await _finish(run, usage.requests, usage.calls, usage.listing_seconds)


async def _finish(run: Run, requests: int, calls: int, listing_seconds: float) -> None:
    """Write the run's final row, and fill the report from the record."""
    link, row, report = run.link, run.row, run.report
    used = link.portal.usage()
    row.requests = used.requests - requests
    row.calls = used.calls - calls
    row.seconds = used.listing_seconds - listing_seconds
    row.operating = used.operating
    row.conditional = used.conditional
    row.finished_at = link.clock.now()
    report.changes = await link.store.changes(row.id, limit=REPORTED)
    report.tally = await link.store.tally(row.id)
    open_holds = await link.store.holds(run.lease.row.id)
    report.holds = [one.hold for one in open_holds] if run.shown_holds is None else run.shown_holds
    row.counts.holds = len(report.holds)
    if link.order_keys is not None:
        orders = {hold.order_id for hold in report.holds} | {one.change.order_id for one in report.changes}
        report.keys = {one.order_id: one.key for one in await link.store.order_keys(run.lease.row.id, sorted(orders))}
    written = report.outcomes.keys() & {Outcome.APPLIED, Outcome.ALREADY}
    left = report.outcomes.keys() & LEFTOVERS
    if (row.state == "applied" and left) or (row.state == "failed" and written):
        row.state = "partial"
    with suppress(LeaseLost):
        await run.keep_coverage()
        if row.origin in UNASKED and row.state == "applied" and not (row.error or report.tally or run.left_trace):
            # Passes every few seconds that found nothing to do leave no row; the coverage says when they were made.
            await link.store.drop_run(run.lease.current, row.id)
            return
        await link.store.finish_run(run.lease.current, row)
        if run.state_age.noted:
            await run.state_age.note()
    log.info(
        "run finished",
        state=row.state,
        in_step=row.counts.in_step,
        changes=sum(report.outcomes.values()),
        holds=len(report.holds),
        requests=row.requests,
        **({"error": row.error} if row.error else {}),
    )
