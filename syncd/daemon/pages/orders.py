"""Finding an order, and everything that ever happened to it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from syncd.core.model import Action, Outcome
from syncd.core.records import BindingRow, StoredChange, StoredHold
from syncd.daemon.pages import holds
from syncd.daemon.pages.asking import LARGEST, number_in_path, number_in_query, whole
from syncd.daemon.pages.phrases import OUTCOMES, Badge
from syncd.daemon.pages.runs import ChangeLine, change_line
from syncd.daemon.pages.site import Site
from syncd.engine import words
from syncd.engine.story import Story, agreed_owner, listed_owner, why

PAGE: Final = 100
"""Changes on one page."""
_TYPED: Final = re.compile(r"[\s#№.,'_\u00a0\u202f]")
"""What people type around and within a number."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to an order.

    Args:
        at: When, in seconds since the epoch; 0 where that is not known.
        run: The run that did it; 0 for none.
        badge: What it is.
        title: What happened, in words.
        change: The change, where it is one.
        hold: The hold, where it was opened.
    """

    at: float
    run: int
    badge: Badge
    title: str
    change: ChangeLine | None = None
    hold: StoredHold | None = None


async def search(site: Site, request: Request) -> Response:
    """Find an order by its id: its page where one link knows it, a choice where several do."""
    look = await site.look()
    typed = request.query_params.get("q", "").strip()
    order_id = whole(_TYPED.sub("", typed)) if typed else None
    if order_id is None:
        return site.render("search.html", look, typed=typed, order_id=None, found=[])
    known = [name for name in look.links if await _knows(site, name, order_id)]
    if len(known) == 1:
        return RedirectResponse(f"/links/{quote(known[0])}/orders/{order_id}", 303)
    return site.render("search.html", look, typed=typed, order_id=order_id, found=known)


async def show(site: Site, request: Request) -> Response:
    """One order of one link."""
    look = await site.look()
    name: str = request.path_params["link"]
    if name not in look.links:
        raise HTTPException(404, f"The configuration has no link {name}.")
    order_id = number_in_path(request, "order")
    link = look.links[name]
    before = number_in_query(request, "before")
    newest = await site.statistics.history(name, order_id, before, PAGE + 1)
    changes, more = newest[:PAGE], len(newest) > PAGE
    past = await site.store.past_holds(name, order_id)
    binding = None if link.row is None else await _binding(site, link.row.id, order_id)
    begun = await site.statistics.begun({one.run for one in changes if not one.at})
    story = Story(name, order_id, changes[::-1], past, binding)
    open_holds = [holds.card(name, link.settings, stored) for stored, released in past if released is None]
    return site.render(
        "order.html",
        look,
        link=name,
        order_id=order_id,
        why=list(why(story, look.at)) if before is None else [],
        agreed=agreed_owner(binding),
        listed=listed_owner(binding),
        open_holds=open_holds if before is None else [],
        attempt=None if link.row is None else await site.statistics.attempt(link.row.id, order_id),
        events=events(changes, past, begun, since=changes[-1].at if more else 0.0, whole=before is None),
        older=changes[-1].id if more else None,
        newest=before is None,
    )


async def _knows(site: Site, name: str, order_id: int) -> bool:
    row = await site.store.find_link(name)
    if row is not None and await _binding(site, row.id, order_id) is not None:
        return True
    if await site.statistics.history(name, order_id, None, 1):
        return True
    return bool(await site.store.past_holds(name, order_id))


async def _binding(site: Site, link_id: int, order_id: int) -> BindingRow | None:
    rows = await site.store.bindings(link_id, order_id - 1, min(order_id, LARGEST))
    return rows[0] if rows else None


def events(
    changes: Sequence[StoredChange],
    past: Sequence[tuple[StoredHold, float | None]],
    begun: Mapping[int, float],
    *,
    since: float,
    whole: bool,
) -> list[Event]:
    """Given what is recorded of an order, return it as events, newest first.

    Args:
        changes: Some of its changes, newest first.
        past: Its holds, each with the time it was released (None: open).
        begun: When runs began: what was only planned happened then.
        since: Holds before this are left for an older page.
        whole: These are the newest changes, so holds later than all of them belong here too.
    """
    upto = float("inf") if whole or not changes else changes[0].at
    found = [_of_change(one, begun) for one in changes]
    found += [event for event in _of_holds(past) if since <= event.at <= upto]
    return sorted(found, key=lambda event: (event.at, event.run), reverse=True)


def _of_change(one: StoredChange, begun: Mapping[int, float]) -> Event:
    change = one.change
    badge = OUTCOMES[one.outcome]
    if change.action is Action.AGREE:
        title = "Both sides agreed"
    elif one.outcome is Outcome.PLANNED:
        title = f"Planned: {change.action.value} in {words.side(change.side)}"
    else:
        title = f"{words.action(change.action).capitalize()} in {words.side(change.side)}"
        if one.outcome not in {Outcome.APPLIED, Outcome.ALREADY}:
            title = f"{change.action.value.capitalize()} in {words.side(change.side)}, not carried out"
    return Event(one.at or begun.get(one.run, 0.0), one.run, badge, title, change=change_line(one))


def _of_holds(past: Sequence[tuple[StoredHold, float | None]]) -> Iterator[Event]:
    for stored, released in past:
        kind = words.HOLD_KINDS[stored.hold.kind]
        yield Event(stored.hold.since, stored.run, Badge("held", "warn", "■"), f"Held: {kind}", hold=stored)
        if released is not None:
            how = f"decided: {words.decision(stored.decision)}" if stored.decision else "the facts changed"
            yield Event(released, 0, Badge("released", "calm", "○"), f"Released: {how}")
