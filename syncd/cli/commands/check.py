"""`check`: everything that could be wrong, before it matters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from syncd.cli import failure, options
from syncd.cli.app import App

if TYPE_CHECKING:
    from syncd.core.ports import Cancelled
    from syncd.wiring import Workplace


@options.command("check", short_help="Look everything over, and write nothing.")
@options.some_links
@options.as_json
def check(app: App, links: Sequence[str], as_json: bool) -> int:
    """Look over the configuration, the databases, the columns, the portal, its rights, the clock and the leases.

    Finds all problems at once, each with what to do about it, and writes nothing: the right to write is found out by a
    call that cannot have an effect. Ends with 0, or with the most serious of 78, 77, 69 and 4.
    """
    from syncd.cli.checking import look_over
    from syncd.cli.render.checking import findings

    async def work(place: Workplace, _: Cancelled) -> int:
        found = await look_over(place, place.pick(links))
        if as_json:
            app.screen.json([one.to_json() for one in found])
        else:
            app.screen.show(findings(found))
        return failure.most_serious(one.code for one in found)

    return app.perform(work, upgrade=False)
