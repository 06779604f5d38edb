"""`runs` and `show`: what was done."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from syncd.cli import options
from syncd.cli.app import App

if TYPE_CHECKING:
    from syncd.core.ports import Cancelled
    from syncd.wiring import Workplace


@options.command("runs", state_only=True, short_help="List past runs.")
@options.any_link
@click.option("--limit", type=options.Number(), default=20, show_default=True, help="How many, newest first.")
@click.option("--before", type=options.Number(), metavar="RUN", help="Only runs before this one, to page on.")
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

    return app.perform(work, secrets=False)


@options.command("show", state_only=True, short_help="Show one run: changes, holds, guards and reasons.")
@options.run_number
@options.show_all
@options.as_csv
@options.as_markdown
@options.as_json
def show(app: App, run: int, every: bool, as_csv: bool, as_markdown: bool, as_json: bool) -> int:
    """Show one run with its changes, guards and reasons, and the orders it held that are still held."""
    form = options.form_of(csv=as_csv, markdown=as_markdown, json=as_json)
    from syncd.cli.link_runs import json_of, show_table
    from syncd.cli.render.runs import FIRST, report
    from syncd.cli.screen import Line
    from syncd.engine import formatting
    from syncd.engine.report import REPORTED, Report, decision_json
    from syncd.engine.stored_plans import asked_for
    from syncd.errors import UsageError

    async def work(place: Workplace, _: Cancelled) -> int:
        row = await place.store.run(run)
        if row is None:
            raise UsageError(f"There is no run {run}.", hint="`syncd runs` lists them.")
        ended = row.finished_at or place.clock.now()
        held = [one.hold for one in await place.store.holds(row.link_id) if one.hold.since <= ended]
        changes = await place.store.changes(run, limit=None if every and not form else REPORTED)
        told = Report(row, changes, held, tally=await place.store.tally(run))
        asked = await asked_for(place.store, row)
        if form == "json":
            app.screen.json(await json_of(place, told) | {"decided": [decision_json(one) for one in asked]})
        elif form:
            await show_table(app, place, told, form)
        else:
            async with place.titles() as titles:
                names = (await titles.kept(row.link)).names
            app.screen.show(report(told, first=None if every else FIRST, names=names))
            app.screen.show(Line(formatting.asked(one), "dim") for one in asked)
        return 0

    return app.perform(work, secrets=False)
