"""`demo`: the whole job on this machine."""

from __future__ import annotations

from syncd.cli import options
from syncd.cli.app import App


@options.command("demo", short_help="See the whole job on this machine; needs nothing.")
def demo(app: App) -> int:
    """Play the whole job on this machine: a portal, a table, edits on both sides, a conflict.

    The portal is a sandbox on a loopback port, spoken to over real HTTP, and the mapping table an SQLite file; both are
    gone afterwards. Needs no configuration, and leaves nothing behind.
    """
    app.log("error")
    from syncd.cli import stopping
    from syncd.cli.demo import play
    from syncd.core.ports import Cancelled

    async def work(cancelled: Cancelled) -> int:
        return 0 if await play(app.screen, cancelled) else 1

    return stopping.run(work)
