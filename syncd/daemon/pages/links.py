"""One link: its health, its plots over time, what is held and refused, and its runs."""

from __future__ import annotations

from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from syncd.daemon.pages.asking import number_in_query, word_in_query
from syncd.daemon.pages.glimpse import Look
from syncd.daemon.pages.overview import card, needs_of
from syncd.daemon.pages.plots import PLOTS, RUNS, Range, caption, drawn
from syncd.daemon.pages.runs import RunLine, line
from syncd.daemon.pages.site import Site

PAGE: Final = 25
"""Runs on one page."""
REFUSED: Final = 5
"""Refused runs shown, of the newest `RUNS`."""
HELD: Final = 5
"""Open holds shown; the others are on a page of their own."""


async def show(site: Site, request: Request) -> Response:
    """One link."""
    look = await site.look()
    name = _name(look, request)
    span = word_in_query(request, "range", Range) or Range.DAY
    before = number_in_query(request, "before")
    points = await site.statistics.series(name, look.at - span.seconds, RUNS)
    rows = await site.store.runs(name, PAGE + 1, before)
    link = look.links[name]
    held = [] if link.row is None else await site.statistics.open_holds(link.row.id, None, -1, HELD)
    return site.render(
        "link.html",
        look,
        card=card(look, name),
        needs=needs_of(link, look.at),
        plots=[(plot, caption(plot, points)) for plot in PLOTS],
        version_of_data=_version(look, name),
        spans=list(Range),
        span=span,
        runs=[line(row, look, site.settings) for row in rows[:PAGE]],
        older=rows[PAGE - 1].id if len(rows) > PAGE else None,
        newest=before is None,
        held=held,
        refused=await _refused(site, look, name),
    )


async def series(site: Site, request: Request) -> Response:
    """The values of a link's plots."""
    look = await site.look()
    name = _name(look, request)
    span = word_in_query(request, "range", Range) or Range.DAY
    points = await site.statistics.series(name, look.at - span.seconds, RUNS)
    return JSONResponse(drawn(points, span, look.at))


def _name(look: Look, request: Request) -> str:
    name: str = request.path_params["link"]
    if name not in look.links:
        raise HTTPException(404, f"The configuration has no link {name}.")
    return name


def _version(look: Look, name: str) -> str:
    """Return a mark that changes when the plots do."""
    last = look.links[name].last
    return "" if last is None else f"{last.id}-{last.finished_at or 0:.0f}"


async def _refused(site: Site, look: Look, name: str) -> list[RunLine]:
    numbers = await site.statistics.in_state(name, "refused", among=RUNS, limit=REFUSED)
    rows = [await site.store.run(number) for number in numbers]
    return [line(row, look, site.settings) for row in rows if row is not None]
