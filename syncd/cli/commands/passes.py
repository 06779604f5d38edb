"""`plan`, `reconcile`, `apply`, `undo`, `rebase`: runs of the engine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from syncd.cli import options
from syncd.cli.app import App, who
from syncd.cli.link_runs import LinkRuns

if TYPE_CHECKING:
    from syncd.core.order_ranges import OrderRanges
    from syncd.core.ports import Cancelled
    from syncd.engine.link import Link
    from syncd.engine.report import Report
    from syncd.wiring import AppContext

import click

RECENT = 50
"""Runs among which `latest` looks for a plan that waits."""


@options.command("plan", short_help="Show what a pass would do, and keep it as a run.")
@options.one_link
@options.some_orders
@options.show_all
@options.as_csv
@options.as_markdown
@options.as_json
def plan(
    app: App,
    link: str | None,
    orders: OrderRanges | None,
    every: bool,
    as_csv: bool,
    as_markdown: bool,
    as_json: bool,
) -> int:
    """Read both sides, show what would bring them into step, and keep that plan as a run.

    Writes to neither side. `syncd apply RUN` carries the plan out, exactly and once. Ends with 2 where there are
    changes to make, 4 where a guard refuses them, 3 where orders are held, 0 where there is nothing to do.

    With --orders only these are read and planned for, and `apply` of the plan reads only these.
    """
    form = options.form_of(csv=as_csv, markdown=as_markdown, json=as_json)
    from syncd.engine import reconcile as engine
    from syncd.engine.covering import portion_of

    async def work(context: AppContext, cancelled: Cancelled) -> int:
        names = context.named_links([link] if link else [], one=True)
        act = partial(engine.plan, portion=portion_of(orders))
        return await LinkRuns(app, context, cancelled, every, form).each(names, act)

    return app.perform(work)


def preview(app: App, link: str) -> int:
    """Plan a link and show the plan; return 0 where that worked, also where there are changes to make."""
    from syncd.engine import reconcile as engine

    async def work(context: AppContext, cancelled: Cancelled) -> int:
        return await LinkRuns(app, context, cancelled).preview(link, engine.plan)

    return app.perform(work)


@options.command("reconcile", short_help="Make one pass: bring both sides into step.")
@options.some_links
@options.some_orders
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
def reconcile(
    app: App,
    links: Sequence[str],
    orders: OrderRanges | None,
    dry_run: bool,
    textfile: Path | None,
    every: bool,
    as_json: bool,
) -> int:
    """Make one pass over each link: read both sides, and write what brings them into step.

    A guard may refuse the plan of a link; then nothing is written, the plan is kept, and `syncd apply RUN` is the way
    to approve it. Over several links the most serious exit code counts: 1, 78, 77, 69, 75, 4, 5, 3, 2, 0.

    With --orders the pass of one link covers only these, at a fraction of the cost; all others are left alone.
    """
    form = options.form_of(json=as_json)
    from syncd.daemon.channels import Heartbeats
    from syncd.engine import reconcile as engine
    from syncd.engine.covering import portion_of

    async def work(context: AppContext, cancelled: Cancelled) -> int:
        is_pass = not dry_run and orders is None
        heartbeats = Heartbeats(lambda: context.settings.links) if is_pass else None
        runs = LinkRuns(app, context, cancelled, every, form, heartbeats)
        act = partial(engine.plan if dry_run else engine.reconcile, portion=portion_of(orders))
        try:
            return await runs.each(context.named_links(links, one=orders is not None), act)
        finally:
            if heartbeats is not None:
                await heartbeats.drain()
            if textfile is not None:
                _write_metrics(textfile, runs.reports)

    return app.perform(work)


@options.command("apply", short_help="Carry out a stored plan, exactly and once.")
@options.plan_number
@options.show_all
@options.comment
@options.as_json
def apply(app: App, run: int, every: bool, comment: str, as_json: bool) -> int:
    """Carry out the plan that is stored as RUN.

    Naming the run is the approval: a plan that a guard refused may be applied this way. An order that has moved since
    is skipped, and says so. A plan that is too old, or was applied before, is refused with 5.

    `syncd apply latest` takes the newest plan that waits, where only one link is configured. It approves of nothing
    that a guard refused: that takes the number.
    """
    from syncd.engine import reconcile as engine

    asked = _Asked("apply", run, comment)
    return _of_run(app, asked, engine.apply, every=every, as_json=as_json)


@options.command("undo", short_help="Plan the reversal of a run.")
@options.run_number
@options.show_all
@options.comment
@options.as_json
def undo(app: App, run: int, every: bool, comment: str, as_json: bool) -> int:
    """Store a plan that puts back what RUN wrote, for the orders that have not changed since.

    Nothing is written yet; `syncd apply` with the new run's number carries it out. Each order it puts back is held
    afterwards, so that the next pass does not do again what was just undone.
    """
    from syncd.engine import reconcile as engine

    asked = _Asked("undo", run, comment)
    return _of_run(app, asked, engine.undo, every=every, as_json=as_json)


@options.command("rebase", short_help="Start anew after a link was pointed elsewhere.")
@options.one_link
@click.option(
    "--same-portal",
    "same",
    is_flag=True,
    help="The portal only has a new address: keep the agreed state, if its bindings are there.",
)
@options.comment
@options.as_json
def rebase(app: App, link: str | None, same: bool, comment: str, as_json: bool) -> int:
    """Start a new agreed state for a link whose configuration names another portal, table or scope than before.

    Also where the state database was lost, or an older copy of it was put back. Deletes and overwrites nothing; what
    was agreed stays in the history. The next pass is a first sync.

    With --same-portal the agreed state is kept: the portal is listed, and nearly all agreed bindings must be there.
    """
    settings = app.load().settings
    from syncd.engine import reconcile as engine
    from syncd.wiring import named_links

    (name,) = named_links(settings, [link] if link else [], one=True)

    async def work(context: AppContext, cancelled: Cancelled) -> int:
        await _note(context, name, "rebase", comment, said="same portal" if same else "")
        act = engine.rename if same else engine.rebase
        return await LinkRuns(app, context, cancelled, form=options.form_of(json=as_json)).one(name, act)

    return app.perform(work, anew=not same)


class _Asked(NamedTuple):
    """What a person asks for: apply or undo, of which run, and why."""

    kind: str
    run: int
    comment: str


def _of_run(
    app: App, asked: _Asked, act: Callable[[Link, int], Awaitable[Report]], *, every: bool, as_json: bool
) -> int:
    """Find the link a run belongs to, note who asks, act on it, and show the new run."""
    from syncd.errors import UsageError

    async def work(context: AppContext, cancelled: Cancelled) -> int:
        run = asked.run or await _latest(context)
        stored = await context.store.run(run)
        if stored is None:
            raise UsageError(f"There is no run {run}; nothing was done.", hint="`syncd runs` lists them.")
        (name,) = context.named_links([stored.link])
        await _note(context, name, asked.kind, asked.comment, run=run)
        runs = LinkRuns(app, context, cancelled, every, options.form_of(json=as_json))
        return await runs.one(name, lambda link: act(link, run))

    return app.perform(work)


async def _latest(context: AppContext) -> int:
    """Return the newest plan that waits to be applied.

    Raises:
        UsageError: There is none, or the configuration has several links.
        GuardRefusal: A guard refused it. A script that says `latest` must not turn the guards off.
    """
    from syncd.errors import GuardRefusal, UsageError

    if len(context.settings.links) > 1:
        raise UsageError(
            "Which plan? The configuration has several links; nothing was done.",
            hint="Name the run; `syncd runs` lists them.",
        )
    (name,) = context.named_links([])
    waiting = [row for row in await context.store.runs(name, RECENT) if row.waits_for_apply]
    if not waiting:
        raise UsageError(f"No plan of {name} waits to be applied.", hint=f"`syncd plan {name}` makes one.")
    newest = waiting[0]
    if newest.guards:
        raise GuardRefusal(
            f"The latest plan, run {newest.id}, is refused by {newest.guards[0].name}; nothing was written.",
            hint=f"Look at it with `syncd show {newest.id}`. `syncd apply {newest.id}` applies it anyway.",
        )
    return newest.id


async def _note(
    context: AppContext, link: str, kind: str, comment: str, *, said: str = "", run: int | None = None
) -> None:
    """Write into the audit who asks for this, and why. What becomes of it is in the record of the run."""
    from syncd.core.records import Decision

    await context.store.note(Decision(link, kind, said, who(), context.clock.now(), comment, run=run))


def _write_metrics(path: Path, reports: Sequence[Report]) -> None:
    """Write the metrics of the runs. Where the file cannot be written, say so; the runs themselves are not affected."""
    from syncd.cli.screen import Line, show_on_stderr
    from syncd.obs.metrics import write_textfile

    try:
        write_textfile(path, reports)
    except OSError as error:
        words = f"The metrics were not written to {path}: {error.strerror}. The runs are not affected."
        show_on_stderr([Line(words, "warn")])
