"""`notify`: whether notifications arrive."""

from __future__ import annotations

import click

from syncd.cli import options
from syncd.cli.app import App


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
    from syncd.cli.commands.daemon import who
    from syncd.cli.screen import Line
    from syncd.core.ports import Cancelled
    from syncd.daemon.alerts import stamped
    from syncd.daemon.channels import Undelivered, channels
    from syncd.daemon.notices import of_test
    from syncd.errors import ConfigError, UnavailableError
    from syncd.obs.clock import SystemClock

    ways = channels(loaded.settings.notify)
    if not ways:
        raise ConfigError(
            "No channel for notifications is configured; nothing was sent.",
            hint="Set notify.webhook, notify.command or notify.apprise; see docs/how-to/notifications.md.",
        )

    async def work(_cancelled: Cancelled) -> int:
        notice = stamped(of_test(who()), SystemClock().now())
        results = []
        for channel in ways:
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
