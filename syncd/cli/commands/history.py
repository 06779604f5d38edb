"""`history`: one order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from syncd.cli import options
from syncd.cli.app import App

if TYPE_CHECKING:
    from syncd.core.ports import Cancelled
    from syncd.core.records import StoredChange
    from syncd.wiring import Workplace


@options.command("history", short_help="Show everything that ever happened to one order.")
@options.link_and_order
@click.option("--limit", type=click.IntRange(min=1), default=200, show_default=True, help="How many changes at most.")
@options.as_json
def history(app: App, words: Sequence[str], limit: int, as_json: bool) -> int:
    """Show everything that ever happened to one order, and why it is as it is now."""
    names, order = options.split_link_and_order(words)
    from syncd.cli.render.history import history as render
    from syncd.engine.report import change_json
    from syncd.engine.story import Story

    async def work(place: Workplace, _: Cancelled) -> int:
        (name,) = place.pick(names, one=True)
        store = place.store
        changes = await _dated(place, await store.history(name, order, limit))
        if as_json:
            # The JSON form knows changes: writes on one side (design.md section 7). Agreements are in the text.
            app.screen.json([change_json(one, audit=True) for one in changes if one.change.side is not None])
            return 0
        row = await store.find_link(name)
        binding = await store.bindings(row.id, order - 1, order) if row is not None else []
        story = Story(name, order, changes, await store.past_holds(name, order), binding[0] if binding else None)
        app.screen.show(render(story, place.clock.now()))
        return 0

    return app.perform(work)


async def _dated(place: Workplace, changes: list[StoredChange]) -> list[StoredChange]:
    """A change that was only planned happened when its run began."""
    runs = {one.run: await place.store.run(one.run) for one in changes if not one.at}
    return [one if one.at or (run := runs[one.run]) is None else replace(one, at=run.started_at) for one in changes]
