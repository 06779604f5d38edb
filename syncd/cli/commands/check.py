"""`check`: everything that could be wrong, before it matters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from syncd.cli import failure, options
from syncd.cli.app import App

if TYPE_CHECKING:
    from syncd.core.ports import Cancelled


@options.command("check", short_help="Look everything over, and write nothing.")
@options.some_links
@options.as_json
def check(app: App, links: Sequence[str], as_json: bool) -> int:
    """Look over the configuration, the databases, the columns, the portal, its rights, the clock and the leases.

    Finds all problems at once, each with what to do about it, and writes nothing: the right to write is found out by a
    call that cannot have an effect. Ends with 0, or with the most serious of 78, 77, 69 and 4.
    """
    return look(app, links, as_json=as_json)


def look(app: App, links: Sequence[str], *, as_json: bool = False) -> int:
    """Look links over, show what was found, and return the exit code."""
    settings = app.load().settings
    from syncd.cli import stopping
    from syncd.cli.checking import look_over
    from syncd.cli.render.checking import findings
    from syncd.wiring import pick

    async def work(_: Cancelled) -> int:
        found = await look_over(settings, pick(settings, links))
        if as_json:
            app.screen.json([one.to_json() for one in found])
        else:
            app.screen.show(findings(found))
        return failure.most_serious(one.code for one in found)

    return stopping.run(work)
