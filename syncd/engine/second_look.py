"""The second look: an order that is absent once is not gone yet.

Half a list, a filter nobody mentioned and a table that is being loaded anew all look like orders that are gone. So
where a plan would make more than `second_look_above` removes on a side because of absences, each of them waits until a
later pass, at least `SECOND_LOOK_AFTER` on, finds the same order absent. If one of those that waited is back by then,
somebody is at work on that side, and all that are left wait anew (sync-rules.md, "When absence is a removal").

A pass over only some orders looks at these alone: it says nothing of absences elsewhere. What it would remove counts
together with what waits elsewhere and what other such passes have removed since each order was covered last.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from syncd.core.model import Change, Side
from syncd.core.order_ranges import OrderRanges
from syncd.core.records import Absence
from syncd.engine.link import HeldLease, Link
from syncd.engine.report import iso

SECOND_LOOK_AFTER = 60.0
"""Seconds that lie between two readings before the second one counts."""


@dataclass(slots=True)
class SecondLook:
    """Which of the removes that rest on absences wait, and since when. A side is named for what it does not show.

    Args:
        link: The link.
        lease: Its lease.
        noting: This is a pass, whose absences are noted for the next one; a mere plan leaves no note.
        now: When the look is taken (seconds since the epoch): the reading it judges is over.
        began: When the run began that it is taken in. A long one may have read an order right after it was noted.
        many: The sides that lack more orders than may be removed at once. None may where some are just coming back.
        covers: The orders that were looked at; None: all.
        in_parts: How many removes passes over only some orders have made lately, by the side that lacked the orders.
        anew: The sides of which some orders that waited are back: the others wait anew.
        noted: How many absences of orders that are still agreed were noted before.
    """

    link: Link
    lease: HeldLease
    noting: bool
    now: float
    began: float
    covers: OrderRanges | None = None
    in_parts: Counter[Side] = field(default_factory=Counter)
    many: set[Side] = field(default_factory=set)
    anew: set[Side] = field(default_factory=set)
    noted: Counter[Side] = field(default_factory=Counter)

    async def begin(self, absent: Mapping[Side, int], removes: Iterable[Sequence[Change]]) -> None:
        """Compare a plan with the absences noted before.

        Args:
            absent: How many of the plan's removes rest on an absence, by the side that does not show the order.
            removes: Those removes, in chunks.
        """
        self.noted = _numbers(await self.link.store.absence_counts(self.lease.row.id, self.covers))
        still: dict[Side, list[int]] = {side: [] for side in Side}
        if self.noted:
            for chunk in removes:
                known = await self._known(chunk)
                for change in chunk:
                    if _is_of(known.get(change.order_id), change):
                        still[_lacking(change)].append(change.order_id)
        self.anew = self._coming_back(still)
        elsewhere = await self._elsewhere()
        for side, number in absent.items():
            most = 0 if side in self.anew else self.link.limits.second_look_above
            if number and number + elsewhere[side] > most:
                self.many.add(side)
        if self.noting:
            for side in self.noted:
                if side in self.anew:
                    await self.link.store.forget_absences(await self.lease.prove(), side)
                elif side not in self.many:
                    orders = None if self.covers is None else still[side]
                    await self.link.store.forget_absences(await self.lease.prove(), side, orders)

    def _coming_back(self, still: Mapping[Side, Sequence[int]]) -> set[Side]:
        """Given the orders that are still absent, by side, return the sides on which some that waited are back."""
        return {side for side, number in self.noted.items() if len(still[side]) < number}

    async def _elsewhere(self) -> Counter[Side]:
        """Return how many absences of orders that were not looked at now belong to the same, by the side."""
        if self.covers is None:
            return self.in_parts
        return _numbers(await self.link.store.absence_counts(self.lease.row.id)) - self.noted + self.in_parts

    async def judge(self, removes: Sequence[Change]) -> dict[int, float]:
        """Given removes that rest on absences, return since when each of those that wait does, by order."""
        known = await self._known(removes)
        waits: dict[int, float] = {}
        for change in removes:
            if _lacking(change) in self.many:
                since = self._since(change, known)
                if self.began - since < SECOND_LOOK_AFTER:
                    waits[change.order_id] = since
        if self.noting:
            await self._note([change for change in removes if change.order_id in waits], known)
        return waits

    async def keep(self, removes: Sequence[Change]) -> None:
        """Given removes of a plan that is refused, note those that are not noted yet: the next pass looks again."""
        many = [change for change in removes if _lacking(change) in self.many]
        await self._note(many, await self._known(many))

    async def _note(self, waiting: Sequence[Change], known: Mapping[int, Absence]) -> None:
        for side in self.many:
            new = [
                change.order_id
                for change in waiting
                if _lacking(change) is side and self._since(change, known) == self.now
            ]
            if new:
                await self.link.store.note_absences(await self.lease.prove(), side, new, self.now)

    def _since(self, change: Change, known: Mapping[int, Absence]) -> float:
        """Return since when an order is known to be absent."""
        noted = known.get(change.order_id)
        if noted is None or not _is_of(noted, change) or _lacking(change) in self.anew:
            return self.now
        return _not_later(noted.since, self.now)

    async def _known(self, removes: Sequence[Change]) -> dict[int, Absence]:
        if not self.noted:
            return {}
        return await self.link.store.absences(self.lease.row.id, [change.order_id for change in removes])


def _numbers(counts: Mapping[Side, tuple[int, float]]) -> Counter[Side]:
    """Given how many absences are noted, and since when, by side, return how many."""
    return Counter({side: number for side, (number, _since) in counts.items()})


def _not_later(noted: float, now: float) -> float:
    """Given when something was noted, return it. What was noted in the future is of a clock that was set back: now."""
    return min(noted, now)


def _lacking(change: Change) -> Side:
    assert change.side is not None
    return change.side.other


def _is_of(noted: Absence | None, change: Change) -> bool:
    return noted is not None and noted.side is _lacking(change)


def waits_since(change: Change, since: float) -> str:
    """Given a remove that waits, and since when, return what is said of it."""
    side = "the CRM" if _lacking(change) is Side.CRM else "the table"
    return f"waits: absent from {side} since {iso(since)}; a later pass removes it if it is still absent"
