"""How much passes do, held against the guards: a run, a day, and what a restore or a reload may do at all.

An independent reckoning: it counts what both sides saw, knows nothing of the engine's, and never asks for more than the
guards promise. Where a percentage is of a number that changed meanwhile, it takes the largest.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from syncd.core.model import Action, Owner, Side
from syncd.core.order_ranges import LARGEST_ID, OrderRanges
from syncd.core.policy import action_between
from tests.simulation.acts import Act, Records, Written

SMALL, SMALL_RUN, SMALL_DAY, SMALL_ADDS = 20, 2, 5, 20
ALL = OrderRanges.of([(1, LARGEST_ID)])
DAY, WEEK = 86_400.0, 7 * 86_400.0
SECOND_LOOK = 60.0
"""Seconds between two readings that agree on an absence."""


class _Done(NamedTuple):
    at: float
    side: Side
    action: Action


class _Agreed(NamedTuple):
    """How many bindings were agreed before an act, and whether it surely came to a plan, which notes that number."""

    at: float
    number: int
    noted: bool


class _Pass(NamedTuple):
    """A pass that came to its end: when it began, what it covered (None: everything), and what it wrote unasked."""

    at: float
    covers: OrderRanges | None
    done: list[Written]


class Volumes:
    """See the module.

    Args:
        say: Called for a promise that was not kept, with its number and a sentence.
    """

    def __init__(self, say: Callable[[int, str], None]) -> None:
        self._say = say
        self._day: deque[_Done] = deque()
        self._sizes: deque[tuple[float, int]] = deque()
        self._agreed: deque[_Agreed] = deque()
        self._passes: list[_Pass] = []
        self._replaced: dict[tuple[Side, int], list[tuple[float, object]]] = {}
        self._put_back: dict[tuple[Side, int], float] = {}
        """When a pass last put back what syncd had replaced, by side and order."""
        self.exact = True
        """Nobody has set the clock that days are counted by."""
        self.conditional = True
        """No add becomes a move because somebody was quicker than its request."""

    def judge(self, act: Act, before: Records, after: Records, log: Sequence[Written]) -> None:
        """Hold an act against the guards.

        Args:
            act: How it went.
            before, after: What the state database said before and after it.
            log: What was written on both sides since it began.
        """
        mine = [one for one in log if one.ours and not one.late]
        unasked = [one for one in mine if not one.asked]
        size = max(len(before.agreed), len(after.agreed), *(rows for _, rows in (*self._sizes, (0.0, 0))), act.rows)
        noted = act.report is not None and bool(act.report.row.digest)
        self._agreed.append(_Agreed(act.began, len(before.agreed), noted))
        while self._agreed[0].at <= act.began - DAY:
            self._agreed.popleft()
        if act.kind == "pass":
            for side in Side:
                self._judge_run(act, side, [one for one in unasked if one.side is side], size)
            self._judge_keys(act, unasked)
        if act.kind in {"pass", "apply"}:
            self._remember(act, unasked if act.kind == "pass" else (), max(len(before.agreed), act.rows))
        if act.kind == "pass" and self.exact:
            self._judge_day(act, unasked, size)
            self._judge_parts(act, unasked, size)
        for one in mine:
            self._replaced.setdefault((one.side, one.order), []).append((act.began, one.before))

    def begin_anew(self) -> None:
        """The state is not what it was: the audit that days are counted by is another one."""
        self._day.clear()
        self._passes.clear()
        self.rebased()

    def rebased(self) -> None:
        """A person rebased the link: what was written today was written, and what it replaced is another link's."""
        self._replaced.clear()
        self._put_back.clear()
        self._agreed.clear()

    def _judge_run(self, act: Act, side: Side, mine: Sequence[Written], size: int) -> None:
        done, limits = _actions(mine), act.limits
        most = {
            Action.REMOVE: [limits.max_removes, self._part(act, side, limits.max_removes_percent, size, SMALL_RUN)],
            Action.MOVE: [limits.max_moves, self._part(act, side, limits.max_moves_percent, size, SMALL_RUN)],
        }
        for action, least in most.items():
            if done[action] > min(least) and (self.conditional or action is Action.REMOVE):
                self._say(19, f"a pass made {done[action]} {action}s in the {side}; {min(least):g} are allowed")
        early = [one.order for one in mine if one.after is None and one.absent_for < SECOND_LOOK]
        if self.exact and done[Action.REMOVE] > limits.second_look_above and early:
            self._say(
                32, f"a pass removed {done[Action.REMOVE]} orders in the {side}; {early} were not looked for twice"
            )
        reverts = [one.order for one in mine if self._is_revert(act, one)]
        self._put_back |= {(side, order): act.began for order in reverts}
        today = [order for (where, order), at in self._put_back.items() if where is side and at > act.began - DAY]
        if self.exact and reverts and len(today) > max(limits.max_reverts, size // 100):
            self._say(34, f"passes put back what syncd had replaced, in the {side}, of orders {today}, in a day")

    def _judge_parts(self, act: Act, mine: Sequence[Written], size: int) -> None:
        """Passes over some orders do not do together what one over all of them may not (39).

        Whatever happened at one moment is found by passes none of which began before each order was covered last.
        """
        report = act.report
        if report is None or report.row.state not in {"applied", "partial"}:
            return
        stalest = self._stalest(act.began)
        if report.row.covers is not None:
            parts = [
                one for done in self._passes if done.covers is not None and done.at >= stalest for one in done.done
            ]
            for side in Side:
                before = _actions([one for one in parts if one.side is side])[Action.REMOVE]
                now = _actions([one for one in mine if one.side is side])[Action.REMOVE]
                part = self._part(act, side, act.limits.max_removes_percent, size, SMALL_RUN)
                most = min(act.limits.max_removes, part)
                if now and before + now > most:
                    self._say(39, f"passes in parts made {before + now} removes in the {side}; {most:g} are allowed")
        self._passes.append(_Pass(act.began, report.row.covers, list(mine)))

    def _stalest(self, now: float) -> float:
        """Return when the order was covered that has waited longest for it, at most a day ago."""
        covered = OrderRanges()
        for done in reversed(self._passes):
            if done.at <= now - DAY:
                break
            covered |= done.covers or ALL
            if covered == ALL:
                return done.at
        return now - DAY

    def _is_revert(self, act: Act, one: Written) -> bool:
        """Return whether a write has the value that syncd itself replaced on the other side within a week."""
        replaced = self._replaced.get((one.side.other, one.order), ())
        return any(value == one.after and act.began - at <= WEEK for at, value in replaced)

    def _judge_keys(self, act: Act, mine: Sequence[Written]) -> None:
        removed = [one.order for one in mine if one.side is Side.CRM and one.after is None]
        if act.keyless and removed:
            self._say(32, f"rows of the table have no readable order id, and orders {removed} were removed in the crm")

    def _remember(self, act: Act, mine: Sequence[Written], size: int) -> None:
        self._day.extend(_Done(act.began, one.side, _action(one)) for one in mine)
        self._sizes.append((act.began, size))
        while self._day and self._day[0].at <= act.began - DAY:
            self._day.popleft()
        # What was agreed 24 hours ago is what was agreed at the last act before that.
        while len(self._sizes) > 1 and self._sizes[1][0] <= act.began - DAY:
            self._sizes.popleft()

    def _judge_day(self, act: Act, mine: Sequence[Written], size: int) -> None:
        limits = act.limits
        for side in Side:
            now = _actions([one for one in mine if one.side is side])
            done = Counter(one.action for one in self._day if one.side is side)
            part = self._part(act, side, limits.max_removes_percent_per_day, size, SMALL_DAY)
            removes = min(limits.max_removes_per_day, part)
            moves = self._part(act, side, limits.max_moves_percent_per_day, size, SMALL_DAY)
            for action, most in ((Action.REMOVE, removes), (Action.MOVE, moves)):
                if now[action] and done[action] > most and (self.conditional or action is Action.REMOVE):
                    self._say(33, f"passes made {done[action]} {action}s in the {side} in a day; {most:g} are allowed")

    def _part(self, act: Act, side: Side, percent: float, size: int, small: int) -> float:
        """Return how many changes a percentage allows.

        A link that had few bindings 24 hours ago is a small one while the side that is written has few rows. What was
        agreed then is what the first plan since found. Where it is unknown which of the two limits held (an act
        died, the clock was set), the larger one is allowed.
        """
        part = percent * size / 100
        if size < SMALL:
            return small
        counts = act.report.row.counts if act.report is not None else None
        if counts is not None and counts.in_scope(side) + counts.agreed_of_link - counts.agreed >= SMALL:
            return part
        first = next((place for place, one in enumerate(self._agreed) if one.noted), len(self._agreed) - 1)
        then = [one.number for one in list(self._agreed)[: first + 1]] if self.exact else [0, size]
        if min(then) >= SMALL:
            return part
        return small if counts is not None and max(then) < SMALL else max(part, small)


def _action(one: Written) -> Action:
    before, after = (owner if isinstance(owner, Owner) else None for owner in (one.before, one.after))
    return action_between(before, after)


def _actions(written: Sequence[Written]) -> Counter[Action]:
    return Counter(_action(one) for one in written)
