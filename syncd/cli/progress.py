"""How far a pass has come, on stderr: a bar on a terminal, a log line now and then elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from syncd.core.ports import Clock, Progress

STAGES = {
    "table": "Reading the table",
    "listing the portal": "Reading the CRM",
    "apply": "Writing",
    "settle": "Settling",
}
EVERY = 30.0
"""Seconds between the log lines of one stage."""


@contextmanager
def progress(clock: Clock) -> Iterator[Progress]:
    """Show how far the work of the block has come; the value is what ports and engine report to."""
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        with _bars() as report:
            yield report
    else:
        yield _lines(clock)


@contextmanager
def _bars() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars
    from rich.text import Text

    class Done(ProgressColumn):
        def render(self, task: Task) -> Text:
            total = f"/{task.total:,.0f}" if task.total else ""
            rate = f"  {task.speed:,.0f}/s" if task.speed else ""
            return Text(f"{task.completed:,.0f}{total}{rate}")

    console = Console(file=sys.stderr)
    bars = Bars(
        TextColumn("{task.description:<18}", style=""),
        BarColumn(bar_width=20),
        Done(),
        TimeRemainingColumn(compact=True),
        console=console,
        transient=True,
    )
    tasks: dict[str, TaskID] = {}

    def report(stage: str, done: int, expected: int | None) -> None:
        if stage not in tasks:
            tasks[stage] = bars.add_task(STAGES.get(stage, stage), total=expected)
        bars.update(tasks[stage], completed=done, total=expected)

    with bars:
        yield report


def _lines(clock: Clock) -> Progress:
    import structlog

    log = structlog.get_logger("syncd.cli")
    begun: dict[str, float] = {}
    told: dict[str, float] = {}

    def report(stage: str, done: int, expected: int | None) -> None:
        now = clock.monotonic()
        first = begun.setdefault(stage, now)
        if now - told.setdefault(stage, now) >= EVERY:
            told[stage] = now
            rate = done / (now - first)
            left = {"left_seconds": round((expected - done) / rate)} if expected and rate else {}
            log.info("still working", stage=stage, done=done, expected=expected, rate=round(rate, 1), **left)

    return report
