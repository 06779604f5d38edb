"""`runs` and `show`: what was done."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from syncd.cli import options
from syncd.cli.app import App

if TYPE_CHECKING:
    from syncd.core.ports import Cancelled
    from syncd.wiring import Workplace


@options.command("runs", short_help="List past runs.")
@options.any_link
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many, newest first.")
@click.option("--before", type=click.IntRange(min=1), metavar="RUN", help="Only runs before this one, to page on.")
@options.as_json
def runs(app: App, link: str | None, limit: int, before: int | None, as_json: bool) -> int:
    """List past runs, newest first."""
    from syncd.cli.render import runs as render
    from syncd.engine.report import run_json

    async def work(place: Workplace, _: Cancelled) -> int:
        if link is not None:
            place.pick([link])
        rows = await place.store.runs(link, limit, before)
        if as_json:
            app.screen.json([run_json(row) for row in rows])
        else:
            app.screen.show(render.runs(rows, place.clock.now()))
        return 0

    return app.perform(work)


@options.command("show", short_help="Show one run: changes, holds, guards and reasons.")
@options.run_number
@options.show_all
@options.as_json
def show(app: App, run: int, every: bool, as_json: bool) -> int:
    """Show one run with its changes, guards and reasons, and the orders it held that are held still."""
    from syncd.cli.render.changes import FIRST
    from syncd.cli.render.report import report
    from syncd.engine.report import Report, to_json
    from syncd.errors import UsageError

    async def work(place: Workplace, _: Cancelled) -> int:
        row = await place.store.run(run)
        if row is None:
            raise UsageError(f"There is no run {run}.", hint="`syncd runs` lists them.")
        ended = row.finished_at or place.clock.now()
        held = [one.hold for one in await place.store.holds(row.link_id) if one.hold.since <= ended]
        told = Report(row, await place.store.changes(run), held)
        if as_json:
            app.screen.json(to_json(told))
        else:
            app.screen.show(report(told, first=None if every else FIRST))
        return 0

    return app.perform(work)
