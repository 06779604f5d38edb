"""`status`: all links at a glance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from syncd.cli import options
from syncd.cli.app import App

if TYPE_CHECKING:
    from syncd.cli.render.status import LinkStatus
    from syncd.core.ports import Cancelled
    from syncd.core.records import LinkRow, RunRow
    from syncd.wiring import Workplace

RECENT = 20
"""Runs of a parked link that are looked at for when it is looked at next."""


@options.command("status", short_help="Show all links: health, last and next run, holds, budget.")
@options.as_json
def status(app: App, as_json: bool) -> int:
    """Show every link on one line: how it is, what is agreed and held, its last and next run, and who is at work.

    What is shown stands in the state database, so it does not matter where the daemon runs.
    """
    from syncd.cli.render import status as render
    from syncd.portal.opening import budget_key

    async def work(place: Workplace, _: Cancelled) -> int:
        links = await _links(place)
        now = place.clock.now()
        portals = {budget_key(link.portal): link.portal.address for link in place.settings.links.values()}
        budgets = {address: await place.store.budget(key) for key, address in portals.items()}
        if as_json:
            app.screen.json([render.status_json(link, now) for link in links])
        else:
            app.screen.show(render.status(links, budgets, now))
        return 0

    return app.perform(work)


async def _links(place: Workplace) -> list[LinkStatus]:
    from syncd.cli.render.status import LinkStatus

    leases = {lease.link: lease for lease in await place.store.leases()}
    found = []
    for name in place.pick([]):
        row = await place.store.find_link(name)
        parked = row is not None and bool(row.parked)
        last = await place.store.runs(name, RECENT if parked else 1)
        found.append(
            LinkStatus(
                name,
                row,
                await place.store.agreed_count(row.id) if row else 0,
                len(await place.store.holds(row.id)) if row else 0,
                last[0] if last else None,
                leases.get(name),
                place.settings.links[name].schedule,
                _next_look(place, name, row, last) if parked else None,
            )
        )
    return found


def _next_look(place: Workplace, name: str, row: LinkRow | None, runs: Sequence[RunRow]) -> float | None:
    """Return when the daemon looks at a parked link next."""
    from syncd.daemon.status import parked_until  # which brings the scheduler along

    return parked_until(name, place.settings.links[name].schedule, place.settings.daemon.timezone, row, runs)
