"""`runs`, `show` and `history`: what was done, by run or by order. The audit has it all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from syncd.cli import options
from syncd.cli.app import App

if TYPE_CHECKING:
    from syncd.core.model import Owner
    from syncd.core.ports import Cancelled
    from syncd.core.records import StoredChange
    from syncd.wiring import AppContext


@options.command("runs", state_only=True, short_help="List past runs.")
@options.any_link
@click.option("--limit", type=options.Number(), default=20, show_default=True, help="How many, newest first.")
@click.option("--before", type=options.Number(), metavar="RUN", help="Only runs before this one, to page on.")
@options.as_json
def runs(app: App, link: str | None, limit: int, before: int | None, as_json: bool) -> int:
    """List past runs, newest first."""
    from syncd.cli.render import runs as render
    from syncd.engine.report import run_json

    async def work(context: AppContext, _: Cancelled) -> int:
        if link is not None:
            context.named_links([link])
        rows = await context.store.runs(link, limit, before)
        if as_json:
            app.screen.json([run_json(row) for row in rows])
        else:
            app.screen.show(render.runs(rows, context.clock.now()))
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
    from syncd.cli.render import runs as render
    from syncd.cli.screen import Line
    from syncd.engine import formatting
    from syncd.engine.report import REPORTED, Report, decision_json
    from syncd.engine.stored_plans import asked_for
    from syncd.errors import UsageError

    async def work(context: AppContext, _: Cancelled) -> int:
        row = await context.store.run(run)
        if row is None:
            raise UsageError(f"There is no run {run}.", hint="`syncd runs` lists them.")
        ended = row.finished_at or context.clock.now()
        held = [one.hold for one in await context.store.holds(row.link_id) if one.hold.since <= ended]
        changes = await context.store.changes(run, limit=None if every and not form else REPORTED)
        report = Report(row, changes, held, tally=await context.store.tally(run))
        asked = await asked_for(context.store, row)
        if form == "json":
            app.screen.json(await json_of(context, report) | {"decided": [decision_json(one) for one in asked]})
        elif form:
            await show_table(app, context, report, form)
        else:
            async with context.titles() as titles:
                names = (await titles.kept(row.link)).names
            app.screen.show(render.report(report, first=None if every else render.FIRST, names=names))
            app.screen.show(Line(formatting.asked(one), "dim") for one in asked)
        return 0

    return app.perform(work, secrets=False)


@options.command("history", state_only=True, short_help="Show everything that ever happened to one order.")
@options.link_and_order("The order's id")
@click.option(
    "--owner", metavar="TYPE:ID", help="Instead of ORDER: list the orders of this owner, such as 2:77 for deal 77."
)
@click.option("--limit", type=options.Number(), default=200, show_default=True, help="How many changes at most.")
@options.as_json
def history(app: App, words: Sequence[str], owner: str | None, limit: int, as_json: bool) -> int:
    """Show everything that ever happened to one order, and why it is as it is now.

    With --owner, list the orders of a deal or an invoice: those that were bound to it when the CRM was last listed, are
    agreed to be, or are held because a side says so.
    """
    if owner is not None:
        if len(words) > 1:
            raise click.UsageError("--owner takes at most a LINK: it replaces ORDER.")
        return _of_owner(app, list(words), options.owner_of(owner), limit, as_json=as_json)
    names, order = options.split_link_and_order(words)
    from syncd.cli.render.orders import history as render
    from syncd.engine.formatting import OrderHistory
    from syncd.engine.report import change_json
    from syncd.status.owners import owners_of_changes, owners_of_order

    async def work(context: AppContext, _: Cancelled) -> int:
        (name,) = context.named_links(names, one=True)
        store = context.store
        changes = await _dated(context, await store.history(name, order, limit))
        if as_json:
            # The JSON form knows changes: writes on one side (json.md). Agreements are in the text.
            written = [one for one in changes if one.change.side is not None]
            async with context.titles() as titles:
                labels = await titles.labels(name, owners_of_changes(written))
            app.screen.json([change_json(one, audit=True) | labels.of_change(one) for one in written])
            return 0
        row = await store.find_link(name)
        binding = await store.bindings(row.id, order - 1, order) if row is not None else []
        story = OrderHistory(name, order, changes, await store.past_holds(name, order), binding[0] if binding else None)
        keys = await store.order_keys(row.id, [order]) if row is not None else []
        decisions = await store.decisions(name, order_id=order)
        story = story._replace(decisions=decisions, key=keys[0].key if keys else "")
        async with context.titles() as titles:
            labels = await titles.labels(name, owners_of_order(story))
        app.screen.show(render(story, context.clock.now(), labels, app.screen.width))
        return 0

    return app.perform(work, secrets=False)


def _of_owner(app: App, names: list[str], owner: Owner, limit: int, *, as_json: bool) -> int:
    """List the orders of one owner."""
    from syncd.cli.render.orders import orders_of
    from syncd.status.owners import order_json, orders_of_owner

    async def work(context: AppContext, _: Cancelled) -> int:
        (name,) = context.named_links(names, one=True)
        found = await orders_of_owner(context.store, name, owner, limit)
        async with context.titles() as titles:
            labels = await titles.labels(name, {owner} if found else ())
        if as_json:
            app.screen.json([order_json(one) for one in found])
        else:
            app.screen.show(orders_of(name, owner, found, labels))
        return 0

    return app.perform(work, secrets=False)


async def _dated(context: AppContext, changes: list[StoredChange]) -> list[StoredChange]:
    """A change that was only planned happened when its run began."""
    runs = {one.run: await context.store.run(one.run) for one in changes if not one.at}
    return [one if one.at or (run := runs[one.run]) is None else replace(one, at=run.started_at) for one in changes]
