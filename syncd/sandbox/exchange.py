"""One HTTP request answered, step by step.

`exchange` is a generator: it yields how long the portal works or waits, and returns the response. Whoever drives it
really waits (the server), lets a simulated clock run, or ignores it; two requests driven in turn run side by side, the
commands of one batch one after another.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from syncd.sandbox.answers import Answer, Refusal, SandboxRequest, Version
from syncd.sandbox.limits import Spending
from syncd.sandbox.method import Actor
from syncd.sandbox.timing import Timing


class Pause(NamedTuple):
    """Wait this many seconds, or until another request has been answered if that is sooner."""

    seconds: float
    until_overtaken: bool = False


class WallReached(Exception):  # the front server's patience, not a failure of ours
    """The request took longer than the front server waits; what was executed stays executed."""


@dataclass(slots=True)
class Exchange:
    """One request while it is being answered."""

    number: int
    request: SandboxRequest
    started: float
    wall: float | None = None
    worked: float = 0.0
    actor: Actor | None = None
    spending: Spending = field(default_factory=Spending)
    delivered: set[str] = field(default_factory=set)

    def work(self, seconds: float) -> Generator[Pause, None, None]:
        """Spend time.

        Raises:
            WallReached: The request's time is up.
        """
        if seconds <= 0:
            return
        if self.wall is not None and self.worked + seconds > self.wall:
            yield Pause(max(0.0, self.wall - self.worked))
            raise WallReached
        self.worked += seconds
        yield Pause(seconds)


Running = Generator[Pause, None, "Done"]
"""A call while it runs."""


@dataclass(slots=True)
class Done:
    """A finished call: its answer or refusal, its time, and whether a batch forgets it (a fault)."""

    outcome: Answer | Refusal
    timing: Timing | None = None
    lost: bool = False

    def parts(self, version: Version) -> dict[str, Any]:
        """Return its answer by parts: result, next, total and time, or the whole body of a refusal as `error`."""
        if isinstance(self.outcome, Refusal):
            return {"error": self.outcome.body(version)}
        parts: dict[str, Any] = {"result": self.outcome.result}
        if self.outcome.next is not None:
            parts["next"] = self.outcome.next
        if self.outcome.total is not None:
            parts["total"] = self.outcome.total
        parts["time"] = self.timing
        return parts
