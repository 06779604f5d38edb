"""`run`, and what is asked of a running daemon through the state database: `trigger`, `pause`, `resume`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from syncd.cli import options
from syncd.cli.app import App

if TYPE_CHECKING:
    from syncd.core.ports import Cancelled
    from syncd.wiring import Workplace


@options.command("run", short_help="Run as a daemon: keep all links in step.")
def run(app: App) -> int:
    """Keep all links in step, by their schedules, until told to stop.

    SIGTERM and SIGINT finish the batch in flight and end with 0; SIGHUP reads the configuration again; SIGUSR1 makes a
    pass now.
    """
    loaded = app.load(daemon=True)
    from syncd.daemon.service import run as serve

    return serve(loaded)


@options.command("trigger", short_help="Ask the running daemon for a pass now.")
@options.one_link
def trigger(app: App, link: str | None) -> int:
    """Ask the daemon, wherever it runs, for a pass of a link now. It listens on the state database."""
    from syncd.cli.screen import Line

    async def work(place: Workplace, _: Cancelled) -> int:
        (name,) = place.pick([link] if link else [], one=True)
        await place.store.post_request(name, "trigger", who(), place.clock.now())
        app.screen.show([Line(f"Asked for a pass of {name}. A running daemon makes it within seconds.")])
        return 0

    return app.perform(work)


@options.command("pause", short_help="Stop the scheduled passes of a link.")
@options.one_link
def pause(app: App, link: str | None) -> int:
    """Stop the scheduled passes of a link until `syncd resume`. Commands and triggers still work."""
    return _set_paused(app, link, paused=True)


@options.command("resume", short_help="Restart the scheduled passes of a link.")
@options.one_link
def resume(app: App, link: str | None) -> int:
    """Restart the scheduled passes of a link after `syncd pause`."""
    return _set_paused(app, link, paused=False)


def _set_paused(app: App, link: str | None, *, paused: bool) -> int:
    from syncd.cli.screen import Line

    async def work(place: Workplace, _: Cancelled) -> int:
        (name,) = place.pick([link] if link else [], one=True)
        await place.store.set_paused(name, paused=paused)
        sentence = f"{name} is paused; `syncd resume {name}` goes on." if paused else f"{name} goes on as scheduled."
        app.screen.show([Line(sentence)])
        return 0

    return app.perform(work)


def who() -> str:
    """Return who asks the daemon for something: user and host."""
    import getpass
    import socket

    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = "somebody"
    return f"{user}@{socket.gethostname()}"
