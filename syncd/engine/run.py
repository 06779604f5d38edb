"""One open run: the steps of a pass, from the healed journal to the closed record.

`reconcile` says in which order each kind of run takes them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace

import structlog

from syncd.core import guards
from syncd.core.model import Change, Hold, Outcome
from syncd.core.plan import Plan, digest
from syncd.core.records import FINGERPRINT, BindingUpdate, ChangeOutcome, GuardHit, RunRow, StoredHold
from syncd.engine.apply import Applier
from syncd.engine.ledger import Entry, Ledger
from syncd.engine.link import Link, Tenure, tenure
from syncd.engine.observe import Observation, observe
from syncd.engine.recover import recover
from syncd.engine.report import LEFTOVERS, Report
from syncd.engine.verify import Draft, unlike_absent
from syncd.errors import IncompleteListing, LeaseLost, StalePlan, SyncdError, UsageError

log = structlog.get_logger("syncd.engine")

DAY = 86400.0
CONFIRM = 500


@dataclass(slots=True)
class Run:
    """One open run: the steps of a pass, in the order they are taken."""

    link: Link
    held: Tenure
    row: RunRow
    report: Report
    shown_holds: list[Hold] | None = None

    def show_holds(self, seen: Observation, draft: Draft) -> None:
        """Report the holds this run found rather than those that are open: it keeps none of them."""
        self.shown_holds = [self._dated(draft.holds[order], seen) for order in sorted(draft.holds)]

    def _dated(self, hold: Hold, seen: Observation) -> Hold:
        before = seen.open_holds.get(hold.order_id)
        known = before is not None and before.hold.kind is hold.kind
        return replace(hold, since=before.hold.since if before is not None and known else self.link.clock.now())

    async def same_ends(self) -> bool:
        """Refuse the run if the configuration points elsewhere than the agreed state was made for."""
        if self.held.row.fingerprint == self.link.fingerprint:
            return True
        self.row.state = "refused"
        self.row.guards = [GuardHit(FINGERPRINT, None, 0, 1)]
        changed = ", ".join(self.link.changed_ends(self.held.row.fingerprint)) or "its ends"
        self.row.error = (
            "The configuration of this link points elsewhere than its agreed state was made for "
            f"(different: {changed}); nothing was read or written."
        )
        return False

    @asynccontextmanager
    async def observed(self, watched: Sequence[int] = ()) -> AsyncIterator[Observation]:
        """Heal what was interrupted, then read everything."""
        await recover(self.link, self.held, self.row.id)
        seen = await observe(self.link, self.held, watched=watched)
        try:
            yield seen
        finally:
            seen.close()

    async def plan(self, seen: Observation, draft: Draft) -> Plan:
        """Make the plan of a draft, and ask the guards."""
        made = Plan(
            changes=sorted(draft.changes, key=lambda change: (change.order_id, str(change.side))),
            holds=[draft.holds[order] for order in sorted(draft.holds)],
            counts=seen.counts,
            # A first sync that was cut off goes on as one: what it agreed on so far says little about the rest.
            first_sync=seen.counts.agreed == 0 or not await self.link.store.completed(self.held.row.id),
        )
        made.count()
        removed = await self.link.store.removed_since(self.held.row.id, self.link.clock.now() - DAY)
        made.guards = guards.evaluate(made.counts, self.link.limits, removed, first_sync=made.first_sync)
        self.row.digest = digest(made.changes)
        self.row.first_sync = made.first_sync
        self.row.counts = made.counts
        self.row.guards = made.guards
        return made

    async def store(self, plan_: Plan, draft: Draft) -> list[Entry]:
        """Keep the plan, with the changes that wait; from here on it can be shown, and applied."""
        self.row.guards = plan_.guards
        lease = await self.held.prove()
        run, now = self.row.id, self.link.clock.now()
        waiting = [change for change, _why in draft.waiting]
        ids = await self.link.store.save_plan(lease, run, [*plan_.changes, *waiting])
        entries = [Entry(id_, change) for id_, change in zip(ids, plan_.changes, strict=False)]
        late = zip(ids[len(plan_.changes) :], draft.waiting, strict=True)
        outcomes = [ChangeOutcome(id_, Outcome.SKIPPED, why) for id_, (_change, why) in late]
        if outcomes:
            await self.link.store.record(lease, run, outcomes, now=now)
        return entries

    def refuse(self, plan_: Plan, standing: int | None = None) -> None:
        """Say which guards refuse the plan; `standing` is an earlier run whose stored plan is as good as this one."""
        self.row.state = "refused"
        self.row.error = "; ".join(guards.sentence(hit, plan_.counts) for hit in plan_.guards)
        if standing is not None:
            self.row.source = standing
            log.info("plan still refused", plan=standing, guards=[hit.name for hit in plan_.guards])
            return
        log.warning("plan refused", guards=[hit.name for hit in plan_.guards], reason=self.row.error)

    async def record_observation(self, seen: Observation, draft: Draft) -> None:
        """Keep what was read: the CRM as listed, what both sides agree on, and the holds."""
        link, run = self.link, self.row.id
        for chunk in seen.observed.chunks():
            await link.store.observed(await self.held.prove(), run, chunk)
        moved: set[int] = set()
        for pairs in seen.agreements.chunks():
            kept = await self._confirmed(pairs, draft)
            await link.store.agree(await self.held.prove(), run, kept)
            moved.update({change.order_id for change, _ in pairs}.difference(change.order_id for change, _ in kept))
        now = link.clock.now()
        opened = []
        for order, hold in draft.holds.items():
            before = seen.open_holds.get(order)
            if (
                before is None
                or before.hold.kind is not hold.kind
                or before.hold.facts != hold.facts
                or before.decision
            ):
                since = before.hold.since if before is not None and before.hold.kind is hold.kind else now
                opened.append(StoredHold(replace(hold, since=since), sticky=order in draft.sticky, run=run))
            elif before.hold.detail != hold.detail:
                opened.append(replace(before, hold=replace(hold, since=before.hold.since)))
        for one in opened:
            hold = one.hold
            log.warning("order held", order=hold.order_id, kind=hold.kind.value, detail=hold.detail)
        # What was not agreed after all ends no hold: an uncertain order would be taken for one that never was.
        released = [order for order in seen.released if order not in draft.holds and order not in moved]
        for order in released:
            log.info("hold released", order=order, reason="facts changed")
        if opened or released:
            await link.store.set_holds(await self.held.prove(), run, opened=opened, released=released, now=now)

    async def _confirmed(
        self, pairs: Sequence[tuple[Change, BindingUpdate]], draft: Draft
    ) -> list[tuple[Change, BindingUpdate]]:
        """Leave out orders that have moved since they were read.

        The table was read before the portal; an order is agreed only if the table still says so after the listing, so
        that there was a moment when both sides had the value. One that seems unbound on both is asked for by id.
        """
        kept: list[tuple[Change, BindingUpdate]] = []
        for start in range(0, len(pairs), CONFIRM):
            part = pairs[start : start + CONFIRM]
            there = await self.link.table.read([change.order_id for change, _ in part])
            gone = [change.order_id for change, _ in part if change.agreed_after is None]
            bound = await self.link.portal.read(gone) if gone else {}
            for change, update in part:
                value = there.get(change.order_id)
                absent = change.facts.table is None
                if change.order_id in bound or (absent and value is not None and unlike_absent(draft, change, value)):
                    continue
                if (value.owner if value is not None else None) == change.facts.table:
                    kept.append((change, update))
        return kept

    async def apply(self, entries: Sequence[Entry], seen: Observation) -> None:
        """Carry out the changes, then close the holds that were decided."""
        link = self.link
        ledger = Ledger(link, self.held, self.row.id, entries)
        try:
            await Applier(link, self.held, ledger).run(entries)
        finally:
            undone = ledger.holds.keys() | {entry.change.order_id for entry in entries if not ledger.carried_out(entry)}
            decided = seen.decided & {entry.change.order_id for entry in entries}
            carried_out = decided - undone
            if carried_out:
                with suppress(LeaseLost):
                    await link.store.set_holds(
                        self.held.lease, self.row.id, opened=(), released=sorted(carried_out), now=link.clock.now()
                    )
        self.row.state = "applied"


@asynccontextmanager
async def open_run(link: Link, kind: str, origin: str, source: int | None = None) -> AsyncIterator[Run]:
    """Hold the lease, open a run, and close it with whatever it came to."""
    async with tenure(link) as held:
        started = link.clock.now()
        number = await link.store.start_run(held.lease, kind, origin, started, source)
        row = RunRow(number, link.name, held.row.id, kind, "running", origin, source, started_at=started)
        run = Run(link, held, row, Report(row))
        usage = link.portal.usage()
        with structlog.contextvars.bound_contextvars(link=link.name, run_id=number):
            log.info("run started", kind=kind, origin=origin)
            try:
                yield run
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
                # Cut off by a second signal is no fault of the link's, and is made up for like after a crash.
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
    row.finished_at = link.clock.now()
    report.changes = await link.store.changes(row.id)
    open_holds = await link.store.holds(run.held.row.id)
    report.holds = [one.hold for one in open_holds] if run.shown_holds is None else run.shown_holds
    row.counts.holds = len(report.holds)
    written = any(change.outcome in {Outcome.APPLIED, Outcome.ALREADY} for change in report.changes)
    left = any(change.outcome in LEFTOVERS for change in report.changes)
    if (row.state == "applied" and left) or (row.state == "failed" and written):
        row.state = "partial"
    with suppress(LeaseLost):
        await link.store.finish_run(run.held.lease, row)
    log.info(
        "run finished",
        state=row.state,
        in_step=row.counts.in_step,
        changes=len(report.changes),
        holds=len(report.holds),
        requests=row.requests,
        **({"error": row.error} if row.error else {}),
    )
