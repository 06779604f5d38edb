"""`config`, `check` and `notify --test`: what is configured, and whether it works, before it matters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from syncd.cli import options
from syncd.cli.app import App, most_serious, who

if TYPE_CHECKING:
    from syncd.core.ports import Cancelled


@click.group("config", short_help="Show the configuration in force, an example, or its JSON Schema.")
def config() -> None:
    """Show the configuration in force, an example, or its JSON Schema."""


@config.command("show", cls=options.GlobalCommand, short_help="Show the values in force, with their origin.")
@options.as_json
@click.pass_obj
def show(app: App, as_json: bool) -> int:
    """Show every value in force and where it comes from; secrets are masked."""
    loaded = app.load(secrets=False)
    from syncd.config.render import effective
    from syncd.config.render import show as shown

    if as_json:
        app.screen.json([{"key": one.key, "value": one.value, "origin": one.origin} for one in effective(loaded)])
    else:
        click.echo(shown(loaded), nl=False)
    loaded.require_secrets()  # after what is known has been shown
    return 0


@config.command("example", cls=options.GlobalCommand, short_help="Print an example file with every key.")
@click.pass_obj
def example(_app: App) -> int:
    """Print a commented example of the configuration file, with every key there is."""
    from syncd.config.render import example as render

    click.echo(render(), nl=False)
    return 0


@config.command("schema", cls=options.GlobalCommand, short_help="Print the JSON Schema of the file.")
@click.pass_obj
def schema(_app: App) -> int:
    """Print the JSON Schema of the configuration file, for editors."""
    import json

    from syncd.config.render import schema as render

    click.echo(json.dumps(render(), indent=2))
    return 0


@options.command("check", short_help="Check everything; write nothing.")
@options.some_links
@options.as_json
def check(app: App, links: Sequence[str], as_json: bool) -> int:
    """Check the configuration, the databases, the columns, the portal, its rights, the clock and the leases.

    Reports all problems at once, each with what to do about it. Writes nothing: the right to write is tested by a call
    that has no effect. Ends with 0, or with the most serious of 78, 77, 69 and 4.
    """
    return check_links(app, links, as_json=as_json)


def check_links(app: App, links: Sequence[str], *, as_json: bool = False) -> int:
    """Check links, show what was found, and return the exit code."""
    loaded = app.load()
    from syncd.cli import stopping
    from syncd.cli.checking import findings, run_checks
    from syncd.wiring import named_links

    async def work(_: Cancelled) -> int:
        found = await run_checks(loaded, named_links(loaded.settings, links))
        if as_json:
            app.screen.json([one.to_json() for one in found])
        else:
            app.screen.show(findings(found))
        return most_serious(one.code for one in found)

    return stopping.run(work)


@options.command("notify", short_help="Send a test notification through each channel.")
@click.option(
    "--test", "is_test", is_flag=True, required=True, help="Send a notification that only tests the channels."
)
@options.as_json
def notify(app: App, is_test: bool, as_json: bool) -> int:  # noqa: ARG001 - required: nothing else can be sent by hand yet
    """Send one test notification through each channel of `[notify]`, and show whether it was accepted.

    Ends with 69 where one of them fails, 78 where none is configured.
    """
    loaded = app.load()
    from syncd.cli import stopping
    from syncd.cli.screen import Line
    from syncd.daemon.alerts import stamped
    from syncd.daemon.channels import Undelivered, channels
    from syncd.daemon.notices import of_test
    from syncd.errors import ConfigError, UnavailableError
    from syncd.obs.clock import SystemClock

    tested = channels(loaded.settings.notify)
    if not tested:
        raise ConfigError(
            "No channel for notifications is configured; nothing was sent.",
            hint="Set notify.webhook, notify.command or notify.apprise; see docs/how-to/notifications.md.",
        )

    async def work(_cancelled: Cancelled) -> int:
        notice = stamped(of_test(who()), SystemClock().now())
        results = []
        for channel in tested:
            try:
                await channel.deliver(notice)
            except Undelivered as error:
                results.append((channel.way, str(error)))
            else:
                results.append((channel.way, ""))
        if as_json:
            app.screen.json([{"way": way, "delivered": not error, "error": error or None} for way, error in results])
        else:
            app.screen.show(
                Line(f"{way}: {error or 'delivered'}", "bad" if error else "good") for way, error in results
            )
        return UnavailableError.exit_code if any(error for _way, error in results) else 0

    return stopping.run(work)
