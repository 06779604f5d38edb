"""How fresh each part of a link is: when its orders were last compared, by passes that cover all orders or only some.

All order ids are cut into ascending slices without gaps. Scheduled passes cover the slices in rotation; a whole pass
covers all of them. Times are seconds since the epoch, and say when the pass began.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from syncd.core.order_ranges import LARGEST, OrderRange, OrderRanges


class Slice(NamedTuple):
    """The orders after the previous slice, up to an id.

    Args:
        upto: The last of them.
        at: When they were last covered.
        tried: When a pass last tried to cover them.
        run: The run that covered them; 0 where that is not known.
    """

    upto: int
    at: float
    tried: float
    run: int = 0


@dataclass(frozen=True, slots=True)
class Coverage:
    """When the parts of a link were last covered.

    Args:
        slices: All order ids, in slices; never empty, the last one is open.
        recent_from: The newest orders that were covered together last are those from this id on; 0 for none.
        recent_at: When they were.
        recent_run: The run that covered them; 0 where that is not known.
    """

    slices: tuple[Slice, ...]
    recent_from: int = 0
    recent_at: float = 0.0
    recent_run: int = 0

    @classmethod
    def whole(cls, at: float, run: int = 0) -> Coverage:
        """Return the coverage of a link that a run covered as a whole."""
        return cls((Slice(LARGEST, at, at, run),))

    @classmethod
    def read(cls, text: str) -> Coverage:
        """Parse what `text` wrote. Earlier versions kept no runs."""
        kept = json.loads(text)
        runs = kept.get("runs") or [0] * len(kept["slices"])
        slices = tuple(
            Slice(int(upto), at, tried, run) for (upto, at, tried), run in zip(kept["slices"], runs, strict=True)
        )
        return cls(slices, int(kept["recent_from"]), kept["recent_at"], kept.get("recent_run", 0))

    def text(self) -> str:
        """Return it as JSON that earlier versions can read, too."""
        kept = {
            "slices": [(one.upto, one.at, one.tried) for one in self.slices],
            "runs": [one.run for one in self.slices],
            "recent_from": self.recent_from,
            "recent_at": self.recent_at,
            "recent_run": self.recent_run,
        }
        return json.dumps(kept, separators=(",", ":"))

    @property
    def stalest(self) -> float:
        """When the stalest slice was covered: every other order was covered then or later."""
        return min(one.at for one in self.slices)

    @property
    def next(self) -> int:
        """The index of the slice to cover next: the one whose last try is longest ago."""
        return min(range(len(self.slices)), key=lambda index: self.slices[index].tried)

    def orders_of(self, index: int) -> OrderRange:
        """Return the orders of the slice with this index."""
        return OrderRange(self.slices[index - 1].upto + 1 if index else 1, self.slices[index].upto)

    def cut(self, bounds: Sequence[int]) -> Coverage:
        """Return the same coverage in other slices: one up to each of these ascending ids, and one after the last.

        A new slice is as fresh as the stalest old slice that it overlaps.
        """
        made, after = [], 0
        for upto in (*dict.fromkeys(one for one in bounds if 0 < one < LARGEST), LARGEST):
            old = [one for index, one in enumerate(self.slices) if self._overlaps(index, after, upto)]
            at, tried, run = min(one.at for one in old), min(one.tried for one in old), min(one.run for one in old)
            made.append(Slice(upto, at, tried, run))
            after = upto
        return replace(self, slices=tuple(made))

    def _overlaps(self, index: int, after: int, upto: int) -> bool:
        first, last = self.orders_of(index)
        return first <= upto and last > after

    def covered(self, ranges: OrderRanges | None, at: float, run: int = 0) -> Coverage:
        """Return the coverage after a pass, given what it covered (None: everything), when it began, and its run."""
        orders = OrderRanges.of([(1, LARGEST)]) if ranges is None else ranges
        slices = tuple(
            Slice(one.upto, at, at, run) if orders.holds(*self.orders_of(index)) else one
            for index, one in enumerate(self.slices)
        )
        fresh = replace(self, slices=slices)
        newest = self.recent_from and orders.holds(self.recent_from, LARGEST)
        return replace(fresh, recent_at=at, recent_run=run) if newest else fresh

    def run_of(self, order: int) -> int:
        """Return the newest run known to have covered an order; 0 where none is."""
        (run,) = (one.run for index, one in enumerate(self.slices) if order in OrderRanges((self.orders_of(index),)))
        return max(run, self.recent_run) if 0 < self.recent_from <= order else run

    def at_of(self, order: int) -> float:
        """Return when an order was covered last; 0 where it never was."""
        (at,) = (one.at for index, one in enumerate(self.slices) if order in OrderRanges((self.orders_of(index),)))
        return max(at, self.recent_at) if 0 < self.recent_from <= order else at

    def attempted(self, ranges: OrderRanges | None, at: float) -> Coverage:
        """Return the coverage after a pass that failed to cover these orders: another slice is next."""
        tried = self.covered(ranges, at)
        slices = tuple(old._replace(tried=new.tried) for old, new in zip(self.slices, tried.slices, strict=True))
        return replace(self, slices=slices)
