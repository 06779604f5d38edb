"""What happened to one order, for an alarm of the judge: from the sides, from syncd's readings, and from its records.

The judge names an order and a promise. To find out whether the pass or the judge is wrong takes what each side held when,
what each pass read, and what the state database says of it, before an accident takes that database away.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from syncd.core.model import MaybeOwner, Side
from syncd.core.records import Absence, StoredChange, StoredHold
from tests.simulation.acts import Broken
from tests.simulation.causality import Reading
from tests.simulation.witness import Witness
from tests.system.sides_log import Page

MOST = 3
"""Orders that are shown for one alarm."""
LATEST = 12
"""Acts that are shown, the latest ones: what an order was before the last rounds explains nothing."""


class Place(NamedTuple):
    """How much was known at a moment: entries of the log of both sides, pages of the list, requests of the portal."""

    log: int
    pages: int
    requests: int


class Told(NamedTuple):
    """One act of syncd: what it was asked, from when to when, what became of it, and what it left in the state database."""

    words: str
    began: float
    ended: float
    code: int | None
    last_run: int
    first: Place
    end: Place
    agreed: Mapping[int, MaybeOwner]
    waiting: Mapping[int, Absence]
    holds: Mapping[int, StoredHold]


def orders_in(alarm: Broken) -> list[int]:
    """Return the orders that an alarm names."""
    lists = re.findall(r"\[([\d, ]+)\]", alarm.sentence)
    single = re.findall(r"order (\d+)", alarm.sentence)
    return [*dict.fromkeys(map(int, [*single, *(one for some in lists for one in some.split(","))]))][:MOST]


class Timeline:
    """Shows what happened.

    Args:
        witness: Has the log of both sides, and what was read by id.
        pages: The pages of the portal's list that were read, each with its place in that log.
    """

    def __init__(self, witness: Witness, pages: Sequence[Page]) -> None:
        self._witness = witness
        self._pages = pages
        self._acts: list[Told] = []

    @property
    def place(self) -> Place:
        """How much is known by now."""
        return Place(len(self._witness.log), len(self._pages), len(self._witness.requests[Side.CRM]))

    def add(self, told: Told) -> None:
        """One more act came to its end."""
        self._acts.append(told)

    def of(self, order: int, audit: Sequence[StoredChange]) -> str:
        """Given an order and its audit, return its story, one line for each thing that happened."""
        return "\n".join([f"order {order}:", *(f"  {line}" for line in self._lines(order, audit))])

    def _lines(self, order: int, audit: Sequence[StoredChange]) -> Iterator[str]:
        acts = self._acts[-LATEST:]
        place = acts[0].first if acts else self.place
        for act in acts:
            yield from self._between(order, place, act.first, "between")
            how = "killed" if act.code is None else f"ended with {act.code}"
            yield f"{_time(act.began)} to {_time(act.ended)} {act.words}: {how}; the last run is {act.last_run}"
            yield from self._between(order, act.first, act.end, "meanwhile")
            yield f"  left: agreed {_reading(act.agreed.get(order))}{_left(order, act)}"
            place = act.end
        yield from self._between(order, place, self.place, "since then")
        for one in audit:
            change, found = one.change, f", found {_reading(one.found)}" if one.found_known else ""
            side = change.side.value if change.side else "both"
            yield (
                f"audit: run {one.run} at {_time(one.at)}: {change.action.value} {side} {_reading(change.before)} -> "
                f"{_reading(change.after)} ({change.reason.value}), {one.outcome.value}{found} {one.error}; planned with "
                f"crm {_reading(change.facts.crm)}, table {_reading(change.facts.table)}, agreed {_reading(change.facts.agreed)}"
            )

    def _between(self, order: int, first: Place, end: Place, when: str) -> Iterator[str]:
        witness = self._witness
        events: list[tuple[int, int, str]] = []
        for at in witness.places[order]:
            if first.log <= at < end.log:
                one = witness.log[at]
                who = "syncd, late" if one.late else "syncd" if one.ours else "others"
                events.append((at, 1, f"{who}: {one.side.value} {_reading(one.before)} -> {_reading(one.after)}"))
        events += [
            (request.at, 0, f"syncd reads it by id in the crm: {_reading(request.read[order])}")
            for request in witness.requests[Side.CRM][first.requests : end.requests]
            if order in request.read
        ]
        for page in self._pages[first.pages : end.pages]:
            if page.first < order <= page.last:
                shown = _reading(page.rows.get(order))
                events.append((page.at, 0, f"syncd lists orders {page.first + 1} to {page.last} in the crm: {shown}"))
        for _, _, line in sorted(events):
            yield f"  {when}, {line}"


def _left(order: int, act: Told) -> str:
    waits, held = act.waiting.get(order), act.holds.get(order)
    said = f", absent from {waits.side.value} since {_time(waits.since)}" if waits else ""
    return said + (f", held as {held.hold.kind.value} (decision {held.decision or 'open'})" if held else "")


def _reading(reading: Reading) -> str:
    return "nothing" if reading is None else str(getattr(reading, "owner_id", reading))


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%m-%d %H:%M:%S")
