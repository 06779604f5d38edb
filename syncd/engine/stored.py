"""Stored runs: finding one, and whether its plan may still be applied: once, and while it is fresh."""

from __future__ import annotations

from syncd.core.records import RunRow
from syncd.engine.link import Link
from syncd.engine.words import span
from syncd.errors import StalePlan, UsageError


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
    """Return the hint of whoever is told that a plan is no longer good."""
    return f"`syncd plan {link.name}` plans anew."


def check_applicable(link: Link, stored: RunRow) -> None:
    """Given a stored run, do nothing if it is a plan that may still be applied.

    Raises:
        StalePlan: It is spent, too old, or no plan at all.
    """
    if stored.plan != stored.id:
        raise StalePlan(
            f"Run {stored.id} only looked whether the plan of run {stored.plan} is still refused; nothing was written.",
            hint=f"`syncd apply {stored.plan}` applies that plan.",
        )
    if stored.spent_by is not None:
        raise StalePlan(
            f"Run {stored.id} has been applied already, by run {stored.spent_by}; nothing was written.",
            hint=f"`syncd show {stored.spent_by}` tells what became of it; {plan_anew(link)}",
        )
    if stored.kind not in {"plan", "undo", "pass"} or stored.state not in {"planned", "refused"}:
        raise StalePlan(
            f"Run {stored.id} is no plan that waits to be applied (it is {stored.state}); nothing was written.",
            hint=f"`syncd plan {link.name}` makes one.",
        )
    age = link.clock.now() - stored.started_at
    if age > link.plan_ttl:
        raise StalePlan(
            f"The plan of run {stored.id} is {span(age)} old; plans are good for {span(link.plan_ttl)}. "
            "Nothing was written.",
            hint=plan_anew(link),
        )
