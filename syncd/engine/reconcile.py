"""The algorithm of syncd, in one sitting.

    observe -> diff -> verify -> guard -> store -> apply -> record

A pass reads both sides completely (`observe`), compares them with the last agreed state (`core.diff`), looks again at
whatever would be destroyed or bound (`verify`), and asks the guards (`core.guards`). The plan is stored before its
first write; then each batch goes into the journal, to its side, and into the record, in that order (`apply`). An
interruption at any point leaves a journal that the next pass heals (`recover`).

Everything here runs under the link's lease, and everything it decides is in `core`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace

import structlog

from syncd.core import guards
from syncd.core.model import Change, Hold, Outcome
from syncd.core.plan import Plan, digest, reverse
from syncd.core.records import BindingUpdate, ChangeOutcome, GuardHit, RunRow, StoredHold
from syncd.engine.apply import Applier, Entry
from syncd.engine.link import Link, Tenure, tenure
from syncd.engine.observe import Observation, observe
from syncd.engine.recover import recover
from syncd.engine.report import LEFTOVERS, Report
from syncd.engine.stored import check_applicable
from syncd.engine.verify import Draft, moved_since, unlike_absent, verify
from syncd.errors import IncompleteListing, LeaseLost, StalePlan, SyncdError, UsageError

log = structlog.get_logger("syncd.engine")

DAY = 86400.0
CONFIRM = 500


async def reconcile(link: Link, *, origin: str = "command") -> Report:
    """Bring both sides into step: one whole pass.

    Args:
        link: The link.
        origin: Who asked: command, schedule, trigger, signal.

    Returns:
        What the run came to. An error that ended the run is in the report, not raised.

    Raises:
        LeaseHeld: Another process works on this link; no run was opened.
    """
    async with _run(link, "pass", origin) as run:
        if not await run.same_ends():
            return run.report
        async with run.observed() as seen:
            draft = await verify(link, run.held, seen)
            plan = await run.plan(seen, draft)
            plan.guards += guards.first_sync(plan.counts, ask=link.ask_first_sync and plan.first_sync)
            entries = await run.store(plan, draft)
            if plan.guards:
                run.refuse(plan)
                run.show_holds(seen, draft)
                return run.report
            await run.record_observation(seen, draft)
            await run.apply(entries, seen)
    return run.report


async def plan(link: Link, *, origin: str = "command") -> Report:
    """Observe, diff, plan and guard; store the plan as a run that `apply` may carry out. Writes to neither side."""
    async with _run(link, "plan", origin) as run:
        if not await run.same_ends():
            return run.report
        async with run.observed() as seen:
            draft = await verify(link, run.held, seen)
            plan_ = await run.plan(seen, draft)
            await run.store(plan_, draft)
            run.row.state = "planned"
            if plan_.guards:
                run.refuse(plan_)
            run.show_holds(seen, draft)
    return run.report


async def apply(link: Link, source: int, *, origin: str = "command") -> Report:
    """Carry out stored plan `source`, exactly, once, within the link's `plan_ttl`.

    Both sides are read completely first. A change whose order is no longer as it was planned for is skipped, and says
    so. Naming the run is the approval, so the guards are not asked again.

    Raises:
        UsageError: There is no such run, or it belongs to another link.
        StalePlan: It is too old, spent, no plan at all, or was made before a rebase.
        LeaseHeld: Another process works on this link.
    """
    stored = await link.store.run(source)
    if stored is None or stored.link != link.name:
        raise UsageError(f"There is no run {source} of link {link.name}.", hint="See `syncd runs`.")
    check_applicable(link, stored)
    async with _run(link, "apply", origin, source=source) as run:
        if not await run.same_ends():
            return run.report
        if stored.link_id != run.held.row.id:
            raise StalePlan(
                f"Run {source} was planned before the link was rebased; nothing was written.", hint="Plan anew."
            )
        wanted = [one for one in await link.store.changes(source) if one.outcome is Outcome.PLANNED]
        async with run.observed(watched=[one.change.order_id for one in wanted]) as seen:
            moved = {one.id: moved_since(one.change, seen.facts.get(one.change.order_id)) for one in wanted}
            for one in wanted:
                held = seen.holds.get(one.change.order_id)
                if held is not None and stored.kind == "undo":
                    del seen.holds[one.change.order_id]  # naming the undo decides the order
                elif held is not None and not moved[one.id]:
                    moved[one.id] = f"skipped: held as {held.kind.value} since it was planned"
            # What the diff asks for beyond the plan is another run's: the holds in its place stay as they are.
            proposed = {change.order_id for change in seen.changes}
            seen.released = [order for order in seen.released if order not in proposed]
            asked = replace(seen, changes=[one.change for one in wanted if not moved[one.id]])
            draft = await verify(link, run.held, asked, approved=True)
            draft.waiting += [(one.change, moved[one.id]) for one in wanted if moved[one.id]]
            plan_ = await run.plan(seen, draft)
            plan_.guards = []
            if not await link.store.spend(await run.held.prove(), source, run.row.id):
                raise StalePlan(f"Run {source} has been applied already; nothing was written.", hint="Plan anew.")
            entries = await run.store(plan_, draft)
            await run.record_observation(seen, draft)
            await run.apply(entries, seen)
    return run.report


async def undo(link: Link, source: int, *, origin: str = "command") -> Report:
    """Store a plan that puts back what run `source` wrote, for orders unchanged since; `apply` carries it out.

    Raises:
        UsageError: There is no such run, or it wrote nothing.
    """
    stored = await link.store.run(source)
    if stored is None or stored.link != link.name:
        raise UsageError(f"There is no run {source} of link {link.name}.", hint="See `syncd runs`.")
    reversal = list(reverse(await link.store.changes(source)))
    if not reversal:
        raise UsageError(f"Run {source} wrote nothing that could be undone.", hint=f"See `syncd show {source}`.")
    async with _run(link, "undo", origin, source=source) as run:
        if not await run.same_ends():
            return run.report
        async with run.observed(watched=[change.order_id for change in reversal]) as seen:
            moved = [(change, moved_since(change, seen.facts.get(change.order_id))) for change in reversal]
            draft = Draft([change for change, why in moved if not why], dict(seen.holds))
            draft.waiting = [(change, why) for change, why in moved if why]
            plan_ = await run.plan(seen, draft)
            plan_.guards = []
            await run.store(plan_, draft)
            run.row.state = "planned"
            run.show_holds(seen, draft)
    return run.report


async def rebase(link: Link) -> Report:
    """Start a new agreed state for a link that points elsewhere now; the old one stays as history.

    Deletes and overwrites nothing on either side; the next pass is a first sync.
    """
    async with _run(link, "rebase", "command") as run:
        row = await link.store.rebase(await run.held.prove(), link.fingerprint, link.clock.now())
        run.row.state = "applied"
        log.warning("link rebased", generation=row.generation)
    return run.report


@dataclass(slots=True)
class _Run:
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
        self.row.guards = [GuardHit("fingerprint", None, 0, 1)]
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

    def refuse(self, plan_: Plan) -> None:
        """Say which guards refuse the plan."""
        self.row.state = "refused"
        self.row.error = "; ".join(guards.sentence(hit, plan_.counts) for hit in plan_.guards)
        log.warning("plan refused", guards=[hit.name for hit in plan_.guards], reason=self.row.error)

    async def record_observation(self, seen: Observation, draft: Draft) -> None:
        """Keep what was read: the CRM as listed, what both sides agree on, and the holds."""
        link, run = self.link, self.row.id
        for chunk in seen.observed.chunks():
            await link.store.observed(await self.held.prove(), run, chunk)
        for pairs in seen.agreements.chunks():
            await link.store.agree(await self.held.prove(), run, await self._confirmed(pairs, draft))
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
                kept = before.hold.since if before is not None and before.hold.kind is hold.kind else now
                opened.append(StoredHold(replace(hold, since=kept), sticky=order in draft.sticky, run=run))
            elif before.hold.detail != hold.detail:
                opened.append(replace(before, hold=replace(hold, since=before.hold.since)))
        for one in opened:
            hold = one.hold
            log.warning("order held", order=hold.order_id, kind=hold.kind.value, detail=hold.detail)
        released = [order for order in seen.released if order not in draft.holds]
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
                unreadable = value is not None and value.unreadable is not None
                if not unreadable and (value.owner if value is not None else None) == change.facts.table:
                    kept.append((change, update))
        return kept

    async def apply(self, entries: Sequence[Entry], seen: Observation) -> None:
        """Carry out the changes, then close the holds that were decided."""
        link = self.link
        applier = Applier(link, self.held, self.row.id, entries)
        try:
            await applier.run()
        finally:
            undone = applier.holds.keys() | {
                entry.change.order_id for entry in entries if not applier.carried_out(entry)
            }
            decided = seen.decided & {entry.change.order_id for entry in entries}
            carried_out = decided - undone
            if carried_out:
                with suppress(LeaseLost):
                    await link.store.set_holds(
                        self.held.lease, self.row.id, opened=(), released=sorted(carried_out), now=link.clock.now()
                    )
        self.row.state = "applied"


@asynccontextmanager
async def _run(link: Link, kind: str, origin: str, source: int | None = None) -> AsyncIterator[_Run]:
    """Hold the lease, open a run, and close it with whatever it came to."""
    async with tenure(link) as held:
        started = link.clock.now()
        number = await link.store.start_run(held.lease, kind, origin, started, source)
        row = RunRow(number, link.name, held.row.id, kind, "running", origin, source, started_at=started)
        run = _Run(link, held, row, Report(row))
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
            except BaseException:
                row.state, row.error = "failed", "unexpected error"
                with suppress(Exception):
                    await _finish(run, usage.requests, usage.calls, usage.listing_seconds)
                raise
            await _finish(run, usage.requests, usage.calls, usage.listing_seconds)


async def _finish(run: _Run, requests: int, calls: int, listing_seconds: float) -> None:
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
