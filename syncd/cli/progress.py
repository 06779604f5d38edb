"""The progress of a pass, on stderr: a bar on a terminal, an occasional log line elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from syncd.core.ports import WAITING, Clock, Progress
from syncd.engine.formatting import STAGES

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

    class DoneColumn(ProgressColumn):
        def render(self, task: Task) -> Text:
            total = f"/{task.total:,.0f}" if task.total else ""
            rate = f"  {task.speed:,.0f}/s" if task.speed else ""
            return Text(f"{task.completed:,.0f}{total}{rate}")

    console = Console(file=sys.stderr)
    bars = Bars(
        TextColumn("{task.description:<18}", style=""),
        BarColumn(bar_width=20),
        DoneColumn(),
        TimeRemainingColumn(compact=True),
        console=console,
        transient=True,
    )
    tasks: dict[str, TaskID] = {}

    def report(stage: str, done: int, expected: int | None) -> None:
        if stage.startswith(WAITING):
            _show_wait(stage, over=done == expected)
            return
        if stage not in tasks:
            tasks[stage] = bars.add_task(_stage(stage), total=expected)
        bars.update(tasks[stage], completed=done, total=expected)

    def _show_wait(text: str, *, over: bool) -> None:
        """One line for all waits, there only while one lasts."""
        if WAITING not in tasks:
            tasks[WAITING] = bars.add_task("", total=None)
        bars.update(tasks[WAITING], description=text[:1].upper() + text[1:], visible=not over)

    with bars:
        yield report


def _lines(clock: Clock) -> Progress:
    import structlog

    log = structlog.get_logger("syncd.cli")
    begun: dict[str, float] = {}
    told: dict[str, float] = {}

    def report(stage: str, done: int, expected: int | None) -> None:
        if stage.startswith(WAITING):  # has a log line of its own, written where it waits
            return
        now = clock.monotonic()
        first = begun.setdefault(stage, now)
        if now - told.setdefault(stage, now) >= EVERY:
            told[stage] = now
            rate = done / (now - first)
            left = {"left_seconds": round((expected - done) / rate)} if expected and rate else {}
            log.info("still working", stage=stage, done=done, expected=expected, rate=round(rate, 1), **left)

    return report


def _stage(name: str) -> str:
    word = STAGES.get(name, name)
    return word[:1].upper() + word[1:]
