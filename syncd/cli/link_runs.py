"""Runs of the engine for a command: on one link or on several. Shows how far each has got, then its result."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from syncd.cli.app import App, describe_error, most_serious
from syncd.cli.screen import GAP, Streamed, show_on_stderr
from syncd.errors import Stopped, SyncdError

if TYPE_CHECKING:
    from syncd.core.ports import Cancelled, Clock, Progress
    from syncd.daemon.channels import Heartbeats
    from syncd.engine.link import Link
    from syncd.engine.report import Report
    from syncd.wiring import AppContext

LOG_SECONDS = 30.0
"""Seconds between the log lines of one stage."""


@dataclass(frozen=True, slots=True)
class LinkRuns:
    """The runs of one command.

    Args:
        app: The invocation.
        context: Where links are opened.
        cancelled: Set by the first signal.
        every: Show every change.
        form: What is printed: `json`, `csv`, `markdown`, or an empty text for what a person reads.
        heartbeats: Sends the beats of each run to the link's address; None: none are sent.
    """

    app: App
    context: AppContext
    cancelled: Cancelled
    every: bool = False
    form: str = ""
    heartbeats: Heartbeats | None = None
    reports: list[Report] = field(default_factory=list)
    """The results of the runs, in their order."""

    async def run(self, name: str, act: Callable[[Link], Awaitable[Report]]) -> Report:
        """Act on a link, and show its progress."""
        from syncd.engine.link import no_progress

        with nullcontext(no_progress) if self.app.quiet else progress(self.context.clock) as show:
            async with self.context.link(name, progress=show, cancelled=self.cancelled) as link:
                if self.heartbeats is None:
                    report = await act(link)
                else:
                    with self.heartbeats.during(link) as ended:
                        ended(report := await act(link))
        self.reports.append(report)
        return report

    async def one(self, name: str, act: Callable[[Link], Awaitable[Report]]) -> int:
        """Act on one link; print one object, or its text. Return the exit code."""
        report = await self.run(name, act)
        if self.form == "json":
            self.app.screen.json(await json_of(self.context, report))
        else:
            await self.show(report)
        _show_error(report)
        return report.exit_code

    async def each(self, names: Sequence[str], act: Callable[[Link], Awaitable[Report]]) -> int:
        """Act on one link after the other; print a list of objects, tables, or their texts.

        One link's failure stops no other. Returns the most serious exit code.
        """
        codes: list[int] = []
        objects = []
        for number, name in enumerate(names):
            if self.cancelled.is_set:
                codes.append(Stopped.exit_code)
                break
            try:
                report = await self.run(name, act)
            except SyncdError as error:
                if len(names) == 1 and self.form != "json":
                    raise
                show_on_stderr(describe_error(error, about=name))
                codes.append(error.exit_code)
                continue
            codes.append(report.exit_code)
            if self.form == "json":
                objects.append(await json_of(self.context, report))
            else:
                await self.show(report, gap=number > 0)
            _show_error(report)
        if self.form == "json":
            self.app.screen.json(objects)
        return most_serious(codes)

    async def show(self, report: Report, *, gap: bool = False) -> None:
        """Print what came of a run: a table, or its text; with `--quiet` no text where all went well."""
        from syncd.cli.render import runs as render
        from syncd.cli.render.runs import FIRST

        if self.form:
            await show_table(self.app, self.context, report, self.form)
        elif report.exit_code or not self.app.quiet:
            self.app.screen.show([GAP] if gap else [])
            async with self.context.titles() as titles:
                names = (await titles.kept(report.row.link)).names
            self.app.screen.show(render.report(report, first=None if self.every else FIRST, names=names))

    async def preview(self, name: str, plan: Callable[[Link], Awaitable[Report]]) -> int:
        """Plan a link and show the plan; return 0 where that worked, also where there are changes to make."""
        report = await self.run(name, plan)
        await self.show(report)
        _show_error(report)
        return report.exit_code if report.error is not None else 0


async def json_of(context: AppContext, report: Report) -> dict[str, Any]:
    """Given a report, return its JSON form with all changes of the run: those it does not hold come from the record."""
    from syncd.engine.report import change_json, to_json
    from syncd.engine.stored_plans import load_changes

    if not report.is_cut:
        return to_json(report)
    return to_json(report, Streamed(map(change_json, await load_changes(context.store, report.row.id))))


async def show_table(app: App, context: AppContext, report: Report, form: str) -> None:
    """Print the changes and holds of a run as CSV or Markdown; what else there is to say of it goes to stderr."""
    from syncd.cli import spreadsheet
    from syncd.cli.render import runs as render
    from syncd.engine.stored_plans import load_changes
    from syncd.status.owners import owners_of_changes, owners_of_facts

    row = report.row
    async with context.titles() as titles:
        owners = owners_of_changes(report.changes) | owners_of_facts([hold.facts for hold in report.holds])
        labels = await titles.labels(row.link, owners)
    changes = report.changes if not report.is_cut else await load_changes(context.store, row.id)
    app.screen.lines(spreadsheet.FORMS[form](spreadsheet.rows_of_changes(row, changes, report.holds, labels)))
    show_on_stderr(render.conclusion(report))


def _show_error(report: Report) -> None:
    """Say on stderr what ended a run early."""
    if report.error is not None:
        show_on_stderr(describe_error(report.error, about=report.row.link))


@contextmanager
def progress(clock: Clock) -> Iterator[Progress]:
    """Show on stderr how far the work of the block has got: by a bar on a terminal, else by a log line now and then.

    The value is the function that ports and engine report to.
    """
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

    from syncd.core.ports import WAITING

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

    from syncd.core.ports import WAITING

    log = structlog.get_logger("syncd.cli")
    begun: dict[str, float] = {}
    logged: dict[str, float] = {}

    def report(stage: str, done: int, expected: int | None) -> None:
        if stage.startswith(WAITING):  # has a log line of its own, written where it waits
            return
        now = clock.monotonic()
        first = begun.setdefault(stage, now)
        if now - logged.setdefault(stage, now) >= LOG_SECONDS:
            logged[stage] = now
            rate = done / (now - first)
            left = {"left_seconds": round((expected - done) / rate)} if expected and rate else {}
            log.info("still working", stage=stage, done=done, expected=expected, rate=round(rate, 1), **left)

    return report


def _stage(name: str) -> str:
    from syncd.engine.formatting import STAGES

    word = STAGES.get(name, name)
    return word[:1].upper() + word[1:]
