"""The plan in the making: its changes in a spill list, what is held or skipped instead, its numbers, and its digest."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from heapq import merge
from typing import NamedTuple

from syncd.core.model import Change, Hold, HoldKind, Side, SideCounts
from syncd.core.plan import digest_line
from syncd.spill import SpillList

SORTED = 50_000
"""Lines that are sorted at a time."""
BLOCK = 1_000
"""Lines of each sorted run that are in memory while the runs are merged."""


class PlanDigest:
    """Takes the changes of a plan in any order."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._runs: list[SpillList[str]] = []

    def add(self, change: Change) -> None:
        """Take one more change."""
        self._lines.append(digest_line(change))
        if len(self._lines) >= SORTED:
            self._runs.append(_sorted_run(self._lines))
            self._lines = []

    def hexdigest(self) -> str:
        """Return the SHA-256 of all that was added, in hexadecimal."""
        hashed = hashlib.sha256()
        separator = b""
        for line in self._merged():
            hashed.update(separator + line.encode())
            separator = b"\n"
        return hashed.hexdigest()

    def _merged(self) -> Iterator[str]:
        return merge(sorted(self._lines), *self._runs)

    def close(self) -> None:
        """Drop the temporary files."""
        for run in self._runs:
            run.close()
        self._runs = []


def _sorted_run(lines: list[str]) -> SpillList[str]:
    run: SpillList[str] = SpillList(chunk=BLOCK)
    lines.sort()
    for start in range(0, len(lines), BLOCK):
        run.extend(lines[start : start + BLOCK])
    return run


class PlannedChange(NamedTuple):
    """A change of a plan.

    absent: It removes an order for no other reason than that the other side does not show it.
    """

    change: Change
    absent: bool


@dataclass(slots=True)
class Holds:
    """Holds to make, by order; sticky are those made by an event rather than by the diff."""

    holds: dict[int, Hold] = field(default_factory=dict)
    sticky: set[int] = field(default_factory=set)

    def hold(self, change: Change, kind: HoldKind, detail: str, *, sticky: bool = False) -> None:
        """Put a hold in the place of a change."""
        self.holds[change.order_id] = Hold(change.order_id, kind, change.facts, detail)
        if sticky:
            self.sticky.add(change.order_id)


@dataclass(slots=True)
class DraftPart(Holds):
    """A few thousand changes of a draft while they are verified.

    Args:
        changes: All changes of some orders: those of one order are in one part.
        skipped: Changes that are not made in this run, each with the reason.
        stated: Orders that a side says are unbound, rather than not showing them.
        reverts: Changes that put back what syncd replaced.
    """

    changes: list[Change] = field(default_factory=list)
    skipped: list[tuple[Change, str]] = field(default_factory=list)
    stated: set[int] = field(default_factory=set)
    reverts: list[Change] = field(default_factory=list)

    def skip(self, change: Change, why: str) -> None:
        """Leave a change, and its order, to a later run."""
        self.skipped.append((change, why))

    def drop_held(self) -> None:
        """Take out the changes of all orders that are held or skipped: an order's two changes go together."""
        out = self.holds.keys() | {change.order_id for change, _ in self.skipped}
        self.changes = [change for change in self.changes if change.order_id not in out]
        self.reverts = [one for one in self.reverts if one.order_id not in out]


@dataclass(slots=True)
class PlanDraft(Holds):
    """The plan in the making; memory does not grow with its changes.

    Args:
        changes: The changes, ascending by order id.
        skipped: Changes that are not made in this run, each with the reason.
        counts: How many changes of each action there are on each side.
        absent: How many removes rest on an absence, by the side that does not show the order.
        digest: Names what the changes write.
    """

    changes: SpillList[PlannedChange] = field(default_factory=SpillList)
    skipped: SpillList[tuple[Change, str]] = field(default_factory=SpillList)
    counts: dict[Side, SideCounts] = field(default_factory=lambda: {side: SideCounts() for side in Side})
    absent: Counter[Side] = field(default_factory=Counter)
    digest: PlanDigest = field(default_factory=PlanDigest)

    def add(self, part: DraftPart) -> None:
        """Take over what became of a part."""
        self.holds |= part.holds
        self.sticky |= part.sticky
        self.skipped.extend(part.skipped)
        self.add_changes(part.changes, part.stated)
        for change in part.reverts:
            if change.side is not None:
                self.counts[change.side].reverts += 1

    def add_changes(self, changes: Iterable[Change], stated: Iterable[int] = ()) -> None:
        """Take over changes that are to be made."""
        said = frozenset(stated)
        planned = [PlannedChange(one, one.rests_on_absence and one.order_id not in said) for one in changes]
        self.changes.extend(planned)
        for change, absent in planned:
            if change.side is not None:
                self.counts[change.side].count(change.action)
                self.absent[change.side.other] += absent
            self.digest.add(change)

    def absent_removes(self) -> Iterator[list[Change]]:
        """Yield the removes that rest on an absence, in chunks."""
        for chunk in self.changes.chunks():
            yield [change for change, absent in chunk if absent]

    def close(self) -> None:
        """Drop the temporary files."""
        self.changes.close()
        self.skipped.close()
        self.digest.close()
