"""The refused plan that waits for a person, and what an unattended pass that comes across it does.

It looks whether the plan would still be refused. If so, the stored plan stays the one to approve, unless its numbers
are no longer true or it grows old; then a new one takes its place. If not, the pass goes on by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from syncd.core import guards
from syncd.core.model import Outcome
from syncd.core.plan import Plan
from syncd.core.records import GuardHit, RunRow
from syncd.core.refusals import SETTLING, alike, settling
from syncd.engine.link import Link
from syncd.engine.run import DAY

UNATTENDED: Final = "schedule"
"""The origin of passes that nobody asked for."""
RECENT: Final = 50
"""Runs among which the last one that came to its end is looked for."""
FRESH: Final = 0.25
"""The part of `plan_ttl` after which a plan that still waits is stored anew, so that its number stays good."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A refused plan that waits.

    Args:
        plan: The run that holds it.
        look: The newest pass that found it refused: that run, or one that looked since.
    """

    plan: RunRow
    look: RunRow

    def stands_for(self, refused: Plan, link: Link) -> bool:
        """Given the refused plan of now, return whether the stored one still is the one to approve."""
        young = link.clock.now() - self.plan.started_at <= FRESH * link.plan_ttl
        return young and alike(self.plan.guards, refused.guards)

    async def settling(self, plan: Plan, link: Link) -> list[GuardHit]:
        """Given the plan of now, which no guard refuses, return the guard that makes it wait all the same, if any."""
        if not any(done.move or done.remove for done in (plan.counts.crm, plan.counts.table)):
            return []
        if not await self._is_too_much(link):
            return []  # it is the limits that have changed, so somebody has decided
        stored = await link.store.changes(self.plan.id)
        refused = [one.change for one in stored if one.outcome is Outcome.PLANNED]
        return settling(refused, plan.changes, self.look.guards)

    async def _is_too_much(self, link: Link) -> bool:
        if any(hit.name == SETTLING for hit in self.plan.guards):
            return True
        removed = await link.store.removed_since(self.plan.link_id, link.clock.now() - DAY)
        return bool(guards.evaluate(self.plan.counts, link.limits, removed, first_sync=self.plan.first_sync))


async def waiting_plan(link: Link, link_id: int) -> Waiting | None:
    """Return the refused plan that waits on this generation of a link; None where none does.

    The newest pass that came to its end says so. One that failed, or refused because the link points elsewhere, says
    nothing of it; a plan that was applied, or another one that was, has decided.
    """
    for row in await link.store.runs(link.name, RECENT):
        if row.link_id != link_id or row.kind == "apply" or row.state in {"applied", "partial"}:
            return None
        if row.kind == "pass" and row.state == "refused" and not row.points_elsewhere:
            plan = row if row.plan == row.id else await link.store.run(row.plan)
            return Waiting(plan, row) if plan is not None and plan.spent_by is None else None
    return None
