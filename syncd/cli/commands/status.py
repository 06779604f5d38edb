"""`status`: all links at a glance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from syncd.cli import options
from syncd.cli.app import App

if TYPE_CHECKING:
    from syncd.core.ports import Cancelled
    from syncd.wiring import Workplace


@options.command("status", state_only=True, short_help="Show all links: health, last and next run, holds, budget.")
@click.option(
    "--check",
    is_flag=True,
    help="For monitoring: print one line per link; exit with 3 unless every link is in step, working or paused.",
)
@options.as_json
def status(app: App, check: bool, as_json: bool) -> int:
    """Show every link on one line: how it is, what is agreed and held, its last and next run, and who is at work.

    This reads the state database only, so it does not matter where the daemon runs. A link is `late` when a
    pass was due two minutes ago or more and no daemon has made it.
    """
    from syncd.cli.render import status as render
    from syncd.status.links import links_json, look

    async def work(place: Workplace, _: Cancelled) -> int:
        place.pick([])
        now = place.clock.now()
        links = await look(place.settings, place.store, now)
        if as_json:
            app.screen.json(links_json(links))
        else:
            app.screen.show(render.check(links, now) if check else render.status(links, now, app.screen.width))
        return 3 if check and not all(link.is_well for link in links) else 0

    return app.perform(work, secrets=False)
