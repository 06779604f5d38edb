"""The runs, and one of them with its changes, before and after, and the reason for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from syncd.config.model import Settings
from syncd.core.model import Outcome
from syncd.core.records import RunRow, StoredChange
from syncd.daemon.pages.badges import Badge, badge_of_outcome, badge_of_run
from syncd.daemon.pages.site import Site, StatusSnapshot, number_in_path, number_in_query, word_in_query
from syncd.engine import formatting
from syncd.engine.report import LEFTOVERS
from syncd.engine.stored_plans import asked_for
from syncd.state.page_queries import WINDOW, OutcomeCounts
from syncd.status.needs import next_command, refusals
from syncd.status.owners import owners_of_changes, owners_of_facts

PAGE: Final = 100
"""Changes on one page."""
LISTED: Final = 50
"""Runs on one page."""
HELD: Final = 50
"""Holds of a run that are shown."""


class Show(StrEnum):
    """Which changes of a run are shown."""

    ALL = "all"
    LEFT = "left"


@dataclass(frozen=True, slots=True)
class RunLine:
    """One run as the pages show it.

    Args:
        row: The run.
        badge: How it ended, or that it is under way.
        kind: What it is, as words.
        seconds: How long it took; until now if it is under way.
        refusals: Why a guard refused it, as sentences.
        command: What carries its plan out; empty where there is nothing to.
    """

    row: RunRow
    badge: Badge
    kind: str
    seconds: float
    refusals: list[str]
    command: str


def line(row: RunRow, look: StatusSnapshot, settings: Settings) -> RunLine:
    """Given a run, return it as it is shown."""
    link = settings.links.get(row.link)
    return RunLine(
        row=row,
        badge=badge_of_run(row, look.at, at_work=look.at_work(row.link)),
        kind=f"{formatting.run_kind(row)}, only {row.part}" if row.part else formatting.run_kind(row),
        seconds=max(0.0, (row.finished_at or look.at) - row.started_at),
        refusals=refusals(row) if row.state == "refused" else [],
        command="" if link is None else next_command(row, look.at, link.plan_ttl_seconds),
    )


@dataclass(frozen=True, slots=True)
class ChangeLine:
    """One change as the pages show it."""

    stored: StoredChange
    badge: Badge
    reason: str


def change_line(stored: StoredChange) -> ChangeLine:
    """Given a change, return it as it is shown."""
    return ChangeLine(
        stored=stored,
        badge=badge_of_outcome(stored.outcome),
        reason=formatting.REASONS[stored.change.reason],
    )


async def listing(site: Site, request: Request) -> Response:
    """All runs, newest first."""
    look = await site.snapshot()
    link = request.query_params.get("link") or None
    if link is not None and link not in look.links and await site.store.find_link(link) is None:
        raise HTTPException(404, f"There is no link {link}.")
    before = number_in_query(request, "before")
    rows = await site.store.runs(link, LISTED + 1, before)
    return site.render(
        "runs.html",
        look,
        link=link,
        runs=[line(row, look, site.settings) for row in rows[:LISTED]],
        older=rows[LISTED - 1].id if len(rows) > LISTED else None,
        newest=before is None,
    )


async def show(site: Site, request: Request) -> Response:
    """One run."""
    number = number_in_path(request, "run")
    row = await site.store.run(number)
    if row is None:
        raise HTTPException(404, f"There is no run {number}.")
    look = await site.snapshot()
    which = word_in_query(request, "show", Show) or Show.ALL
    after = number_in_query(request, "after") or 0
    tally = await site.store.outcome_counts(number)
    found, upto = await _changes(site, number, which, after)
    held = await site.store.holds_of_run(number, HELD + 1)
    owners = owners_of_changes(found) | owners_of_facts(stored.hold.facts for stored, _released in held)
    return site.render(
        "run.html",
        look,
        run=line(row, look, site.settings),
        labels=await site.labels(row.link, owners),
        asked=await asked_for(site.store, row),
        changes=[change_line(one) for one in found],
        which=which,
        after=after,
        upto=upto,
        window=WINDOW,
        tally=_outcomes(tally),
        tallied_whole=tally.whole,
        left=sum(count for outcome, count in tally.outcomes.items() if outcome in LEFTOVERS),
        held=held[:HELD],
        more_held=len(held) > HELD,
    )


async def _changes(site: Site, run: int, which: Show, after: int) -> tuple[Sequence[StoredChange], int | None]:
    """Return a page of a run's changes, and the id after which the next one begins, if there is one."""
    if which is Show.LEFT:
        return await site.store.changes_with(run, LEFTOVERS, after, PAGE)
    changes = await site.store.changes(run, after, PAGE + 1)
    return changes[:PAGE], changes[PAGE - 1].id if len(changes) > PAGE else None


def _outcomes(tally: OutcomeCounts) -> list[tuple[Badge, int]]:
    """Return the number of changes of each outcome, in the order of `Outcome`."""
    return [(badge_of_outcome(outcome), tally.outcomes[outcome]) for outcome in Outcome if outcome in tally.outcomes]
