"""The end of a link's life, and its audit, held against every promise; what the promises are is in sync-rules.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Container, Iterable, Sequence
from itertools import groupby

from syncd.core.model import Direction, MaybeOwner, Outcome, Owner, Reason, Side
from syncd.core.records import StoredChange
from syncd.core.store import Store
from syncd.engine.recover import FOUND_IN_PLACE
from tests.simulation.acts import Written, read_records
from tests.simulation.witness import Witness

IN_PLACE = {Outcome.APPLIED, Outcome.ALREADY}
DECIDED = {Reason.RESOLVED_CRM, Reason.RESOLVED_TABLE}


def sent(stored: StoredChange) -> bool:
    """Given a change of the audit, return whether its write may have been executed.

    What failed at last may have been executed before, and its answer lost.
    """
    if stored.outcome is Outcome.SKIPPED:
        return stored.error.startswith("interrupted")
    return stored.outcome is not Outcome.PLANNED


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
        if len(set(values)) > 1 and order not in records.holds and order not in shown and not left_alone:
            witness.say(
                promise, f"order {order} rests at crm {values[0]}, table {values[1]}, agreed {values[2]}, not held"
            )


async def judge_audit(
    witness: Witness,
    store: Store,
    orders: Iterable[int],
    *,
    window: Container[tuple[int, MaybeOwner]] = (),
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
        self._log = [(at, one) for at, one in enumerate(witness.log) if one.order == order]

    def ours(self) -> list[tuple[int, Written]]:
        """Return syncd's own writes of the order, with their places in the log."""
        return [(at, one) for at, one in self._log if one.ours]

    def is_unseen(self, at: int, one: Written, window: Container[tuple[int, MaybeOwner]]) -> bool:
        """Judge one write; return whether it replaced what could not be seen, and nobody promised to see."""
        began = self._witness.began
        mine = [s for s in self._history if (s.change.side, s.change.after) == (one.side, one.after) and sent(s)]
        if one.before in {s.change.before for s in mine}:
            if one.doubt and not self._is_forgotten(at, one):
                self._witness.say(15, f"order {self._order}: {one.doubt}")
                return False
            return bool(one.doubt)
        came = max((i for i, other in self._log if i < at and other.side is one.side), default=-1)
        if one.before in {s.found for s in mine if s.found_known}:
            self._judge_hold(one, came, min(began.get(s.run, 0) for s in mine))
            return False
        lost = [s for s in mine if (one.late or not s.found_known) and came >= began.get(s.run, 0)]
        if lost or (self._order, one.before) in window:
            return True
        self._witness.say(16, f"order {self._order}: {one.before} was overwritten without a trace")
        return False

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

    def _is_forgotten(self, at: int, one: Written) -> bool:
        """ "Unbound" has no identity: what was written right before a crash or a lost answer, and unbound again before
        it was looked for, seems never to have been written (docs/guarantees.md).
        """
        of_side = [other for i, other in self._log if i <= at and other.side is one.side]
        told = Counter(
            s.change.after
            for s in self._history
            if s.change.side is one.side and sent(s) and not s.error.startswith("interrupted before")
        )
        for value in {other.after for other in of_side if other.ours and isinstance(other.after, Owner)}:
            first = next(i for i, other in enumerate(of_side) if other.ours and other.after == value)
            unbound = any(not other.ours and other.after is None for other in of_side[first:])
            # Over the order's whole life: the audit does not say which of several equal writes it knows of.
            if (
                unbound
                and sum(other.after == value for _, other in self.ours() if other.side is one.side) > told[value]
            ):
                return True
        return False
