"""Listing every binding, exactly, in as few requests as the portal's page size allows (sync-rules.md, "Reading").

1. With the order ids of the last listing at hand, the range is cut at every 50th of them: each window is one page.
   Without, one request reads the first page, the last page and the total, and the middle is cut by density. No call
   depends on another's answer, so they go out side by side, and rows that come or go move no page: ids never change.
2. A full page means "read on from its last id". A failed command, a page out of order or with rows outside its window
   is read again, alone.
3. The listing is complete when the windows read meet from end to end, and the rows agree with the portal's own count.
   Where they do not, ranges are counted, and those that differ are read again in windows that bring their own count: a
   page and its total are one call, so bindings that come and go all the while are no contradiction. A page that does
   not agree with its own total after some tries raises `IncompleteListing`.

Several ranges are listed together: in one wave, each with its own count, so that each is proved, or lost, by itself.

Rows wait in a buffer until then: a page that came short is read again before anybody has seen its rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from math import ceil
from typing import Final, NamedTuple

import structlog

from syncd.core.order_ranges import OrderRange
from syncd.core.ports import Progress
from syncd.errors import IncompleteListing
from syncd.portal.commands import PAGE
from syncd.portal.pages import ReadRange, RowBuffer, RowPage
from syncd.portal.session import Session
from syncd.portal.window_reader import CountRequest, Window, WindowReader, cut_windows, density, windows_between

log = structlog.get_logger(__name__)

STAGE: Final = "listing the portal"
SMALL: Final = 6
"""Read ranges that are faster read again than counted apart."""
FANOUT: Final = 48
"""Into how many parts a listing that disagrees is counted at first, to fit one request."""
FINER: Final = 8
"""Into how many parts a part that disagrees is counted further."""
_WHOLE: Final = -1


class _Part(NamedTuple):
    """Neighbouring read ranges, with the number of rows read there."""

    read_ranges: list[ReadRange]
    rows: int

    @property
    def after(self) -> int:
        return self.read_ranges[0].after

    @property
    def upto(self) -> int:
        return self.read_ranges[-1].upto


class Listing:
    """One listing.

    Args:
        session: The way to the portal.
        wanted: The range that is listed.
        buffer: Where the rows go.
        progress: Shows how many rows have come.
        sparing: As for `WindowReader`.
    """

    def __init__(
        self, session: Session, wanted: OrderRange, buffer: RowBuffer, progress: Progress, *, sparing: bool = False
    ) -> None:
        self._after, self._upto = wanted.first - 1, wanted.last
        self._link = session.link
        self._buffer = buffer
        self._expected: int | None = None
        self._progress = progress
        self._reader = WindowReader(session, buffer, self._report, sparing=sparing)

    async def collect(self, boundaries: Sequence[int]) -> None:
        """Fill the buffer, and prove that it holds everything.

        Args:
            boundaries: Every 50th order id bound at the last complete listing, ascending; empty when none is known.

        Raises:
            IncompleteListing: Completeness could not be proved.
            AuthError, PortalBlocked, UnavailableError: As their names say.
        """
        if self._after >= self._upto:
            return
        inside = [one for one in boundaries if self._after < one < self._upto]
        if inside:
            total = await self._read_known(inside)
        else:
            # From both ends, then between. The portal's count is taken first.
            first, total, last = await self._reader.first_pages(self._after, self._upto)
            await self._read_between(first, total, last)
        await self.confirm(total)

    async def confirm(self, total: int) -> None:
        """Prove the range, all of it having been read, against the portal's count of it.

        Raises:
            IncompleteListing, AuthError, PortalBlocked, UnavailableError: As for `collect`.
        """
        self._require_no_gap()
        rows = self._rows()
        if total != rows:
            await self._prove(total, rows)
            self._require_no_gap()
        self._report(self._buffer.rows)

    def _read_ranges(self) -> list[ReadRange]:
        return self._buffer.read_ranges(self._after, self._upto)

    def _rows(self) -> int:
        return sum(one.rows for one in self._read_ranges())

    def _require_no_gap(self) -> None:
        """Require that the ranges that were read meet from end to end."""
        gap = self._buffer.gap(self._after, self._upto)
        if gap is not None:
            raise IncompleteListing(
                f"The listing has a hole after order {gap}. Nothing was written.", hint="The next run lists again."
            )

    async def _read_known(self, boundaries: Sequence[int]) -> int:
        """Read between known order ids; return the portal's count, taken in the same wave."""
        self._expected = len(boundaries) * PAGE
        whole = CountRequest(self._after, self._upto, _WHOLE)
        await self._reader.read([*windows_between(self._after, self._upto, boundaries), whole])
        return self._reader.counts[_WHOLE]

    async def _read_between(self, first: RowPage, total: int, last: RowPage) -> None:
        """Given the first page, the portal's count and the last page, keep their rows and read those between."""
        self._expected = total
        if len(first) < PAGE and first == last and total == len(first):
            self._buffer.put(self._after, self._upto, first)
        else:
            await self._reader.read(self._lay_out(first, total, last))

    def _lay_out(self, first: RowPage, total: int, last: RowPage) -> list[Window]:
        """Given the first page and the last, keep their rows, and return the windows between and after them."""
        low, near = self._after, []
        if first:
            self._buffer.put(low, first.order_ids[-1], first)
            low = first.order_ids[-1]
            near.append(density(first.order_ids))
        rest = last.beyond(low)
        if not rest:
            return cut_windows(low, self._upto, 0)
        top = rest.order_ids[-1]
        # Where the last page reaches down to the first one, there is nothing between.
        bottom = rest.order_ids[0] - 1 if len(rest) == len(last) else low
        self._buffer.put(bottom, top, rest)
        near.append(density(rest.order_ids))
        return [*cut_windows(low, bottom, total - self._rows(), near), *cut_windows(top, self._upto, 0)]

    async def _prove(self, total: int, rows: int) -> None:
        """Find out where the rows disagree with the portal's count, and read that again until all parts agree."""
        log.info("listing disagrees with its count", link=self._link, rows=rows, counted=total)
        parts = [_Part(self._read_ranges(), rows)]
        fanout = FANOUT
        while any(len(part.read_ranges) > SMALL for part in parts):
            pieces = [piece for part in parts for piece in _split(part, fanout)]
            counts = await self._count(pieces)
            parts = [piece for piece, count in zip(pieces, counts, strict=True) if piece.rows != count]
            fanout = FINER
        again: list[Window] = []
        for part in parts:
            self._buffer.drop(part.after, part.upto)
            again += [Window(one.after, one.upto) for one in part.read_ranges]
        await self._reader.read(again, proving=True)

    async def _count(self, parts: Sequence[_Part]) -> list[int]:
        await self._reader.read([CountRequest(part.after, part.upto, index) for index, part in enumerate(parts)])
        return [self._reader.counts[index] for index in range(len(parts))]

    def _report(self, rows: int) -> None:
        self._progress(STAGE, rows, self._expected)


async def collect_ranges(
    session: Session, ranges: Sequence[OrderRange], boundaries: Sequence[int], buffer: RowBuffer, progress: Progress
) -> dict[OrderRange, str]:
    """Fill the buffer with what is bound in some ranges, sparing requests; return those not proved, each with why.

    All are read in one wave. Where that fails, or one of them disagrees with its count, each is listed by itself, so
    that a range which cannot be proved costs itself only.

    Args:
        session: The way to the portal.
        ranges: Disjoint, ascending.
        boundaries: Every 50th order id bound in each of them at the last reading, ascending.
        buffer: Where the rows go; of a range that is not proved there are none.
        progress: Shows how many rows have come.

    Raises:
        IncompleteListing: None of them could be proved.
        AuthError, PortalBlocked, UnavailableError: As their names say.
    """
    lists = {one: Listing(session, one, buffer, progress, sparing=True) for one in ranges}
    if len(ranges) == 1:
        await lists[ranges[0]].collect(boundaries)
        return {}
    reader = WindowReader(session, buffer, lambda rows: progress(STAGE, rows, None), sparing=True)
    calls: list[Window | CountRequest] = []
    for place, one in enumerate(ranges):
        calls += windows_between(one.first - 1, one.last, boundaries)
        calls.append(CountRequest(one.first - 1, one.last, place))
    together = True
    try:
        await reader.read(calls)
    except IncompleteListing:
        together = False
    unproved: dict[OrderRange, str] = {}
    for place, one in enumerate(ranges):
        try:
            if together:
                await lists[one].confirm(reader.counts[place])
            else:
                buffer.drop(one.first - 1, one.last)
                await lists[one].collect([edge for edge in boundaries if one.first <= edge <= one.last])
        except IncompleteListing as error:
            buffer.drop(one.first - 1, one.last)
            unproved[one] = error.message
    if len(unproved) == len(ranges):
        raise IncompleteListing(unproved[ranges[0]], hint="The next run lists again.")
    return unproved


def _split(part: _Part, pieces: int) -> list[_Part]:
    """Given a part, return it in pieces of about as many read ranges each; a small one as it is."""
    size = max(SMALL // 2, ceil(len(part.read_ranges) / pieces))
    runs = [part.read_ranges[low : low + size] for low in range(0, len(part.read_ranges), size)]
    rows = list(accumulate((sum(one.rows for one in run) for run in runs), initial=0))
    return [_Part(run, high - low) for run, low, high in zip(runs, rows, rows[1:], strict=False)]
