"""`run`, and what passes between it and people through the state database: `status`, `trigger`, `pause`, `resume`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from syncd.cli import options
from syncd.cli.app import App, who

if TYPE_CHECKING:
    from syncd.core.order_ranges import OrderRanges
    from syncd.core.ports import Cancelled
    from syncd.wiring import AppContext


@options.command("run", short_help="Run as a daemon: keep all links in step.")
def run(app: App) -> int:
    """Keep all links in step, by their schedules, until it is stopped.

    SIGTERM and SIGINT finish the batch in flight and end with 0; SIGHUP reads the configuration again; SIGUSR1 makes a
    pass now.
    """
    loaded = app.load(daemon=True)
    from syncd.daemon.service import run as serve

    return serve(loaded)


@options.command("trigger", state_only=True, short_help="Ask the running daemon for a pass now.")
@options.one_link
@options.some_orders
def trigger(app: App, link: str | None, orders: OrderRanges | None) -> int:
    """Ask the daemon, wherever it runs, for a pass of a link now. It listens on the state database.

    With --orders the pass covers only these: for a program that has just written some rows.
    """
    from syncd.cli.screen import Line
    from syncd.engine import formatting

    async def work(context: AppContext, _: Cancelled) -> int:
        (name,) = context.named_links([link] if link else [], one=True)
        await context.store.post_request(name, "trigger", who(), context.clock.now(), orders)
        about = "" if orders is None else f" over orders {formatting.short_ranges(orders)}"
        app.say([Line(f"Asked for a pass of {name}{about}. A running daemon starts it within seconds.")])
        return 0

    return app.perform(work, secrets=False)


@options.command("pause", state_only=True, short_help="Stop the scheduled passes of a link.")
@options.one_link
@click.option("--for", "length", metavar="TIME", help="Resume automatically after this long, such as 30m, 2h or 1d12h.")
@options.comment
def pause(app: App, link: str | None, length: str | None, comment: str) -> int:
    """Stop the scheduled passes of a link until `syncd resume`. Commands and triggers still work.

    Who paused it, when, until when and why is shown wherever the link is.
    """
    from syncd.config.schedule import parse_duration

    try:
        seconds = None if length is None else parse_duration(length)
    except ValueError as error:
        raise click.BadParameter(f"{error}.", param_hint="'--for'") from None
    return _set_paused(app, link, paused=True, seconds=seconds, comment=comment)


@options.command("resume", state_only=True, short_help="Restart the scheduled passes of a link.")
@options.one_link
def resume(app: App, link: str | None) -> int:
    """Restart the scheduled passes of a link after `syncd pause`."""
    return _set_paused(app, link, paused=False)


def _set_paused(app: App, link: str | None, *, paused: bool, seconds: float | None = None, comment: str = "") -> int:
    from syncd.cli.screen import Line
    from syncd.core.records import Decision, Pause
    from syncd.engine import formatting

    async def work(context: AppContext, _: Cancelled) -> int:
        (name,) = context.named_links([link] if link else [], one=True)
        now = context.clock.now()
        until = None if seconds is None else now + seconds
        # A resumed link owes no pass for the time before.
        pause = Pause(who(), now, until if paused else now, comment)
        await context.store.set_paused(name, paused=paused, pause=pause)
        said = f"until {formatting.moment(until)}" if until is not None else ""
        await context.store.note(Decision(name, "pause" if paused else "resume", said, pause.by, now, comment))
        if not paused:
            sentence = f"{name} is scheduled again."
        elif until is None:
            sentence = f"{name} is paused; `syncd resume {name}` resumes the schedule."
        else:
            sentence = f"{name} is paused until {formatting.moment(until)}; `syncd resume {name}` resumes it earlier."
        app.say([Line(sentence)])
        return 0

    return app.perform(work, secrets=False)


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
    from syncd.status.links import link_statuses, links_json

    async def work(context: AppContext, _: Cancelled) -> int:
        context.named_links([])
        now = context.clock.now()
        links = await link_statuses(context.settings, context.store, now)
        if as_json:
            app.screen.json(links_json(links))
        else:
            app.screen.show(render.check(links, now) if check else render.status(links, now, app.screen.width))
        return 3 if check and not all(link.is_well for link in links) else 0

    return app.perform(work, secrets=False)
