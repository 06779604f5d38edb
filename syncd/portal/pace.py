"""How long the portal takes for a call of a method: how many fit into one request, what those under way will cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from syncd.portal.commands import ADD, DELETE, LIST, method_in
from syncd.portal.envelope import CommandAnswer, number

AIM: Final = 20.0
"""Seconds that a batch of writes should take: a third of the portal's limit for a request (bitrix24-rest.md 9.3)."""

_START: Final = {ADD: 0.33, DELETE: 1.8, LIST: 0.04}
"""The vendor's own samples (bitrix24-rest.md 9.4)."""

_WEIGHT: Final = 0.5
"""How much a batch counts against all before it."""

_SHORTEST: Final = 0.02


class Pace:
    """A moving average of seconds a call, by method.

    Args:
        aim: Seconds that a batch should take.
    """

    def __init__(self, aim: float = AIM) -> None:
        self._aim = aim
        self._seconds = dict(_START)

    def fit(self, method: str) -> int:
        """Given a method, return how many of its calls fit into a batch; at least 1."""
        return max(1, int(self._aim / self._seconds[method]))

    def seconds(self, method: str) -> float:
        """Given a method, return how long one call of it takes; 0 for one that is not written or listed with."""
        return self._seconds.get(method, 0.0)

    def observe(self, commands: Mapping[str, str], answers: Mapping[str, CommandAnswer]) -> None:
        """Given a batch as sent and its answers, take in how long its calls took.

        A batch works its commands off one after another, so a call took from the end of the one before to its own end.
        The calls' own `start` and `duration` are cut to whole seconds by some versions (bitrix24-rest.md 0.3), their
        ends are not. Failed calls have no time; the call after one says nothing.
        """
        taken: dict[str, list[float]] = {}
        before: float | None = None
        for key, command in commands.items():
            time = answers[key].time if key in answers else None
            end = None if time is None else number(time.get("finish"))
            if before is not None and end is not None:
                taken.setdefault(method_in(command), []).append(max(0.0, end - before))
            before = end
        for method, seconds in taken.items():
            if method in self._seconds:
                mean = max(_SHORTEST, sum(seconds) / len(seconds))
                self._seconds[method] += _WEIGHT * (mean - self._seconds[method])

    def overrun(self, method: str) -> None:
        """A batch of this method got no answer in time: send half as many from now on."""
        self._seconds[method] = min(self._aim, self._seconds[method] * 2)
