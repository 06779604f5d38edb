"""Every link at a glance with what needs a person, and one link: its health, plots, holds, refusals and runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NamedTuple

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from syncd.core.model import Direction
from syncd.core.ports import OPERATING_LIMIT
from syncd.daemon.pages.badges import Badge, badge_of_health
from syncd.daemon.pages.plots import PLOTS, RUNS, Range, SparklineBar, caption, drawn, sparkline
from syncd.daemon.pages.runs import RunLine, line
from syncd.daemon.pages.site import Site, StatusSnapshot, number_in_query, word_in_query
from syncd.engine import formatting
from syncd.status.health import WELL, Health
from syncd.status.links import LinkStatus
from syncd.status.needs import Need, freshness, needs_of, sentence

DIRECTIONS: Final = {
    Direction.TWO_WAY: "CRM ⇄ table",
    Direction.CRM_TO_TABLE: "CRM → table",
    Direction.TABLE_TO_CRM: "table → CRM",
}


class Spent(NamedTuple):
    """How much of the portal's operating budget a method has used, in seconds and in percent of the limit."""

    method: str
    used: float
    limit: float
    percent: int
    reset_at: float


class Needs(NamedTuple):
    """What a link needs of a person: why, as sentences, and the commands that help, each with what it does.

    `link` is empty where several links need the same; `title` then says how many.
    """

    link: str
    badge: Badge
    since: float
    sentences: list[str]
    commands: list[tuple[str, str]]
    title: str = ""


@dataclass(frozen=True, slots=True)
class Card:
    """One link as the pages show it.

    Args:
        link: How it is.
        badge: What it is now.
        lasting: What its passes say of it and for how long, as a phrase after the badge; empty where nothing is known.
        direction: Which sides are written, as a sign.
        doing: What happens right now, as a phrase; empty if nothing does.
        budget: What its portal's budget has left, by method, the fullest first.
        sparkline: Its newest runs.
        freshness: How long ago each part of it was compared, where its passes do not cover all of it.
    """

    link: LinkStatus
    badge: Badge
    lasting: str
    direction: str
    doing: str
    budget: list[Spent]
    sparkline: list[SparklineBar]
    freshness: str


SHOWN: Final = 12
"""Links that need a person and are shown with what they need; the others are found in the table."""
ALONE: Final = 3
"""So many links that are late are shown one by one; more of them have one cause, most likely."""
FEW: Final = 10
"""So many links fit one screen: there is nothing to choose from."""


class Sort(StrEnum):
    """The order of the links: as configured, by name, worst first, the longest held first, the oldest pass first."""

    CONFIGURED = "configured"
    NAME = "name"
    HEALTH = "health"
    HELD = "held"
    OLDEST = "oldest"


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a person chose to see of the links.

    Args:
        name: A part of the names.
        health: A health, or nothing for any.
        sort: Their order.
        healths: Each health there is, with its word and how many links have it.
        sorts: The orders there are.
    """

    name: str
    health: str
    sort: Sort
    healths: list[tuple[str, str, int]]
    sorts: list[Sort]


_WORST: Final = (
    Health.LATE, Health.PARKED, Health.FAILING, Health.REFUSED, Health.HELD, Health.NEW, Health.PAUSED, Health.WORKING,
    Health.IN_STEP,
)  # fmt: skip


def chosen_of(request: Request, look: StatusSnapshot) -> Chosen:
    """Given a request and how the links are, return what it asks to see.

    Raises:
        HTTPException: 400, a word is unknown.
    """
    counts = Counter(link.health for link in look.links.values())
    healths = [(one.value, one.words, counts[one]) for one in _WORST if counts[one]]
    health = "" if not request.query_params.get("health") else str(word_in_query(request, "health", Health))
    sort = word_in_query(request, "sort", Sort) or Sort.CONFIGURED
    return Chosen(request.query_params.get("name", ""), health, sort, healths, list(Sort))


def choose(links: Sequence[LinkStatus], chosen: Chosen) -> list[LinkStatus]:
    """Given links and what a person chose, return those that are meant, in their order."""
    found = [
        link
        for link in links
        if chosen.name.casefold() in link.name.casefold() and chosen.health in {"", link.health.value}
    ]
    keys: Mapping[Sort, Callable[[LinkStatus], Any]] = {
        Sort.CONFIGURED: lambda _link: 0,
        Sort.NAME: lambda link: link.name.casefold(),
        Sort.HEALTH: lambda link: _WORST.index(link.health),
        Sort.HELD: lambda link: -len(link.holds),
        Sort.OLDEST: lambda link: link.last_pass.started_at if link.last_pass is not None else 0.0,
    }
    return sorted(found, key=keys[chosen.sort])


async def overview(site: Site, request: Request) -> Response:
    """The overview: what needs a person first, the worst before the others, then every link."""
    look = await site.snapshot()
    chosen = chosen_of(request, look)
    cards = [card(look, link.name) for link in choose(list(look.links.values()), chosen)]
    troubles = dict(look.process.troubles)
    late = [link for link in look.links.values() if is_only_late(link, look.at) and link.name not in troubles]
    together = {link.name for link in late} if len(late) > ALONE else set()
    needs = [late_card(late, look.at)] if together else []
    needs += [
        one
        for link in sorted(look.links.values(), key=lambda link: _WORST.index(link.health))
        if link.name not in together and (one := needs_card(link, look.at, troubles.get(link.name, ""))) is not None
    ]
    return site.render(
        "overview.html", look, cards=cards, needs=needs, summary=summary(look), chosen=chosen, shown=SHOWN, few=FEW
    )


def summary(look: StatusSnapshot) -> str:
    """Given how the links are, return one sentence about all of them; it changes only when a link's health does."""
    if not look.links:
        return "The configuration has no links."
    counts = Counter(link.steady.words for link in look.links.values())
    healths = formatting.listed([f"{number} {word}" for word, number in counts.most_common()])
    return f"{formatting.count(len(look.links), 'link')}: {healths}."


def card(look: StatusSnapshot, name: str) -> Card:
    """Given how the links are, return one of them as it is shown."""
    link = look.links[name]
    return Card(
        link=link,
        badge=badge_of_health(link.health),
        lasting=_lasting(link, look.at),
        direction=DIRECTIONS[link.settings.direction],
        doing=_doing(link),
        budget=_budget(link, look.at),
        sparkline=sparkline(look.recent.get(name, ())),
        freshness=freshness(link, look.at),
    )


def _lasting(link: LinkStatus, now: float) -> str:
    """Return what the passes of a link say of it: `for 2 h` while that is its health, else with its word."""
    condition = link.condition
    if condition.health is Health.NEW:
        return ""
    length = f"for {formatting.about(now - condition.since)}" if condition.since else ""
    if condition.health is link.health:
        return length
    word = condition.health.words
    # No pass has looked since: it may have changed.
    return f"{word} at the last pass" if link.health in {Health.LATE, Health.PAUSED} else f"{word} {length}".rstrip()


def _doing(link: LinkStatus) -> str:
    if link.lease is None:
        return ""
    holder, reached = link.lease.holder, link.lease.reached
    return f"at work: {holder}" if reached is None else f"{formatting.reached(reached)} by {holder}"


def _budget(link: LinkStatus, now: float) -> list[Spent]:
    spent = [
        Spent(method, used, OPERATING_LIMIT, min(100, round(100 * used / OPERATING_LIMIT)), reset_at)
        for method, (used, reset_at, _read_at) in link.budget.items()
        if reset_at > now
    ]
    return sorted(spent, key=lambda one: -one.used)


def is_only_late(link: LinkStatus, now: float) -> bool:
    """Given a link, return whether a pass is overdue and nothing else is known to be wrong with it."""
    return link.health is Health.LATE and len(needs_of(link, now)) == 1


def late_card(late: Sequence[LinkStatus], now: float) -> Needs:
    """Given links that are only late, return what they need together."""
    first = min(link.overdue or now for link in late)
    said = f"These links have missed their passes; the longest is overdue by {formatting.about(now - first)}."
    commands = [("systemctl status syncd", "shows whether a daemon runs"), ("syncd status", "lists the links")]
    title = formatting.count(len(late), "link")
    return Needs("", badge_of_health(Health.LATE), first, [said, "Is a daemon running?"], commands, title)


def needs_card(link: LinkStatus, now: float, trouble: str = "") -> Needs | None:
    """Given a link, return what it needs of a person, if anything.

    Args:
        link: How it is.
        now: Seconds since the epoch.
        trouble: Why its newest pass could not even begin.
    """
    needs = needs_of(link, now, formatting.utc_moment)
    if trouble:
        needs.insert(0, Need(f"The newest pass could not start: {sentence(trouble)}", f"syncd check {link.name}"))
    if not needs:
        return None
    commands = [(need.command, need.does) for need in needs if need.command]
    said = [need.sentence for need in needs]
    lasting = link.condition.health
    if link.health in {Health.LATE, Health.PAUSED} or lasting in WELL:  # its start is not recorded
        return Needs(link.name, badge_of_health(link.health), link.overdue or 0.0, said, commands)
    return Needs(link.name, badge_of_health(lasting), link.condition.since, said, commands)


RUNS_ON_A_PAGE: Final = 25
"""Runs on one page."""
REFUSED_SHOWN: Final = 5
"""Refused runs shown, of the newest `RUNS`."""
HELD_SHOWN: Final = 5
"""Open holds shown; the others are on a page of their own."""


async def show(site: Site, request: Request) -> Response:
    """One link."""
    look = await site.snapshot()
    name = _name(look, request)
    span = word_in_query(request, "range", Range) or Range.DAY
    before = number_in_query(request, "before")
    points = await site.store.series(name, look.at - span.seconds, RUNS)
    rows = await site.store.runs(name, RUNS_ON_A_PAGE + 1, before)
    link = look.links[name]
    held = [] if link.row is None else await site.store.holds(link.row.id, limit=HELD_SHOWN)
    return site.render(
        "link.html",
        look,
        card=card(look, name),
        needs=needs_card(link, look.at, dict(look.process.troubles).get(name, "")),
        plots=[(plot, caption(plot, points)) for plot in PLOTS],
        version_of_data=_version(look, name),
        spans=list(Range),
        span=span,
        runs=[line(row, look, site.settings) for row in rows[:RUNS_ON_A_PAGE]],
        older=rows[RUNS_ON_A_PAGE - 1].id if len(rows) > RUNS_ON_A_PAGE else None,
        newest=before is None,
        held=held,
        refused=await _refused(site, look, link),
    )


async def series(site: Site, request: Request) -> Response:
    """The values of a link's plots."""
    look = await site.snapshot()
    name = _name(look, request)
    span = word_in_query(request, "range", Range) or Range.DAY
    points = await site.store.series(name, look.at - span.seconds, RUNS)
    return JSONResponse(drawn(points, span, look.at))


def _name(look: StatusSnapshot, request: Request) -> str:
    name: str = request.path_params["link"]
    if name not in look.links:
        raise HTTPException(404, f"The configuration has no link {name}.")
    return name


def _version(look: StatusSnapshot, name: str) -> str:
    """Return a mark that changes when the plots do."""
    last = look.links[name].last
    return "" if last is None else f"{last.id}-{last.finished_at or 0:.0f}"


async def _refused(site: Site, look: StatusSnapshot, link: LinkStatus) -> list[RunLine]:
    """Return the newest refused runs, without the one that the link needs a person for: the page names that above."""
    numbers = await site.store.runs_in_state(link.name, "refused", among=RUNS, limit=REFUSED_SHOWN + 1)
    if link.condition.health is Health.REFUSED and link.deciding is not None:
        numbers = [number for number in numbers if number != link.deciding.plan]
    rows = [await site.store.run(number) for number in numbers[:REFUSED_SHOWN]]
    return [line(row, look, site.settings) for row in rows if row is not None]
