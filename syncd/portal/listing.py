"""Listing every binding, exactly, in as few requests as the portal's page size allows (design.md 5, Reading).

1. With the order ids of the last listing at hand, the range is cut at every 50th of them: each window is one page.
   Without, one request reads the first page, the last page and the total, and the middle is cut by density. No call
   depends on another's answer, so they go out side by side, and rows that come or go move no page: ids never change.
2. A full page means "read on from its last id". A failed command, a page out of order or with rows outside its window
   is read again, alone.
3. The listing is complete when the windows read meet from end to end, and the rows agree with the portal's own count.
   Where they do not, ranges are counted, and those that differ are read and counted again until each agrees with its
   own count (bindings may change all the while), or `IncompleteListing` is raised.

Rows wait on a shelf until then (see `shelf`): a page that came short once is healed before anybody has seen it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from math import ceil
from typing import Final, NamedTuple

import structlog

from syncd.core.model import Scope
from syncd.core.ports import Progress
from syncd.errors import IncompleteListing
from syncd.portal.commands import OPEN, PAGE
from syncd.portal.pages import Page
from syncd.portal.session import Session
from syncd.portal.shelf import Shelf, Stretch
from syncd.portal.sweep import Census, Sweep, span_of
from syncd.portal.windows import Window, between, cut, density

log = structlog.get_logger(__name__)

STAGE: Final = "listing the portal"
SMALL: Final = 6
"""Stretches that are sooner read again than counted apart."""
FANOUT: Final = 48
"""Into how many parts a listing that disagrees is counted at first, to fit one request."""
FINER: Final = 8
"""Into how many parts a part that disagrees is counted further."""
ROUNDS: Final = 4
"""How often a range is read and counted again before the listing is given up."""
_WHOLE: Final = -1


class _Part(NamedTuple):
    """A run of neighbouring stretches, with the rows read there."""

    stretches: list[Stretch]
    rows: int

    @property
    def after(self) -> int:
        return self.stretches[0].after

    @property
    def upto(self) -> int:
        return self.stretches[-1].upto


class Listing:
    """One listing.

    Args:
        session: The way to the portal.
        scope: Its order range is listed.
        shelf: Where the rows go.
        progress: Told how many rows have come.
    """

    def __init__(self, session: Session, scope: Scope, shelf: Shelf, progress: Progress) -> None:
        self._after = max(0, (scope.first_order or 1) - 1)
        self._upto = OPEN if scope.last_order is None else scope.last_order
        self._link = session.link
        self._shelf = shelf
        self._expected: int | None = None
        self._progress = progress
        self._sweep = Sweep(session, shelf, self._told)

    async def collect(self, boundaries: Sequence[int]) -> None:
        """Fill the shelf, and prove that it holds everything.

        Args:
            boundaries: Every 50th order id bound at the last complete listing, ascending; empty when none is known.

        Raises:
            IncompleteListing: Completeness could not be proved.
            AuthError, PortalBlocked, UnavailableError: As their names say.
        """
        if self._after >= self._upto:
            return
        inside = [one for one in boundaries if self._after < one < self._upto]
        total = await (self._known(inside) if inside else self._unknown())
        gap = self._shelf.gap(self._after, self._upto)
        if gap is not None:
            raise IncompleteListing(
                f"The listing has a hole after order {gap}. Nothing was written.", hint="The next run lists again."
            )
        if total != self._shelf.rows:
            await self._prove(total)
        self._told(self._shelf.rows)

    async def _known(self, boundaries: Sequence[int]) -> int:
        """Read between known order ids; return the portal's count, taken in the same wave."""
        self._expected = len(boundaries) * PAGE
        whole = Census(self._after, self._upto, _WHOLE)
        await self._sweep.read([*between(self._after, self._upto, boundaries), whole])
        return self._sweep.counts[_WHOLE]

    async def _unknown(self) -> int:
        """Read from both ends, then between; return the portal's count, taken first."""
        first, total, last = await self._sweep.first_pages(self._after, self._upto)
        self._expected = total
        if len(first) < PAGE and first == last and total == len(first):
            self._shelf.put(self._after, self._upto, first)
            return total
        await self._sweep.read(self._lay_out(first, total, last))
        return total

    def _lay_out(self, first: Page, total: int, last: Page) -> list[Window]:
        """Given the first page and the last, shelve them, and return the windows between and after them."""
        low, near = self._after, []
        if first:
            self._shelf.put(low, first.order_ids[-1], first)
            low = first.order_ids[-1]
            near.append(density(first.order_ids))
        rest = last.beyond(low)
        if not rest:
            return cut(low, self._upto, 0)
        top = rest.order_ids[-1]
        # Where the last page reaches down to the first one, there is nothing between.
        bottom = rest.order_ids[0] - 1 if len(rest) == len(last) else low
        self._shelf.put(bottom, top, rest)
        near.append(density(rest.order_ids))
        return [*cut(low, bottom, total - self._shelf.rows, near), *cut(top, self._upto, 0)]

    async def _prove(self, total: int) -> None:
        """The rows disagree with the portal's count: find out where, and read that again, until all parts agree."""
        log.info("listing disagrees with its count", link=self._link, rows=self._shelf.rows, counted=total)
        parts = [_Part(self._shelf.stretches(), self._shelf.rows)]
        fanout = FANOUT
        while any(len(part.stretches) > SMALL for part in parts):
            pieces = [piece for part in parts for piece in _split(part, fanout)]
            counts = await self._count(pieces)
            parts = [piece for piece, count in zip(pieces, counts, strict=True) if piece.rows != count]
            fanout = FINER
        for _ in range(ROUNDS):
            if not parts:
                return
            counts = await self._read_again(parts)
            fresh = [self._part(part.after, part.upto) for part in parts]
            parts = [part for part, count in zip(fresh, counts, strict=True) if part.rows != count]
            total = sum(count for part, count in zip(fresh, counts, strict=True) if part.rows != count)
        raise IncompleteListing(
            f"The portal counts {total} bindings where its pages hold {sum(part.rows for part in parts)}, for orders "
            + ", ".join(span_of(part.after, part.upto) for part in parts[:5])
            + f", {ROUNDS} times over. Nothing was written.",
            hint="The next run lists again. If it stays so, look at these orders' bindings in the portal.",
        )

    async def _count(self, parts: Sequence[_Part]) -> list[int]:
        await self._sweep.read([Census(part.after, part.upto, index) for index, part in enumerate(parts)])
        return [self._sweep.counts[index] for index in range(len(parts))]

    async def _read_again(self, parts: Sequence[_Part]) -> list[int]:
        """Read parts again, and count them next to that."""
        calls: list[Window | Census] = []
        for index, part in enumerate(parts):
            self._shelf.drop(part.after, part.upto)
            calls += [Window(one.after, one.upto) for one in part.stretches]
            calls.append(Census(part.after, part.upto, index))
        await self._sweep.read(calls)
        return [self._sweep.counts[index] for index in range(len(parts))]

    def _part(self, after: int, upto: int) -> _Part:
        inside = [one for one in self._shelf.stretches() if after <= one.after and one.upto <= upto]
        return _Part(inside, sum(one.rows for one in inside))

    def _told(self, rows: int) -> None:
        self._progress(STAGE, rows, self._expected)


def _split(part: _Part, pieces: int) -> list[_Part]:
    """Given a part, return it in pieces of about as many stretches each; a small one as it is."""
    size = max(SMALL // 2, ceil(len(part.stretches) / pieces))
    runs = [part.stretches[low : low + size] for low in range(0, len(part.stretches), size)]
    rows = list(accumulate((sum(one.rows for one in run) for run in runs), initial=0))
    return [_Part(run, high - low) for run, low, high in zip(runs, rows, rows[1:], strict=False)]
