"""`check`: everything that could be wrong, before it matters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from syncd.cli import failure, options
from syncd.cli.app import App

if TYPE_CHECKING:
    from syncd.core.ports import Cancelled


@options.command("check", short_help="Check everything; write nothing.")
@options.some_links
@options.as_json
def check(app: App, links: Sequence[str], as_json: bool) -> int:
    """Check the configuration, the databases, the columns, the portal, its rights, the clock and the leases.

    Reports all problems at once, each with what to do about it. Writes nothing: the right to write is tested by a call
    that has no effect. Ends with 0, or with the most serious of 78, 77, 69 and 4.
    """
    return look(app, links, as_json=as_json)


def look(app: App, links: Sequence[str], *, as_json: bool = False) -> int:
    """Check links, show what was found, and return the exit code."""
    loaded = app.load()
    from syncd.cli import stopping
    from syncd.cli.checking import run_checks
    from syncd.cli.finding import findings
    from syncd.wiring import pick

    async def work(_: Cancelled) -> int:
        found = await run_checks(loaded, pick(loaded.settings, links))
        if as_json:
            app.screen.json([one.to_json() for one in found])
        else:
            app.screen.show(findings(found))
        return failure.most_serious(one.code for one in found)

    return stopping.run(work)
