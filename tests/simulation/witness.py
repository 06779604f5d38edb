"""A witness of one link's life: everything that was written on either side, in its order, and what each run may do.

It hears of syncd's writes, finds the others' by looking at the sides, and holds every act of syncd against what such
an act promises. What all of it came to is for the judge (`judge.py`). A promise is named by its number in sync-rules.md.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from syncd.core.model import MaybeOwner, Outcome, Owner, Policy, Reason, Side
from syncd.core.ports import Write
from syncd.core.records import StoredChange
from syncd.engine.report import Report
from tests.simulation.acts import Act, Broken, Records, Written
from tests.simulation.causality import OrderCausality, Reading
from tests.simulation.volumes import Volumes

WRITES = frozenset({"portal.write before", "table.write before"})


class Request(NamedTuple):
    """What syncd sent to a side, or read there, when the log had so many entries."""

    at: int
    writes: Sequence[Write]
    read: Mapping[int, Reading]


class Witness:
    """See the module.

    Args:
        policy: The link's policy.
        time: Tells the seconds that never go back.
    """

    def __init__(self, policy: Policy, time: Callable[[], float] = lambda: 0.0) -> None:
        self.policy = policy
        self.conditional = True
        """The portal's batches carry conditions, so nothing is overwritten that was not read."""
        self.volumes = Volumes(self.say)
        self.requests: dict[Side, list[Request]] = {side: [] for side in Side}
        """What syncd sent to each side, and what it read there by id."""
        self.unaudited: list[range] = []
        """The places in the log of what the state database has forgotten, since an older one was put in its place."""
        self.forgotten: Counter[tuple[int, MaybeOwner]] = Counter()
        """(order, value) of writes that were under way when the state database was lost, and still are."""
        self._time = time
        self._absent_since: dict[tuple[Side, int], float] = {}
        """Since when a pass may have read an order as absent, and none has certainly read it as there."""
        self._back: dict[tuple[Side, int], int] = {}
        """Where in the log such an order came back that still is there."""
        self.log: list[Written] = []
        self.places: defaultdict[int, list[int]] = defaultdict(list)
        """Where in the log each order is written."""
        self.broken: list[Broken] = []
        self.happened: Counter[str] = Counter()
        self.began: dict[int, int] = {}
        """Where in the log each run began."""
        self.by_hand: set[int] = set()
        """Orders of which a person asked for something that is not carried out yet."""
        self.asked: set[int] = set()
        """Orders of which a person ever asked for something."""
        self.shown: dict[int, set[tuple[MaybeOwner, MaybeOwner]]] = defaultdict(set)
        """What each order's holds ever showed of both sides."""
        self._orders: dict[int, OrderCausality] = {}
        self._looked: dict[Side, Mapping[int, Reading]] = {}
        """What each side said at the last look, while nothing has been noted of it since."""
        self._both: dict[tuple[int, Reading], int] = {}
        self._records = Records()
        self._began_at = 0
        self._rebased = False
        self._act = ""

    def say(self, promise: int, sentence: str) -> None:
        """Note a promise that was not kept."""
        self.broken.append(Broken(promise, sentence))

    def asks(self, orders: Collection[int]) -> None:
        """A person decides these orders, or undoes what was done to them."""
        self.by_hand.update(orders)
        self.asked |= self.by_hand

    def undone(self, orders: Collection[int]) -> None:
        """A person takes these orders back to what was recorded, no matter who has seen what since."""
        self.asks(orders)
        for order in orders:
            self._order(order).excuse()

    def rebased(self) -> None:
        """The link starts anew, now."""
        self._rebased = True
        self.volumes.rebased()
        self.asked |= self._orders.keys()
        for known in self._orders.values():
            known.forget()

    # -------------------------------------------------------------------- writes

    def ours(self, side: Side, order: int, before: Reading, after: MaybeOwner, *, late: bool = False) -> None:
        """Syncd's write was executed."""
        known = self._order(order)
        if known.now(side) != before:
            self.outsider(side, order, before)
        if late and self.forgotten[order, after]:
            self.forgotten[order, after] -= 1
            self.unaudited.append(range(len(self.log), len(self.log) + 1))
            self.happened["outlived its state"] += 1
        agreed = order in self._records.agreed or bool(self._records.intents)
        asked = order in self.by_hand
        upset = known.ours(side, after, agreed=agreed, by_hand=asked)
        source = (side.other, order)
        absent = self._time() - (0.0 if source in self._back else self._absent_since.get(source, 0.0))
        self._note(Written(side, order, before, after, True, late, upset, absent, asked, self._act))
        if after is not None and not self.policy.scope.holds_owner(after):
            self.say(10, f"order {order}: {after} is out of scope, and was written to the {side.value}")

    def look(self, side: Side, there: Mapping[int, Reading], upheaval: str = "") -> None:
        """Given what a side says now, and none of it is syncd's, note what others did, or an upheaval of that kind."""
        if self._looked.get(side) == there:
            return
        for order in [*self._orders, *(one for one in there if one not in self._orders)]:
            if self._order(order).now(side) != there.get(order):
                self.outsider(side, order, there.get(order), upheaval)
        self._looked[side] = there

    def outsider(self, side: Side, order: int, after: Reading, upheaval: str = "") -> None:
        """Somebody else changed an order on a side, or an upheaval of that kind did; for callers that log each change."""
        known = self._order(order)
        before = known.now(side)
        if upheaval == "trigger" and isinstance(after, Owner):
            upheaval = ""  # an order that syncd did not write has another owner by the database's own rule: an edit
        if upheaval:
            known.upheaval(side, after, upheaval)
            self.happened[f"orders shaken by {upheaval}"] += 1
        else:
            if known.had(side, after):
                self.happened["set again"] += 1
            known.outsider(side, after)
        self._note(Written(side, order, before, after, ours=False))

    def state_went_back(self, since: int, late: Sequence[Write] = ()) -> None:
        """The state database is that of an earlier moment, when the log had so many entries; it does not know of `late`."""
        self._forget(late)
        self.unaudited.append(range(since, len(self.log)))
        self.happened["the state went back"] += 1
        self.volumes.begin_anew()
        for known in self._orders.values():
            known.shake("state restored")
        self.happened["orders shaken by state restored"] += len(self._orders)

    def state_approved(self) -> None:
        """A person applied a plan that had been refused because of an older state database."""
        for known in self._orders.values():
            known.approve("state restored")

    def state_is_gone(self, late: Sequence[Write] = ()) -> None:
        """There is a new, empty state database, while `late` is under way."""
        self._forget(late)
        self.unaudited.append(range(len(self.log)))
        self.began.clear()
        self.rebased()
        self.volumes.begin_anew()
        self._rebased = False

    def still_late(self, under_way: Collection[object]) -> None:
        """Given the requests that are still to be executed, note when there is none of a lost state left."""
        if not under_way:
            self.forgotten.clear()

    def _forget(self, late: Sequence[Write]) -> None:
        self.forgotten = Counter((write.order_id, write.after) for write in late)

    def sends(self, side: Side, request: Sequence[Write]) -> None:
        """Syncd sends a request."""
        self.requests[side].append(Request(len(self.log), tuple(request), {}))

    def reads(self, side: Side, there: Mapping[int, Reading]) -> None:
        """Syncd read these orders by id."""
        self.requests[side].append(Request(len(self.log), (), there))

    def _note(self, one: Written) -> None:
        self.places[one.order].append(len(self.log))
        self.log.append(one)
        self._looked.pop(one.side, None)
        self._note_absence((one.side, one.order), there=one.after is not None)
        known = self._order(one.order)
        if known.now(Side.CRM) == known.now(Side.TABLE):
            self._both[one.order, known.now(Side.CRM)] = len(self.log)

    def _note_absence(self, place: tuple[Side, int], *, there: bool) -> None:
        """An order that comes back and goes again between two readings is absent in both: nobody can see more (32)."""
        if not there:
            self._absent_since.setdefault(place, self._time())
            self._back.pop(place, None)
        elif place in self._absent_since:
            self._back[place] = len(self.log) - 1

    def _note_presence(self, act: Act) -> None:
        """A pass has read those orders as there that were back before it began, and still are."""
        report = act.report
        if act.kind != "pass" or report is None or report.error is not None or not report.row.digest:
            return
        covers = report.row.covers
        for place, at in list(self._back.items()):
            if at < self._began_at and (covers is None or place[1] in covers):
                del self._back[place], self._absent_since[place]

    def _order(self, order: int) -> OrderCausality:
        if order not in self._orders:
            self._orders[order] = OrderCausality(self.policy)
        return self._orders[order]

    def now(self, order: int) -> tuple[Reading, Reading]:
        """Return what both sides say of an order."""
        return self._order(order).now(Side.CRM), self._order(order).now(Side.TABLE)

    # ---------------------------------------------------------------------- acts

    def act_begins(self, records: Records, act: str = "pass") -> None:
        """Syncd begins to act."""
        self._act = act
        self._records = records
        self._began_at = len(self.log)
        self._rebased = False

    def act_ends(self, act: Act, records: Records, changes: Sequence[StoredChange]) -> None:
        """Hold an act against what it may do.

        Args:
            act: How it went.
            records: What the state database says now.
            changes: All changes of the orders that are agreed on something else now.
        """
        for run in range(self._records.last_run + 1, records.last_run + 1):
            self.began[run] = self._began_at
        for order, stored in records.holds.items():
            self.shown[order].add((stored.hold.facts.crm, stored.hold.facts.table))
        if records.generation != self._records.generation and self._records.generation and not self._rebased:
            self.rebased()
        self._judge_silence(act, records)
        self._judge_ends(act, records)
        self.volumes.judge(act, self._records, records, self.log[self._began_at :])
        self._note_presence(act)
        self._judge_lease(act)
        if act.report is not None:
            self._judge_report(act, act.report, records)
        self._judge_agreed(records, changes)
        if act.kind in {"pass", "apply"} and act.report is not None and act.report.row.state in {"applied", "partial"}:
            self.by_hand = {order for order, stored in records.holds.items() if stored.decision}
        for order, known in self._orders.items():
            known.settled(records.agreed.get(order), in_flight=records.intents > 0)

    def newly_agreed(self, records: Records) -> list[int]:
        """Return the orders that are agreed on something else than before the act."""
        before, now = self._records.agreed, records.agreed
        return sorted(order for order in before.keys() | now.keys() if before.get(order) != now.get(order))

    def _judge_silence(self, act: Act, records: Records) -> None:
        """Runs that are incomplete (18) or refused (19), `plan` and `undo` (22) and `rebase` (29) write nothing."""
        state = act.report.row.state if act.report is not None else ""
        promise = {"plan": 22, "undo": 22, "rebase": 29}.get(act.kind) or {"incomplete": 18, "refused": 19}.get(state)
        if promise is None:
            return
        what = f"a {act.kind} that is {state or 'cut off'}"
        if WRITES.intersection(act.names):
            self.say(promise, f"{what} wrote")
        # The next act records what was found in place after an interruption; nothing else moves.
        healed = self._records.intents or records.generation != self._records.generation
        if not healed and records.agreed != self._records.agreed:
            self.say(promise, f"{what} moved the agreed state")

    def _judge_ends(self, act: Act, records: Records) -> None:
        """No act but `rebase` touches other ends (29)."""
        asked = [name for name in act.names if name.startswith(("portal.", "table."))]
        if act.foreign and asked and records.generation == self._records.generation:
            self.say(29, f"other ends, and yet a {act.kind} came to {asked[0]}")

    def _judge_lease(self, act: Act) -> None:
        """A process that lost the lease sends at most the batch that is in the journal already (24)."""
        if act.robbed_at < 0:
            return
        after = list(act.names[act.robbed_at :])
        if "store.intend before" in after and WRITES.intersection(after[after.index("store.intend before") :]):
            self.say(24, "it wrote after another process had taken its lease over")

    def _judge_report(self, act: Act, report: Report, records: Records) -> None:
        """`apply` does exactly what was planned, or says what it skipped (23); what was written is in the run (16)."""
        done = {_write(one) for one in report.changes}
        if act.kind == "apply":
            planned = {_write(one) for one in act.planned}
            if not done <= planned:
                self.say(23, f"apply did what was not in the plan: {done - planned}")
            self._judge_moved(report)
            untold = {one[0] for one in planned - done} - records.holds.keys()
            if report.error is None and report.row.state in {"applied", "partial"} and untold:
                self.say(23, f"apply says nothing of planned orders {sorted(untold)}")
        if act.late or self._records.intents or records.generation != self._records.generation:
            return
        wanted = {(one[1], one[0], one[3]) for one in done}
        mine = {(one.side, one.order, one.after) for one in self.log[self._began_at :] if one.ours}
        if not mine <= wanted:
            self.say(16, f"written, but not in the run: {mine - wanted}")

    def _judge_moved(self, report: Report) -> None:
        """`apply` leaves out an order that is not as it was planned for (23)."""
        for one in report.changes:
            change, order = one.change, one.change.order_id
            since = [written for written in self.log[self._began_at :] if written.order == order]
            if one.outcome is not Outcome.APPLIED or len(since) != 1:
                continue
            there = {Side.CRM: change.facts.crm, Side.TABLE: change.facts.table}
            side = since[0].side
            if self.now(order)[side is Side.CRM] != there[side.other]:
                self.say(23, f"order {order} had moved in the {side.other.value} since it was planned, and was applied")

    def _judge_agreed(self, records: Records, changes: Sequence[StoredChange]) -> None:
        """For each newly agreed value there was a moment when both sides had it (17).

        Where one side moved on between its reading and the write of the other one, that moment never was: then the one
        had the value while the run was under way, and the writer who replaced it had seen it there. An order that a person lets
        go is agreed on nothing, though one side still binds it: out of scope.
        """
        for order in self.newly_agreed(records) if records.generation == self._records.generation else ():
            value, previous = records.agreed.get(order), self._records.agreed.get(order)
            never = -1 if value is not None else 0
            if self._both.get((order, value), never) > self._both.get((order, previous), -1):
                continue
            writes = [one for one in changes if one.change.order_id == order and one.change.after == value]
            if any(self._was_let_go(one) for one in writes):
                self.happened["let go"] += 1
                continue
            put_back = any(one.change.order_id == order and one.change.reason is Reason.UNDO for one in changes)
            if not put_back and not any(self._had_since(one, value) for one in writes):
                self.say(17, f"order {order} is agreed on {value}, which both sides never had")
            self.happened["agreed as one side moved on"] += 1

    def _had_since(self, stored: StoredChange, value: MaybeOwner) -> bool:
        """Return whether the side that was not written had the value at some moment since the run began."""
        side = stored.change.side
        return side is not None and value in self._values_since(stored, side.other)

    def _was_let_go(self, stored: StoredChange) -> bool:
        """Return whether a person left the order to whom one side binds it, out of scope: the other one has nothing."""
        change = stored.change
        if change.side is not None or change.after is not None or change.order_id not in self.asked:
            return False
        there = {side: self._values_since(stored, side) for side in Side}
        return any(
            None in there[side.other]
            and any(isinstance(one, Owner) and not self.policy.scope.holds_owner(one) for one in there[side])
            for side in Side
        )

    def _values_since(self, stored: StoredChange, side: Side) -> list[Reading]:
        """Return what a side said of the change's order from the moment on when its run began."""
        if stored.run not in self.began:
            return []
        order, began = stored.change.order_id, self.began[stored.run]
        moves = [(at, self.log[at]) for at in self.places[order] if self.log[at].side is side]
        later = [one for at, one in moves if at >= began]
        at_first = later[0].before if later else (moves[-1][1].after if moves else None)
        return [at_first, *(one.after for one in later)]


def _write(stored: StoredChange) -> tuple[int, Side | None, MaybeOwner, MaybeOwner]:
    change = stored.change
    return change.order_id, change.side, change.before, change.after
