"""Asking for the bindings of given orders.

Fifty orders fit into one IN list. But boxes of mid-2024 and older take any IN list for "= 1" (portal.md 0.3), so bound
orders would look unbound. IN is trusted only once it has found a binding that equality finds, too, in the same batch.
Until then, and on such boxes, each order is asked for by equality. An update or a restore may change a portal at any
moment, so each later batch shows it again: lists that all find nothing are asked for once more, with such a binding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from syncd.core.model import Owner, Unreadable
from syncd.errors import UnavailableError
from syncd.portal.commands import MAX_COMMANDS, PAGE, list_newest, list_order, list_orders
from syncd.portal.hosts import Ability
from syncd.portal.pages import NO_OWNER, UnusablePage, page_of
from syncd.portal.responses import CommandAnswer
from syncd.portal.session import Session

TRIES: Final = 4
_NEWEST: Final = "newest"
_EQUAL: Final = "equal"
_IN: Final = "in"


class Reader:
    """Reads single orders, and knows whether the portal understands IN lists.

    Args:
        session: The way to the portal.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._in_lists: bool | None = session.host.has(Ability.IN_LISTS) or None
        self._witness = 0

    @property
    def in_lists(self) -> bool:
        """Whether IN lists are known to work."""
        return self._in_lists is True

    def note_bound(self, order_id: int) -> None:
        """Note a bound order, which can bear witness to IN lists. Order 1 cannot, since a misread IN finds it."""
        if order_id > 1:
            self._witness = order_id

    async def read(self, order_ids: Sequence[int]) -> dict[int, Owner | Unreadable]:
        """Given order ids, return the owners of those that are bound; an owner that cannot be read is `Unreadable`.

        Raises:
            UnavailableError: At least one id could not be asked for.
            AuthError, PortalBlocked: As their names say.
        """
        left = sorted(set(order_ids))
        found: dict[int, Owner | Unreadable] = {}
        problem, tries = "", 0
        while left:
            asked = self._compose(left)
            answer = await self._session.send({key: command for key, (command, _) in asked.items()})
            self._learn(answer.commands)
            trusted = self._still_finds(asked, answer.commands)
            answered: set[int] = set()
            for key, (_, ids) in asked.items():
                if ids and (len(ids) == 1 or trusted):
                    try:
                        found |= owners_of(answer.commands.get(key), ids)
                    except UnusablePage as error:
                        problem = str(error)
                        self._session.end_if_refused(answer.commands.get(key))
                    else:
                        answered.update(ids)
            left = [order_id for order_id in left if order_id not in answered]
            tries = 0 if answered else tries + 1
            if tries >= TRIES:
                raise UnavailableError(
                    f"The portal {self._session.host.name} does not say what {len(left)} orders are bound to: "
                    f"{problem or 'its IN lists find nothing'}.",
                    hint="The next run asks again.",
                )
        return found

    def _still_finds(
        self, asked: Mapping[str, tuple[str, Sequence[int]]], answers: Mapping[str, CommandAnswer]
    ) -> bool:
        """Return whether a batch's own answers show that its IN lists work; without that, they are not trusted."""
        if not self.in_lists:
            return False
        lists = {key: ids for key, (_, ids) in asked.items() if len(ids) > 1}
        if _IN in asked or not lists or any(_finds_some(answers.get(key), ids) for key, ids in lists.items()):
            return True
        self._in_lists = None
        self._session.host.forget(Ability.IN_LISTS)
        return False

    async def without_in_lists(self) -> bool:
        """Return whether the portal is known not to understand IN lists; find out now if a witness is at hand."""
        if self._in_lists is None and self._witness:
            asked = {_EQUAL: list_order(self._witness), _IN: list_orders([self._witness])}
            self._learn((await self._session.send(asked)).commands)
        return self._in_lists is False

    def _compose(self, order_ids: Sequence[int]) -> dict[str, tuple[str, Sequence[int]]]:
        """Given orders, return a batch for as many of them as fit: the command and the orders it asks for, by key."""
        asked: dict[str, tuple[str, Sequence[int]]] = {}
        if self._in_lists is None and len(order_ids) > 1:
            if self._witness:
                asked[_EQUAL] = list_order(self._witness), ()
                asked[_IN] = list_orders([self._witness]), ()
            else:
                asked[_NEWEST] = list_newest(), ()
        size = PAGE if self._in_lists or (self._in_lists is None and self._witness) else 1
        for start in range(0, min(len(order_ids), (MAX_COMMANDS - len(asked)) * size), size):
            some = order_ids[start : start + size]
            asked[f"o{start}"] = (list_orders(some) if len(some) > 1 else list_order(some[0])), some
        return asked

    def _learn(self, answers: Mapping[str, CommandAnswer]) -> None:
        """Find out from the witness whether IN lists work; look for another witness where it is unbound by now."""
        try:
            if _NEWEST in answers:
                for order_id in page_of(answers[_NEWEST]).order_ids:
                    self.note_bound(order_id)
            if _EQUAL in answers and _IN in answers:
                plain = owners_of(answers[_EQUAL], (self._witness,))
                self._in_lists = _finds(answers[_IN], self._witness) if plain else None
                self._witness = self._witness if plain else 0
                if self._in_lists:
                    self._session.host.note(Ability.IN_LISTS)
        except UnusablePage:
            return


def owners_of(answer: CommandAnswer | None, order_ids: Sequence[int]) -> dict[int, Owner | Unreadable]:
    """Given the answer to a list of these orders, return their owners.

    Raises:
        UnusablePage: There is no answer, or it holds rows that were not asked for.
    """
    page = page_of(answer)
    owners = {row.order_id: row.owner if row.owner_id else NO_OWNER for row in page.rows()}
    if len(owners) != len(page) or not owners.keys() <= set(order_ids):
        raise UnusablePage("rows that were not asked for: the portal ignored the filter")
    return owners


def _finds_some(answer: CommandAnswer | None, order_ids: Sequence[int]) -> bool:
    """Given the answer to an IN list of several orders, return whether it found one that "= 1" would not find."""
    try:
        return any(order_id > 1 for order_id in owners_of(answer, order_ids))
    except UnusablePage:
        return False


def _finds(answer: CommandAnswer, order_id: int) -> bool:
    """Given the answer to an IN list of one order, return whether it found it, and only it."""
    return page_of(answer).order_ids == [order_id]
