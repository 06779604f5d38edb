"""Finding an order, everything that ever happened to it, and the orders that are held."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from syncd.config.model import LinkSettings
from syncd.core.model import Action, HoldKind, Outcome, Owner
from syncd.core.order_ranges import LARGEST_ID
from syncd.core.records import BindingRow, Decision, StoredChange, StoredHold
from syncd.daemon.pages.badges import Badge, badge, badge_of_outcome
from syncd.daemon.pages.runs import ChangeLine, change_line
from syncd.daemon.pages.site import (
    Site,
    StatusSnapshot,
    number_in_path,
    number_in_query,
    whole,
    word_in_query,
)
from syncd.engine import formatting
from syncd.engine.formatting import OrderHistory, explain
from syncd.status.health import Tone
from syncd.status.links import LinkStatus
from syncd.status.needs import advice, consequence, sides_to_keep
from syncd.status.owners import Labels, OwnedOrder, orders_of_owner, owners_of_facts, owners_of_order

CHANGES_ON_A_PAGE: Final = 100
"""Changes on one page."""
OWNED: Final = 200
"""Orders of one deal that are shown."""
_TYPED: Final = re.compile(r"[\s#№.,'_\u00a0\u202f]")
"""What people type around and within a number."""


@dataclass(frozen=True, slots=True)
class HistoryEvent:
    """One thing that happened to an order.

    Args:
        at: When, in seconds since the epoch; 0 where that is not known.
        run: The run that did it; 0 for none.
        badge: What it is.
        title: What happened, in words.
        change: The change, where it is one.
        hold: The hold, where it was opened.
        decision: What a person decided, where it is that.
    """

    at: float
    run: int
    badge: Badge
    title: str
    change: ChangeLine | None = None
    hold: StoredHold | None = None
    decision: Decision | None = None


async def search(site: Site, request: Request) -> Response:
    """Find an order by its id: its page where one link knows it, a choice where several do. Or the orders of a deal."""
    look = await site.snapshot()
    typed = request.query_params.get("q", "").strip()
    order_id = whole(_TYPED.sub("", typed)) if typed else None
    wanted = formatting.parse_owner(typed) if order_id is None else None
    values: dict[str, Any] = {
        "typed": typed,
        "order_id": order_id,
        "found": [],
        "wanted": wanted,
        "owned": [],
        "most": OWNED,
    }
    if wanted is not None:
        return site.render("search.html", look, **values | {"owned": await _owned(site, look, wanted)})
    if order_id is None:
        return site.render("search.html", look, **values)
    known = [name for name in look.links if await _knows(site, name, order_id)]
    if len(known) == 1:
        return RedirectResponse(f"/links/{quote(known[0])}/orders/{order_id}", 303)
    return site.render("search.html", look, **values | {"found": known})


async def _owned(site: Site, look: StatusSnapshot, wanted: Owner) -> list[tuple[str, Labels, list[OwnedOrder]]]:
    """Return the orders of an owner, by link; links that know none are left out."""
    found = {name: await orders_of_owner(site.store, name, wanted, OWNED) for name in look.links}
    return [(name, await site.labels(name, [wanted]), orders) for name, orders in found.items() if orders]


async def show(site: Site, request: Request) -> Response:
    """One order of one link."""
    look = await site.snapshot()
    name: str = request.path_params["link"]
    if name not in look.links:
        raise HTTPException(404, f"The configuration has no link {name}.")
    order_id = number_in_path(request, "order")
    link = look.links[name]
    before = number_in_query(request, "before")
    newest = (await site.store.history(name, order_id, CHANGES_ON_A_PAGE + 1, before))[::-1]
    changes, more = newest[:CHANGES_ON_A_PAGE], len(newest) > CHANGES_ON_A_PAGE
    past = await site.store.past_holds(name, order_id)
    binding = None if link.row is None else await _binding(site, link.row.id, order_id)
    begun = await site.store.run_starts({one.run for one in changes if not one.at})
    decisions = await site.store.decisions(name, order_id=order_id)
    story = OrderHistory(name, order_id, changes[::-1], past, binding, decisions)
    labels = await site.labels(name, owners_of_order(story))
    open_holds = await hold_cards(site, link, [stored for stored, released in past if released is None])
    return site.render(
        "order.html",
        look,
        link=name,
        order_id=order_id,
        labels=labels,
        why=list(explain(story, look.at, labels.names)) if before is None else [],
        agreed=binding.agreed if binding is not None else None,
        listed=binding.listed if binding is not None else None,
        open_holds=open_holds if before is None else [],
        attempt=None if link.row is None else (await site.store.attempts(link.row.id, [order_id])).get(order_id),
        events=events(story, begun, since=changes[-1].at if more else 0.0, whole=before is None),
        older=changes[-1].id if more else None,
        newest=before is None,
    )


async def _knows(site: Site, name: str, order_id: int) -> bool:
    row = await site.store.find_link(name)
    if row is not None and await _binding(site, row.id, order_id) is not None:
        return True
    if await site.store.history(name, order_id, 1):
        return True
    return bool(await site.store.past_holds(name, order_id))


async def _binding(site: Site, link_id: int, order_id: int) -> BindingRow | None:
    rows = await site.store.bindings(link_id, order_id - 1, min(order_id, LARGEST_ID))
    return rows[0] if rows else None


def events(story: OrderHistory, begun: Mapping[int, float], *, since: float, whole: bool) -> list[HistoryEvent]:
    """Given what is recorded of an order, return it as events, newest first.

    Args:
        story: Some of its changes, all of its holds and decisions.
        begun: When runs began: what was only planned happened then.
        since: Holds and decisions before this are left for an older page.
        whole: These are the newest changes, so what is later than all of them belongs here too.
    """
    upto = float("inf") if whole or not story.changes else story.changes[-1].at
    found = [_of_change(one, begun) for one in story.changes[::-1]]
    found += [event for event in (*_of_holds(story.holds), *_of_decisions(story)) if since <= event.at <= upto]
    return sorted(found, key=lambda event: (event.at, event.run), reverse=True)


def _of_change(one: StoredChange, begun: Mapping[int, float]) -> HistoryEvent:
    change = one.change
    if change.action is Action.AGREE:
        title = "Let go" if formatting.was_let_go(change) else "Both sides agreed"
    elif one.outcome is Outcome.PLANNED:
        title = f"Planned: {change.action.value} in {formatting.side(change.side)}"
    else:
        title = f"{formatting.action(change.action).capitalize()} in {formatting.side(change.side)}"
        if one.outcome not in {Outcome.APPLIED, Outcome.ALREADY}:
            title = f"{change.action.value.capitalize()} in {formatting.side(change.side)}, not carried out"
    return HistoryEvent(
        one.at or begun.get(one.run, 0.0), one.run, badge_of_outcome(one.outcome), title, change=change_line(one)
    )


def _of_holds(past: Sequence[tuple[StoredHold, float | None]]) -> Iterator[HistoryEvent]:
    for stored, released in past:
        kind = formatting.HOLD_KINDS[stored.hold.kind]
        yield HistoryEvent(stored.hold.since, stored.run, badge("held", Tone.WARN), f"Held: {kind}", hold=stored)
        if released is not None:
            how = formatting.why_released(stored)
            yield HistoryEvent(released, 0, badge("released", Tone.CALM), f"Released: {how}")


def _of_decisions(story: OrderHistory) -> Iterator[HistoryEvent]:
    for one in story.decisions:
        said = formatting.decision(one.said)
        yield HistoryEvent(one.at, 0, badge("decided", Tone.BUSY), f"Decided: {said}", decision=one)


HOLDS_ON_A_PAGE: Final = 50
"""Holds of a link on one page."""
HOLDS_OF_EACH_LINK: Final = 10
"""Holds of each link where all links are shown."""


@dataclass(frozen=True, slots=True)
class HoldCard:
    """One open hold as the pages show it.

    Args:
        link: Its link.
        stored: The hold.
        title: The kind of the hold, in words.
        advice: How to fix it; empty for a conflict, which is decided.
        decided: What was decided; empty while nothing is.
        commands: What decides it, each with what it does.
        labels: The titles and addresses of its owners.
        decision: Who decided; empty if the hold is not decided.
    """

    link: str
    stored: StoredHold
    title: str
    advice: str
    decided: str
    commands: list[tuple[str, str]]
    labels: Labels
    decision: Decision | None = None

    @property
    def url(self) -> str:
        """Where the order is found in the portal."""
        return self.labels.order_url(self.stored.hold.order_id)


@dataclass(frozen=True, slots=True)
class LinkHolds:
    """The holds of one link: how many of each kind, some of them, and the order after which the next ones come."""

    link: LinkStatus
    kinds: list[tuple[HoldKind, int]]
    cards: list[HoldCard]
    after: int | None


async def hold_cards(site: Site, link: LinkStatus, held: Sequence[StoredHold]) -> list[HoldCard]:
    """Given open holds of a link, return them as they are shown."""
    labels = await site.labels(link.name, owners_of_facts(one.hold.facts for one in held))
    decided = [one.hold.order_id for one in held if one.decision]
    decisions = await site.store.last_decisions(link.name, decided) if decided else {}
    return [_hold_card(link, one, labels, decisions.get(one.hold.order_id)) for one in held]


def _hold_card(link: LinkStatus, stored: StoredHold, labels: Labels, decision: Decision | None) -> HoldCard:
    hold = stored.hold
    return HoldCard(
        link=link.name,
        stored=stored,
        title=formatting.HOLD_KINDS[hold.kind],
        advice=advice(hold, link.settings.policy()),
        decided=formatting.decision(stored.decision) if stored.decision else "",
        commands=_deciding(link.name, link.settings, stored, labels) if hold.order_id > 0 else [],
        labels=labels,
        decision=decision,
    )


def _deciding(link: str, settings: LinkSettings, stored: StoredHold, labels: Labels) -> list[tuple[str, str]]:
    hold, policy = stored.hold, settings.policy()
    options = {side.value: f"--keep {side.value}" for side in sides_to_keep(hold, policy)} | {"retry": "--retry"}
    return [
        (f"syncd resolve {link} {hold.order_id} {option}", consequence(hold, decision, policy, labels.names))
        for decision, option in options.items()
    ]


async def open_holds(site: Site, request: Request) -> Response:
    """The open holds of all links, or of one."""
    look = await site.snapshot()
    name: str | None = request.path_params.get("link")
    if name is not None and name not in look.links:
        raise HTTPException(404, f"The configuration has no link {name}.")
    kind = word_in_query(request, "kind", HoldKind)
    after = number_in_query(request, "after", signed=True)
    limit = HOLDS_OF_EACH_LINK if name is None else HOLDS_ON_A_PAGE
    shown = look.links.values() if name is None else [look.links[name]]
    found = [await _of_link(site, link, kind, after, limit) for link in shown]
    return site.render(
        "holds.html",
        look,
        link=name,
        kind=kind,
        paged=after is not None,
        links=[one for one in found if one.link.holds],
    )


async def _of_link(site: Site, link: LinkStatus, kind: HoldKind | None, after: int | None, limit: int) -> LinkHolds:
    if link.row is None:
        return LinkHolds(link, [], [], None)
    held = await site.store.holds(link.row.id, kind=kind, after=after, limit=limit + 1)
    return LinkHolds(
        link=link,
        kinds=Counter(hold.kind for hold in link.holds).most_common(),
        cards=await hold_cards(site, link, held[:limit]),
        after=held[limit - 1].hold.order_id if len(held) > limit else None,
    )
