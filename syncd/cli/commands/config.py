"""`config`: what is in force, and what could be."""

from __future__ import annotations

import click

from syncd.cli import options
from syncd.cli.app import App


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
