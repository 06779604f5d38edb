"""`plan`, `reconcile`, `apply`, `undo`, `rebase`: runs of the engine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from syncd.cli import failure, options
from syncd.cli.app import App

if TYPE_CHECKING:
    from syncd.core.ports import Cancelled
    from syncd.engine.link import Link
    from syncd.engine.report import Report
    from syncd.wiring import Workplace

import click


@options.command("plan", short_help="Show what a pass would do, and keep it as a run.")
@options.one_link
@options.show_all
@options.as_json
def plan(app: App, link: str | None, every: bool, as_json: bool) -> int:
    """Read both sides, show what would bring them into step, and keep that plan as a run.

    Writes to neither side. `syncd apply RUN` carries the plan out, exactly and once. Ends with 2 where there are
    changes to make, 4 where a guard refuses them, 3 where orders are held, 0 where there is nothing to do.
    """
    from syncd.engine import reconcile as engine

    async def work(place: Workplace, cancelled: Cancelled) -> int:
        names = place.pick([link] if link else [], one=True)
        return await _each(app, place, cancelled, names, engine.plan, every=every, as_json=as_json)

    return app.perform(work)


def preview(app: App, link: str) -> int:
    """Plan a link and show it; return 0 where that could be done, whatever there is to do."""
    from syncd.engine import reconcile as engine

    async def work(place: Workplace, cancelled: Cancelled) -> int:
        report = await _run(place, cancelled, link, engine.plan)
        _show(app, report, every=False)
        _tell_error(report)
        return report.exit_code if report.error is not None else 0

    return app.perform(work)


@options.command("reconcile", short_help="Make one pass: bring both sides into step.")
@options.some_links
@click.option("--dry-run", is_flag=True, help="Only plan; like `syncd plan`, for each link.")
@click.option(
    "--metrics-textfile",
    "textfile",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write metrics of these runs to FILE, for the Prometheus node exporter.",
)
@options.show_all
@options.as_json
def reconcile(app: App, links: Sequence[str], dry_run: bool, textfile: Path | None, every: bool, as_json: bool) -> int:
    """Make one pass over each link: read both sides, and write what brings them into step.

    A guard may refuse the plan of a link; then nothing is written, the plan is kept, and `syncd apply RUN` is the way
    to approve it. Over several links the most serious exit code counts: 1, 78, 77, 69, 75, 4, 5, 3, 2, 0.
    """
    from syncd.engine import reconcile as engine

    async def work(place: Workplace, cancelled: Cancelled) -> int:
        run = engine.plan if dry_run else engine.reconcile
        reports: list[Report] = []

        async def act(link: Link) -> Report:
            reports.append(await run(link))
            return reports[-1]

        try:
            return await _each(app, place, cancelled, place.pick(links), act, every=every, as_json=as_json)
        finally:
            if textfile is not None:
                _write_metrics(textfile, reports)

    return app.perform(work)


@options.command("apply", short_help="Carry out a stored plan, exactly and once.")
@options.run_number
@options.show_all
@options.as_json
def apply(app: App, run: int, every: bool, as_json: bool) -> int:
    """Carry out the plan that is stored as RUN.

    Naming the run is the approval: a plan that a guard refused may be applied this way. An order that has moved since
    is skipped, and says so. A plan that is too old, or was applied before, is refused with 5.
    """
    from syncd.engine import reconcile as engine

    return _of_run(app, run, lambda link: engine.apply(link, run), every=every, as_json=as_json)


@options.command("undo", short_help="Plan the reversal of a run.")
@options.run_number
@options.show_all
@options.as_json
def undo(app: App, run: int, every: bool, as_json: bool) -> int:
    """Store a plan that puts back what RUN wrote, for the orders that have not changed since.

    Nothing is written yet; `syncd apply` with the new run's number carries it out. Each order it puts back is held
    afterwards, so that the next pass does not do again what was just undone.
    """
    from syncd.engine import reconcile as engine

    return _of_run(app, run, lambda link: engine.undo(link, run), every=every, as_json=as_json)


@options.command("rebase", short_help="Start anew after a link was pointed elsewhere.")
@options.one_link
@options.as_json
def rebase(app: App, link: str | None, as_json: bool) -> int:
    """Start a new agreed state for a link whose configuration names another portal, table or scope than before.

    Deletes and overwrites nothing; what was agreed stays in the history. The next pass is a first sync.
    """
    from syncd.engine import reconcile as engine

    async def work(place: Workplace, cancelled: Cancelled) -> int:
        (name,) = place.pick([link] if link else [], one=True)
        return await _one(app, place, cancelled, name, engine.rebase, every=False, as_json=as_json)

    return app.perform(work)


def _of_run(app: App, run: int, act: Callable[[Link], Awaitable[Report]], *, every: bool, as_json: bool) -> int:
    """Find the link a run belongs to, act on it, and show the new run."""
    from syncd.errors import UsageError

    async def work(place: Workplace, cancelled: Cancelled) -> int:
        stored = await place.store.run(run)
        if stored is None:
            raise UsageError(f"There is no run {run}; nothing was done.", hint="`syncd runs` lists them.")
        (name,) = place.pick([stored.link])
        return await _one(app, place, cancelled, name, act, every=every, as_json=as_json)

    return app.perform(work)


async def _run(place: Workplace, cancelled: Cancelled, name: str, act: Callable[[Link], Awaitable[Report]]) -> Report:
    from syncd.cli.progress import progress

    with progress(place.clock) as report:
        async with place.link(name, progress=report, cancelled=cancelled) as link:
            return await act(link)


async def _one(
    app: App,
    place: Workplace,
    cancelled: Cancelled,
    name: str,
    act: Callable[[Link], Awaitable[Report]],
    *,
    every: bool,
    as_json: bool,
) -> int:
    """Act on one link; print one object, or its text."""
    from syncd.engine.report import to_json

    report = await _run(place, cancelled, name, act)
    if as_json:
        app.screen.json(to_json(report))
    else:
        _show(app, report, every=every)
    _tell_error(report)
    return report.exit_code


def _write_metrics(path: Path, reports: Sequence[Report]) -> None:
    """A file that cannot be written is told, and changes nothing about the runs: they are over."""
    from syncd.cli.screen import Line
    from syncd.obs.metrics import write_textfile

    try:
        write_textfile(path, reports)
    except OSError as error:
        words = f"The metrics were not written to {path}: {error.strerror}. The runs are not affected."
        failure.tell([Line(words, "warn")])


async def _each(
    app: App,
    place: Workplace,
    cancelled: Cancelled,
    names: Sequence[str],
    act: Callable[[Link], Awaitable[Report]],
    *,
    every: bool,
    as_json: bool,
) -> int:
    """Act on one link after the other; print a list of objects, or their texts. One link's failure stops no other."""
    from syncd.cli.screen import GAP
    from syncd.engine.report import to_json
    from syncd.errors import Stopped, SyncdError

    codes: list[int] = []
    objects = []
    for number, name in enumerate(names):
        if cancelled.is_set:
            codes.append(Stopped.exit_code)
            break
        try:
            report = await _run(place, cancelled, name, act)
        except SyncdError as error:
            if len(names) == 1 and not as_json:
                raise
            failure.tell(failure.told(error, about=name))
            codes.append(error.exit_code)
            continue
        codes.append(report.exit_code)
        if as_json:
            objects.append(to_json(report))
        else:
            if number:
                app.screen.show([GAP])
            _show(app, report, every=every)
        _tell_error(report)
    if as_json:
        app.screen.json(objects)
    return failure.most_serious(codes)


def _show(app: App, report: Report, *, every: bool) -> None:
    from syncd.cli.render import report as render
    from syncd.cli.render.changes import FIRST

    app.screen.show(render.report(report, first=None if every else FIRST))


def _tell_error(report: Report) -> None:
    """Say on stderr what ended a run early."""
    if report.error is not None:
        failure.tell(failure.told(report.error, about=report.row.link))
