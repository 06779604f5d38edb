"""Do the owners exist? The portal binds an order to whatever it is told (bitrix24-rest.md 3), so syncd asks before."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import Any, Final

import structlog

from syncd.core.model import Owner
from syncd.portal.codes import Fault
from syncd.portal.commands import MAX_COMMANDS, PAGE, list_items
from syncd.portal.envelope import CommandAnswer, whole
from syncd.portal.reading import Reader
from syncd.portal.session import Session

REMEMBERED: Final = 3600.0
"""Seconds for which an owner that was seen is taken to exist."""

WITNESSES: Final = 10
"""Witnesses of a type that are asked for: one that is seen is enough."""

log = structlog.get_logger(__name__)


class Owners:
    """Which owners exist.

    Args:
        session: The way to the portal.
        reader: Knows whether the portal understands IN lists.
        verify: False asks for nothing and calls nothing missing.
    """

    def __init__(self, session: Session, reader: Reader, *, verify: bool) -> None:
        self._session = session
        self._reader = reader
        self._verify = verify
        self._seen: dict[Owner, float] = {}
        self._warned: set[int] = set()

    async def missing(self, owners: Collection[Owner], witnesses: Collection[Owner]) -> set[Owner]:
        """Given owners to bind orders to, return those that certainly do not exist.

        Args:
            owners: The owners to ask for.
            witnesses: Owners that orders are bound to now. Where no owner of a type can be seen, neither a witness nor
                one of those asked for, the credentials may not see that type, and none of its owners is called missing.

        Raises:
            AuthError, PortalBlocked, UnavailableError: As their names say.
        """
        if not self._verify:
            return set()
        since = self._session.clock.now() - REMEMBERED
        self._seen = {owner: at for owner, at in self._seen.items() if at > since}
        unsure = {owner for owner in owners if owner not in self._seen}
        if not unsure:
            return set()
        types = {owner.owner_type_id for owner in unsure}
        seen, unclear = await self._ask(unsure | _some(witnesses, types))
        visible = {owner.owner_type_id for owner in (*seen, *self._seen)}
        for owner_type_id in types - visible - unclear:
            self._warn(owner_type_id, "none of them can be seen")
        # One part of a type unanswered: what was not seen of it may well be there.
        judged = visible - unclear
        return {owner for owner in unsure if owner not in seen and owner.owner_type_id in judged}

    async def sees(self, witnesses: Collection[Owner]) -> bool | None:
        """Given owners that orders are bound to now, return whether any can be seen; None if that is not asked."""
        if not self._verify or not witnesses:
            return None
        types = {owner.owner_type_id for owner in witnesses}
        seen, _ = await self._ask(_some(witnesses, types))
        return bool(seen)

    async def _ask(self, owners: Collection[Owner]) -> tuple[set[Owner], set[int]]:
        """Given owners, return those that can be seen, and the types that could not be asked for (warned of once)."""
        size = 1 if len(owners) > 1 and await self._reader.without_in_lists() else PAGE
        by_type: dict[int, list[int]] = defaultdict(list)
        for owner in sorted(owners):
            by_type[owner.owner_type_id].append(owner.owner_id)
        calls = [
            (owner_type_id, ids[low : low + size])
            for owner_type_id, ids in by_type.items()
            for low in range(0, len(ids), size)
        ]
        seen: set[Owner] = set()
        unclear: set[int] = set()
        for low in range(0, len(calls), MAX_COMMANDS):
            keyed = {f"i{number}": call for number, call in enumerate(calls[low : low + MAX_COMMANDS])}
            answer = await self._session.read({key: list_items(*call) for key, call in keyed.items()})
            for key, (owner_type_id, ids) in keyed.items():
                found = _items(answer.commands.get(key), ids)
                if isinstance(found, Fault):
                    self._warn(owner_type_id, str(found))
                    unclear.add(owner_type_id)
                else:
                    seen |= {Owner(owner_type_id, owner_id) for owner_id in found}
        now = self._session.clock.now()
        self._seen |= dict.fromkeys(seen, now)
        return seen, unclear

    def _warn(self, owner_type_id: int, reason: str) -> None:
        if owner_type_id not in self._warned:
            self._warned.add(owner_type_id)
            log.warning("owners not verified", link=self._session.link, owner_type_id=owner_type_id, reason=reason)


def _some(witnesses: Iterable[Owner], types: Collection[int]) -> set[Owner]:
    some: dict[int, list[Owner]] = defaultdict(list)
    for owner in sorted(witnesses):
        if owner.owner_type_id in types and len(some[owner.owner_type_id]) < WITNESSES:
            some[owner.owner_type_id].append(owner)
    return {owner for several in some.values() for owner in several}


def _items(answer: CommandAnswer | None, asked: Collection[int]) -> set[int] | Fault:
    """Given the answer to a list of items by id, return the ids found, or why they cannot be told."""
    if answer is None:
        return Fault("", "no answer to the command")
    if answer.fault is not None:
        return answer.fault
    items: Any = answer.result.get("items") if isinstance(answer.result, dict) else None
    if isinstance(items, dict):
        items = list(items.values())
    if not isinstance(items, list):
        return Fault("", "an answer without items")
    ids = {whole(item.get("id")) if isinstance(item, dict) else None for item in items}
    found = {one for one in ids if one is not None}
    if len(found) != len(ids) or not found <= set(asked):
        return Fault("", "items that were not asked for")
    return found
