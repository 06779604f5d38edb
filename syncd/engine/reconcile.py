"""The algorithm of syncd, in one sitting.

    observe -> diff -> verify -> guard -> store -> apply -> record

A pass reads both sides completely (`observe`), compares them with the last agreed state (`core.diff`), looks again at
whatever would be destroyed or bound (`verify`), and asks the guards (`core.guards`). The plan is stored before its
first write; then each batch goes into the journal, to its side, and into the record, in that order (`apply`). An
interruption at any point leaves a journal that the next pass heals (`recover`).

Everything here runs under the link's lease, and everything it decides is in `core`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import closing
from itertools import groupby

import structlog

from syncd.core import guards
from syncd.core.model import Change, Outcome
from syncd.core.plan import reverse
from syncd.core.records import GuardHit, RunRow, StoredChange
from syncd.engine import state_check
from syncd.engine.covering import Portion, require_inside
from syncd.engine.link import Link
from syncd.engine.plan_draft import PlanDraft
from syncd.engine.recover import abandon_intents
from syncd.engine.report import TO_MAKE, Report
from syncd.engine.run import open_run
from syncd.engine.stored_plans import OnHold, check_applicable, load_changes, plan_anew, stored_run
from syncd.errors import StalePlan, UsageError

log = structlog.get_logger("syncd.engine")

COMMAND = "command"
"""The origin of a pass that a person makes, and whose outcome that person reads."""


async def reconcile(link: Link, *, origin: str = "command", portion: Portion | None = None) -> Report:
    """Bring both sides into step: one pass.

    Args:
        link: The link.
        origin: Who asked: command, schedule, trigger, signal, recent, hint.
        portion: What to cover; None: everything.

    Returns:
        What the run came to. An error that ended the run is in the report, not raised.

    Raises:
        LeaseHeld: Another process works on this link; no run was opened.
        UsageError: A person named orders of which none is in the link's range; no run was opened.
    """
    if origin == COMMAND:
        require_inside(link, portion)
    async with open_run(link, "pass", origin) as run:
        if not (await run.fingerprint_matches() and await run.cover(portion)):
            return run.report
        async with run.observed() as seen, run.verified(seen, seen.changes) as draft:
            plan = await run.plan(seen, draft)
            plan.guards += guards.first_sync(plan.counts, ask=link.ask_first_sync and plan.first_sync)
            plan.guards += await run.guard_state(draft)
            look = await run.second_look(draft, noting=True)
            if plan.guards:
                await run.refuse(plan, draft, look)
                run.show_holds(seen, draft)
                return run.report
            planned = await run.store(plan, draft, look)
            if run.row.covers is None:
                await run.state_age.trust()
            await run.record_observation(seen, draft)
            await run.apply(planned, seen)
    return run.report


async def plan(link: Link, *, origin: str = "command", portion: Portion | None = None) -> Report:
    """Observe, diff, plan and guard; store the plan as a run that `apply` may carry out. Writes to neither side.

    Raises:
        LeaseHeld, UsageError: As for `reconcile`.
    """
    require_inside(link, portion)
    async with open_run(link, "plan", origin) as run:
        if not (await run.fingerprint_matches() and await run.cover(portion)):
            return run.report
        async with run.observed() as seen, run.verified(seen, seen.changes) as draft:
            plan_ = await run.plan(seen, draft)
            plan_.guards += await run.guard_state(draft)
            look = None if plan_.guards else await run.second_look(draft, noting=False)
            (await run.store(plan_, draft, look)).close()
            run.row.state = "planned"
            if plan_.guards:
                run.report_refused(plan_)
            run.show_holds(seen, draft)
    return run.report


async def apply(link: Link, source: int, *, origin: str = "command") -> Report:
    """Carry out stored plan `source`, exactly, once, within the link's `plan_ttl`.

    Both sides are read first: the orders that the plan was made for. A change whose order is no longer as it was
    planned for is skipped, and says so. Naming the run is the approval, so the guards are not asked again.

    Raises:
        UsageError: There is no such run, or it belongs to another link.
        StalePlan: It is too old, spent, no plan at all, or was made before a rebase.
        LeaseHeld: Another process works on this link.
    """
    stored = await stored_run(link, source)
    check_applicable(link, stored)
    async with open_run(link, "apply", origin, source=source) as run:
        if not await run.fingerprint_matches():
            return run.report
        if stored.link_id != run.lease.row.id:
            raise StalePlan(
                f"Run {source} was planned before the link was rebased; nothing was written.", hint=plan_anew(link)
            )
        run.cover_as(stored)
        on_hold = OnHold.DECIDE if stored.kind == "undo" else OnHold.SKIP
        async with run.wanted(source, planned, on_hold) as wanted, run.observed(wanted) as seen:
            seen.leave_holds_of_changed()
            async with run.verified(seen, wanted.unmoved, approved=True) as draft:
                draft.skipped.extend(wanted.moved)
                plan_ = await run.plan(seen, draft)
                plan_.guards = []
                if not await link.store.spend(await run.lease.prove(), source, run.row.id):
                    raise StalePlan(
                        f"Run {source} has been applied already; nothing was written.", hint=plan_anew(link)
                    )
                if _approves_of_state(stored, await run.state_age.check()):
                    await run.state_age.note()
                writes = await run.store(plan_, draft)
                await run.record_observation(seen, draft)
                await run.apply(writes, seen)
    return run.report


def _approves_of_state(stored: RunRow, older: Collection[GuardHit]) -> bool:
    """Return whether a person who names a run approves of an older state.

    A plan that was made before the state became older, or for some orders, says nothing about that; nor does an undo.

    Args:
        stored: The run.
        older: The refusal of the state as it is now; empty if it is not older.
    """
    return stored.covers is None and not set(older).isdisjoint(stored.guards)


def planned(stored: Iterable[StoredChange]) -> Iterator[Change]:
    """Given the changes of a stored plan, yield those that are to be made."""
    return (one.change for one in stored if one.outcome in TO_MAKE)


async def undo(link: Link, source: int, *, origin: str = "command") -> Report:
    """Store a plan that puts back what run `source` wrote, for orders unchanged since; `apply` carries it out.

    Raises:
        UsageError: There is no such run, or it wrote nothing.
    """
    await stored_run(link, source)
    with closing(await load_changes(link.store, source)) as written:
        if not any(reversal(written)) and not any(one.outcome is Outcome.INTENDED for one in written):
            raise UsageError(
                f"Run {source} wrote nothing that could be undone; no plan was stored.",
                hint=f"See `syncd show {source}`.",
            )
    async with open_run(link, "undo", origin, source=source) as run:
        if not await run.fingerprint_matches():
            return run.report
        # Read once the journal is healed: what the run was interrupted in may have been found in place just now.
        async with run.wanted(source, reversal, OnHold.LEAVE) as wanted, run.observed(wanted) as seen:
            with closing(PlanDraft(dict(seen.holds))) as draft:
                for chunk in wanted.unmoved.chunks():
                    draft.add_changes(chunk)
                draft.skipped.extend(wanted.moved)
                plan_ = await run.plan(seen, draft)
                plan_.guards = []
                (await run.store(plan_, draft)).close()
                run.row.state = "planned"
                run.show_holds(seen, draft)
    return run.report


def reversal(stored: Iterable[StoredChange]) -> Iterator[Change]:
    """Given the changes of a run, by order, yield those that undo it, one order at a time."""
    for _order, of_order in groupby(stored, key=lambda one: one.change.order_id):
        yield from reverse(list(of_order))


async def rebase(link: Link) -> Report:
    """Start a new agreed state for a link that points elsewhere now; the old one stays as history.

    Deletes and overwrites nothing on either side; the next pass is a first sync.
    """
    async with open_run(link, "rebase", "command") as run:
        await abandon_intents(link, run.lease, run.row.id)
        row = await link.store.rebase(await run.lease.prove(), link.fingerprint, link.clock.now())
        run.row.state = "applied"
        await run.state_age.note()
        log.warning("link rebased", generation=row.generation)
    return run.report


async def rename(link: Link) -> Report:
    """Go on with the agreed state of a link whose portal has another address now, if its bindings are the agreed ones.

    A person says that it is the same portal; that nearly all of the agreed bindings are there proves it. Writes to
    neither side.

    Raises:
        UsageError: The portal is not all that changed, or nothing is agreed that could be compared.
        LeaseHeld: Another process works on this link.
    """
    row = await link.store.find_link(link.name)
    if row is None or not await link.store.agreed_count(row.id):
        raise UsageError(
            f"Link {link.name} has no agreed bindings to compare. Nothing was changed.",
            hint=f"`syncd rebase {link.name}` lets it start anew.",
        )
    if list(changed := link.changed_ends(row.fingerprint)) != ["portal"]:
        other = ", ".join(changed) or "nothing"
        raise UsageError(
            f"--same-portal is for a change of the portal's address alone; here {other} changed. Nothing was done.",
            hint=f"`syncd rebase {link.name}` is for a link that points elsewhere." if changed else "",
        )
    async with open_run(link, "rename", "command") as run:
        found = await state_check.compare(link, run.lease)
        if found.is_alike:
            await state_check.keep(link, run.lease, await link.portal.member_id())
            run.row.state = "applied"
            log.warning("portal renamed", before=row.portal, after=link.portal_address)
        else:
            run.row.error = (
                f"This does not look like the same portal: of {found.agreed:,} agreed bindings, {found.missing:,} are "
                f"missing on it, and {found.different:,} name other owners. Nothing was changed."
            )
            run.points_elsewhere()
    return run.report
