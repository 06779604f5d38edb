"""What the credentials and the portal's batches can do, found out by calls without any effect.

Rights are asked for with an `add` of nothing (portal.md 13.43). That a batch can carry the condition of a write is
read out of the server's source (6.6) and promised by no document, so it is tried by seven questions, unless the portal
has answered them well within the last ten minutes (`hosts.REMEMBERED`). A portal that answers one of them otherwise is
written to in the old way: orders are read right before they are written. Two more questions say whether a bind needs
one list or two.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Final

import structlog

from syncd.core.model import Owner, Row
from syncd.core.ports import Rights
from syncd.portal.commands import (
    SMALLEST_PAIRED,
    Witness,
    can_be_paired,
    can_pair,
    can_witness,
    get_fields,
    list_newest,
    list_window,
    probe_conditions,
    probe_pairs,
    probe_write,
)
from syncd.portal.hosts import Ability
from syncd.portal.pages import UnusablePage, page_of, split
from syncd.portal.responses import ENDS_THE_RUN, OWNER_ID_EMPTY, ApiErrorKind, CommandAnswer, kind_of, number
from syncd.portal.session import Session

log = structlog.get_logger(__name__)

_FIELDS: Final = {"orderId", "ownerId", "ownerTypeId"}
"""The fields of a binding."""

KEPT: Final = 8
"""Witnesses kept of each owner type, besides those too small for pairs."""

UNBOUND: Final = 2_147_483_647
"""An order id that no portal has reached; nor the few right below it, which further tries take."""

TRIES: Final = 3
"""How often the probe is made where bindings change meanwhile."""

_FINDS: Final = {"a": True, "b": False, "c": True, "d": False, "e": True, "f": False, "g": True}
"""Which of the seven questions find the known order."""


async def probe_rights(session: Session) -> tuple[Rights, list[Row]]:
    """Return the rights on bindings (owners aside), and the bindings that were seen on the way.

    Raises:
        AuthError, PortalBlocked, UnavailableError: The portal does not let these credentials in at all.
    """
    sent = {"fields": get_fields(), "newest": list_newest(), "add": probe_write()}
    answer = await session.send(sent)
    now, answers = session.clock.now(), answer.commands
    details: list[str] = []
    details += _fields_problem(answers.get("fields"))
    read: bool | None = True
    rows: list[Row] = []
    try:
        rows = page_of(answers.get("newest")).rows()
    except UnusablePage as problem:
        read = _read_right(answers.get("newest"))
        details.append(f"bindings cannot be read: {problem}")
    write = _may_write(answers.get("add"), details)
    finished = number(answer.time.get("finish"))
    ahead = finished - now if finished else None
    return Rights(read=read, write=write, sees_owners=None, detail=tuple(details), clock_ahead=ahead), split(rows)[0]


def _read_right(answer: CommandAnswer | None) -> bool | None:
    """Given a list without a usable answer, return False where the right is missing, else None: unknown."""
    return False if answer is not None and answer.error is not None and kind_of(answer.error) in ENDS_THE_RUN else None


def _may_write(answer: CommandAnswer | None, details: list[str]) -> bool | None:
    """Given the answer to an `add` of nothing, return whether the right was there; rights are checked before ids."""
    if answer is None or answer.error is None:
        details.append("the write right is unknown: the portal did not refuse an add of order 0")
        return None
    error = answer.error
    said = str(error)
    if kind_of(error) in ENDS_THE_RUN:
        details.append(f"bindings cannot be written: {said}")
        return False
    if kind_of(error) is not ApiErrorKind.REFUSED:
        details.append(f"the write right is unknown: {said}")
        return None
    if error.code != OWNER_ID_EMPTY:
        # Old boxes: PHP's own words for an order that is not there, but past the check of the right.
        details.append(f"the portal answers the write probe in an unusual way: {said}")
    return True


def _fields_problem(answer: CommandAnswer | None) -> list[str]:
    fields = answer.result.get("orderEntity") if answer is not None and isinstance(answer.result, dict) else None
    if isinstance(fields, dict) and fields.keys() >= _FIELDS:
        return []
    said = answer.error if answer is not None and answer.error is not None else "an answer of another shape"
    return [f"crm.orderentity.getFields: {said}"]


class Witnesses:
    """Bound orders that can bear witness: what conditional binds, and the probe of conditions, lean on (portal.md 6.6).

    A witness has to be bound, and its order id must not be larger than that of the order to bind. So the smallest known
    ones of each owner type are kept, a few of them, since any may be unbound at any time.
    """

    def __init__(self) -> None:
        self._by_type: dict[int, list[Row]] = {}

    def note(self, rows: Sequence[Row]) -> None:
        """Note bound orders. They ascend by order id, so most chunks of a listing need only a glance."""
        if not rows:
            return
        full = {kind for kind, kept in self._by_type.items() if _is_full(kept) and kept[-1].order_id <= rows[0][0]}
        if set(map(itemgetter(1), rows)) <= full:
            return
        for row in rows:
            kept = self._by_type.setdefault(row[1], [])
            if _is_full(kept) and row[0] >= kept[-1].order_id:
                continue
            kept[:] = [one for one in kept if one.order_id != row[0]]
            insort(kept, Row(*row))
            del kept[_small(kept) + KEPT :]

    def set_owner(self, order_id: int, owner: Owner | None) -> None:
        """Note that an order is bound to this owner now, or to none."""
        for kept in self._by_type.values():
            kept[:] = [one for one in kept if one.order_id != order_id]
        if owner is not None:
            self.note([Row(order_id, *owner)])

    def for_order(self, order_id: int) -> Row | None:
        """Return a witness for an order that is to be bound; None where no known order can be one."""
        return min((one for one in self._all() if can_witness(one, order_id)), key=_shortest, default=None)

    def known(self) -> Row | None:
        """Return an order that the probe of conditions can be made with."""
        return min((one for one in self._all() if can_witness(one, one.order_id)), key=_shortest, default=None)

    def pair_for(self, order_id: int) -> Row | None:
        """Return a witness that makes a pair with an order that is to be bound; None where no known order does."""
        return min((one for one in self._all() if can_pair(one, order_id)), default=None)

    def pair(self) -> list[Row]:
        """Return the orders that the probe of pairs can be made with, the smaller id first: two, or fewer."""
        return sorted(filter(can_be_paired, self._all()))[:2]

    def _all(self) -> Iterable[Row]:
        return (one for kept in self._by_type.values() for one in kept)


def _is_full(kept: Sequence[Row]) -> bool:
    return len(kept) >= _small(kept) + KEPT


def _small(kept: Sequence[Row]) -> int:
    """Given witnesses, ascending, return how many are too small for pairs."""
    return bisect_left(kept, SMALLEST_PAIRED, key=itemgetter(0))


def _shortest(witness: Row) -> tuple[int, int]:
    """The order in which witnesses are preferred: a short owner type for a short command, then a small order id."""
    return len(str(witness.owner_type_id)), witness.order_id


class Conditions:
    """Finds out whether batches can carry conditions, and chooses the witnesses that conditional binds need.

    Args:
        session: The way to the portal.
        witnesses: Bound orders to try it with.
    """

    def __init__(self, session: Session, witnesses: Witnesses) -> None:
        self._session = session
        self._witnesses = witnesses
        self._oldest_asked = False
        self._pairs = False
        self._lock = asyncio.Lock()

    @property
    def known(self) -> bool | None:
        """Whether batches can carry conditions; None before it could be tried."""
        return self._session.usage.conditional

    async def find_out(self) -> bool | None:
        """Return whether batches can carry conditions; tried at the first call, unless the portal has shown it lately.

        Returns:
            None where there is no bound order to try it with, or bindings kept changing meanwhile.

        Raises:
            AuthError, PortalBlocked, UnavailableError: The portal does not answer.
        """
        if self.known is None and self._session.host.has(Ability.CONDITIONS):
            self._session.usage.conditional = True
            self._pairs = self._session.host.has(Ability.PAIRS)
        async with self._lock:
            return self.known if self.known is not None else await self._try()

    async def _try(self) -> bool | None:
        for attempt in range(TRIES):
            known = self._witnesses.known() or await self._oldest()
            if known is None:
                log.info("no bound order to make writes conditional with", link=self._session.link)
                return None
            pair = self._witnesses.pair()
            asked = probe_conditions(known, UNBOUND - attempt) | (probe_pairs(*pair) if len(pair) == 2 else {})
            answer = await self._session.send(asked)
            verdict = _judge(answer.commands, known)
            if verdict is None:
                self._witnesses.set_owner(known.order_id, None)
                continue
            self._session.usage.conditional = verdict
            if verdict:
                self._session.host.note(Ability.CONDITIONS)
                self._pairs = _carries_pairs(answer.commands, pair)
                if self._pairs:
                    self._session.host.note(Ability.PAIRS)
            else:
                log.warning(
                    "the portal's batches carry no conditions",
                    link=self._session.link,
                    host=self._session.host.name,
                    instead="orders are read right before they are written",
                )
            return verdict
        return None

    def doubt(self) -> None:
        """Try anew before the next write: a condition that held was not carried."""
        self._session.usage.conditional = None
        self._session.host.forget(Ability.CONDITIONS)
        self._session.host.forget(Ability.PAIRS)

    def pair_for(self, order_id: int) -> Row | None:
        """Return a bound order that makes a pair with this one; None without one, or where pairs do not work."""
        return self._witnesses.pair_for(order_id) if self._pairs else None

    async def find_witness(self, order_id: int) -> Witness | None:
        """Return a bound order that can bear witness to this one, if there is one.

        Where none is known, the portal's oldest bindings are listed, once a session.
        """
        if paired := self.pair_for(order_id):
            return Witness(paired, paired=True)
        row = self._witnesses.for_order(order_id)
        if row is None and await self._oldest() is not None:
            row = self._witnesses.for_order(order_id)
        return None if row is None else Witness(row, paired=False)

    async def _oldest(self) -> Row | None:
        if not self._oldest_asked:
            self._oldest_asked = True
            answer = await self._session.send({"oldest": list_window(0, UNBOUND)})
            try:
                self._witnesses.note(_rows(answer.commands.get("oldest")))
            except UnusablePage:
                return None
        return self._witnesses.known()


def _judge(answers: Mapping[str, CommandAnswer], known: Row) -> bool | None:
    """Given the probe's answers, return whether conditions work; None where bindings changed meanwhile."""
    try:
        found = {key: [row.order_id for row in _rows(answers.get(key))] for key in (*"pq", *_FINDS)}
        seen = [(_rows(answers.get(key)), answers[key].total) for key in "qr"]
    except UnusablePage:
        return None
    if found["p"] or seen != [([known], 1)] * 2:
        return None  # the known order was moved or unbound meanwhile, or the unbound one was bound
    return all(found[key] == ([known.order_id] if finds else []) for key, finds in _FINDS.items())


def _carries_pairs(answers: Mapping[str, CommandAnswer], pair: Sequence[Row]) -> bool:
    """Given the probe's answers and the two orders it was made with, if any, return whether pairs work."""
    try:
        found = [[row.order_id for row in _rows(answers.get(key))] for key in "hi"]
    except UnusablePage:
        return False
    low, high = (one.order_id for one in pair)
    return found == [[high, low], [low]]


def _rows(answer: CommandAnswer | None) -> list[Row]:
    """Return a list's readable rows."""
    return split(page_of(answer).rows())[0]
