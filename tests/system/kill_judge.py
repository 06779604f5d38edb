"""What a link came to whose passes were killed, held against what both sides saw and what syncd recorded.

Each finding is a sentence. What docs/guarantees.md does not promise is counted instead, and only where it is exactly
that: a value written between the list and the add of one request, a value that a request overwrote whose answer was
lost with its process, a value unbound before syncd could record that it had bound it, and a value that somebody set
which syncd was about to write when it was killed.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import sqlalchemy as sa

from syncd.core.model import Hold, MaybeOwner, Outcome, Side
from syncd.core.records import StoredChange
from syncd.state.rows import change_of, hold_of, owner
from syncd.state.schema import binding, change, hold
from tests.system.outsiders import Read, Seen


class Record(NamedTuple):
    """What syncd recorded of one order: its audit (oldest first), its holds, whether one is open, what is agreed."""

    order: int
    history: Sequence[StoredChange]
    holds: Sequence[Hold]
    held: bool
    agreed: MaybeOwner


class Records:
    """What the state database says of its only link, read beside the processes that write it.

    Args:
        url: The state database.
    """

    def __init__(self, url: str) -> None:
        self._engine = sa.create_engine(url, poolclass=sa.NullPool)

    def held(self) -> set[int]:
        """Return the orders with an open hold."""
        return {row.order_id for row in self._rows(sa.select(hold.c.order_id).where(hold.c.released_at.is_(None)))}

    def open_intents(self) -> int:
        """Return how many changes were about to be sent and have no outcome."""
        return len(self._rows(sa.select(change.c.id).where(change.c.outcome == Outcome.INTENDED.value)))

    def all(self) -> dict[int, Record]:
        """Return what is recorded of each order; changes that were only planned left out."""
        histories: dict[int, list[StoredChange]] = defaultdict(list)
        for row in self._rows(sa.select(change).where(change.c.outcome != Outcome.PLANNED.value).order_by(change.c.id)):
            histories[row.order_id].append(change_of(row._mapping))
        holds: dict[int, list[Hold]] = defaultdict(list)
        for row in self._rows(sa.select(hold).order_by(hold.c.id)):
            holds[row.order_id].append(hold_of(row._mapping).hold)
        agreed = {row.order_id: owner(row.agreed_type, row.agreed_id) for row in self._rows(sa.select(binding))}
        held = self.held()
        return {
            order: Record(order, histories[order], holds[order], order in held, agreed.get(order))
            for order in histories.keys() | holds.keys() | agreed.keys()
        }

    def _rows(self, query: sa.Select[Any]) -> Sequence[sa.Row[Any]]:
        with self._engine.connect() as connection:
            return connection.execute(query).all()


class Start(NamedTuple):
    """How many requests the portal had met when a process was started, and when that was."""

    requests: int
    at: float


@dataclass
class Judge:
    """Judges one link.

    Args:
        first: What both sides had before the log begins, by order.
        seen: Every write of each side, in order.
        reads: What syncd read by id.
        starts: Of each process, ascending.
    """

    first: dict[int, MaybeOwner]
    seen: dict[Side, list[Seen]]
    reads: Sequence[Read]
    starts: Sequence[Start]
    broken: list[str] = field(default_factory=list)
    counted: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._writes: dict[Side, dict[int, list[tuple[int, Seen]]]] = {side: defaultdict(list) for side in Side}
        for side, writes in self.seen.items():
            for place, one in enumerate(writes):
                self._writes[side][one.order_id].append((place, one))

    def judge(self, records: Records) -> None:
        """Hold every order that was ever bound against everything that is promised of it."""
        known = records.all()
        for order in sorted(self.first.keys() | {one.order_id for writes in self.seen.values() for one in writes}):
            record = known.get(order, Record(order, (), (), held=False, agreed=None))
            self._judge_rest(record)
            for side in Side:
                self._judge_side(side, record)

    def _judge_rest(self, record: Record) -> None:
        crm, table = (self._stood(side, record.order)[-1] for side in Side)
        if not record.held and not crm == table == record.agreed:
            self._say(record, f"rests at crm {crm}, table {table}, agreed {record.agreed}, not held")
        replayed: MaybeOwner = None
        for stored in sorted(record.history, key=lambda one: (one.at, one.id)):
            if stored.outcome in {Outcome.APPLIED, Outcome.ALREADY}:
                replayed = stored.change.agreed_after
            if stored.outcome is Outcome.INTENDED:
                self._say(record, f"change {stored.id} is still open")
        if replayed != record.agreed:
            self._say(record, f"the audit replays to {replayed}, agreed is {record.agreed}")

    def _judge_side(self, side: Side, record: Record) -> None:
        mine = [(place, one) for place, one in self._writes[side][record.order] if not one.outside]
        recorded = [stored for stored in record.history if stored.change.side is side and _sent(stored)]
        told = Counter(stored.change.after for stored in recorded)
        for value, times in Counter(one.after for _, one in mine).items():
            if times > told[value]:
                self._say(record, f"{value} was written {times} times to the {side}, recorded {told[value]} times")
        written = {one.after for _, one in mine}
        for stored in recorded:
            value = stored.change.after
            if stored.outcome is not Outcome.APPLIED or value is None or value in written:
                continue
            if "found in place" in stored.error and value in self._stood(side, record.order):
                self.counted["somebody set the very value that syncd was to write"] += 1
            else:
                self._say(record, f"the audit says {value} was written to the {side}; it was not")
        for place, one in mine:
            self.counted["writes of syncd"] += 1
            about = [stored for stored in recorded if stored.change.after == one.after]
            if about:
                self._judge_write(record, _Write(side, place, one, about))

    def _judge_write(self, record: Record, write: _Write) -> None:
        side, place, one, about = write
        where = f"in the {side}, {one.before} was replaced by {one.after}"
        planned = [stored for stored in about if stored.change.before == one.before]
        if planned:
            if all(stored.change.facts.agreed != one.before for stored in planned):
                self._say(record, f"{where}, which was not agreed")
            if not self._is_newer(record.order, side, one):
                self._say(record, f"{where}, which is older")
        elif side is Side.CRM and one.before in {hold.facts.crm for hold in record.holds}:
            self.counted["overwritten and held"] += 1
        elif side is Side.CRM and (gap := self._gap(record.order, place, one, about)):
            self.counted[gap] += 1
        else:
            self._say(record, f"{where}, without a trace")
        if one.after is not None and self._is_repeated(side, record.order, place, one.after):
            if any(stored.error.startswith("interrupted") or not stored.found_known for stored in about):
                self.counted["unbound before it was recorded"] += 1
            else:
                self._say(record, f"{where}, which was written more often than anybody had set it")
        buried = next((start.at for start in self.starts if start.requests >= one.request), math.inf)
        if side is Side.CRM and any(buried <= stored.at < one.at for stored in planned or about):
            self._say(record, f"{where}, after a later process had recorded what became of that request")

    def _is_repeated(self, side: Side, order: int, place: int, value: MaybeOwner) -> bool:
        """Whether a write of syncd's carries over no edit of its own: each that set the value is carried over once."""
        ours = sum(not one.outside and one.after == value and at <= place for at, one in self._writes[side][order])
        edits = sum(one.outside and one.after == value for _, one in self._writes[side.other][order])
        return ours > edits

    def _is_newer(self, order: int, side: Side, one: Seen) -> bool:
        """Whether the new value came to the other side from outside, after the replaced one had stood there."""
        stood = [self.first.get(order)]
        for _place, there in self._writes[side.other][order]:
            if there.outside and there.after == one.after and one.before in stood:
                return True
            stood.append(there.after)
        return False

    def _gap(self, order: int, place: int, one: Seen, about: Sequence[StoredChange]) -> str:
        """Return which gap, that is not promised to be closed, an overwritten value fell into; empty for none."""
        values = self._writes[Side.CRM][order]
        came = max((at for at, other in values if at < place and other.after == one.before), default=-1)
        listed = [read.at for read in self.reads if read.request == one.request and order in read.orders]
        if listed and max(listed) <= came:
            return "overwritten between the list and the add of a request"
        start = max((start.requests for start in self.starts if start.requests < one.request), default=0)
        before = [read.at for read in self.reads if start < read.request < one.request and order in read.orders]
        if all(read <= came for read in before) and not any(stored.found_known for stored in about):
            return "overwritten by a request whose answer was lost"
        return ""

    def _stood(self, side: Side, order: int, before: int | None = None) -> list[MaybeOwner]:
        """Return what stood there, one after the other, before the write at a place in the log, or ever."""
        writes = self._writes[side][order]
        return [self.first.get(order), *(one.after for place, one in writes if before is None or place < before)]

    def _say(self, record: Record, what: str) -> None:
        self.broken.append(f"order {record.order}: {what}")


class _Write(NamedTuple):
    """One write of syncd: where, its place in the side's log, the write, and what the audit says about such writes."""

    side: Side
    place: int
    one: Seen
    about: Sequence[StoredChange]


def _sent(stored: StoredChange) -> bool:
    """Whether its write may have been executed; what was skipped because of an interruption may have been, too."""
    return stored.outcome is not Outcome.SKIPPED or stored.error.startswith("interrupted")
