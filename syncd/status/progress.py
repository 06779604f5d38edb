"""How far a pass has got, as it reports: for the status line, for metrics, and for the watchdog."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from syncd.core.ports import Clock, Usage


@dataclass(slots=True)
class PassProgress:
    """The signs of life of one pass.

    A beat is anything that shows progress: a page listed, a transaction of the state database, a second of waiting for
    the portal on purpose. A pass that beats may be slow; one that does not has hung.

    Args:
        clock: Time.
        stage: What it does now, in the engine's words.
        done, expected: How much of that is done, of how much where that is known.
        phases: Seconds spent observing and applying.
        usage: What it used of the portal, once it is over.
        begun: Called when the run is opened.
    """

    clock: Clock
    stage: str = ""
    done: int = 0
    expected: int | None = None
    phases: dict[str, float] = field(default_factory=dict)
    usage: Usage | None = None
    begun: Callable[[], None] = lambda: None
    beats: int = 0
    started_at: float = 0.0
    _last: float = 0.0
    _phase: str = ""
    _phase_began: float = 0.0

    def __post_init__(self) -> None:
        self.started_at = self.clock.now()
        self._last = self.clock.monotonic()

    def beat(self) -> None:
        """Show a sign of life."""
        self.beats += 1
        self._last = self.clock.monotonic()

    def progress(self, stage: str, done: int, expected: int | None) -> None:
        """Take a report of the engine (`syncd.core.ports.Progress`)."""
        self.stage, self.done, self.expected = stage, done, expected
        self.beat()

    def enter(self, phase: str) -> None:
        """Begin a phase, and end the one before; an empty one only ends it."""
        now = self.clock.monotonic()
        if phase and not self._phase and not self.phases:
            self.begun()
        if self._phase:
            self.phases[self._phase] = self.phases.get(self._phase, 0.0) + now - self._phase_began
        self._phase, self._phase_began = phase, now

    def silence(self) -> float:
        """Return the seconds since the last sign of life."""
        return self.clock.monotonic() - self._last
