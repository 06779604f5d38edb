"""Stored plans: whether one may still be applied, the refused one that waits for a person, and the changes of one.

A plan is applied once, and while it is fresh. A refused plan is stored once: a later pass that is refused as well keeps
the stored plan as the one to approve, unless its numbers have grown or it has become old. The changes that a person
named, a stored plan or the reversal of a run, are compared with what both sides say today.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from syncd.core.model import Change, Facts, Hold, Policy
from syncd.core.order_ranges import OrderRanges
from syncd.core.plan import covers_refusal
from syncd.core.policy import why_not_written
from syncd.core.records import Decision, GuardHit, RunRow, StoredChange
from syncd.core.store import Store
from syncd.engine.formatting import owner, span
from syncd.engine.link import Link
from syncd.errors import StalePlan, UsageError
from syncd.spill import SpillList

RECENT: Final = 50
"""Runs among which the last one that came to its end is looked for."""
FRESH: Final = 0.25
"""The part of `plan_ttl` after which a refused plan is stored anew, so that its number stays good."""


PAGE = 5000
"""Stored changes that are read at a time."""


async def stored_run(link: Link, number: int) -> RunRow:
    """Given a run's number, return the run of this link.

    Raises:
        UsageError: There is no such run, or it belongs to another link.
    """
    row = await link.store.run(number)
    if row is None or row.link != link.name:
        raise UsageError(
            f"There is no run {number} of link {link.name}; nothing was done.",
            hint=f"`syncd runs {link.name}` lists them.",
        )
    return row


def plan_anew(link: Link) -> str:
    """Return the hint shown with a plan that can no longer be applied."""
    return f"`syncd plan {link.name}` plans anew."


def check_applicable(link: Link, stored: RunRow) -> None:
    """Given a stored run, do nothing if it is a plan that may still be applied.

    Raises:
        StalePlan: It is spent, too old, or no plan at all.
    """
    if stored.plan != stored.id:
        raise StalePlan(
            f"Run {stored.id} only checked whether the plan of run {stored.plan} is still refused; "
            "nothing was written.",
            hint=f"`syncd apply {stored.plan}` applies that plan.",
        )
    if stored.spent_by is not None:
        raise StalePlan(
            f"Run {stored.id} has been applied already, by run {stored.spent_by}; nothing was written.",
            hint=f"`syncd show {stored.spent_by}` tells what became of it; {plan_anew(link)}",
        )
    if stored.kind not in {"plan", "undo", "pass"} or stored.state not in {"planned", "refused"}:
        raise StalePlan(
            f"Run {stored.id} is not a plan that waits to be applied (it is {stored.state}); nothing was written.",
            hint=f"`syncd plan {link.name}` makes one.",
        )
    age = link.clock.now() - stored.started_at
    if age > link.plan_ttl:
        raise StalePlan(
            f"The plan of run {stored.id} is {span(age)} old; plans are good for {span(link.plan_ttl)}. "
            "Nothing was written.",
            hint=plan_anew(link),
        )


@dataclass(frozen=True, slots=True)
class RefusedPlan:
    """A refused plan that is stored, and has not been applied.

    Args:
        plan: The run that holds it.
    """

    plan: RunRow

    def stands_for(self, refused: Sequence[GuardHit], link: Link) -> bool:
        """Given the guards that refuse the plan of now, return whether the stored one may still be approved instead."""
        young = link.clock.now() - self.plan.started_at <= FRESH * link.plan_ttl
        return young and covers_refusal(self.plan.guards, refused)


async def refused_plan(link: Link, link_id: int, orders: OrderRanges | None) -> RefusedPlan | None:
    """Return the refused plan that waits on this generation of a link, and covers just these orders (None: all).

    The newest refused pass over them says so. A run that failed, or was refused because the link points elsewhere, says
    nothing of it, nor does one over other orders. Runs that carried something out have decided: one over all orders, or
    several that cover them together.
    """
    settled = OrderRanges()
    for row in await link.store.runs(link.name, RECENT):
        if row.link_id != link_id:
            return None
        if row.state in {"applied", "partial"}:
            if row.covers is None:
                return None
            settled |= row.covers
            if orders is not None and settled.includes(orders):
                return None
        elif row.kind == "pass" and row.state == "refused" and row.covers == orders and not row.points_elsewhere:
            plan = await link.store.run(row.plan)
            return RefusedPlan(plan) if plan is not None and plan.spent_by is None else None
    return None


async def asked_for(store: Store, row: RunRow) -> list[Decision]:
    """Given a run that carries out or reverses another, return who asked for it, and why; of other runs nothing."""
    if row.kind not in {"apply", "undo"} or row.source is None:
        return []
    found = await store.decisions(row.link, run=row.source)
    return [one for one in found if one.kind == row.kind and one.at <= row.started_at + 1][-1:]


class OnHold(Enum):
    """What becomes of a change whose order is held."""

    SKIP = "skip"
    DECIDE = "decide"
    LEAVE = "leave"


class WantedChanges:
    """The named changes, taken along with the segments of a reading.

    Args:
        changes: The changes, ascending by order id.
        policy: The link's, of today: a one-way link's source is never written, whatever it was at that time.
        on_hold: What becomes of an order that is held: its change is skipped, naming it decides the order, or the hold
            is left for the application.

    `unmoved` are those that can be carried out: their orders are as they were planned for. `moved` are the others, each
    with the reason.
    """

    def __init__(self, changes: Iterable[Change], policy: Policy, *, on_hold: OnHold = OnHold.SKIP) -> None:
        self._changes: Iterator[Change] = iter(changes)
        self._next = next(self._changes, None)
        self._policy = policy
        self._on_hold = on_hold
        self.unmoved: SpillList[Change] = SpillList()
        self.moved: SpillList[tuple[Change, str]] = SpillList()

    def take(self, upto: int | None) -> list[Change]:
        """Return the changes not yet taken of orders up to that id (None: all that are left)."""
        taken: list[Change] = []
        while self._next is not None and (upto is None or self._next.order_id <= upto):
            taken.append(self._next)
            self._next = next(self._changes, None)
        return taken

    def compare(self, changes: Iterable[Change], facts: Mapping[int, Facts], holds: MutableMapping[int, Hold]) -> None:
        """Given some of the changes and what is found of their orders today, note which of them have moved."""
        unmoved: list[Change] = []
        for change in changes:
            excluded = why_not_written(change.side, self._policy)
            why = f"skipped: {excluded}" if excluded else moved_since(change, facts.get(change.order_id))
            hold = holds.get(change.order_id)
            if hold is not None and self._on_hold is OnHold.DECIDE and not excluded:
                del holds[change.order_id]
            elif hold is not None and self._on_hold is OnHold.SKIP and not why:
                why = f"skipped: held as {hold.kind.value} since it was planned"
            if why:
                self.moved.append((change, why))
            else:
                unmoved.append(change)
        self.unmoved.extend(unmoved)

    def close(self) -> None:
        """Drop the temporary files."""
        self.unmoved.close()
        self.moved.close()


async def load_changes(store: Store, run: int) -> SpillList[StoredChange]:
    """Return a run's changes, in order."""
    loaded: SpillList[StoredChange] = SpillList()
    after = 0
    while page := await store.changes(run, after, PAGE):
        loaded.extend(page)
        after = page[-1].id
    return loaded


def moved_since(change: Change, facts: Facts | None) -> str:
    """Given a stored change and today's facts, return what is different, as a sentence; empty when nothing is."""
    now = facts or Facts(None, None, None)
    if now == change.facts:
        return ""
    differing = [
        f"{name} was {owner(then)}, is {owner(today)}"
        for name, then, today in (
            ("CRM", change.facts.crm, now.crm),
            ("table", change.facts.table, now.table),
            ("agreed", change.facts.agreed, now.agreed),
        )
        if then != today
    ]
    return "moved since the plan: " + "; ".join(differing or ["its rows in the table"])
