"""Open holds: what each side says, and the command that decides."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from syncd.config.model import LinkSettings
from syncd.core.diff import resolvable
from syncd.core.model import HoldKind, Side
from syncd.core.records import StoredHold
from syncd.daemon.pages.asking import number_in_query, word_in_query
from syncd.daemon.pages.site import Site
from syncd.daemon.status import LinkStatus
from syncd.engine import words

PAGE: Final = 50
"""Holds of a link on one page."""
FIRST: Final = 10
"""Holds of each link where all links are shown."""


@dataclass(frozen=True, slots=True)
class HoldCard:
    """One open hold as the pages show it.

    Args:
        link: Its link.
        stored: The hold.
        title: Its kind, in words.
        advice: What mends it; empty for a conflict, which is decided.
        decided: What was decided; empty while nothing is.
        commands: What decides it, each with what it does.
    """

    link: str
    stored: StoredHold
    title: str
    advice: str
    decided: str
    commands: list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class LinkHolds:
    """The holds of one link: how many of each kind, some of them, and the order after which the next ones come."""

    link: LinkStatus
    kinds: list[tuple[HoldKind, int]]
    cards: list[HoldCard]
    after: int | None


def card(link: str, settings: LinkSettings, stored: StoredHold) -> HoldCard:
    """Given an open hold, return it as it is shown."""
    hold = stored.hold
    return HoldCard(
        link=link,
        stored=stored,
        title=words.HOLD_KINDS[hold.kind],
        advice=words.ADVICE.get(hold.kind, ""),
        decided=words.decision(stored.decision) if stored.decision else "",
        commands=_commands(link, settings, stored) if hold.order_id else [],
    )


def _commands(link: str, settings: LinkSettings, stored: StoredHold) -> list[tuple[str, str]]:
    hold, policy = stored.hold, settings.policy()
    found = []
    for side, value in ((Side.CRM, hold.facts.crm), (Side.TABLE, hold.facts.table)):
        if not resolvable(hold, side, policy):
            does = f"{words.owner(value)} on both sides" if value is not None else "unbound on both sides"
            found.append((f"syncd resolve {link} {hold.order_id} --keep {side.value}", does))
    found.append((f"syncd resolve {link} {hold.order_id} --retry", "look at it as if for the first time"))
    return found


async def show(site: Site, request: Request) -> Response:
    """The open holds of all links, or of one."""
    look = await site.look()
    name: str | None = request.path_params.get("link")
    if name is not None and name not in look.links:
        raise HTTPException(404, f"The configuration has no link {name}.")
    kind = word_in_query(request, "kind", HoldKind)
    after = number_in_query(request, "after")
    limit = FIRST if name is None else PAGE
    shown = look.links.values() if name is None else [look.links[name]]
    found = [await _of_link(site, link, kind, -1 if after is None else after, limit) for link in shown]
    return site.render(
        "holds.html",
        look,
        link=name,
        kind=kind,
        paged=after is not None,
        links=[one for one in found if one.link.holds],
    )


async def _of_link(site: Site, link: LinkStatus, kind: HoldKind | None, after: int, limit: int) -> LinkHolds:
    if link.row is None:
        return LinkHolds(link, [], [], None)
    held = await site.statistics.open_holds(link.row.id, kind, after, limit + 1)
    return LinkHolds(
        link=link,
        kinds=Counter(hold.kind for hold in link.holds).most_common(),
        cards=[card(link.name, link.settings, stored) for stored in held[:limit]],
        after=held[limit - 1].hold.order_id if len(held) > limit else None,
    )
