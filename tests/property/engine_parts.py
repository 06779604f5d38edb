"""Passes over parts of the link of the rule machine, and who asks for them: the schedule, a person, hints, a watch."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import NamedTuple

from syncd.core.order_ranges import OrderRanges
from syncd.daemon.triggers import PendingHints, Trigger, task_for
from syncd.engine.covering import Portion

SLICES, RECENT = 3, 4
"""Into how many slices the link is cut, and how many of its newest orders are covered in between."""


class Part(NamedTuple):
    """What a pass covers, and who asked for it."""

    origin: str
    portion: Portion | None


class Hints:
    """The orders that wait for their pass because somebody hinted at them, as the daemon keeps them."""

    def __init__(self) -> None:
        self.pending = PendingHints()
        self._seen = 0

    def say(self, orders: Iterable[int]) -> None:
        """Somebody says that these have changed."""
        self.pending.add(set(orders))

    def look(self, table: sqlite3.Connection) -> None:
        """Find the rows that were written since the last look, and are there; a row that is gone is not found."""
        query = "SELECT seq, order_id FROM log WHERE seq > ? AND becomes IS NOT NULL"
        for seq, order in table.execute(query, (self._seen,)).fetchall():
            self._seen = max(self._seen, seq)
            if isinstance(order, int):
                self.say([order])

    def take(self) -> OrderRanges:
        """Return the orders that wait, and forget them."""
        orders, _all = self.pending.peek()
        self.pending.take()
        self.pending.forget_taken()
        return orders


def portion_of(word: str, hints: Hints) -> Part | None:
    """Given the word after `part=`, return the part; None where there are no hints that a pass could be made for."""
    if word == "hint":
        hinted = hints.take()
        task = task_for({Trigger.HINT}, None, [], [], between=True, hinted=hinted)
        return Part("hint", task.portion) if hinted else None
    if word == "slice":
        return Part("schedule", task_for({Trigger.SCHEDULE}, None, [], []).portion)
    if word == "recent":
        return Part("recent", task_for({Trigger.RECENT}, None, [], [], between=True).portion)
    return Part("command", Portion(orders=OrderRanges.parse(word)))
