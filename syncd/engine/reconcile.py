"""The algorithm of syncd, in one sitting.

    observe -> diff -> verify -> guard -> store -> apply -> record

A pass reads both sides completely (`observe`), compares them with the last agreed state (`core.diff`), looks again at
whatever would be destroyed or bound (`verify`), and asks the guards (`core.guards`). The plan is stored before its
first write; then each batch goes into the journal, to its side, and into the record, in that order (`apply`). An
interruption at any point leaves a journal that the next pass heals (`recover`).

Everything here runs under the link's lease, and everything it decides is in `core`.
"""

from __future__ import annotations

from dataclasses import replace

import structlog

from syncd.core import guards
from syncd.core.model import Outcome
from syncd.core.plan import reverse
from syncd.engine.link import Link
from syncd.engine.recover import give_up
from syncd.engine.report import Report
from syncd.engine.run import open_run
from syncd.engine.stored import check_applicable, plan_anew, stored_run
from syncd.engine.verify import Draft, moved_since, verify
from syncd.engine.waiting import UNATTENDED, waiting_plan
from syncd.errors import StalePlan, UsageError

log = structlog.get_logger("syncd.engine")


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
    async with open_run(link, "pass", origin) as run:
        if not await run.same_ends():
            return run.report
        async with run.observed() as seen:
            draft = await verify(link, run.held, seen)
            plan = await run.plan(seen, draft)
            plan.guards += guards.first_sync(plan.counts, ask=link.ask_first_sync and plan.first_sync)
            waiting = await waiting_plan(link, run.held.row.id) if origin == UNATTENDED else None
            if waiting is not None and not plan.guards:
                plan.guards += await waiting.settling(plan, link)
            if waiting is not None and waiting.stands_for(plan, link):
                run.refuse(plan, standing=waiting.plan.id)
                run.show_holds(seen, draft)
                return run.report
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
    async with open_run(link, "plan", origin) as run:
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
    stored = await stored_run(link, source)
    check_applicable(link, stored)
    async with open_run(link, "apply", origin, source=source) as run:
        if not await run.same_ends():
            return run.report
        if stored.link_id != run.held.row.id:
            raise StalePlan(
                f"Run {source} was planned before the link was rebased; nothing was written.", hint=plan_anew(link)
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
                raise StalePlan(f"Run {source} has been applied already; nothing was written.", hint=plan_anew(link))
            entries = await run.store(plan_, draft)
            await run.record_observation(seen, draft)
            await run.apply(entries, seen)
    return run.report


async def undo(link: Link, source: int, *, origin: str = "command") -> Report:
    """Store a plan that puts back what run `source` wrote, for orders unchanged since; `apply` carries it out.

    Raises:
        UsageError: There is no such run, or it wrote nothing.
    """
    await stored_run(link, source)
    written = await link.store.changes(source)
    if not any(reverse(written)) and not any(one.outcome is Outcome.INTENDED for one in written):
        raise UsageError(
            f"Run {source} wrote nothing that could be undone; no plan was stored.", hint=f"See `syncd show {source}`."
        )
    async with open_run(link, "undo", origin, source=source) as run:
        if not await run.same_ends():
            return run.report
        async with run.observed(watched=sorted({one.change.order_id for one in written})) as seen:
            # Read again: what the run was interrupted in may have been found in place just now.
            reversal = reverse(await link.store.changes(source))
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
    async with open_run(link, "rebase", "command") as run:
        await give_up(link, run.held, run.row.id)
        row = await link.store.rebase(await run.held.prove(), link.fingerprint, link.clock.now())
        run.row.state = "applied"
        log.warning("link rebased", generation=row.generation)
    return run.report
