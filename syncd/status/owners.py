"""What a person sees of deals and invoices: their titles, their addresses in the portal, and the orders of one of them.

Titles are fetched when a page, a command or a notification shows them, never by a pass, and are kept for a day in the
state database. Where the portal is away, or the credentials may not see an owner, its number is shown alone. The
addresses are those the portal shows people (portal.md 14). syncd shows them too, and never fetches them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, NamedTuple

import structlog

from syncd.config.model import Settings
from syncd.core.model import Facts, Hold, MaybeOwner, Owner
from syncd.core.ports import Clock
from syncd.core.records import NAMELESS, BindingRow, PortalNames, StoredChange, StoredHold
from syncd.engine.formatting import OrderHistory
from syncd.engine.report import owner_json
from syncd.errors import SyncdError
from syncd.portal.client import BitrixPortal
from syncd.portal.factory import token_key
from syncd.state.store import SqlStore

DEAL: Final = 2
"""The owner type of deals."""
KEPT: Final = 86_400.0
"""Seconds for which a stored title is used."""
MOST: Final = 500
"""Owners asked for in one request, in ten calls."""
PATIENCE: Final = 4.0
"""Seconds a person waits for titles at most."""
AGAIN: Final = 60.0
"""Seconds after which the same process asks again a portal that did not answer."""
KEPT_TOKEN: Final = 120.0
"""Seconds for which an access token must still be valid, so that fetching titles never renews it."""

log = structlog.get_logger("syncd.titles")

OpenPortal = Callable[[str], AbstractAsyncContextManager[BitrixPortal]]

# --------------------------------------------------------------------- labels


class Labels(NamedTuple):
    """What the owners of one link are called, and where they are.

    Args:
        origin: Its portal, `https://host[:port]`; empty where that is not known. Then there are no addresses.
        names: What the portal calls owners and types.
    """

    origin: str = ""
    names: PortalNames = NAMELESS

    def order_url(self, order_id: int) -> str:
        """Given an order id, return the order's address; empty for rows without an order id."""
        return f"{self.origin}/shop/orders/details/{order_id}/" if order_id > 0 and self.origin else ""

    def owner_url(self, owner: MaybeOwner) -> str:
        """Given an owner, return its address, or an empty text."""
        if owner is None or not self.origin:
            return ""
        kind = "deal" if owner.owner_type_id == DEAL else f"type/{owner.owner_type_id}"
        return f"{self.origin}/crm/{kind}/details/{owner.owner_id}/"

    def of_hold(self, hold: Hold) -> dict[str, Any]:
        """Given a hold, return the titles and addresses in its JSON form."""
        facts = hold.facts
        return self._json(hold.order_id, {"crm": facts.crm, "table": facts.table, "agreed": facts.agreed})

    def of_change(self, stored: StoredChange) -> dict[str, Any]:
        """Given a change, return the titles and addresses in its JSON form in a history."""
        return self._json(stored.change.order_id, {"before": stored.before, "after": stored.change.after})

    def _json(self, order_id: int, owners: Mapping[str, MaybeOwner]) -> dict[str, Any]:
        return {
            "titles": {place: self.names.titles.get(owner) if owner else None for place, owner in owners.items()},
            "urls": {"order": self.order_url(order_id) or None}
            | {place: self.owner_url(owner) or None for place, owner in owners.items()},
        }


NO_LABELS: Final = Labels()


def owners_of_facts(facts: Iterable[Facts]) -> set[MaybeOwner]:
    """Given what is known of orders, return all owners in it."""
    return {owner for one in facts for owner in (one.crm, one.table, one.agreed)}


def owners_of_order(story: OrderHistory) -> set[MaybeOwner]:
    """Given what is recorded of an order, return all owners in it."""
    owners = owners_of_changes(story.changes) | owners_of_facts(stored.hold.facts for stored, _released in story.holds)
    return owners if story.binding is None else owners | {story.binding.agreed, story.binding.listed}


def owners_of_changes(changes: Collection[StoredChange]) -> set[MaybeOwner]:
    """Given changes, return all owners in them."""
    return {owner for one in changes for owner in (one.before, one.change.after)}


# --------------------------------------------------------------------- titles


class Titles:
    """The names of the owners of all links.

    Args:
        settings: The configuration in force.
        store: The state database.
        clock: Time.
        open_portal: Opens the portal of a link.
    """

    def __init__(
        self, settings: Callable[[], Settings], store: SqlStore, clock: Clock, open_portal: OpenPortal
    ) -> None:
        self._settings = settings
        self._store = store
        self._clock = clock
        self._open_portal = open_portal
        self._not_before: dict[str, float] = {}
        self._fetching: dict[str, asyncio.Task[None]] = {}

    async def labels(self, link: str, owners: Collection[MaybeOwner]) -> Labels:
        """Given a link and owners, return their labels. Waits a few seconds for titles that must be fetched."""
        names, missing = await self._look_up(link, owners)
        if missing and self._begin(link, missing):
            await asyncio.wait({self._fetching[link]}, timeout=PATIENCE)
            names, _ = await self._look_up(link, owners)
        return Labels(self._origin(link), names)

    async def labels_at_hand(self, link: str, owners: Collection[MaybeOwner]) -> Labels:
        """Given a link and owners, return the labels known now. Missing titles are fetched in the background."""
        names, missing = await self._look_up(link, owners)
        if missing:
            self._begin(link, missing)
        return Labels(self._origin(link), names)

    async def kept(self, link: str) -> Labels:
        """Given a link, return all labels that are stored. The portal is not asked."""
        settings, row = self._settings().links.get(link), await self._store.find_link(link)
        if settings is None or not settings.titles or row is None:
            return Labels(self._origin(link))
        return Labels(self._origin(link), _portal_names(await self._store.all_names(row.id, self._clock.now() - KEPT)))

    async def aclose(self) -> None:
        """Cancel all fetches."""
        for task in list(self._fetching.values()):
            task.cancel()
            await asyncio.wait({task})

    def _origin(self, link: str) -> str:
        settings = self._settings().links.get(link)
        return settings.portal.origin if settings is not None else ""

    async def _look_up(self, link: str, owners: Collection[MaybeOwner]) -> tuple[PortalNames, list[Owner]]:
        """Return the stored names, and the owners and types (owner id 0) that must be fetched."""
        settings = self._settings().links.get(link)
        wanted = sorted({owner for owner in owners if owner is not None})
        if settings is None or not settings.titles or not wanted:
            return NAMELESS, []
        row = await self._store.find_link(link)
        if row is None:
            return NAMELESS, []
        types = sorted({Owner(owner.owner_type_id, 0) for owner in wanted})
        found = await self._store.names(row.id, [*types, *wanted], self._clock.now() - KEPT)
        return _portal_names(found), [owner for owner in [*types, *wanted] if owner not in found]

    def _begin(self, link: str, missing: list[Owner]) -> bool:
        """Start a fetch, unless one is running or the portal failed a moment ago; return whether one is running."""
        if link in self._fetching:
            return True
        if self._clock.monotonic() < self._not_before.get(link, float("-inf")):
            return False
        task = self._fetching[link] = asyncio.create_task(self._fetch(link, missing), name=f"titles {link}")
        task.add_done_callback(lambda _task: self._fetching.pop(link, None))
        return True

    async def _fetch(self, link: str, missing: list[Owner]) -> None:
        try:
            if not await self._has_credentials(link):
                return
            async with self._open_portal(link) as portal:
                names = await portal.titles([owner for owner in missing if owner.owner_id][:MOST])
                if types := [owner for owner in missing if not owner.owner_id]:
                    types_named = await portal.owner_types()
                    names |= {owner: types_named.get(owner.owner_type_id, "") for owner in types}
            row = await self._store.find_link(link)
            if row is not None and names:
                now = self._clock.now()
                await self._store.keep_names(row.id, names, now, now - KEPT)
        except SyncdError as error:
            self._not_before[link] = self._clock.monotonic() + AGAIN
            log.info("titles not fetched", link=link, reason=error.message)
        except Exception:
            # Titles are optional: a bug here must not end the daemon, or hide a decision that is needed.
            self._not_before[link] = self._clock.monotonic() + AGAIN
            log.exception("titles crashed", link=link)

    async def _has_credentials(self, link: str) -> bool:
        """Return whether the portal can be asked without renewing the token pair.

        A fetch may be cancelled, and the renewal of a pair must not be; passes renew it.
        """
        portal = self._settings().links[link].portal
        if portal.oauth is None:
            return True
        kept = await self._store.token(token_key(portal))
        return kept is not None and float(kept["expires_at"]) > self._clock.now() + KEPT_TOKEN


def _portal_names(found: Mapping[Owner, str]) -> PortalNames:
    return PortalNames(
        {owner: name for owner, name in found.items() if owner.owner_id and name},
        {owner.owner_type_id: name for owner, name in found.items() if not owner.owner_id and name},
    )


# --------------------------------------------------------------------- orders


class OwnedOrder(NamedTuple):
    """An order that has, or may get, a given owner.

    Args:
        order_id: The order.
        crm: Its owner when the CRM was last completely listed.
        agreed: The owner both sides agreed on last.
        hold: Its open hold, if it is held.
    """

    order_id: int
    crm: MaybeOwner
    agreed: MaybeOwner
    hold: StoredHold | None = None


async def orders_of_owner(store: SqlStore, link: str, owner: Owner, limit: int) -> list[OwnedOrder]:
    """Given an owner, return the first orders that are bound to it, agreed to be, or held with it on one side.

    Args:
        store: The state database.
        link: The link's name.
        owner: The owner.
        limit: How many orders at most.
    """
    row = await store.find_link(link)
    if row is None:
        return []
    holds = {one.hold.order_id: one for one in await store.holds(row.id) if one.hold.order_id > 0}
    found = {one.order_id: _owned(one, holds) for one in await store.bindings_of_owner(row.id, owner, limit)}
    named = [one for one in holds.values() if owner in {one.hold.facts.crm, one.hold.facts.table}]
    for one in named:
        facts = one.hold.facts
        found.setdefault(one.hold.order_id, OwnedOrder(one.hold.order_id, facts.crm, facts.agreed, one))
    return [found[order] for order in sorted(found)][:limit]


def order_json(one: OwnedOrder) -> dict[str, Any]:
    """Given an order of an owner, return its JSON form."""
    return {
        "order_id": one.order_id,
        "crm": owner_json(one.crm),
        "agreed": owner_json(one.agreed),
        "held": one.hold.hold.kind.value if one.hold is not None else None,
    }


def _owned(row: BindingRow, holds: dict[int, StoredHold]) -> OwnedOrder:
    return OwnedOrder(row.order_id, row.listed, row.agreed, holds.get(row.order_id))
