"""The end of a link's life, and its audit, held against every promise; what the promises are is in sync-rules.md."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Container, Iterable, Sequence
from itertools import groupby

from syncd.core.model import Direction, MaybeOwner, Outcome, Owner, Reason, Side
from syncd.core.records import StoredChange
from syncd.core.store import Store
from syncd.engine.recover import FOUND_IN_PLACE
from syncd.engine.report import TO_MAKE
from tests.simulation.acts import Written, read_records
from tests.simulation.causality import Reading, Veiled
from tests.simulation.witness import Witness

IN_PLACE = {Outcome.APPLIED, Outcome.ALREADY}
MAYBE = ("cannot tell", "was answered")
"""What the audit says of a write that may have been executed."""
UNEXCUSED = {"trigger", "state restored"}
"""Upheavals that syncd can see for sure: in a write of its own, and in what it noted outside the state database. None of
what they do may be passed on."""
DECIDED = {Reason.RESOLVED_CRM, Reason.RESOLVED_TABLE}


def sent(stored: StoredChange) -> bool:
    """Given a change of the audit, return whether its write may have been executed.

    What failed at last may have been executed before, and its answer lost.
    """
    if stored.outcome is Outcome.SKIPPED:
        return stored.error.startswith("interrupted")
    return stored.outcome not in {Outcome.PLANNED, Outcome.WAITING}


def denies(stored: StoredChange) -> bool:
    """Given a change of the audit, return whether it says that nothing was written."""
    return stored.outcome in {Outcome.SKIPPED, Outcome.FAILED} and not any(word in stored.error for word in MAYBE)


async def judge_rest(
    witness: Witness,
    store: Store,
    orders: Iterable[int],
    shown: Collection[int] = (),
    *,
    promise: int = 14,
    name: str = "shop",
) -> None:
    """Nothing goes wrong any more: each order is equal on both sides and agreed, or held (14).

    A refused run keeps no holds, but shows those it found: `shown` are the last one's.
    """
    records = await read_records(store, name)
    scope, two_way = witness.policy.scope, witness.policy.direction is Direction.TWO_WAY
    for order in orders:
        values = (*witness.now(order), records.agreed.get(order))
        # In a one-way link a binding on the target that was never agreed, or that is to win, is left alone. So is an
        # order that is bound out of scope and that nobody knows in scope.
        known = any(isinstance(one, Owner) and scope.holds_owner(one) for one in values)
        left_alone = (not two_way and values[2] is None) or not known
        # While a row names no order, it may be any order: what is absent from the table waits, and order 0 is held.
        waits = (0 in records.holds or 0 in shown) and not isinstance(values[1], Owner) and values[2] is not None
        held = order in records.holds or order in shown or waits
        if len(set(values)) > 1 and not held and not left_alone:
            witness.say(
                promise, f"order {order} rests at crm {values[0]}, table {values[1]}, agreed {values[2]}, not held"
            )


async def judge_audit(
    witness: Witness,
    store: Store,
    orders: Iterable[int],
    *,
    window: Container[tuple[int, Reading]] = (),
    name: str = "shop",
) -> int:
    """Hold the audit against what was really written.

    Args:
        witness: The witness.
        store: The state database.
        orders: The orders to judge.
        window: (order, value) that somebody set inside a batch, after it had listed its orders: the one thing that
            docs/guarantees.md does not promise to see.
        name: The link's name.

    Returns:
        How many values were replaced without having been seen, in ways that docs/guarantees.md does not promise away.
    """
    records = await read_records(store, name)
    generation = {row.id for row in await store.runs(name, 10**6) if row.link_id == records.generation}
    unseen = 0
    for order in orders:
        history = await store.history(name, order, 10**6)
        for stored, _released in await store.past_holds(name, order):
            witness.shown[order].add((stored.hold.facts.crm, stored.hold.facts.table))
        replayed, agreed = replay([one for one in history if one.run in generation]), records.agreed.get(order)
        if replayed != agreed:
            witness.say(25, f"order {order}: the audit replays to {replayed}, agreed is {agreed}")
        judge = _OrderJudge(witness, order, history, is_held=order in records.holds)
        judge.judge_honesty()
        unseen += sum(judge.is_unseen(at, one, window) for at, one in judge.ours())
    return unseen


def replay(history: Sequence[StoredChange]) -> MaybeOwner:
    """Given all changes of one order, oldest first, return what is agreed after them, from empty.

    A run that writes both sides of an order moves the agreed state with the second write. What was found in place after
    an interruption moves it at once, but for a person's decision, which is agreed once both sides are read to have it.
    """
    agreed: MaybeOwner = None
    for _run, of_run in groupby(sorted(history, key=lambda one: one.id), key=lambda one: one.run):
        changes = list(of_run)
        writes = [one for one in changes if one.change.side is not None]
        healed = [one for one in writes if one.error == FOUND_IN_PLACE]
        if writes and not healed and all(one.outcome in IN_PLACE for one in writes):
            agreed = writes[-1].change.agreed_after
        for one in changes:
            if one.change.side is None or (one in healed and one.change.reason not in DECIDED):
                agreed = one.change.agreed_after
    return agreed


class _OrderJudge:
    """What syncd replaced was read by it and stands in the audit; an outsider's became a hold (15, 16)."""

    def __init__(self, witness: Witness, order: int, history: Sequence[StoredChange], *, is_held: bool) -> None:
        self._witness = witness
        self._order = order
        self._history = history
        self._is_held = is_held
        self._log = [(at, witness.log[at]) for at in witness.places[order]]

    def ours(self) -> list[tuple[int, Written]]:
        """Return syncd's own writes of the order, with their places in the log."""
        lost = self._witness.unaudited
        return [(at, one) for at, one in self._log if one.ours and not any(at in places for places in lost)]

    def judge_honesty(self) -> None:
        """No sentence of the audit is contradicted by what both sides saw (35)."""
        said: dict[tuple[Side | None, Reading], list[StoredChange]] = defaultdict(list)
        for stored in self._history:
            if stored.outcome not in TO_MAKE and stored.change.side is not None:
                said[stored.change.side, stored.change.after].append(stored)
        seen = {(one.side, one.after) for _, one in self._log}
        for at, one in self.ours():
            entries = said[one.side, one.after]
            of_run = [entry for entry in entries if entry.run == self._run_at(at) and not one.late]
            for told in (entries, of_run):
                if told and all(denies(entry) for entry in told):
                    what = f"{one.after} was written, and the audit says: {told[-1].error}"
                    self._witness.say(35, f"order {self._order}: {what}")
        for (side, after), entries in said.items():
            claims = [one for one in entries if one.outcome is Outcome.APPLIED and one.error != FOUND_IN_PLACE]
            # Where somebody else set that very value, nobody can tell whose it is.
            if claims and (side, after) not in seen:
                self._witness.say(35, f"order {self._order}: the audit says that {after} was written, and it was not")

    def _run_at(self, at: int) -> int:
        """Return the run that was under way at a place in the log."""
        return max((run for run, began in self._witness.began.items() if began <= at), default=0)

    def is_unseen(self, at: int, one: Written, window: Container[tuple[int, Reading]]) -> bool:
        """Judge one write; return whether it replaced a value unseen in a way that the guarantees allow."""
        began = self._witness.began
        mine = self._entries(at, one)
        if one.before in {s.change.before for s in mine}:
            return bool(one.upset.doubt) and self._is_excused(at, one)
        if (self._order, one.before) in window:
            return True
        if one.side is Side.TABLE or self._witness.conditional:
            self._witness.say(36, f"order {self._order}: {one.before} was overwritten, which no change was planned for")
            return False
        came = max((i for i, other in self._log if i < at and other.side is one.side), default=-1)
        if one.before in {s.found for s in mine if s.found_known}:
            self._judge_hold(one, came, min(began.get(s.run, 0) for s in mine))
            return False
        lost = [s for s in mine if (one.late or not s.found_known) and came >= began.get(s.run, 0)]
        if lost:
            return True
        self._witness.say(16, f"order {self._order}: {one.before} was overwritten without a trace")
        return False

    def _entries(self, at: int, one: Written) -> list[StoredChange]:
        """Return what the audit may say of a write: of the run that was under way, or for a late one of those before too."""
        mine = [s for s in self._history if (s.change.side, s.change.after) == (one.side, one.after) and sent(s)]
        run = self._run_at(at)
        return [s for s in mine if s.run == run or (one.late and s.run < run)] or mine

    def _judge_hold(self, one: Written, came: int, began: int) -> None:
        """What was overwritten is shown in a hold, which lasts until somebody decides, or changes the order again."""
        witness, order = self._witness, self._order
        sides = {crm if one.side is Side.CRM else table for crm, table in witness.shown[order]}
        moved = any(at >= began and not other.ours and at != came for at, other in self._log)
        if one.before not in sides:
            witness.say(16, f"order {order}: {one.before} was overwritten without a hold")
        elif not (self._is_held or order in witness.asked or moved):
            witness.say(16, f"order {order}: {one.before} was overwritten, and nobody ended its hold")
        witness.happened["overwritten, held"] += 1

    def _is_excused(self, at: int, one: Written) -> bool:
        """Say what is wrong with a write; return whether it fell into the window of what was put back unseen."""
        doubt, upheaval = one.upset
        if upheaval and (one.act == "apply" or upheaval not in UNEXCUSED):
            # How much of it there may be is for `Volumes`: here it is only counted.
            how = "approved" if one.act == "apply" else "within the guards"
            self._witness.happened[f"upset by {upheaval}, {how}"] += 1
            return False
        if self._coincided(at, one.side, one.before) or self._follows_a_late_double(at, one):
            self._witness.happened["somebody set the very value that syncd was to write"] += 1
            return False
        if self._was_put_back(at, one):
            return True
        self._witness.say(31 if upheaval else 15, f"order {self._order}: {doubt}")
        return False

    def _coincided(self, at: int, side: Side, value: Reading) -> bool:
        """Return whether somebody had set the very value that syncd was about to write: nobody can tell them apart.

        The audit took that for a write of syncd's which, by this place in the log, was not executed.
        """
        run = self._run_at(at)
        told = [s for s in self._history if (s.change.side, s.change.after) == (side, value) and s.outcome in IN_PLACE]
        made = sum(i < at and (other.side, other.after) == (side, value) for i, other in self.ours())
        return sum(s.run <= run for s in told) > made

    def _follows_a_late_double(self, at: int, one: Written) -> bool:
        """Return whether what is copied is what a portal without conditions executed late, after such a coincidence."""
        i, source = max(((i, o) for i, o in self._log if i < at and o.side is not one.side), default=(-1, None))
        if source is None or self._witness.conditional or not (source.ours and source.late):
            return False
        return source.after == one.after and self._coincided(i, source.side, source.after)

    def _was_put_back(self, at: int, one: Written) -> bool:
        """A write of syncd's that nobody answered was executed, and somebody put the old value back before syncd looked:
        it seems never to have been written, and is written again (docs/guarantees.md). A later command of the same
        request that syncd saw in place would have proved it.
        """
        of_side = [(i, other) for i, other in self._log if i <= at and other.side is one.side]
        told = Counter(s.change.after for s in self._history if s.change.side is one.side and s.outcome in IN_PLACE)
        for value in {other.after for i, other in of_side if other.ours and not isinstance(other.after, Veiled)}:
            places = [i for i, other in self.ours() if i <= at and (other.side, other.after) == (one.side, value)]
            back = [i for i, other in of_side if places and not other.ours and places[0] < i <= at]
            # Over the order's whole life: the audit does not say which of several equal writes it knows of.
            if back and len(places) > told[value] and not self._is_proved(one.side, places[0], at, value):
                return True
        return False

    def _is_proved(self, side: Side, first: int, until: int, value: Reading) -> bool:
        """Return whether syncd saw a sibling in place that proves its write of this value was executed."""
        requests = self._witness.requests[side]
        mine = [
            one.writes for one in requests if any((w.order_id, w.after) == (self._order, value) for w in one.writes)
        ]
        if len(mine) != 1:
            return False
        place = next(i for i, write in enumerate(mine[0]) if write.order_id == self._order)
        siblings = mine[0] if side is Side.TABLE else mine[0][place + 1 :]
        return any(
            one.read.get(write.order_id, write.before) == write.after != write.before
            for one in requests
            if first < one.at <= until and self._order in one.read
            for write in siblings
            if write.order_id in one.read and write.order_id != self._order
        )
